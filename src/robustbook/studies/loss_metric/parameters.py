"""What can be varied in the study `loss_metric`; the notebook's parameters cell says
the same, and a test compares them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DatasetName = Literal["digits", "mnist", "cifar10", "cifar10-jpeg"]


class Parameters(BaseModel):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1]; the paper's are not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetName = Field(
        "digits",
        description="data set of the main zoo (three architectures, four trainings)",
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
        10, ge=1, le=200, description="training epochs of every network of the main zoo"
    )
    colour_dataset: Literal["none", "cifar10", "cifar10-jpeg"] = Field(
        "none",
        description=(
            "data set of a second zoo (two architectures, two trainings); none "
            "leaves it out"
        ),
    )
    colour_epsilon: float = Field(
        0.03,
        gt=0,
        le=0.5,
        description="perturbation budget of the second zoo, pixel units",
    )
    colour_train_images: int = Field(
        5000, ge=100, le=50000, description="training images of the second zoo"
    )
    colour_epochs: int = Field(
        5, ge=1, le=200, description="training epochs of the second zoo"
    )
    seeds: int = Field(
        2,
        ge=1,
        le=20,
        description="networks of each kind, trained from different seeds",
    )
    images: int = Field(
        32,
        ge=10,
        le=10000,
        description="test images on which every network is measured",
    )
    bound_images: int = Field(
        4,
        ge=2,
        le=1000,
        description="of these, images whose sound bounds are computed (first seed)",
    )
    clever_images: int = Field(
        1, ge=1, le=1000, description="of these, images whose CLEVER score is estimated"
    )
    steps: int = Field(
        15,
        ge=1,
        le=1000,
        description="ascent steps of psi and of PGD where nothing else is said",
    )
    restarts: int = Field(
        3,
        ge=1,
        le=50,
        description="random starts of the strong attack and of the converged psi",
    )
    strong_steps: int = Field(
        20, ge=1, le=1000, description="steps of the strong reference attack"
    )
    queries: int = Field(
        100, ge=1, le=100000, description="queries of the black-box random search"
    )
    grid: int = Field(
        21, ge=5, le=201, description="cells along each side of a loss surface"
    )
    slices: int = Field(
        3,
        ge=1,
        le=100,
        description="images whose surfaces decide claim Y1, per network",
    )
    first_seed: int = Field(
        0, ge=0, le=10**6, description="seed of the first network of each kind"
    )
