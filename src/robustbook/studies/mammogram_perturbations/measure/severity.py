"""Low-pass filtering in depth on phantoms and natural images: AUC by severity,
subgroup, training and region (O2, O3).

Read `measure` (malignant logits of one network at every severity it is asked about),
then `record_severities`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook import stats
from robustbook.data.phantoms import SUBGROUPS, Exams, unit_images
from robustbook.models.network import compute_logits
from robustbook.models.prunable import published_resnet20
from robustbook.perturb.lowpass import Where, dilated, low_pass, quantised
from robustbook.results import Results
from robustbook.stats import Interval, binomial_interval
from robustbook.studies.mammogram_perturbations import networks
from robustbook.studies.mammogram_perturbations.claims import SMALL_LOSS
from robustbook.studies.mammogram_perturbations.measure.perturbed import (
    malignant_scores,
    mean_accuracy,
    mean_auc,
    over_images,
    task_rows,
)
from robustbook.studies.mammogram_perturbations.networks import Network
from robustbook.studies.mammogram_perturbations.parameters import Parameters
from robustbook.studies.shared import images_of
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
REGIONS: tuple[Where, ...] = ("inside", "outside")
REGION_SEVERITIES = (1.0, 2.0, 4.0)
MARGIN = 3
"""Pixels by which a lesion's mask is grown to make its region."""
SUBTASKS = SUBGROUPS[1:]


@dataclass(frozen=True)
class Curve:
    """Scores of one network by severity in mm (0 is unfiltered), and by (where,
    severity) for filtered regions.

    Phantoms: malignant logits (2 * exams,); natural images: 1 where the answer is right
    (n,).
    """

    network: Network
    scores: dict[float, Array]
    regions: dict[tuple[str, float], Array]


def measure(network: Network, parameters: Parameters) -> Curve:
    """A clean or blur-augmented network at every severity, one trained on filtered
    images at its own.
    """
    severities = (
        (network.severity,)
        if network.training == "filtered"
        else (0.0, *networks.SEVERITIES)
    )
    if network.leg == "natural":
        return _measure_natural(network, severities, parameters)
    model, exams = networks.load_network(network), networks.test_exams(parameters)
    images = unit_images(exams.images)

    def scored(shown: Tensor) -> Array:
        return malignant_scores(compute_logits(model, shown, chunk=64).double().numpy())

    scores = {
        severity: scored(networks.filtered(images, severity, network.pitch))
        for severity in severities
    }
    regions = {}
    if network.training == "clean":
        lesion = dilated(torch.from_numpy(with_regions(exams)), MARGIN)
        for where in REGIONS:
            for severity in REGION_SEVERITIES:
                shown = low_pass(
                    images, severity, pitch=network.pitch, region=lesion, where=where
                )
                regions[str(where), severity] = scored(quantised(shown))
    return Curve(network, scores, regions)


def with_regions(exams: Exams, seed: int = 0) -> NDArray[np.bool_]:
    """The exams' masks (N, 4, H, W), where a breast without a lesion has those of
    another exam's lesion on the same side.

    Otherwise filtering the outside would blur breasts without a lesion all over, and
    filtering the inside leave them sharp.
    """
    rng, masks = np.random.default_rng(seed), exams.masks.copy()
    for side in (0, 1):
        bare = exams.subgroups[:, side] == 0
        if bare.all():
            continue
        donors = rng.choice(np.flatnonzero(~bare), size=int(bare.sum()))
        masks[bare, side::2] = exams.masks[donors, side::2]
    return masks


def _measure_natural(
    network: Network, severities: Sequence[float], parameters: Parameters
) -> Curve:
    model = networks.load_network(network)
    test = images_of(network.dataset, "test", parameters.natural_test_images)
    scores = {
        severity: (
            compute_logits(
                model, networks.filtered(test.images, severity, network.pitch)
            ).argmax(1)
            == test.labels
        )
        .double()
        .numpy()
        for severity in severities
    }
    return Curve(network, scores, {})


