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
    train_images: TrainImages = 700
    epochs: int = parameter(
        12,
        "epochs of every training on the main data set, with a posterior or not",
        1,
        500,
    )
    temperature: float = parameter(
        0.1, "weight of the KL divergence (1: variational Bayes), main data set", 0, 1
    )
    prior_sd: PriorSd = 0.3
    sign_dataset: Literal["none", "gtsrb"] = parameter(
        "none", "camera pictures of traffic signs; none leaves them out"
    )
    sign_epsilon: float = parameter(0.03, "budget on traffic signs", 0.001, 0.5)
    sign_train_images: int = parameter(
        1500, "training images of traffic signs", 100, 3000
    )
    sign_epochs: int = parameter(20, "training epochs on traffic signs", 1, 500)
    sign_temperature: float = parameter(
        0.1, "weight of the KL divergence on traffic signs", 0, 1
    )
    colour_dataset: Literal["none", "cifar10", "cifar10-jpeg"] = parameter(
        "none", "photographs for the published extractor; none leaves them out"
    )
    colour_epsilon: float = parameter(0.002, "budget on photographs", 0.001, 0.5)
    colour_train_images: int = parameter(
        4000, "training images of the classifier of photographs", 100, 50000
    )
    colour_epochs: int = parameter(20, "training epochs of that classifier", 1, 500)
    colour_temperature: float = parameter(
        1.0, "weight of the KL divergence on photographs", 0, 1
    )
    colour_images: int = parameter(
        60, "photographs that are attacked in each repetition", 10, 1000
    )
    dropout_rate: float = parameter(
        0.3, "share of inputs that dropout removes before linear layers", 0, below=1
    )
    noise: float = parameter(
        0.3, "weight noise, in root mean squares of each layer's weights", 0, 2
    )
    chain_epochs: int = parameter(8, "epochs of stochastic-gradient MCMC", 4, 1000)
    seeds: int = parameter(
        2, "repetitions, each with trainings and test images of its own", 1, 20
    )
    sweep_seeds: int = parameter(
        1, "repetitions of the sweep over temperature and prior", 1, 20
    )
    images: int = parameter(
        12, "test images that are attacked in each repetition", 10, 500
    )
    samples: int = parameter(
        4, "posterior samples in each gradient of an averaged attack", 1, 500
    )
    test_samples: int = parameter(30, "posterior samples that predict", 2, 1000)
    steps: int = parameter(8, "steps of every iterative attack", 2, 1000)
    pixel_images: int = parameter(2, "images whose every pixel is tried", 1, 100)
    first_seed: FirstSeed = 0
