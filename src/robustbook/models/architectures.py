"""Small networks made of Linear, Conv2d, ReLU and Flatten alone, so that bounds can be
propagated through them.

Down-sampling is by stride rather than pooling: a strided convolution is linear, so its
bounds are exact and it is faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError

Shape = tuple[int, int, int]


class Scale(nn.Module):
    """Multiplies its input by a constant `factor`: a change of parameters that changes
    no prediction.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = checks.real(factor, "factor", above=0)

    def forward(self, values: Tensor) -> Tensor:
        """`values` times the factor, any shape."""
        return values * self.factor


def _mlp(shape: Shape, classes: int) -> nn.Sequential:
    channels, height, width = shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def _convolutional(
    shape: Shape, classes: int, channels: int, hidden: int
) -> nn.Sequential:
    """Two strided convolutions (4 x 4, stride 2) that quarter height and width, then
    two linear layers.
    """
    inputs, height, width = shape
    return nn.Sequential(
        nn.Conv2d(inputs, channels, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * (height // 4) * (width // 4), hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Sequential]] = {
    "mlp": _mlp,
    "cnn": lambda shape, classes: _convolutional(
        shape, classes, channels=16, hidden=100
    ),
    "wide-cnn": lambda shape, classes: _convolutional(
        shape, classes, channels=32, hidden=128
    ),
}


def build(
    architecture: str, image_shape: Shape, classes: int, seed: int
) -> nn.Sequential:
    """An untrained network for images of `image_shape` (channels, height, width); its
    weights depend on `seed` alone.

    Raises ArgumentError if the architecture is unknown, a number is out of range, or a
    convolutional one is asked for a side that 4 does not divide.
    """
    checks.one_of(architecture, "architecture", ARCHITECTURES)
    checks.sides(image_shape, "image_shape", 3)
    checks.whole(classes, "classes", at_least=1)
    if architecture != "mlp" and (image_shape[1] % 4 or image_shape[2] % 4):
        allowed = f"with sides divisible by 4 for {architecture}"
        raise ArgumentError("image_shape", allowed, image_shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.whole(seed, "seed", at_least=0))
        return ARCHITECTURES[architecture](image_shape, classes)


def parameter_count(model: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(each.numel() for each in checks.network(model).parameters())
