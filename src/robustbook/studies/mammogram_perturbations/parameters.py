"""What can be varied in the study `mammogram_perturbations`; the notebook's parameters
cell says the same.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Parameters(BaseModel):
    """Parameters of a run; every default is the quick run's. Strengths are in pixel
    units of [0, 1], cut-offs in mm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(
        64,
        ge=32,
        le=256,
        description="height of a phantom view in pixels; its width is three quarters",
    )
    pitch: float = Field(0.2, gt=0, le=1, description="side of a phantom's pixel in mm")
    train_exams: int = Field(
        400, ge=20, le=100000, description="four-view phantom exams for training"
    )
    test_exams: int = Field(
        120, ge=20, le=100000, description="four-view phantom exams for testing"
    )
    epochs: int = Field(
        3, ge=1, le=200, description="training epochs of every phantom network"
    )
    seeds: int = Field(
        1,
        ge=1,
        le=20,
        description="networks of each kind, trained from different seeds",
    )
    first_seed: int = Field(
        0, ge=0, le=10**6, description="seed of the first network of each kind"
    )
    retrained_severities: int = Field(
        2,
        ge=1,
        le=6,
        description=(
            "severities (of 4, 2, 1, 0.5, 0.67, 0.33 mm, in this order) at which "
            "networks are trained again"
        ),
    )
    attack_exams: int = Field(
        40,
        ge=10,
        le=100000,
        description=(
            "test exams that are perturbed; universal ones are made from as many "
            "training exams"
        ),
    )
    steps: int = Field(5, ge=1, le=1000, description="steps of PGD")
    universal_epochs: int = Field(
        2,
        ge=1,
        le=100,
        description="passes of the universal perturbation over its exams",
    )
    observer_exams: int = Field(
        100,
        ge=60,
        le=10000,
        description="phantom exams whose lesions the model observers look at",
    )
    natural_dataset: Literal["digits", "mnist", "cifar10", "cifar10-jpeg"] = Field(
        "digits", description="data set of the natural-image arm"
    )
    natural_network: Literal["cnn", "resnet20"] = Field(
        "cnn",
        description=(
            "network of the natural arm: a small one from nothing, or the published "
            "ResNet-20, trained on"
        ),
    )
    natural_retrained: int = Field(
        2,
        ge=1,
        le=6,
        description=(
            "severities (in the same order) at which networks of the natural arm "
            "are trained again"
        ),
    )
    natural_train_images: int = Field(
        1200, ge=100, le=60000, description="training images of the natural arm"
    )
    natural_test_images: int = Field(
        200, ge=50, le=10000, description="test images of the natural arm"
    )
    natural_attack_images: int = Field(
        100,
        ge=50,
        le=10000,
        description=(
            "test images of the natural arm that are put under the four perturbations"
        ),
    )
    natural_epochs: int = Field(
        20, ge=1, le=200, description="training epochs of the natural arm"
    )
    mini_mias_epochs: int = Field(
        0,
        ge=0,
        le=200,
        description="training epochs on mini-MIAS patches; 0 leaves it out",
    )
    published_predictions: bool = Field(
        False, description="analyse the published predictions of Makino et al. (2022)"
    )
    resamples: int = Field(
        200, ge=50, le=10000, description="bootstrap resamples of every interval"
    )

    @model_validator(mode="after")
    def _network_fits_data(self) -> Parameters:
        if self.natural_network == "resnet20" and not self.natural_dataset.startswith(
            "cifar10"
        ):
            raise ValueError(
                "resnet20 was trained on CIFAR-10: it cannot read "
                f"{self.natural_dataset}"
            )
        return self
