"""Square Attack: random search over squares (Andriushchenko et al. 2020). It sees
logits alone, so a masked gradient cannot stop it.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import CHUNK, Objective, beside, frozen
from robustbook.perturb.ascent import as_given, rows_of
from robustbook.perturb.gradient import margin

SHRINKS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the area of the squares is halved."""


def square_attack(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    queries: int,
    generator: Generator,
    first_share: float = 0.8,
    objective: Objective = margin,
    targets: Tensor | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by Square Attack in the L-infinity ball.

    `images` (N, C, H, W) in [0, 1], `labels` (N,); the result has the shape of the
    images, lies in the ball of radius `epsilon` (pixel units) and in [0, 1]. It starts
    from random vertical stripes of +-`epsilon`; each further query repaints one random
    square in random colours +-`epsilon` and is kept where the margin max_{i != t} Z_i -
    Z_t grew, or another `objective` of logits and `targets` (the labels unless given).
    The squares cover `first_share` of an image at first. An image stops as soon as the
    objective is above 0, for the margin as soon as it is misclassified, and costs at
    most 1 + `queries` forward passes.

    Raises ArgumentError for images, labels, networks and numbers that it cannot take.

    >>> attacked = square_attack(
    ...     model, images, labels, epsilon=0.1, queries=500, generator=generator
    ... )
    """
    given = checks.images(images)
    images = beside(checks.network(model), given)
    labels = checks.labels(labels, images)
    epsilon = checks.real(epsilon, "epsilon", at_least=0)
    queries = checks.whole(queries, "queries", at_least=0)
    first_share = checks.real(first_share, "first_share", above=0, at_most=1)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    checks.generator(generator)
    targets = labels if targets is None else rows_of(targets, images)
    parts = torch.arange(len(images), device=images.device).split(chunk)
    with frozen(model), torch.no_grad():
        ends = [
            _search(
                model,
                images[rows],
                targets[rows],
                objective,
                epsilon,
                queries,
                generator,
                first_share,
            )
            for rows in parts
        ]
    return as_given(torch.cat(ends), given, epsilon)


def _search(
    model: Module,
    images: Tensor,
    targets: Tensor,
    objective: Objective,
    epsilon: float,
    queries: int,
    generator: Generator,
    first_share: float,
) -> Tensor:
    """One chunk; in each query all of its images are repainted at one place."""
    ends, (count, channels, height, width) = images.clone(), images.shape
    lead = objective(checks.logits(model(images), count), targets)
    rows = torch.nonzero(lead <= 0).squeeze(1)
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    points, low, high, lead = images[rows], low[rows], high[rows], lead[rows]
    whole = (..., slice(None), slice(None))
    for query in range(queries):
        if not len(rows):
            break
        if query == 0:
            place, shape = whole, (len(rows), channels, 1, width)
        else:
            side = square_side((height, width), first_share, query / queries)
            top, left = (
                _below(height - side + 1, generator),
                _below(width - side + 1, generator),
            )
            place = (..., slice(top, top + side), slice(left, left + side))
            shape = (len(rows), channels, 1, 1)
        up = torch.randint(2, shape, generator=generator, device=generator.device)
        tried = points.clone()
        tried[place] = torch.where(up.to(images.device) > 0, high[place], low[place])
        found = objective(model(tried), targets[rows])
        better = (found > lead) | (query == 0)
        points[better], lead = tried[better], torch.where(better, found, lead)
        if bool((lead > 0).any()):
            ends[rows[lead > 0]] = points[lead > 0]
            left_over = lead <= 0
            rows, points, lead = rows[left_over], points[left_over], lead[left_over]
            low, high = low[left_over], high[left_over]
    ends[rows] = points
    return ends


def square_side(shape: tuple[int, int], first_share: float, progress: float) -> int:
    """Side in pixels of the squares when a share `progress` of the queries is spent.

    >>> square_side((28, 28), 0.8, 0.0), square_side((28, 28), 0.8, 0.3)
    (25, 3)
    """
    height, width = checks.sides(shape, "shape", 2)
    first_share = checks.real(first_share, "first_share", above=0, at_most=1)
    progress = checks.real(progress, "progress", at_least=0, at_most=1)
    share = first_share / 2 ** sum(10_000 * progress > query for query in SHRINKS)
    return max(1, min(round((share * height * width) ** 0.5), height, width))


def _below(end: int, generator: Generator) -> int:
    """A random whole number from 0 to `end` - 1."""
    return int(torch.randint(end, (), generator=generator, device=generator.device))
