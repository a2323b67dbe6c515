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
from robustbook.measure.attention import attention_rollout
from robustbook.measure.road import road_curves
from robustbook.measure.saliency_metrics import area, removal_curves, steps_of
from robustbook.models.transformer import VisionTransformer
from robustbook.results import Results
from robustbook.stats import kendall, rank_correlation
from robustbook.studies.saliency_baselines.measure.maps import Maps
from robustbook.studies.saliency_baselines.measure.units import (
    DIFFERENCE,
    add_mean,
)
from robustbook.studies.saliency_baselines.networks import (
    NEUTRALS,
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
HALVES = 20
"""Ways to halve the images of a seed."""
STEP_SIZES, NOISE_DRAWS = REPETITIONS = ("other step sizes", "another draw of noise")


@dataclass(frozen=True, eq=False)
class Judged:
    """Areas under removal curves of a task's n images; the first axis is MoRF, LeRF.

    `methods` (2, M, B, n): all `methods_of` under every metric baseline; `generators`
    (2, B, B, n): RISE from every baseline (rows) under every one; `labelled` the same
    for random maps; `variants` (steps, 2, M, n): other step sizes under the reference
    baseline; `redrawn` (2 draws, 2, M, n): a noise baseline; `road` (2, M, n): no
    baseline, removed pixels imputed.
    """

    title: str
    seed: int
    names: tuple[str, ...]
    methods: Numbers
    generators: Numbers
    labelled: Numbers
    variants: dict[str, Numbers]
    redrawn: Numbers
    road: Numbers
    methods_of: tuple[str, ...] = METHODS


def judged_tasks(measured: Sequence[Maps]) -> list[Maps]:
    """The maps that are judged: neither photographs, for their cost, nor planted
    patches.
    """
    return [one for one in measured if one.task.data not in ("photographs", "planted")]


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
        task.seed,
        names,
        areas(task, maps, made, steps),
        areas(task, measured.maps[0], made, steps),
        areas(task, random, made, steps),
        {
            name: areas(task, maps, reference[None], variant)[:, :, 0]
            for name, variant in _step_variants(task, images).items()
        },
        areas(task, maps, draws, steps).transpose(2, 0, 1, 3),
        _road(task, maps),
        methods_of(task),
    )


def _road(task: Task, maps: Tensor) -> Numbers:
    """Areas (2, M, n) under ROAD's curves of MoRF and LeRF."""
    material, generator = gather(task), task.generator(6)
    found = [
        [
            area(
                road_curves(
                    material.model,
                    material.images,
                    material.targets,
                    sign * one,
                    generator=generator,
                    chunk=task.chunk,
                )
            ).numpy()
            for one in maps
        ]
        for sign in (1, -1)
    ]
    return np.array(found, dtype=float)


def methods_of(task: Task) -> tuple[str, ...]:
    """Methods that explain the task's network: a transformer has attention in place of
    a last convolution.
    """
    if task.data != "transformer":
        return METHODS
    return tuple("attention" if name == "grad-cam" else name for name in METHODS)


def method_maps(measured: Maps) -> Tensor:
    """Maps (M, n, H, W) of `methods_of` the task; those that need a baseline use the
    training mean.
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
    names = methods_of(task)
    if isinstance(model, VisionTransformer):
        found["attention"] = attention_rollout(model, images)
    for name in set(saliency.CAPTUM_METHODS) & set(names):
        found[name] = saliency.captum_map(
            name, model, images, targets, reference, layer=material.layer
        )
    return torch.stack([found[name] for name in names])


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
    """Rows `method score` by method and metric baseline; `ranking agreement` within a
    baseline, between two, and within ROAD, on two halves of the images of a seed;
    `ranking gap`; `best method differs` (share of pairs, by the mean of all images).
    """
    for title, group in by_title(judged).items():
        scores = goodness(_pooled(group, "methods"))
        road = goodness(_pooled(group, "road"))
        for metric, name in enumerate(METRICS):
            factors: dict[str, Any] = {"data": title, "metric": name}
            for row, method in enumerate(group[0].methods_of):
                for column, baseline in enumerate(group[0].names):
                    value = float(scores[metric, row, column].mean())
                    where = {"method": method, "baseline": baseline, **factors}
                    results.add("method score", value, **where)
                value = float(road[metric, row].mean())
                where = {"method": method, "baseline": "ROAD", **factors}
                results.add("method score", value, **where)
            taus = [
                half_agreement(goodness(one.methods)[metric], one.seed) for one in group
            ]
            for kind, pairs in pairs_of(group[0].names).items():
                _add_agreement(results, taus, pairs, {"pairs": kind, **factors})
                best = scores[metric].mean(-1).argmax(0)
                share = np.mean([best[one] != best[other] for one, other in pairs])
                results.add(
                    "best method differs",
                    float(share),
                    unit="share",
                    pairs=kind,
                    **factors,
                )
            alone = [
                half_agreement(goodness(one.road)[metric][:, None], one.seed)[0]
                for one in group
            ]
            add_mean(
                results,
                "ranking agreement",
                alone,
                kind="within ROAD",
                pairs="all",
                **factors,
            )


def pairs_of(names: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """Pairs of baselines by kind: all, and those of neutral ones."""
    neutral = [row for row, name in enumerate(names) if name in NEUTRALS]
    return {
        "all": list(combinations(range(len(names)), 2)),
        "neutral": list(combinations(neutral, 2)),
    }


def half_agreement(scores: Numbers, seed: int = 0) -> Numbers:
    """Kendall's tau (B, B) of the rankings of methods by mean `scores` (M, B, n): rows
    rank one half of the images, columns the other; mean over ways to halve them.
    """
    rng, images = np.random.default_rng(seed), scores.shape[-1]
    found = np.zeros((scores.shape[1], scores.shape[1]))
    for _ in range(HALVES):
        order = rng.permutation(images)
        halves = order[: images // 2], order[images // 2 :]
        found += kendall(*(scores[:, :, half].mean(-1).T for half in halves))
    return (found + found.T) / (2 * HALVES)


def _add_agreement(
    results: Results,
    taus: Sequence[Numbers],
    pairs: list[tuple[int, int]],
    factors: dict[str, Any],
) -> None:
    first, second = np.array(pairs).T
    within = [np.sqrt(_own(tau)[first] * _own(tau)[second]) for tau in taus]
    between = [tau[first, second] for tau in taus]
    for kind, parts in (("within", within), ("between", between)):
        add_mean(results, "ranking agreement", parts, kind=kind, **factors)
    gaps = [one - other for one, other in zip(within, between, strict=True)]
    add_mean(results, "ranking gap", gaps, limits=DIFFERENCE, **factors)


def _own(tau: Numbers) -> Numbers:
    """How far the ranking under each baseline repeats itself; no less than 0."""
    kept: Numbers = np.maximum(np.diag(tau), 0)
    return kept


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
        "MoRF and LeRF by ROAD": agreement(*goodness(judged.road)),
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
