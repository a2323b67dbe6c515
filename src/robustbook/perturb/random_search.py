"""A black-box attack by random search over squares: it sees logits alone, so a masked
gradient cannot stop it.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.models.network import CHUNK, compute_logits
from robustbook.perturb.gradient import margin, per_image


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
    most 1 + `queries` forward passes. The result lies in the ball and in [0, 1].

    Raises ValueError if `epsilon` or `queries` is negative.
    """
    radius = per_image(epsilon, images)
    if queries < 0 or not bool((radius >= 0).all()):
        raise ValueError(
            f"epsilon and queries must not be negative, got {epsilon} and {queries}"
        )
    result = images.clone()
    lead = margin(compute_logits(model, images, chunk=chunk), labels)
    for query in range(queries):
        rows = torch.nonzero(lead <= 0).squeeze(1)
        if not len(rows):
            break
        here, size = images[rows], radius[rows].view(-1, 1, 1, 1)
        if query == 0:
            stripes = _signs(
                (len(rows), images.shape[1], 1, images.shape[3]), generator
            ).to(images)
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
    top = torch.randint(
        height - side + 1,
        (count, 1, 1, 1),
        generator=generator,
        device=generator.device,
    )
    left = torch.randint(
        width - side + 1, (count, 1, 1, 1), generator=generator, device=generator.device
    )
    row = torch.arange(height, device=top.device).view(1, 1, -1, 1)
    column = torch.arange(width, device=top.device).view(1, 1, 1, -1)
    square = (
        (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    )
    return square.to(images.device), _signs((count, channels, 1, 1), generator).to(
        images
    )


def _signs(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return (
        2.0 * torch.randint(2, shape, generator=generator, device=generator.device) - 1
    )
