"""Measured numbers as metric rows, with intervals over networks, and the tables that
pages show.

Read `record_agreements` (scores against the oracle), then `record_walks` and
`record_subsets` (pruning without tuning), then `record_tuned`. The rows are declared in
`claims`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure.importance import first_order, gate_gradients
from robustbook.measure.pruning_walk import ORACLE, Walk
from robustbook.measure.tuned_pruning import Tuned
from robustbook.models.network import accuracy, compute_logits
from robustbook.perturb.pruning import all_alive, cost, lowest, masked, removed
from robustbook.results import Metric, Results
from robustbook.stats import (
    bootstrap_rows,
    mean_interval_t,
    rank_correlation,
)
from robustbook.studies.taylor_pruning import claims
from robustbook.studies.taylor_pruning.measure.agreement import (
    COEFFICIENTS,
    Agreement,
    correlations,
    reliability,
)
from robustbook.studies.taylor_pruning.measure.tuning import WAYS
from robustbook.studies.taylor_pruning.measure.walks import SUBSET_WAYS
from robustbook.studies.taylor_pruning.networks import BATCH, Network, model_of
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
FIRST_ORDER = "taylor-fo"
SMALLEST_RELIABILITY = 0.05
"""Below it nothing is corrected: what is left of the truth is noise."""

RESAMPLES = 400


def _add(
    results: Results,
    name: str,
    values: Sequence[float] | Array,
    *,
    end: float | None = None,
    unit: str = "",
    **factors: Any,
) -> None:
    """The mean over networks with Student's t interval, cut at `end` on both sides."""
    found = mean_interval_t(np.asarray(values, dtype=float))
    if end is not None:
        found = replace(found, low=max(found.low, -end), high=min(found.high, end))
    results.add(name, found, over="networks", unit=unit, **factors)


# Scores against the oracle
# --------------------------------------------------------------------------------------


def _corrected(correlation: float, reliable: float) -> float:
    return correlation / max(reliable, SMALLEST_RELIABILITY) ** 0.5


def record_agreements(
    results: Results,
    measured: Sequence[tuple[Sequence[Network], Sequence[Agreement]]],
    published: Sequence[Agreement],
) -> None:
    """Rows of every group of networks of one kind and data, and of the published
    ResNet-20 where it was measured.
    """
    for networks, agreements in measured:
        if networks:
            first = networks[0]
            where: dict[str, Any] = {
                "network": first.architecture,
                "data": first.training.title,
            }
            _record_kind(results, agreements, where)
    for agreement in published:
        _record_published(results, agreement)


def _record_kind(
    results: Results, agreements: Sequence[Agreement], where: dict[str, Any]
) -> None:
    """How well every criterion agrees with the oracle and the oracle with itself, and
    the lead of first order, paired over networks.
    """
    accuracies = [one.accuracy for one in agreements]
    _add(results, "accuracy", accuracies, unit="share", **where)
    losses = [one.loss for one in agreements]
    _add(results, "training loss", losses, unit="nats", **where)
    scopes = [("all layers", "training"), ("all layers", "unseen")]
    scopes += [(scope, "training") for scope in ("within layers", "inner units")]
    for coefficient in COEFFICIENTS:
        for scope, truth in scopes:
            _record_scope(results, agreements, coefficient, scope, truth, where)
        for name in agreements[0].scores:
            gaps = [
                correlations(one, coefficient)[name]
                - correlations(one, coefficient, "within layers")[name]
                for one in agreements
            ]
            _add(
                results,
                "layer gap",
                gaps,
                end=2,
                coefficient=coefficient,
                criterion=name,
                **where,
            )


