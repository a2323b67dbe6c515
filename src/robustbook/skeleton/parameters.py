"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from robustbook.studies.protocol import (
    BaseParameters,
    Epsilon,
    FirstSeed,
    TrainImages,
    parameter,
)


class Parameters(BaseParameters):
    """Parameters of a run; every default is the quick run's."""

    dataset: Literal["digits", "mnist"] = parameter("digits", "data set")
    epsilon: Epsilon = 0.1
    train_images: TrainImages = 500
    epochs: int = parameter(5, "training epochs of every network", 1, 200)
    seeds: int = parameter(3, "networks, trained from different seeds", 3, 20)
    images: int = parameter(100, "test images", 10, 10000)
    first_seed: FirstSeed = 0
