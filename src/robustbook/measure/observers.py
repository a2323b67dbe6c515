"""Visibility without a network: contrast-to-noise ratio and the detectability of model
observers of a known lesion.

Read `contrast_to_noise` first, then `detectability` (exact, from spectra:
non-prewhitening and Hotelling observers), then `channelised_hotelling` (estimated from
patches) and `auc_of` (what a detectability means as an AUC).

A filter alone hides nothing from the Hotelling observer, who undoes it: information is
lost only to what is added after the filter, here rounding to grey levels and the noise
of display and reader.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from robustbook.errors import ParameterError

Array = NDArray[np.float64]
Observer = Literal["non-prewhitening", "hotelling"]


def contrast_to_noise(
    image: Array, region: NDArray[np.bool_], surround: NDArray[np.bool_]
) -> float:
    """(mean inside - mean around) / deviation around, of an `image` (H, W) and two
    masks of its shape.

    Raises ParameterError if a mask is empty or does not fit.
    """
    if (
        region.shape != image.shape
        or surround.shape != image.shape
        or not region.any()
        or surround.sum() < 2
    ):
        raise ParameterError(
            "contrast needs a region and a surround inside the image, both with "
            "pixels in them"
        )
    around = image[surround]
    return float(
        (image[region].mean() - around.mean()) / max(float(around.std(ddof=1)), 1e-12)
    )


def detectability(
    signal: Array,
    noise_power: Array,
    *,
    gain: Array | None = None,
    later_noise: float = 0.0,
    observer: Observer,
) -> float:
    """Detectability index d' of `signal` (H, W) in stationary Gaussian noise.

    `noise_power` (H, W) is the variance of each coefficient of the unitary discrete
    Fourier transform before the filter, `gain` (H, W) the filter's transfer and
    `later_noise` the variance of white noise added after it. With S the transform of
    the filtered signal and W the power of the filtered noise and the later noise
    together (Barrett and Myers 2004, ch. 13):

        Hotelling         d'^2 = sum |S|^2 / W
        non-prewhitening  d'^2 = (sum |S|^2)^2 / sum (|S|^2 W)

    Raises ParameterError if shapes differ or some frequency that carries signal has no
    noise.
    """
    transmitted = np.ones_like(noise_power) if gain is None else gain
    if (
        signal.shape != noise_power.shape
        or transmitted.shape != signal.shape
        or later_noise < 0
    ):
        raise ParameterError(
            f"signal, noise power and gain need one shape, got {signal.shape} and "
            f"{noise_power.shape}"
        )
    energy = np.abs(np.fft.fft2(signal, norm="ortho") * transmitted) ** 2
    power = noise_power * transmitted**2 + later_noise
    heard = energy > 0
    if not heard.any():
        return 0.0
    if (power[heard] <= 0).any():
        raise ParameterError("noise must be positive wherever there is signal")
    if observer == "hotelling":
        return float(np.sqrt((energy[heard] / power[heard]).sum()))
    return float(energy.sum() / np.sqrt((energy * power).sum()))


def rounding_variance(step: float = 1.0) -> float:
    """Variance of the error of rounding to multiples of `step`."""
    return step**2 / 12


def difference_of_gaussians(
    side: int, channels: int = 6, smallest: float = 0.7, ratio: float = 1.6
) -> Array:
    """Round channels (channels, side * side) of unit norm: differences of Gaussians
    whose widths grow by `ratio` (pixels).
    """
    place = np.arange(side) - (side - 1) / 2
    squared = place[:, None] ** 2 + place[None] ** 2
    widths = smallest * ratio ** np.arange(channels + 1)
    blobs = (
        np.exp(-0.5 * squared[None] / widths[:, None, None] ** 2)
        / widths[:, None, None] ** 2
    )
    found = (blobs[:-1] - blobs[1:]).reshape(channels, -1)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def channelised_hotelling(
    present: Array, absent: Array, channels: Array, *, later_variance: float = 0.0
) -> float:
    """Detectability d' of the channelised Hotelling observer, trained on one half of
    patches and tested on the other.

    `present` and `absent` (n, side, side) are patches with and without the lesion,
    `channels` (k, side * side); `later_variance` is white pixel noise added after the
    filter, known to the observer. d' is the difference of the template's mean answers
    over their deviation on the half that it was not made from, averaged over both
    halves.

    Raises ParameterError if there are too few patches for the channels.
    """
    seen = [
        patches.reshape(len(patches), -1) @ channels.T for patches in (present, absent)
    ]
    if min(len(part) for part in seen) < 2 * len(channels) + 4:
        raise ParameterError(
            f"{len(channels)} channels need at least {2 * len(channels) + 4} "
            "patches of each kind"
        )
    later = later_variance * channels @ channels.T
    found = []
    for half in (0, 1):
        train, test = ([part[start::2] for part in seen] for start in (half, 1 - half))
        spread = (np.cov(train[0].T) + np.cov(train[1].T)) / 2 + later
        template = np.linalg.solve(spread, train[0].mean(0) - train[1].mean(0))
        difference = template @ (test[0].mean(0) - test[1].mean(0))
        variance = (
            template @ ((np.cov(test[0].T) + np.cov(test[1].T)) / 2 + later) @ template
        )
        found.append(difference / np.sqrt(variance))
    return float(np.mean(found))


def auc_of(index: float | Array) -> float | Array:
    """AUC of an observer with detectability `index` in Gaussian noise: Phi(d' / sqrt
    2).
    """
    return norm.cdf(np.asarray(index) / np.sqrt(2))