def measure_all(networks: Sequence[Network], parameters: Parameters) -> list[Curve]:
    """`measure` for every network, side by side."""
    return map_in_workers(partial(measure, parameters=parameters), list(networks))


# Rows
# --------------------------------------------------------------------------------------


def _stacked(curves: Sequence[Curve], training: str, severity: float) -> Array | None:
    """Scores (seeds, n) of a training at a severity, None if none was measured
    there.
    """
    rows = [
        each.scores[severity]
        for each in curves
        if each.network.training == training and severity in each.scores
    ]
    return np.stack(rows) if rows else None


def record_severities(
    results: Results, curves: Sequence[Curve], exams: Exams, parameters: Parameters
) -> None:
    """Rows of O2 and O3 on phantoms: AUC and KS by training and severity, losses, and
    what re-training leaves of them.
    """
    groups = np.repeat(np.arange(len(exams)), 2)
    losses = {
        subgroup: _record_subgroup(
            results,
            curves,
            subgroup,
            *task_rows(exams, subgroup, len(exams)),
            groups,
            parameters,
        )
        for subgroup in (*SUBTASKS, "all")
    }
    record_excess(
        results,
        losses["microcalcification"],
        losses["soft tissue"],
        "phantoms",
        "four-view",
    )


def _record_subgroup(
    results: Results,
    curves: Sequence[Curve],
    subgroup: str,
    chosen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    groups: NDArray[np.integer],
    parameters: Parameters,
) -> dict[float, stats.Drawn]:
    """Rows of one subgroup; returns the loss of the clean network by severity."""
    # All breasts are drawn, those outside the sub-task too, so that subgroups are drawn
    # alike as long as none loses its positives.
    (exams,) = stats.draw(
        groups, seed=0, resamples=parameters.resamples, positive=positive
    )
    common: dict[str, Any] = {
        "leg": "phantoms",
        "network": "four-view",
        "subgroup": subgroup,
    }

    def drawn(scores: Array) -> stats.Drawn:
        return mean_auc(positive[chosen], scores[:, chosen], exams.at(chosen))

    found: dict[tuple[str, float], stats.Drawn] = {}
    for training in ("clean", "filtered", "blur-augmented"):
        for severity in (0.0, *networks.SEVERITIES):
            scores = _stacked(curves, training, severity)
            if scores is not None:
                found[training, severity] = drawn(scores)
                separation = np.mean(
                    [stats.ks(positive[chosen], row[chosen]) for row in scores]
                )
                results.add(
                    "KS",
                    float(separation),
                    n=len(scores),
                    training=training,
                    severity=severity,
                    **common,
                )
    _record_seeds(results, curves, chosen, positive, common)
    clean = found["clean", 0.0]
    record_curves(results, found, clean, common)
    for where, severity in next(each for each in curves if each.regions).regions:
        scores = np.stack(
            [each.regions[where, severity] for each in curves if each.regions]
        )
        loss = (clean - drawn(scores)).interval()
        results.add(
            "region AUC loss",
            loss,
            over="seeds and exams",
            where=where,
            severity=severity,
            **common,
        )
    for severity in networks.SEVERITIES:
        loss = (
            found["blur-augmented", 0.0] - found["blur-augmented", severity]
        ).interval()
        results.add(
            "blur-augmented AUC loss",
            loss,
            over="seeds and exams",
            severity=severity,
            **common,
        )
    return {
        severity: clean - each
        for (training, severity), each in found.items()
        if training == "clean"
    }


def _record_seeds(
    results: Results,
    curves: Sequence[Curve],
    chosen: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    common: dict[str, Any],
) -> None:
    """AUC and KS of every clean network by itself, for the spread over seeds."""
    for curve in curves:
        if curve.network.training == "clean":
            for severity, scores in curve.scores.items():
                for name, statistic in (
                    ("AUC of one seed", stats.auc),
                    ("KS of one seed", stats.ks),
                ):
                    value = float(statistic(positive[chosen], scores[chosen]))
                    results.add(
                        name,
                        value,
                        severity=severity,
                        seed=curve.network.seed,
                        **common,
                    )


