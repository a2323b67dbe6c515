"""From measurements to rows of the record: accuracies, paired leads, alarms and checks,
with intervals.

Read `Table` and `over_repetitions` first (what the intervals are over), then the
`record_...` functions in their order, then the tables of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from robustbook import stats
from robustbook.measure.uncertainty import auroc
from robustbook.perturb.interference import KINDS as INTERFERENCES
from robustbook.perturb.interference import SEVERITIES
from robustbook.results import Metric, Results
from robustbook.stats import Interval
from robustbook.studies.bnn_attacks import claims
from robustbook.studies.bnn_attacks.claims import (
    BNN,
    CNN,
    CONTROL,
    PENALISED,
    SPLIT,
)
from robustbook.studies.bnn_attacks.measure.evaluation import (
    LARGE,
    SCORES,
    Measured,
)
from robustbook.studies.bnn_attacks.networks import (
    DESIGNS,
    KINDS,
    OTHERS,
    REVERSED,
    Bench,
)
from robustbook.studies.shared import images_of

Array = npt.NDArray[np.float64]
OVER = "repetitions"
WAYS = ("transfer", "EOT")
INPUTS = ("transfer", "EOT", "quiet", "matching")


class Table:
    """Measurements of one bench, the repetitions of every kind in order."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self.bench = measured[0].network.bench
        self.dataset = self.bench.dataset
        self.by_kind = {
            kind: found
            for kind in KINDS
            if (found := [each for each in measured if each.network.kind == kind])
        }

    @property
    def bayesian(self) -> str:
        """The Bayesian network of this bench."""
        return self.bench.bayesian

    def correct(self, kind: str, way: str, attack: str, budget: float) -> Array:
        """Right answers (repetitions, images)."""
        rows = self.by_kind[kind]
        return np.stack([each.correct[way, attack, budget] for each in rows])

    def clean(self, kind: str) -> Array:
        """Right answers (repetitions, images) on clean images."""
        return self.correct(kind, "clean", "none", 0.0)

    def has(self, kind: str, way: str, attack: str, budget: float) -> bool:
        """Whether that was measured."""
        return (
            kind in self.by_kind
            and (way, attack, budget) in self.by_kind[kind][0].correct
        )

    def lead(self, first: str, second: str, way: str) -> Interval | None:
        """The lead under attack, mean over the budgets at which both were attacked, on
        images that both get right when clean.
        """
        budgets = [
            each
            for each in self.bench.budgets
            if self.has(first, way, "PGD", each) and self.has(second, way, "PGD", each)
        ]
        if not budgets:
            return None
        gaps = np.mean(
            [
                self.correct(first, way, "PGD", each)
                - self.correct(second, way, "PGD", each)
                for each in budgets
            ],
            axis=0,
        )
        return paired(gaps, self.clean(first) * self.clean(second))

    def disturbed(self, kind: str, interference: str) -> Array:
        """Right answers (repetitions, images) under one kind of interference, or "all",
        mean over severities.
        """
        names = tuple(INTERFERENCES) if interference == "all" else (interference,)
        return np.mean(
            [
                self.correct(kind, "interference", each, float(level))
                for each in names
                for level in SEVERITIES
            ],
            axis=0,
        )


def tables(measured: Sequence[Measured]) -> list[Table]:
    """One table a bench."""
    groups = groupby(measured, key=lambda each: each.network.bench)
    return [Table(list(group)) for _, group in groups]


def over_repetitions(values: Sequence[float] | Array) -> Interval:
    """Mean of one value a repetition, with Student's t interval; a repetition has
    networks and images of its own, so both are in it.
    """
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        return Interval(float(found[0]), float(found[0]), float(found[0]), 1)
    return stats.mean_interval_t(found)


def mean(values: Array) -> Interval:
    """Mean over the images of each repetition, then over repetitions."""
    return over_repetitions(values.mean(axis=1))


def paired(gaps: Array, both: Array) -> Interval | None:
    """Mean of the gaps (repetitions, images) over images that the mask marks; None
    where a repetition has none.
    """
    counts = both.sum(axis=1)
    if not counts.all():
        return None
    return over_repetitions((gaps * both).sum(axis=1) / counts)


def _add(results: Results, name: str, found: Interval | None, **factors: Any) -> None:
    if found is not None:
        unit = results.rows[name].unit if results.rows else "share"
        results.add(name, found, over=OVER, unit=unit, **factors)


def record_setting(results: Results, measured: Sequence[Measured]) -> None:
    """What was measured: repetitions, images, which network is Bayesian."""
    found = tables(measured)
    results.add("seeds", len(found[0].by_kind[CNN]), over=OVER)
    for table in found:
        bench, dataset = table.bench, table.dataset
        title = images_of(dataset, "test", bench.images * (bench.seeds + 1)).title
        results.add("images", bench.images, dataset=dataset, title=title)
        results.add("Bayesian network", 1, dataset=dataset, network=table.bayesian)
        results.add("temperature", bench.temperature, dataset=dataset)


