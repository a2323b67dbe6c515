"""What can be varied in the study `bnn_attacks`; the notebook's parameters cell says
the same, and a test compares them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1]; the paper's are not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["digits", "mnist"] = Field(
        "digits", description="data set of the main networks"
    )
    epsilon: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="perturbation budget, L-infinity, pixel units of [0, 1]",
    )
    train_images: int = Field(
        800,
        ge=100,
        le=60000,
        description="training images, equal shares of the classes",
    )
    epochs: int = Field(
        12,
        ge=1,
        le=200,
        description="training epochs of networks without a posterior, and of dropout",
    )
    vi_epochs: int = Field(
        20, ge=1, le=500, description="training epochs of variational inference"
    )
    second_dataset: Literal["none", "cifar10", "cifar10-jpeg"] = Field(
        "none", description="a second data set; none leaves it out"
    )
    second_epsilon: float = Field(
        0.03, gt=0, le=0.5, description="perturbation budget of the second data set"
    )
    second_train_images: int = Field(
        3000, ge=100, le=50000, description="training images of the second data set"
    )
    second_epochs: int = Field(
        8, ge=1, le=200, description="training epochs on the second data set"
    )
    second_vi_epochs: int = Field(
        12,
        ge=1,
        le=500,
        description="epochs of variational inference on the second data set",
    )
    prior_sd: float = Field(
        0.3, gt=0, le=10, description="standard deviation of the prior of every weight"
    )
    temperature: float = Field(
        0.1,
        ge=0,
        le=1,
        description="weight of the KL divergence (1: variational Bayes), main data set",
    )
    second_temperature: float = Field(
        1.0, ge=0, le=1, description="the same for the second data set"
    )
    dropout_rate: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="share of inputs that dropout removes before linear layers",
    )
    members: int = Field(5, ge=1, le=50, description="networks of the deep ensemble")
    noise: float = Field(
        0.3,
        ge=0,
        le=2,
        description="weight noise, in root mean squares of each layer's weights",
    )
    seeds: int = Field(
        3, ge=1, le=20, description="repetitions with networks of other seeds"
    )
    images: int = Field(
        40, ge=10, le=10000, description="test images that are attacked"
    )
    samples: int = Field(
        10,
        ge=1,
        le=500,
        description="posterior samples in each gradient of an averaged attack",
    )
    test_samples: int = Field(
        20, ge=2, le=1000, description="posterior samples that predict"
    )
    weight_images: int = Field(
        20,
        ge=5,
        le=100,
        description=(
            "training images on which the weight of the uncertainty-aware attack is "
            "chosen"
        ),
    )
    steps: int = Field(6, ge=1, le=1000, description="steps of every iterative attack")
    first_seed: int = Field(
        0, ge=0, le=10**6, description="seed of the first repetition"
    )
