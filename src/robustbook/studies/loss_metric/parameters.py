"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from robustbook.studies.protocol import (
    BaseParameters,
    Epsilon,
    FirstSeed,
    TrainImages,
    parameter,
)

DatasetName = Literal["digits", "mnist", "cifar10", "cifar10-jpeg"]


class Parameters(BaseParameters):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1]; the paper's are not known.
    """

    dataset: DatasetName = parameter(
        "digits", "data set of the main zoo (three architectures, four trainings)"
    )
    epsilon: Epsilon = 0.1
    train_images: TrainImages = 1000
    epochs: int = parameter(
        10, "training epochs of every network of the main zoo", 1, 200
    )
    colour_dataset: Literal["none", "cifar10", "cifar10-jpeg"] = parameter(
        "none",
        "data set of a second zoo (two architectures, two trainings); none leaves it "
        "out",
    )
    colour_epsilon: float = parameter(
        0.03, "perturbation budget of the second zoo, pixel units", 0.001, 0.5
    )
    colour_train_images: int = parameter(
        5000, "training images of the second zoo", 100, 50000
    )
    colour_epochs: int = parameter(5, "training epochs of the second zoo", 1, 200)
    seeds: int = parameter(
        2, "networks of each kind, trained from different seeds", 1, 20
    )
    line_seeds: int = parameter(
        2,
        "networks of each kind whose boundary is looked at for claim Y2, the `seeds` "
        "among them",
        1,
        20,
    )
    images: int = parameter(
        32, "test images on which every network is measured", 10, 10000
    )
    bound_images: int = parameter(
        2, "of these, images whose sound bounds are computed (first seed)", 2, 1000
    )
    clever_images: int = parameter(
        1, "of these, images whose CLEVER score is estimated", 1, 1000
    )
    steps: int = parameter(
        15, "ascent steps of psi and of PGD where nothing else is said", 1, 1000
    )
    restarts: int = parameter(
        3, "random starts where psi is searched for harder than usual", 1, 50
    )
    strong_steps: int = parameter(
        20, "steps of long PGD and of each ascent of the strong attack", 1, 1000
    )
    queries: int = parameter(
        100, "queries of searches without gradients (Square Attack)", 1, 100000
    )
    grid: int = parameter(21, "cells along each side of a loss surface", 5, 201)
    slices: int = parameter(
        3, "images whose surfaces decide claim Y1, per network", 1, 100
    )
    first_seed: FirstSeed = 0

    @model_validator(mode="after")
    def _some_attack_is_pgd(self) -> Parameters:
        if {self.steps, self.strong_steps} <= {1, 5}:
            raise ValueError(
                "one of steps and strong_steps is neither 1 nor 5: psi is compared "
                "with PGD, and those are FGSM and BIM"
            )
        return self
