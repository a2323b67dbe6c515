"""The sixth lens: which units matter, how sure that is, and what is left when the least
important go at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from robustbook.errors import UserError
from robustbook.measure.graph_importance import graph_gradients, graph_oracle
from robustbook.measure.importance import first_order
from robustbook.models.network import compute_logits, count_passes
from robustbook.models.unit_graph import UnitGraph, unit_graph
from robustbook.perturb.graph_pruning import network_cost, switched_off, without
from robustbook.stats import binomial_interval, rank_correlation, spearman
from robustbook.studies.your_network.measure.looking import Number, Seen
from robustbook.studies.your_network.networks import Examined

NAME = "pruning"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Shares of all units that are removed at once."""
KEPT = 0.1
"""No layer loses more than all but this share of its units."""
LAYERS = 30
"""Layers that lose half of their units, the widest first."""
BATCH = 8


def passes(subject: Examined, *, units: int) -> int:
    """Gradients, one-by-one removals on half of the images, and removals at once."""
    half = len(subject.images) // 2
    return 3 * half + half * (units + 1) + half * (len(SHARES) + LAYERS)


def look(subject: Examined, *, units: int) -> Seen:
    """Importance from half of the images, judged on the others."""
    scored, judged = subject.halves
    graph = unit_graph(subject.network, subject.data.image_shape)
    with count_passes(graph.network) as counter:
        gradients = graph_gradients(
            graph, subject.images[scored], subject.labels[scored], chunk=subject.chunk
        )
        scores = first_order(gradients, BATCH)
        fixed = ~removable(graph).to(scores.device)
        numbers = _agreement(subject, graph, gradients, scores, judged, units)
        lost: dict[str, Tensor] = {}
        for share in SHARES:
            alive = lowest_gone(graph, scores.masked_fill(fixed, torch.inf), share)
            right = _right(subject, graph, alive, judged)
            lost[f"{share:.0%}"] = right.cpu()
            numbers.append(_accuracy("pruned accuracy", right, removed=share))
            numbers.append(_cost(subject, graph, alive, share))
        for name, alive in halved(graph, scores):
            right = _right(subject, graph, alive, judged)
            numbers.append(_accuracy("accuracy without half", right, layer=name))
    remarks = [
        f"{len(graph.refused)} layers are left whole, for example {name}: {why}."
        for name, why in list(graph.refused.items())[:1]
    ]
    if bool(fixed.any()):
        remarks.append(
            f"{int(fixed.sum())} of {graph.units} units cannot be taken out of the "
            "network, and stay."
        )
    return Seen(NAME, tuple(numbers), {"right": lost}, tuple(remarks), counter.passes)


def removable(graph: UnitGraph) -> Tensor:
    """Mask (units,) of those that can be taken out of the network and not only be
    switched off: where all layers cannot lose one together, each is tried alone.
    """
    if _can_lose(graph, range(len(graph.groups))):
        return torch.ones(graph.units, dtype=torch.bool)
    found = [
        torch.full((group.units,), _can_lose(graph, [place]))
        for place, group in enumerate(graph.groups)
    ]
    if not bool(torch.cat(found).any()):
        raise UserError("no layer can lose a unit: the smaller network cannot be built")
    return torch.cat(found)


def _can_lose(graph: UnitGraph, places: Iterable[int]) -> bool:
    """Whether these layers can lose half of their units together."""
    alive = torch.ones(graph.units, dtype=torch.bool)
    parts = graph.split(alive)
    for place in places:
        parts[place][: len(parts[place]) // 2] = False
    try:
        without(graph, alive)
    except (UserError, RuntimeError, ValueError, IndexError):
        return False
    return True


def lowest_gone(graph: UnitGraph, scores: Tensor, share: float) -> Tensor:
    """Mask (units,) without the given share of all units, those with the lowest scores,
    where no layer loses nearly all of its units.
    """
    protected = scores.clone()
    for part in graph.split(protected):  # Views: what is written stands in the whole.
        keep = max(1, round(KEPT * len(part)))
        part[part.argsort(descending=True)[:keep]] = torch.inf
    gone = min(round(share * len(scores)), int(protected.isfinite().sum()))
    alive = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    alive[protected.argsort()[:gone]] = False
    return alive


def halved(graph: UnitGraph, scores: Tensor) -> list[tuple[str, Tensor]]:
    """Masks (units,) in which one layer has lost the lower half of its units, for the
    widest layers, by name in their order.
    """
    places = range(len(graph.groups))
    widest = sorted(places, key=lambda each: -graph.groups[each].units)[:LAYERS]
    found = []
    for place in sorted(widest):
        alive = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
        part, group = graph.split(scores)[place], graph.groups[place]
        graph.split(alive)[place][part.argsort()[: group.units // 2]] = False
        found.append((group.name, alive))
    return found


def _right(
    subject: Examined, graph: UnitGraph, alive: Tensor, judged: Tensor
) -> Tensor:
    with switched_off(graph, alive) as network:
        logits = compute_logits(network, subject.images[judged], chunk=subject.chunk)
    return logits.argmax(1) == subject.labels[judged]


def _accuracy(name: str, right: Tensor, **factors: str | float) -> Number:
    return Number(
        name, binomial_interval(int(right.sum()), len(right)), "images", factors
    )


def _cost(subject: Examined, graph: UnitGraph, alive: Tensor, share: float) -> Number:
    """Multiply-adds of the smaller network, as a share of the whole one's."""
    shape = subject.data.image_shape
    whole = network_cost(graph.network, shape).multiply_adds
    smaller = network_cost(without(graph, alive), shape).multiply_adds
    return Number("multiply-adds", smaller / whole, factors={"removed": share})


def _agreement(
    subject: Examined,
    graph: UnitGraph,
    gradients: Tensor,
    scores: Tensor,
    judged: Tensor,
    units: int,
) -> list[Number]:
    """How well importance agrees with itself on other images, and with the loss when
    single units are removed.
    """
    if len(scores) < 3:
        raise UserError(f"the network has {len(scores)} units that can be removed")
    even = torch.arange(len(gradients), device=gradients.device) % 2 == 0
    halves = [
        first_order(gradients[half], BATCH).cpu().numpy() for half in (even, ~even)
    ]
    found = spearman(*halves, seed=subject.seed, resamples=500)
    numbers = [Number("importance agreement", found, "units", {"compared": "itself"})]
    oracle = graph_oracle(
        graph,
        subject.images[judged],
        subject.labels[judged],
        count=min(units, graph.units),
        generator=subject.generator(200),
        chunk=subject.chunk,
    )
    truth = oracle.losses.importance.cpu().numpy()
    guess = scores[oracle.units.to(scores.device)].cpu().numpy()
    if (
        float(rank_correlation(truth, truth)) > 0
    ):  # Units that all matter alike rank none.
        numbers.append(
            Number(
                "importance agreement",
                spearman(guess, truth, seed=subject.seed, resamples=500),
                "units",
                {"compared": "removal"},
            )
        )
    numbers.append(
        Number(
            "importance agreement",
            oracle.reliability,
            factors={"compared": "removal, itself"},
        )
    )
    return numbers
