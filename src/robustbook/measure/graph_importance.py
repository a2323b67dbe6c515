"""How much each unit of any network matters: gradients of its gate by hooks, and the
oracle by masking.

Read `graph_gradients` (all scores follow from it, with `first_order` and `per_example`
of `importance`), then `graph_oracle` (the truth for some units, with how well it agrees
with itself).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.importance import CHUNK, Loss
from robustbook.measure.oracle import RemovalLosses
from robustbook.models.network import beside, evaluating
from robustbook.models.unit_graph import UnitGraph
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.graph_pruning import gating
from robustbook.stats import rank_correlation


def _checked(graph: UnitGraph, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    checks.having(graph, "graph", "network", "groups", "refused")
    images = checks.images(images)
    return beside(graph.network, images), checks.labels(labels, images)


def graph_gradients(
    graph: UnitGraph,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = cross_entropy,
    chunk: int = CHUNK,
) -> Tensor:
    """Gradient (N, units) of each image's loss with respect to the gate of each unit,
    in evaluation mode; one forward and one backward pass an image.

    Raises ArgumentError if images, labels or `chunk` cannot be taken, or the network
    gives anything but finite logits.
    """
    images, labels = _checked(graph, images, labels)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    rows = []
    with evaluating(graph.network), torch.enable_grad():
        for part, truth in zip(images.split(chunk), labels.split(chunk), strict=True):
            gates = part.new_ones(len(part), graph.units).requires_grad_()
            with gating(graph, gates) as network:
                logits = checks.logits(network(part), len(part))
            total = loss(logits, truth).sum()
            rows.append(torch.autograd.grad(total, gates)[0])
    return torch.cat(rows)


@dataclass(frozen=True)
class GraphOracle:
    """The losses without each of some `units` (their numbers), and how well the oracle
    agrees with itself: Spearman's `reliability` of all images from their halves.
    """

    units: Tensor
    losses: RemovalLosses
    reliability: float


@torch.no_grad()
def graph_oracle(
    graph: UnitGraph,
    images: Tensor,
    labels: Tensor,
    *,
    count: int | None = None,
    generator: Generator | None = None,
    loss: Loss = cross_entropy,
    chunk: int = CHUNK,
) -> GraphOracle:
    """The loss of every image without each of `count` units drawn from `generator` (all
    units if None), one pass of all images a unit.

    Raises ArgumentError as `graph_gradients` does, if `count` is more than there are,
    or fewer than four images or three units cannot tell how reliable they are.
    """
    images, labels = _checked(graph, images, labels)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    units = torch.arange(graph.units, device="cpu")
    if count is not None:
        count = checks.whole(count, "count", at_least=3, at_most=graph.units)
        drawer = checks.generator(generator)  # type: ignore[arg-type]
        drawn = torch.randperm(graph.units, generator=drawer, device="cpu")
        units = drawn[:count].sort().values
    if len(images) < 4 or len(units) < 3:
        raise ArgumentError("images", "at least four, and three units", images)

    def losses(gates: Tensor) -> Tensor:
        with gating(graph, gates) as network:
            parts = zip(images.split(chunk), labels.split(chunk), strict=True)
            return torch.cat(
                [
                    loss(checks.logits(network(part), len(part)), truth)
                    for part, truth in parts
                ]
            )

    with evaluating(graph.network):
        base, without = losses(images.new_ones(graph.units)), []
        for unit in units.tolist():
            gates = images.new_ones(graph.units)
            gates[unit] = 0
            without.append(losses(gates))
    found = RemovalLosses(base, torch.stack(without, dim=1))
    even = torch.arange(len(base), device=base.device) % 2 == 0
    halves = [found.part(half).importance.cpu() for half in (even, ~even)]
    half = float(rank_correlation(*halves))
    reliable = max(0.0, 2 * half / (1 + half)) if half > -1 else 0.0
    return GraphOracle(units, found, reliable)
