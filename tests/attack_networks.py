"""Small networks and images that the tests of attacks, divergence and bounds share."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook.models.architectures import build

SHAPE = (1, 8, 8)


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@functools.cache
def trained(
    architecture: str = "mlp", classes: int = 10
) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network that fits 48 images of noise with random labels: (model, images,
    labels).
    """
    source = generator(1)
    images = torch.rand(48, *SHAPE, generator=source)
    labels = torch.randint(classes, (48,), generator=source)
    model = build(architecture, SHAPE, classes, seed=0)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(150):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    model.zero_grad()
    return model.eval(), images, labels


def random_network(seed: int, classes: int = 4, side: int = 4) -> nn.Sequential:
    """A small network with random weights; odd seeds give a convolutional one."""
    source = generator(seed)
    layers: list[nn.Module] = [
        nn.Flatten(),
        nn.Linear(side * side, 12),
        nn.ReLU(),
        nn.Linear(12, 8),
        nn.ReLU(),
    ]
    if seed % 2:
        layers = [
            nn.Conv2d(1, 3, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(3, 4, 2),
            nn.ReLU(),
            nn.Flatten(),
        ]
    width = 8 if not seed % 2 else 4 * (side // 2 - 1) ** 2
    model = nn.Sequential(*layers, nn.Linear(width, classes))
    for parameter in model.parameters():
        parameter.data = (
            torch.randn(parameter.shape, generator=source)
            * (2 / max(parameter[0].numel(), 1)) ** 0.5
        )
    return model.eval()
