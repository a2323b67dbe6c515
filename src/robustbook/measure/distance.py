"""How far an image is from the nearest misclassified point that an attack can find, by
bisection over the radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import CHUNK, Objective, compute_logits
from robustbook.perturb.gradient import cross_entropy, pgd


@dataclass(frozen=True)
class Distance:
    """Smallest L-infinity `radius` (N,) at which the attack succeeded; `epsilon_max`
    where `found` (N,) is False.

    `images` (N, C, H, W) are the misclassified points at that radius, the unchanged
    images where none was found.
    """

    radius: Tensor
    found: Tensor
    images: Tensor


def minimal_distance(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon_max: float,
    generator: Generator,
    bisections: int = 8,
    steps: int = 40,
    restarts: int = 1,
    relative_step: float = 0.1,
    objective: Objective = cross_entropy,
    chunk: int = CHUNK,
) -> Distance:
    """Smallest L-infinity radius at which PGD fools the model, image by image (an upper
    bound of the true distance).

    Every image has its own radius: first `epsilon_max`, then `bisections` halvings of
    the interval that holds the smallest one, so the result is within `epsilon_max` / 2
    ** `bisections` of where this attack stops working. The step is `relative_step`
    times the radius. Images that are misclassified as they are have radius 0; a point
    found inside a smaller ball than the one it was looked for in counts with its own
    distance.

    Raises ArgumentError if `epsilon_max` or `bisections` is negative, and as `pgd`
    does.
    """
    images = checks.images(images)
    epsilon_max = checks.real(epsilon_max, "epsilon_max", at_least=0)
    bisections = checks.whole(bisections, "bisections", at_least=0)
    relative_step = checks.real(relative_step, "relative_step", above=0)
    checks.generator(generator)
    logits = checks.logits(compute_logits(model, images, chunk=chunk), len(images))
    labels = checks.labels(labels, images, logits.shape[1])
    wrong = logits.argmax(dim=1) != labels
    low, high = (
        images.new_zeros(len(images)),
        images.new_full((len(images),), epsilon_max),
    )
    high[wrong] = 0
    found, points = wrong.clone(), images.clone()
    for bisection in range(bisections + 1):
        # A point found nearer than any radius that failed leaves nothing to halve.
        rows = torch.nonzero(
            ((found & (low < high)) | (bisection == 0)) & ~wrong
        ).squeeze(1)
        if not len(rows):
            break
        radius = high[rows] if bisection == 0 else (low[rows] + high[rows]) / 2
        attacked = pgd(
            model,
            images[rows],
            labels[rows],
            epsilon=radius,
            steps=steps,
            step_size=relative_step * radius,
            generator=generator,
            restarts=restarts,
            stop_when_fooled=True,
            objective=objective,
            chunk=chunk,
        )
        fooled = (
            compute_logits(model, attacked, chunk=chunk).argmax(dim=1) != labels[rows]
        )
        reached = (attacked[fooled] - images[rows[fooled]]).abs().flatten(1).amax(dim=1)
        nearer = (reached < high[rows[fooled]]) | ~found[rows[fooled]]
        success = rows[fooled][nearer]
        points[success], found[success], high[success] = (
            attacked[fooled][nearer],
            True,
            reached[nearer],
        )
        if bisection > 0:
            low[rows[~fooled]] = radius[~fooled]
    return Distance(high, found, points)
