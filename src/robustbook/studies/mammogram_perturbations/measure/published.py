"""What the published predictions of Makino et al. (2022) say: AUC and KS by severity,
subgroup, network, training and region.

Read `record_predictions`, then `record_regions` and `record_readers`.
"""

from __future__ import annotations

import numpy as np

from robustbook import stats
from robustbook.data.nyu_predictions import NETWORKS, SEVERITIES, Predictions
from robustbook.results import Results
from robustbook.stats import binomial_interval
from robustbook.studies.mammogram_perturbations.measure.severity import (
    drawn_by,
    record_arms,
    record_excess,
    record_parts,
    record_separation,
)
from robustbook.studies.mammogram_perturbations.parameters import Parameters, by_name

SUBGROUPS = {
    "microcalcification": "microcalcifications",
    "soft tissue": "soft_tissue_lesions",
    "all": "all",
}
"""Our names of the sub-tasks, and the files'."""
TRAININGS = {"clean": "unperturbed", "filtered": "filtered"}


@by_name
def record_predictions(
    results: Results, predictions: Predictions, parameters: Parameters
) -> None:
    """Rows of both networks: AUC and KS (means over five seeds), losses with intervals
    over seeds and exams.
    """
    drawn_of = drawn_by(predictions.exams, parameters)
    biopsied = predictions.outcome != "nonbiopsied"
    parts = {"not biopsied": ~biopsied, "benign lesions": biopsied}
    for network in NETWORKS:
        tables = {
            (training, severity): predictions.networks[network, file][:, place]
            for training, file in TRAININGS.items()
            for place, severity in enumerate(SEVERITIES)
        }
        losses = {}
        for subgroup, name in SUBGROUPS.items():
            chosen, positive = predictions.task(name)
            common = {"leg": "predictions", "network": network, "subgroup": subgroup}
            drawn = drawn_of(chosen, positive)
            found = {key: drawn(table) for key, table in tables.items()}
            losses[subgroup] = record_arms(results, found, common)
            record_separation(results, tables, chosen, positive, common)
            task = (results, tables, chosen, positive, parts, common, drawn_of)
            record_parts(*task)
        record_excess(results, losses, "predictions", network)


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
