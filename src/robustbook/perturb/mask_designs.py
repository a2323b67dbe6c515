"""Masks of RISE drawn so that fewer of them do: in pairs that cover complements, or so
that every cell is shown equally often.

Each mask alone has the distribution of `masks.draw_masks`, so that RISE's map is the
same in expectation; only its Monte-Carlo noise is another.
"""

from __future__ import annotations

import math

import torch
from torch import Generator

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.perturb.masks import RiseMasks, draw_masks


def antithetic_masks(
    count: int, shape: tuple[int, int], *, cells: int, generator: Generator
) -> RiseMasks:
    """`count` masks that show a pixel with probability 1/2; the second of each pair
    shows what the first one covers, at the same place.

    >>> generator = torch.Generator().manual_seed(0)
    >>> pair = antithetic_masks(2, (8, 8), cells=2, generator=generator).render(0, 2)
    >>> bool(torch.allclose(pair.sum(0), torch.ones(1, 8, 8)))
    True

    Raises ArgumentError if `count` is odd, and as `draw_masks` does.
    """
    if checks.whole(count, "count", at_least=2) % 2:
        raise ArgumentError("count", "an even number", count)
    drawn = draw_masks(
        count // 2, shape, cells=cells, probability=0.5, generator=generator
    )
    grids = torch.stack([drawn.grids, 1 - drawn.grids], dim=1).flatten(0, 1)
    return RiseMasks(grids, drawn.shifts.repeat_interleave(2, 0), drawn.shape, 0.5)


def balanced_masks(
    count: int,
    shape: tuple[int, int],
    *,
    cells: int,
    probability: float,
    generator: Generator,
) -> RiseMasks:
    """`count` masks of which the same number, `count` times `probability` rounded, show
    each cell, and of which every shift is equally frequent.

    >>> generator = torch.Generator().manual_seed(0)
    >>> masks = balanced_masks(
    ...     6, (8, 8), cells=2, probability=0.5, generator=generator
    ... )
    >>> masks.grids.sum(0)
    tensor([[3., 3.],
            [3., 3.]])

    Raises ArgumentError as `draw_masks` does.
    """
    drawn = draw_masks(
        count, shape, cells=cells, probability=probability, generator=generator
    )
    device = drawn.grids.device
    random = torch.rand(drawn.grids.shape, generator=generator, device=device)
    shown = random.argsort(0).argsort(0) < round(count * probability)
    shifts = torch.stack(
        [
            torch.randperm(count, generator=generator, device=device)
            % math.ceil(side / cells)
            for side in drawn.shape
        ],
        dim=1,
    )
    return RiseMasks(shown.float(), shifts, drawn.shape, probability)
