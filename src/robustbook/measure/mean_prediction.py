"""What is deployed is the mean of many posterior samples: can one input of a box move
that mean?

Read `mean_reach` first, then `attack_mean` (a point that moves the mean, so a lower
bound) and `mean_of_bounds` (what the samples' own bounds allow, an upper bound).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustbook import checks
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import WeightSamples
from robustbook.draws import uniform
from robustbook.measure.verification import Answer, Reach, Region, answer


@dataclass(frozen=True, eq=False)
class MeanReach:
    """Bounds of how far the mean probabilities move in each box, two reaches of one
    row (1, N).

    The `margin` of a mean is in units of probability: the largest mean probability of
    another class less that of the mean's decision at the image.
    """

    low: Reach
    high: Reach


@torch.no_grad()
def mean_reach(
    samples: WeightSamples,
    region: Region,
    outer: Reach,
    *,
    steps: int,
    generator: Generator,
    restarts: int = 1,
) -> MeanReach:
    """The mean prediction's reach in the boxes, from below by `attack_mean` and from
    above by `mean_of_bounds`; `outer` bounds the reach (S, N) of each sample from
    above (`certify`, or `exact(...).high`).

    Raises ArgumentError as these two do.
    """
    low = attack_mean(
        samples, region, steps=steps, generator=generator, restarts=restarts
    )
    return MeanReach(low, mean_of_bounds(samples, region, outer))


@torch.no_grad()
def attack_mean(
    samples: WeightSamples,
    region: Region,
    *,
    steps: int,
    generator: Generator,
    restarts: int = 1,
) -> Reach:
    """The farthest mean predictions (1, N) that gradient-sign ascent visits: from the
    image, and from `restarts` random points of the box.

    It climbs the mean probability of the best other class less that of the mean's
    decision: the gradient of the mean, not one gradient a sample.

    Raises ArgumentError if a number is out of range or a logit is not finite.
    """
    checks.having(samples, "samples", "weights", "evaluate")
    checks.having(region, "region", "images", "low", "high")
    checks.generator(generator)
    steps = checks.whole(steps, "steps", at_least=1)
    restarts = checks.whole(restarts, "restarts", at_least=1)
    at = _mean_answer(samples, region)
    size = region.epsilon * min(0.5, 2.5 / steps)
    found = _reach(at, at.probabilities[0])
    for start in range(restarts + 1):
        points = region.images
        if start:
            share = uniform(points.shape, points, generator)
            points = region.low + share * (region.high - region.low)
        for _ in range(steps):
            slope = _slope(samples, points, at)
            points = (points + size * slope.sign()).clamp(region.low, region.high)
            here = probabilities(samples.logits(points)).mean(0)
            found = found.farther(_reach(at, here))
    return found


def _mean_answer(samples: WeightSamples, region: Region) -> Answer:
    """What the mean says at the images: probabilities (1, N, K), decisions (1, N)."""
    mean = probabilities(samples.logits(region.images)).mean(0, keepdim=True)
    return Answer(mean, mean.argmax(-1))


def _slope(samples: WeightSamples, points: Tensor, at: Answer) -> Tensor:
    """Gradient (N, C, H, W) of the mean's lead over its own decision."""
    mean = probabilities(samples.logits(points)).mean(0)
    own = at.classes[0]
    rival = mean.scatter(-1, own[:, None], -1).argmax(-1)

    def lead(logits: Tensor, targets: None) -> Tensor:
        chance = probabilities(logits)
        pick = [each.expand(len(chance), -1)[..., None] for each in (rival, own)]
        ahead, behind = (chance.gather(-1, each).squeeze(-1) for each in pick)
        return ahead - behind

    return samples.evaluate(points[None], None, lead).gradient.mean(0)


def _reach(at: Answer, mean: Tensor) -> Reach:
    """How far a mean (N, K) is from the answer."""
    change = mean - at.probabilities[0]
    distance = change[:, 1].abs() if mean.shape[-1] == 2 else change.norm(dim=-1)
    own = mean.gather(-1, at.classes[0][:, None]).squeeze(-1)
    others = mean.scatter(-1, at.classes[0][:, None], -torch.inf).amax(-1)
    return Reach(distance[None], (others - own)[None])


@torch.no_grad()
def mean_of_bounds(samples: WeightSamples, region: Region, outer: Reach) -> Reach:
    """An upper bound of the mean's reach (1, N): the mean of what each sample can do at
    worst, each at a point of its own.

    The distance is at most the mean distance. A sample whose own decision is the mean's
    leads by at most tanh(margin / 2) of probability, or by less where its decision
    stays; other samples move by at most their distance.

    Raises ArgumentError if `outer` is not that of the samples and boxes.
    """
    checks.having(samples, "samples", "weights", "logits")
    checks.having(region, "region", "images")
    checks.having(outer, "outer", "distance", "margin")
    shape = (len(samples), len(region.images))
    if outer.distance.shape != shape:
        raise checks.ArgumentError("outer", f"a reach {shape}", outer.distance)
    at = _mean_answer(samples, region)
    each = answer(samples.logits(region.images))
    classes = each.probabilities.shape[-1]
    own = at.classes[..., None].expand(shape[0], -1, 1)
    here = each.probabilities.gather(-1, own).squeeze(-1).double()
    moved = outer.distance.double()
    stretch = 2.0 if classes == 2 else math.sqrt(2)
    agrees = each.classes == at.classes
    margin = outer.margin.double()
    least = (here - moved).clamp(min=0)
    stays = torch.where(
        margin <= 0, -(1 - margin.clamp(max=0).exp()) * least, torch.tanh(margin / 2)
    )
    leads = []
    for rival in range(classes):
        start = each.probabilities[..., rival].double() - here
        bound = (start + stretch * moved).clamp(max=1)
        bound = torch.where(agrees, torch.minimum(bound, stays), bound).mean(0)
        leads.append(bound.masked_fill(at.classes[0] == rival, -torch.inf))
    return Reach(moved.mean(0, keepdim=True), torch.stack(leads).amax(0)[None])
