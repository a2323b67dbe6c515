"""Rows of the record: each network under each lens, then rank correlations between
lenses, then what pruning changes.

Read `record_networks` first, then `table` (networks by lenses, from the rows),
`record_correlations` and `record_pruning`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbook import stats
from robustbook.measure import rank_agreement
from robustbook.measure.uncertainty import auroc
from robustbook.results import Metric, Results
from robustbook.stats import Drawn, Interval
from robustbook.studies.synthesis import networks
from robustbook.studies.synthesis.claims import (
    CERTIFIED,
    CLEAN,
    LENSES,
    LOW_PASS,
    PRUNABLE,
    PSI,
    ROBUST,
    SOUND,
    STABILITY,
)
from robustbook.studies.synthesis.measure import RADII, Measured, prunable_share
from robustbook.studies.synthesis.parameters import Parameters

Array = NDArray[np.float64]
Places = NDArray[np.intp]

UNITS = {PSI: "1/nats", SOUND: "1/nats", STABILITY: "Spearman's rho"}
"""Units of the lenses that are no shares."""
WITHOUT_POSTERIOR = "rank correlation without the Bayesian kind"
"""A sensitivity that was added after the first reference run: the lenses look at the
Bayesian kind in different ways.
"""
SMALLEST_DIVERGENCE = 1e-9
"""A divergence below this (nats) is rounding; psi then counts as its inverse."""


def psi_of(kl: Array) -> Array:
    """Psi (1/nats) of divergences (nats)."""
    return 1 / np.maximum(kl, SMALLEST_DIVERGENCE)


def record_networks(
    results: Results, measured: Sequence[Measured], parameters: Parameters
) -> None:
    """One row a network and lens, with its interval over images, and the rows beside
    the lenses (both ends of brackets).
    """
    results.add(
        "networks", len({each.network.kind for each in measured}), count="kinds"
    )
    results.add("networks", parameters.seeds, count="seeds")
    for each in measured:
        who: dict[str, Any] = {"kind": each.network.kind, "seed": each.network.seed}
        for lens, interval in lens_values(each, parameters).items():
            results.add(
                lens, interval, over="images", unit=UNITS.get(lens, "share"), **who
            )
        _record_brackets(results, each, parameters, who)
        if each.alarm is not None:
            results.add(
                "alarm under attack",
                auroc(*each.alarm),
                n=len(each.robust),
                unit="AUROC",
                **who,
            )
        if each.convergence is not None:
            results.add(
                "evidence lower bound",
                each.convergence.bound,
                unit="nats per image",
                **who,
            )
            for layer, balance in each.convergence.balance.items():
                results.add("balance of deviations", balance, layer=layer, **who)


def lens_values(each: Measured, parameters: Parameters) -> dict[str, Interval]:
    """The value of every lens on one network, with its interval over images."""
    settings: dict[str, Any] = {"seed": 0, "resamples": parameters.resamples}
    proved = np.mean([each.certified[share] for share in RADII], axis=0)
    return {
        ROBUST: _share(each.robust),
        PSI: stats.bootstrap_median(psi_of(each.kl), **settings),
        SOUND: stats.bootstrap_median(psi_of(each.bound[RADII[-1]]), **settings),
        CERTIFIED: stats.bootstrap_mean(proved, **settings),
        STABILITY: stats.bootstrap_mean(each.stability, **settings),
        LOW_PASS: stats.bootstrap_mean(each.clean - each.filtered.mean(0), **settings),
        PRUNABLE: _prunable(each, parameters.resamples),
        CLEAN: _share(each.clean),
    }


def _share(right: Array) -> Interval:
    return stats.binomial_interval(int(right.sum()), len(right))


def _prunable(each: Measured, resamples: int) -> Interval:
    """The prunable share, its interval by drawing the images on which accuracy is
    counted.
    """
    images = stats.draw(each.curve.shape[1], seed=0, resamples=resamples)

    def share(counts: Array) -> Array:
        kept = counts @ each.curve.T / counts.sum(axis=1, keepdims=True)
        return prunable_share(each.shares, kept)

    return stats.crossed(share, *images).interval()


def _record_brackets(
    results: Results, each: Measured, parameters: Parameters, who: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"seed": 0, "resamples": parameters.resamples}
    for radius in RADII:
        for name, values in (
            ("decisions certified", each.certified),
            ("decisions unmoved by PGD", each.unmoved),
        ):
            results.add(
                name,
                stats.bootstrap_mean(values[radius], **settings),
                over="images",
                unit="share",
                radius=radius,
                **who,
            )
    for radius in each.bound:
        for name, values in (
            ("psi, proved end", each.bound),
            ("psi, attained end", each.attained),
        ):
            interval = stats.bootstrap_median(psi_of(values[radius]), **settings)
            results.add(
                name, interval, over="images", unit="1/nats", radius=radius, **who
            )
    violated = sum(
        int((each.attained[radius] > each.bound[radius] + 1e-6).sum())
        for radius in each.bound
    )
    violated += sum(
        int((each.certified[radius] > each.unmoved[radius]).sum()) for radius in RADII
    )
    results.add(
        "images that break a bracket", violated, n=len(each.bound[RADII[-1]]), **who
    )


def table(results: Results) -> tuple[list[str], Array]:
    """Kinds and their values (kinds, seeds, lenses), from the rows alone."""
    kinds = list(
        dict.fromkeys(str(row.factors["kind"]) for row in results.select(CLEAN))
    )
    return kinds, np.array(
        [
            [[row.value for row in results.select(lens, kind=kind)] for lens in LENSES]
            for kind in kinds
        ]
    ).swapaxes(1, 2)


# Correlations
# --------------------------------------------------------------------------------------


def record_correlations(results: Results, parameters: Parameters) -> None:
    """Rank correlations between all lenses: plain, over families, given clean or robust
    accuracy, within kinds, of two seeds.
    """
    kinds, values = table(results)
    seed, resamples = 0, parameters.resamples
    plain = rank_agreement.agreement(values, seed=seed, resamples=resamples)
    families = rank_agreement.agreement(
        values, seed=seed, resamples=resamples, families=networks.FAMILIES
    )
    inside = rank_agreement.within_kinds(
        values, seed=seed, resamples=resamples, families=networks.FAMILIES
    )
    _record_pairs(results, "rank correlation", plain, "kinds and seeds")
    _record_pairs(
        results, "rank correlation over families", families, "families and seeds"
    )
    _record_pairs(results, "within-kind rank correlation", inside, "families and seeds")
    for given in (CLEAN, ROBUST):
        left = plain.map(_given(LENSES.index(given)))
        _record_pairs(
            results, "partial rank correlation", left, "kinds and seeds", given=given
        )
    others = [place for place, kind in enumerate(kinds) if kind != networks.POSTERIOR]
    without = rank_agreement.agreement(values[others], seed=seed, resamples=resamples)
    _record_pairs(results, WITHOUT_POSTERIOR, without, "kinds and seeds")
    left = without.map(_given(LENSES.index(ROBUST)))
    _record_pairs(
        results, f"partial {WITHOUT_POSTERIOR}", left, "kinds and seeds", given=ROBUST
    )
    ceiling = rank_agreement.seed_ceiling(
        values, seed=seed, resamples=resamples, families=networks.FAMILIES
    )
    for place, lens in enumerate(LENSES):
        low, high = ceiling.bounds()
        if np.isfinite(ceiling.value[place]):
            interval = (float(low[place]), float(high[place]))
            results.add(
                "agreement of two seeds",
                ceiling.value[place],
                interval,
                n=ceiling.n,
                over="families",
                lens=lens,
            )


def _given(place: int) -> Callable[[Array], Array]:
    return lambda matrix: rank_agreement.partial(matrix, place)


def _record_pairs(
    results: Results, name: str, drawn: Drawn, over: str, **factors: str
) -> None:
    """One row for each pair of lenses that has a correlation, the first of them the
    earlier in `LENSES`.
    """
    low, high = drawn.bounds()
    for first, second in zip(*np.triu_indices(len(LENSES), k=1), strict=True):
        if np.isfinite(
            [drawn.value[first, second], low[first, second], high[first, second]]
        ).all():
            interval = (float(low[first, second]), float(high[first, second]))
            results.add(
                name,
                float(drawn.value[first, second]),
                interval,
                n=drawn.n,
                over=over,
                first=LENSES[first],
                second=LENSES[second],
                **factors,
            )


def matrix(results: Results, name: str = "rank correlation", **factors: str) -> Array:
    """Rows of a correlation as a matrix (lenses, lenses, 3) of value, low and high; NaN
    where there is no row.
    """
    found = np.full((len(LENSES), len(LENSES), 3), np.nan)
    for row in results.select(name, **factors):
        first, second = (
            LENSES.index(str(row.factors[side])) for side in ("first", "second")
        )
        found[first, second] = found[second, first] = (row.value, row.low, row.high)
    return found


# Pruning
# --------------------------------------------------------------------------------------


def record_pruning(
    results: Results,
    measured: Sequence[Measured],
    tuned: Sequence[Measured],
    parameters: Parameters,
) -> None:
    """What pruning changes: psi and clean accuracy of each pruned kind against the same
    network tuned without pruning.
    """
    by_kind = _by_kind([*measured, *tuned])
    for kind, (parent, share) in networks.PRUNED.items():
        before, after = by_kind[networks.TUNED[parent]], by_kind[kind]
        ratio = psi_ratio(
            _stack(after, "kl"), _stack(before, "kl"), parameters.resamples
        )
        loss = mean_difference(
            _stack(before, "clean"), _stack(after, "clean"), parameters.resamples
        )
        who: dict[str, Any] = {"kind": kind, "parent": parent, "share": share}
        results.add(
            "psi after pruning over before",
            ratio,
            over="seeds and images",
            unit="ratio",
            **who,
        )
        results.add(
            "accuracy lost by pruning",
            loss,
            over="seeds and images",
            unit="share",
            **who,
        )
    natural = np.log([np.median(psi_of(each.kl)) for each in by_kind[networks.NATURAL]])
    results.add(
        "largest psi ratio between seeds",
        float(np.exp(np.ptp(natural))),
        n=len(natural),
        unit="ratio",
    )


def _by_kind(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    kinds = dict.fromkeys(each.network.kind for each in measured)
    return {
        kind: [each for each in measured if each.network.kind == kind] for kind in kinds
    }


def _stack(group: Sequence[Measured], name: str) -> Array:
    return np.stack([getattr(each, name) for each in group])


def psi_ratio(after: Array, before: Array, resamples: int) -> Interval:
    """Geometric mean over seeds of the ratio of median psi, from divergences (seeds,
    images), both drawn with replacement.
    """

    def logarithm(seeds: Places, images: Places) -> float:
        pair = (
            np.median(psi_of(part[seeds][:, images]), axis=1)
            for part in (after, before)
        )
        later, earlier = pair
        return float(np.log(later / earlier).mean())

    found = stats.bootstrap(logarithm, *after.shape, seed=0, resamples=resamples)
    return found.map(np.exp).interval()


def mean_difference(first: Array, second: Array, resamples: int) -> Interval:
    """Mean of `first` less that of `second` (seeds, images), with seeds and images
    drawn with replacement.
    """
    return stats.bootstrap(
        lambda seeds, images: (first - second)[seeds][:, images].mean(),
        *first.shape,
        seed=0,
        resamples=resamples,
    ).interval()


# Tables
# --------------------------------------------------------------------------------------


def overview(results: Results) -> pd.DataFrame:
    """Networks by lenses: mean over seeds, and half of how far seeds are apart."""
    kinds, values = table(results)
    rows = []
    for kind, part in zip(kinds, values, strict=True):
        cells = {lens: _range(part[:, place]) for place, lens in enumerate(LENSES)}
        rows.append({"kind": kind, **cells})
    return pd.DataFrame(rows)


def _range(values: Array) -> str:
    digits = 1 if np.abs(values).max() >= 10 else 2
    return f"{values.mean():.{digits}f}±{np.ptp(values) / 2:.{digits}f}".replace(
        "-", "−"
    )


def strongest(results: Results, *, without: str = CLEAN) -> list[Metric]:
    """Rank correlations between lenses (without the control), the largest absolute
    value first.
    """
    rows = [
        row
        for row in results.select("rank correlation")
        if without not in row.factors.values()
    ]
    return sorted(rows, key=lambda row: -abs(row.value))
