"""Rows of the record: each network under each lens, then how reliable the lenses are
and how alike they rank networks, then what pruning changes.

Read `record_networks` first, then `record_correlations` and `record_pruning`, then
`matrix`, which figures read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbook import stats
from robustbook.measure import rank_agreement
from robustbook.results import Results
from robustbook.stats import Drawn, Interval
from robustbook.studies.synthesis import networks
from robustbook.studies.synthesis.claims import (
    BLACK_BOX,
    CERTIFIED,
    CLEAN,
    EVERY,
    HALF_PSI,
    MEASURES,
    ONE_STEP,
    PSI,
    UNITS,
    WITHIN,
)
from robustbook.studies.synthesis.measure import tables
from robustbook.studies.synthesis.measure.lenses import LensMeasurements
from robustbook.studies.synthesis.measure.tables import psi_of

Array = NDArray[np.float64]

OVER = "families and seeds"


def record_networks(results: Results, measured: Sequence[LensMeasurements]) -> None:
    """One row a network and measure, brackets that are broken, and whether the
    posteriors' training lasted long enough.
    """
    groups = tables.by_kind(measured)
    families = {networks.family_of(kind) for kind in groups}
    seeds = {each.network.seed for each in measured}
    for count, number in (
        ("kinds", len(groups)),
        ("families", len(families)),
        ("seeds", len(seeds)),
    ):
        results.add("networks", number, count=count)
    for each in measured:
        who: dict[str, Any] = {"kind": each.network.kind, "seed": each.network.seed}
        for name, value in tables.lens_values(each).items():
            results.add(name, value, unit=UNITS.get(name, "share"), **who)
        broken = (each.attained > each.bound + 1e-6) | (each.certified > each.unmoved)
        results.add(
            "images that break a bracket", int(broken.sum()), n=len(broken), **who
        )
        if each.convergence is not None:
            bound, balances = each.convergence.bound, each.convergence.balance
            results.add("evidence lower bound", bound, unit="nats per image", **who)
            for layer, balance in balances.items():
                results.add("balance of deviations", balance, layer=layer, **who)


# Correlations
# --------------------------------------------------------------------------------------


def record_correlations(
    results: Results,
    measured: Sequence[LensMeasurements],
    *,
    halvings: int,
    resamples: int,
) -> None:
    """How reliable every measure is and how alike each two rank networks: plain, on
    other images, within kinds, at equal clean accuracy, without one family.

    Whole families are drawn, and seeds; all statistics see the same draws.
    """
    kinds = list(tables.by_kind(measured))
    families = [networks.family_of(kind) for kind in kinds]
    settings: dict[str, Any] = {
        "seed": 0,
        "resamples": resamples,
        "families": families,
    }
    whole = tables.table(measured)
    halves = tables.halves(measured, count=halvings)
    plain = rank_agreement.agreement(whole, **settings)
    across = rank_agreement.across_halves(halves, **settings)
    inside = rank_agreement.across_halves(halves, within=True, **settings)
    _record_pairs(results, "rank correlation", plain)
    _record_pairs(results, "rank correlation on other images", across)
    _record_pairs(results, "within-kind rank correlation", inside)
    for given in (CLEAN, HALF_PSI):
        left = plain.map(_given(given))
        _record_pairs(results, "partial rank correlation", left, given=given)
    for scope, drawn in ((EVERY, across), (WITHIN, inside)):
        own = drawn.map(
            lambda matrix: rank_agreement.whole_from_half(
                np.diagonal(matrix, axis1=-2, axis2=-1)
            )
        )
        _record_lenses(results, "reliability", own, scope=scope)
    ceiling = rank_agreement.seed_ceiling(whole, **settings)
    _record_lenses(results, "agreement of two seeds", ceiling, over="families")
    _record_leads(results, plain)
    _record_without(results, whole, families)


def _given(measure: str) -> Callable[[Array], Array]:
    return lambda matrix: rank_agreement.partial(matrix, MEASURES.index(measure))


def _record_pairs(results: Results, name: str, drawn: Drawn, **factors: Any) -> None:
    """One row for each pair of measures that has a correlation, the first of them the
    earlier in `MEASURES`.
    """
    for first, second in zip(*np.triu_indices(len(MEASURES), k=1), strict=True):
        one = _one(drawn, (int(first), int(second)))
        if one is not None:
            who: dict[str, Any] = {
                "first": MEASURES[first],
                "second": MEASURES[second],
            }
            results.add(name, one, over=OVER, **who, **factors)


def _record_lenses(
    results: Results, name: str, drawn: Drawn, over: str = OVER, **factors: Any
) -> None:
    for place, lens in enumerate(MEASURES):
        one = _one(drawn, (place,))
        if one is not None:
            results.add(name, one, over=over, lens=lens, **factors)


def _one(drawn: Drawn, place: tuple[int, ...]) -> Interval | None:
    """One number of a statistic with its interval, None where it is not defined."""
    low, high = (end[place] for end in drawn.bounds())
    if not np.isfinite([drawn.value[place], low, high]).all():
        return None
    return Interval(float(drawn.value[place]), float(low), float(high), drawn.n)


def _record_leads(results: Results, plain: Drawn) -> None:
    """How far psi's correlations are ahead of those of the cheap rival."""
    rival = MEASURES.index(ONE_STEP)
    own = MEASURES.index(PSI)
    lead = plain.map(lambda matrix: matrix[..., own, :] - matrix[..., rival, :])
    for reference in (BLACK_BOX, CERTIFIED):
        one = _one(lead, (MEASURES.index(reference),))
        if one is not None:
            who: dict[str, Any] = {"first": PSI, "second": reference}
            results.add("lead over one step", one, over=OVER, **who)


