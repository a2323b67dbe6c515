"""Gaussian low-pass filter of images, its severity a cut-off wavelength in mm, the same
in both directions of any image.

Read `low_pass` first (the filter, everywhere or in a region), then `transfer` (what it
lets through).

Two habits of the public code of Makino et al. (2022) are left out on purpose: there the
cut-off is counted in bins of the transform, so that it differs between the sides of an
image that is not square, and grey levels are rescaled to the full range after the
filter, which changes contrast.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook import checks
from robustbook.checks import ArgumentError

Where = Literal["everywhere", "inside", "outside"]
LEVELS = 4095


def transfer(frequency: NDArray[np.float64], wavelength: float) -> NDArray[np.float64]:
    """Share of an oscillation that the filter lets through: exp(-(f * wavelength)^2 /
    2), f in cycles/mm.

    This is the published exp(-d^2 / (2 r^2)) with the distance d and the cut-off r in
    cycles/mm and wavelength = 1 / r. In the image it is a Gaussian of standard
    deviation wavelength / (2 pi).

    >>> transfer(np.array([0.0, 1.0]), 2.0).round(3)
    array([1.   , 0.135])

    Raises ArgumentError unless `wavelength` (mm) is positive and frequencies finite.
    """
    wavelength = checks.real(wavelength, "wavelength", above=0)
    frequency = checks.array(frequency, "frequency")
    return np.exp(-0.5 * (frequency * wavelength) ** 2)


@lru_cache(maxsize=64)
def _smoothing_matrix(pixels: int, wavelength: float, pitch: float) -> Tensor:
    """The filter along one side (pixels, pixels): cosine transform, `transfer`, and
    back, in double precision.

    Cosines of half-sample symmetry continue the image as its mirror image, so no edge
    bleeds into the opposite one.
    """
    order, place = np.arange(pixels)[:, None], np.arange(pixels)[None] + 0.5
    cosines = np.sqrt(2 / pixels) * np.cos(np.pi * order * place / pixels)
    cosines[0] /= np.sqrt(2)
    gains = transfer(np.arange(pixels) / (2 * pixels * pitch), wavelength)
    return torch.from_numpy((cosines.T * gains) @ cosines)


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
    this one is exact for every frequency that the pixels hold, to the precision of the
    images. The filter is linear, so grey levels may have any range.

    >>> low_pass(torch.full((1, 1, 4, 4), 0.5), 2.0, pitch=0.2).std() < 1e-6
    tensor(True)

    Raises ArgumentError if the images are not floating and finite, `wavelength` or
    `pitch` is not positive, or the region is missing or does not fit the images.
    """
    images = checks.tensor(images, "images")
    if images.dim() < 2 or not images.numel():
        raise ArgumentError("images", "a tensor (..., H, W) with pixels", images)
    wavelength = checks.real(wavelength, "wavelength", above=0)
    pitch = checks.real(pitch, "pitch", above=0)
    checks.one_of(where, "where", get_args(Where))
    down, across = (
        _smoothing_matrix(side, wavelength, pitch).to(images)
        for side in images.shape[-2:]
    )
    if region is not None:
        region = checks.mask(region, "region", images.shape).to(images.device)
    filtered = down @ images @ across.T
    if where == "everywhere":
        return filtered
    if region is None:
        raise ArgumentError("region", f"given to filter {where} of it", region)
    return torch.where(region if where == "inside" else ~region, filtered, images)


def box_region(
    height: int, width: int, top: int, left: int, bottom: int, right: int
) -> Tensor:
    """Mask (height, width) of rows `top` to `bottom` - 1 and columns `left` to `right`
    - 1.

    Raises ArgumentError if the box is empty or reaches outside the image.
    """
    height = checks.whole(height, "height", at_least=1)
    width = checks.whole(width, "width", at_least=1)
    top = checks.whole(top, "top", at_least=0)
    left = checks.whole(left, "left", at_least=0)
    bottom = checks.whole(bottom, "bottom", at_least=top + 1, at_most=height)
    right = checks.whole(right, "right", at_least=left + 1, at_most=width)
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def dilated(region: Tensor, pixels: int) -> Tensor:
    """The region (..., H, W) grown by a square of `pixels` in every direction, as a
    reader's outline of a lesion would be.

    Raises ArgumentError if the region is no mask or `pixels` is negative.
    """
    region = checks.mask(region, "region")
    pixels = checks.whole(pixels, "pixels", at_least=0)
    flat = region.reshape(-1, 1, *region.shape[-2:]).float()
    grown = torch.nn.functional.max_pool2d(
        flat, 2 * pixels + 1, stride=1, padding=pixels
    )
    return grown.bool().reshape(region.shape)


def quantised(images: Tensor, levels: int = LEVELS) -> Tensor:
    """Images cut to [0, 1] and rounded to grey levels 0 to `levels`: what a 12-bit file
    keeps of them. No rescaling.

    Raises ArgumentError if they are not floating and finite, or `levels` is below 1.
    """
    levels = checks.whole(levels, "levels", at_least=1)
    return (checks.tensor(images, "images").clamp(0, 1) * levels).round() / levels
