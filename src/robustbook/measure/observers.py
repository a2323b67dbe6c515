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

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from robustbook import checks
from robustbook.checks import ArgumentError

Array = NDArray[np.float64]
Observer = Literal["non-prewhitening", "hotelling"]


def contrast_to_noise(
    image: Array, region: NDArray[np.bool_], surround: NDArray[np.bool_]
) -> float:
    """(mean inside - mean around) / deviation around, of an `image` (H, W) and two
    masks of its shape.

    Raises ArgumentError if the image is not finite, or a mask is no mask, has too few
    pixels or does not fit.
    """
    image = checks.array(image, "image", dimensions=2)
    inside = image[_mask(region, "region", image, 1)]
    around = image[_mask(surround, "surround", image, 2)]
    return float(
        (inside.mean() - around.mean()) / max(float(around.std(ddof=1)), 1e-12)
    )


def _mask(
    given: NDArray[np.bool_], name: str, image: Array, least: int
) -> NDArray[np.bool_]:
    given = np.asarray(given)
    if given.dtype != bool or given.shape != image.shape or given.sum() < least:
        allowed = f"a mask {image.shape} of at least {least} pixels"
        raise ArgumentError(name, allowed, given)
    return given


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

    Raises ArgumentError if shapes differ, a variance is negative or some frequency that
    carries signal has no noise.
    """
    checks.one_of(observer, "observer", get_args(Observer))
    later_noise = checks.real(later_noise, "later_noise", at_least=0)
    signal = checks.array(signal, "signal", dimensions=2)
    noise_power = checks.array(noise_power, "noise_power", dimensions=2)
    transmitted = np.ones_like(signal) if gain is None else checks.array(gain, "gain")
    for name, given in (("noise_power", noise_power), ("gain", transmitted)):
        if given.shape != signal.shape:
            raise ArgumentError(name, f"of the signal's shape {signal.shape}", given)
    if (noise_power < 0).any():
        raise ArgumentError("noise_power", "at least 0", float(noise_power.min()))
    energy = np.abs(np.fft.fft2(signal, norm="ortho") * transmitted) ** 2
    power = noise_power * transmitted**2 + later_noise
    heard = energy > 0
    if not heard.any():
        return 0.0
    if (power[heard] <= 0).any():
        raise ArgumentError("noise_power", "positive wherever there is signal", 0.0)
    if observer == "hotelling":
        return float(np.sqrt((energy[heard] / power[heard]).sum()))
    return float(energy.sum() / np.sqrt((energy * power).sum()))


def rounding_variance(step: float = 1.0) -> float:
    """Variance of the error of rounding to multiples of `step`, which is positive.

    >>> rounding_variance(6)
    3.0
    """
    return checks.real(step, "step", above=0) ** 2 / 12


def difference_of_gaussians(
    side: int, channels: int = 6, smallest: float = 0.7, ratio: float = 1.6
) -> Array:
    """Round channels (channels, side * side) of unit norm: differences of Gaussians
    whose widths grow by `ratio` (pixels).

    Raises ArgumentError unless `side` and `channels` are at least 1, `smallest` is
    positive and `ratio` above 1.
    """
    side = checks.whole(side, "side", at_least=1)
    channels = checks.whole(channels, "channels", at_least=1)
    smallest = checks.real(smallest, "smallest", above=0)
    ratio = checks.real(ratio, "ratio", above=1)
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

    Raises ArgumentError if there are too few patches for the channels, sizes do not
    fit, or all patches of a channel are alike.
    """
    channels = checks.array(channels, "channels", dimensions=2)
    later_variance = checks.real(later_variance, "later_variance", at_least=0)
    if not len(channels):
        raise ArgumentError("channels", "at least one", channels)
    least = 2 * len(channels) + 4
    seen = []
    for name, given in (("present", present), ("absent", absent)):
        patches = checks.array(given, name, dimensions=3)
        if len(patches) < least or patches[0].size != channels.shape[1]:
            allowed = (
                f"at least {least} patches of {channels.shape[1]} pixels for "
                f"{len(channels)} channels"
            )
            raise ArgumentError(name, allowed, patches)
        seen.append(patches.reshape(len(patches), -1) @ channels.T)
    later = later_variance * channels @ channels.T
    found = []
    for half in (0, 1):
        train, test = ([part[start::2] for part in seen] for start in (half, 1 - half))
        spread = _spread(train) + later
        if np.linalg.matrix_rank(spread) < len(spread):
            raise ArgumentError("present and absent", "different in every channel", 0)
        template = np.linalg.solve(spread, train[0].mean(0) - train[1].mean(0))
        difference = template @ (test[0].mean(0) - test[1].mean(0))
        variance = template @ (_spread(test) + later) @ template
        found.append(difference / np.sqrt(variance))
    return float(np.mean(found))


def _spread(answers: list[Array]) -> Array:
    """Mean covariance (k, k) of the channels' answers of both kinds of patches."""
    both = [np.atleast_2d(np.cov(part.T)) for part in answers]
    return (both[0] + both[1]) / 2


def auc_of(index: float | Array) -> float | Array:
    """AUC of an observer with detectability `index` in Gaussian noise: Phi(d' / sqrt
    2).

    >>> float(auc_of(0.0))
    0.5
    """
    return norm.cdf(checks.array(index, "index") / np.sqrt(2))
