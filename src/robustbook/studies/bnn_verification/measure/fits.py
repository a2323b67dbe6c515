"""How the fits went: the mixing of HMC, the optimum of variational inference, and the
accuracy of every posterior.

Each row is recorded for all tasks by one step, so that a cell can be run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from robustbook.bayes.mean_field import Convergence
from robustbook.results import Results
from robustbook.stats import mean_interval_t
from robustbook.studies import protocol
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.parameters import Parameters

ENOUGH_DRAWS = 20
"""Draws of each chain below which no effective sample size is recorded."""


class Measured(Protocol):
    """What was measured of one posterior from one seed."""

    @property
    def name(self) -> str:
        """The posterior."""

    @property
    def accuracy(self) -> networks.Accuracy:
        """Of its samples and of their mean."""


def record_fits(results: Results, **settings: Any) -> None:
    """How HMC mixed and how near to its optimum variational inference came, for every
    task.
    """
    parameters = Parameters.of(settings)
    for task in networks.tasks_of(**settings):
        seeds = protocol.seeds(parameters)
        if task.name == "signs":
            sampled, seeds = networks.fit_sign_chains(task, parameters), seeds[:1]
        else:
            sampled = networks.chains_of(task, parameters)
        record_mixing(results, sampled.mixing, task.name)
        results.add("chains", len(sampled.by_chain), task=task.name)
        fitted = [
            networks.convergence(
                networks.fit("mean-field VI", task, parameters, seed), task, parameters
            )
            for seed in seeds
        ]
        record_convergence(results, fitted, task.name)


def record_accuracies(
    results: Results, measured: Mapping[str, Sequence[Measured]]
) -> None:
    """Accuracy of single samples and of the predictive mean, over seeds; `measured`
    goes by task.
    """
    for task, found in measured.items():
        for name in dict.fromkeys(each.name for each in found):
            reached = [each.accuracy for each in found if each.name == name]
            columns = {
                "single sample": [each.sample for each in reached],
                "predictive mean": [each.predictive for each in reached],
            }
            for of, values in columns.items():
                _add_accuracy(results, values, task=task, posterior=name, of=of)


def _add_accuracy(results: Results, values: list[float], **factors: Any) -> None:
    """The mean over seeds with Student's interval; one seed has none."""
    if len(values) > 1:
        row = mean_interval_t(values)
        results.add("accuracy", row, over="seeds", unit="share", **factors)
    else:
        results.add("accuracy", values[0], unit="share", **factors)


def record_mixing(results: Results, mixing: networks.Mixing, task: str) -> None:
    """R-hat and effective sample sizes of an HMC run, its acceptance and step size.

    From a handful of draws no effective sample size can be told, and none is recorded.
    """
    results.add("draws of each chain", mixing.draws, task=task, unit="samples")
    results.add("mean acceptance", mixing.acceptance, task=task, unit="share")
    results.add(
        "step size", mixing.step_size, task=task, unit="prior standard deviations"
    )
    for quantity, found in mixing.diagnoses.items():
        results.add("worst R-hat", found.worst_r_hat, task=task, quantity=quantity)
        results.add("median R-hat", found.median_r_hat, task=task, quantity=quantity)
        if mixing.draws < ENOUGH_DRAWS:
            continue
        results.add(
            "least effective sample size",
            found.least_ess,
            task=task,
            quantity=quantity,
            unit="samples",
        )
        results.add(
            "median effective sample size",
            found.median_ess,
            task=task,
            quantity=quantity,
            unit="samples",
        )


def record_convergence(
    results: Results, found: Sequence[Convergence | None], task: str
) -> None:
    """How variational training went: the bound, mean over seeds; of
    `mean_field.diagnose`'s other numbers, which are 1 at the optimum, the worst over
    seeds.

    Nothing is recorded where a posterior is not variational.
    """
    known = [each for each in found if each]
    if not known:
        return
    results.add(
        "evidence lower bound",
        float(np.mean([each.bound for each in known])),
        task=task,
        unit="nats per image",
    )
    for layer in known[0].balance:
        results.add(
            "balance of deviations",
            _farthest([each.balance[layer] for each in known]),
            task=task,
            layer=layer,
        )
    blank = [each.uninformed for each in known if each.uninformed is not None]
    if blank:
        results.add(
            "deviation without information",
            _farthest(blank),
            task=task,
            unit="prior standard deviations",
        )


def _farthest(values: Sequence[float]) -> float:
    """The value that is farthest from 1."""
    return max(values, key=lambda value: abs(value - 1))
