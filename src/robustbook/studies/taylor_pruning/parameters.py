"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from robustbook.studies.protocol import BaseParameters, parameter

DataName = Literal["digits", "mnist", "cifar10"]


class Parameters(BaseParameters):
    """What a run of the study may change; the defaults are the quick run."""

    data: DataName = parameter("digits", "images of LeNet3 and of the PreAct-ResNet18")
    second_data: Literal["none", "digits", "mnist", "cifar10"] = parameter(
        "none", "images on which LeNet3's scores are compared with the oracle once more"
    )
    train_images: int = parameter(768, "training images of LeNet3", 100, 50000)
    epochs: int = parameter(10, "epochs of training of LeNet3", 1, 100)
    second_epochs: int = parameter(4, "the same on the second images", 1, 100)
    seeds: int = parameter(3, "LeNet3 networks that are pruned (paper: 50)", 3, 100)
    full_seeds: int = parameter(
        3, "of these, those pruned by the costly criteria as well", 3, 100
    )
    agreement_seeds: int = parameter(
        3, "LeNet3 networks whose scores are compared with the oracle", 3, 100
    )
    batches: int = parameter(
        6, "mini-batches of 64 of a first-order score (paper: 30 and more)", 2, 500
    )
    oracle_images: int = parameter(
        384, "images of the oracle, others than those scored", 32, 50000
    )
    length_seeds: int = parameter(
        3, "LeNet3 networks that are trained for several lengths", 3, 20
    )
    curve_images: int = parameter(
        128, "training images on which units are removed", 32, 10000
    )
    curve_step: int = parameter(
        12, "units removed before scores are measured again", 1, 63
    )
    subset_images: int = parameter(
        8, "training images of the oracle over all 2^16 subsets", 8, 1024
    )
    subset_seeds: int = parameter(3, "networks of the oracle over all subsets", 3, 50)
    resnet_seeds: int = parameter(3, "PreAct-ResNet18 networks", 3, 20)
    resnet_images: int = parameter(448, "training images of each", 100, 50000)
    resnet_epochs: int = parameter(4, "epochs of training of each", 1, 100)
    resnet_batches: int = parameter(
        4, "mini-batches of 64 of their first-order scores", 2, 500
    )
    resnet_oracle_images: int = parameter(128, "images of their oracle", 32, 50000)
    resnet_curve_images: int = parameter(
        64, "training images on which their units are removed", 32, 10000
    )
    resnet_curve_step: int = parameter(
        24, "their units removed before scores are measured again", 1, 100
    )
    tuned_data: Literal["digits", "mnist", "gtsrb-43", "cifar10"] = parameter(
        "digits", "images of the networks that are pruned and tuned"
    )
    tuned_images: int = parameter(1000, "training images of each", 100, 50000)
    tuned_epochs: int = parameter(5, "epochs of training of each", 1, 100)
    tuned_seeds: int = parameter(3, "networks that are pruned and tuned", 3, 20)
    budget: float = parameter(
        0.33,
        "share of the multiply-adds that is left (paper, Table 3: a third)",
        0.05,
        1,
    )
    removals: int = parameter(4, "steps in which units are removed", 1, 100)
    shortest: int = parameter(
        24, "mini-batches of the shortest tuning, half of them with removals", 8, 5000
    )
    longest: int = parameter(72, "mini-batches of the longest tuning", 24, 20000)
    published_resnet: bool = parameter(
        False, "measure the published ResNet-20 for CIFAR-10 as well"
    )
