"""The random masks of RISE (Petsiuk et al. 2018): a coarse grid of zeros and ones,
enlarged and shifted.

Read `RiseMasks` first (a recipe, not pixels: memory does not grow with the number of
masks), then `draw_masks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustbook import checks


@dataclass(frozen=True, eq=False)
class RiseMasks:
    """N masks for images of `shape` (H, W): `grids` (N, s, s) of zeros and ones,
    `shifts` (N, 2) in pixels.

    `probability` is the share of ones that was asked for. Pixels are made a chunk at a
    time by `render`, on the device of the grids.
    """

    grids: Tensor
    shifts: Tensor
    shape: tuple[int, int]
    probability: float

    def __len__(self) -> int:
        return len(self.grids)

    def render(self, start: int, stop: int) -> Tensor:
        """Masks number `start` to `stop` as pixels (stop - start, 1, H, W) in
        [0, 1].
        """
        start = checks.whole(start, "start", at_least=0)
        stop = checks.whole(stop, "stop", at_least=start)
        rows, columns = self._crops(start, stop)
        return (rows @ self.grids[start:stop] @ columns.transpose(1, 2))[:, None]

    def weighted_sum(self, weights: Tensor, start: int, stop: int) -> Tensor:
        """Sums (P, H, W) of masks `start` to `stop`, each with its weights (P, stop -
        start).
        """
        weights = checks.tensor(weights, "weights", dimensions=2)
        pixels = self.render(start, stop)[:, 0].to(weights)
        return torch.einsum("pn,nhw->phw", weights, pixels)

    def _crops(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        shifts = self.shifts[start:stop]
        rows, columns = (
            _enlargement(self.grids, side)[
                shifts[:, axis, None] + torch.arange(side, device=shifts.device)
            ]
            for axis, side in enumerate(self.shape)
        )
        return rows, columns


def _enlargement(grids: Tensor, side: int) -> Tensor:
    """Matrix ((cells + 1) * cell, cells) of bilinear interpolation from a grid to
    pixels, without anti-aliasing.
    """
    cells = grids.shape[-1]
    length = (cells + 1) * math.ceil(side / cells)
    places = torch.arange(length, device=grids.device).to(grids)
    places = ((places + 0.5) * cells / length - 0.5).clamp(0, cells - 1)
    lower = places.floor().long().clamp(max=max(cells - 2, 0))
    upper = (lower + 1).clamp(max=cells - 1)
    share = places - lower
    matrix = grids.new_zeros(length, cells)
    matrix.scatter_add_(1, lower[:, None], (1 - share)[:, None])
    matrix.scatter_add_(1, upper[:, None], share[:, None])
    return matrix


def draw_masks(
    count: int,
    shape: tuple[int, int],
    *,
    cells: int,
    probability: float,
    generator: Generator,
) -> RiseMasks:
    """`count` masks for images of `shape` (H, W) from grids of `cells` x `cells`, each
    cell 1 with `probability`, on the device of `generator`.

    A grid is enlarged to (cells + 1) * ceil(side / cells) pixels and cut out at a
    random place, as in RISE.

    >>> generator = torch.Generator().manual_seed(0)
    >>> masks = draw_masks(5, (8, 8), cells=2, probability=0.5, generator=generator)
    >>> masks.render(0, 5).shape
    torch.Size([5, 1, 8, 8])

    Raises ArgumentError if `probability` lies outside (0, 1), `count` or a side is less
    than 1, or a cell would be smaller than a pixel.
    """
    count = checks.whole(count, "count", at_least=1)
    height, width = checks.sides(shape, "shape", 2)
    cells = checks.whole(cells, "cells", at_least=1, at_most=min(height, width))
    probability = checks.real(probability, "probability", above=0, below=1)
    device = checks.generator(generator).device

    def shifts(side: int) -> Tensor:
        cell = math.ceil(side / cells)
        return torch.randint(cell, (count,), generator=generator, device=device)

    drawn = torch.rand(count, cells, cells, generator=generator, device=device)
    places = torch.stack([shifts(height), shifts(width)], dim=1)
    return RiseMasks(
        (drawn < probability).float(), places, (height, width), probability
    )
