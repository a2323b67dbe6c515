"""Numbers with intervals, correlations of ranks, and how well scores separate two
classes.

Read `Interval` and `Drawn` first, then the two ways to draw units anew: `bootstrap`
(any statistic, of the places of what was drawn) and `draw` with `crossed` (statistics
of counts, worked out for all resamples at once). `bootstrap_rows`, `bootstrap_mean`,
`bootstrap_median` and `spearman` are the first of them for columns. Then
`mean_interval_t` and `binomial_interval`, which need no resamples; `correlation`,
`rank_correlation`, `rank_matrix` and `kendall`; `auc` and `ks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from robustbook import checks
from robustbook.checks import ArgumentError

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Level = int | npt.ArrayLike
"""What one level draws: so many units, or the unit (rows,) that each row belongs to."""


@dataclass(frozen=True)
class Interval:
    """A number `value` with its interval `[low, high]` from `n` independent units.

    Where several levels were drawn (seeds, then images), `n` counts the units of the
    outermost of them; a level of a single unit is not drawn.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval as `(low, high)`."""
        return (self.low, self.high)


@dataclass(frozen=True)
class Drawn:
    """A statistic `value` (...), the same in every resample (R, ...), NaN where it is
    not defined, and the `n` of `Interval`.
    """

    value: Array
    resamples: Array
    n: int

    def __sub__(self, other: Drawn) -> Drawn:
        """Difference of two statistics of the same resamples: a paired comparison."""
        return Drawn(
            self.value - other.value,
            self.resamples - other.resamples,
            min(self.n, other.n),
        )

    def map(self, function: Callable[[Array], Array]) -> Drawn:
        """A function of the statistic, one that takes a leading axis of resamples."""
        return Drawn(function(self.value[None])[0], function(self.resamples), self.n)

    def bounds(
        self, level: float = 0.95, method: Literal["linear", "nearest"] = "linear"
    ) -> tuple[Array, Array]:
        """Percentile interval (low, high), each of the shape of `value`, over the
        resamples that have a value; NaN where none has.
        """
        checks.real(level, "level", above=0, below=1)
        checks.one_of(method, "method", ("linear", "nearest"))
        missing = np.isnan(self.resamples).all(axis=0)
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.nanquantile(
            np.where(missing, 0.0, self.resamples), tails, axis=0, method=method
        )
        return np.where(missing, np.nan, low), np.where(missing, np.nan, high)

    def interval(
        self, level: float = 0.95, method: Literal["linear", "nearest"] = "linear"
    ) -> Interval:
        """The percentile interval of a single number.

        Raises ArgumentError if the statistic is not defined: of the sample, or of every
        resample.
        """
        low, high = (float(end) for end in self.bounds(level, method))
        if not np.isfinite(self.value) or np.isnan(low):
            allowed = "defined: not of a constant column, say"
            raise ArgumentError("the statistic", allowed, float(self.value))
        return Interval(float(self.value), low, high, self.n)


# The bootstrap: units of one level, or of several crossed ones
# --------------------------------------------------------------------------------------


def bootstrap(
    statistic: Callable[..., Any], *levels: Level, seed: int, resamples: int = 2000
) -> Drawn:
    """`statistic(*places)` in resamples that draw the units of every level anew, with
    replacement.

    A level is a number of units, or a column that names the unit of each of its rows
    (then whole units are drawn: a cluster bootstrap). Levels are crossed and drawn
    independently of each other (the pigeonhole bootstrap, Owen 2007), the outermost
    first. `statistic` gets the places of the drawn rows, one array a level, and returns
    a number or an array; a result that is not finite counts as not defined.

    Raises ArgumentError if no level has two units.
    """
    units = [_units(level) for level in levels]
    n = _outermost([count for count, _ in units])
    members = [
        np.argsort(unit)
        if count == len(unit)
        else [np.flatnonzero(unit == each) for each in range(count)]
        for count, unit in units
    ]
    checks.whole(resamples, "resamples", at_least=1)
    generator = np.random.default_rng(checks.whole(seed, "seed", at_least=0))

    def places() -> Iterator[Places]:
        for rows in members:
            chosen = generator.integers(len(rows), size=len(rows))
            if isinstance(rows, list):
                yield np.concatenate([rows[unit] for unit in chosen])
            else:
                yield rows[chosen]

    value = np.asarray(statistic(*(np.arange(len(unit)) for _, unit in units)), float)
    drawn = np.array([statistic(*places()) for _ in range(resamples)], float)
    return Drawn(value, np.where(np.isfinite(drawn), drawn, np.nan), n)


@dataclass(frozen=True)
class Resampling:
    """How often each row counts in each resample, `counts` (R, rows), where `n` units
    are drawn.
    """

    counts: Array
    n: int

    def at(self, rows: npt.NDArray[Any]) -> Resampling:
        """The same draws, of which some rows (a mask, or places) are used."""
        return Resampling(self.counts[:, rows], self.n)


def draw(
    *levels: Level,
    seed: int,
    resamples: int = 2000,
    positive: npt.ArrayLike | None = None,
) -> tuple[Resampling, ...]:
    """Resamples of crossed levels, as those of `bootstrap`, for `crossed`.

    With `positive` (rows of the last level,) a resample that loses a class is drawn
    again.

    Raises ArgumentError if `positive` has one class alone or the level one unit.
    """
    checks.whole(resamples, "resamples", at_least=1)
    generator = np.random.default_rng(checks.whole(seed, "seed", at_least=0))
    found = []
    for level in levels:
        count, unit = _units(level)
        shares = np.full(count, 1 / count)
        counts = generator.multinomial(count, shares, resamples)
        if positive is not None and level is levels[-1]:
            classes = _classes(positive)
            checks.same_length(groups=unit, positive=classes)
            _outermost([count])
            while (lost := _loses_a_class(counts[:, unit], classes)).any():
                counts[lost] = generator.multinomial(count, shares, int(lost.sum()))
        found.append(Resampling(counts[:, unit].astype(np.float64), count))
    return tuple(found)


def _loses_a_class(
    counts: npt.NDArray[Any], positive: npt.NDArray[np.bool_]
) -> npt.NDArray[Any]:
    kept = [counts[:, each].sum(axis=1) > 0 for each in (positive, ~positive)]
    return ~(kept[0] & kept[1])


def crossed(statistic: Callable[..., Array], *levels: Resampling) -> Drawn:
    """`statistic(*counts)`, of how often each row of each level counts, (R, rows) one a
    level: (R, ...), for all resamples at once.

    Raises ArgumentError if no level has two units.
    """
    count = _outermost([level.n for level in levels])
    once = [np.ones((1, level.counts.shape[1])) for level in levels]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = statistic(*(level.counts for level in levels))
    return Drawn(
        statistic(*once)[0], np.where(np.isfinite(drawn), drawn, np.nan), count
    )


def crossed_mean(
    values: npt.ArrayLike, *levels: Resampling, weights: npt.ArrayLike | None = None
) -> Drawn:
    """Weighted mean of `values` (seeds, images) where both are drawn.

    Raises ArgumentError for numbers that are not finite, shapes that do not fit, and if
    all weights are 0 or one is negative.
    """
    table = _crossed_table(values, "values", *levels)
    counted = np.ones_like(table)
    if weights is not None:
        counted = _crossed_table(weights, "weights", *levels)
    if (counted < 0).any():
        raise ArgumentError("weights", "at least 0", counted.min())
    if not counted.any():
        raise ArgumentError("weights", "above 0 somewhere", "zeros alone")

    def mean(seeds: Array, images: Array) -> Array:
        total = ((seeds @ (table * counted)) * images).sum(axis=1)
        result: Array = total / ((seeds @ counted) * images).sum(axis=1)
        return result

    return crossed(mean, *levels)


def mean_over_seeds(
    statistic: Callable[[Array, Array], Array],
    scores: npt.ArrayLike,
    seeds: Resampling,
    rows: Resampling,
) -> Drawn:
    """Mean over seeds of `statistic(scores of a seed, counts of rows)`, from `scores`
    (seeds, rows), where seeds and rows are drawn.

    Raises ArgumentError for numbers that are not finite and shapes that do not fit.
    """
    table = _crossed_table(scores, "scores", seeds, rows)

    def mean(drawn: Array, counts: Array) -> Array:
        found = np.stack([statistic(row, counts) for row in table], axis=1)
        result: Array = (drawn * found).sum(axis=1) / drawn.sum(axis=1)
        return result

    return crossed(mean, seeds, rows)


def _crossed_table(given: npt.ArrayLike, name: str, *levels: Resampling) -> Array:
    """Finite numbers, one for each row of each level."""
    for level in levels:
        checks.having(level, "levels", "counts", "n")
    table = checks.array(given, name, dimensions=len(levels))
    shape = tuple(level.counts.shape[1] for level in levels)
    if table.shape != shape:
        raise ArgumentError(name, f"of shape {shape}", table)
    return table


def _units(level: Level) -> tuple[int, Places]:
    """How many units a level has, and that of each row."""
    if isinstance(level, int | np.integer):
        count = checks.whole(level, "the number of units", at_least=1)
        return count, np.arange(count)
    names = np.asarray(level)
    if names.ndim != 1 or not len(names):
        raise ArgumentError("groups", "a column of names of units", names)
    if names.dtype.kind == "f" and np.isnan(names).any():
        raise ArgumentError("groups", "names", "NaN in it")
    found, unit = np.unique(names, return_inverse=True)
    return len(found), unit


def _outermost(counts: list[int]) -> int:
    """Units of the outermost level that is drawn: a single unit is the same always."""
    for count in counts:
        if count > 1:
            return count
    raise ArgumentError("an interval", "of at least two independent units", counts)


# Columns of numbers
# --------------------------------------------------------------------------------------


def bootstrap_rows(
    statistic: Callable[..., float],
    *columns: npt.ArrayLike,
    seed: int,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """`statistic(*columns)` with a percentile bootstrap interval; rows of the `columns`
    (n,) are drawn together, or whole `groups` (n,) of them.

    Resamples in which the statistic is not defined (a constant column, say) are left
    out.

    Raises ArgumentError if the columns differ in length or hold a number that is not
    finite, if there are fewer than two units to draw, or if the statistic of the sample
    is not defined.
    """
    table = [checks.values(column, "values") for column in columns]
    units = len(table[0]) if groups is None else np.asarray(groups)
    named = {f"column {place}": column for place, column in enumerate(table)}
    checks.same_length(**named, **({} if groups is None else {"groups": units}))
    return bootstrap(
        lambda rows: statistic(*(column[rows] for column in table)),
        units,
        seed=seed,
        resamples=resamples,
    ).interval(level)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    seed: int,
    groups: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Mean of `values` (n,) with its percentile bootstrap interval; arguments and
    errors as in `bootstrap_rows`. A constant sample has an interval of width 0.
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
    """Median of `values` (n,), otherwise as `bootstrap_mean`."""
    return bootstrap_rows(
        np.median, values, seed=seed, groups=groups, level=level, resamples=resamples
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

    Raises ArgumentError as `bootstrap_rows` does, and if one of them is constant.
    """
    first, second = checks.values(first, "first"), checks.values(second, "second")
    checks.same_length(first=first, second=second)
    return bootstrap_rows(
        lambda one, other: float(_cosine(_ranks(one), _ranks(other))),
        first,
        second,
        seed=seed,
        groups=groups,
        level=level,
        resamples=resamples,
    )


