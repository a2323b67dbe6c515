"""Networks that nobody here made fit, with random weights: each lens sees something or
says in one line why it does not.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision import models

from robustbook.models.own import load_own_network
from robustbook.studies.your_network import networks
from robustbook.studies.your_network.measure import lenses
from robustbook.studies.your_network.measure.looking import Refused, Seen
from test_your_network import SMALL, subject_of


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised (Qiao et al. 2019)."""

    def forward(self, images):
        weight = self.weight
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return self._conv_forward(images, weight, self.bias)


class Tupled(nn.Module):
    """Logits beside features."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(192, 8), nn.Linear(8, 4)

    def forward(self, images):
        features = self.features(images.flatten(1)).relu()
        return self.head(features), features


def head(width: int, classes: int = 4) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def convolutional(*middle: nn.Module, channels: int = 3, **kind) -> nn.Sequential:
    first = kind.get("convolution", nn.Conv2d)(channels, 8, 3)
    return nn.Sequential(first, *middle, *head(8, kind.get("classes", 4)))


NETWORKS = {
    "vgg with batch-norm": (
        lambda: nn.Sequential(
            models.vgg.make_layers([8, "M", 16, "M"], batch_norm=True), *head(16)
        ),
        (3, 16, 16),
    ),
    "vision transformer": (
        lambda: models.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=4),
        (3, 16, 16),
    ),
    "grey": (lambda: convolutional(nn.ReLU(), channels=1), (1, 12, 12)),
    "two classes": (lambda: convolutional(nn.ReLU(), classes=2), (3, 12, 12)),
    "GroupNorm and GELU": (
        lambda: convolutional(nn.GroupNorm(2, 8), nn.GELU()),
        (3, 12, 12),
    ),
    "weight standardisation": (
        lambda: convolutional(nn.ReLU(), convolution=Standardised),
        (3, 12, 12),
    ),
    "dropout": (lambda: convolutional(nn.ReLU(), nn.Dropout2d(0.3)), (3, 12, 12)),
    "rectangular": (lambda: convolutional(nn.ReLU()), (3, 10, 16)),
    "a tuple": (Tupled, (3, 8, 8)),
    "half precision": (lambda: convolutional(nn.ReLU()).half(), (3, 12, 12)),
    "compiled": (lambda: torch.compile(convolutional(nn.ReLU())), (3, 12, 12)),
}


def subject(name: str) -> networks.Examined:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    images = torch.rand(8, *shape)
    network = load_own_network(make().eval(), images).network
    with torch.no_grad():
        labels = network(images).argmax(1)
    labels[:2] = (labels[:2] + 1) % network(images).shape[1]
    return subject_of(copy.deepcopy(network), images, labels)


CHEAP = ["attack", "posterior", "certificate", "pruning"]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_lens_sees_something_or_says_why_not(name: str) -> None:
    small = {**SMALL, "steps": 2, "queries": 2, "samples": 3}
    plan = lenses.plan(subject(name), lenses=CHEAP, **small)
    found = {lens: plan.look(lens) for lens in CHEAP}
    said = {
        lens: seen.reason for lens, seen in found.items() if isinstance(seen, Refused)
    }
    assert not any("Error:" in reason or "\n" in reason for reason in said.values())
    for lens in ("attack", "posterior"):
        assert isinstance(found[lens], Seen), said
    assert "for bounds" in said["certificate"]
