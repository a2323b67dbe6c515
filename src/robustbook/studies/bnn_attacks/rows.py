"""From measurements to rows of the record: accuracies, paired leads, alarms and checks,
with intervals.

Read `resample` and `paired_lead` first (what the intervals are over), then the
`record_...` functions in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustbook import stats
from robustbook.perturb.interference import KINDS as INTERFERENCES
from robustbook.perturb.interference import SEVERITIES
from robustbook.results import Metric, Results
from robustbook.stats import Interval
from robustbook.studies.bnn_attacks.claims import BNN, CNN, PENALISED, SECOND, rounded
from robustbook.studies.bnn_attacks.measure.evaluation import (
    BUDGETS,
    LARGE,
    SCORES,
    Measured,
)
from robustbook.studies.bnn_attacks.networks import KINDS, POSTERIORS, VARIATIONAL

Array = npt.NDArray[np.float64]
RESAMPLES = 2000
OVER = "images and seeds"
WAYS = ("transfer", "EOT")
LAYERS = ("first convolution", "second convolution", "first linear", "last linear")
CRAFTED = ((CNN, "transfer"), (BNN, "EOT"))
"""On which network and in which way C&W L2 is crafted."""


class Table:
    """Measurements of one data set, as arrays (seeds, images) by kind."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self.dataset = measured[0].dataset
        self.by_kind = {
            kind: [each for each in measured if each.kind == kind] for kind in KINDS
        }
        self.seeds = len(self.by_kind[CNN])

    def correct(self, kind: str, way: str, attack: str, strength: float) -> Array:
        """Right answers (seeds, images)."""
        return np.stack(
            [each.correct[way, attack, strength] for each in self.by_kind[kind]]
        )

    def clean(self, kind: str) -> Array:
        """Right answers (seeds, images) on clean images."""
        return self.correct(kind, "clean", "none", 0.0)

    def attacked(self, kind: str, way: str) -> Array:
        """Right answers (seeds, images) under PGD, mean over budgets."""
        return np.mean(
            [self.correct(kind, way, "PGD", budget) for budget in BUDGETS], axis=0
        )

    def disturbed(self, kind: str, interference: str) -> Array:
        """Right answers (seeds, images) under one kind of interference, or "all", mean
        over severities.
        """
        names = tuple(INTERFERENCES) if interference == "all" else (interference,)
        return np.mean(
            [
                self.correct(kind, "interference", name, float(level))
                for name in names
                for level in SEVERITIES
            ],
            axis=0,
        )


def tables(measured: Sequence[Measured]) -> list[Table]:
    """One table a data set."""
    names = list(dict.fromkeys(each.dataset for each in measured))
    return [
        Table([each for each in measured if each.dataset == name]) for name in names
    ]


@lru_cache(maxsize=8)
def resample(seeds: int, images: int) -> tuple[stats.Resampling, ...]:
    """Draws of seeds and of images, the same every time."""
    return stats.draw(seeds, images, seed=0, resamples=RESAMPLES)


def crossed_mean(values: Array, weights: Array | None = None) -> Interval:
    """Weighted mean of `values` (seeds, images) with a bootstrap interval that draws
    seeds and images independently; some weight is not 0.
    """
    draws = resample(*values.shape)
    return stats.crossed_mean(values, *draws, weights=weights).interval()


def paired_lead(first: Array, second: Array, both_right: Array) -> Interval:
    """Mean of `first` - `second` (seeds, images) over the pairs that the mask marks."""
    return crossed_mean(first - second, both_right)


def crossed_auroc(
    clean: Array, attacked: Array, less: tuple[Array, Array] | None = None
) -> Interval:
    """AUROC of scores (seeds, images), mean over seeds; less that of the scores `less`
    on the same images.
    """
    images = clean.shape[1]
    seeds, pairs = resample(*clean.shape)
    both = stats.Resampling(np.tile(pairs.counts, 2), pairs.n)
    found, *rivals = (
        stats.mean_over_seeds(
            partial(stats.auc, np.repeat([0, 1], images)), np.hstack(pair), seeds, both
        )
        for pair in ((clean, attacked), *([less] if less else []))
    )
    return (found - rivals[0] if rivals else found).interval()


