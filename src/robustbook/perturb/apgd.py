"""Auto-PGD: gradient ascent that sets its own step size (Croce and Hein 2020,
algorithm 1), on the cross-entropy and, class by class, on the difference-of-logits
ratio.

Read `apgd` first (one ascent), then `apgd_targeted` (one ascent for every wrong class),
then `targeted_ratio`, what that one makes large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import (
    CHUNK,
    Objective,
    beside,
    compute_logits,
    frozen,
)
from robustbook.perturb.ascent import as_given, random_starts, rows_of
from robustbook.perturb.gradient import cross_entropy

MOMENTUM = 0.75
"""Weight of the new step against the last move (alpha of the paper)."""
ENOUGH_RISES = 0.75
"""The step is halved where fewer than this share of the last steps rose (rho)."""


def checkpoints(steps: int) -> list[int]:
    """Steps after which the step size may be halved, closer and closer together.

    The gaps are 0.22 of all steps at first, each 0.03 shorter than the one before, 0.06
    at least (Croce and Hein 2020, section 3).

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    steps, places = checks.whole(steps, "steps", at_least=1), []
    last, gap = 0.0, 0.22
    while last + gap <= 1:
        last += gap
        places.append(math.ceil(round(last * steps, 6)))
        gap = max(gap - 0.03, 0.06)
    return places


def targeted_ratio(logits: Tensor, classes: Tensor) -> Tensor:
    """Difference-of-logits ratio (n,) of `logits` (n, K) towards one wrong class.

    (Z_w - Z_t) / (Z_1st - (Z_3rd + Z_4th) / 2), for `classes` (n, 2) with the true
    class t and the wrong class w: positive where w beats t, unchanged when all logits
    are shifted or scaled (Croce and Hein 2020, equation 8). Of three classes the third
    stands for the fourth too; two leave the difference, since its ratio is constant.
    """
    checks.tensor(logits, "logits", dimensions=2)
    pairs = logits[:, None].expand(-1, 2, -1)
    classes = checks.labels_of(classes, pairs, name="classes")
    chosen = logits.gather(1, classes)
    difference = chosen[:, 1] - chosen[:, 0]
    if logits.shape[1] < 3:
        return difference
    top = logits.topk(min(4, logits.shape[1]), dim=1).values
    return difference / (top[:, 0] - (top[:, 2] + top[:, -1]) / 2).clamp_min(1e-12)


