"""Lower bounds of the reach in a box: points that gradient ascent finds, for many
posterior samples at once.

Read `attack` first (the ascent of `perturb.ascent`, whose points `_Search` looks at),
then `fgsm` and `pgd`, which call it.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from robustbook import checks
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import WeightSamples
from robustbook.draws import uniform
from robustbook.measure.verification import Answer, Reach, Region, answer, by_chunks
from robustbook.perturb.ascent import Box, SignStep, walk

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


class _Search:
    """Objective of an ascent that keeps how far its points are from the answer `at`
    the images (that at its first points unless given) in `reach`.
    """

    def __init__(self, name: Objective, at: Answer | None) -> None:
        self.name, self.at = name, at
        self.reach: Reach | None = None

    def __call__(self, logits: Tensor, targets: None) -> Tensor:
        """The margins (S, n) of logits (S, n, K)."""
        self.at = answer(logits) if self.at is None else self.at
        found = self.at.reach(logits)
        self.reach = found if self.reach is None else self.reach.farther(found)
        return found.margin

    def slope(self, logits: Tensor, targets: None) -> Tensor:
        """Gradient (S, n, K) of the objective with respect to logits."""
        assert self.at is not None
        return _slope(self.name, logits, self.at)


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

    Raises ArgumentError for an unknown objective, numbers out of range, or logits that
    are not finite.
    """
    steps = checks.whole(steps, "steps", at_least=0)
    step_size = checks.real(step_size, "step_size", at_least=0)
    checks.having(region, "region", "images", "low", "high")
    checks.one_of(objective, "objective", get_args(Objective))

    def one(part: WeightSamples) -> Reach:
        points, at = region.images[None], None
        if generator is not None:
            points = _random_points(region, len(part), generator)
            at = answer(part.logits(region.images))
        search = _Search(objective, at)
        points = walk(
            part,
            points.clone(),
            None,
            search,
            steps=steps,
            step=SignStep(step_size),
            region=Box(region.low, region.high),
        )
        search(part.logits(points), None)
        assert search.reach is not None
        return search.reach

    return by_chunks(samples, chunk, one)


def _random_points(region: Region, count: int, generator: Generator) -> Tensor:
    """Uniform points (S, N, C, H, W) of the boxes, others for each sample."""
    share = uniform((count, *region.images.shape), region.images, generator)
    return region.low + share * (region.high - region.low)


def fgsm(samples: WeightSamples, region: Region, *, chunk: int | None = None) -> Reach:
    """One step of `epsilon` along the sign of the cross-entropy's gradient, the paper's
    main attack. Errors as in `attack`.
    """
    checks.having(region, "region", "epsilon")
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
    (the paper's). Errors as in `attack`.
    """
    steps = checks.whole(steps, "steps", at_least=0)
    restarts = checks.whole(restarts, "restarts", at_least=1)
    checks.having(region, "region", "epsilon")
    checks.generator(generator)
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
