"""ROAD (Rong et al. 2022): removal without a baseline. What is removed is continued
from its neighbours, with a little noise, so that little is left to see where it was.

Read `impute` first, then `road_curves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.saliency import asked, chosen, evaluating
from robustbook.measure.similarity import places
from robustbook.models.network import CHUNK

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
NEAR, DIAGONAL = 1 / 6, 1 / 12
"""Weights of the four nearest neighbours and of the four diagonal ones."""


def impute(
    images: Tensor, known: Tensor, *, generator: Generator, noise: float = 0.01
) -> Tensor:
    """`images` (N, C, H, W) whose pixels outside `known` (N, H, W) are the weighted
    mean of their eight neighbours, solved for all at once, plus Gaussian noise.

    Neighbours beyond the border are left out of the mean, as in the authors' code.
    Raises ArgumentError if an image has no known pixel or `noise` is negative.
    """
    images = checks.images(images)
    known = checks.mask(known, "known", (len(images), *images.shape[2:]))
    noise = checks.real(noise, "noise", at_least=0)
    device = checks.generator(generator).device
    if not bool(known.flatten(1).any(1).all()):
        raise ArgumentError("known", "a mask of at least one pixel each", "an empty")
    drawn = torch.randn(images.shape, generator=generator, device=device)
    pairs = zip(images, known.cpu().numpy(), strict=True)
    filled = torch.stack([_filled(image, mask) for image, mask in pairs])
    noisy = (filled + noise * drawn.to(filled)).clamp(0, 1)
    return torch.where(known[:, None].to(images.device), images, noisy.to(images))


def _filled(image: Tensor, known: np.ndarray) -> Tensor:
    from scipy.sparse import identity
    from scipy.sparse.linalg import spsolve

    values = image.double().cpu().numpy().reshape(len(image), -1)
    kept = known.ravel()
    if kept.all():
        return image
    weights = _neighbours(*known.shape)[~kept]
    system = identity(int((~kept).sum()), format="csc") - weights[:, ~kept].tocsc()
    found = values.copy()
    solved = spsolve(system, weights[:, kept] @ values[:, kept].T)
    found[:, ~kept] = solved.reshape(-1, len(image)).T
    return torch.from_numpy(found.reshape(image.shape)).to(image)


@lru_cache(maxsize=8)
def _neighbours(height: int, width: int):  # type: ignore[no-untyped-def]
    """Weights (pixels, pixels) of the mean of neighbours; every row adds up to 1."""
    from scipy.sparse import coo_array

    rows, columns = np.indices((height, width))
    number = rows * width + columns
    parts = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if down or right:
                there, beside = rows + down, columns + right
                inside = (there >= 0) & (there < height)
                inside &= (beside >= 0) & (beside < width)
                weight = DIAGONAL if down and right else NEAR
                ends = (there * width + beside)[inside]
                parts.append((number[inside], ends, np.full(ends.size, weight)))
    start, end, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    sums = np.bincount(start, weights, height * width)
    shape = (height * width, height * width)
    return coo_array((weights / sums[start], (start, end)), shape).tocsr()


def road_curves(
    model: Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    generator: Generator,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    chunk: int = CHUNK,
) -> Tensor:
    """Probability (N, 1 + shares) of the target class when the `shares` most salient
    pixels by `maps` (N, H, W) are imputed; the first entry is the untouched image.

    Maps give the curve of MoRF, negated maps that of LeRF. Raises ArgumentError if a
    share lies outside (0, 1), and as `impute` does.
    """
    seen = asked(model, images, targets, images)
    order = places(maps)
    if order.shape != (len(images), *images.shape[2:]):
        raise ArgumentError("maps", "of the images' height and width", maps)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    pixels = order[0].numel()
    curves = []
    with evaluating(model, seen.dtype) as network:
        for share in (0.0, *shares):
            part = checks.real(share, "shares", at_least=0, below=1)
            gone = (order < round(part * pixels)).to(images.device)
            filled = impute(images, ~gone, generator=generator, noise=noise)
            answers = [
                chosen(network(some), wanted)
                for some, wanted in zip(
                    filled.to(seen.images).split(chunk),
                    seen.targets.split(chunk),
                    strict=True,
                )
            ]
            curves.append(torch.cat(answers))
    return torch.stack(curves, dim=1)
