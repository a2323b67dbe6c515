"""A black-box attack by random search over squares: it sees logits alone, so a masked
gradient cannot stop it.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.draws import signs, whole
from robustbook.models.network import CHUNK, compute_logits
from robustbook.perturb.ascent import of_rows
from robustbook.perturb.gradient import margin


def random_search(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Tensor,
    queries: int,
    generator: Generator,
    first_share: float = 0.3,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images by random search in the L-infinity ball (a short form of
    Square, Andriushchenko et al. 2020).

    Starts from random vertical stripes of +-`epsilon`; each further query repaints one
    random square per image in random colours +-`epsilon` and keeps it if the margin
    max_{i != t} Z_i - Z_t grew. The squares cover `first_share` of the image at first
    and shrink to one pixel. An image stops as soon as it is misclassified and costs at
    most 1 + `queries` forward passes. Shapes and ball as in `gradient.pgd`.

    >>> random_search(model, images, labels, epsilon=0.1, queries=300,
    ...     generator=torch.Generator().manual_seed(0))

    Raises ArgumentError as `gradient.pgd` does, if `queries` is negative or
    `first_share` is not in (0, 1].
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    radius = checks.budget(epsilon, images)
    checks.whole(queries, "queries", at_least=0)
    checks.real(first_share, "first_share", above=0, at_most=1)
    checks.generator(generator)
    result = images.clone()
    lead = margin(compute_logits(model, images, chunk=chunk), labels)
    for query in range(queries):
        rows = torch.nonzero(lead <= 0).squeeze(1)
        if not len(rows):
            break
        here, size = images[rows], of_rows(radius, rows)
        size = size.view(-1, 1, 1, 1) if isinstance(size, Tensor) else size
        if query == 0:
            shape = (len(rows), images.shape[1], 1, images.shape[3])
            stripes = signs(shape, images, generator)
            points = (here + size * stripes).clamp(0, 1)
        else:
            side = _side(images.shape[-2:], first_share, query / queries)
            square, colour = _squares(here, side, generator)
            points = torch.where(
                square, (here + size * colour).clamp(0, 1), result[rows]
            )
        new = margin(compute_logits(model, points, chunk=chunk), labels[rows])
        better = (new > lead[rows]) | (query == 0)
        update = rows[better]
        result[update], lead[update] = points[better], new[better]
    return result


def _side(shape: torch.Size, first_share: float, progress: float) -> int:
    """Side in pixels of the squares: their area falls from `first_share` of the image,
    faster at first.
    """
    height, width = shape
    share = first_share * 0.5 ** (10 * progress)
    return max(1, min(round((share * height * width) ** 0.5), height, width))


def _squares(images: Tensor, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Masks (n, 1, H, W) of one random square each, and their colours (n, C, 1, 1), -1
    or 1.
    """
    count, channels, height, width = images.shape
    top = whole((count, 1, 1, 1), height - side + 1, images, generator)
    left = whole((count, 1, 1, 1), width - side + 1, images, generator)
    row = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    column = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    square = (
        (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    )
    return square, signs((count, channels, 1, 1), images, generator)
