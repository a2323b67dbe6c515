"""What can be varied in the study `synthesis`; the notebook's parameters cell says the
same, and a test compares them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["digits", "mnist"] = Field(
        "digits", description="data set of all networks: digits or mnist"
    )
    epsilon: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="perturbation budget, L-infinity, pixel units of [0, 1]",
    )
    train_images: int = Field(
        1000,
        ge=100,
        le=60000,
        description="training images, equal shares of the classes",
    )
    epochs: int = Field(
        20, ge=2, le=200, description="training epochs of networks without a posterior"
    )
    vi_epochs: int = Field(
        25,
        ge=1,
        le=500,
        description="training epochs of variational inference and of its control",
    )
    tune_epochs: int = Field(
        8, ge=1, le=50, description="training epochs after a pruning"
    )
    prior_sd: float = Field(
        0.3, gt=0, le=10, description="standard deviation of the prior of every weight"
    )
    seeds: int = Field(
        3,
        ge=2,
        le=20,
        description="networks of each kind, trained from different seeds",
    )
    accuracy_images: int = Field(
        300,
        ge=50,
        le=10000,
        description="test images of accuracies, filtered or pruned",
    )
    images: int = Field(
        60, ge=10, le=10000, description="of these, images that are attacked"
    )
    bound_images: int = Field(
        12,
        ge=4,
        le=1000,
        description="of these, images whose sound bounds are computed",
    )
    map_images: int = Field(
        16,
        ge=4,
        le=1000,
        description="of the attacked images, those with saliency maps",
    )
    steps: int = Field(
        20, ge=2, le=1000, description="steps of every attack and of psi's ascent"
    )
    restarts: int = Field(
        2, ge=1, le=50, description="random starts of every attack and of psi's ascent"
    )
    posterior_samples: int = Field(
        5,
        ge=2,
        le=200,
        description="posterior samples that predict, and in each gradient",
    )
    bound_samples: int = Field(
        2, ge=1, le=200, description="of these, posterior samples that are certified"
    )
    resamples: int = Field(
        1000, ge=200, le=20000, description="bootstrap resamples of every interval"
    )
    first_seed: int = Field(
        0, ge=0, le=10**6, description="seed of the first network of each kind"
    )
