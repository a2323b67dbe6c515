"""Rank correlations between many measures of the same networks, with intervals over
kinds of network and seeds.

Networks of one kind are no independent witnesses, and neither are those of one seed
where a kind is made from another, so both are drawn (the pigeonhole bootstrap, Owen
2007). A table is `values` (K, S, L): kinds, seeds, measures. Read `rank_matrix` first,
then `partial`, then `agreement` (all pairs with intervals), `within_kinds` and
`seed_ceiling`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A statistic `value` (...), what it was in every resample (R, ...), and the number
    `n` of units that were drawn.
    """

    value: Array
    resamples: Array
    n: int

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Percentile interval (low, high), each of the shape of `value`; resamples
        without a value are left out.
        """
        tails = [(1 - level) / 2, (1 + level) / 2]
        with warnings.catch_warnings():
            # A pair without any value, a measure with itself at equal itself, stays
            # NaN.
            warnings.simplefilter("ignore", RuntimeWarning)
            low, high = np.nanquantile(self.resamples, tails, axis=0)
        return low, high

    def map(self, function: Callable[[Array], Array]) -> Drawn:
        """The same with a function of the statistic, which takes a leading axis of
        resamples.
        """
        return Drawn(function(self.value[None])[0], function(self.resamples), self.n)


def rank_matrix(rows: ArrayLike) -> Array:
    """Spearman's rho (L, L) between the columns of `rows` (n, L); NaN where a column is
    constant.
    """
    ranks = rankdata(np.asarray(rows, dtype=np.float64), axis=0)
    centred = ranks - ranks.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return centred.T @ centred / np.outer(length, length)


def partial(matrix: Array, given: int) -> Array:
    """Correlations (..., L, L) that are left at equal measure `given`, from
    correlations (..., L, L).

    (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2)); NaN where a measure is `given`
    itself.
    """
    with_given = matrix[..., :, given]
    left = np.sqrt(np.clip(1 - with_given**2, 0, None))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (matrix - with_given[..., :, None] * with_given[..., None, :]) / (
            left[..., :, None] * left[..., None, :]
        )
    found[..., given, :] = found[..., :, given] = np.nan
    return np.clip(found, -1, 1)


def agreement(
    values: ArrayLike,
    *,
    seed: int,
    resamples: int,
    families: Sequence[Sequence[int]] | None = None,
) -> Drawn:
    """Spearman's rho (L, L) over all K x S networks of `values` (K, S, L), resampled
    over kinds and seeds.

    With `families` (lists of kinds) whole families are drawn instead of kinds; `n`
    counts what is drawn.

    Raises ValueError if there are fewer than two kinds (or families) or seeds, or a
    value is not finite.
    """
    table = _checked(values)
    clusters = _clusters(table, families)
    drawn = [
        rank_matrix(_flat(part)) for part in _redrawn(table, clusters, seed, resamples)
    ]
    return Drawn(rank_matrix(_flat(table)), np.stack(drawn), len(clusters))


def within_kinds(
    values: ArrayLike,
    *,
    seed: int,
    resamples: int,
    families: Sequence[Sequence[int]] | None = None,
) -> Drawn:
    """Spearman's rho (L, L) of what is left of `values` (K, S, L) without each kind's
    mean, resampled over kinds and seeds.

    It says whether two measures agree on networks that differ in their seed alone.
    Families and errors as in `agreement`.
    """
    table = _checked(values)
    clusters = _clusters(table, families)
    drawn = [
        rank_matrix(_flat(_centred(part)))
        for part in _redrawn(table, clusters, seed, resamples)
    ]
    return Drawn(rank_matrix(_flat(_centred(table))), np.stack(drawn), len(clusters))


def _centred(table: Array) -> Array:
    """The table without each kind's mean; of equal values exactly nothing is left,
    whatever the rounding of their mean.
    """
    equal = np.ptp(table, axis=1, keepdims=True) == 0
    return np.where(equal, 0.0, table - table.mean(axis=1, keepdims=True))


def seed_ceiling(
    values: ArrayLike,
    *,
    seed: int,
    resamples: int,
    families: Sequence[Sequence[int]] | None = None,
) -> Drawn:
    """Spearman's rho (L,) over kinds between two seeds of `values` (K, S, L), mean over
    pairs, resampled over kinds.

    Seeds are not drawn, since one that is drawn twice agrees with itself. Families and
    errors as in `agreement`.
    """
    table = _checked(values)
    clusters = _clusters(table, families)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(clusters), size=(resamples, len(clusters)))
    drawn = [
        _between_seeds(table[[kind for place in row for kind in clusters[place]]])
        for row in chosen
    ]
    return Drawn(_between_seeds(table), np.stack(drawn), len(clusters))


def _clusters(
    table: Array, families: Sequence[Sequence[int]] | None
) -> list[list[int]]:
    """What is drawn as a whole: every kind by itself, or families of kinds."""
    return (
        [[kind] for kind in range(len(table))]
        if families is None
        else [list(each) for each in families]
    )


def _between_seeds(table: Array) -> Array:
    """Mean over pairs of seeds of Spearman's rho between their columns, one a
    measure.
    """
    kinds, seeds, measures = table.shape
    matrix = rank_matrix(table.reshape(kinds, seeds * measures)).reshape(
        seeds, measures, seeds, measures
    )
    pairs = [
        np.diagonal(matrix[first, :, second, :])
        for first, second in combinations(range(seeds), 2)
    ]
    return np.mean(pairs, axis=0)


def _redrawn(
    table: Array, clusters: list[list[int]], seed: int, resamples: int
) -> Iterator[Array]:
    """The table with its clusters of kinds, and independently its seeds, drawn with
    replacement.
    """
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        kinds = [
            kind
            for chosen in generator.integers(len(clusters), size=len(clusters))
            for kind in clusters[chosen]
        ]
        yield table[kinds][:, generator.integers(table.shape[1], size=table.shape[1])]


def _flat(table: Array) -> Array:
    return table.reshape(-1, table.shape[-1])


def _checked(values: ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 3 or min(table.shape[:2]) < 2:
        raise ValueError(
            "values must be (kinds, seeds, measures) with two of both at least, "
            f"got {table.shape}"
        )
    if not np.isfinite(table).all():
        raise ValueError("values must be finite")
    return table
