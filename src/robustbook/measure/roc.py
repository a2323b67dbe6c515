"""How well scores separate two classes: area under the ROC curve and Kolmogorov-Smirnov statistic, with clustered intervals.

Read `auc` and `ks` (many rankings at once), then `Resampling` (which breasts a bootstrap draws, shared by everything that is
compared), then `interval_of` and `clustered`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from robustbook.stats import Interval

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array, Array], Array]
"""`(positive (n,), scores (..., n), weights (n,)) -> (...)`."""


def auc(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Area under the ROC curve (...) of `scores` (..., n) for the mask `positive` (n,); ties count half.

    `weights` (n,) count rows more than once, as a bootstrap does. Raises ValueError if one class is empty or shapes differ.
    """
    wanted, table, weight = _checked(positive, scores, weights)
    plus, minus = weight * wanted, weight * ~wanted
    return np.stack([_auc_of_row(row, plus, minus) for row in table]).reshape(np.shape(scores)[:-1])


def _auc_of_row(row: Array, plus: Array, minus: Array) -> float:
    places = rankdata(row, method="dense").astype(np.intp) - 1
    above = np.bincount(places, plus)
    below = np.bincount(places, minus)
    smaller = np.cumsum(below) - below
    return float((above * (smaller + below / 2)).sum() / (plus.sum() * minus.sum()))


def ks(positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Kolmogorov-Smirnov statistic (...): the largest gap between the distribution functions of both classes.

    Shapes and errors as in `auc`.
    """
    wanted, table, weight = _checked(positive, scores, weights)
    plus, minus = weight * wanted, weight * ~wanted
    return np.stack([_ks_of_row(row, plus, minus) for row in table]).reshape(np.shape(scores)[:-1])


def _ks_of_row(row: Array, plus: Array, minus: Array) -> float:
    places = rankdata(row, method="dense").astype(np.intp) - 1
    gaps = np.cumsum(np.bincount(places, plus)) / plus.sum() - np.cumsum(np.bincount(places, minus)) / minus.sum()
    return float(np.abs(gaps).max())


def _checked(
    positive: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.bool_], Array, Array]:
    wanted = np.asarray(positive).astype(bool).ravel()
    table = np.asarray(scores, dtype=np.float64)
    weight = np.ones(len(wanted)) if weights is None else np.asarray(weights, dtype=np.float64)
    if table.shape[-1:] != wanted.shape or weight.shape != wanted.shape:
        raise ValueError(f"scores and weights need {len(wanted)} entries a row, got {table.shape} and {weight.shape}")
    if not np.isfinite(table).all():
        raise ValueError("scores must be finite")
    if weight[wanted].sum() == 0 or weight[~wanted].sum() == 0:
        raise ValueError("an ROC curve needs rows of both classes")
    return wanted, table.reshape(-1, len(wanted)), weight


@dataclass(frozen=True)
class Resampling:
    """How often each row is drawn in each bootstrap resample, `weights` (resamples, n), and how many `units` there are."""

    weights: Array
    units: int

    @classmethod
    def draw(
        cls,
        positive: ArrayLike,
        groups: ArrayLike,
        *,
        seed: int,
        resamples: int = 500,
        seeds: int = 1,
    ) -> Resampling:
        """Draw whole `groups` (n,) (women, breasts) with replacement; resamples that lose a class are drawn again.

        Raises ValueError if there are fewer than two groups or one class is empty.
        """
        wanted = np.asarray(positive).astype(bool)
        names, place = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2 or wanted.all() or not wanted.any():
            raise ValueError("an interval needs at least two groups and both classes")
        generator, drawn = np.random.default_rng(seed), []
        while len(drawn) < resamples:
            counts = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
            weight = counts[place].astype(float)
            if weight[wanted].sum() and weight[~wanted].sum():
                drawn.append(weight)
        return cls(np.stack(drawn), len(names))


def clustered(
    statistic: Statistic, positive: ArrayLike, scores: ArrayLike, resampling: Resampling
) -> tuple[float, Array]:
    """`statistic` averaged over the leading axes of `scores` (seeds, n), and the same in every resample (resamples,).

    Seeds are drawn too, with replacement, so that an interval is over both; with one seed it is over the groups alone.
    """
    mask, table = np.asarray(positive, dtype=float), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    value = float(np.mean(statistic(mask, table, np.ones(len(mask)))))
    generator = np.random.default_rng(len(table))
    drawn = np.empty(len(resampling.weights))
    for index, weight in enumerate(resampling.weights):
        chosen = generator.integers(len(table), size=len(table))
        drawn[index] = np.mean(statistic(mask, table, weight)[chosen])
    return value, drawn


def interval_of(value: float, drawn: Array, units: int, level: float = 0.95) -> Interval:
    """Percentile interval of a statistic from its values in the resamples."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), units)