def record_curves(
    results: Results,
    found: dict[tuple[str, float], stats.Drawn],
    clean: stats.Drawn,
    common: dict[str, Any],
) -> None:
    """AUC and loss of AUC by training and severity; where a filtered training exists,
    its loss in two parts.

    Brittleness is what re-training restores of the loss. What it leaves may be gone
    from the image, or not be found there.
    """
    over = "seeds and exams"
    for (training, severity), each in found.items():
        factors: dict[str, Any] = {"training": training, "severity": severity, **common}
        results.add("low-pass AUC", each.interval(), over=over, **factors)
        if severity:
            results.add(
                "low-pass AUC loss", (clean - each).interval(), over=over, **factors
            )
        if training == "filtered" and severity and ("clean", severity) in found:
            part = (each - found["clean", severity]).interval()
            results.add("brittleness", part, over=over, severity=severity, **common)


def record_excess(
    results: Results,
    calcifications: dict[float, stats.Drawn],
    tissue: dict[float, stats.Drawn],
    leg: str,
    network: str,
) -> None:
    """How much more AUC microcalcifications lose than soft tissue lesions, by severity,
    from the same resamples.
    """
    for severity in calcifications:
        if severity:
            excess = (calcifications[severity] - tissue[severity]).interval()
            results.add(
                "excess loss of microcalcification",
                excess,
                over="seeds and exams",
                leg=leg,
                network=network,
                severity=severity,
            )


def record_natural(
    results: Results, curves: Sequence[Curve], parameters: Parameters
) -> None:
    """Rows of the natural arm of O3: accuracy by training and severity, its loss, and
    the share that re-training leaves.

    The share is recorded where the loss of the clean network is worth sharing out:
    `SMALL_LOSS` or more, interval above 0.
    """
    kinds = sorted(
        {
            (each.network.training, severity)
            for each in curves
            for severity in each.scores
        }
    )
    tables = {
        kind: table for kind in kinds if (table := _stacked(curves, *kind)) is not None
    }
    clean = tables["clean", 0.0]
    over = over_images(len(clean))
    (images,) = stats.draw(clean.shape[1], seed=0, resamples=parameters.resamples)
    found = {kind: mean_accuracy(table, images) for kind, table in tables.items()}
    base = found["clean", 0.0]
    results.add("natural accuracy", base.interval(), over=over)
    for (training, severity), each in found.items():
        factors: dict[str, Any] = {"training": training, "severity": severity}
        results.add("natural low-pass accuracy", each.interval(), over=over, **factors)
        if severity:
            results.add(
                "natural low-pass accuracy loss",
                (base - each).interval(),
                over=over,
                **factors,
            )
    for severity in (
        severity for training, severity in found if training == "filtered"
    ):
        lost, left = base - found["clean", severity], base - found["filtered", severity]
        if worth_sharing(lost.interval()):
            share = share_left(left, lost)
            factors = {"unit": "share of the loss", "severity": severity}
            results.add("natural accuracy left lost", share, over=over, **factors)


def worth_sharing(lost: Interval) -> bool:
    """Whether a loss is large enough, and sure enough, for a share of it to mean
    anything.
    """
    return lost.low > 0 and lost.value >= SMALL_LOSS


def share_left(left: stats.Drawn, lost: stats.Drawn) -> Interval:
    """The ratio of two losses of the same resamples; one in which nothing was lost
    counts as infinitely much left.
    """
    ratios = np.divide(
        left.resamples,
        lost.resamples,
        out=np.full_like(lost.resamples, np.inf),
        where=lost.resamples > 0,
    )
    found = stats.Drawn(left.value / lost.value, ratios, lost.n)
    return found.interval(method="nearest")


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
