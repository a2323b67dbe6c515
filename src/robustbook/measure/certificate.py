"""Upper bounds of the reach in a box that no point exceeds, for many posterior samples
at once.

Read `certify` first, then `Differences`, which turns bounds of logits into a reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustbook.bayes.weights import (
    WeightSamples,
    apply_layer,
    layer_weights,
    transpose_layer,
)
from robustbook.measure.verification import Answer, Reach, Region, answer, by_chunks


@dataclass(frozen=True, eq=False)
class Interval:
    """Boxes of values (S or 1, N, ...) by middle and radius."""

    middle: Tensor
    radius: Tensor

    @property
    def low(self) -> Tensor:
        """Lower ends."""
        return self.middle - self.radius

    @property
    def high(self) -> Tensor:
        """Upper ends."""
        return self.middle + self.radius


Method = Literal["interval", "linear"]
ROUNDING = 1e-5
"""Bounds are widened by this share of the size of what was summed, since sums are
rounded to 24 bits.
"""


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

    Raises TypeError if the network has other layers than Linear, Conv2d, ReLU and
    Flatten, or does not end with Linear.
    """

    def one(part: WeightSamples) -> Reach:
        bounds = _intervals(part, region)
        differences = _interval_differences(part, bounds[-1])
        if method == "linear":
            differences = differences.tighter(_linear_differences(part, bounds))
        return differences.reach(answer(part.logits(region.images)))

    return by_chunks(samples, chunk, one)


def _intervals(samples: WeightSamples, region: Region) -> list[Interval]:
    """The box of every layer's input; the last one is the input of the last layer."""
    bounds = [
        Interval(
            (region.low + region.high)[None] / 2, (region.high - region.low)[None] / 2
        )
    ]
    for index, layer in enumerate(list(samples.architecture)[:-1]):
        bounds.append(_through(samples, index, layer, bounds[-1]))
    return bounds


def _through(
    samples: WeightSamples, index: int, layer: nn.Module, bounds: Interval
) -> Interval:
    """The box of a layer's output."""
    if isinstance(layer, nn.ReLU):
        low, high = bounds.low.relu(), bounds.high.relu()
        return Interval((low + high) / 2, (high - low) / 2)
    middle = apply_layer(samples, index, layer, bounds.middle)
    if isinstance(layer, nn.Flatten):
        return Interval(middle, bounds.radius.flatten(2))
    radius = apply_layer(_absolute(samples, index), index, layer, bounds.radius)
    return Interval(middle, radius + ROUNDING * (middle.abs() + radius))


def _absolute(samples: WeightSamples, index: int) -> WeightSamples:
    """The samples with the absolute weights and no bias in one layer."""
    weight, bias = layer_weights(samples, index)
    changed = {f"{index}.weight": weight.abs()}
    if bias is not None:
        changed[f"{index}.bias"] = torch.zeros_like(bias)
    return WeightSamples(samples.architecture, {**samples.weights, **changed})


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

    def tighter(self, other: Differences) -> Differences:
        """Where both bounds hold, the better of each end."""
        low, high = (
            torch.maximum(self.low, other.low),
            torch.minimum(self.high, other.high),
        )
        return Differences(low, high, self.single)


