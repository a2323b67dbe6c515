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
    of [0, 1].
    """

    dataset: Literal["digits", "mnist"] = parameter(
        "digits", "data set of all networks: digits or mnist"
    )
    epsilon: Epsilon = 0.1
    train_images: TrainImages = 1000
    epochs: int = parameter(
        15, "training epochs of networks without a posterior", 2, 200
    )
    vi_epochs: int = parameter(
        40, "training epochs of variational inference and of its control", 1, 500
    )
    tune_epochs: int = parameter(4, "training epochs after a pruning", 1, 50)
    prior_sd: PriorSd = 0.3
    seeds: int = parameter(
        2, "networks of each kind, trained from different seeds", 2, 20
    )
    accuracy_images: int = parameter(
        200, "test images of accuracies, filtered or pruned", 50, 10000
    )
    images: int = parameter(40, "of these, images that are attacked", 10, 10000)
    bound_images: int = parameter(
        12, "of these, images whose sound bounds are computed", 4, 1000
    )
    map_images: int = parameter(
        16, "of the attacked images, those with saliency maps", 4, 1000
    )
    steps: int = parameter(10, "steps of every attack and of psi's ascent", 2, 1000)
    restarts: int = parameter(
        1, "random starts of every attack and of psi's ascent", 1, 50
    )
    queries: int = parameter(
        60, "queries of the attack that needs no gradient (Square)", 1, 10000
    )
    posterior_samples: int = parameter(
        4, "posterior samples that predict, and in each gradient", 2, 200
    )
    bound_samples: int = parameter(
        2, "of these, posterior samples of which something is proved", 1, 200
    )
    halvings: int = parameter(
        3, "ways to cut the images in two halves, for the reliability", 1, 50
    )
    resamples: int = parameter(300, "bootstrap resamples of every interval", 200, 20000)
    first_seed: FirstSeed = 0