def record_attacks(results: Results, measured: Sequence[Measured]) -> None:
    """Accuracy of every network, clean and attacked, and paired leads."""
    for table in tables(measured):
        dataset = table.dataset
        for kind, rows in table.by_kind.items():
            for way, attack, budget in rows[0].correct:
                if way == "interference" or budget == LARGE:
                    continue
                where: dict[str, Any] = {"dataset": dataset, "network": kind}
                found = mean(table.correct(kind, way, attack, budget))
                if way == "clean":
                    _add(results, "clean accuracy", found, **where)
                    continue
                where |= {"way": way, "attack": attack, "budget": budget}
                _add(results, "accuracy under attack", found, **where)
            _add(
                results,
                "clean accuracy lead",
                mean(table.clean(kind) - table.clean(CONTROL)),
                dataset=dataset,
                network=kind,
                over_network=CONTROL,
            )
        pairs = [
            (kind, CONTROL) for kind in table.by_kind if kind not in (CNN, CONTROL)
        ]
        pairs += [(table.bayesian, PENALISED)]
        pairs += [(SPLIT, each) for each in (BNN, REVERSED) if each in table.by_kind]
        for first, second in pairs:
            for way in WAYS:
                where = {"first": first, "over_network": second, "way": way}
                gain = table.lead(first, second, way)
                _add(results, "lead under attack", gain, dataset=dataset, **where)


def record_posteriors(results: Results, measured: Sequence[Measured]) -> None:
    """How wide every posterior is, and whether it has converged."""
    for table in tables(measured):
        for kind, rows in table.by_kind.items():
            where: dict[str, Any] = {"dataset": table.dataset, "network": kind}
            for layer in rows[0].spread:
                spread = float(np.mean([each.spread[layer] for each in rows]))
                if spread:
                    results.add("relative spread", spread, layer=layer, **where)
            prices = [each.price for each in rows if each.price]
            if len(prices) == len(rows):
                scaled = np.array(prices) / table.bench.train_images
                _add(
                    results,
                    "divergence from the prior",
                    over_repetitions(scaled),
                    **where,
                )
            for row in rows:
                if row.convergence is None:
                    continue
                seed = row.network.seed
                results.add(
                    "variational bound",
                    row.convergence.bound,
                    unit="nats per training image",
                    seed=seed,
                    **where,
                )
                for layer, balance in row.convergence.balance.items():
                    results.add(
                        "balance of deviations",
                        balance,
                        layer=layer,
                        seed=seed,
                        **where,
                    )


def record_effort(results: Results, measured: Sequence[Measured]) -> None:
    """Accuracy under weaker and stronger attacks, and what twice the effort takes."""
    for table in tables(measured):
        for kind in (CONTROL, table.bayesian):
            rows = table.by_kind[kind]
            where: dict[str, Any] = {"dataset": table.dataset, "network": kind}
            efforts = sorted(rows[0].strength)
            for steps, samples in efforts:
                found = mean(np.stack([row.strength[steps, samples] for row in rows]))
                effort = {"steps": steps, "samples": samples}
                _add(results, "accuracy by effort", found, **where, **effort)
            for name, place in (("steps", 0), ("samples", 1)):
                most = max(efforts, key=lambda each, at=place: each[at])  # type: ignore[misc]
                weaker = [
                    each
                    for each in efforts
                    if each[place] < most[place] and each[1 - place] == most[1 - place]
                ]
                if not weaker:
                    continue
                usual = max(weaker)
                drop = np.stack(
                    [row.strength[usual] - row.strength[most] for row in rows]
                )
                _add(
                    results,
                    "drop with twice the effort",
                    mean(drop),
                    effort=name,
                    **where,
                )
            if table.has(kind, "EOT", "PGD", LARGE):
                left = mean(table.correct(kind, "EOT", "PGD", LARGE))
                _add(results, "accuracy at a large budget", left, **where)


def record_interference(results: Results, measured: Sequence[Measured]) -> None:
    """Accuracy under interference, and the Bayesian network's paired leads."""
    for table in tables(measured):
        own = table.bayesian
        for kind in (CNN, CONTROL, PENALISED, own):
            where: dict[str, Any] = {"dataset": table.dataset, "network": kind}
            found = mean(table.disturbed(kind, "all"))
            _add(results, "mean accuracy under interference", found, **where)
            for name in INTERFERENCES:
                for level in SEVERITIES:
                    _add(
                        results,
                        "accuracy under interference",
                        mean(table.correct(kind, "interference", name, float(level))),
                        interference=name,
                        severity=level,
                        **where,
                    )
            if kind == own:
                continue
            for name in ("all", *INTERFERENCES):
                gaps = table.disturbed(own, name) - table.disturbed(kind, name)
                _add(
                    results,
                    "lead under interference",
                    paired(gaps, table.clean(own) * table.clean(kind)),
                    dataset=table.dataset,
                    over_network=kind,
                    interference=name,
                )


