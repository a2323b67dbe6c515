"""How well scores separate two classes: area under the ROC curve and Kolmogorov-Smirnov
statistic, with clustered intervals.

Read `auc` and `ks` (many weightings at once), then `Resampling` (what a bootstrap
draws, shared by all that is compared), then `resampled` (a statistic in every resample)
and `Drawn` (differences and intervals of such statistics).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbook.stats import Interval

Array = NDArray[np.float64]
Statistic = Callable[[ArrayLike, ArrayLike, ArrayLike | None], Array]
"""`(positive (n,), scores (n,), weights (R, n)) -> (R,)`."""


def auc(
    positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """Area under the ROC curve (R,) of `scores` (n,) for the mask `positive` (n,); ties
    count half.

    `weights` (R, n) count rows more than once, as each of R bootstrap resamples does;
    without them R is 1. Raises ValueError if a class is empty, shapes differ or a score
    is not finite.
    """
    above, below = _by_score(positive, scores, weights)
    smaller = np.cumsum(below, axis=1) - below
    return (above * (smaller + below / 2)).sum(axis=1) / (
        above.sum(axis=1) * below.sum(axis=1)
    )


def ks(
    positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """Kolmogorov-Smirnov statistic (R,): the largest gap between the distribution
    functions of both classes.

    Shapes and errors as in `auc`.
    """
    above, below = _by_score(positive, scores, weights)
    shares = [
        np.cumsum(part, axis=1) / part.sum(axis=1, keepdims=True)
        for part in (above, below)
    ]
    return np.abs(shares[0] - shares[1]).max(axis=1)


def _by_score(
    positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array]:
    """Weights of positive and of negative rows at each distinct score in ascending
    order, (R, scores) each.
    """
    wanted, row = (
        np.asarray(positive).astype(bool).ravel(),
        np.asarray(scores, dtype=np.float64).ravel(),
    )
    table = (
        np.ones((1, len(wanted)))
        if weights is None
        else np.atleast_2d(np.asarray(weights, dtype=np.float64))
    )
    if row.shape != wanted.shape or table.shape[1:] != wanted.shape:
        raise ValueError(
            f"scores and weights need {len(wanted)} entries a row, got {row.shape} "
            f"and {table.shape}"
        )
    if not np.isfinite(row).all():
        raise ValueError("scores must be finite")
    order = np.argsort(row, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(row[order]) > 0])
    parts = [
        np.add.reduceat((table * mask)[:, order], starts, axis=1)
        for mask in (wanted, ~wanted)
    ]
    if any((part.sum(axis=1) <= 0).any() for part in parts):
        raise ValueError("an ROC curve needs rows of both classes")
    return parts[0], parts[1]


@dataclass(frozen=True)
class Resampling:
    """How often each row is drawn in each resample, `weights` (R, n), from `units`
    groups.
    """

    weights: Array
    units: int


def draw(
    positive: ArrayLike, groups: ArrayLike, *, seed: int, resamples: int
) -> Resampling:
    """Draw whole `groups` (n,) (women, exams) with replacement; a resample that loses a
    class is drawn again.

    Raises ValueError if there are fewer than two groups or a class is empty.
    """
    wanted = np.asarray(positive).astype(bool).ravel()
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2 or wanted.all() or not wanted.any():
        raise ValueError("an interval needs at least two groups and both classes")
    generator = np.random.default_rng(seed)
    drawn: list[Array] = []
    while len(drawn) < resamples:
        weight = np.bincount(
            generator.integers(len(names), size=len(names)), minlength=len(names)
        )[place]
        if weight[wanted].any() and weight[~wanted].any():
            drawn.append(weight.astype(float))
    return Resampling(np.stack(drawn), len(names))


@dataclass(frozen=True)
class Drawn:
    """A statistic, its values in all resamples (R,), and of how many groups those were
    drawn.
    """

    value: float
    resamples: Array
    units: int

    def __sub__(self, other: Drawn) -> Drawn:
        """Difference of two statistics of the same resamples: a paired comparison."""
        return Drawn(
            self.value - other.value, self.resamples - other.resamples, self.units
        )

    def interval(self, level: float = 0.95) -> Interval:
        """Percentile interval."""
        low, high = np.quantile(self.resamples, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(low), float(high), self.units)


def resampled(
    statistic: Statistic, positive: ArrayLike, scores: ArrayLike, resampling: Resampling
) -> Drawn:
    """Mean of `statistic` over the seeds of `scores` (seeds, n), and the same in every
    resample.

    With more than one seed, seeds are drawn with replacement too (the same ones for
    equal numbers of seeds and resamples, so that differences are paired): the interval
    is then over seeds and groups.
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    value = float(np.mean([statistic(positive, row, None)[0] for row in table]))
    values = np.stack([statistic(positive, row, resampling.weights) for row in table])
    chosen = np.random.default_rng(len(table)).integers(len(table), size=values.shape)
    return Drawn(
        value, np.take_along_axis(values, chosen, axis=0).mean(axis=0), resampling.units
    )
