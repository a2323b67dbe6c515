"""Low-pass filtering in depth on phantoms, films and natural images: what it costs, and
what a filter, re-training or blur in training restores (O2, O3).

Read `measure` (scores of one network at every severity), `merged` (folds of films put
together), then `record_all`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from robustbook import page, stats
from robustbook.data import mini_mias
from robustbook.data.phantoms import SUBGROUPS, Exams, unit_images
from robustbook.models.network import compute_logits
from robustbook.models.prunable import published_resnet20
from robustbook.results import Results
from robustbook.stats import binomial_interval
from robustbook.studies.mammogram_perturbations import networks
from robustbook.studies.mammogram_perturbations.claims import ARMS, LOST_SHARE
from robustbook.studies.mammogram_perturbations.measure.over_seeds import (
    OverSeeds,
    mean_auc,
    mean_share,
)
from robustbook.studies.mammogram_perturbations.measure.perturbed import (
    lesion_scores,
    malignant_scores,
    over_images,
    task_rows,
)
from robustbook.studies.mammogram_perturbations.networks import Network
from robustbook.studies.mammogram_perturbations.parameters import Parameters, by_name
from robustbook.studies.shared import images_of
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
Key = tuple[str, float]
"""How images were filtered and read: a training, or "restored" (the clean network after
a Wiener filter), and the severity in mm (0 is unfiltered).
"""
SUBTASKS = SUBGROUPS[1:]
FILM_KINDS = {
    "microcalcification": ("CALC",),
    "soft tissue": ("CIRC", "SPIC", "MISC", "ARCH", "ASYM"),
}
"""Recorded kinds of mini-MIAS's lesions in each sub-task."""
POWER = 2.8
"""Standard errors of an effect that is found four times in five (two-sided 5 %)."""


@dataclass(frozen=True)
class Curve:
    """Scores (n,) of one network by `Key`.

    Phantoms: malignant logits of breasts (2 * exams,); films: logits of patches;
    natural images: 1 where the answer is right.
    """

    network: Network
    scores: dict[Key, Array]


def measure(network: Network, parameters: Parameters) -> Curve:
    """A clean network at every severity, without and with restoration; one trained on
    blurred images at every severity; one trained at a severity at its own.
    """
    model, images, like, scored = _task(network, parameters)
    levels: tuple[float, ...] = (0.0, *networks.SEVERITIES)
    if network.training == "filtered":
        levels = (network.severity,)
    scores = {}
    for severity in levels:
        shown = networks.filtered(images, severity, network.pitch)
        scores[str(network.training), severity] = scored(model, shown)
        if network.training == "clean" and severity:
            back = networks.wiener(shown, severity, network.pitch, like)
            scores["restored", severity] = scored(model, back)
    return Curve(network, scores)


def _task(
    network: Network, parameters: Parameters
) -> tuple[Module, Tensor, Tensor, Any]:
    """The network, its test images, training images, and how it is scored."""
    model = networks.load_network(network)
    if network.leg == "phantoms":
        exams = networks.test_exams(parameters)
        others = networks.exams_of(
            "train", network.examples, network.height, network.pitch
        )
        like = unit_images(others.images[:100])
        return model, unit_images(exams.images), like, _malignant
    if network.leg == "mias":
        read, images = networks.patches()
        held = torch.from_numpy(mini_mias.fold_of(read.women) == network.fold)
        return model, images[held], images[~held], _lesion
    test = images_of(network.dataset, "test", parameters.natural_test_images)
    like = images_of(network.dataset, "train", network.examples).images[:500]
    return model, test.images, like, partial(_right, labels=test.labels)


def _malignant(model: Module, shown: Tensor) -> Array:
    return malignant_scores(compute_logits(model, shown, chunk=64).double().numpy())


def _lesion(model: Module, shown: Tensor) -> Array:
    return lesion_scores(compute_logits(model, shown, chunk=64).double().numpy())


def _right(model: Module, shown: Tensor, labels: Tensor) -> Array:
    return (compute_logits(model, shown).argmax(1) == labels).double().numpy()


def merged(curves: Sequence[Curve]) -> list[Curve]:
    """Curves of folds put together, one for each kind and seed: held-out scores of all
    patches, each fold's brought to one scale by its unfiltered (or mildest) ones.
    """
    read, _ = networks.patches()
    folds = mini_mias.fold_of(read.women)
    found: dict[Any, dict[int, Curve]] = {}
    for curve in curves:
        kind = replace(curve.network, fold=0)
        found.setdefault(kind, {})[curve.network.fold] = curve
    whole = []
    for kind, parts in found.items():
        scores = {key: np.empty(len(folds)) for key in parts[0].scores}
        for fold, part in parts.items():
            base = next(iter(part.scores.values()))
            for key, row in part.scores.items():
                scores[key][folds == fold] = (row - base.mean()) / base.std()
        whole.append(Curve(kind, scores))
    return whole


