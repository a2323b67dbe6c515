"""Baselines as judges: areas under removal curves of all methods and generators, and
what they rank.

Read `Judged` first, then `measure_judging` (one task), then the `add_*` functions (rows
of all).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure import saliency
from robustbook.measure.saliency_metrics import area, removal_curves, steps_of
from robustbook.results import Results
from robustbook.stats import (
    Drawn,
    Interval,
    bootstrap_mean,
    draw,
    kendall,
    rank_correlation,
)
from robustbook.studies.saliency_baselines.measure.maps import Maps
from robustbook.studies.saliency_baselines.measure.units import DIFFERENCE, add_mean
from robustbook.studies.saliency_baselines.networks import (
    Task,
    baseline_images,
    baseline_names,
    gather,
    one_baseline,
)

Numbers = NDArray[np.float64]
METHODS = (
    "RISE",
    "occlusion",
    "superpixels",
    "meaningful",
    "extremal",
    *saliency.CAPTUM_METHODS,
    "random",
    "edges",
    "centre",
)
METRICS = ("MoRF", "LeRF")
REFERENCE = "training mean"
"""Baseline of all methods that need one when methods are ranked."""
INSERTION = "blur 5"
STEPS = 16
SEGMENTS = 16
RESAMPLES = 1000
STEP_SIZES, NOISE_DRAWS = REPETITIONS = ("other step sizes", "another draw of noise")
NEUTRAL_PAIR = ("neutral from grey", "neutral from noise")


@dataclass(frozen=True, eq=False)
class Judged:
    """Areas under removal curves of a task's n images; the first axis is MoRF, LeRF.

    `methods` (2, M, B, n): every method under every metric baseline; `generators` (2,
    B, B, n): RISE from every baseline (rows) under every one; `labelled` the same for
    random maps; `variants` (steps, 2, M, n): other step sizes under the reference
    baseline; `redrawn` (2 draws, 2, M, n): a noise baseline.
    """

    title: str
    names: tuple[str, ...]
    methods: Numbers
    generators: Numbers
    labelled: Numbers
    variants: dict[str, Numbers]
    redrawn: Numbers


def measure_judging(measured: Maps) -> Judged:
    """All areas of one task, whose RISE maps are at hand."""
    task = measured.task
    images, generator = gather(task).images, task.generator(4)
    names, made = baseline_names(task), baseline_images(task)
    maps = method_maps(measured)
    steps = _main_steps
    draws = torch.stack(
        [one_baseline("uniform noise", gather(task), generator) for _ in range(2)]
    )
    random = torch.stack([saliency.random_maps(images, generator) for _ in names])
    reference = made[names.index(REFERENCE)]
    return Judged(
        measured.title,
        names,
        areas(task, maps, made, steps),
        areas(task, measured.maps[0], made, steps),
        areas(task, random, made, steps),
        {
            name: areas(task, maps, reference[None], variant)[:, :, 0]
            for name, variant in _step_variants(task, images).items()
        },
        areas(task, maps, draws, steps).transpose(2, 0, 1, 3),
    )


def method_maps(measured: Maps) -> Tensor:
    """Maps (M, n, H, W) of all `METHODS`; those that need a baseline use the training
    mean.
    """
    task = measured.task
    material = gather(task)
    model, images, targets = material.model, material.images, material.targets
    reference = baseline_images(task)[measured.names.index(REFERENCE)]
    side = images.shape[2]
    segments = saliency.superpixels(images, min(4 * SEGMENTS, side * side // 4))
    found = {
        "RISE": measured.maps[0, measured.names.index(REFERENCE)],
        "occlusion": saliency.occlusion(
            model, images, targets, reference, window=max(2, side // 5), stride=2
        ),
        "superpixels": saliency.superpixel_ablation(
            model, images, targets, reference, segments
        ),
        "random": saliency.random_maps(images, task.generator(3)),
        "edges": saliency.edge_maps(images),
        "centre": saliency.centre_maps(images),
    }
    learned = task.parameters.learned_steps
    for name, method in (
        ("meaningful", saliency.meaningful_perturbation),
        ("extremal", saliency.extremal_perturbation),
    ):
        found[name] = method(model, images, targets, reference, steps=learned)
    for name in saliency.CAPTUM_METHODS:
        found[name] = saliency.captum_map(
            name, model, images, targets, reference, layer=material.layer
        )
    return torch.stack([found[name] for name in METHODS])


def _main_steps(maps: Tensor) -> Tensor:
    return steps_of(maps, pixels=max(1, maps[0].numel() // STEPS))


def _step_variants(task: Task, images: Tensor):  # type: ignore[no-untyped-def]
    """Other ways of removing: single pixels (handwritten digits only, for their cost),
    rows, eight rows, superpixels.
    """
    side = images.shape[2]
    segments = saliency.superpixels(images, SEGMENTS)
    rows = {"1 row": side, "8 rows": min(8, side // 4) * side}
    pixels = {**({"1 pixel": 1} if images.shape[1] == 1 else {}), **rows}
    variants = {
        name: lambda maps, count=count: steps_of(maps, pixels=count)
        for name, count in pixels.items()
    }
    return {**variants, "superpixel": lambda maps: steps_of(maps, segments=segments)}


def areas(task: Task, maps: Tensor, made: Tensor, order) -> Numbers:  # type: ignore[no-untyped-def]
    """Areas (2, maps, baselines, n) under the MoRF and LeRF curves of `maps` (maps, n,
    H, W) under each baseline.
    """
    material = gather(task)
    found = np.empty((2, len(maps), len(made), len(material)))
    for row, one in enumerate(maps):
        for metric, sign in enumerate((1, -1)):
            steps = order(sign * one)
            for column, baseline in enumerate(made):
                curves = removal_curves(
                    material.model,
                    material.images,
                    material.targets,
                    steps,
                    baseline,
                    chunk=task.chunk,
                )
                found[metric, row, column] = area(curves).double().numpy()
    return found


# Rows
# --------------------------------------------------------------------------------------


def by_title(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The tasks' areas by the title of their data."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(one.title, []).append(one)
    return found


def _pooled(group: Sequence[Judged], field: str) -> Numbers:
    return np.concatenate([getattr(one, field) for one in group], axis=-1)


def goodness(areas_of: Numbers) -> Numbers:
    """Areas whose first axis is MoRF, LeRF as scores of which more is better: MoRF
    areas are negated.
    """
    return areas_of * np.array([-1.0, 1.0]).reshape(2, *[1] * (areas_of.ndim - 1))


def add_rankings(results: Results, judged: Sequence[Judged]) -> None:
    """Rows `method score` by method and metric baseline; `ranking tau` (of the rankings
    by all images); `ranking agreement` (within, between) and `ranking gap` of bootstrap
    samples; `best method flips`; `images that flip` (between baselines, and between two
    draws of one noise baseline).
    """
    for title, group in by_title(judged).items():
        scores, redrawn = goodness(_pooled(group, "methods")), _pooled(group, "redrawn")
        for metric, name in enumerate(METRICS):
            factors: dict[str, Any] = {"data": title, "metric": name}
            for row, method in enumerate(METHODS):
                for column, baseline in enumerate(group[0].names):
                    value = float(scores[metric, row, column].mean())
                    results.add(
                        "method score",
                        value,
                        method=method,
                        baseline=baseline,
                        **factors,
                    )
            taus = resampled_agreement(scores[metric])
            for kind, pairs in _kinds(group[0].names).items():
                _add_agreement(
                    results, taus, scores[metric], pairs, pairs_kind=kind, **factors
                )
            repeated = np.stack([goodness(draw)[metric] for draw in redrawn], axis=1)
            flips = bootstrap_mean(_flips(repeated, [(0, 1)]), seed=0)
            results.add(
                "images that flip",
                flips,
                over="images",
                unit="share",
                pairs="one baseline redrawn",
                **factors,
            )


def _kinds(names: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    pairs = list(combinations(range(len(names)), 2))
    neutral = [(names.index(NEUTRAL_PAIR[0]), names.index(NEUTRAL_PAIR[1]))]
    return {"all": pairs, "neutral": neutral}


def _add_agreement(
    results: Results,
    taus: Numbers,
    scores: Numbers,
    pairs: list[tuple[int, int]],
    pairs_kind: str,
    **factors: Any,
) -> None:
    first, second = np.array(pairs).T
    within = (taus[:, first, first] + taus[:, second, second]).mean(1) / 2
    between = (taus[:, first, second] + taus[:, second, first]).mean(1) / 2
    count = scores.shape[-1]
    for name, draws in (("within", within), ("between", between)):
        row = _of_resamples(draws, count)
        results.add(
            "ranking agreement",
            row,
            over="images",
            pairs=pairs_kind,
            kind=name,
            **factors,
        )
    results.add(
        "ranking gap",
        _of_resamples(within - between, count),
        over="images",
        pairs=pairs_kind,
        **factors,
    )
    means = scores.mean(-1)
    tau = float(kendall(means.T)[first, second].mean())
    results.add("ranking tau", tau, pairs=pairs_kind, **factors)
    best = means.argmax(0)
    share = float(np.mean([best[one] != best[other] for one, other in pairs]))
    results.add("best method flips", share, unit="share", pairs=pairs_kind, **factors)
    flips = bootstrap_mean(_flips(scores, pairs), seed=0)
    results.add(
        "images that flip",
        flips,
        over="images",
        unit="share",
        pairs=pairs_kind,
        **factors,
    )


def resampled_agreement(scores: Numbers, resamples: int = RESAMPLES) -> Numbers:
    """Kendall's tau (resamples, B, B) of the rankings of methods by mean `scores` (M,
    B, n): rows rank one bootstrap sample of the images, columns an independent one.
    """
    images = scores.shape[-1]
    draws = draw(images, images, seed=0, resamples=resamples)
    means = [np.einsum("mbn,rn->rbm", scores, each.counts / images) for each in draws]
    return kendall(*means)


def _of_resamples(draws: Numbers, count: int) -> Interval:
    return Drawn(draws.mean(axis=0), draws, count).interval()


def _flips(scores: Numbers, pairs: list[tuple[int, int]]) -> Numbers:
    """Share (n,) of pairs of baselines under which the best method of an image differs;
    `scores` (M, B, n).
    """
    best = scores.argmax(0)
    return np.mean([best[one] != best[other] for one, other in pairs], axis=0)


def add_matrix(results: Results, judged: Sequence[Judged]) -> None:
    """Rows `matrix` (LeRF minus MoRF area by generator and metric baseline) and
    `diagonal advantage` of RISE and random maps.
    """
    for title, group in by_title(judged).items():
        for maps, field in (("RISE", "generators"), ("random", "labelled")):
            found = [
                diagonal_advantage(goodness(getattr(one, field)).sum(0))
                for one in group
            ]
            add_mean(
                results,
                "diagonal advantage",
                found,
                limits=DIFFERENCE,
                data=title,
                maps=maps,
            )
        means = goodness(_pooled(group, "generators")).sum(0).mean(-1)
        for row, generator in enumerate(group[0].names):
            for column, metric in enumerate(group[0].names):
                results.add(
                    "matrix",
                    float(means[row, column]),
                    data=title,
                    generator=generator,
                    metric=metric,
                )


def diagonal_advantage(values: Numbers) -> Numbers:
    """Mean of the diagonal minus mean of the rest (n,) of `values` (B, B, n) less the
    means of rows and columns.
    """
    centred = (
        values
        - values.mean(0, keepdims=True)
        - values.mean(1, keepdims=True)
        + values.mean((0, 1))
    )
    count = len(values)
    return np.einsum("bbn->n", centred) / count * count / (count - 1)


def add_disagreement(results: Results, judged: Sequence[Judged]) -> None:
    """Rows `metric agreement` (Spearman over methods, per image) of two metrics and of
    repetitions, and `metric gap`.
    """
    for title, group in by_title(judged).items():
        agreeing = [_agreements(one) for one in group]
        for kind in agreeing[0]:
            add_mean(
                results,
                "metric agreement",
                [one[kind] for one in agreeing],
                data=title,
                comparison=kind,
            )
        weaker = min(
            REPETITIONS,
            key=lambda kind: float(np.mean([one[kind].mean() for one in agreeing])),
        )
        for kind in agreeing[0]:
            if kind not in REPETITIONS:
                gap = [one[weaker] - one[kind] for one in agreeing]
                add_mean(
                    results,
                    "metric gap",
                    gap,
                    limits=DIFFERENCE,
                    data=title,
                    comparison=kind,
                )


def _agreements(judged: Judged) -> dict[str, Numbers]:
    """Agreement (n,) of two pairs of metrics, and of the `REPETITIONS` of one."""
    scores, names = goodness(judged.methods), judged.names
    reference, blurred = names.index(REFERENCE), names.index(INSERTION)
    return {
        "MoRF and LeRF": agreement(scores[0, :, reference], scores[1, :, reference]),
        "deletion and insertion": agreement(
            scores[0, :, reference], scores[1, :, blurred]
        ),
        STEP_SIZES: _mean_agreement(
            [goodness(areas_of) for areas_of in judged.variants.values()]
        ),
        NOISE_DRAWS: _mean_agreement([goodness(draw) for draw in judged.redrawn]),
    }


def agreement(first: Numbers, second: Numbers) -> Numbers:
    """Spearman's correlation over methods (n,) of scores (M, n)."""
    return np.asarray(rank_correlation(first.T, second.T))


def _mean_agreement(variants: Sequence[Numbers]) -> Numbers:
    """Mean agreement (n,) over all pairs of `variants` (2, M, n) and both metrics."""
    return np.mean(
        [
            agreement(one[metric], other[metric])
            for one, other in combinations(variants, 2)
            for metric in (0, 1)
        ],
        axis=0,
    )
