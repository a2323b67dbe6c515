"""What a run can vary: the network, the images, and how closely each lens looks."""

from __future__ import annotations

from typing import Literal

from robustbook.studies.protocol import BaseParameters, Epsilon, parameter

Lens = Literal[
    "attack", "degradation", "posterior", "saliency", "certificate", "pruning"
]
Chosen = Literal["all", Lens]
Device = Literal["auto", "cpu", "cuda", "mps"]


class Parameters(BaseParameters):
    """Parameters of a run; every default is the quick run's."""

    model: str = parameter(
        "book:cnn",
        """the network: torchvision:NAME, timm:NAME, file.py:function,
        package.module:function or book:NAME""",
    )
    weights: str = parameter(
        "none", "file of its weights: .safetensors, or .pt and .pth without code"
    )
    data: str = parameter(
        "digits", "images: folder:DIR, npz:FILE or the name of a data set"
    )
    training: str = parameter(
        "auto",
        """images to which the posterior is fitted, named as data; auto is the training
        split of a known data set, none half of the images""",
    )
    classes: str = parameter(
        "none", "file with the names of the classes, one a line, or imagenet"
    )
    output: str = parameter(
        "auto", "which part of the output are the logits, or probabilities"
    )
    mean: list[float] = parameter(
        [0.0], "mean of each channel that the network takes off"
    )
    std: list[float] = parameter([1.0], "deviation of each channel that it divides by")
    size: int = parameter(0, "pixels of the shorter side, 0 as it is", 0, 4096)
    crop: int = parameter(0, "pixels of the middle that is kept, 0 all", 0, 4096)
    channels: int = parameter(0, "1 or 3 channels, 0 as most files have", 0, 3)
    white: float = parameter(0.0, "value of white, 0 as the type has it", 0, 1e6)
    unreadable: float = parameter(0.05, "largest share of unreadable files", 0, 1)
    device: Device = parameter("auto", "where to compute")
    images: int = parameter(60, "images, equal shares of the classes", 8, 10000)
    lenses: list[Chosen] = parameter(["all"], "lenses to look through")
    epsilon: Epsilon = 0.1
    steps: int = parameter(20, "steps of the gradient attacks", 2, 1000)
    queries: int = parameter(100, "queries of the attack without gradients", 1, 20000)
    samples: int = parameter(30, "networks drawn from the posterior", 2, 1000)
    explained: int = parameter(8, "images whose saliency maps are made", 2, 1000)
    masks: int = parameter(300, "random masks of a saliency map", 10, 20000)
    certified: int = parameter(16, "images for which bounds are computed", 1, 1000)
    units: int = parameter(24, "units removed one by one as the truth", 3, 5000)
    chunk: int = parameter(64, "images that are computed together at most", 1, 1024)
    epochs: int = parameter(8, "training epochs of a network of this book", 1, 200)
    seed: int = parameter(0, "seed of all random numbers", 0, 10**6)