@by_name
def measure_all(networks: Sequence[Network], parameters: Parameters) -> list[Curve]:
    """`measure` for every network, side by side."""
    return map_in_workers(partial(measure, parameters=parameters), list(networks))


# Rows
# --------------------------------------------------------------------------------------


def stacked(curves: Sequence[Curve]) -> dict[Key, Array]:
    """Scores (seeds, n) by key."""
    found: dict[Key, list[Array]] = {}
    for curve in curves:
        for key, row in curve.scores.items():
            found.setdefault(key, []).append(row)
    return {key: np.stack(rows) for key, rows in found.items()}


@by_name
def record_phantoms(
    results: Results, curves: Sequence[Curve], exams: Exams, parameters: Parameters
) -> None:
    """Rows of O2 and O3 on phantoms."""
    tables = stacked(curves)
    drawn_of = drawn_by(np.repeat(np.arange(len(exams)), 2), parameters)
    losses = {}
    for subgroup in (*SUBTASKS, "all"):
        chosen, positive = task_rows(exams, subgroup, len(exams))
        common = {"leg": "phantoms", "network": "four-view", "subgroup": subgroup}
        drawn = drawn_of(chosen, positive)
        found = {key: drawn(table) for key, table in tables.items()}
        losses[subgroup] = record_arms(results, found, common)
        record_separation(results, tables, chosen, positive, common)
        bare = exams.subgroups.ravel() == 0
        parts = {"no lesion": bare, "benign lesions": ~bare}
        record_parts(results, tables, chosen, positive, parts, common, drawn_of)
    record_excess(results, losses, "phantoms", "four-view")


@by_name
def record_films(
    results: Results, curves: Sequence[Curve], parameters: Parameters
) -> None:
    """Rows of O2 and O3 on mini-MIAS: calcifications, and all other lesions, against
    normal patches.
    """
    if not curves:
        return
    read, _ = networks.patches()
    drawn_of = drawn_by(read.women, parameters)
    tables, losses = stacked(merged(curves)), {}
    for subgroup, kinds in FILM_KINDS.items():
        positive = np.isin(read.kinds, kinds)
        chosen = positive | (read.labels == 0)
        common = {"leg": "mias", "network": "patch", "subgroup": subgroup}
        drawn = drawn_of(chosen, positive)
        found = {key: drawn(table) for key, table in tables.items()}
        losses[subgroup] = record_arms(results, found, common)
    record_excess(results, losses, "mias", "patch")


def drawn_by(groups: NDArray[np.integer], parameters: Parameters) -> Any:
    """A function of a sub-task (chosen, positive) that gives the AUC of a table (seeds,
    n) in it, in draws of `groups` that all sub-tasks share.
    """

    def of(chosen: NDArray[np.bool_], positive: NDArray[np.bool_]) -> Any:
        # All rows are drawn, so that sub-tasks are drawn alike as long as none loses
        # its positives.
        (rows,) = stats.draw(
            groups, seed=0, resamples=parameters.resamples, positive=positive
        )
        return lambda table: mean_auc(
            positive[chosen], table[:, chosen], rows.at(chosen)
        )

    return of


def record_arms(
    results: Results, found: dict[Key, OverSeeds], common: dict[str, Any]
) -> dict[float, OverSeeds]:
    """AUC (accuracy of natural images) and its loss by arm and severity, how much of it
    an arm restores, and what it leaves beyond half; the clean network's loss is
    returned.
    """
    clean = found["clean", 0.0]
    over = (
        over_images(len(clean.seeds))
        if common["leg"] == "natural"
        else ("seeds and women" if common["leg"] == "mias" else "seeds and exams")
    )
    losses = {}
    for (arm, severity), score in found.items():
        factors: dict[str, Any] = {"arm": arm, "severity": severity, **common}
        results.add("score", score.interval(), over=over, **factors)
        loss = clean - score
        results.add("score loss", loss.interval(), over=over, **factors)
        if arm == "clean":
            losses[severity] = loss
        elif severity and ("clean", severity) in found:
            lost = clean - found["clean", severity]
            back = (score - found["clean", severity]).interval()
            results.add("score restored", back, over=over, **factors)
            beyond = (loss - lost.scaled(LOST_SHARE)).interval()
            results.add("left beyond half", beyond, over=over, **factors)
    own = found.get(("blur-augmented", 0.0))
    for (arm, severity), score in found.items():
        if own is not None and arm == "blur-augmented" and severity:
            factors = {"severity": severity, **common}
            cost = (own - score).interval()
            results.add("blur-augmented loss", cost, over=over, **factors)
    return losses