def mean_interval_t(values: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of `values` (n,) with Student's t interval: for a handful of seeds, where a
    bootstrap is too narrow.

    Raises ArgumentError if there are fewer than two values or one is not finite.
    """
    sample = checks.values(values, "values")
    checks.real(level, "level", above=0, below=1)
    count, mean = _outermost([len(sample)]), float(sample.mean())
    half = float(
        stats.t.ppf((1 + level) / 2, count - 1) * sample.std(ddof=1) / np.sqrt(count)
    )
    return Interval(mean, mean - half, mean + half, count)


def binomial_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Share `successes` / `trials` with its exact Clopper-Pearson interval.

    Raises ArgumentError if `trials` is not positive, `successes` lies outside [0,
    `trials`] or `level` outside (0, 1).
    """
    trials = checks.whole(trials, "trials", at_least=1)
    successes = checks.whole(successes, "successes", at_least=0, at_most=trials)
    checks.real(level, "level", above=0, below=1)
    found = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    return Interval(successes / trials, float(found.low), float(found.high), trials)


# Correlations
# --------------------------------------------------------------------------------------


def correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Any:
    """Pearson's correlation of `first` and `second` (..., n) along the last axis; 0
    where one of them is constant, since a constant tells nothing.

    Raises ArgumentError for numbers that are not finite, other shapes, fewer than two.
    """
    one, other = (
        np.where(
            np.ptp(each, axis=-1, keepdims=True) > 0,
            each - each.mean(axis=-1, keepdims=True),
            0.0,
        )
        for each in _pair(first, second)
    )
    return np.nan_to_num(_cosine(one, other))[()]


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Any:
    """Spearman's rho of `first` and `second` (..., n): `correlation` of their ranks."""
    one, other = _pair(first, second)
    return np.nan_to_num(_cosine(_ranks(one), _ranks(other)))[()]


def rank_matrix(rows: npt.ArrayLike) -> Array:
    """Spearman's rho (L, L) between the columns of `rows` (n, L); NaN where a column is
    constant.

    Raises ArgumentError for numbers that are not finite and fewer than two rows.
    """
    ranks = _ranks(_table(rows, "rows", at_least=(2, 1)).T)
    return _cosine(ranks[:, None], ranks[None])


def kendall(first: npt.ArrayLike, second: npt.ArrayLike | None = None) -> Array:
    """Kendall's tau-b (..., S, T) between rows of scores (..., S, n) and (..., T, n) of
    the same n things, by default between the rows of `first`.

    Two rows of which one does not tell any two things apart agree on nothing: tau 0.

    Raises ArgumentError for numbers that are not finite, other shapes, fewer than two.
    """
    one, other = _pair(first, first if second is None else second, rows=True)
    result: Array = _order(one) @ _order(other).swapaxes(-1, -2)
    return result


def _order(scores: Array) -> Array:
    """Which of each two things is ahead, (..., S, pairs), in rows of length 1."""
    first, second = np.triu_indices(scores.shape[-1], 1)
    order = np.sign(scores[..., first] - scores[..., second])
    norm = np.sqrt(np.abs(order).sum(axis=-1, keepdims=True))
    result: Array = order / np.where(norm > 0, norm, 1)
    return result


def _cosine(one: Array, other: Array) -> Array:
    """Cosine along the last axis, NaN where one of them is 0."""
    with np.errstate(invalid="ignore"):
        found: Array = np.vecdot(one, other) / np.sqrt(
            np.vecdot(one, one) * np.vecdot(other, other)
        )
    return found


def _ranks(values: Array) -> Array:
    """Ranks along the last axis less their mean, equal values at their mean rank.

    For one column SciPy's `rankdata` without its checks, which take ten times as long.
    """
    middle = (values.shape[-1] + 1) / 2
    if values.ndim > 1:
        return np.asarray(stats.rankdata(values, axis=-1) - middle)
    ordered = np.sort(values)
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    result: Array = (left + right + 1) / 2 - middle
    return result


def _pair(
    first: npt.ArrayLike, second: npt.ArrayLike, *, rows: bool = False
) -> tuple[Array, Array]:
    """Two tables of finite numbers, of one shape (or, with `rows`, of rows of one
    length).
    """
    one, other = (
        _table(each, name, at_least=(2,))
        for each, name in ((first, "first"), (second, "second"))
    )
    alike = one.shape[-1:] == other.shape[-1:] if rows else one.shape == other.shape
    if not alike or (rows and min(one.ndim, other.ndim) < 2):
        allowed = "of rows of one length" if rows else "of one length and shape"
        raise ArgumentError("first and second", allowed, (one.shape, other.shape))
    return one, other


def _table(values: npt.ArrayLike, name: str, *, at_least: tuple[int, ...]) -> Array:
    """Finite numbers of at least so many along the last axes."""
    table = checks.array(values, name)
    shape = table.shape[-len(at_least) :]
    if len(shape) < len(at_least) or any(map(int.__lt__, shape, at_least)):
        raise ArgumentError(name, f"of at least {at_least} numbers", table)
    return table


# Two classes
# --------------------------------------------------------------------------------------


def auc(
    positive: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> Any:
    """Area under the ROC curve of `scores` (n,) for the binary labels `positive` (n,);
    ties count half.

    `weights` (R, n) count rows more than once, as each of R resamples does; the result
    is then (R,).

    Raises ArgumentError if labels are not binary, a class is empty or without weight,
    shapes differ, or a number is not finite.
    """
    above, below = _by_score(positive, scores, weights)
    smaller = np.cumsum(below, axis=-1) - below
    return (above * (smaller + below / 2)).sum(axis=-1) / (
        above.sum(axis=-1) * below.sum(axis=-1)
    )


def ks(
    positive: npt.ArrayLike,
    scores: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> Any:
    """Kolmogorov-Smirnov statistic: the largest gap between the distribution functions
    of both classes. Arguments and errors as in `auc`.
    """
    one, other = (
        np.cumsum(part, axis=-1) / part.sum(axis=-1, keepdims=True)
        for part in _by_score(positive, scores, weights)
    )
    return np.abs(one - other).max(axis=-1)


def _by_score(
    positive: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Array, Array]:
    """Weights of positive and of negative rows at each distinct score in ascending
    order, (..., scores) each.
    """
    wanted, row = _classes(positive), checks.values(scores, "scores")
    checks.same_length(positive=wanted, scores=row)
    table = np.ones(len(row))
    if weights is not None:
        table = _table(weights, "weights", at_least=(1,))
        if table.shape[-1] != len(row) or (table < 0).any():
            raise ArgumentError("weights", f"at least 0, {len(row)} a row", table)
    order = np.argsort(row, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(row[order]) > 0])
    above, below = (
        np.add.reduceat((table * mask)[..., order], starts, axis=-1)
        for mask in (wanted, ~wanted)
    )
    if not ((above.sum(axis=-1) > 0) & (below.sum(axis=-1) > 0)).all():
        raise ArgumentError("weights", "above 0 in both classes", table)
    return above, below


def _classes(positive: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Binary labels (n,) as a mask, both classes present."""
    column = checks.values(positive, "positive")
    if not np.isin(column, (0, 1)).all():
        raise ArgumentError("positive", "binary labels: 0 and 1", positive)
    mask = column == 1
    if mask.all() or not mask.any():
        raise ArgumentError("positive", "of both classes", "one alone")
    return mask