def _record_scope(
    results: Results,
    agreements: Sequence[Agreement],
    coefficient: str,
    scope: str,
    truth: str,
    where: dict[str, Any],
) -> None:
    factors: dict[str, Any] = {
        "coefficient": coefficient,
        "scope": scope,
        "truth": truth,
        **where,
    }
    reliable = [reliability(one, coefficient, scope, truth) for one in agreements]
    _add(results, "reliability", reliable, end=1, **factors)
    found = [correlations(one, coefficient, scope, truth) for one in agreements]
    for name in agreements[0].scores:
        values = [one[name] for one in found]
        _add(results, "correlation", values, end=1, criterion=name, **factors)
        corrected = list(map(_corrected, values, reliable))
        _add(results, "corrected correlation", corrected, criterion=name, **factors)
        if name != FIRST_ORDER:
            leads = [one[FIRST_ORDER] - one[name] for one in found]
            _add(results, "correlation lead", leads, end=2, rival=name, **factors)


def _record_published(results: Results, agreement: Agreement) -> None:
    """The same of the one ResNet-20, with bootstrap intervals over its units."""
    network, title = "resnet20", "CIFAR-10"
    where: dict[str, Any] = {"network": network, "data": title}
    results.add("accuracy", agreement.accuracy, unit="share", **where)
    results.add("training loss", agreement.loss, unit="nats", **where)
    for coefficient, correlate in COEFFICIENTS.items():
        for truth in agreement.truths:
            factors: dict[str, Any] = {"coefficient": coefficient}
            factors |= {"scope": "all layers"}
            factors |= {"truth": truth, "network": network, "data": title}
            truths = agreement.truths[truth]

            def reliable(one: Array, other: Array, of: object = correlate) -> float:
                half = float(of(one, other))  # type: ignore[operator]
                return max(0.0, 2 * half / (1 + half)) if half > -1 else 0.0

            halves = [part.numpy() for part in truths.halves]
            _over_units(results, "reliability", reliable, halves, factors)
            for name, scores in agreement.scores.items():
                columns = [scores.numpy(), truths.together.numpy()]
                named = factors | {"criterion": name}
                _over_units(results, "correlation", correlate, columns, named)
                if name in claims.TABLE_1:

                    def corrected(
                        score: Array,
                        true: Array,
                        one: Array,
                        other: Array,
                        of: object = correlate,
                        rel: object = reliable,
                    ) -> float:
                        return _corrected(
                            float(of(score, true)),  # type: ignore[operator]
                            rel(one, other),  # type: ignore[operator]
                        )

                    both = [*columns, *halves]
                    _over_units(
                        results, "corrected correlation", corrected, both, named
                    )


def _over_units(
    results: Results,
    name: str,
    statistic: object,
    columns: Sequence[Array],
    factors: dict[str, Any],
) -> None:
    found = bootstrap_rows(statistic, *columns, seed=0, resamples=RESAMPLES)  # type: ignore[arg-type]
    results.add(name, found, over="units", **factors)


def record_batches(
    results: Results, agreements: Sequence[Agreement], *, network: str
) -> None:
    """Correlation of first order with the oracle by the size of the mini-batch whose
    gradient is squared.
    """
    for coefficient, correlate in COEFFICIENTS.items():
        for size in agreements[0].batches:
            values = [
                float(correlate(one.batches[size], one.truths["training"].together))
                for one in agreements
            ]
            _add(
                results,
                "correlation by batch",
                values,
                end=1,
                batch=size,
                coefficient=coefficient,
                network=network,
            )


LENGTH_CRITERIA = ("taylor-fo", "taylor-fo-fg", "taylor-so", "obd")


def record_lengths(
    results: Results, by_epochs: Mapping[int, Sequence[Agreement]]
) -> None:
    """Loss, reliability of the oracle and agreement of scores by length of training."""
    for epochs, agreements in by_epochs.items():
        losses = [one.loss for one in agreements]
        _add(results, "loss after epochs", losses, unit="nats", epochs=epochs)
        reliable = [reliability(one, "spearman") for one in agreements]
        _add(results, "reliability after epochs", reliable, end=1, epochs=epochs)
        for name in LENGTH_CRITERIA:
            values = [correlations(one, "spearman")[name] for one in agreements]
            _add(
                results,
                "correlation after epochs",
                values,
                end=1,
                epochs=epochs,
                criterion=name,
            )


