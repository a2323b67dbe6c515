"""Rank correlations between many measures of the same networks, with intervals over
kinds of network and seeds.

Networks of one kind are no independent witnesses, and neither are those of one seed
where a kind is made from another, so both are drawn (`robustbook.stats.bootstrap`). A
table is `values` (K, S, L): kinds, seeds, measures; `families` (K,) name what is drawn
in place of kinds. Read `agreement` first (all pairs with intervals), then `partial`,
`across_halves` with `whole_from_half` (how reliable measures are, and what is left
within kinds), `seed_ceiling` and `without_one`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.stats import Drawn, bootstrap, rank_matrix

Array = NDArray[np.float64]


def agreement(
    values: ArrayLike, *, seed: int, resamples: int, families: ArrayLike | None = None
) -> Drawn:
    """Spearman's rho (L, L) over all K x S networks of `values` (K, S, L), resampled
    over kinds (or `families`) and seeds.

    Raises ArgumentError if there are fewer than two kinds (or families) or seeds, or a
    value is not finite.
    """
    table, kinds = _checked(values, families)

    def correlations(chosen: NDArray[np.intp], seeds: NDArray[np.intp]) -> Array:
        part = table[chosen][:, seeds]
        return rank_matrix(part.reshape(-1, part.shape[-1]))

    return bootstrap(
        correlations, kinds, table.shape[1], seed=seed, resamples=resamples
    )


def across_halves(
    halves: ArrayLike,
    *,
    seed: int,
    resamples: int,
    families: ArrayLike | None = None,
    within: bool = False,
) -> Drawn:
    """Spearman's rho (L, L) between one measure on one half of the images and another
    on the other half, from `halves` (H, 2, K, S, L) of H halvings.

    Mean over halvings and both orders, resampled as in `agreement`. No noise of single
    images is common to both sides; the diagonal is how well a measure agrees with
    itself. With `within` each kind's mean is taken off first, which asks of networks
    that differ in their seed alone.

    Raises ArgumentError if there are not two halves, and as `agreement` does.
    """
    tables = checks.array(halves, "halves")
    if tables.ndim != 5 or tables.shape[1] != 2 or not len(tables):
        raise ArgumentError("halves", "(halvings, 2, kinds, seeds, measures)", tables)
    sides = tables.transpose(2, 3, 0, 1, 4)
    networks, cuts, measures = sides.shape[:2], len(tables), tables.shape[-1]
    table, kinds = _checked(sides.reshape(*networks, -1), families)

    def correlations(chosen: NDArray[np.intp], seeds: NDArray[np.intp]) -> Array:
        part = table[chosen][:, seeds]
        flat = (_centred(part) if within else part).reshape(-1, cuts, 2 * measures)
        found = np.stack([rank_matrix(flat[:, cut]) for cut in range(cuts)])
        crossed = found[:, :measures, measures:]
        return np.asarray((crossed + crossed.swapaxes(1, 2)).mean(axis=0) / 2)

    return bootstrap(correlations, kinds, networks[1], seed=seed, resamples=resamples)


def whole_from_half(half: ArrayLike) -> Array:
    """Reliability with all images from the correlation of two halves: 2 r / (1 + r),
    Spearman and Brown; a negative correlation counts as none.
    """
    positive = np.clip(checks.array(half, "half", finite=False), 0, None)
    return np.asarray(2 * positive / (1 + positive))


def without_one(values: ArrayLike, families: ArrayLike) -> Array:
    """Spearman's rho (F, L, L) over the networks of `values` (K, S, L) that are left
    without one family, families in the order of their names' first use.
    """
    table, _ = _checked(values, families)
    names = np.asarray(families)
    left = [table[names != name] for name in dict.fromkeys(names.tolist())]
    return np.stack([rank_matrix(part.reshape(-1, part.shape[-1])) for part in left])


def seed_ceiling(
    values: ArrayLike, *, seed: int, resamples: int, families: ArrayLike | None = None
) -> Drawn:
    """Spearman's rho (L,) over kinds between two seeds of `values` (K, S, L), mean over
    pairs, resampled over kinds (or `families`).

    Seeds are not drawn, since one that is drawn twice agrees with itself.
    """
    table, kinds = _checked(values, families)
    return bootstrap(
        lambda chosen: _between_seeds(table[chosen]),
        kinds,
        seed=seed,
        resamples=resamples,
    )


def partial(matrix: ArrayLike, given: int) -> Array:
    """Correlations (..., L, L) that are left at equal measure `given`, from
    correlations (..., L, L).

    (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2)); NaN where a measure is `given`
    itself, or where a correlation is NaN.

    Raises ArgumentError for another shape, or values outside [-1, 1].
    """
    whole = checks.array(matrix, "matrix", finite=False)
    if whole.ndim < 2 or whole.shape[-1] != whole.shape[-2]:
        raise ArgumentError("matrix", "of correlations (..., L, L)", whole)
    if (np.abs(whole) > 1 + 1e-9).any():
        raise ArgumentError("matrix", "of correlations in [-1, 1]", whole)
    checks.whole(given, "given", at_least=0, at_most=whole.shape[-1] - 1)
    with_given = whole[..., :, given]
    left = np.sqrt(np.clip(1 - with_given**2, 0, None))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (whole - with_given[..., :, None] * with_given[..., None, :]) / (
            left[..., :, None] * left[..., None, :]
        )
    found[..., given, :] = found[..., :, given] = np.nan
    return np.clip(found, -1, 1)


def _centred(table: Array) -> Array:
    """The table without each kind's mean; of equal values exactly nothing is left,
    whatever the rounding of their mean.
    """
    equal = np.ptp(table, axis=1, keepdims=True) == 0
    return np.where(equal, 0.0, table - table.mean(axis=1, keepdims=True))


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


def _checked(
    values: ArrayLike, families: ArrayLike | None
) -> tuple[Array, int | ArrayLike]:
    """The table, and what is drawn as a whole: kinds, or families of kinds."""
    table = checks.array(values, "values")
    if table.ndim != 3 or min(table.shape[:2]) < 2 or not table.size:
        allowed = "(kinds, seeds, measures) with at least two of the first two"
        raise ArgumentError("values", allowed, table)
    if families is None:
        return table, len(table)
    checks.same_length(families=families, values=table)
    names = np.asarray(families)
    if len(np.unique(names)) < 2 or (names.dtype.kind == "f" and np.isnan(names).any()):
        raise ArgumentError("families", "at least two names", families)
    return table, families
