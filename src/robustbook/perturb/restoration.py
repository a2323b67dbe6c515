"""Undoing a known low-pass filter without training: the Wiener filter.

Read `wiener_gain` (one frequency), then `restored` (whole images). What this filter
brings back was never gone from the image.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.perturb.lowpass import transfer


def wiener_gain(
    gain: NDArray[np.float64], power: NDArray[np.float64], later: float
) -> NDArray[np.float64]:
    """Gain of the linear filter that brings an image back with the least mean square
    error: gain * power / (gain^2 * power + later).

    `gain` (...) is the transfer of the filter to be undone, `power` (...) the power of
    unfiltered images, `later` the variance of the white noise that came after the
    filter (rounding, say). Without such noise it is 1 / gain.

    >>> wiener_gain(np.array([0.5]), np.array([8.0]), 2.0)
    array([1.])

    Raises ArgumentError if shapes differ or a power or the noise is negative.
    """
    gain, power = checks.array(gain, "gain"), checks.array(power, "power")
    later = checks.real(later, "later", at_least=0)
    if power.shape != gain.shape:
        raise ArgumentError("power", f"of the gain's shape {gain.shape}", power)
    if (power < 0).any():
        raise ArgumentError("power", "at least 0", float(power.min()))
    seen = gain**2 * power + later
    return gain * power / np.where(seen > 0, seen, 1.0)


def cosines(pixels: int) -> Tensor:
    """Orthonormal cosine transform (pixels, pixels) in double precision: row k holds
    the wave of k half periods.
    """
    pixels = checks.whole(pixels, "pixels", at_least=1)
    order, place = np.arange(pixels)[:, None], np.arange(pixels)[None] + 0.5
    waves = np.sqrt(2 / pixels) * np.cos(np.pi * order * place / pixels)
    waves[0] /= np.sqrt(2)
    return torch.from_numpy(waves)


def cosine_frequencies(height: int, width: int, pitch: float) -> NDArray[np.float64]:
    """Radial frequency (height, width) of each wave of the cosine transform, in
    cycles/mm, of pixels of `pitch` mm.
    """
    pitch = checks.real(pitch, "pitch", above=0)
    down, across = (
        np.arange(checks.whole(side, name, at_least=1)) / (2 * side * pitch)
        for side, name in ((height, "height"), (width, "width"))
    )
    return np.hypot(down[:, None], across[None])


def restored(
    images: Tensor,
    wavelength: float,
    power: NDArray[np.float64],
    *,
    pitch: float,
    later: float,
) -> Tensor:
    """Low-pass filtered `images` (..., H, W) in [0, 1] as the Wiener filter brings them
    back, cut to [0, 1].

    `wavelength` and `pitch` (mm) are those of `low_pass`; `power` (H, W) is the mean
    square of each coefficient of the cosine transform of unfiltered images, on the
    frequencies of `cosine_frequencies`, and `later` the variance of the noise after the
    filter, both in squares of the images' units.

    Raises ArgumentError if the images are no finite floating tensor or a number or
    shape does not fit.
    """
    images = checks.tensor(images, "images")
    if images.dim() < 2 or not images.numel():
        raise ArgumentError("images", "a tensor (..., H, W) with pixels", images)
    height, width = images.shape[-2:]
    power = checks.array(power, "power", dimensions=2)
    if power.shape != (height, width):
        raise ArgumentError("power", f"of shape {(height, width)}", power)
    frequency = cosine_frequencies(height, width, pitch)
    gain = torch.from_numpy(wiener_gain(transfer(frequency, wavelength), power, later))
    down, across = (cosines(side).to(images.device) for side in (height, width))
    waves = down @ images.double() @ across.T * gain.to(images.device)
    return (down.T @ waves @ across).clamp(0, 1).to(images.dtype)