# Pruning without tuning
# --------------------------------------------------------------------------------------


def record_walks(
    results: Results,
    measured: Sequence[tuple[Sequence[Network], Sequence[Mapping[str, Walk]], float]],
) -> None:
    """Rows of every group of networks, with the limit of the loss at which units are
    counted.
    """
    for networks, walks, limit in measured:
        units = model_of(networks[0]).units
        _record_walks(results, walks, networks[0].architecture, limit, units)


def _record_walks(
    results: Results,
    walks: Sequence[Mapping[str, Walk]],
    network: str,
    limit: float,
    units: int,
) -> None:
    """Units removed when the loss reaches the limit, their share of the oracle's, and
    the lead of first order in share of all units; losses on the way.
    """
    for criterion in dict.fromkeys(name for each in walks for name in each):
        with_it = [each for each in walks if criterion in each]
        factors: dict[str, Any] = {"criterion": criterion, "network": network}
        counts = np.array([each[criterion].reaches(limit) for each in with_it])
        first = np.array([each[FIRST_ORDER].reaches(limit) for each in with_it])
        best = np.array([each[ORACLE].reaches(limit) for each in with_it])
        _add(results, "units removed", counts, unit="units", **factors)
        if criterion != ORACLE:
            _add(results, "units over the oracle's", counts / best, **factors)
        if criterion != FIRST_ORDER:
            lead = (first - counts) / units
            _add(
                results,
                "units lead",
                lead,
                unit="share",
                network=network,
                rival=criterion,
            )
        shortest = min(len(each[criterion].losses) for each in with_it)
        for place, gone in enumerate(with_it[0][criterion].removed[:shortest]):
            losses = [each[criterion].losses[place] for each in with_it]
            _add(
                results,
                "loss with units removed",
                losses,
                unit="nats",
                removed=gone,
                **factors,
            )


def record_subsets(
    results: Results, tables: Sequence[Mapping[str, Sequence[float]]]
) -> None:
    """Loss by way of choosing and units removed from the first layer."""
    for way in SUBSET_WAYS:
        for removed_units, losses in enumerate(
            np.array([each[way] for each in tables]).T
        ):
            _add(
                results,
                "subset loss",
                losses,
                unit="nats",
                way=way,
                removed=removed_units,
            )


# Pruning with tuning
# --------------------------------------------------------------------------------------


def record_tuned(
    results: Results,
    tuned: Sequence[Mapping[str, Tuned]],
    networks: Sequence[Network],
) -> None:
    """Accuracy and cost by way of pruning, leads of one way over another paired over
    networks, and whether the loss before tuning predicts the accuracy after it.
    """
    before = [
        accuracy(model_of(each), each.test.images, each.test.labels)
        for each in networks
    ]
    title, shape = networks[0].training.title, networks[0].training.image_shape
    _add(results, "accuracy before pruning", before, end=1, unit="share", data=title)
    for way in WAYS:
        made = [each[way] for each in tuned]
        for length in made[0].accuracies:
            values = [one.accuracies[length] for one in made]
            _add(
                results,
                "tuned accuracy",
                values,
                end=1,
                unit="share",
                way=way,
                length=length,
            )
        costs = [
            cost(removed(model_of(network), one.alive), shape)
            for network, one in zip(networks, made, strict=True)
        ]
        adds = [each.multiply_adds for each in costs]
        _add(results, "tuned multiply-adds", adds, way=way)
        memory = [each.activation_bytes for each in costs]
        _add(results, "tuned memory", memory, unit="bytes", way=way)
        streams = [
            _streams_kept(network, one.alive)
            for network, one in zip(networks, made, strict=True)
        ]
        _add(results, "streams kept", streams, end=1, unit="share", way=way)
    for way, rival in claims.COMPARED:
        for length in tuned[0][way].accuracies:
            leads = [
                each[way].accuracies[length] - each[rival].accuracies[length]
                for each in tuned
            ]
            _add(
                results,
                "tuned lead",
                leads,
                end=1,
                unit="share",
                way=way,
                rival=rival,
                length=length,
            )
    pruned = [way for way in WAYS if way != claims.FULL]
    sane = [
        float(
            rank_correlation(
                [-each[way].loss for way in pruned],
                [list(each[way].accuracies.values())[-1] for way in pruned],
            )
        )
        for each in tuned
    ]
    _add(results, "oracle sanity", sane, end=1)