def apgd(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 100,
    generator: Generator,
    objective: Objective = cross_entropy,
    targets: Tensor | None = None,
    starts: Tensor | None = None,
    stop_when_fooled: bool = True,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by Auto-PGD in the L-infinity ball (Croce and Hein 2020,
    algorithm 1).

    `images` (N, C, H, W) in [0, 1], `labels` (N,); the result has the shape of the
    images, lies in the ball of radius `epsilon` (pixel units) and in [0, 1]. The ascent
    on `objective` (of logits and `targets`, the labels unless given) starts at a random
    point, or at `starts`, with steps of 2 `epsilon` and halves them, going back to the
    best point, where progress stalls. An image stops as soon as it is misclassified
    (never with `stop_when_fooled=False`), and costs at most `steps` + 1 forward and
    `steps` backward passes.

    Raises ArgumentError for images, labels, networks and numbers that it cannot take.

    >>> attacked = apgd(model, images, labels, epsilon=0.1, generator=generator)
    """
    given = checks.images(images)
    images = beside(checks.network(model), given)
    labels = checks.labels(labels, images)
    epsilon = checks.real(epsilon, "epsilon", at_least=0)
    steps = checks.whole(steps, "steps", at_least=1)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    checks.generator(generator)
    targets = labels if targets is None else rows_of(targets, images)
    if starts is None:
        starts = random_starts(images, epsilon, generator)
    starts = rows_of(checks.tensor(starts, "starts", dimensions=4), images, "starts")
    starts = starts.to(images)
    starts = torch.clamp(starts, images - epsilon, images + epsilon).clamp(0, 1)
    parts = torch.arange(len(images), device=images.device).split(chunk)
    with frozen(model):
        ends = [
            _Ascent(
                model,
                images[rows],
                labels[rows],
                targets[rows],
                objective,
                epsilon,
                stop_when_fooled,
            ).run(starts[rows], steps)
            for rows in parts
        ]
    return as_given(torch.cat(ends), given, epsilon)


@dataclass
class _Ascent:
    """One chunk of images on its way; `live` (n,) are those not yet misclassified."""

    model: Module
    images: Tensor
    labels: Tensor
    targets: Tensor
    objective: Objective
    epsilon: float
    stop_when_fooled: bool

    def run(self, starts: Tensor, steps: int) -> Tensor:
        """Where each image ends: its first misclassified point, else its best one."""
        ends = starts.clone()
        rows = torch.arange(len(starts), device=starts.device)
        low = (self.images - self.epsilon).clamp_min(0)
        high = (self.images + self.epsilon).clamp_max(1)
        points, last = starts, starts
        gradient, value, fooled = self._at(points, rows)
        best, best_point, best_gradient = value, points.clone(), gradient.clone()
        size = torch.full_like(value, 2 * self.epsilon)
        rises, kept = torch.zeros_like(value), torch.zeros_like(fooled)
        before = best
        halvings, since = checkpoints(steps), 0
        for step in range(1, steps + 1):
            if bool(fooled.any()):
                ends[rows[fooled]] = points[fooled]
                left = ~fooled
                rows, low, high, points, last, gradient, value = _pick(
                    left, rows, low, high, points, last, gradient, value
                )
                best, best_point, best_gradient, size, rises, kept, before = _pick(
                    left,
                    best,
                    best_point,
                    best_gradient,
                    size,
                    rises,
                    kept,
                    before,
                )
                if not len(rows):
                    return ends
            ahead = gradient.sign_().mul_(_wide(size)).add_(points)
            torch.clamp(ahead, low, high, out=ahead)
            if step > 1:
                ahead.mul_(MOMENTUM).add_(points, alpha=2 * (1 - MOMENTUM))
                ahead.sub_(last, alpha=1 - MOMENTUM)
                torch.clamp(ahead, low, high, out=ahead)
            last, points = points, ahead
            old = value
            gradient, value, fooled = self._at(points, rows)
            rises += value > old
            better = value > best
            best = torch.where(better, value, best)
            best_point[better] = points[better]
            best_gradient[better] = gradient[better]
            if step in halvings:
                stalled = rises < ENOUGH_RISES * (step - since)
                stalled |= ~kept & (best <= before)
                size = torch.where(stalled, size / 2, size)
                back = _wide(stalled & ~fooled)
                points = torch.where(back, best_point, points)
                gradient = torch.where(back, best_gradient, gradient)
                value = torch.where(stalled & ~fooled, best, value)
                kept, before, since = stalled, best, step
                rises = torch.zeros_like(rises)
        ends[rows] = torch.where(_wide(fooled), points, best_point)
        return ends

    def _at(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient and value of the objective, and whether the answer is wrong."""
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = checks.logits(self.model(leaf), len(leaf))
            values = self.objective(logits, self.targets[rows])
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        fooled = (logits.argmax(1) != self.labels[rows]) & self.stop_when_fooled
        return gradient, values.detach(), fooled


def _pick(rows: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [tensor[rows] for tensor in tensors]


def _wide(values: Tensor) -> Tensor:
    """Values (n,) in the form (n, 1, 1, 1) that meets images."""
    return values.view(-1, 1, 1, 1)


def apgd_targeted(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 100,
    classes: int = 9,
    generator: Generator,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by `apgd` on `targeted_ratio`, one ascent for each of the
    `classes` wrong classes with the largest logits (APGD-T of Croce and Hein 2020).

    Shapes, ball and errors as in `apgd`. The next class is tried on the images that no
    class before it has misclassified; those that none does end where the last one did.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    classes = checks.whole(classes, "classes", at_least=1)
    logits = checks.logits(compute_logits(model, images, chunk=chunk), len(images))
    labels = checks.labels(labels, images, logits.shape[1])
    order = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
    ends, rows = images.clone(), torch.nonzero(logits.argmax(1) == labels).squeeze(1)
    for wrong in order[:, : min(classes, logits.shape[1] - 1)].T:
        if not len(rows):
            break
        ends[rows] = apgd(
            model,
            images[rows],
            labels[rows],
            epsilon=epsilon,
            steps=steps,
            generator=generator,
            objective=targeted_ratio,
            targets=torch.stack([labels[rows], wrong[rows]], dim=1),
            chunk=chunk,
        )
        answers = compute_logits(model, ends[rows], chunk=chunk).argmax(1)
        rows = rows[answers == labels[rows]]
    return ends