def record_all(
    results: Results, measured: Sequence[Measured], titles: dict[str, str]
) -> None:
    """All rows of the study."""
    found = tables(measured)
    results.add("seeds", found[0].seeds, over="repetitions")
    for table in found:
        images = table.clean(CNN).shape[1]
        results.add(
            "images", images, dataset=table.dataset, title=titles[table.dataset]
        )
        record_accuracies(results, table)
        record_posteriors(results, table)
        record_leads(results, table)
        record_interference(results, table)
        record_lengths(results, table)
        record_alarms(results, table)
        record_checks(results, table)


def record_accuracies(results: Results, table: Table) -> None:
    """Accuracy of every kind, clean and under every attack crafted in every way."""
    for kind, rows in table.by_kind.items():
        for way, attack, strength in rows[0].correct:
            if way == "interference":
                continue
            name = "clean accuracy" if way == "clean" else "accuracy under attack"
            factors: dict[str, Any] = (
                {}
                if way == "clean"
                else {"way": way, "attack": attack, "budget": strength}
            )
            results.add(
                name,
                crossed_mean(table.correct(kind, way, attack, strength)),
                over=OVER,
                unit="share",
                dataset=table.dataset,
                network=kind,
                **factors,
            )
        results.add(
            "clean accuracy lead",
            crossed_mean(table.clean(kind) - table.clean(SECOND)),
            over=OVER,
            unit="share",
            dataset=table.dataset,
            network=kind,
            over_network=SECOND,
        )


def record_posteriors(results: Results, table: Table) -> None:
    """How wide every posterior is, so that a collapsed one is seen."""
    for kind in POSTERIORS:
        rows = table.by_kind[kind]
        for layer in rows[0].spread:
            spread = float(np.mean([each.spread[layer] for each in rows]))
            results.add(
                "relative spread",
                spread,
                dataset=table.dataset,
                network=kind,
                layer=layer,
            )
        for row in rows:
            if row.convergence is not None:
                where: dict[str, Any] = {
                    "dataset": table.dataset,
                    "network": kind,
                    "seed": row.seed,
                }
                results.add(
                    "variational bound",
                    row.convergence.bound,
                    unit="nats per training image",
                    **where,
                )
                for layer, balance in row.convergence.balance.items():
                    results.add("balance of deviations", balance, layer=layer, **where)
        variance = float(np.mean([each.variance for each in rows]))
        results.add(
            "predictive variance", variance, dataset=table.dataset, network=kind
        )
        information = np.stack(
            [each.scores["clean", "mutual information"] for each in rows]
        )
        results.add(
            "mutual information when clean",
            crossed_mean(information),
            over=OVER,
            unit="nats",
            dataset=table.dataset,
            network=kind,
        )


def record_leads(results: Results, table: Table) -> None:
    """Paired leads under PGD on images that both get right: every posterior over the
    deterministic controls and the BNN. There is no row where both are right on none.
    """
    pairs = [(kind, over) for kind in POSTERIORS for over in (SECOND, PENALISED)]
    pairs += [("det+stoch", over) for over in (BNN, "stoch+det")]
    pairs += [
        (BNN, over) for over in ("weight noise", "MC dropout", "ensemble", "Laplace")
    ]
    for first, second in pairs:
        both = table.clean(first) * table.clean(second)
        for way in WAYS:
            factors: dict[str, Any] = {
                "dataset": table.dataset,
                "first": first,
                "over_network": second,
                "way": way,
            }
            if both.any():
                lead = paired_lead(
                    table.attacked(first, way), table.attacked(second, way), both
                )
                results.add(
                    "lead under attack", lead, over=OVER, unit="share", **factors
                )
            whole = crossed_mean(
                table.attacked(first, way) - table.attacked(second, way)
            )
            results.add(
                "lead under attack, all images",
                whole,
                over=OVER,
                unit="share",
                **factors,
            )