def _streams_kept(network: Network, alive: Tensor) -> float:
    """Share of the streams' channels that live."""
    parts = model_of(network).split(alive)
    streams = [part for name, part in parts.items() if name.startswith("stream")]
    return float(torch.cat(streams).float().mean())


TOLERANCE = 1e-5


def removal_difference(network: Network) -> float:
    """Largest difference of logits between the masked and the smaller network, over the
    largest logit, when half of its units went.
    """
    model, (images, labels) = model_of(network), network.seen(BATCH)
    scores = first_order(gate_gradients(model, images, labels))
    alive = lowest(model, scores, model.units // 2, all_alive(model))
    with masked(model, alive), torch.inference_mode():
        expected = compute_logits(model, images)
    found = compute_logits(removed(model, alive), images)
    return float((found - expected).abs().max() / expected.abs().max())


def record_removal(results: Results, networks: Sequence[Network]) -> None:
    """Share of the networks whose smaller copy answers as the masked one does."""
    differences = map_in_workers(removal_difference, networks)
    for kind in dict.fromkeys(each.architecture for each in networks):
        held = [
            difference <= TOLERANCE
            for network, difference in zip(networks, differences, strict=True)
            if network.architecture == kind
        ]
        results.add(
            "removal agrees",
            float(np.mean(held)),
            n=len(held),
            over="networks",
            unit="share",
            network=kind,
        )


# Tables
# --------------------------------------------------------------------------------------


def _text(row: Metric, digits: int = 2) -> str:
    if row.low is None:
        return f"{row.value:.{digits}f}"
    return f"{row.value:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"


def beside_the_paper(
    results: Results, names: Mapping[str, str], example: Network
) -> pd.DataFrame:
    """Share of the units removed at the limit by networks such as `example`, ours with
    intervals and the paper's.
    """
    network, units = example.architecture, model_of(example).units
    published, total = (
        (claims.FIGURE_3, 252) if network == "lenet3" else (claims.FIGURE_4, 4800)
    )
    lines = []
    for row in results.select("units removed", network=network):
        name = str(row.factors["criterion"])
        ends = [100 * (each or 0) / units for each in (row.value, row.low, row.high)]
        lines.append(
            {
                "criterion": names.get(name, name),
                "ours": "{:.0f} % [{:.0f}, {:.0f}]".format(*ends),
                "paper": f"{published[name] / total:.0%}".replace("%", " %")
                if name in published
                else "–",
            }
        )
    return pd.DataFrame(lines)


def table_1(results: Results, names: Mapping[str, str]) -> pd.DataFrame:
    """Spearman's correlation over all layers of the PreAct-ResNet18, as measured and
    corrected, beside the paper's.
    """
    common = {"network": "resnet18", "scope": "all layers", "coefficient": "spearman"}
    lines = []
    for name, published in claims.TABLE_1.items():
        chosen = common | {"criterion": name, "truth": "training"}
        lines.append(
            {
                "criterion": names.get(name, name),
                "ours": _text(results.one("correlation", **chosen)),
                "ours, corrected": _text(
                    results.one("corrected correlation", **chosen)
                ),
                "paper": f"{published:.2f}",
            }
        )
    return pd.DataFrame(lines)
