"""How alike phantoms and mini-MIAS patches are in what can be counted: slope of the
spectrum, contrast, grain.

Read `middles` (equal pieces of healthy breasts of both), then `power_slope`, then
`record_likeness`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from robustbook import page
from robustbook.data import mini_mias
from robustbook.data.phantoms import WHITE, Settings, generate
from robustbook.results import Results
from robustbook.stats import Interval, bootstrap, bootstrap_mean
from robustbook.studies.mammogram_perturbations import networks

Array = NDArray[np.float64]
SIDE = 40
"""Side of a piece in pixels; at 0.2 mm a piece is 8 mm wide."""
BANDS = {"coarse": (0.25, 1.0), "fine": (1.0, 2.4)}
"""Frequencies in cycles/mm over which a slope is fitted."""
BACKGROUND = 60 / 255
"""A mini-MIAS patch with a pixel below this holds film beside the breast, and is left
out.
"""
SERIES, EXAMS = 5, 80


def middles() -> dict[str, tuple[Array, NDArray[np.int64]]]:
    """Pieces (n, SIDE, SIDE) in [0, 1] of the inside of healthy breasts, and the exam
    or woman (n,) of each, by leg.
    """
    exams = generate(EXAMS, SERIES, Settings(128, 96))
    healthy = np.flatnonzero(exams.subgroups[:, 0] == 0)
    top, left = (128 - SIDE) // 2, 10
    drawn = exams.images[healthy, 0, top : top + SIDE, left : left + SIDE] / WHITE
    read, _ = networks.patches()
    normal = read.labels == 0
    start = (read.images.shape[-1] - SIDE) // 2
    films = read.images[normal, start : start + SIDE, start : start + SIDE] / 255
    inside = films.min(axis=(1, 2)) > BACKGROUND
    return {
        "phantoms": (drawn, healthy),
        "mias": (films[inside], read.women[normal][inside]),
    }


def spectra(pieces: Array) -> Array:
    """Power (n, SIDE, SIDE) of each piece less its mean, under a Hann window."""
    window = np.hanning(pieces.shape[1])[:, None] * np.hanning(pieces.shape[2])[None]
    return (
        np.abs(np.fft.fft2((pieces - pieces.mean(axis=(1, 2), keepdims=True)) * window))
        ** 2
    )


def power_slope(power: Array, pitch: float, low: float, high: float) -> float:
    """Exponent of the mean of `power` (n, SIDE, SIDE) over frequencies between `low`
    and `high` cycles/mm.
    """
    axis = np.fft.fftfreq(power.shape[-1], pitch)
    frequency = np.hypot(axis[:, None], axis[None])
    used = (frequency > low) & (frequency < high)
    return float(
        np.polyfit(np.log(frequency[used]), np.log(power.mean(axis=0)[used]), 1)[0]
    )


def slope_interval(
    power: Array, groups: NDArray[np.integer], pitch: float, band: str, resamples: int
) -> Interval:
    """`power_slope` over a band of `BANDS` with its bootstrap interval over `groups`
    (n,).
    """
    return bootstrap(
        lambda rows: power_slope(power[rows], pitch, *BANDS[band]),
        groups,
        seed=0,
        resamples=resamples,
    ).interval()


def grain(pieces: Array) -> Array:
    """Deviation (n,) of each piece from its own mean over 5 x 5 pixels: noise, specks
    and thin strands.
    """
    return (pieces - uniform_filter(pieces, (0, 5, 5))).std(axis=(1, 2))


def record_likeness(results: Results, resamples: int = 200) -> None:
    """Rows of both legs: slope of the spectrum in two bands, contrast and grain (shares
    of the grey range).
    """
    for leg, (pieces, groups) in middles().items():
        over = "exams" if leg == "phantoms" else "women"
        power = spectra(pieces)
        for band in BANDS:
            slope = slope_interval(power, groups, mini_mias.PITCH, band, resamples)
            results.add("texture exponent", slope, over=over, leg=leg, band=band)
        for name, values in (
            ("contrast", pieces.std(axis=(1, 2))),
            ("grain", grain(pieces)),
        ):
            row = bootstrap_mean(values, seed=0, groups=groups, resamples=resamples)
            results.add(
                f"texture {name}",
                row,
                over=over,
                unit="share of the grey range",
                leg=leg,
            )


CAPTION = (
    "What of the likeness can be counted; intervals over exams (phantoms) and women "
    "(films)."
)


def table(results: Results) -> pd.DataFrame:
    """One line a quantity, one column a leg."""
    names = {
        "slope of the spectrum, 0.25 to 1 cycles/mm": ("texture exponent", "coarse"),
        "slope of the spectrum, 1 to 2.4 cycles/mm": ("texture exponent", "fine"),
        "contrast (deviation)": ("texture contrast", ""),
        "grain (deviation from the mean of 5 × 5 pixels)": ("texture grain", ""),
    }
    lines = []
    for title, (name, band) in names.items():
        line = {"pieces of 8 mm of healthy breasts": title}
        for leg, column in (("phantoms", "phantoms"), ("mias", "films")):
            factors = {"leg": leg} | ({"band": band} if band else {})
            line[column] = page.interval(results.one(name, **factors))
        lines.append(line)
    return pd.DataFrame(lines)