def record_alarms(results: Results, measured: Sequence[Measured]) -> None:
    """AUROC of every score, and of the attacked CNN's max-softmax on the same
    images; what attackers who avoid the alarm still fool.
    """
    for table in tables(measured):
        for kind in (table.bayesian, *OTHERS):
            rows = table.by_kind.get(kind, [])
            for inputs in INPUTS if rows else ():
                if (inputs, SCORES[0]) not in rows[0].scores:
                    continue
                for score in SCORES:
                    _add(
                        results,
                        "AUROC",
                        over_repetitions([_area(row, inputs, score) for row in rows]),
                        dataset=table.dataset,
                        network=kind,
                        inputs=inputs,
                        score=score,
                    )
        rows = table.by_kind[table.bayesian]
        for inputs in INPUTS:
            plain = [auroc(row.baseline["clean"], row.baseline[inputs]) for row in rows]
            where: dict[str, Any] = {"dataset": table.dataset, "inputs": inputs}
            _add(
                results,
                "AUROC",
                over_repetitions(plain),
                network=CNN,
                score="max-softmax",
                **where,
            )
            own = [_area(row, inputs, "mutual information") for row in rows]
            ahead = over_repetitions(np.subtract(own, plain))
            _add(results, "AUROC lead over max-softmax", ahead, **where)
        wrong = 1 - table.correct(table.bayesian, "EOT", "PGD", 1.0).mean(axis=1)
        for inputs in ("quiet", "matching"):
            still = 1 - table.correct(table.bayesian, inputs, "PGD", 1.0).mean(axis=1)
            _add(
                results,
                "fooled beside the averaged attack",
                over_repetitions(still / np.maximum(wrong, 1e-9)),
                dataset=table.dataset,
                inputs=inputs,
            )


def _area(row: Measured, inputs: str, score: str) -> float:
    return auroc(row.scores["clean", score], row.scores[inputs, score])


def record_sweep(
    results: Results, measured: Sequence[Measured], swept: Sequence[Measured]
) -> None:
    """The Bayesian network's lead at every temperature and prior of the sweep, over
    the matched control in the same repetitions of the first bench.
    """
    controls = tables(measured)[0].by_kind[CONTROL]
    for table in tables(swept):
        rows = table.by_kind[BNN]
        rivals = [
            next(each for each in controls if each.network.seed == row.network.seed)
            for row in rows
        ]
        factors = {
            "dataset": table.dataset,
            "temperature": table.bench.temperature,
            "prior_sd": round(table.bench.prior_sd, 6),
        }
        _add(results, "sweep: clean accuracy", mean(table.clean(BNN)), **factors)
        budget = table.bench.budgets[0]
        for way in WAYS:
            gaps, both = [], []
            for row, rival in zip(rows, rivals, strict=True):
                key, clean = (way, "PGD", budget), ("clean", "none", 0.0)
                gaps.append(row.correct[key] - rival.correct[key])
                both.append(row.correct[clean] * rival.correct[clean])
            found = paired(np.stack(gaps), np.stack(both))
            _add(results, "sweep: lead under attack", found, way=way, **factors)


def record_theory(results: Results, measured: Sequence[Measured]) -> None:
    """How much of a gradient averaging leaves, whether attacks fail where it leaves
    less, and what the strong attack takes from the lead.
    """
    for table in tables(measured):
        own, budget = table.bayesian, table.bench.budgets[0]
        rows = table.by_kind[own]
        ratios = np.stack(
            [row.norm_ratio for row in rows if row.norm_ratio is not None]
        )
        _add(
            results,
            "averaged gradient over a sample's",
            mean(ratios),
            dataset=table.dataset,
        )
        clean, left = table.clean(own) > 0, table.correct(own, "EOT", "PGD", budget)
        more = []
        for ratio, right, kept in zip(ratios, clean, left, strict=True):
            short = ratio < np.median(ratio[right]) if right.any() else right
            if (right & short).any() and (right & ~short).any():
                more.append(kept[right & short].mean() - kept[right & ~short].mean())
        if len(more) == len(rows):
            _add(
                results,
                "failed attacks where gradients cancel, less elsewhere",
                over_repetitions(more),
                dataset=table.dataset,
            )
        leads = [
            table.correct(own, way, "PGD", budget)
            - table.correct(CONTROL, way, "PGD", budget)
            for way in ("one sample", "EOT")
        ]
        both = table.clean(own) * table.clean(CONTROL)
        _add(
            results,
            "lead lost to the strong attack",
            paired(leads[0] - leads[1], both),
            dataset=table.dataset,
        )


