"""Pruning without tuning: units go a few at a time, lowest score first, until the loss
has risen to a limit.

Read `walk` (the experiment of Molchanov et al. 2019, Figs. 3 and 4), then `Walk` (what
it finds), then `scores_by` (any criterion by name, the oracle among them).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor

from robustbook import checks
from robustbook.measure.importance import CRITERIA, Evidence, score
from robustbook.measure.oracle import removal_losses
from robustbook.models.network import compute_logits
from robustbook.models.prunable import Prunable
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.pruning import all_alive, lowest, removed

ORACLE, FIXED = "oracle", ", scores fixed"
BATCH = 64
"""Images of a mini-batch whose gradient is squared, as in the published code."""


@dataclass(frozen=True)
class Walk:
    """Mean `losses` (nats) after each number of units `removed`."""

    removed: tuple[int, ...]
    losses: tuple[float, ...]

    def reaches(self, limit: float) -> float:
        """Units removed when the loss reaches `limit`, between steps on a line; all
        that were removed if it never does.
        """
        steps = list(zip(self.removed, self.losses, strict=True))
        for (before, low), (after, high) in pairwise(steps):
            if high >= limit:
                return before + (after - before) * max(0.0, limit - low) / (high - low)
        return float(self.removed[-1])


def walk(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    criterion: str,
    *,
    step: int,
    until: float,
    generator: Generator,
) -> Walk:
    """Remove the `step` units of lowest score, measure all scores again on what is
    left, and go on until the mean loss of the same images is `until` (nats).

    The criterion "oracle" is the greedy oracle of the paper. With ", scores fixed"
    behind its name a criterion is measured once. Errors as in `scores_by`.
    """
    known = (ORACLE, *CRITERIA)
    fixed_too = (f"{each}{FIXED}" for each in known)
    checks.one_of(criterion, "criterion", (*known, *fixed_too))
    name, fixed = criterion.removesuffix(FIXED), criterion.endswith(FIXED)
    step = checks.whole(step, "step", at_least=1)
    until = checks.real(until, "until", above=0)
    alive, counts, losses = all_alive(model), [0], []
    scores = None
    while True:
        smaller = removed(model, alive)
        losses.append(_mean_loss(smaller, images, labels))
        if losses[-1] >= until or model.units - counts[-1] < step + len(model.groups):
            return Walk(tuple(counts), tuple(losses))
        if scores is None or not fixed:
            found = scores_by(name, smaller, images, labels, generator=generator)
            scores = found.new_zeros(model.units)
            scores[alive] = found
        alive = lowest(model, scores, step, alive)
        counts.append(counts[-1] + step)


def scores_by(
    criterion: str,
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
) -> Tensor:
    """Scores (units,) by the criterion of that name, first order on mini-batches of 64;
    "oracle" gives the true importance. Errors as in `score` and `removal_losses`.
    """
    if criterion == ORACLE:
        return removal_losses(model, images, labels).importance
    batch = min(BATCH, len(images))
    seen = Evidence(model, images, labels, batch=batch, generator=generator)
    return score(criterion, seen)


def _mean_loss(model: Prunable, images: Tensor, labels: Tensor) -> float:
    return float(cross_entropy(compute_logits(model, images), labels).mean())
