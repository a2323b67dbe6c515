"""A proved lower bound of the probability that a posterior sample is robust, without
drawing samples: boxes of weights that keep a decision (Wicker et al. 2020).

Read `safe_probability` first, then `Layers` (the network on one image, in the variables
that matter), `keeps` (intervals of weights and inputs together) and `union_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustbook import checks
from robustbook.bayes.mean_field import MeanField
from robustbook.checks import ArgumentError
from robustbook.draws import normal
from robustbook.measure.verification import Region
from robustbook.models.input_convolution import plain
from robustbook.models.network import chain

WIDEST, HALVINGS = 8.0, 12
"""Largest half-width of a box in standard deviations, and the steps of its search."""


@dataclass(frozen=True)
class SafeWeights:
    """What was proved for one image: `probability` is at most that of a posterior
    sample to keep the decision `decision` on the whole box of inputs.

    `width` is the half-width of the first box in standard deviations (0 if none could
    be proved), `boxes` how many are counted, `passes` how many were tried, `variables`
    how many independent Gaussians a box has.
    """

    probability: float
    decision: int
    width: float
    boxes: int
    passes: int
    variables: int


@dataclass(frozen=True, eq=False)
class Layers:
    """Means and standard deviations of the weights (H, I) and biases (H,) of each
    Linear layer, as they act on one image whose free pixels go from `low` to `high`
    (I,).
    """

    means: list[tuple[Tensor, Tensor]]
    scales: list[tuple[Tensor, Tensor]]
    low: Tensor
    high: Tensor

    @property
    def variables(self) -> int:
        """How many Gaussian variables there are."""
        return sum(w.numel() + b.numel() for w, b in self.means)


@torch.no_grad()
def safe_probability(
    posterior: MeanField,
    region: Region,
    *,
    boxes: int,
    generator: Generator,
) -> list[SafeWeights]:
    """For each image of the region a lower bound of the probability that a sample of
    the posterior decides on the whole box as the means do at the image.

    `boxes` boxes of weights, the first around the means and the others around samples,
    are made as wide as interval bounds can prove, and their probabilities added with
    what pairs share taken off twice over. What fixed pixels send into a unit is one
    Gaussian, so that a box has one side for it and not one a pixel.

    Raises ArgumentError unless the network is a chain of Flatten, Linear and ReLU and
    all weights are stochastic.
    """
    checks.having(posterior, "posterior", "means", "scales", "architecture")
    checks.having(region, "region", "images", "low", "high")
    boxes = checks.whole(boxes, "boxes", at_least=1)
    checks.generator(generator)
    places = torch.arange(len(region.images), device=region.images.device)
    return [
        _image(posterior, region.take(place), boxes, generator)
        for place in places.split(1)
    ]


def _image(
    posterior: MeanField, region: Region, boxes: int, generator: Generator
) -> SafeWeights:
    layers = layers_of(posterior, region)
    middle = layers.low.new_zeros(layers.variables)
    decision, centres = _decision(posterior, region), [middle]
    centres += [normal(middle.shape, middle, generator) for _ in range(boxes - 1)]
    widths = [_widest(layers, centre, decision) for centre in centres]
    proved = [
        (centre, width)
        for centre, width in zip(centres, widths, strict=True)
        if width > 0
    ]
    chance, count = union_bound(proved)
    return SafeWeights(
        chance, decision, widths[0], count, boxes * HALVINGS, layers.variables
    )


def _decision(posterior: MeanField, region: Region) -> int:
    from robustbook.bayes.protocol import decisions
    from robustbook.bayes.weights import WeightSamples

    means = {name: mean[None] for name, mean in posterior.means.items()}
    logits = WeightSamples(posterior.architecture, means).logits(region.images)
    return int(decisions(logits)[0, 0])


def layers_of(posterior: MeanField, region: Region) -> Layers:
    """The network on one image: the fixed pixels' share of a unit's input, a sum of
    independent Gaussians, is merged with its bias.
    """
    pairs = list(_pairs(posterior))
    low, high = (end.flatten().double() for end in (region.low, region.high))
    free = high > low
    (mean, bias), *later = [pair[0] for pair in pairs]
    (scale, bias_scale), *later_scales = [pair[1] for pair in pairs]
    fixed = low[~free]
    merged = bias + mean[:, ~free] @ fixed
    spread = (bias_scale.square() + scale[:, ~free].square() @ fixed.square()).sqrt()
    return Layers(
        [(mean[:, free], merged), *later],
        [(scale[:, free], spread), *later_scales],
        low[free],
        high[free],
    )


def _pairs(
    posterior: MeanField,
) -> Sequence[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """(means, scales) of weight and bias of each Linear layer, in order."""
    names = {id(p): name for name, p in posterior.architecture.named_parameters()}
    found = []
    kinds = chain(posterior.architecture)
    for place, layer in enumerate(kinds):
        linear = plain(layer, nn.Linear) and getattr(layer, "bias", None) is not None
        middle = 0 < place < len(kinds) - 1
        known = plain(layer, nn.Flatten) and place == 0
        known = known or (plain(layer, nn.ReLU) and middle) or linear
        if not known or (linear and place % 2 == 0):
            allowed = "a chain of Flatten and Linear layers with ReLUs between them"
            raise ArgumentError("posterior", allowed, type(layer).__name__)
        if not linear:
            continue
        own = [names[id(part)] for part in (layer.weight, layer.bias)]
        if missing := [name for name in own if name not in posterior.scales]:
            raise ArgumentError("posterior", "stochastic in all weights", missing)
        means = [posterior.means[name].double() for name in own]
        scales = [posterior.scales[name].double() for name in own]
        found.append(((means[0], means[1]), (scales[0], scales[1])))
    return found


def keeps(layers: Layers, centre: Tensor, width: float, decision: int) -> bool:
    """Whether every network in a box of weights decides for `decision` on all inputs.

    The box is `centre` (D,) -+ `width`, in standard deviations from the means. A linear
    layer with weights W -+ R takes inputs x -+ r to W x -+ (|W| r + R (|x| + r)).
    """
    middle, radius = (layers.high + layers.low) / 2, (layers.high - layers.low) / 2
    start = 0
    for place, (mean, scale) in enumerate(
        zip(layers.means, layers.scales, strict=True)
    ):
        parts = []
        for m, s in zip(mean, scale, strict=True):
            offset = centre[start : start + m.numel()].view(m.shape)
            parts.append((m + s * offset, s * width))
            start += m.numel()
        (weight, weight_radius), (bias, bias_radius) = parts
        if place == len(layers.means) - 1:
            weight, weight_radius, bias, bias_radius = _leads(
                weight, weight_radius, bias, bias_radius, decision
            )
        at = weight @ middle + bias
        spread = weight.abs() @ radius + bias_radius
        spread = spread + weight_radius @ (middle.abs() + radius)
        low, high = (at - spread).relu(), (at + spread).relu()
        middle, radius = (high + low) / 2, (high - low) / 2
    # Rounding in double precision is far below this.
    return bool((at + spread < -1e-9).all())


def _leads(
    weight: Tensor, radius: Tensor, bias: Tensor, bias_radius: Tensor, decision: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last layer as the lead of every other class over the decision."""
    if len(weight) == 1:
        sign = -1.0 if decision == 1 else 1.0
        return sign * weight, radius, sign * bias, bias_radius
    others = torch.arange(len(weight), device=weight.device) != decision
    return (
        weight[others] - weight[decision],
        radius[others] + radius[decision],
        bias[others] - bias[decision],
        bias_radius[others] + bias_radius[decision],
    )


