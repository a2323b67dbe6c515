"""Ascent with momentum, in the L-infinity or the L2 ball: what `gradient.ascend` does
not do.

Read `climb` first (the loop), then `momentum` (Dong et al. 2018) and `l2_pgd` (Madry et
al. 2018 in L2).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.errors import ParameterError
from robustbook.models.network import CHUNK, frozen
from robustbook.perturb.gradient import Objective, cross_entropy

Norm = Literal["linf", "l2"]


def climb(
    model: Module,
    images: Tensor,
    labels: Tensor,
    objective: Objective = cross_entropy,
    *,
    norm: Norm,
    epsilon: float,
    steps: int,
    step_size: float,
    decay: float = 0.0,
    starts: Tensor | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Last points (N, C, H, W) of projected ascent on `objective` in the ball of radius
    `epsilon` and in [0, 1].

    Each step adds the gradient, divided by its L1 norm, to `decay` times the velocity
    and moves by `step_size` along the velocity's sign (linf) or the velocity over its
    length (l2). Lengths are in pixel units. An image costs `steps` forward and backward
    passes. The model's mode and its `.grad` fields are left as they were.

    Raises ParameterError if a number is negative or the norm is unknown.
    """
    if min(epsilon, steps, step_size, decay) < 0 or norm not in ("linf", "l2"):
        raise ParameterError(
            "epsilon, steps, step_size and decay must not be negative, norm must be "
            "linf or l2"
        )
    points = images if starts is None else starts
    ends = []
    with frozen(model):
        for start, centre, classes in zip(
            points.split(chunk), images.split(chunk), labels.split(chunk), strict=True
        ):
            moving, velocity = (
                _project(start, centre, epsilon, norm),
                torch.zeros_like(centre),
            )
            for _ in range(steps):
                leaf = moving.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(
                    objective(model(leaf), classes).sum(), leaf
                )
                velocity = decay * velocity + gradient / _size(gradient, 1)
                direction = (
                    velocity.sign() if norm == "linf" else velocity / _size(velocity, 2)
                )
                moving = _project(moving + step_size * direction, centre, epsilon, norm)
            ends.append(moving.detach())
    return torch.cat(ends)


def _size(values: Tensor, order: int) -> Tensor:
    """The L1 or L2 norm of each row of `values` (n, ...), beside them; a zero row
    counts as 1e-12.
    """
    norms = values.flatten(1).norm(p=order, dim=1).clamp_min(1e-12)
    return norms.view(-1, *[1] * (values.dim() - 1))


def _project(points: Tensor, centre: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Points in the ball around `centre` and in [0, 1]; cutting to [0, 1] never leaves
    the ball of an image in it.
    """
    offset = points - centre
    offset = (
        offset.clamp(-epsilon, epsilon)
        if norm == "linf"
        else offset * (epsilon / _size(offset, 2)).clamp(max=1)
    )
    return (centre + offset).clamp(0, 1)


def momentum(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    decay: float = 1.0,
) -> Tensor:
    """The momentum iterative method in the L-infinity ball, from the images (Dong et
    al. 2018); errors as in `climb`.
    """
    return climb(
        model,
        images,
        labels,
        norm="linf",
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        decay=decay,
    )


def l2_pgd(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    generator: Generator,
) -> Tensor:
    """PGD in the L2 ball of radius `epsilon`, from a random point of it; errors as in
    `climb`.
    """
    noise = torch.randn(images.shape, generator=generator)
    length = torch.rand(len(images), generator=generator).view(-1, 1, 1, 1) * epsilon
    starts = images + length * noise / _size(noise, 2)
    return climb(
        model,
        images,
        labels,
        norm="l2",
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        starts=starts,
    )
