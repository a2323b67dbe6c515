"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from robustbook.studies.protocol import BaseParameters, parameter

DataName = Literal["digits", "mnist", "cifar10"]


class Parameters(BaseParameters):
    """What a run of the study may change; the defaults are the quick run."""

    data: DataName = parameter("digits", "images of all experiments")
    second_data: Literal["none", "digits", "mnist", "cifar10"] = parameter(
        "none", "images on which the correlations of LeNet3 are measured once more"
    )
    seeds: int = parameter(3, "LeNet3 networks of the correlations", 3, 50)
    few_seeds: int = parameter(3, "networks of every other experiment", 3, 20)
    train_images: int = parameter(1000, "training images of a network", 100, 50000)
    epochs: int = parameter(20, "epochs of training of LeNet3", 1, 100)
    score_images: int = parameter(
        400, "training images for scores and oracle", 32, 50000
    )
    score_batch: int = parameter(
        256, "mini-batch of the first-order score (paper: 256)", 1, 50000
    )
    curve_images: int = parameter(
        128, "training images of the pruning curves", 32, 10000
    )
    curve_units: int = parameter(
        126, "units removed by the end of a pruning curve, of 252", 2, 240
    )
    curve_step: int = parameter(
        9, "units removed between two evaluations of a curve", 1, 63
    )
    subset_images: int = parameter(
        8, "training images of the oracle over all 2^16 subsets", 8, 1024
    )
    subset_seeds: int = parameter(1, "networks of the oracle over all subsets", 1, 10)
    tuned_units: int = parameter(
        189, "units of LeNet3 removed with fine-tuning, of 252", 2, 240
    )
    tune_batches: int = parameter(
        60, "mini-batches of pruning and fine-tuning together", 10, 5000
    )
    batches_per_step: int = parameter(
        4, "mini-batches per pruning step (paper: 30)", 1, 100
    )
    sanity_masks: int = parameter(
        8, "prunings a network on which the oracle itself is tested", 5, 50
    )
    residual_images: int = parameter(
        600, "training images of nets with batch-norm, tuning included", 100, 50000
    )
    residual_epochs: int = parameter(
        6, "epochs of training of nets with batch-norm", 1, 100
    )
    residual_scores: int = parameter(
        128, "images for scores and oracle of nets with batch-norm", 32, 10000
    )
    published_resnet: bool = parameter(
        False, "measure the published ResNet-20 for CIFAR-10 as well"
    )
