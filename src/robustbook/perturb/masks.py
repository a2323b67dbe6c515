"""The random masks of RISE (Petsiuk et al. 2018): a coarse grid of zeros and ones,
enlarged and shifted.

Read `RiseMasks` first (a recipe, not pixels: memory does not grow with the number of
masks), then `draw_masks`, then `blend`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustbook.errors import UserError


class MaskError(UserError):
    """Settings with which no masks can be drawn."""


@dataclass(frozen=True, eq=False)
class RiseMasks:
    """N masks for images of `shape` (H, W): `grids` (N, s, s) of zeros and ones,
    `shifts` (N, 2) in pixels.

    `probability` is the share of ones that was asked for. Pixels are made a chunk at a
    time by `render`.
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
        rows, columns = self._crops(start, stop)
        return (rows @ self.grids[start:stop] @ columns.transpose(1, 2))[:, None]

    def weighted_sum(self, weights: Tensor, start: int, stop: int) -> Tensor:
        """Sums (P, H, W) of masks `start` to `stop`, each with its weights (P, stop -
        start).
        """
        return torch.einsum("pn,nhw->phw", weights, self.render(start, stop)[:, 0])

    def _crops(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        cells = self.grids.shape[-1]
        found = []
        for axis, side in enumerate(self.shape):
            window = torch.arange(side)
            found.append(
                _enlargement(cells, side)[self.shifts[start:stop, axis, None] + window]
            )
        return found[0], found[1]


def _enlargement(cells: int, side: int) -> Tensor:
    """Matrix ((cells + 1) * cell, cells) of bilinear interpolation from a grid to
    pixels, without anti-aliasing.
    """
    length = (cells + 1) * math.ceil(side / cells)
    places = ((torch.arange(length) + 0.5) * cells / length - 0.5).clamp(0, cells - 1)
    lower = places.floor().long().clamp(max=max(cells - 2, 0))
    upper = (lower + 1).clamp(max=cells - 1)
    share = places - lower
    matrix = torch.zeros(length, cells)
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
    cell 1 with `probability`.

    A grid is enlarged to (cells + 1) * ceil(side / cells) pixels and cut out at a
    random place, as in RISE.

    Raises MaskError if `probability` lies outside (0, 1), or `count` or `cells` is less
    than 1, or a cell would be smaller than a pixel.
    """
    if not 0 < probability < 1:
        raise MaskError(f"probability must lie between 0 and 1, got {probability}")
    if count < 1 or not 1 <= cells <= min(shape):
        raise MaskError(
            f"need at least one mask and 1 to {min(shape)} cells, got {count} masks "
            f"of {cells} cells"
        )
    grids = (torch.rand(count, cells, cells, generator=generator) < probability).float()
    shifts = [
        torch.randint(math.ceil(side / cells), (count,), generator=generator)
        for side in shape
    ]
    return RiseMasks(grids, torch.stack(shifts, dim=1), shape, probability)


def blend(images: Tensor, masks: Tensor, baselines: Tensor) -> Tensor:
    """I * M + B * (1 - M), by broadcasting: where the mask is 1 the image stays, where
    it is 0 the baseline shows.
    """
    return torch.addcmul(baselines, masks, images - baselines)
