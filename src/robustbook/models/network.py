"""How a network is run here: frozen and in eval mode, in chunks, its passes counted.

Read `frozen` first, then `compute_logits` and `accuracy`, then `Passes` and
`count_passes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Module

from robustbook.models.input_convolution import fast_input_gradient, plain

CHUNK = 128
"""Images that go through a network at once; small networks are fastest on a CPU with
chunks of about this size.
"""


def chain(model: Module) -> list[Module]:
    """The layers of a network that is one layer after the other: a Sequential, with
    nested ones opened and what does nothing in eval mode left out.

    >>> chain(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Identity(), nn.ReLU())))
    [Flatten(start_dim=1, end_dim=-1), ReLU()]
    """
    if plain(model, nn.Identity, nn.Dropout):
        return []
    if isinstance(model, nn.Sequential) and plain(model, nn.Sequential):
        return [each for layer in model for each in chain(layer)]
    return [model]


@contextmanager
def frozen(model: Module) -> Iterator[Module]:
    """The model in eval mode with weights that ask for no gradient; both are restored
    at the end, errors included.
    """
    parameters = [
        (parameter, parameter.requires_grad) for parameter in model.parameters()
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        with fast_input_gradient(model):
            yield model
    finally:
        for parameter, wanted in parameters:
            parameter.requires_grad_(wanted)
        for module, training in modes:
            module.training = training


def compute_logits(model: Module, images: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """Logits (N, K) of `images` (N, C, H, W), without gradient, `chunk` images at a
    time.
    """
    with frozen(model), torch.no_grad():
        return torch.cat([model(part) for part in images.split(chunk)])


def accuracy(
    model: Module, images: Tensor, labels: Tensor, *, chunk: int = CHUNK
) -> float:
    """Share of `images` (N, C, H, W) that the model gives their `labels` (N,); on
    attacked images, robust accuracy.
    """
    return float(
        (compute_logits(model, images, chunk=chunk).argmax(dim=1) == labels)
        .float()
        .mean()
    )


@dataclass(frozen=True)
class Passes:
    """Cost of a computation: how many images went `forward` through the network and how
    many came `backward`.
    """

    forward: int = 0
    backward: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)

    @property
    def total(self) -> int:
        """Forward and backward passes together."""
        return self.forward + self.backward


class PassCounter:
    """Running total of what `count_passes` has seen, as `passes`."""

    def __init__(self) -> None:
        self.passes = Passes()

    def _see(self, _model: Module, _inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        self.passes += Passes(len(logits), len(logits) if logits.requires_grad else 0)


@contextmanager
def count_passes(model: Module) -> Iterator[PassCounter]:
    """Count the images that go through `model` inside the block.

    A forward pass that records a gradient counts as one backward pass too: no function
    of this package drops a graph.
    """
    counter = PassCounter()
    handle = model.register_forward_hook(counter._see)
    try:
        yield counter
    finally:
        handle.remove()
