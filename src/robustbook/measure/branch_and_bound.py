"""The reach in a box over few pixels, exact up to a tolerance: branch and bound for
networks with one hidden layer, for many posterior samples at once.

Read `exact` first, then `maximum` (the search) and `_look` (the bound of one box).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbook import checks
from robustbook.bayes.weights import Layer, WeightSamples, fast_layers
from robustbook.checks import ArgumentError
from robustbook.measure.verification import Answer, Reach, Region, answer


@dataclass(frozen=True, eq=False)
class Exact:
    """Lower and upper bounds of the reach that differ by at most the tolerance on the
    logits, and the boxes it took.
    """

    low: Reach
    high: Reach
    boxes: int


@torch.no_grad()
def exact(
    samples: WeightSamples,
    region: Region,
    *,
    tolerance: float = 1e-3,
    limit: int = 2_000_000,
) -> Exact:
    """The reach on boxes over few pixels, by branch and bound on linear bounds, to
    within `tolerance` in logits.

    For networks Flatten, Linear, ReLU, Linear with one or two logits, whose difference
    has its largest and its smallest value searched. At most `limit` boxes are looked
    at; then the bounds are still bounds, but farther apart.

    Raises ArgumentError if the network is another one or `tolerance` is not positive.
    """
    checks.having(samples, "samples", "weights", "architecture")
    checks.having(region, "region", "images", "low", "high")
    first, last = _two_layers(samples)
    tolerance = checks.real(tolerance, "tolerance", above=0)
    limit = checks.whole(limit, "limit", at_least=1)
    function = _on_free_pixels(first, last, region)
    top = maximum(function, tolerance, limit)
    bottom = maximum(function.negative(), tolerance, limit)
    shape = (len(samples), len(region.images))
    at = answer(samples.logits(region.images).double())
    single = samples.logits(region.images[:1]).shape[-1] == 1
    inner, outer = (
        _reach_between(at, -least.view(shape), most.view(shape), single)
        for least, most in ((bottom.low, top.low), (bottom.high, top.high))
    )
    return Exact(inner, outer, top.boxes + bottom.boxes)


def _two_layers(samples: WeightSamples) -> tuple[Layer, Layer]:
    """The linear layers of a network that can be searched, of all samples."""
    kinds, found = [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear], samples.layers
    layers = fast_layers(samples, found)
    if layers is None or [type(layer) for layer in found] != kinds:
        names = ", ".join(type(layer).__name__ for layer in found)
        names += (
            "" if layers else ", some with settings, hooks or a forward of their own"
        )
    elif found[-1].out_features in (1, 2):
        return layers[1], layers[3]
    else:
        names = f"{found[-1].out_features} logits"
    allowed = "of Flatten, Linear, ReLU, Linear with one or two logits for exact search"
    raise ArgumentError("samples", allowed, names)


def _reach_between(at: Answer, least: Tensor, most: Tensor, single: bool) -> Reach:
    """The reach when the logit of class 1 minus that of class 0 fills [least, most]."""
    own = at.probabilities[..., 1]
    change = torch.maximum(torch.sigmoid(most) - own, own - torch.sigmoid(least)).clamp(
        min=0
    )
    margin = torch.where(at.classes == 1, -least, most)
    return Reach(change if single else change * math.sqrt(2), margin)


@dataclass(frozen=True, eq=False)
class Shallow:
    """B functions of d inputs in [-1, 1]: offset + linear x + sum of outer relu(inner x
    + bias).

    `inner` (B, H, d), `bias` and `outer` (B, H), `linear` (B, d), `offset` (B,).
    """

    inner: Tensor
    bias: Tensor
    outer: Tensor
    linear: Tensor
    offset: Tensor

    def negative(self) -> Shallow:
        """Minus these functions."""
        return Shallow(self.inner, self.bias, -self.outer, -self.linear, -self.offset)

    def take(self, chosen: Tensor) -> Shallow:
        """Some of the functions."""
        return Shallow(
            self.inner[chosen],
            self.bias[chosen],
            self.outer[chosen],
            self.linear[chosen],
            self.offset[chosen],
        )

    def __call__(self, points: Tensor) -> Tensor:
        """Values (B,) at points (B, d)."""
        hidden = (torch.einsum("bhd,bd->bh", self.inner, points) + self.bias).relu()
        return (
            self.offset + (self.linear * points).sum(1) + (self.outer * hidden).sum(1)
        )


def _on_free_pixels(first: Layer, last: Layer, region: Region) -> Shallow:
    """The logit difference of each sample on each box, as a function of the pixels that
    are free there.
    """
    weight, bias = _affine(first)
    outer, offset = _affine(last)
    if outer.shape[1] == 2:
        outer, offset = outer.diff(dim=1), offset.diff(dim=1)
    middle, radius = (
        ((region.high + region.low) / 2).flatten(1),
        ((region.high - region.low) / 2).flatten(1),
    )
    free = radius.amax(0) > 0
    count, images = max(len(weight), len(outer), len(bias), len(offset)), len(middle)
    at_middle = torch.einsum("shi,ni->snh", weight, middle.double()) + bias[:, None]
    inner = weight[:, None, :, free] * radius[:, free].double()[None, :, None]
    whole = Shallow(
        inner.expand(count, -1, -1, -1).flatten(0, 1),
        at_middle.expand(count, -1, -1).flatten(0, 1),
        outer.expand(count, -1, -1).repeat_interleave(images, 0).squeeze(1),
        weight.new_zeros(count * images, int(free.sum())),
        offset.expand(count, -1).repeat_interleave(images, 0).squeeze(1),
    )
    return _without_stable(whole)


def _affine(layer: Layer) -> tuple[Tensor, Tensor]:
    assert layer.weight is not None
    weight = layer.weight.double()
    zero = weight.new_zeros(1, weight.shape[1])
    return weight, zero if layer.bias is None else layer.bias.double()


def _without_stable(function: Shallow) -> Shallow:
    """The same functions with units that never switch on the whole box made linear or
    dropped.
    """
    spread = function.inner.abs().sum(2)
    always = function.bias - spread >= 0
    crossing = ~always & (function.bias + spread > 0)
    active = function.outer * always
    linear = function.linear + torch.einsum("bh,bhd->bd", active, function.inner)
    offset = function.offset + (active * function.bias).sum(1)
    width = max(int(crossing.sum(1).max()), 1)
    order = crossing.to(torch.int8).argsort(dim=1, descending=True, stable=True)[
        :, :width
    ]
    inner = function.inner.gather(
        1, order[..., None].expand(-1, -1, function.inner.shape[2])
    )
    kept = crossing.gather(1, order)
    outer = function.outer.gather(1, order) * kept
    return Shallow(inner, function.bias.gather(1, order), outer, linear, offset)


@dataclass(frozen=True, eq=False)
class Maximum:
    """Bounds (B,) of the largest values of B functions, and how many boxes were looked
    at.
    """

    low: Tensor
    high: Tensor
    boxes: int


@dataclass(frozen=True, eq=False)
class Boxes:
    """M boxes of inputs: which function each belongs to (M,), its middle and radius (M,
    d).
    """

    owner: Tensor
    middle: Tensor
    radius: Tensor


def maximum(
    function: Shallow, tolerance: float, limit: int = 2_000_000, batch: int = 4096
) -> Maximum:
    """Largest value of each function on [-1, 1]^d, bracketed to within `tolerance`, by
    branch and bound.

    A box is split in two along its most influential input, unless its linear bound
    shows that it cannot hold a value above the best one known by more than the
    tolerance. Deepest boxes first, `batch` at a time, at most `limit` in all.
    """
    count = len(function.offset)
    best = torch.full_like(function.offset, -torch.inf)
    closed = best.clone()
    waiting = [
        Boxes(
            torch.arange(count, device=best.device),
            torch.zeros_like(function.linear),
            torch.ones_like(function.linear),
        )
    ]
    seen = 0
    while waiting and seen < limit:
        boxes = waiting.pop()
        if len(boxes.owner) > batch:
            waiting.append(
                Boxes(boxes.owner[batch:], boxes.middle[batch:], boxes.radius[batch:])
            )
            boxes = Boxes(
                boxes.owner[:batch], boxes.middle[:batch], boxes.radius[:batch]
            )
        seen += len(boxes.owner)
        bound, value, influence = _look(function, boxes)
        best.scatter_reduce_(0, boxes.owner, value, "amax")
        open_boxes = bound > best[boxes.owner] + tolerance
        closed.scatter_reduce_(0, boxes.owner[~open_boxes], bound[~open_boxes], "amax")
        if bool(open_boxes.any()):
            waiting.append(_halves(boxes, influence, open_boxes))
    for boxes in waiting:
        bound, value, _ = _look(function, boxes)
        best.scatter_reduce_(0, boxes.owner, value, "amax")
        closed.scatter_reduce_(0, boxes.owner, bound, "amax")
    return Maximum(best, torch.maximum(best, closed), seen)


def _look(function: Shallow, boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
    """Linear upper bound (M,) on each box, the value (M,) at the corner that attains
    it, influence of inputs (M, d).
    """
    own = function.take(boxes.owner)
    spread = torch.einsum("bhd,bd->bh", own.inner.abs(), boxes.radius)
    at_middle = torch.einsum("bhd,bd->bh", own.inner, boxes.middle) + own.bias
    low, high = at_middle - spread, at_middle + spread
    crossing = (low < 0) & (high > 0)
    above = torch.where(
        crossing, high / (high - low).clamp(min=1e-300), (high > 0).to(high)
    )
    below = torch.where(crossing, (high > -low).to(high), above)
    rising = own.outer > 0
    slope = own.outer * torch.where(rising, above, below)
    lift = own.outer * torch.where(rising & crossing, -low * above, 0.0)
    gradient = own.linear + torch.einsum("bh,bhd->bd", slope, own.inner)
    constant = (
        own.offset
        + (own.linear * boxes.middle).sum(1)
        + (slope * at_middle + lift).sum(1)
    )
    bound = constant + (gradient.abs() * boxes.radius).sum(1)
    value = own(boxes.middle + gradient.sign() * boxes.radius)
    influence = (
        torch.einsum("bh,bhd->bd", own.outer.abs() * crossing, own.inner.abs())
        * boxes.radius
    )
    return torch.maximum(bound, value), value, influence


def _halves(boxes: Boxes, influence: Tensor, chosen: Tensor) -> Boxes:
    """Both halves of the chosen boxes, split along the input with the largest
    influence.
    """
    owner, middle, radius = (
        boxes.owner[chosen],
        boxes.middle[chosen],
        boxes.radius[chosen].clone(),
    )
    axis = influence[chosen].argmax(1, keepdim=True)
    radius.scatter_(1, axis, radius.gather(1, axis) / 2)
    shift = torch.zeros_like(middle).scatter_(1, axis, radius.gather(1, axis))
    return Boxes(
        owner.repeat(2),
        torch.cat([middle - shift, middle + shift]),
        radius.repeat(2, 1),
    )