def record_interference(results: Results, table: Table) -> None:
    """Accuracy under interference, and the BNN's paired leads where it is right with
    another network on some image.
    """
    for kind in KINDS:
        mean = crossed_mean(table.disturbed(kind, "all"))
        factors: dict[str, Any] = {"dataset": table.dataset, "network": kind}
        results.add(
            "mean accuracy under interference", mean, over=OVER, unit="share", **factors
        )
        for name in INTERFERENCES:
            for level in SEVERITIES:
                results.add(
                    "accuracy under interference",
                    crossed_mean(
                        table.correct(kind, "interference", name, float(level))
                    ),
                    over=OVER,
                    unit="share",
                    dataset=table.dataset,
                    network=kind,
                    interference=name,
                    severity=level,
                )
    for second in (each for each in KINDS if each != BNN):
        both = table.clean(BNN) * table.clean(second)
        for name in ("all", *INTERFERENCES) if both.any() else ():
            lead = paired_lead(
                table.disturbed(BNN, name), table.disturbed(second, name), both
            )
            factors = {
                "dataset": table.dataset,
                "over_network": second,
                "interference": name,
            }
            results.add(
                "lead under interference", lead, over=OVER, unit="share", **factors
            )


def record_lengths(results: Results, table: Table) -> None:
    """How far C&W L2 goes to fool the CNN and, with averaged gradients, the BNN: mean
    over what it found.
    """
    for kind, way in CRAFTED:
        right = table.clean(kind)
        lengths = np.stack(
            [
                np.full(right.shape[1], np.nan) if row.lengths is None else row.lengths
                for row in table.by_kind[kind]
            ]
        )
        found = np.isfinite(lengths)
        factors: dict[str, Any] = {
            "dataset": table.dataset,
            "network": kind,
            "way": way,
        }
        if right.any():
            results.add(
                "C&W L2 found",
                crossed_mean(found.astype(float), right),
                over=OVER,
                unit="share",
                **factors,
            )
        if found.any():
            mean = crossed_mean(np.nan_to_num(lengths), found.astype(float))
            results.add(
                "C&W L2 distance", mean, over=OVER, unit="pixel units", **factors
            )


def record_alarms(results: Results, table: Table) -> None:
    """AUROC of every score of every posterior, and of the attacked CNN's max-softmax on
    the same inputs.
    """
    for kind in POSTERIORS:
        rows = table.by_kind[kind]
        for row in rows:
            results.add(
                "alarm weight",
                row.alarm_weight or 0.0,
                dataset=table.dataset,
                network=kind,
                seed=row.seed,
            )
        for inputs in (each for each in rows[0].baseline if each != "clean"):
            factors: dict[str, Any] = {
                "dataset": table.dataset,
                "network": kind,
                "inputs": inputs,
            }
            for score in SCORES:
                clean, attacked = (
                    np.stack([row.scores[key, score] for row in rows])
                    for key in ("clean", inputs)
                )
                results.add(
                    "AUROC",
                    crossed_auroc(clean, attacked),
                    over=OVER,
                    score=score,
                    **factors,
                )
    rows = table.by_kind[BNN]
    for inputs in (each for each in rows[0].baseline if each != "clean"):
        pairs = [
            np.stack([row.baseline[key] for row in rows]) for key in ("clean", inputs)
        ]
        own = [
            np.stack([row.scores[key, "mutual information"] for row in rows])
            for key in ("clean", inputs)
        ]
        where: dict[str, Any] = {"dataset": table.dataset, "inputs": inputs}
        results.add(
            "AUROC",
            crossed_auroc(pairs[0], pairs[1]),
            over=OVER,
            network=CNN,
            score="max-softmax",
            **where,
        )
        lead = crossed_auroc(own[0], own[1], (pairs[0], pairs[1]))
        results.add("AUROC lead over max-softmax", lead, over=OVER, **where)


