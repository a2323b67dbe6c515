"""Is there an input in a box that changes a network's answer? Three oracles, for many
posterior samples at once.

Read `Region` (the inputs in question) and `Reach` (how far the answer moves), then the
oracles `attack` (a lower bound of the reach), `certify` (an upper bound) and `exact`
(both ends, up to a tolerance), then `verify`, which samples, asks an oracle and stops
as a rule of `robustbook.measure.sequential` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from robustbook.bayes.protocol import Posterior, decisions, probabilities
from robustbook.bayes.weights import (
    WeightSamples,
    apply_layer,
    forward,
    layer_weights,
    pull_back,
    transpose_layer,
)
from robustbook.errors import ParameterError
from robustbook.measure.sequential import Estimate, Rule

CACHE = 8 * 2**20
"""Bytes of weights that run together: they stay in the processor's cache from one step
of an attack to the next.
"""


@dataclass(frozen=True, eq=False)
class Region:
    """Boxes around `images` (N, C, H, W): all inputs between `low` and `high` (N, C, H,
    W), cut to [0, 1].

    `epsilon` is the perturbation budget in pixel units, before the cut.
    """

    images: Tensor
    low: Tensor
    high: Tensor
    epsilon: float

    def take(self, chosen: Tensor) -> Region:
        """The boxes of some of the images."""
        return Region(
            self.images[chosen], self.low[chosen], self.high[chosen], self.epsilon
        )


def ball(images: Tensor, epsilon: float) -> Region:
    """The L-infinity ball of radius `epsilon` around each of `images` (N, C, H, W).

    Raises ParameterError if `epsilon` is negative or an image leaves [0, 1].
    """
    return pixel_box(images, epsilon, None)


def pixel_box(
    images: Tensor, epsilon: float, pixels: Sequence[tuple[int, int]] | None
) -> Region:
    """Inputs that differ from each image by at most `epsilon`, and only at the `pixels`
    (row, column); None: anywhere.

    Raises ParameterError if `epsilon` is negative, an image leaves [0, 1], or a pixel
    is not in the image.
    """
    if epsilon < 0:
        raise ParameterError(f"epsilon must not be negative, got {epsilon}")
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ParameterError(
            f"images must lie in [0, 1], got [{float(images.min())}, "
            f"{float(images.max())}]"
        )
    height, width = images.shape[2:]
    radius = torch.full((height, width), epsilon if pixels is None else 0.0)
    for row, column in pixels or ():
        if not (0 <= row < height and 0 <= column < width):
            raise ParameterError(
                f"pixel ({row}, {column}) is not in an image of {height} x {width}"
            )
        radius[row, column] = epsilon
    return Region(
        images, (images - radius).clamp(min=0), (images + radius).clamp(max=1), epsilon
    )


@dataclass(frozen=True, eq=False)
class Reach:
    """How far the answer of each sample moves within each box, or a bound of it: two
    tensors (S, N).

    `distance` is the largest change of the class probabilities (2-norm; of the one
    probability if there is one logit), `margin` the largest logit of another class
    minus that of the class at the image: positive if the decision changes.
    """

    distance: Tensor
    margin: Tensor

    def moves(self, delta: float) -> Tensor:
        """Problem 1: whether the probabilities move by more than `delta` (S, N)."""
        return self.distance > delta

    @property
    def flips(self) -> Tensor:
        """Problem 2: whether the decision changes (S, N)."""
        return self.margin > 0

    def farther(self, other: Reach) -> Reach:
        """The larger of two lower bounds."""
        return Reach(
            torch.maximum(self.distance, other.distance),
            torch.maximum(self.margin, other.margin),
        )


def _by_chunks(
    samples: WeightSamples, chunk: int | None, oracle: Callable[[WeightSamples], Reach]
) -> Reach:
    """An oracle on `chunk` samples at a time, by default as many as stay in the
    cache.
    """
    size = sum(
        tensor[0].numel() * tensor.element_size() for tensor in samples.weights.values()
    )
    chunk = chunk or min(max(CACHE // size, 2), 64)
    found = [
        oracle(samples.take(slice(start, start + chunk)))
        for start in range(0, len(samples), chunk)
    ]
    return Reach(
        torch.cat([each.distance for each in found]),
        torch.cat([each.margin for each in found]),
    )


# What is measured of logits
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Answer:
    """What each sample says at the images themselves: class probabilities (S, N, K) and
    decisions (S, N).
    """

    probabilities: Tensor
    classes: Tensor

    def reach(self, logits: Tensor) -> Reach:
        """How far `logits` (S, N, K) are from this answer."""
        change = probabilities(logits) - self.probabilities
        distance = (
            change[..., 1].abs() if logits.shape[-1] == 1 else change.norm(dim=-1)
        )
        return Reach(distance, margins(logits, self.classes))


def answer(logits: Tensor) -> Answer:
    """The answer that logits (S, N, K) give."""
    return Answer(probabilities(logits), decisions(logits))


def margins(logits: Tensor, classes: Tensor) -> Tensor:
    """Largest logit of another class minus that of `classes` (S, N), from logits (S, N,
    K).
    """
    if logits.shape[-1] == 1:
        return logits.squeeze(-1) * (1 - 2 * classes)
    own = logits.gather(-1, classes[..., None]).squeeze(-1)
    return logits.scatter(-1, classes[..., None], -torch.inf).amax(-1) - own


Objective = Literal["cross-entropy", "margin", "distance"]


def _slope(objective: Objective, logits: Tensor, at: Answer) -> Tensor:
    """Gradient (S, N, K) of the objective with respect to the logits."""
    if objective == "margin":
        return _margin_slope(logits, at.classes)
    current = probabilities(logits)
    if objective == "cross-entropy":
        slope = current.scatter_add(
            -1, at.classes[..., None], -torch.ones_like(current[..., :1])
        )
    else:
        change = current - at.probabilities
        slope = current * (change - (current * change).sum(-1, keepdim=True))
    return slope[..., 1:] if logits.shape[-1] == 1 else slope


def _margin_slope(logits: Tensor, classes: Tensor) -> Tensor:
    if logits.shape[-1] == 1:
        return (1.0 - 2.0 * classes)[..., None]
    own = classes[..., None]
    rival = logits.scatter(-1, own, -torch.inf).argmax(-1, keepdim=True)
    slope = torch.zeros_like(logits)
    return slope.scatter_(-1, rival, 1.0).scatter_(-1, own, -1.0)


# The attack: a lower bound
# --------------------------------------------------------------------------------------


@torch.no_grad()
def attack(
    samples: WeightSamples,
    region: Region,
    *,
    steps: int,
    step_size: float,
    objective: Objective = "margin",
    generator: Generator | None = None,
    chunk: int | None = None,
) -> Reach:
    """The farthest points that gradient-sign ascent visits in the boxes: witnesses, so
    a lower bound of the reach.

    Each sample is attacked by itself, from the image or, with a `generator`, from a
    uniform point of the box. Every step moves by `step_size` (pixel units) along the
    sign of the objective's gradient; all `steps` + 1 points count. A sample and an
    image cost `steps` + 1 forward and `steps` backward passes, and one more forward
    from a random start.

    Raises ParameterError if `steps` or `step_size` is negative.
    """
    if steps < 0 or step_size < 0:
        raise ParameterError(
            f"steps and step_size must not be negative, got {steps} and {step_size}"
        )

    def one(part: WeightSamples) -> Reach:
        points = _start_points(region, len(part), generator)
        trace = forward(part, points)
        at = answer(trace.logits if generator is None else part.logits(region.images))
        reach = at.reach(trace.logits)
        for _ in range(steps):
            gradient = pull_back(part, trace, _slope(objective, trace.logits, at))
            moved = gradient.sign_().mul_(step_size).add_(points)
            points = torch.clamp(moved, region.low, region.high, out=moved)
            trace = forward(part, points)
            reach = reach.farther(at.reach(trace.logits))
        return reach

    return _by_chunks(samples, chunk, one)


def _start_points(region: Region, count: int, generator: Generator | None) -> Tensor:
    """Where the attack starts: (1, N, C, H, W) at the images, or random points (S, N,
    C, H, W).
    """
    if generator is None:
        return region.images[None]
    share = torch.rand((count, *region.images.shape), generator=generator)
    return region.low + share * (region.high - region.low)


def fgsm(samples: WeightSamples, region: Region, *, chunk: int | None = None) -> Reach:
    """One step of `epsilon` along the sign of the cross-entropy's gradient, the paper's
    main attack.
    """
    return attack(
        samples,
        region,
        steps=1,
        step_size=region.epsilon,
        objective="cross-entropy",
        chunk=chunk,
    )


def pgd(
    samples: WeightSamples,
    region: Region,
    *,
    steps: int,
    generator: Generator,
    restarts: int = 1,
    chunk: int | None = None,
) -> Reach:
    """The best of `attack` on the margin from the image and on the distance from
    `restarts` random starts.

    Step sizes fall short of crossing the box: 2.5 epsilon / steps, at most epsilon / 2
    (the paper's).
    """
    size = region.epsilon * min(0.5, 2.5 / max(steps, 1))
    reach = attack(samples, region, steps=steps, step_size=size, chunk=chunk)
    for _ in range(restarts):
        again = attack(
            samples,
            region,
            steps=steps,
            step_size=size,
            objective="distance",
            generator=generator,
            chunk=chunk,
        )
        reach = reach.farther(again)
    return reach


# The certificate: an upper bound
# ------------------------------------------------------------------------------------


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

    return _by_chunks(samples, chunk, one)


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


def _pairs(samples: WeightSamples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
    first, second, weight, bias = _pairs(samples)
    middle = last.middle @ weight.transpose(1, 2) + bias[:, None]
    radius = last.radius @ weight.abs().transpose(1, 2)
    radius = radius + ROUNDING * (middle.abs() + radius)
    return _square(middle - radius, middle + radius, first, second, _is_single(samples))


def _is_single(samples: WeightSamples) -> bool:
    last = samples.architecture[-1]
    return isinstance(last, nn.Linear) and last.out_features == 1


def _linear_differences(samples: WeightSamples, bounds: list[Interval]) -> Differences:
    """Bounds of the logit differences by linear functions of the input, walked back
    layer by layer.
    """
    first, second, weight, bias = _pairs(samples)
    high = _walk_back(samples, bounds, weight, bias)
    low = -_walk_back(samples, bounds, -weight, -bias)
    return _square(low, high, first, second, _is_single(samples))


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


# Few pixels: branch and bound
# --------------------------------------------------------------------------------------


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

    Raises ParameterError if the network is another one or `tolerance` is not positive.
    """
    _check_shallow(samples.architecture)
    if tolerance <= 0:
        raise ParameterError(f"tolerance must be positive, got {tolerance}")
    function = _on_free_pixels(samples, region)
    top = maximum(function, tolerance, limit)
    bottom = maximum(function.negative(), tolerance, limit)
    shape = (len(samples), len(region.images))
    at = answer(samples.logits(region.images).double())
    inner = _reach_between(
        at, -bottom.low.view(shape), top.low.view(shape), _is_single(samples)
    )
    outer = _reach_between(
        at, -bottom.high.view(shape), top.high.view(shape), _is_single(samples)
    )
    return Exact(inner, outer, top.boxes + bottom.boxes)


def _check_shallow(architecture: nn.Sequential) -> None:
    kinds = [type(layer) for layer in architecture]
    last = architecture[-1]
    if (
        kinds != [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
        or not isinstance(last, nn.Linear)
        or last.out_features > 2
    ):
        raise ParameterError(
            "exact search needs Flatten, Linear, ReLU, Linear with one or two logits"
        )


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


def _on_free_pixels(samples: WeightSamples, region: Region) -> Shallow:
    """The logit difference of each sample on each box, as a function of the pixels that
    are free there.
    """
    _, _, outer, offset = _pairs(samples)
    weight, bias = (each.double() for each in _hidden(samples))
    middle, radius = (
        ((region.high + region.low) / 2).flatten(1),
        ((region.high - region.low) / 2).flatten(1),
    )
    free = radius.amax(0) > 0
    count, images = len(samples), len(middle)
    at_middle = torch.einsum("shi,ni->snh", weight, middle.double()) + bias[:, None]
    inner = weight[:, None, :, free] * radius[:, free].double()[None, :, None]
    whole = Shallow(
        inner.expand(count, -1, -1, -1).flatten(0, 1),
        at_middle.expand(count, -1, -1).flatten(0, 1),
        outer.double().expand(count, -1, -1).repeat_interleave(images, 0).squeeze(1),
        torch.zeros(count * images, int(free.sum()), dtype=torch.float64),
        offset.double().expand(count, -1).repeat_interleave(images, 0).squeeze(1),
    )
    return _without_stable(whole)


def _hidden(samples: WeightSamples) -> tuple[Tensor, Tensor]:
    weight, bias = layer_weights(samples, 1)
    return weight, torch.zeros(weight.shape[:2]) if bias is None else bias


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
    best = torch.full((count,), -torch.inf, dtype=function.offset.dtype)
    closed = best.clone()
    waiting = [
        Boxes(
            torch.arange(count),
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


# Sampling and verification together
# -----------------------------------------------------------------------------------

Oracle = Callable[[WeightSamples, Region], Tensor]
"""`(samples, region) -> (S, N)` whether each sample's answer moves (Problem 1) or
changes (Problem 2) on each box.
"""


@dataclass(frozen=True)
class Verification:
    """One estimate an image, the posterior samples drawn, and the pairs of sample and
    image that were asked.
    """

    estimates: list[Estimate]
    samples: int
    calls: int


def verify(
    posterior: Posterior,
    region: Region,
    oracle: Oracle,
    rule: Rule,
    generator: Generator,
) -> Verification:
    """Estimate for each image the probability that a posterior sample's answer moves,
    by a stopping rule.

    All images see the same samples, so their estimates depend on each other. Samples
    are drawn in blocks that every running image needs in any case, and an image whose
    rule has stopped is asked no more: no oracle call is in vain.
    """
    images = len(region.images)
    n, k = torch.zeros(images, dtype=torch.long), torch.zeros(images, dtype=torch.long)
    drawn = calls = 0
    while len(active := _still_running(rule, n, k)):
        block = min(int(rule.waits[n[i], k[i]]) for i in active.tolist())
        answers = oracle(posterior.draw(block, generator), region.take(active))
        n[active] += block
        k[active] += answers.long().sum(0)
        drawn, calls = drawn + block, calls + block * len(active)
    estimates = [
        Estimate(float(rule.estimates[a, b]), a, b, rule.theta)
        for a, b in zip(n.tolist(), k.tolist(), strict=True)
    ]
    return Verification(estimates, drawn, calls)


def _still_running(rule: Rule, n: Tensor, k: Tensor) -> Tensor:
    stops = [
        bool(rule.stops[a, b]) for a, b in zip(n.tolist(), k.tolist(), strict=True)
    ]
    return torch.tensor(
        [index for index, stopped in enumerate(stops) if not stopped], dtype=torch.long
    )
