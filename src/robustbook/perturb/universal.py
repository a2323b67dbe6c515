"""Universal adversarial perturbation: one pattern, added to every image, that changes
as many answers as it can.

Read `universal_perturbation` (the pattern), then `apply` (images with it).
"""

from __future__ import annotations

from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.draws import order, uniform
from robustbook.models.network import (
    CHUNK,
    ModuleNetwork,
    Objective,
    beside,
    frozen,
)
from robustbook.perturb.ascent import rows_of
from robustbook.perturb.gradient import cross_entropy


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
    the step shrinks linearly from `step_size` (pixel units, epsilon / 4 by default).
    The start is random signs drawn from `generator`.

    >>> pattern = universal_perturbation(model, images, labels, epsilon=0.1, epochs=5,
    ...     generator=torch.Generator().manual_seed(0))

    Raises ArgumentError as `ascent.ascend` does, and if `epochs` is less than 1.
    """
    images = checks.images(images)
    targets = rows_of(targets, images)
    epsilon = checks.real(epsilon, "epsilon", at_least=0)
    epochs = checks.whole(epochs, "epochs", at_least=1)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    size = epsilon / 4
    if step_size is not None:
        size = checks.real(step_size, "step_size", at_least=0)
    total, done = epochs * -(-len(images) // chunk), 0
    with frozen(model):
        network, seen = ModuleNetwork(model), beside(model, images)
        pattern = uniform(images.shape[1:], seen, generator, -1, 1).sign_()
        pattern.mul_(epsilon / 2)
        for _ in range(epochs):
            for rows in order(len(images), images, generator).split(chunk):
                raw = seen[rows] + pattern
                at = network.evaluate(raw.clamp(0, 1), targets[rows], objective)
                uphill = (at.gradient * ((raw >= 0) & (raw <= 1))).sum(dim=0)
                moved = size * (1 - done / total) * uphill.sign_()
                pattern = (pattern + moved).clamp_(-epsilon, epsilon)
                done += 1
    return pattern.to(images)


def apply(images: Tensor, pattern: Tensor) -> Tensor:
    """`images` (N, C, H, W) in [0, 1] with the `pattern` (C, H, W) added, cut to
    [0, 1].

    Raises ArgumentError if the shapes do not fit, or either is not finite.
    """
    images = checks.images(images)
    pattern = checks.tensor(pattern, "pattern", dimensions=3)
    if pattern.shape != images.shape[1:]:
        raise ArgumentError("pattern", f"a tensor {tuple(images.shape[1:])}", pattern)
    return (images + pattern.to(images)).clamp(0, 1)
