"""Numbers with intervals: means, shares and rank correlations.

Read `Interval` first, then `bootstrap_mean`, `mean_interval_t` and `binomial_interval`,
then `bootstrap_rows`, which takes any statistic, and `spearman`, whose number alone is
`rank_correlation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number `value` with its interval `[low, high]` from `n` independent units."""

    value: float
    low: float
    high: float
    n: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval as `(low, high)`."""
        return (self.low, self.high)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    seed: int,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Mean of `values` (n,) with its percentile bootstrap interval.

    `groups` (n,) names the unit of each value (a seed, a network): whole groups are
    then drawn and `n` counts them. A constant sample has an interval of width 0.

    Raises ValueError if there are fewer than two units or a value is not finite.
    """
    return bootstrap_rows(
        np.mean, values, seed=seed, groups=groups, level=level, resamples=resamples
    )


def bootstrap_median(
    values: npt.ArrayLike,
    *,
    seed: int,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Median of `values` (n,) with its percentile bootstrap interval; otherwise as
    `bootstrap_mean`.
    """
    return bootstrap_rows(
        np.median, values, seed=seed, groups=groups, level=level, resamples=resamples
    )


def mean_interval_t(values: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of `values` (n,) with Student's t interval: for a handful of seeds, where a
    bootstrap is too narrow.

    Raises ValueError if there are fewer than two values or one is not finite.
    """
    sample = _columns([values])[0]
    _enough(len(sample))
    half = (
        stats.t.ppf((1 + level) / 2, len(sample) - 1)
        * sample.std(ddof=1)
        / np.sqrt(len(sample))
    )
    return Interval(
        float(sample.mean()),
        float(sample.mean() - half),
        float(sample.mean() + half),
        len(sample),
    )


def binomial_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Share `successes` / `trials` with its exact Clopper-Pearson interval.

    Raises ValueError if `trials` is not positive or `successes` lies outside [0,
    `trials`].
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            "successes must lie in [0, trials] and trials be positive, got "
            f"{successes} of {trials}"
        )
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(
        level, method="exact"
    )
    return Interval(
        successes / trials, float(interval.low), float(interval.high), int(trials)
    )


def spearman(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    seed: int,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Spearman's rho of `first` and `second` (n,) with a bootstrap interval over the
    pairs, or over whole `groups`.

    Raises ValueError as `bootstrap_rows` does, and if one of them is constant.
    """
    return bootstrap_rows(
        _spearman,
        first,
        second,
        seed=seed,
        groups=groups,
        level=level,
        resamples=resamples,
    )


def bootstrap_rows(
    statistic: Callable[..., float],
    *columns: npt.ArrayLike,
    seed: int,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """`statistic(*columns)` with a percentile bootstrap interval; rows of the `columns`
    (n,) are drawn together.

    With `groups` (n,) whole groups are drawn (a cluster bootstrap). Resamples in which
    the statistic is not defined
    (a constant column, say) are left out.

    Raises ValueError if the columns differ in length or hold a number that is not
    finite, if there are fewer than two units to draw, or if the statistic of the sample
    is not defined.
    """
    table = _columns(columns)
    units = _units(len(table[0]), groups)
    _enough(len(units))
    value = float(statistic(*table))
    if not np.isfinite(value):
        raise ValueError(
            "the statistic of this sample is not defined (a constant column, say)"
        )
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for resample in range(resamples):
        chosen = generator.integers(len(units), size=len(units))
        rows = (
            np.concatenate([units[unit] for unit in chosen])
            if groups is not None
            else chosen
        )
        drawn[resample] = statistic(*(column[rows] for column in table))
    drawn = drawn[np.isfinite(drawn)]
    low, high = (
        np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        if len(drawn)
        else (value, value)
    )
    return Interval(value, float(low), float(high), len(units))


def _columns(columns: tuple[npt.ArrayLike, ...] | list[npt.ArrayLike]) -> list[Array]:
    table = [np.asarray(column, dtype=np.float64).ravel() for column in columns]
    if any(len(column) != len(table[0]) for column in table):
        raise ValueError(
            "columns must have the same length, got "
            f"{[len(column) for column in table]}"
        )
    if not all(np.isfinite(column).all() for column in table):
        raise ValueError("values must be finite")
    return table


def _units(count: int, groups: npt.ArrayLike | None) -> list[npt.NDArray[np.intp]]:
    """Row indices of each unit that the bootstrap draws."""
    if groups is None:
        return [np.array([row]) for row in range(count)]
    names = np.asarray(groups).ravel()
    if len(names) != count:
        raise ValueError(
            f"groups must have one entry for each of {count} rows, got {len(names)}"
        )
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def _enough(units: int) -> None:
    if units < 2:
        raise ValueError(
            f"an interval needs at least two independent units, got {units}"
        )


def _spearman(first: Array, second: Array) -> float:
    return (
        rank_correlation(first, second)
        if np.ptp(first) > 0 and np.ptp(second) > 0
        else float("nan")
    )


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rho of `first` and `second` (n,); 0 where one of them is constant,
    since a constant tells nothing.
    """
    one, other = (
        _ranks(np.asarray(column)) - (np.size(column) + 1) / 2
        for column in (first, second)
    )
    norm = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / norm) if norm > 0 else 0.0


def _ranks(values: Array) -> Array:
    """Ranks from 1, equal values at their mean rank: SciPy's `rankdata` without its
    checks, which take ten times as long.
    """
    ordered = np.sort(values)
    result: Array = (
        np.searchsorted(ordered, values, "left")
        + np.searchsorted(ordered, values, "right")
        + 1
    ) / 2
    return result