def record_checks(results: Results, table: Table) -> None:
    """What must hold whatever the claims: attacks strong enough, no masked gradients,
    no alarm without a cause.
    """
    for kind in (each for each in KINDS if each != CNN):
        for budget in BUDGETS:
            difference = table.correct(kind, "EOT", "PGD", budget) - table.correct(
                kind, "transfer", "PGD", budget
            )
            results.add(
                "check: EOT less transfer",
                crossed_mean(difference),
                over=OVER,
                unit="share",
                dataset=table.dataset,
                network=kind,
                budget=budget,
            )
    rows = table.by_kind[BNN]
    for count in rows[0].by_samples:
        found = crossed_mean(np.stack([row.by_samples[count] for row in rows]))
        results.add(
            "accuracy by samples in the gradient",
            found,
            over=OVER,
            unit="share",
            dataset=table.dataset,
            samples=count,
        )
    most = np.stack([row.by_samples[max(row.by_samples)] for row in rows])
    results.add(
        "check: EOT from a random start less transfer",
        crossed_mean(most - table.correct(BNN, "transfer", "PGD", 1.0)),
        over=OVER,
        unit="share",
        dataset=table.dataset,
        network=BNN,
        samples=max(rows[0].by_samples),
    )
    large = crossed_mean(table.correct(BNN, "EOT", "PGD", LARGE))
    results.add(
        "check: accuracy at a large budget",
        large,
        over=OVER,
        unit="share",
        dataset=table.dataset,
    )
    information = np.stack([row.scores["clean", "mutual information"] for row in rows])
    half = information.shape[1] // 2
    halves = crossed_auroc(information[:, :half], information[:, half : 2 * half])
    results.add(
        "check: AUROC of two sets of clean images",
        halves,
        over=OVER,
        dataset=table.dataset,
    )


def overview(results: Results, dataset: str) -> pd.DataFrame:
    """One line a network: accuracy clean and under PGD at the full budget crafted in
    three ways, and predictive variance.
    """
    lines = []
    for kind in KINDS:
        line = {
            "network": NAMES[kind],
            "clean": _shown(results, "clean accuracy", dataset, kind),
        }
        for way, title in (
            ("transfer", "transferred"),
            ("one sample", "one sample"),
            ("EOT", "averaged (EOT)"),
        ):
            line[title] = _shown(
                results,
                "accuracy under attack",
                dataset,
                kind,
                way=way,
                attack="PGD",
                budget=1.0,
            )
        found = results.select("predictive variance", dataset=dataset, network=kind)
        line["variance"] = f"{found[0].value:.2g}" if found else None
        lines.append(line)
    return pd.DataFrame(lines)


def _shown(
    results: Results, name: str, dataset: str, kind: str, **factors: str | float
) -> str | None:
    found = results.select(name, dataset=dataset, network=kind, **factors)
    return within(found[0]) if found else None


def within(metric: Metric) -> str:
    """A value with its interval, in two digits."""
    assert metric.low is not None and metric.high is not None
    value, low, high = (
        rounded(number, 2) for number in (metric.value, metric.low, metric.high)
    )
    return f"{value} [{low}, {high}]".replace("-", "−")


def spreads(results: Results, dataset: str) -> pd.DataFrame:
    """One line a posterior: mean deviation over mean weight of its four layers."""
    lines = []
    for kind in POSTERIORS:
        rows = results.select("relative spread", dataset=dataset, network=kind)
        layers = zip(LAYERS, rows, strict=True)
        lines.append(
            {
                "network": NAMES[kind],
                **{name: round(row.value, 3) for name, row in layers},
            }
        )
    return pd.DataFrame(lines)


