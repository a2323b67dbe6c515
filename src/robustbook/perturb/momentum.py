"""Ascent with momentum (Dong et al. 2018), and PGD in the L2 ball (Madry et al. 2018):
`ascent.ascend` with another step or ball.
"""

from __future__ import annotations

from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.draws import normal, uniform
from robustbook.models.network import CHUNK
from robustbook.perturb.ascent import (
    L2Ball,
    LengthStep,
    MomentumStep,
    SignStep,
    ascend,
    norms,
)
from robustbook.perturb.gradient import cross_entropy


def momentum(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    decay: float = 1.0,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by the momentum iterative method in the L-infinity ball, from
    the images (Dong et al. 2018): steps along the sign of a velocity, `decay` times the
    last one and the gradient over its 1-norm.

    Shapes, ball, cost and errors as in `gradient.pgd`; `decay` is at least 0.

    >>> momentum(model, images, labels, epsilon=0.1, steps=10, step_size=0.02)
    """
    decay = checks.real(decay, "decay", at_least=0)
    return ascend(
        model,
        images,
        checks.labels(labels, checks.images(images)),
        cross_entropy,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        step=lambda size: MomentumStep(SignStep(size), decay),
        chunk=chunk,
    )


def l2_pgd(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    generator: Generator,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by PGD in the L2 ball of radius `epsilon` (2-norm of the
    change of all pixels), from a random point of it; steps have length `step_size`.

    Shapes, cost and errors as in `gradient.pgd`.

    >>> l2_pgd(model, images, labels, epsilon=1.0, steps=10, step_size=0.3,
    ...     generator=torch.Generator().manual_seed(0))
    """
    images = checks.images(images)
    radius = checks.budget(epsilon, images)
    noise = normal(images.shape, images, generator)
    length = uniform((len(images),), images, generator) * radius
    return ascend(
        model,
        images,
        checks.labels(labels, images),
        cross_entropy,
        epsilon=radius,
        steps=steps,
        step_size=step_size,
        starts=images + length.view(-1, 1, 1, 1) * noise / norms(noise, 2),
        step=LengthStep,
        ball=L2Ball,
        chunk=chunk,
    )
