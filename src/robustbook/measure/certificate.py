"""Upper bounds of the reach in a box that no point exceeds, for many posterior samples
at once.

Read `certify` first, then `Differences`, which turns bounds of logits into a reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustbook import checks
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.propagation import Box, Propagation
from robustbook.measure.verification import Answer, Reach, Region, answer, by_chunks

Method = Literal["interval", "linear"]


@torch.no_grad()
def certify(
    samples: WeightSamples,
    region: Region,
    *,
    method: Method = "linear",
    chunk: int | None = None,
) -> Reach:
    """Upper bounds of the reach that no point of the boxes exceeds.

    "interval" propagates boxes through the layers (Gowal et al. 2018); "linear" bounds
    every ReLU by two lines and the differences of the logits by linear functions of the
    input (Zhang et al. 2018), and keeps the better of the two.

    Raises ArgumentError for another method, or names the layer if one has no bound
    (`propagation.layers`).
    """
    checks.having(region, "region", "low", "high", "images")
    checks.one_of(method, "method", ("interval", "linear"))

    def one(part: WeightSamples) -> Reach:
        boxes = Propagation(part, Box(region.low[None], region.high[None]))
        logits = part.logits(region.images)
        first, second, forms = pairs(logits.shape[-1], logits.device)
        box = boxes.bound(forms, backward=False)
        if method == "linear":
            box = box.within(boxes.bound(forms))
        found = _square(box.lower, box.upper, first, second, logits.shape[-1] == 1)
        return found.reach(answer(logits))

    return by_chunks(samples, chunk, one)


def pairs(classes: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Classes i < j of each pair (P,), and the forms Z_j - Z_i (P, K) of the logits; a
    single logit is that of class 1 beside a zero.
    """
    first, second = torch.triu_indices(
        max(classes, 2), max(classes, 2), 1, device=device
    )
    every = torch.eye(classes, device=device)
    return first, second, every if classes == 1 else every[second] - every[first]


@dataclass(frozen=True, eq=False)
class Differences:
    """Bounds (S, N, K, K) of logit i minus logit j; a single logit counts as that of
    class 1 beside a zero.
    """

    low: Tensor
    high: Tensor
    single: bool = False

    def reach(self, at: Answer) -> Reach:
        """The upper bound of the reach that follows."""
        classes = at.classes[..., None, None].expand(
            *at.classes.shape, self.high.shape[-1], 1
        )
        others = self.high.gather(-1, classes).squeeze(-1)
        margin = others.scatter(-1, at.classes[..., None], -torch.inf).amax(-1)
        most, least = (
            torch.exp(-self.low.logsumexp(-2)),
            torch.exp(-self.high.logsumexp(-2)),
        )
        change = torch.maximum(most - at.probabilities, at.probabilities - least).clamp(
            min=0
        )
        distance = (
            change[..., 1]
            if self.single
            else change.norm(dim=-1).clamp(max=math.sqrt(2))
        )
        return Reach(distance, margin)


def _square(
    low: Tensor, high: Tensor, first: Tensor, second: Tensor, single: bool
) -> Differences:
    """Bounds by pair (S, N, P) as antisymmetric tables (S, N, K, K)."""
    count = int(second.max()) + 1
    table_low, table_high = (
        low.new_zeros(*low.shape[:2], count, count) for _ in range(2)
    )
    table_low[..., second, first], table_low[..., first, second] = low, -high
    table_high[..., second, first], table_high[..., first, second] = high, -low
    return Differences(table_low, table_high, single)
