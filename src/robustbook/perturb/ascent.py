"""One ascent for every gradient attack: a step along the gradient, then back into the
ball and into [0, 1].

Read `walk` first (the loop, for a network or for many posterior samples at once), then
the steps (`SignStep`, `LengthStep`, `MomentumStep`) and the regions (`Box`, `L2Ball`)
that it is made with, then `ascend` (any module, images in chunks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.draws import uniform
from robustbook.models.network import (
    CHUNK,
    Evaluation,
    ModuleNetwork,
    Network,
    Objective,
    beside,
    frozen,
)


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


class Step(Protocol):
    """How points move; it may remember what it saw."""

    def __call__(self, points: Tensor, at: Evaluation) -> Tensor:
        """The moved points; the gradient may be overwritten, `points` not."""

    def take(self, rows: Tensor) -> Step:
        """The same step for some of the points."""


class Region(Protocol):
    """Where points must stay."""

    def project(self, points: Tensor) -> Tensor:
        """The points, those outside moved inside; `points` may be overwritten."""

    def take(self, rows: Tensor) -> Region:
        """The same region for some of the points."""


def walk(
    network: Network,
    points: Tensor,
    targets: Any,
    objective: Objective,
    *,
    steps: int,
    step: Step,
    region: Region,
    observe: Observer | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """Where `points` of `region` are after `steps` steps uphill on the objective.

    `points` are (n, C, H, W), or (S, n, C, H, W) for posterior samples. With an
    observer the last points are evaluated too. It knows the points by `rows` (n,),
    which grow; those that it finishes stay where they are.
    """
    rows = torch.arange(len(points), device=points.device) if rows is None else rows
    done: list[tuple[Tensor, Tensor]] = []
    for _ in range(steps):
        at = network.evaluate(points, targets, objective)
        if observe is not None:
            finished = observe(rows, points, at.logits, at.values)
            if finished is not None and bool(finished.any()):
                done.append((rows[finished], points[finished]))
                left = ~finished
                rows, points, targets = rows[left], points[left], targets[left]
                at = Evaluation(at.gradient[left], at.logits[left], at.values[left])
                step, region = step.take(left), region.take(left)
                if not len(rows):
                    break
        points = region.project(step(points, at))
    if observe is not None and len(rows):
        with torch.no_grad():
            logits = network.logits(points)
            observe(rows, points, logits, objective(logits, targets))
    if not done:
        return points
    done.append((rows, points))
    order = torch.cat([part for part, _ in done]).argsort()
    return torch.cat([part for _, part in done])[order]


# Steps -------------------------------------------------------------------------------


@dataclass
class SignStep:
    """Every pixel moves by `size` (pixel units; one number or (n, 1, 1, 1)) uphill."""

    size: float | Tensor

    def __call__(self, points: Tensor, at: Evaluation) -> Tensor:
        """The moved points."""
        return _move(points, at.gradient.sign_(), self.size)

    def take(self, rows: Tensor) -> SignStep:
        """The step of some of the points."""
        return replace(self, size=of_rows(self.size, rows))


@dataclass
class LengthStep:
    """Every image moves by the length `size` (2-norm) along its gradient."""

    size: float | Tensor

    def __call__(self, points: Tensor, at: Evaluation) -> Tensor:
        """The moved points."""
        return _move(points, at.gradient.div_(norms(at.gradient, 2)), self.size)

    def take(self, rows: Tensor) -> LengthStep:
        """The step of some of the points."""
        return replace(self, size=of_rows(self.size, rows))


@dataclass
class MomentumStep:
    """Moves as `move` does (`SignStep` or `LengthStep`), along a velocity in place of
    the gradient: `decay` times the last one, and the gradient over its 1-norm (Dong et
    al. 2018).
    """

    move: Step
    decay: float = 1.0
    velocity: Tensor | None = None

    def __call__(self, points: Tensor, at: Evaluation) -> Tensor:
        """The moved points."""
        velocity = at.gradient.div_(norms(at.gradient, 1))
        if self.velocity is not None:
            velocity = velocity.add_(self.velocity, alpha=self.decay)
        self.velocity = velocity
        return self.move(points, replace(at, gradient=velocity.clone()))

    def take(self, rows: Tensor) -> MomentumStep:
        """The step of some of the points, with their velocities."""
        velocity = None if self.velocity is None else self.velocity[rows]
        return replace(self, move=self.move.take(rows), velocity=velocity)


def _move(points: Tensor, direction: Tensor, size: float | Tensor) -> Tensor:
    # In the gradient's memory and in one pass over it: many small steps cost as much
    # as the network.
    if isinstance(size, Tensor):
        return torch.addcmul(points, direction, size, out=direction)
    return torch.add(points, direction, alpha=size, out=direction)


def norms(values: Tensor, order: int) -> Tensor:
    """The 1-norm or 2-norm (n, 1, 1, 1) of each row of `values` (n, C, H, W); that of a
    row of zeros counts as 1e-12.
    """
    found = values.flatten(1).norm(p=order, dim=1).clamp_min(1e-12)
    return found.view(-1, *[1] * (values.dim() - 1))


def rows_of(targets: Tensor, images: Tensor, name: str = "targets") -> Tensor:
    """Targets (N, ...) of any kind beside the N `images`; ArgumentError if they are not
    as many.
    """
    if not isinstance(targets, Tensor) or targets.shape[:1] != images.shape[:1]:
        raise ArgumentError(name, f"a tensor ({len(images)}, ...)", targets)
    return targets.detach().to(images.device)


def of_rows(amount: float | Tensor, rows: Tensor | slice) -> float | Tensor:
    """Of one number for all images, or one for each (N, ...), those of some rows."""
    return amount[rows] if isinstance(amount, Tensor) else amount


# Regions -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Box:
    """All points between `low` and `high`, pixel by pixel."""

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, images: Tensor, radius: float | Tensor) -> Self:
        """The L-infinity ball of `radius` around each image, cut to [0, 1]."""
        return cls((images - radius).clamp_(min=0), (images + radius).clamp_(max=1))

    def project(self, points: Tensor) -> Tensor:
        """The points, every pixel cut to the box."""
        return torch.clamp(points, self.low, self.high, out=points)

    def take(self, rows: Tensor) -> Self:
        """The boxes of some of the points."""
        return type(self)(self.low[rows], self.high[rows])


@dataclass(frozen=True, eq=False)
class L2Ball:
    """The L2 ball of `radius` around each image, cut to [0, 1]."""

    images: Tensor
    radius: float | Tensor

    @classmethod
    def around(cls, images: Tensor, radius: float | Tensor) -> Self:
        """The L2 ball of `radius` around each image, cut to [0, 1]."""
        return cls(images, radius)

    def project(self, points: Tensor) -> Tensor:
        """The points, pulled to the ball along the radius and then cut to [0, 1], which
        never leaves the ball of an image in [0, 1].
        """
        offset = points.sub_(self.images)
        share = (self.radius / norms(offset, 2)).clamp_(max=1)
        return offset.mul_(share).add_(self.images).clamp_(0, 1)

    def take(self, rows: Tensor) -> Self:
        """The balls around some of the points."""
        return type(self)(self.images[rows], of_rows(self.radius, rows))


# Any module, in chunks ---------------------------------------------------------------


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
    step: Callable[[float | Tensor], Step] = SignStep,
    ball: type[Box] | type[L2Ball] = Box,
    chunk: int = CHUNK,
) -> Tensor:
    """Last points (N, C, H, W) of projected gradient ascent on `objective`, in the ball
    of radius `epsilon` around `images` (N, C, H, W) and in [0, 1].

    `targets` (N, ...) go to the objective with the logits. `epsilon` and `step_size`
    are in pixel units, one number or one for each image (N,). `starts` (N, C, H, W) are
    projected first; without them the ascent starts at the images. `ball` is the
    L-infinity ball or `L2Ball` (L2), `step` makes the step of a size. An image costs
    `steps` forward and backward passes, and one more forward pass if there is an
    observer, which then sees all `steps` + 1 points. Works in the precision of the
    model; the result has the type of the images. The model's mode and its `.grad`
    fields are left as they were.

    >>> ascend(model, images, labels, margin, epsilon=0.1, steps=10, step_size=0.03)

    Raises ArgumentError if the images are not a floating tensor (N, C, H, W) in [0, 1],
    if `epsilon`, `step_size` or `steps` is negative or not finite, if `starts` have
    another shape than the images, or the model gives anything but finite logits.
    """
    images = checks.images(images)
    if starts is not None:
        starts = checks.tensor(starts, "starts", dimensions=4)
        if starts.shape != images.shape:
            raise ArgumentError("starts", f"a tensor {tuple(images.shape)}", starts)
    return climb(
        checks.network(model),
        images,
        rows_of(targets, images),
        objective,
        epsilon=checks.budget(epsilon, images),
        steps=checks.whole(steps, "steps", at_least=0),
        step_size=checks.budget(step_size, images, "step_size"),
        starts=starts,
        observe=observe,
        step=step,
        ball=ball,
        chunk=checks.whole(chunk, "chunk", at_least=1),
    )


def climb(
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
    step: Callable[[float | Tensor], Step] = SignStep,
    ball: type[Box] | type[L2Ball] = Box,
    chunk: int = CHUNK,
) -> Tensor:
    """`ascend` for arguments that have been checked; no images give none."""
    if not len(images):
        return images.clone()
    starts, ends = images if starts is None else starts, []
    with frozen(model):
        network = ModuleNetwork(model)
        for rows in torch.arange(len(images), device=images.device).split(chunk):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            centre = beside(model, images[part])
            region = ball.around(centre, _beside(epsilon, centre, part))
            end = walk(
                network,
                region.project(starts[part].to(centre, copy=True)),
                targets[part],
                objective,
                steps=steps,
                step=step(_beside(step_size, centre, part)),
                region=region,
                observe=observe,
                rows=rows,
            )
            ends.append(end)
    found = torch.cat(ends)
    if found.dtype == images.dtype:
        return found
    # Rounded to the model's precision, points may be just outside.
    radius = _beside(epsilon, images, slice(None))
    return ball.around(images, radius).project(found.to(images))


def as_given(found: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Points found in the model's precision in that of `images`: rounded, they may be
    just outside the L-infinity ball, and are pulled back.
    """
    if found.dtype == images.dtype:
        return found
    return Box.around(images, epsilon).project(found.to(images))


def _beside(amount: float | Tensor, images: Tensor, part: slice) -> float | Tensor:
    """`amount` in a form that multiplies `images`: one number, or (n, 1, 1, 1)."""
    amount = of_rows(amount, part)
    return amount.to(images).view(-1, 1, 1, 1) if isinstance(amount, Tensor) else amount


def random_starts(
    images: Tensor, epsilon: float | Tensor, generator: Generator
) -> Tensor:
    """Uniform points (N, C, H, W) of the L-infinity balls of radius `epsilon` (one, or
    (N,)) around `images`, not yet cut to [0, 1].

    The numbers are drawn on the generator's device, so a CPU generator gives the same
    starts on every device. Raises ArgumentError as `ascend` does.
    """
    images = checks.images(images)
    radius = _beside(checks.budget(epsilon, images), images, slice(None))
    return uniform(images.shape, images, generator, -1, 1).mul_(radius).add_(images)
