"""How well scores agree with the oracle: `measure_*` for one network each,
`add_correlations` for the rows of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustbook.measure.importance import CRITERIA, Evidence, score
from robustbook.measure.oracle import removal_losses
from robustbook.models.network import accuracy
from robustbook.models.prunable import Prunable, published_resnet20
from robustbook.results import Results
from robustbook.stats import (
    bootstrap_rows,
    correlation,
    mean_interval_t,
    rank_correlation,
)
from robustbook.studies.taylor_pruning.networks import Task, lenet3, preact_resnet, vgg

RESIDUAL_CRITERIA = (
    "taylor-fo",
    "taylor-fo-fg",
    "taylor-so",
    "weight taylor sum",
    "weight taylor",
    "bn-scale",
    "weight-norm",
    "obd",
    "taylor output",
    "random",
)
WITHOUT_NORM = tuple(name for name in CRITERIA if name not in ("bn taylor", "bn-scale"))
ELSEWHERE = "oracle, other images"


@dataclass(frozen=True)
class Agreement:
    """Scores (units,) by criterion and the oracle (units,) of one network.

    `layers` gives the units of each group; the scores under "oracle, other images" are
    the oracle on as many other images.
    """

    accuracy: float
    layers: dict[str, int]
    scores: dict[str, Tensor]
    oracle: Tensor

    def chosen(self, scope: str) -> Tensor:
        """Mask (units,) of a scope: "all layers", "inner units" (no streams), or a
        layer's name.
        """
        names = [name for name, units in self.layers.items() for _ in range(units)]
        wanted = {
            "all layers": lambda name: True,
            "inner units": lambda name: not name.startswith("stream"),
        }
        choose = wanted.get(scope, lambda name: name == scope)
        return torch.tensor([choose(name) for name in names])


def measure_lenet3(task: Task) -> Agreement:
    """All criteria and the oracle of one LeNet3."""
    count = task.parameters.score_images
    return measure(
        lenet3(task), task, WITHOUT_NORM, task.scored(count), task.scored(count, part=1)
    )


def measure_preact_resnet(task: Task) -> Agreement:
    """The criteria that residual networks have and the oracle of one PreAct-ResNet, on
    two halves of its images.
    """
    count = task.parameters.residual_scores
    return measure(
        preact_resnet(task),
        task,
        RESIDUAL_CRITERIA,
        task.scored(count),
        task.scored(count, part=1),
    )


def measure_vgg(task: Task) -> Agreement:
    """All criteria, those of the batch-norm included, and the oracle of one VGG-like
    net.
    """
    count = task.parameters.residual_scores
    return measure(
        vgg(task), task, tuple(CRITERIA), task.scored(count), task.scored(count, part=1)
    )


def measure_published_resnet20(task: Task) -> Agreement:
    """The same for the published ResNet-20, which was trained on the official
    images.
    """
    count = task.parameters.residual_scores
    model = published_resnet20()
    return measure(
        model, task, RESIDUAL_CRITERIA, task.scored(count), task.scored(count, part=1)
    )


def measure_normed(work: tuple[str, Task]) -> Agreement:
    """One network with batch-norm: a "resnet20", a "preact-resnet" or a "vgg" (so that
    workers can share them).
    """
    network, task = work
    kinds = {
        "resnet20": measure_published_resnet20,
        "preact-resnet": measure_preact_resnet,
        "vgg": measure_vgg,
    }
    return kinds[network](task)


def measure(
    model: Prunable,
    task: Task,
    criteria: Sequence[str],
    images: tuple[Tensor, Tensor],
    elsewhere: tuple[Tensor, Tensor],
) -> Agreement:
    """Scores and oracle of a network on `images` (images, labels), and the oracle on
    others for comparison.
    """
    batch = min(task.parameters.score_batch, len(images[0]))
    seen = Evidence(model, *images, batch=batch, generator=task.generator(1))
    scores = {name: score(name, seen) for name in criteria}
    scores[ELSEWHERE] = removal_losses(model, *elsewhere).importance
    layers = {group.name: group.units for group in model.groups}
    test = accuracy(model, task.test.images, task.test.labels)
    return Agreement(test, layers, scores, removal_losses(model, *images).importance)


COEFFICIENTS = {"pearson": correlation, "spearman": rank_correlation}
"""Correlations of two scores; 0 if one of them is constant."""


def correlations(
    agreement: Agreement, coefficient: str, scope: str
) -> dict[str, float]:
    """Correlation of each criterion with the oracle within a scope; "within layers" is
    the mean over layers.
    """
    if scope == "within layers":
        by_layer = [
            correlations(agreement, coefficient, layer) for layer in agreement.layers
        ]
        return {
            name: float(np.mean([layer[name] for layer in by_layer]))
            for name in agreement.scores
        }
    chosen = agreement.chosen(scope)
    correlate = COEFFICIENTS[coefficient]
    oracle = agreement.oracle[chosen]
    return {
        name: correlate(values[chosen], oracle)
        for name, values in agreement.scores.items()
    }


def add_correlations(
    results: Results, agreements: Sequence[Agreement], *, network: str, data: str
) -> None:
    """Rows `correlation` (interval over networks), `correlation lead` and `layer gap`
    (paired), and clean `accuracy`.
    """
    factors = {"network": network, "data": data}
    _add_mean(
        results,
        "accuracy",
        [one.accuracy for one in agreements],
        unit="share",
        **factors,
    )
    for coefficient in COEFFICIENTS:
        scopes = ["all layers", "within layers", *agreements[0].layers]
        if network == "preact-resnet":
            scopes.insert(0, "inner units")
        found = {
            scope: [correlations(one, coefficient, scope) for one in agreements]
            for scope in scopes
        }
        for scope, by_network in found.items():
            for name in by_network[0]:
                values = [one[name] for one in by_network]
                _add_mean(
                    results,
                    "correlation",
                    values,
                    coefficient=coefficient,
                    scope=scope,
                    criterion=name,
                    **factors,
                )
        for name in agreements[0].scores:
            leads = [one["taylor-fo"] - one[name] for one in found["all layers"]]
            gaps = [
                over[name] - within[name]
                for over, within in zip(
                    found["all layers"], found["within layers"], strict=True
                )
            ]
            if name != "taylor-fo":
                _add_mean(
                    results,
                    "correlation lead",
                    leads,
                    coefficient=coefficient,
                    rival=name,
                    **factors,
                )
            _add_mean(
                results,
                "layer gap",
                gaps,
                coefficient=coefficient,
                criterion=name,
                **factors,
            )


def add_placement(
    results: Results, agreements: Sequence[Agreement], places: Sequence[str]
) -> None:
    """Rows `placement wins`: the share of networks in which the first of `places`
    correlates best over the inner units.
    """
    for coefficient in COEFFICIENTS:
        of = [correlations(one, coefficient, "inner units") for one in agreements]
        wins = [all(one[places[0]] > one[place] for place in places[1:]) for one in of]
        results.add(
            "placement wins",
            float(np.mean(wins)),
            n=len(wins),
            over="networks",
            unit="share",
            coefficient=coefficient,
        )


def add_single_network(
    results: Results, agreement: Agreement, *, network: str, data: str
) -> None:
    """Rows `correlation` of one network, with bootstrap intervals over its units, and
    its clean `accuracy`.
    """
    results.add(
        "accuracy", agreement.accuracy, unit="share", network=network, data=data
    )
    for coefficient, correlate in COEFFICIENTS.items():
        for name, values in agreement.scores.items():
            found = bootstrap_rows(
                correlate,
                values.numpy(),
                agreement.oracle.numpy(),
                seed=0,
                resamples=500,
            )
            results.add(
                "correlation",
                found.value,
                found.bounds,
                n=found.n,
                over="units",
                network=network,
                data=data,
                coefficient=coefficient,
                scope="all layers",
                criterion=name,
            )


def add_training_length(
    results: Results, by_epochs: dict[int, Sequence[Agreement]]
) -> None:
    """Rows `correlation after epochs`: Spearman over all units of LeNet3, by length of
    training.
    """
    for epochs, agreements in by_epochs.items():
        found = [correlations(one, "spearman", "all layers") for one in agreements]
        for name in ("taylor-fo", "taylor-so", "obd", "weight-norm"):
            values = [one[name] for one in found]
            _add_mean(
                results,
                "correlation after epochs",
                values,
                epochs=epochs,
                criterion=name,
            )


def _add_mean(
    results: Results,
    name: str,
    values: Sequence[float],
    unit: str = "",
    **factors: str | int,
) -> None:
    """A row with Student's t interval over networks, cut at the ends of the values'
    range: 1 and -1, or twice that.
    """
    found = mean_interval_t(values)
    end = (
        1.0 if name in ("accuracy", "correlation", "correlation after epochs") else 2.0
    )
    bounds = (max(found.low, -end), min(found.high, end))
    results.add(
        name, found.value, bounds, n=found.n, over="networks", unit=unit, **factors
    )
