"""Gaussian low-pass filter of images, its severity a cut-off wavelength in mm, the same
in both directions of any image.

Read `low_pass` first (the filter, everywhere or in a region), then `transfer` and
`smoothing_matrix` (what it is made of).

Two habits of the public code of Makino et al. (2022) are left out on purpose: there the
cut-off is counted in bins of the transform, so that it differs between the sides of an
image that is not square, and grey levels are rescaled to the full range after the
filter, which changes contrast.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.errors import ParameterError

Where = Literal["everywhere", "inside", "outside"]
LEVELS = 4095


def transfer(frequency: NDArray[np.float64], wavelength: float) -> NDArray[np.float64]:
    """Share of an oscillation that the filter lets through: exp(-(f * wavelength)^2 /
    2), f in cycles/mm.

    This is the published exp(-d^2 / (2 r^2)) with the distance d and the cut-off r in
    cycles/mm and wavelength = 1 / r. In the image it is a Gaussian of standard
    deviation wavelength / (2 pi). Raises ParameterError unless `wavelength` is
    positive.
    """
    _check_wavelength(wavelength)
    return np.exp(-0.5 * (np.asarray(frequency) * wavelength) ** 2)


def _check_wavelength(wavelength: float) -> None:
    if not wavelength > 0 or not np.isfinite(wavelength):
        raise ParameterError(
            "severity is a cut-off wavelength in mm and must be positive and "
            f"finite, got {wavelength}"
        )


@lru_cache(maxsize=64)
def smoothing_matrix(pixels: int, wavelength: float, pitch: float) -> Tensor:
    """The filter along one side (pixels, pixels): cosine transform, `transfer`, and
    back.

    Cosines of half-sample symmetry continue the image as its mirror image, so no edge
    bleeds into the opposite one.
    """
    if not pitch > 0:
        raise ParameterError(f"pixel pitch must be positive, got {pitch} mm")
    order, place = np.arange(pixels)[:, None], np.arange(pixels)[None] + 0.5
    cosines = np.sqrt(2 / pixels) * np.cos(np.pi * order * place / pixels)
    cosines[0] /= np.sqrt(2)
    gains = transfer(np.arange(pixels) / (2 * pixels * pitch), wavelength)
    return torch.from_numpy((cosines.T * gains) @ cosines).float()


def low_pass(
    images: Tensor,
    wavelength: float,
    *,
    pitch: float,
    region: Tensor | None = None,
    where: Where = "everywhere",
) -> Tensor:
    """Filtered images of the shape of `images` (..., H, W): frequencies above 1 /
    `wavelength` (mm) are damped.

    `pitch` is the side of a pixel in mm. With a `region` (mask of the shape of the
    images) only its inside or its outside is taken from the filtered image. As the
    wavelength goes to 0, and the cut-off frequency to infinity, this is the identity.
    It equals a Gaussian filter of width wavelength / (2 pi) with mirrored borders; for
    widths below about 1.5 pixels a sampled Gaussian is no longer that filter, while
    this one is exact for every frequency that the pixels hold.

    Raises ParameterError if a severity is not positive, or the region is missing or
    does not fit the images.
    """
    height, width = images.shape[-2:]
    down = smoothing_matrix(height, wavelength, pitch).to(images)
    across = smoothing_matrix(width, wavelength, pitch).to(images)
    filtered = down @ images @ across.T
    if where == "everywhere":
        return filtered
    if where not in ("inside", "outside"):
        raise ParameterError(
            f"where must be everywhere, inside or outside, got {where!r}"
        )
    if region is None:
        raise ParameterError(f"filtering {where} a region needs the region")
    if region.shape != images.shape:
        raise ParameterError(
            f"the region must be a mask of the images' shape {tuple(images.shape)}, "
            f"got {tuple(region.shape)}"
        )
    chosen = region.bool() if where == "inside" else ~region.bool()
    return torch.where(chosen, filtered, images)


def box_region(
    height: int, width: int, top: int, left: int, bottom: int, right: int
) -> Tensor:
    """Mask (height, width) of rows `top` to `bottom` - 1 and columns `left` to `right`
    - 1.

    Raises ParameterError if the box is empty or reaches outside the image.
    """
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ParameterError(
            f"the region rows {top}:{bottom}, columns {left}:{right} is empty or "
            f"leaves the image of {height} x {width}"
        )
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def dilated(region: Tensor, pixels: int) -> Tensor:
    """The region (..., H, W) grown by a square of `pixels` in every direction, as a
    reader's outline of a lesion would be.
    """
    flat = region.reshape(-1, 1, *region.shape[-2:]).float()
    grown = torch.nn.functional.max_pool2d(
        flat, 2 * pixels + 1, stride=1, padding=pixels
    )
    return grown.bool().reshape(region.shape)


def quantised(images: Tensor, levels: int = LEVELS) -> Tensor:
    """Images cut to [0, 1] and rounded to grey levels 0 to `levels`: what a 12-bit file
    keeps of them. No rescaling.
    """
    return (images.clamp(0, 1) * levels).round() / levels