def _widest(layers: Layers, centre: Tensor, decision: int) -> float:
    """The largest half-width that is proved, by halving; 0 if there is none."""
    low, high = 0.0, WIDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if keeps(layers, centre, middle, decision):
            low = middle
        else:
            high = middle
    return low


def union_bound(boxes: Sequence[tuple[Tensor, float]]) -> tuple[float, int]:
    """A lower bound of the probability of a union of boxes centre -+ width of standard
    normal variables, and how many boxes it counts.

    Widest first, a box is counted if its probability is more than what it shares with
    the boxes before it (Bonferroni's second inequality).
    """
    total = 0.0
    counted: list[tuple[Tensor, float]] = []
    ordered = sorted(boxes, key=lambda each: -_chance(each[0], each[1], each))
    for box in ordered:
        shared = math.fsum(_chance(box[0], box[1], other) for other in counted)
        gain = _chance(box[0], box[1], box) - shared
        if gain > 0:
            total, counted = total + gain, [*counted, box]
    return min(total, 1.0), len(counted)


def _chance(centre: Tensor, width: float, other: tuple[Tensor, float]) -> float:
    """Probability of what two boxes share."""
    low = torch.maximum(centre - width, other[0] - other[1])
    high = torch.minimum(centre + width, other[0] + other[1])
    if bool((low >= high).any()):
        return 0.0
    # The upper tail is the mirror image of the lower one, where differences are exact.
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    share = torch.special.ndtr(high) - torch.special.ndtr(low)
    return float(share.log().sum().exp())
