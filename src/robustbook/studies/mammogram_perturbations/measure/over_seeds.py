"""Means over trainings with intervals that count both trainings and exams.

Read `OverSeeds` (a mean, its resamples over exams, its value in each training), then
`mean_auc` and `mean_share`. Seeds are few, so they enter by Student's t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from robustbook import stats
from robustbook.stats import Interval, Resampling

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OverSeeds:
    """A statistic of several trainings: `seeds` (k,) its value in each, `resamples`
    (R,) its mean over them in resamples of exams. Differences are paired in both.
    """

    seeds: Array
    resamples: Array

    @property
    def value(self) -> float:
        """The mean over trainings."""
        return float(self.seeds.mean())

    def __sub__(self, other: OverSeeds) -> OverSeeds:
        return OverSeeds(self.seeds - other.seeds, self.resamples - other.resamples)

    def scaled(self, factor: float) -> OverSeeds:
        """The statistic times a number."""
        return OverSeeds(factor * self.seeds, factor * self.resamples)

    @property
    def error(self) -> float:
        """Standard error: variances over exams and over seeds, added."""
        count = len(self.seeds)
        over_seeds = self.seeds.var(ddof=1) / count if count > 1 else 0.0
        return float(np.sqrt(self.resamples.var(ddof=1) + over_seeds))

    def interval(self) -> Interval:
        """95 % interval, Student's t with one degree of freedom less than seeds; the
        percentiles over exams for a single one.
        """
        count = len(self.seeds)
        if count == 1:
            low, high = np.quantile(self.resamples, [0.025, 0.975])
            return Interval(self.value, float(low), float(high), 1)
        half = float(t.ppf(0.975, count - 1)) * self.error
        return Interval(self.value, self.value - half, self.value + half, count)


def mean_auc(positive: NDArray[np.bool_], scores: Array, rows: Resampling) -> OverSeeds:
    """AUC of `scores` (seeds, n) for `positive` (n,), where `rows` are drawn."""
    return _over(lambda row, counts: stats.auc(positive, row, counts), scores, rows)


def mean_share(right: Array, rows: Resampling) -> OverSeeds:
    """Mean of `right` (seeds, n), where `rows` are drawn."""
    return _over(lambda row, counts: counts @ row / counts.sum(1), right, rows)


def _over(
    statistic: Callable[[Array, Array], Array], table: Array, rows: Resampling
) -> OverSeeds:
    once = np.ones((1, table.shape[1]))
    seeds = np.array([float(np.ravel(statistic(row, once))[0]) for row in table])
    drawn = np.mean([statistic(row, rows.counts) for row in table], axis=0)
    return OverSeeds(seeds, drawn)
