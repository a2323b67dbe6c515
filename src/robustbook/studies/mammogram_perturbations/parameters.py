"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, TypeVar

from pydantic import model_validator

from robustbook.studies.protocol import BaseParameters, FirstSeed, parameter

Found = TypeVar("Found")
SMALLEST_VIEW = 8
"""Height in mm of the smallest view in which a lesion has surroundings."""


class Parameters(BaseParameters):
    """Parameters of a run; every default is the quick run's. Strengths are in pixel
    units of [0, 1], cut-offs in mm.
    """

    height: int = parameter(
        64, "height of a phantom view in pixels; its width is three quarters", 44, 256
    )
    pitch: float = parameter(0.2, "side of a phantom's pixel in mm", 0.05, 1)
    train_exams: int = parameter(
        300, "four-view phantom exams for training", 20, 100000
    )
    test_exams: int = parameter(120, "four-view phantom exams for testing", 20, 100000)
    epochs: int = parameter(
        2, "training epochs of a round; rounds go on until the loss settles", 1, 200
    )
    seeds: int = parameter(
        1, "networks of each kind, trained from different seeds", 1, 20
    )
    first_seed: FirstSeed = 0
    retrained_severities: int = parameter(
        1,
        "severities (of 4, 2, 1, 0.5, 0.67, 0.33 mm, in this order) at which networks "
        "are trained again",
        1,
        6,
    )
    attack_exams: int = parameter(
        30,
        "test exams that are perturbed; universal ones are made from as many training "
        "exams",
        10,
        100000,
    )
    steps: int = parameter(4, "steps of PGD", 1, 1000)
    universal_epochs: int = parameter(
        1, "passes of the universal perturbation over its exams", 1, 100
    )
    observer_exams: int = parameter(
        80, "phantom exams whose lesions the model observers look at", 60, 10000
    )
    natural_dataset: Literal["digits", "mnist", "cifar10", "cifar10-jpeg"] = parameter(
        "digits", "data set of the natural-image arm"
    )
    natural_network: Literal["cnn", "resnet20"] = parameter(
        "cnn",
        "network of the natural arm: a small one from nothing, or the published "
        "ResNet-20, trained on",
    )
    natural_retrained: int = parameter(
        1,
        "severities (in the same order) at which networks of the natural arm are "
        "trained again",
        1,
        6,
    )
    natural_train_images: int = parameter(
        1000, "training images of the natural arm", 100, 60000
    )
    natural_test_images: int = parameter(
        200, "test images of the natural arm", 50, 10000
    )
    natural_attack_images: int = parameter(
        60,
        "test images of the natural arm that are put under the four perturbations",
        50,
        10000,
    )
    natural_epochs: int = parameter(10, "training epochs of the natural arm", 1, 200)
    mini_mias_epochs: int = parameter(
        0, "training epochs of a round on mini-MIAS patches; 0 leaves it out", 0, 200
    )
    published_predictions: bool = parameter(
        False, "analyse the published predictions of Makino et al. (2022)"
    )
    rating_draws: int = parameter(
        500, "draws of each of four chains of the model of readers", 20, 10000
    )
    exam: str = parameter(
        "none", "folder of an exam of your own: four views as PNG, TIFF or DICOM"
    )
    exam_pitch: float = parameter(
        0.0, "side of a pixel of that exam in mm; 0 asks its DICOM tags", 0, 1
    )
    resamples: int = parameter(200, "bootstrap resamples of every interval", 50, 10000)

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

    @model_validator(mode="after")
    def _lesions_fit_the_view(self) -> Parameters:
        if self.height * self.pitch < SMALLEST_VIEW:
            raise ValueError(
                f"height times pitch is {self.height * self.pitch:.3g} mm, must be at "
                f"least {SMALLEST_VIEW} mm for a lesion and what surrounds it"
            )
        return self


def by_name(step: Callable[..., Found]) -> Callable[..., Found]:
    """A step of the chapter whose last argument is `Parameters`, to be called with
    parameters by their names: those that are not given have their defaults.
    """

    @wraps(step)
    def called(*given: Any, **named: Any) -> Found:
        return step(*given, Parameters(**named)) if named else step(*given)

    return called
