"""Gradient attacks inside an L-infinity ball: one ascent loop, and the attacks that are
that loop with another loss.

Read `ascend` first (steps along the sign of the gradient, projected), then `fgsm`,
`bim`, `pgd` and `margin_pgd`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.models.network import CHUNK, compute_logits, frozen

Objective = Callable[[Tensor, Tensor], Tensor]
"""`(logits (n, K), targets (n, ...)) -> (n,)`: what an ascent makes large, image by
image.
"""


class Observer(Protocol):
    """Sees every point that an ascent evaluates, and may say which rows are
    finished.
    """

    def __call__(
        self, rows: Tensor, points: Tensor, logits: Tensor, values: Tensor
    ) -> Tensor | None:
        """`rows` (n,) index the images; returns a mask (n,) of rows to leave where they
        are, or None to go on.
        """


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (n,) of `logits` (n, K) at `labels` (n,), in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{i != t} Z_i - Z_t (n,): positive where the prediction is wrong (Carlini &
    Wagner 2017, f6, no floor).
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


def ascend(
    model: Module,
    images: Tensor,
    targets: Tensor,
    objective: Objective,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    starts: Tensor | None = None,
    observe: Observer | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Last points (N, C, H, W) of gradient-sign ascent on `objective`, in the
    L-infinity ball and [0, 1].

    The ball is the one around `images` (N, C, H, W) with radius `epsilon`.

    `targets` (N, ...) go to the objective with the logits. `epsilon` and `step_size`
    are in pixel units, one number or one for each image (N,). `starts` (N, C, H, W) are
    projected first; without them the ascent starts at the images. An image costs
    `steps` forward and backward passes, and one more forward pass if there is an
    observer, which then sees all `steps` + 1 points. The model's mode and its `.grad`
    fields are left as they were.

    Raises ValueError if `epsilon`, `step_size` or `steps` is negative or `images` leave
    [0, 1].
    """
    _check(images, steps, epsilon=epsilon, step_size=step_size)
    radius, step = _beside(epsilon, images), _beside(step_size, images)
    low, high = (images - radius).clamp_(min=0), (images + radius).clamp_(max=1)
    ends = torch.clamp(images if starts is None else starts, low, high)
    with frozen(model):
        for rows in torch.arange(len(images), device=images.device).split(chunk):
            _walk(
                model,
                _Batch(rows, ends, low, high, targets, step).where(rows),
                objective,
                steps,
                observe,
                ends,
            )
    return ends


@dataclass
class _Batch:
    """What travels through the ascent together: every field has one row for each of the
    `rows` of the images.
    """

    rows: Tensor
    points: Tensor
    low: Tensor
    high: Tensor
    targets: Tensor
    step: float | Tensor

    def where(self, pick: Tensor) -> _Batch:
        """The rows that `pick` (a mask or indices) names; in the first call the fields
        still hold all images.
        """
        rows = self.rows[pick] if pick.dtype == torch.bool else pick
        step = self.step[pick] if isinstance(self.step, Tensor) else self.step
        return _Batch(
            rows,
            self.points[pick],
            self.low[pick],
            self.high[pick],
            self.targets[pick],
            step,
        )


def _walk(
    model: Module,
    batch: _Batch,
    objective: Objective,
    steps: int,
    observe: Observer | None,
    ends: Tensor,
) -> None:
    """Move one chunk `steps` times and write where each of its rows ended into `ends`
    (N, C, H, W).
    """
    for _ in range(steps):
        gradient, logits, values = _gradient(
            model, batch.points, batch.targets, objective
        )
        finished = (
            observe(batch.rows, batch.points, logits, values)
            if observe is not None
            else None
        )
        if finished is not None and bool(finished.any()):
            ends[batch.rows] = batch.points
            batch, gradient = batch.where(~finished), gradient[~finished]
            if not len(batch.rows):
                return
        moved = gradient.sign_().mul_(batch.step).add_(batch.points)
        batch.points = torch.clamp(moved, batch.low, batch.high, out=moved)
    ends[batch.rows] = batch.points
    if observe is not None:
        with torch.no_grad():
            logits = model(batch.points)
            observe(batch.rows, batch.points, logits, objective(logits, batch.targets))