def _record_without(results: Results, whole: Array, families: Sequence[str]) -> None:
    """The lowest and the highest correlation with one family left out, and which."""
    left = rank_agreement.without_one(whole, families)
    names = list(dict.fromkeys(families))
    for first, second in zip(*np.triu_indices(len(MEASURES), k=1), strict=True):
        values = left[:, first, second]
        if not np.isfinite(values).all():
            continue
        for end, place in (("lowest", values.argmin()), ("highest", values.argmax())):
            results.add(
                "rank correlation without one family",
                float(values[place]),
                first=MEASURES[first],
                second=MEASURES[second],
                end=end,
                family=names[place],
            )


def matrix(results: Results, names: Sequence[str]) -> Array:
    """Rank correlations of measures as a matrix (names, names, 3) of value, low and
    high; NaN where there is no row.
    """
    found = np.full((len(names), len(names), 3), np.nan)
    for row in results.select("rank correlation"):
        pair = (str(row.factors["first"]), str(row.factors["second"]))
        if set(pair) <= set(names):
            one, other = map(names.index, pair)
            found[one, other] = found[other, one] = (row.value, row.low, row.high)
    return found


# Pruning
# --------------------------------------------------------------------------------------


def record_pruning(
    results: Results,
    measured: Sequence[LensMeasurements],
    controls: Sequence[LensMeasurements],
) -> None:
    """What pruning changes, by Taylor importance and at random: psi, clean and robust
    accuracy against the same network tuned without pruning; Student's t over seeds.
    """
    groups = tables.by_kind([*measured, *controls])
    for order, kinds in (("Taylor", networks.PRUNED), ("random", networks.AT_RANDOM)):
        for kind, (parent, share) in kinds.items():
            before, after = groups[networks.TUNED[parent]], groups[kind]
            who: dict[str, Any] = {
                "kind": kind,
                "parent": parent,
                "share": share,
                "order": order,
                "over": "seeds",
            }
            results.add(
                "psi after pruning over before",
                psi_ratio(after, before),
                unit="ratio",
                **who,
            )
            for name, field in (
                ("accuracy lost by pruning", "clean"),
                ("robust accuracy lost by pruning", "robust"),
            ):
                lost = _means(before, field) - _means(after, field)
                results.add(name, stats.mean_interval_t(lost), unit="share", **who)


def _means(group: Sequence[LensMeasurements], field: str) -> Array:
    return np.array([getattr(each, field).mean() for each in group])


def psi_ratio(
    after: Sequence[LensMeasurements], before: Sequence[LensMeasurements]
) -> Interval:
    """Geometric mean over seeds of the ratio of median psi of networks of one seed."""
    later, earlier = (
        np.log([np.median(psi_of(each.kl)) for each in group])
        for group in (after, before)
    )
    found = stats.mean_interval_t(later - earlier)
    value, low, high = np.exp([found.value, found.low, found.high])
    return Interval(float(value), float(low), float(high), found.n)