# Tables of the page
# --------------------------------------------------------------------------------------


def percent(metric: Metric | None) -> str:
    """A share in per cent, with its interval where it has one."""
    if metric is None:
        return "–"
    number: Callable[[float], str] = lambda value: claims.rounded(100 * value, 0)  # noqa: E731
    if metric.low is None or metric.high is None or metric.n == 1:
        return f"{number(metric.value)} %"
    return f"{number(metric.value)} % ({number(metric.low)} to {number(metric.high)})"


def overview(results: Results) -> pd.DataFrame:
    """Every network: accuracy clean, attacked on the CNN, and attacked itself."""
    lines = []
    for dataset in claims.datasets(results):
        for row in results.select("clean accuracy", dataset=dataset):
            network = row.factors["network"]
            found: dict[str, Metric | None] = {}
            for way in WAYS:
                rows = results.select(
                    "accuracy under attack",
                    dataset=dataset,
                    network=network,
                    way=way,
                    attack="PGD",
                )
                lowest = [each for each in rows if each.factors["budget"] in (0.5, 1.0)]
                found[way] = lowest[0] if lowest else None
            lines.append(
                {
                    "data": claims.name(dataset),
                    "network": network,
                    "clean": percent(row),
                    "transferred": percent(found["transfer"]),
                    "attacked itself": percent(found["EOT"]),
                }
            )
    return pd.DataFrame(lines)


def setting(results: Results, benches: Sequence[Bench]) -> str:
    """What this run has, in a sentence."""
    parts = [
        f"{row.factors['title']} ({bench.train_images:,} training images, "
        f"temperature {bench.temperature:g}, ε = {bench.epsilon:g})"
        for row, bench in zip(results.select("images"), benches, strict=True)
    ]
    seeds = results.one("seeds").value
    return f"This run: {'; '.join(parts)}. {seeds:.0f} repetitions."


def convergences(results: Results) -> pd.DataFrame:
    """Bound and balance of every variational posterior."""
    lines = []
    for dataset in claims.datasets(results):
        found = results.select("balance of deviations", dataset=dataset)
        for kind in dict.fromkeys(row.factors["network"] for row in found):
            own = [row.value for row in found if row.factors["network"] == kind]
            bounds = results.select("variational bound", dataset=dataset, network=kind)
            lines.append(
                {
                    "data": claims.name(dataset),
                    "network": kind,
                    "bound": float(np.mean([row.value for row in bounds])),
                    "balance": max(own, key=lambda value: abs(value - 1)),
                }
            )
    return pd.DataFrame(lines)


def estimators(results: Results, kinds: Sequence[str]) -> pd.DataFrame:
    """The gradient estimators beside each other, on the main data set."""
    dataset = claims.datasets(results)[0]
    lines = []
    for kind in kinds:
        price = results.one("divergence from the prior", dataset=dataset, network=kind)
        own = {way: claims.lead(results, dataset, kind, CONTROL, way) for way in WAYS}
        clean = results.one("clean accuracy", dataset=dataset, network=kind)
        lines.append(
            {
                "estimator": "local reparameterisation" if kind == BNN else kind,
                "divergence": price.value,
                "clean": percent(clean),
                "lead, transferred": percent(own["transfer"]),
                "lead, attacked itself": percent(own["EOT"]),
            }
        )
    return pd.DataFrame(lines)


def visible(results: Results) -> str:
    """The power of the comparison: half the width of the deciding leads' intervals."""
    parts = []
    for dataset in claims.datasets(results):
        own = claims.bayesian(results, dataset)
        widths = [
            ((row.high or 0) - (row.low or 0)) / 2
            for way in WAYS
            for row in [claims.lead(results, dataset, own, CONTROL, way)]
        ]
        parts.append(f"{100 * max(widths):.0f} points on {claims.name(dataset)}")
    return ", ".join(parts)


def pixels(results: Results) -> str:
    """What one pixel does to the Bayesian network and its control, in a sentence."""
    dataset = claims.datasets(results)[0]
    own = claims.bayesian(results, dataset)

    def after(kind: str, way: str) -> str:
        row = results.one(
            "accuracy under attack",
            dataset=dataset,
            network=kind,
            way=way,
            attack="one pixel",
        )
        return f"{row.value:.0%}"

    return (
        f"With the worst pixel chosen on the CNN {after(own, 'transfer')} of images "
        f"stay right on the Bayesian network and {after(CONTROL, 'transfer')} on its "
        f"control; with the worst pixel of each itself {after(own, 'EOT')} and "
        f"{after(CONTROL, 'EOT')}."
    )


assert set(DESIGNS) <= set(KINDS)
