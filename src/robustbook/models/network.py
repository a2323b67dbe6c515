"""How a network is run here: frozen and in eval mode, in chunks, its passes counted.

Read `Network` first (what an ascent asks of a network, or of many posterior samples at
once) and `ModuleNetwork` (any `nn.Module`), then `frozen`, then `compute_logits` and
`accuracy`, then `Passes` and `count_passes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.input_convolution import fast_input_gradient, plain

CHUNK = 128
"""Images that go through a network at once; small networks are fastest on a CPU with
chunks of about this size.
"""

Objective = Callable[[Tensor, Any], Tensor]
"""`(logits (n, K), targets) -> (n,)`: what an ascent makes large, image by image. For
posterior samples `(logits (S, n, K), targets) -> (S, n)`.
"""


@dataclass(frozen=True)
class Evaluation:
    """What a network says at points: the objective's `gradient` with respect to them
    (their shape), the `logits` (..., K) and the objective's `values` (...).
    """

    gradient: Tensor
    logits: Tensor
    values: Tensor


class Network(Protocol):
    """What ascents and bounds ask for: one network, or posterior samples of one
    architecture, each with points of its own.
    """

    @property
    def layers(self) -> list[Module]:
        """The layers in order; ArgumentError if the network is no chain of layers."""

    def logits(self, points: Tensor) -> Tensor:
        """Logits (..., K) of `points`."""

    def evaluate(
        self, points: Tensor, targets: Any, objective: Objective
    ) -> Evaluation:
        """The objective at `points`, and its gradient there, free of any graph."""


@dataclass(frozen=True, eq=False)
class ModuleNetwork:
    """An `nn.Module` as a `Network`, to be used inside `frozen`."""

    model: Module

    @property
    def layers(self) -> list[Module]:
        """Its layers in order, see `chain`."""
        return chain(self.model)

    def logits(self, points: Tensor) -> Tensor:
        """Logits (n, K) of `points` (n, C, H, W).

        Raises ArgumentError if the network gives anything else, NaN among it.
        """
        logits: Tensor = self.model(points)
        return checks.logits(logits, len(points))

    def evaluate(
        self, points: Tensor, targets: Any, objective: Objective
    ) -> Evaluation:
        """One forward and one backward pass of `points` (n, C, H, W)."""
        with torch.enable_grad():
            leaf = points.detach().requires_grad_()
            logits = self.logits(leaf)
            values = objective(logits, targets)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return Evaluation(gradient, logits.detach(), values.detach())


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
def eval_mode(model: Module) -> Iterator[Module]:
    """The model in eval mode; the mode of every layer is restored at the end.

    Raises ArgumentError if it is no `nn.Module`.
    """
    modes = [(module, module.training) for module in checks.network(model).modules()]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(model: Module) -> Iterator[Module]:
    """The model in eval mode with weights that ask for no gradient; both are restored
    at the end, errors included.

    Raises ArgumentError if it is no `nn.Module`.
    """
    with eval_mode(model):
        wanted = [(each, each.requires_grad) for each in model.parameters()]
        try:
            yield model.requires_grad_(False)
        finally:
            for parameter, before in wanted:
                parameter.requires_grad_(before)


@contextmanager
def frozen(model: Module) -> Iterator[Module]:
    """As `evaluating`, and with the fast way back through convolutions of few channels:
    for gradients with respect to the input.
    """
    with evaluating(model), fast_input_gradient(model):
        yield model


def beside(model: Module, images: Tensor) -> Tensor:
    """`images` in the precision of the model's weights, as the model needs them.

    Raises ArgumentError if the weights are on another device.
    """
    for weight in model.parameters():
        if weight.device != images.device:
            raise ArgumentError(
                "images", f"on the model's device {weight.device}", images.device
            )
        if weight.is_floating_point():
            return images.to(weight.dtype)
    return images


def compute_logits(model: Module, images: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """Logits (N, K) of `images` (N, C, H, W), without gradient, `chunk` images at a
    time, in the precision of the model's weights.

    The images may leave [0, 1]: surfaces are drawn beyond it.

    Raises ArgumentError if the images are not a floating, finite tensor (N, C, H, W),
    or the model gives anything but finite logits (N, K), K >= 2.
    """
    images = checks.tensor(images, "images", dimensions=4)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    if not len(images):
        raise ArgumentError("images", "at least one image", images)
    with frozen(model), torch.no_grad():
        network = ModuleNetwork(model)
        parts = beside(model, images).split(chunk)
        return torch.cat([network.logits(part) for part in parts])


def accuracy(
    model: Module, images: Tensor, labels: Tensor, *, chunk: int = CHUNK
) -> float:
    """Share of `images` (N, C, H, W) in [0, 1] that the model gives their `labels`
    (N,); on attacked images, robust accuracy.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> accuracy(model, torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.long)) <= 1
    True

    Raises ArgumentError as `compute_logits` does, and if images leave [0, 1] or labels
    are not (N,) whole numbers below K.
    """
    images = checks.images(images)
    logits = compute_logits(model, images, chunk=chunk)
    labels = checks.labels(labels, images, logits.shape[1])
    return float((logits.argmax(dim=1) == labels).float().mean())


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
    handle = checks.network(model).register_forward_hook(counter._see)
    try:
        yield counter
    finally:
        handle.remove()
