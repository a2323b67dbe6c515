"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from robustbook.studies.protocol import BaseParameters, parameter


class Parameters(BaseParameters):
    """What a run of the study may change; the defaults are the quick run."""

    dataset: Literal["digits", "mnist"] = parameter(
        "digits", "handwritten digits beside the shapes"
    )
    seeds: int = parameter(
        3, "networks per data set, each with its own images and masks", 2, 20
    )
    train_images: int = parameter(1500, "training images of a network", 100, 60000)
    epochs: int = parameter(10, "epochs of training", 1, 100)
    images: int = parameter(6, "correctly classified test images per network", 3, 400)
    masks: int = parameter(200, "RISE masks per map, N", 50, 20000)
    cells: int = parameter(7, "cells of RISE's grid along a side, s", 2, 8)
    probability: float = parameter(
        0.5, "share of a mask that shows the image, p", 0.001, below=1
    )
    setting_images: int = parameter(
        4, "images per network on which p, s and N vary", 3, 200
    )
    setting_masks: int = parameter(
        640, "largest number of masks N when p and s vary", 200, 50000
    )
    learned_steps: int = parameter(60, "steps of the learned masks", 5, 1000)
    cifar_images: int = parameter(
        0, "CIFAR-10 images per mask seed for ResNet-20", 0, 200
    )
    cifar_masks: int = parameter(300, "RISE masks per map on ResNet-20", 50, 8000)
    transformer_images: int = parameter(
        0, "drawn shapes per vision transformer", 0, 200
    )
    transformer_masks: int = parameter(
        400, "RISE masks per map on a transformer", 50, 8000
    )
    photographs: int = parameter(
        0, "ImageNet photographs per mask seed for SqueezeNet", 0, 10
    )
    photograph_masks: int = parameter(100, "RISE masks per map on SqueezeNet", 50, 8000)
