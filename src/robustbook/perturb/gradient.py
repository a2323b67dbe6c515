"""Gradient attacks inside an L-infinity ball: `ascent.ascend` with one loss or another.

Read `fgsm`, `bim` and `pgd` first, then `margin_pgd`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import CHUNK, Objective, compute_logits
from robustbook.perturb.ascent import ascend, climb, of_rows, random_starts, rows_of


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (n,) of `logits` (n, K) at `labels` (n,), in nats."""
    labels = _labels(labels, logits)
    return F.cross_entropy(logits, labels, reduction="none")


def _labels(labels: Tensor, logits: Tensor) -> Tensor:
    checks.tensor(logits, "logits")
    return checks.labels_of(labels, logits)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{i != t} Z_i - Z_t (...) of `logits` (..., K) at `labels` t (...): positive
    where the prediction is wrong (Carlini & Wagner 2017, f6, no floor).
    """
    own = _labels(labels, logits)[..., None]
    others = logits.scatter(-1, own, -torch.inf)
    return others.amax(dim=-1) - logits.gather(-1, own).squeeze(-1)


def fgsm(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by one step along the sign of the cross-entropy's gradient
    (Goodfellow et al. 2015).

    Shapes, ball, and errors as in `pgd`; one forward and one backward pass an image.

    >>> fgsm(model, images, labels, epsilon=8 / 255)
    """
    return ascend(
        model,
        images,
        checks.labels(labels, checks.images(images)),
        cross_entropy,
        epsilon=epsilon,
        steps=1,
        step_size=epsilon,
        chunk=chunk,
    )


def bim(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by the basic iterative method (Kurakin et al. 2017): PGD that
    starts at the images.

    Shapes, ball and errors as in `pgd`; `steps` forward and backward passes an image.

    >>> bim(model, images, labels, epsilon=0.1, steps=10, step_size=0.02)
    """
    return ascend(
        model,
        images,
        checks.labels(labels, checks.images(images)),
        cross_entropy,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        chunk=chunk,
    )


def pgd(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    generator: Generator,
    restarts: int = 1,
    stop_when_fooled: bool = False,
    objective: Objective = cross_entropy,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by projected gradient ascent on the cross-entropy (Madry et
    al. 2018, eq. 2.1).

    `images` (N, C, H, W) in [0, 1], `labels` (N,); the result has the shape of the
    images, lies in the L-infinity ball of radius `epsilon` (pixel units) around them
    and in [0, 1]. Each of the `restarts` starts at a uniform point of the ball drawn
    from `generator` and moves `steps` times by `step_size` along the sign of the
    gradient. Of several restarts an image keeps the end point with the highest
    objective, a misclassified one before any other. `stop_when_fooled` leaves an image
    as soon as it is misclassified: right for robust accuracy, not for losses.

    >>> seeded = torch.Generator().manual_seed(0)
    >>> pgd(model, images, labels, epsilon=0.3, steps=40, step_size=0.01,
    ...     generator=seeded)

    Raises ArgumentError as `ascend` does, if `labels` are not whole numbers (N,) below
    K, if `restarts` is less than 1 or there is no generator.
    """
    images = checks.images(images)
    restarts = checks.whole(restarts, "restarts", at_least=1)
    if objective in (cross_entropy, margin) or restarts > 1 or stop_when_fooled:
        labels = checks.labels(labels, images)
    labels = rows_of(labels, images)
    steps = checks.whole(steps, "steps", at_least=0)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    radius = checks.budget(epsilon, images)
    size = checks.budget(step_size, images, "step_size")
    run = _until_fooled if stop_when_fooled else climb

    def attack(rows: Tensor | slice) -> Tensor:
        return run(
            model,
            images[rows],
            labels[rows],
            objective,
            epsilon=of_rows(radius, rows),
            steps=steps,
            step_size=of_rows(size, rows),
            starts=random_starts(images, radius, generator)[rows],
            chunk=chunk,
        )

    best = attack(slice(None))
    if restarts == 1:
        return best
    rows = torch.arange(len(images), device=images.device)
    fooled, values = _outcome(model, best, labels, objective, chunk)
    for _ in range(restarts - 1):
        rows = torch.nonzero(~fooled).squeeze(1) if stop_when_fooled else rows
        points = attack(rows)
        if not len(rows):
            continue  # numbers are drawn all the same: a restart changes no later one
        now_fooled, now_values = _outcome(model, points, labels[rows], objective, chunk)
        better = torch.where(
            now_fooled == fooled[rows], now_values > values[rows], now_fooled
        )
        update = rows[better]
        best[update], fooled[update], values[update] = (
            points[better],
            now_fooled[better],
            now_values[better],
        )
    return best


def _until_fooled(
    model: Module,
    images: Tensor,
    labels: Tensor,
    objective: Objective,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    starts: Tensor,
    chunk: int,
) -> Tensor:
    """`ascend`, but an image stays at its first misclassified point.

    After 4, 12, 28 ... steps the images that are left are packed into full chunks
    again, at one forward pass each.
    """
    ends, done, segment = starts.clone(), 0, 4
    rows = torch.arange(len(images), device=images.device)
    while len(rows) and (done < steps or done == 0):
        count = min(segment, steps - done)
        fooled = _Fooled(labels[rows])
        ends[rows] = climb(
            model,
            images[rows],
            labels[rows],
            objective,
            epsilon=of_rows(epsilon, rows),
            steps=count,
            step_size=of_rows(step_size, rows),
            starts=ends[rows],
            observe=fooled,
            chunk=chunk,
        )
        rows, done, segment = rows[~fooled.mask], done + max(count, 1), 2 * segment
    return ends


class _Fooled:
    """Observer that finishes misclassified rows; `mask` (N,) says which those are."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.mask = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)

    def __call__(
        self, rows: Tensor, points: Tensor, logits: Tensor, values: Tensor
    ) -> Tensor:
        now = logits.argmax(dim=1) != self.labels[rows]
        self.mask[rows] = now
        return now


def _outcome(
    model: Module, points: Tensor, labels: Tensor, objective: Objective, chunk: int
) -> tuple[Tensor, Tensor]:
    """Whether each point is misclassified (n,), and the objective there (n,)."""
    logits = compute_logits(model, points, chunk=chunk)
    return logits.argmax(dim=1) != labels, objective(logits, labels)


def margin_pgd(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    generator: Generator,
    restarts: int = 1,
    stop_when_fooled: bool = False,
    chunk: int = CHUNK,
) -> Tensor:
    """`pgd` on the margin max_{i != t} Z_i - Z_t: the Carlini-Wagner loss in an
    L-infinity ball (Madry et al. 2018).

    The margin does not saturate where the softmax does, so scaled logits do not mask
    its gradient. Shapes, ball, cost and errors as in `pgd`.

    >>> margin_pgd(model, images, labels, epsilon=0.3, steps=40, step_size=0.01,
    ...     generator=torch.Generator().manual_seed(0))
    """
    return pgd(
        model,
        images,
        labels,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        generator=generator,
        restarts=restarts,
        stop_when_fooled=stop_when_fooled,
        objective=margin,
        chunk=chunk,
    )
