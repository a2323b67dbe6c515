"""Universal adversarial perturbation: one pattern, added to every image, that changes
as many answers as it can.

Read `universal_perturbation` (the pattern), then `apply` (images with it).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.errors import ParameterError
from robustbook.models.network import CHUNK, frozen
from robustbook.perturb.gradient import Objective, cross_entropy


def universal_perturbation(
    model: Module,
    images: Tensor,
    targets: Tensor,
    *,
    epsilon: float,
    epochs: int,
    generator: Generator,
    objective: Objective = cross_entropy,
    step_size: float | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """One perturbation (C, H, W) with every pixel in [-epsilon, epsilon] that makes the
    mean `objective` over `images` large.

    Stochastic ascent along the sign of the mean gradient (Shafahi et al. 2020) after
    Moosavi-Dezfooli et al. (2017), who attack image by image instead. `images` (N, C,
    H, W) in [0, 1] and `targets` (N, ...) are the ones it is made from; measure it on
    others. Each of `epochs` passes costs one forward and one backward pass an image;
    the step shrinks linearly from `step_size` (epsilon / 4 by default). The start is
    random signs drawn from `generator`.

    Raises ParameterError if `epsilon` is negative, `epochs` is less than 1 or there are
    no images.
    """
    if epsilon < 0 or epochs < 1 or not len(images):
        raise ParameterError(
            f"epsilon must not be negative and epochs at least 1, got {epsilon} and "
            f"{epochs} for {len(images)} images"
        )
    step_size = epsilon / 4 if step_size is None else step_size
    pattern = (
        epsilon
        / 2
        * torch.empty(images.shape[1:])
        .uniform_(-1, 1, generator=generator)
        .sign_()
        .to(images)
    )
    total, done = epochs * -(-len(images) // chunk), 0
    with frozen(model):
        for _ in range(epochs):
            for rows in torch.randperm(len(images), generator=generator).split(chunk):
                leaf = pattern.detach().requires_grad_()
                value = objective(
                    model((images[rows] + leaf).clamp(0, 1)), targets[rows]
                ).mean()
                (gradient,) = torch.autograd.grad(value, leaf)
                pattern = (
                    pattern + step_size * (1 - done / total) * gradient.sign()
                ).clamp(-epsilon, epsilon)
                done += 1
    return pattern.detach()


def apply(images: Tensor, pattern: Tensor) -> Tensor:
    """`images` (N, C, H, W) with the `pattern` (C, H, W) added, cut to [0, 1]."""
    return (images + pattern).clamp(0, 1)