def _gradient(
    model: Module, points: Tensor, targets: Tensor, objective: Objective
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the objective at `points`, the logits and the objective there, free
    of any graph.
    """
    leaf = points.detach().requires_grad_()
    logits = model(leaf)
    values = objective(logits, targets)
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return gradient, logits.detach(), values.detach()


def random_starts(
    images: Tensor, epsilon: float | Tensor, generator: Generator
) -> Tensor:
    """Uniform points (N, C, H, W) of the L-infinity balls around `images`, not yet cut
    to [0, 1].

    The numbers are drawn on the generator's device, so a CPU generator gives the same
    starts on every device.
    """
    noise = torch.empty(images.shape, device=generator.device).uniform_(
        -1, 1, generator=generator
    )
    return images + noise.to(images.device) * _beside(epsilon, images)


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

    Shapes, ball, and errors as in `ascend`; one forward and one backward pass an image.
    """
    return ascend(
        model,
        images,
        labels,
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

    Shapes, ball and errors as in `ascend`; `steps` forward and backward passes an
    image.
    """
    return ascend(
        model,
        images,
        labels,
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

    Raises ValueError as `ascend` does, and if `restarts` is less than 1.
    """
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    radius, step = per_image(epsilon, images), per_image(step_size, images)

    run = _until_fooled if stop_when_fooled else ascend

    def attack(rows: Tensor) -> Tensor:
        return run(
            model,
            images[rows],
            labels[rows],
            objective,
            epsilon=radius[rows],
            steps=steps,
            step_size=step[rows] if isinstance(step_size, Tensor) else step_size,
            starts=random_starts(images, radius, generator)[rows],
            chunk=chunk,
        )

    rows = torch.arange(len(images), device=images.device)
    best = attack(rows)
    if restarts == 1:
        return best
    fooled, values = _outcome(model, best, labels, objective, chunk)
    for _ in range(restarts - 1):
        rows = torch.nonzero(~fooled).squeeze(1) if stop_when_fooled else rows
        points = attack(rows)
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
    epsilon: Tensor,
    steps: int,
    step_size: float | Tensor,
    starts: Tensor,
    chunk: int,
) -> Tensor:
    """`ascend`, but an image stays at its first misclassified point.

    After 4, 12, 28 ... steps the images that are left are packed into full chunks
    again, at one forward pass each.
    """
    ends, rows, done, segment = (
        starts.clone(),
        torch.arange(len(images), device=images.device),
        0,
        4,
    )
    while len(rows) and (done < steps or done == 0):
        count = min(segment, steps - done)
        fooled = _Fooled(labels[rows])
        ends[rows] = ascend(
            model,
            images[rows],
            labels[rows],
            objective,
            epsilon=epsilon[rows],
            steps=count,
            step_size=step_size[rows] if isinstance(step_size, Tensor) else step_size,
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
    its gradient.
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


def per_image(amount: float | Tensor, images: Tensor) -> Tensor:
    """`amount`, one number or one for each of the N images, as a tensor (N,) beside the
    images.
    """
    return torch.as_tensor(amount, dtype=images.dtype, device=images.device).expand(
        len(images)
    )


def _beside(amount: float | Tensor, images: Tensor) -> float | Tensor:
    """`amount` in a form that multiplies `images` (N, C, H, W): one number, or (N, 1,
    1, 1).
    """
    if not isinstance(amount, Tensor) or amount.dim() == 0:
        return float(amount)
    return amount.to(images).view(-1, *[1] * (images.dim() - 1))


def _check(images: Tensor, steps: int, **amounts: float | Tensor) -> None:
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    for name, amount in amounts.items():
        if not bool((torch.as_tensor(amount) >= 0).all()):
            raise ValueError(f"{name} must not be negative, got {amount}")
    if len(images) and (float(images.min()) < 0 or float(images.max()) > 1):
        raise ValueError(
            f"images must lie in [0, 1], got [{float(images.min())}, "
            f"{float(images.max())}]"
        )
