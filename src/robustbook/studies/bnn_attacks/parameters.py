"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from robustbook.studies.protocol import (
    BaseParameters,
    Epsilon,
    FirstSeed,
    PriorSd,
    TrainImages,
    parameter,
)


class Parameters(BaseParameters):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1]; the paper's are not known.
    """

    dataset: Literal["digits", "mnist"] = parameter(
        "digits", "data set of the main networks"
    )
    epsilon: Epsilon = 0.1
    train_images: TrainImages = 800
    epochs: int = parameter(
        12, "training epochs of networks without a posterior, and of dropout", 1, 200
    )
    vi_epochs: int = parameter(20, "training epochs of variational inference", 1, 500)
    second_dataset: Literal["none", "cifar10", "cifar10-jpeg"] = parameter(
        "none", "a second data set; none leaves it out"
    )
    second_epsilon: float = parameter(
        0.03, "perturbation budget of the second data set", 0.001, 0.5
    )
    second_train_images: int = parameter(
        3000, "training images of the second data set", 100, 50000
    )
    second_epochs: int = parameter(8, "training epochs on the second data set", 1, 200)
    second_vi_epochs: int = parameter(
        12, "epochs of variational inference on the second data set", 1, 500
    )
    prior_sd: PriorSd = 0.3
    temperature: float = parameter(
        0.1, "weight of the KL divergence (1: variational Bayes), main data set", 0, 1
    )
    second_temperature: float = parameter(1.0, "the same for the second data set", 0, 1)
    dropout_rate: float = parameter(
        0.3, "share of inputs that dropout removes before linear layers", 0, below=1
    )
    members: int = parameter(5, "networks of the deep ensemble", 1, 50)
    noise: float = parameter(
        0.3, "weight noise, in root mean squares of each layer's weights", 0, 2
    )
    seeds: int = parameter(3, "repetitions with networks of other seeds", 1, 20)
    images: int = parameter(40, "test images that are attacked", 10, 10000)
    samples: int = parameter(
        10, "posterior samples in each gradient of an averaged attack", 1, 500
    )
    test_samples: int = parameter(20, "posterior samples that predict", 2, 1000)
    weight_images: int = parameter(
        20,
        "training images on which the weight of the uncertainty-aware attack is chosen",
        5,
        100,
    )
    steps: int = parameter(6, "steps of every iterative attack", 1, 1000)
    first_seed: FirstSeed = 0