def convergences(results: Results, titles: dict[str, str]) -> pd.DataFrame:
    """One line a data set and variational posterior: its bound, and by layer the
    balance that is furthest from 1.
    """
    lines = []
    for dataset, title in titles.items():
        for kind in VARIATIONAL:
            bounds = results.select("variational bound", dataset=dataset, network=kind)
            if not bounds:
                continue
            mean = np.mean([row.value for row in bounds])
            line: dict[str, str | None] = {
                "data": title,
                "network": NAMES[kind],
                "bound": f"{mean:.2f}".replace("-", "−"),
            }
            layers = [
                row.factors["layer"]
                for row in results.select(
                    "relative spread", dataset=dataset, network=kind
                )
            ]
            for name, layer in zip(LAYERS, layers, strict=True):
                rows = results.select(
                    "balance of deviations", dataset=dataset, network=kind, layer=layer
                )
                furthest = max(rows, key=lambda row: abs(row.value - 1), default=None)
                line[name] = None if furthest is None else f"{furthest.value:.2f}"
            lines.append(line)
    return pd.DataFrame(lines)


def alarms(results: Results, dataset: str) -> pd.DataFrame:
    """One line a posterior: AUROC of mutual information by kind of input, and what the
    quiet attack paid for it.
    """
    lines = []
    for kind in POSTERIORS:
        line: dict[str, str | None] = {"network": NAMES[kind]}
        for inputs in ("transfer", "EOT", "uncertainty-aware"):
            found = results.select(
                "AUROC",
                dataset=dataset,
                network=kind,
                inputs=inputs,
                score="mutual information",
            )
            line[inputs] = within(found[0]) if found else None
        for way, title in (("EOT", "left by EOT"), ("uncertainty-aware", "left by it")):
            line[title] = _shown(
                results,
                "accuracy under attack",
                dataset,
                kind,
                way=way,
                attack="PGD",
                budget=1.0,
            )
        weights = sorted(
            row.value
            for row in results.select("alarm weight", dataset=dataset, network=kind)
        )
        line["weights"] = ", ".join(f"{weight:g}" for weight in weights)
        lines.append(line)
    return pd.DataFrame(lines)


def disturbances(results: Results, dataset: str) -> pd.DataFrame:
    """One line a network: mean accuracy under interference, and the BNN's lead over it
    where both are right when clean.
    """
    lines = []
    for kind in KINDS:
        lead = results.select(
            "lead under interference",
            dataset=dataset,
            over_network=kind,
            interference="all",
        )
        mean = _shown(results, "mean accuracy under interference", dataset, kind)
        line = {
            "network": NAMES[kind],
            "mean accuracy": mean,
            "the BNN leads by": within(lead[0]) if lead else None,
        }
        lines.append(line)
    return pd.DataFrame(lines)


def regularised_lead(results: Results, dataset: str) -> str:
    """By how much the BNN leads the L2-regularised CNN under interference, in words."""
    found = results.select(
        "lead under interference",
        dataset=dataset,
        over_network=PENALISED,
        interference="all",
    )
    if not found:
        return "no image is right for both the BNN and the L2-regularised CNN"
    return (
        "averaged over kinds and severities the BNN leads the L2-regularised CNN by "
        f"{within(found[0])} (share; images that both get right when clean, interval "
        "over these images and the seeds)"
    )


def nearest(results: Results, titles: dict[str, str]) -> pd.DataFrame:
    """One line a data set and way of crafting C&W L2: how often it found a point, how
    far, and what is left.
    """
    lines = []
    for dataset, title in titles.items():
        for kind, way in CRAFTED:
            factors: dict[str, Any] = {"way": way, "attack": "C&W L2", "budget": 1.0}
            line = {
                "data": title,
                "crafted on": "CNN" if way == "transfer" else "BNN, averaged",
                "found": _shown(results, "C&W L2 found", dataset, kind, way=way),
                "distance": _shown(results, "C&W L2 distance", dataset, kind, way=way),
                "CNN right": _shown(
                    results, "accuracy under attack", dataset, CNN, **factors
                ),
                "BNN right": _shown(
                    results, "accuracy under attack", dataset, BNN, **factors
                ),
            }
            lines.append(line)
    return pd.DataFrame(lines)