def pairs(samples: WeightSamples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Classes i < j of each pair (P,), and weight (S, P, H) and bias (S, P) of logit j
    minus logit i.
    """
    index = len(samples.architecture) - 1
    if not isinstance(samples.architecture[index], nn.Linear):
        raise TypeError("a certificate needs a network whose last layer is Linear")
    weight, bias = layer_weights(samples, index)
    bias = torch.zeros(weight.shape[:2]) if bias is None else bias
    if weight.shape[1] == 1:
        return torch.tensor([0]), torch.tensor([1]), weight, bias
    first, second = torch.triu_indices(weight.shape[1], weight.shape[1], offset=1)
    return (
        first,
        second,
        weight[:, second] - weight[:, first],
        bias[:, second] - bias[:, first],
    )


def _square(
    low: Tensor, high: Tensor, first: Tensor, second: Tensor, single: bool
) -> Differences:
    """Bounds by pair (S, N, P) as antisymmetric tables (S, N, K, K)."""
    count = int(second.max()) + 1
    table_low, table_high = (
        torch.zeros(*low.shape[:2], count, count) for _ in range(2)
    )
    table_low[..., second, first], table_low[..., first, second] = low, -high
    table_high[..., second, first], table_high[..., first, second] = high, -low
    return Differences(table_low, table_high, single)


def _interval_differences(samples: WeightSamples, last: Interval) -> Differences:
    """Bounds of the logit differences from the box of the last layer's input, each
    difference bounded as a whole.
    """
    first, second, weight, bias = pairs(samples)
    middle = last.middle @ weight.transpose(1, 2) + bias[:, None]
    radius = last.radius @ weight.abs().transpose(1, 2)
    radius = radius + ROUNDING * (middle.abs() + radius)
    return _square(middle - radius, middle + radius, first, second, is_single(samples))


def is_single(samples: WeightSamples) -> bool:
    """Whether the networks have one logit."""
    last = samples.architecture[-1]
    return isinstance(last, nn.Linear) and last.out_features == 1


def _linear_differences(samples: WeightSamples, bounds: list[Interval]) -> Differences:
    """Bounds of the logit differences by linear functions of the input, walked back
    layer by layer.
    """
    first, second, weight, bias = pairs(samples)
    high = _walk_back(samples, bounds, weight, bias)
    low = -_walk_back(samples, bounds, -weight, -bias)
    return _square(low, high, first, second, is_single(samples))


def _walk_back(
    samples: WeightSamples, bounds: list[Interval], weight: Tensor, bias: Tensor
) -> Tensor:
    """Upper bounds (S, N, P) of linear functions of the last layer's input: weight (S,
    P, H), bias (S, P).
    """
    images, count = bounds[0].middle.shape[1], max(len(samples), 1)
    slopes = weight[:, None].expand(count, images, *weight.shape[1:])
    offset = bias[:, None].expand(count, images, -1)
    for index in range(len(samples.architecture) - 2, -1, -1):
        layer = samples.architecture[index]
        if isinstance(layer, nn.ReLU):
            slopes, more = _relax(slopes, bounds[index])
            offset = offset + more
            continue
        flat = slopes.flatten(1, 2)
        if not isinstance(layer, nn.Flatten):
            offset = offset + _bias_term(samples, index, layer, slopes)
        back = transpose_layer(samples, index, layer, flat, bounds[index].middle.shape)
        slopes = back.unflatten(1, slopes.shape[1:3])
    middle, radius = (
        bounds[0].middle.unsqueeze(2).flatten(3),
        bounds[0].radius.unsqueeze(2).flatten(3),
    )
    slopes = slopes.flatten(3)
    centre, spread = (slopes * middle).sum(-1), (slopes.abs() * radius).sum(-1)
    return (
        centre
        + spread
        + offset
        + ROUNDING * ((slopes.abs() * middle.abs()).sum(-1) + spread + offset.abs())
    )


def _relax(slopes: Tensor, inputs: Interval) -> tuple[Tensor, Tensor]:
    """Replace a ReLU by the line above it where its slope (S, N, P, ...) is positive,
    by one below it elsewhere.
    """
    low, high = inputs.low.unsqueeze(2), inputs.high.unsqueeze(2)
    crossing = (low < 0) & (high > 0)
    above = torch.where(
        crossing, high / (high - low).clamp(min=1e-30), (high > 0).to(high)
    )
    below = torch.where(crossing, (high > -low).to(high), above)
    up, down = slopes.clamp(min=0), slopes.clamp(max=0)
    offset = up * torch.where(crossing, -low * above, 0.0)
    return up * above + down * below, offset.flatten(3).sum(-1)


def _bias_term(
    samples: WeightSamples, index: int, layer: nn.Module, slopes: Tensor
) -> Tensor:
    """What a layer's bias adds to linear functions of its output with `slopes` (S, N,
    P, ...).
    """
    _, bias = layer_weights(samples, index)
    if bias is None:
        return torch.zeros(slopes.shape[:3])
    per_channel = slopes.flatten(4).sum(-1) if isinstance(layer, nn.Conv2d) else slopes
    return (per_channel * bias[:, None, None]).sum(-1)
