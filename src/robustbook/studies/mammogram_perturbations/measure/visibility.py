"""How visible the phantoms' lesions are without any network: contrast to noise and
model observers, by severity.

Read `noise_power` (the spectrum that the phantoms were drawn from), then `of_lesion`,
then `record_visibility`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbook.data.phantoms import (
    ATTENUATION_RANGE,
    SUBGROUPS,
    WHITE,
    Exams,
    Settings,
    unit_images,
)
from robustbook.data.phantoms import transfer as blur_transfer
from robustbook.measure.observers import (
    Observer,
    auc_of,
    channelised_hotelling,
    contrast_to_noise,
    detectability,
    difference_of_gaussians,
    rounding_variance,
)
from robustbook.perturb.lowpass import dilated, transfer
from robustbook.results import Results
from robustbook.stats import bootstrap_mean
from robustbook.studies.mammogram_perturbations import networks

Array = NDArray[np.float64]
SIDE = 28
"""Side of the patch that an observer sees around a lesion, in pixels."""
DISPLAY_STEP = WHITE / 255
LATER_NOISE = {
    "12-bit file": rounding_variance(),
    "8-bit display": rounding_variance(DISPLAY_STEP),
}
"""Variance added after the filter, in squared grey levels of 12 bits: rounding to the
file's, or to a display's levels.
"""
OBSERVERS: tuple[Observer, ...] = ("non-prewhitening", "hotelling")
DEPTH = 2.5
"""Attenuation (nepers) at which quantum noise is taken: the middle of a breast."""


def noise_power(settings: Settings, side: int = SIDE) -> Array:
    """Variance (side, side) of each unitary Fourier coefficient of a patch, in squared
    grey levels: texture as the detector records it, and quantum noise.

    The mean of a patch is no cue, since breasts differ in it: it is taken from lesions
    before observers see them.
    """
    frequency = frequencies(side, settings.pitch)
    lowest = 1 / (side * settings.pitch)
    power = (
        settings.texture_power
        * np.maximum(frequency, lowest) ** -settings.exponent
        / settings.pitch**2
    )
    power = power * blur_transfer(frequency, settings.blur) ** 2
    inverse = np.exp(DEPTH) / settings.photons
    power = power + inverse + (settings.electronic * inverse) ** 2
    return power * (WHITE / ATTENUATION_RANGE) ** 2


def frequencies(side: int, pitch: float) -> Array:
    """Radial frequency (side, side) of the transform of a patch, in cycles/mm."""
    axis = np.fft.fftfreq(side, pitch)
    return np.hypot(axis[:, None], axis[None])


def lesion_patches(exams: Exams, subgroup: str, malignant: bool) -> Array:
    """Grey levels (n, SIDE, SIDE) that each lesion of a kind adds to a view, centred on
    it; those too near an edge are left out.
    """
    return _patches_and_exams(exams, subgroup, malignant)[0]


def _patches_and_exams(
    exams: Exams, subgroup: str, malignant: bool
) -> tuple[Array, NDArray[np.intp]]:
    """`lesion_patches`, and the exam (n,) that each is of: two views of a lesion are
    not two lesions.
    """
    wanted = (exams.subgroups == SUBGROUPS.index(subgroup)) & (
        exams.labels[:, :, int(malignant)] > 0
    )
    found = [
        (patch, exam)
        for exam, side in zip(*np.nonzero(wanted), strict=True)
        for view in (side, side + 2)
        if (patch := cut_around(exams.signals[exam, view], exams.masks[exam, view]))
        is not None
    ]
    patches, numbers = zip(*found, strict=True)
    return np.stack(patches).astype(float), np.array(numbers)


def by_exam(
    values: Array | Sequence[float], exams: NDArray[np.intp] | Sequence[int]
) -> Array:
    """Mean of the `values` (..., n) of each exam (..., exams), one column for each that
    is named in `exams` (n,).
    """
    names, place = np.unique(np.asarray(exams), return_inverse=True)
    share = np.equal.outer(place, np.arange(len(names))) / np.bincount(place)
    return np.asarray(np.asarray(values) @ share, dtype=float)


def cut_around(
    image: NDArray[np.floating], mask: NDArray[np.bool_], side: int = SIDE
) -> Array | None:
    """The patch (side, side) of `image` (H, W) around the middle of `mask`, None if it
    would leave the image or mask is empty.
    """
    if not mask.any():
        return None
    top, left = (
        int(np.clip(np.mean(axis) - side / 2, -1, None)) for axis in np.nonzero(mask)
    )
    patch = (
        image[top : top + side, left : left + side]
        if min(top, left) >= 0
        else image[:0]
    )
    return np.asarray(patch, dtype=float) if patch.shape == (side, side) else None


def of_lesion(
    signal: Array,
    power: Array,
    severity: float,
    pitch: float,
    later: float,
    observer: Observer,
) -> float:
    """Detectability of one lesion less its mean, filtered at `severity` mm (0: not at
    all), with `later` variance added after.
    """
    gain = (
        transfer(frequencies(len(signal), pitch), severity)
        if severity
        else np.ones_like(power)
    )
    return detectability(
        signal - signal.mean(), power, gain=gain, later_noise=later, observer=observer
    )


def record_visibility(
    results: Results, exams: Exams, severities: Sequence[float] = networks.SEVERITIES
) -> None:
    """Rows of visibility of malignant lesions: detectability by observer and later
    noise, its kept share, contrast to noise.

    Intervals are over exams: the views of a lesion, and two lesions of one exam, are
    drawn together.
    """
    power = noise_power(exams.settings)
    for subgroup in SUBGROUPS[1:]:
        signals, numbers = _patches_and_exams(exams, subgroup, malignant=True)
        for observer in OBSERVERS:
            for later, variance in LATER_NOISE.items():
                table = np.array(
                    [
                        [
                            of_lesion(
                                signal,
                                power,
                                severity,
                                exams.settings.pitch,
                                variance,
                                observer,
                            )
                            for signal in signals
                        ]
                        for severity in (0.0, *severities)
                    ]
                )
                factors: dict[str, Any] = {
                    "subgroup": subgroup,
                    "observer": str(observer),
                    "later": later,
                }
                _record_table(results, table, numbers, severities, **factors)
        middles = [
            _middle_frequency(signal, power, exams.settings.pitch) for signal in signals
        ]
        middle = bootstrap_mean(by_exam(middles, numbers), seed=0)
        results.add(
            "middle frequency",
            middle,
            over="exams",
            unit="cycles/mm",
            subgroup=subgroup,
        )
    _record_contrast(results, exams, severities)
    _record_channelised(results, exams, severities)


def _middle_frequency(signal: Array, power: Array, pitch: float) -> float:
    """Frequency (cycles/mm) above which half of a lesion's squared Hotelling
    detectability lies.
    """
    share = (
        np.abs(np.fft.fft2(signal - signal.mean(), norm="ortho")) ** 2 / power
    ).ravel()
    frequency = frequencies(len(signal), pitch).ravel()
    order = np.argsort(frequency, kind="stable")
    return float(
        frequency[order][np.searchsorted(np.cumsum(share[order]), share.sum() / 2)]
    )


def _record_table(
    results: Results,
    table: Array,
    exams: NDArray[np.intp],
    severities: Sequence[float],
    **factors: Any,
) -> None:
    """Rows of one observer from its detectability by severity and patch: mean, share
    kept, and for Hotelling's the AUC.
    """
    for row, severity in zip(table, (0.0, *severities), strict=True):
        at: dict[str, Any] = {"over": "exams", "severity": severity, **factors}
        results.add("detectability", bootstrap_mean(by_exam(row, exams), seed=0), **at)
        kept = bootstrap_mean(by_exam(row / table[0], exams), seed=0)
        results.add("visibility kept", kept, unit="share of d'", **at)
        if factors["observer"] == "hotelling":
            results.add(
                "observer AUC",
                bootstrap_mean(by_exam(np.asarray(auc_of(row)), exams), seed=0),
                **at,
            )


def _record_contrast(
    results: Results, exams: Exams, severities: Sequence[float]
) -> None:
    images, masks = unit_images(exams.images), torch.from_numpy(exams.masks)
    regions, outer = dilated(masks, 2), dilated(masks, 6)
    rings = (outer & ~regions).numpy()
    for severity in (0.0, *severities):
        shown = (
            networks.filtered(images, severity, exams.settings.pitch).double().numpy()
        )
        for subgroup in SUBGROUPS[1:]:
            wanted = (exams.subgroups == SUBGROUPS.index(subgroup)) & (
                exams.labels[:, :, 1] > 0
            )
            found = [
                (
                    contrast_to_noise(
                        shown[exam, view], exams.masks[exam, view], rings[exam, view]
                    ),
                    exam,
                )
                for exam, side in zip(*np.nonzero(wanted), strict=True)
                for view in (side, side + 2)
                if exams.masks[exam, view].any()
            ]
            values, numbers = zip(*found, strict=True)
            contrast = bootstrap_mean(by_exam(values, numbers), seed=0)
            results.add(
                "contrast to noise",
                contrast,
                over="exams",
                severity=severity,
                subgroup=subgroup,
            )


def _record_channelised(
    results: Results, exams: Exams, severities: Sequence[float]
) -> None:
    """Detectability of the channelised Hotelling observer, who sees lesions of a kind
    and equal places without any.
    """
    images, channels = unit_images(exams.images), difference_of_gaussians(SIDE)
    least = 2 * len(channels) + 4
    for severity in (0.0, *severities):
        shown = (
            networks.filtered(images, severity, exams.settings.pitch).double().numpy()
            * WHITE
        )
        for subgroup in SUBGROUPS[1:]:
            present, absent = _present_and_absent(shown, exams, subgroup)
            if min(len(present), len(absent)) < least:
                continue
            index = channelised_hotelling(
                present, absent, channels, later_variance=LATER_NOISE["8-bit display"]
            )
            results.add(
                "channelised detectability",
                index,
                n=len(present),
                unit="d', n counts views of lesions",
                severity=severity,
                subgroup=subgroup,
                later="8-bit display",
            )


def _present_and_absent(
    shown: Array, exams: Exams, subgroup: str
) -> tuple[Array, Array]:
    """Patches around malignant lesions, and at the same places of healthy breasts on
    the same side and view.

    They take turns between exams of even and of odd number, since the observer learns
    from every other patch and is tested on the rest: no lesion is in both halves. What
    has no partner in the other half is left out.
    """
    wanted = (exams.subgroups == SUBGROUPS.index(subgroup)) & (
        exams.labels[:, :, 1] > 0
    )
    healthy = {side: np.flatnonzero(exams.subgroups[:, side] == 0) for side in (0, 1)}
    halves: tuple[list[tuple[Array, Array]], ...] = ([], [])
    for number, (exam, side) in enumerate(zip(*np.nonzero(wanted), strict=True)):
        for view in (side, side + 2):
            other = healthy[side][number % len(healthy[side])]
            mask = exams.masks[exam, view]
            if (patch := cut_around(shown[exam, view], mask)) is not None:
                empty = cut_around(shown[other, view], mask)
                assert empty is not None  # same place, same size
                halves[exam % 2].append((patch - patch.mean(), empty - empty.mean()))
    turns = [pair for pairs in zip(*halves, strict=False) for pair in pairs]
    present, absent = zip(*turns, strict=True)
    return np.stack(present), np.stack(absent)
