"""What the published predictions of Makino et al. (2022) say: AUC and KS by severity,
subgroup, network, training and region.

Read `record_predictions`, then `record_regions` and `record_readers`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from robustbook import stats
from robustbook.data.nyu_predictions import NETWORKS, SEVERITIES, Predictions
from robustbook.results import Results
from robustbook.stats import binomial_interval
from robustbook.studies.mammogram_perturbations.measure.perturbed import mean_auc
from robustbook.studies.mammogram_perturbations.measure.severity import (
    record_curves,
    record_excess,
)
from robustbook.studies.mammogram_perturbations.parameters import Parameters

SUBGROUPS = {
    "microcalcification": "microcalcifications",
    "soft tissue": "soft_tissue_lesions",
    "all": "all",
}
"""Our names of the sub-tasks, and the files'."""
TRAININGS = {"clean": "unperturbed", "filtered": "filtered"}


def record_predictions(
    results: Results, predictions: Predictions, parameters: Parameters
) -> None:
    """Rows of both networks: AUC and KS (means over five seeds), losses with intervals
    over seeds and exams.
    """
    results.add(
        "seeds", len(predictions.networks["dmv", "filtered"]), leg="predictions"
    )
    for network in NETWORKS:
        losses = {
            name: _record_subgroup(results, predictions, network, name, parameters)
            for name in SUBGROUPS
        }
        record_excess(
            results,
            losses["microcalcification"],
            losses["soft tissue"],
            "predictions",
            network,
        )


def _record_subgroup(
    results: Results,
    predictions: Predictions,
    network: str,
    subgroup: str,
    parameters: Parameters,
) -> dict[float, stats.Drawn]:
    chosen, positive = predictions.task(SUBGROUPS[subgroup])
    (exams,) = stats.draw(
        predictions.exams,
        seed=0,
        resamples=parameters.resamples,
        positive=positive,
    )
    common: dict[str, Any] = {
        "leg": "predictions",
        "network": network,
        "subgroup": subgroup,
    }
    found = {}
    for training, file in TRAININGS.items():
        scores = predictions.networks[network, file][..., chosen]
        for place, severity in enumerate(SEVERITIES):
            found[training, severity] = mean_auc(
                positive[chosen], scores[:, place], exams.at(chosen)
            )
            separation = np.mean(
                [stats.ks(positive[chosen], row) for row in scores[:, place]]
            )
            results.add(
                "KS",
                float(separation),
                n=len(scores),
                training=training,
                severity=severity,
                **common,
            )
    record_curves(results, found, found["clean", 0.0], common)
    return {
        severity: found["clean", 0.0] - found["clean", severity]
        for severity in SEVERITIES
    }


def record_regions(results: Results, predictions: Predictions) -> None:
    """Rows of the annotation study: KS when only the inside, or only the outside, of
    readers' regions is filtered.
    """
    breasts = predictions.region_breasts
    for subgroup in ("microcalcification", "soft tissue"):
        chosen, positive = (
            mask[breasts] for mask in predictions.task(SUBGROUPS[subgroup])
        )
        for network in NETWORKS:
            tables = {
                where: predictions.regions[network, where]
                for where in ("interior", "exterior")
            }
            tables["entire"] = predictions.networks[network, "unperturbed"][
                ..., breasts
            ]
            for where, table in tables.items():
                for place, severity in enumerate(SEVERITIES):
                    rows = table[:, place][:, chosen]
                    value = float(
                        np.mean([stats.ks(positive[chosen], row) for row in rows])
                    )
                    results.add(
                        "region KS",
                        value,
                        n=len(rows),
                        leg="predictions",
                        network=network,
                        subgroup=subgroup,
                        where=where,
                        severity=severity,
                    )


def record_readers(results: Results, predictions: Predictions) -> None:
    """Rows of the readers: share of malignant breasts of a subgroup that they called
    malignant, pooled over readers.
    """
    tasks = {
        name: predictions.task(SUBGROUPS[name])[1]
        for name in ("microcalcification", "soft tissue")
    }
    tasks["not malignant"] = predictions.outcome != "malignant"
    for name, rows in tasks.items():
        for place, severity in enumerate(SEVERITIES):
            answers = predictions.readers[:, place][:, rows]
            given = answers[np.isfinite(answers)]
            share = binomial_interval(int(given.sum()), len(given))
            results.add(
                "readers' positive rate",
                share,
                over="readings",
                leg="predictions",
                subgroup=name,
                severity=severity,
            )
