"""Lower bounds of the reach in a box: points that gradient ascent finds, for many
posterior samples at once.

Read `attack` first, then `fgsm` and `pgd`, which call it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import WeightSamples, forward, pull_back
from robustbook.errors import ParameterError
from robustbook.measure.verification import Answer, Reach, Region, answer, by_chunks

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

    return by_chunks(samples, chunk, one)


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