def record_separation(
    results: Results,
    tables: dict[Key, Array],
    chosen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    common: dict[str, Any],
) -> None:
    """KS of every arm, mean over seeds, and AUC and KS of every clean network."""
    for (arm, severity), table in tables.items():
        found = [
            (
                stats.auc(positive[chosen], row[chosen]),
                stats.ks(positive[chosen], row[chosen]),
            )
            for row in table
        ]
        factors = {"severity": severity, **common}
        mean = float(np.mean([ks for _, ks in found]))
        results.add("KS", mean, n=len(found), arm=arm, **factors)
        if arm == "clean":
            for seed, pair in enumerate(found):
                for name, value in zip(("AUC", "KS"), pair, strict=True):
                    results.add(
                        f"{name} of one seed", float(value), seed=seed, **factors
                    )


def record_parts(
    results: Results,
    tables: dict[Key, Array],
    chosen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    parts: dict[str, NDArray[np.bool_]],
    common: dict[str, Any],
    drawn_of: Any,
) -> None:
    """AUC of the clean network against two parts of the breasts that are not malignant:
    where it falls below one half, these say which breasts look worse than the lesions.
    """
    for name, part in parts.items():
        rows = (chosen & part) | positive
        drawn = drawn_of(rows, positive)
        for (arm, severity), table in tables.items():
            if arm == "clean":
                factors: dict[str, Any] = {"severity": severity, **common}
                score = drawn(table).interval()
                results.add(
                    "AUC against a part",
                    score,
                    over="seeds and exams",
                    against=name,
                    **factors,
                )


def record_excess(
    results: Results,
    losses: dict[str, dict[float, OverSeeds]],
    leg: str,
    network: str,
) -> None:
    """How much more AUC microcalcifications lose than soft tissue lesions, by severity,
    from the same trainings and exams; and the smallest excess that would be found four
    times in five.
    """
    for severity, loss in losses["microcalcification"].items():
        if severity:
            excess = loss - losses["soft tissue"][severity]
            factors: dict[str, Any] = {
                "leg": leg,
                "network": network,
                "severity": severity,
            }
            over = "seeds and women" if leg == "mias" else "seeds and exams"
            name = "excess loss of microcalcification"
            results.add(name, excess.interval(), over=over, **factors)
            found = POWER * excess.error
            results.add("excess that could be shown", found, **factors)


@by_name
def record_natural(
    results: Results, curves: Sequence[Curve], parameters: Parameters
) -> None:
    """Rows of the natural arm: accuracy by arm and severity, and what arms restore."""
    tables = stacked(curves)
    count = tables["clean", 0.0].shape[1]
    (images,) = stats.draw(count, seed=0, resamples=parameters.resamples)
    found = {key: mean_share(table, images) for key, table in tables.items()}
    common = {"leg": "natural", "network": "natural", "subgroup": "all"}
    record_arms(results, found, common)


@by_name
def record_published(results: Results, parameters: Parameters) -> None:
    """Accuracy of the published ResNet-20 as it comes, before it is trained on for the
    natural arm.
    """
    test = images_of(parameters.natural_dataset, "test", parameters.natural_test_images)
    right = compute_logits(published_resnet20(), test.images).argmax(1) == test.labels
    results.add(
        "published network's accuracy",
        binomial_interval(int(right.sum()), len(right)),
        over="images",
    )


CAPTION = (
    "Loss of AUC (of accuracy on natural images) of the clean network, and what each "
    "arm leaves of it, with 95 % intervals."
)


def table(results: Results) -> pd.DataFrame:
    """One line per leg, kind of lesion and severity, one column an arm."""
    lines = []
    for row in results.select("score loss", arm="clean"):
        where = {
            name: row.factors[name]
            for name in ("leg", "network", "subgroup", "severity")
        }
        whole = where["subgroup"] == "all" and where["leg"] != "natural"
        if where["severity"] not in (1.0, 2.0, 4.0) or whole:
            continue
        line = {
            "leg": f"{where['leg']}, {where['network']}",
            "lesion": str(where["subgroup"]),
            "cut-off (mm)": f"{where['severity']:g}",
            "clean": page.interval(row, 2),
        }
        for arm, name in ARMS.items():
            found = results.select("score loss", arm=arm, **where)
            line[name] = page.interval(found[0], 2) if found else "–"
        lines.append(line)
    return pd.DataFrame(lines)