NAMES = {
    CNN: "CNN (attacks are crafted on it)",
    SECOND: "second CNN = det+det",
    PENALISED: "L2-regularised CNN",
    BNN: "BNN = stoch+stoch",
    "det+stoch": "det+stoch",
    "stoch+det": "stoch+det",
    "MC dropout": "MC dropout",
    "ensemble": "deep ensemble",
    "Laplace": "last-layer Laplace",
    "weight noise": "weight noise",
}
"""Names for readers."""


def best(results: Results, dataset: str, way: str) -> str:
    """The kind with the highest accuracy under PGD at the full budget, and that
    accuracy.
    """
    rows = [
        row
        for row in results.select(
            "accuracy under attack", dataset=dataset, way=way, attack="PGD", budget=1.0
        )
        if row.factors["network"] != CNN
    ]
    top = max(rows, key=lambda row: row.value)
    return f"{NAMES[str(top.factors['network'])]} with {within(top)}"


def attack_gap(results: Results, dataset: str) -> str:
    """Under how many transferred attacks the BNN has the higher accuracy than the
    second CNN, in words.
    """

    def rows(kind: str) -> dict[str, float]:
        found = results.select(
            "accuracy under attack",
            dataset=dataset,
            network=kind,
            way="transfer",
            budget=1.0,
        )
        return {str(row.factors["attack"]): row.value for row in found}

    bayesian, plain = rows(BNN), rows(SECOND)
    higher = sum(bayesian[attack] > plain[attack] for attack in bayesian)
    return (
        f"the BNN is ahead of the second CNN under {higher} of {len(bayesian)} "
        "transferred attacks"
    )


def sample_gain(results: Results, dataset: str) -> str:
    """What more samples in the gradient do, in words."""
    rows = results.select("accuracy by samples in the gradient", dataset=dataset)
    before, after = (
        f"{row.factors['samples']}: {within(row)}" for row in (rows[0], rows[-1])
    )
    return f"accuracy left to the BNN by samples in the gradient, {before}; {after}"


def checks(results: Results, titles: dict[str, str]) -> pd.DataFrame:
    """One line a data set: whether the attacks were strong and the alarm quiet without
    a cause.
    """
    lines = []
    for dataset, title in titles.items():
        worst = max(
            results.select("check: EOT less transfer", dataset=dataset),
            key=lambda row: row.value,
        )
        alone = results.one(
            "check: EOT from a random start less transfer", dataset=dataset
        )
        lines.append(
            {
                "data": title,
                "EOT less transfer": f"{within(worst)} "
                f"({NAMES[str(worst.factors['network'])]})",
                "random start alone": within(alone),
                f"accuracy at {LARGE:g} ε": within(
                    results.one("check: accuracy at a large budget", dataset=dataset)
                ),
                "clean against clean": within(
                    results.one(
                        "check: AUROC of two sets of clean images", dataset=dataset
                    )
                ),
            }
        )
    return pd.DataFrame(lines)


def smallest_visible(results: Results, titles: dict[str, str]) -> str:
    """How wide the intervals of leads under attack are, in words."""
    parts = []
    for dataset, title in titles.items():
        rows = results.select("lead under attack", dataset=dataset)
        halves = [
            (row.high - row.low) / 2
            for row in rows
            if row.low is not None and row.high is not None
        ]
        if halves:
            parts.append(f"{title}: {min(halves):.2f} to {max(halves):.2f}")
    return "; ".join(parts) or "no image is right for both"


def matching(results: Results, titles: dict[str, str]) -> pd.DataFrame:
    """One line a data set and way: the BNN's lead over the second CNN, matched
    and not.
    """
    lines = []
    for dataset, title in titles.items():
        clean = within(results.one("clean accuracy lead", dataset=dataset, network=BNN))
        for way in WAYS:
            both, whole = (
                results.select(
                    name, dataset=dataset, first=BNN, over_network=SECOND, way=way
                )
                for name in ("lead under attack", "lead under attack, all images")
            )
            line = {
                "data": title,
                "clean": clean,
                "crafted": way,
                "both right": within(both[0]) if both else None,
                "all": within(whole[0]),
            }
            lines.append(line)
    return pd.DataFrame(lines)
