"""All networks under all lenses as tables of numbers: from all images, and from two
halves of the images that share none.

Read `lens_values` (one network), then `table` and `halves` (all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from robustbook.studies.synthesis.claims import (
    ACCURACY_KEPT,
    BLACK_BOX,
    CERTIFIED,
    CLEAN,
    HALF_PSI,
    LOW_PASS,
    MEASURES,
    ONE_STEP,
    PRUNABLE,
    PSI,
    ROBUST,
    SOUND,
    STABILITY,
)
from robustbook.studies.synthesis.measure.lenses import LensMeasurements, prunable_share

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Chosen = Callable[[int], Rows]
"""The places of the images that count, of so many."""

SMALLEST_DIVERGENCE = 1e-9
"""A divergence below this (nats) is rounding; psi then counts as its inverse."""


def psi_of(kl: Array) -> Array:
    """Psi (1/nats) of divergences (nats)."""
    return 1 / np.maximum(kl, SMALLEST_DIVERGENCE)


def lens_values(each: LensMeasurements, chosen: Chosen = np.arange) -> dict[str, float]:
    """The value of every measure on one network, from the images that are chosen."""

    def of(values: Array) -> Array:
        """Values (..., images) on the chosen images."""
        return values[..., chosen(values.shape[-1])]

    accuracy = of(each.curve).mean(axis=-1)
    found = {
        ROBUST: of(each.robust).mean(),
        BLACK_BOX: of(each.black_box).mean(),
        PSI: np.median(psi_of(of(each.kl))),
        SOUND: np.median(psi_of(of(each.bound))),
        CERTIFIED: of(each.certified).mean(),
        STABILITY: of(each.stability).mean(),
        LOW_PASS: of(each.clean).mean() - of(each.filtered).mean(),
        PRUNABLE: prunable_share(each.shares, accuracy, loss=ACCURACY_KEPT),
        CLEAN: of(each.clean).mean(),
        ONE_STEP: of(each.one_step).mean(),
        HALF_PSI: np.median(psi_of(of(each.attained))),
    }
    return {name: float(found[name]) for name in MEASURES}


def by_kind(measured: Sequence[LensMeasurements]) -> dict[str, list[LensMeasurements]]:
    """Networks grouped by kind, in the order in which they come."""
    groups = groupby(measured, lambda each: each.network.kind)
    return {kind: list(group) for kind, group in groups}


def table(measured: Sequence[LensMeasurements], chosen: Chosen = np.arange) -> Array:
    """Values (kinds, seeds, measures) from the images that are chosen."""
    return np.array(
        [
            [list(lens_values(each, chosen).values()) for each in group]
            for group in by_kind(measured).values()
        ]
    )


def halves(measured: Sequence[LensMeasurements], *, count: int) -> Array:
    """Values (halvings, 2, kinds, seeds, measures) from the two halves of the images,
    which are cut at random `count` times; all networks see the same cut.
    """
    return np.stack(
        [
            np.stack([table(measured, _half(cut, side)) for side in (0, 1)])
            for cut in range(count)
        ]
    )


def _half(cut: int, side: int) -> Chosen:
    def chosen(images: int) -> Rows:
        order = np.random.default_rng([cut, images]).permutation(images)
        return np.sort(order[side::2][: images // 2])

    return chosen
