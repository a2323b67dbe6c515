"""The follow-up's model of readers and networks (Makino et al. 2022), fitted anew and
set beside values read off its figures.

Read `PUBLISHED_EFFECTS` (what the figures say), then `fit_all` (one posterior a series
and subgroup), then `record_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from robustbook import stats
from robustbook.bayes.ratings import RatingPosterior, fit, fit_mean_field
from robustbook.data.nyu_predictions import SEVERITIES, Predictions
from robustbook.results import Results
from robustbook.stats import Interval
from robustbook.studies.mammogram_perturbations.measure.published import SUBGROUPS
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
LESIONS = ("microcalcification", "soft tissue")
SERIES = ("readers", "GMIC", "GMIC trained on filtered images")
PUBLISHED_EFFECTS: dict[tuple[str, str], tuple[float, ...]] = {
    (SERIES[0], LESIONS[0]): (-0.45, -0.7, -0.65, -1.1, -1.15, -2.05, -2.25, -2.25),
    (SERIES[1], LESIONS[0]): (-0.25, -0.2, -0.5, -0.8, -1.6, -2.65, -3.35, -3.7),
    (SERIES[2], LESIONS[0]): (-0.3, -0.1, -0.15, -0.3, -0.4, -1.0, -2.45, -3.1),
    (SERIES[0], LESIONS[1]): (-0.05, 0.05, 0.3, -0.05, 0.1, -0.5, -0.3, -0.15),
    (SERIES[1], LESIONS[1]): (-0.7, -0.95, -1.2, -1.35, -1.5, -1.45, -2.3, -2.85),
    (SERIES[2], LESIONS[1]): (-0.65, -0.75, -0.7, -0.9, -1.05, -1.15, -1.35, -1.75),
}
"""Effects of the severities from 0.17 mm on, read off the authors' figure (about ±
0.05).
"""
PUBLISHED_KS: dict[tuple[str, str], tuple[float, ...]] = {
    (SERIES[0], LESIONS[0]): (0.82, 0.79, 0.76, 0.765, 0.69, 0.66, 0.43, 0.435, 0.43),
    (SERIES[1], LESIONS[0]): (
        0.86,
        0.875,
        0.875,
        0.875,
        0.875,
        0.85,
        0.685,
        0.49,
        0.33,
    ),
    (SERIES[2], LESIONS[0]): (
        0.87,
        0.875,
        0.875,
        0.875,
        0.875,
        0.875,
        0.87,
        0.645,
        0.345,
    ),
    (SERIES[0], LESIONS[1]): (
        0.71,
        0.73,
        0.745,
        0.755,
        0.745,
        0.745,
        0.69,
        0.735,
        0.745,
    ),
    (SERIES[1], LESIONS[1]): (0.765, 0.795, 0.795, 0.79, 0.78, 0.79, 0.84, 0.6, 0.41),
    (SERIES[2], LESIONS[1]): (0.77, 0.795, 0.8, 0.8, 0.795, 0.795, 0.795, 0.825, 0.755),
}
"""KS of posterior-predictive probabilities, read off the same figure (about ± 0.02)."""
WARMUP = 100


@dataclass(frozen=True)
class Piece:
    """One independent part of the model: a series of raters on the breasts of one of
    the files' subgroups, `rated` (raters, severities, breasts).
    """

    series: str
    subgroup: str
    rated: Array


@dataclass(frozen=True)
class Fitted:
    """Posteriors of one piece: by chains, and by independent normals (lesions only)."""

    piece: Piece
    chains: RatingPosterior
    normals: RatingPosterior | None


def pieces(predictions: Predictions) -> list[Piece]:
    """The model in its parts: nothing in it is shared between subgroups or series."""
    tables = {
        SERIES[0]: predictions.readers,
        SERIES[1]: predictions.networks["gmic", "unperturbed"],
        SERIES[2]: predictions.networks["gmic", "filtered"],
    }
    return [
        Piece(series, subgroup, table[..., predictions.subgroup == subgroup])
        for series, table in tables.items()
        for subgroup in np.unique(predictions.subgroup).tolist()
    ]


def fit_piece(piece: Piece, draws: int) -> Fitted:
    """Chains of one piece; breasts without a lesion are many and only needed for KS, so
    they get a tenth of the draws.
    """
    lesions = piece.subgroup in [SUBGROUPS[name] for name in LESIONS]
    given = torch.from_numpy(piece.rated)
    generator = Generator().manual_seed(0)
    count = draws if lesions else max(25, draws // 10)
    chains = fit(given, draws=count, warmup=WARMUP, generator=generator)
    normals = (
        fit_mean_field(given, draws=4 * count, generator=generator) if lesions else None
    )
    return Fitted(piece, chains, normals)


def fit_all(predictions: Predictions, *, draws: int) -> list[Fitted]:
    """`fit_piece` for every part, side by side."""
    return map_in_workers(partial(fit_piece, draws=draws), pieces(predictions))


# Rows
# --------------------------------------------------------------------------------------


def record_model(
    results: Results, fitted: Sequence[Fitted], predictions: Predictions
) -> None:
    """Effects by severity with 95 % credible intervals, R-hat, KS with and without
    independent shuffling of the draws, and distances from the published values.
    """
    found = {(each.piece.series, each.piece.subgroup): each for each in fitted}
    for series in SERIES:
        effects = {}
        for name in LESIONS:
            each = found[series, SUBGROUPS[name]]
            common: dict[str, Any] = {"series": series, "subgroup": name}
            worst = float(each.chains.r_hat.max())
            results.add("R-hat of effects", worst, **common)
            effects[name] = each.chains.effects.numpy()
            assert each.normals is not None
            fits = {"chains": each.chains, "independent normals": each.normals}
            for fit_name, posterior in fits.items():
                _record_effects(results, posterior, fit_name, common)
        for place, severity in enumerate(SEVERITIES[1:], start=1):
            gap = (effects[LESIONS[0]] - effects[LESIONS[1]])[:, place]
            factors: dict[str, Any] = {"series": series, "severity": severity}
            _add(results, "effect gap of microcalcification", gap, **factors)
        _record_separation(results, found, predictions, series)


def _add(results: Results, name: str, draws: Array, **factors: Any) -> None:
    low, high = np.quantile(draws, [0.025, 0.975])
    interval = Interval(float(draws.mean()), float(low), float(high), len(draws))
    results.add(name, interval, over="posterior draws", unit="logits", **factors)


def _record_effects(
    results: Results, posterior: RatingPosterior, fit_name: str, common: dict[str, Any]
) -> None:
    effects = posterior.effects.numpy()
    for place, severity in enumerate(SEVERITIES[1:], start=1):
        at: dict[str, Any] = {"fit": fit_name, "severity": severity, **common}
        _add(results, "effect of severity", effects[:, place], **at)
    published = PUBLISHED_EFFECTS[common["series"], common["subgroup"]]
    gap = np.abs(effects[:, 1:].mean(0) - np.array(published)).max()
    factors: dict[str, Any] = {"quantity": "effect", "fit": fit_name, **common}
    results.add("largest distance from the figure", float(gap), **factors)


def _record_separation(
    results: Results,
    found: dict[tuple[str, str], Fitted],
    predictions: Predictions,
    series: str,
) -> None:
    """KS between malignant breasts of a subgroup and all that are not malignant, by
    rater, mean over raters.
    """
    for order in ("together", "shuffled"):
        shape = (*found[series, SUBGROUPS[LESIONS[0]]].piece.rated.shape[:2], -1)
        chances = np.empty((shape[0], shape[1], len(predictions.outcome)))
        for (name, subgroup), each in found.items():
            if name == series:
                generator = Generator().manual_seed(1) if order == "shuffled" else None
                rows = predictions.subgroup == subgroup
                chances[..., rows] = each.chains.predictive(generator).numpy()
        for name in LESIONS:
            chosen, positive = predictions.task(SUBGROUPS[name])
            table = np.array(
                [
                    [stats.ks(positive[chosen], row[chosen]) for row in rater]
                    for rater in chances
                ]
            )
            common: dict[str, Any] = {"series": series, "subgroup": name}
            for severity, column in zip(SEVERITIES, table.T, strict=True):
                row = stats.mean_interval_t(column)
                factors: dict[str, Any] = {
                    "draws": order,
                    "severity": severity,
                    **common,
                }
                results.add("predictive KS", row, over="raters", **factors)
            gap = np.abs(table.mean(0) - np.array(PUBLISHED_KS[series, name])).max()
            factors = {"quantity": "KS", "fit": f"chains, {order}", **common}
            results.add("largest distance from the figure", float(gap), **factors)


def said(results: Results) -> str:
    """How near the fits come to the follow-up's figures, and what shuffling does, in
    words; that the predictions were left out where they were.
    """
    rows = results.select("largest distance from the figure")
    if not rows:
        return "This run left the published predictions out."

    def largest(quantity: str, fit_name: str, subgroup: str) -> float:
        return max(
            row.value
            for row in rows
            if row.factors["quantity"] == quantity
            and row.factors["fit"] == fit_name
            and row.factors["subgroup"] == subgroup
        )

    calc, soft = (
        (
            largest("effect", "chains", name),
            largest("effect", "independent normals", name),
        )
        for name in LESIONS
    )
    ks = {
        order: max(largest("KS", f"chains, {order}", name) for name in LESIONS)
        for order in ("together", "shuffled")
    }
    return (
        "How near is this to the follow-up's figures? Its fit took the parameters for "
        "independent. Done so, effects on specks differ from the values that we read "
        f"off by at most {calc[1]:.2f} (by HMC {calc[0]:.2f}, mostly where hardly "
        "anyone says yes and the posterior is skewed). On masses they differ by "
        f"{soft[1]:.2f} (HMC {soft[0]:.2f}); there our effects lie above theirs for "
        "readers and networks alike, by more at each step. No choice of breasts that "
        "we tried explains it. Posterior-predictive KS differs by at most "
        f"{ks['together']:.2f}, and by {ks['shuffled']:.2f} if draws are shuffled "
        "independently as in their code."
    )
