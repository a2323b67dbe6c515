"""Settings of RISE: maps for several p, s and N, and the fit that tells Monte-Carlo
noise from a real difference.

Read `Curves` first, then `measure_settings` (one task), then `fit_plateau`, then
`add_settings` (rows of all).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure import saliency
from robustbook.measure.similarity import ranks
from robustbook.perturb.masks import draw_masks
from robustbook.results import Results
from robustbook.stats import Interval, correlation
from robustbook.studies.saliency_baselines.measure.judging import REFERENCE
from robustbook.studies.saliency_baselines.measure.units import (
    CORRELATION,
    DIFFERENCE,
    ONE_SEED,
    SEEDS,
    jackknife,
    left_out,
    within,
)
from robustbook.studies.saliency_baselines.networks import Task, gather, one_baseline
from robustbook.studies.saliency_baselines.parameters import Parameters

Numbers = NDArray[np.float64]
PROBABILITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
CELLS = (2, 4, 7, 10, 14)
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Numbers of masks at which maps are compared, as shares of the largest."""
NOISE = np.geomspace(1e-1, 1e6, 400)


@dataclass(frozen=True, eq=False)
class Curves:
    """Spearman's correlations (pairs, counts, n) of maps of two settings from different
    masks, against N (counts,).

    `pairs` holds two names each, equal ones for the ceiling of a setting; `centred`
    (counts, n) is the ceiling of the middle setting when each map's mean score is taken
    off.
    """

    title: str
    pairs: tuple[tuple[str, str], ...]
    counts: tuple[int, ...]
    correlations: Numbers
    centred: Numbers


def setting_tasks(parameters: Parameters) -> list[Task]:
    """The tasks on which settings vary."""
    small = parameters.model_copy(update={"images": parameters.setting_images})
    return [
        Task(seed, name, small)
        for name in (parameters.dataset, "shapes")
        for seed in range(parameters.seeds)
    ]


def axes(side: int) -> dict[str, list[tuple[float, int]]]:
    """Settings (p, s) in which p varies and in which s varies, for images of `side`
    pixels.
    """
    cells = [count for count in CELLS if 2 * count <= side + 4]
    middle = 7 if 7 in cells else cells[-1]
    return {
        "p": [(p, middle) for p in PROBABILITIES],
        "s": [(0.5, count) for count in cells],
    }


def measure_settings(task: Task) -> Curves:
    """Correlations of one task's maps over all settings and numbers of masks."""
    material = gather(task)
    reference = one_baseline(REFERENCE, material, task.generator(5))
    side, largest = material.images.shape[2], task.parameters.setting_masks
    counts = tuple(round(share * largest) for share in SHARES)
    by_axis = axes(side)
    ranked: dict[tuple[float, int], Tensor] = {}
    for number, setting in enumerate(dict.fromkeys(by_axis["p"] + by_axis["s"])):
        ranked[setting] = torch.stack(
            [
                _ranked(task, reference, setting, counts, 100 + 2 * number + draw)
                for draw in (0, 1)
            ]
        )
    names = {setting: f"p = {setting[0]:g}, s = {setting[1]}" for setting in ranked}
    chosen = dict.fromkeys(
        pair
        for settings in by_axis.values()
        for pair in combinations_with_replacement(settings, 2)
    )
    found = np.stack(
        [_crossed(ranked[one][:, 0], ranked[other][:, 0]) for one, other in chosen]
    )
    middle = ranked[by_axis["p"][2]]
    pairs = tuple((names[one], names[other]) for one, other in chosen)
    return Curves(
        material.source.title,
        pairs,
        counts,
        found,
        _crossed(middle[:, 1], middle[:, 1]),
    )


def _ranked(
    task: Task,
    reference: Tensor,
    setting: tuple[float, int],
    counts: Sequence[int],
    purpose: int,
) -> Tensor:
    """Ranks (2, counts, n, pixels) of the maps of a setting, plain and centred."""
    material = gather(task)
    shape = (material.images.shape[2], material.images.shape[3])
    masks = draw_masks(
        counts[-1],
        shape,
        cells=setting[1],
        probability=setting[0],
        generator=task.generator(purpose),
    )
    scores = saliency.mask_scores(
        material.model, material.images, material.targets, masks, reference
    )
    return torch.stack(
        [
            torch.stack(
                [
                    ranks(
                        saliency.rise_maps(scores, masks, count=count, centred=centred)
                    )
                    for count in counts
                ]
            )
            for centred in (False, True)
        ]
    )


def _crossed(first: Tensor, second: Tensor) -> Numbers:
    """Correlations (counts, n) of ranks (2 draws, counts, n, pixels), each draw of the
    one with the other draw of the other.
    """
    pairs = [(first[0], second[1]), (first[1], second[0])]
    values = [correlation(one.numpy(), other.numpy()) for one, other in pairs]
    return np.asarray((values[0] + values[1]) / 2)


def fit_plateau(
    correlations: Numbers, counts: Sequence[int]
) -> tuple[Numbers, Numbers]:
    """Plateau and c (...,) of r = plateau / (1 + c / N) for `correlations` (...,
    counts), by least squares.

    Two maps that are noisy estimates of fixed ones, each with noise of variance c / N
    times that of its signal, have this correlation in the limit of many pixels
    (Spearman 1904). The plateau, kept in [-1, 1], is what is left without Monte-Carlo
    noise.
    """
    shapes = 1 / (1 + NOISE[:, None] / np.asarray(counts, dtype=float))
    products, squares = correlations @ shapes.T, (shapes**2).sum(1)
    plateaus = np.clip(products / squares, -1, 1)
    errors = plateaus**2 * squares - 2 * products * plateaus
    best = errors.argmin(-1)
    return np.take_along_axis(plateaus, best[..., None], -1)[..., 0], NOISE[best]


def add_settings(results: Results, measured: Sequence[Curves]) -> None:
    """Rows `setting similarity` by pair and N, `plateau` and `noise` (c) by pair,
    `plateau gap` of unequal pairs, and, for comparison, `corrected similarity of
    settings`: at the largest N, over the root of both ceilings.

    The images of a seed share its masks, so curves are averaged over them and intervals
    are over seeds.
    """
    for title in dict.fromkeys(one.title for one in measured):
        group = [one for one in measured if one.title == title]
        seeds = len(group) > 1
        curves = np.array([one.correlations.mean(-1) for one in group])
        centred = np.concatenate([one.centred for one in group], axis=-1)
        pairs, counts = group[0].pairs, group[0].counts
        draws = left_out(
            lambda each: each.mean(0),
            curves if seeds else np.moveaxis(group[0].correlations, -1, 0),
        )
        plateaus, noise = fit_plateau(draws, counts)
        over = SEEDS if seeds else ONE_SEED
        own = {pair[0]: row for row, pair in enumerate(pairs) if pair[0] == pair[1]}
        for row, (one, other) in enumerate(pairs):
            factors: dict[str, Any] = {
                "data": title,
                "pair": one if one == other else f"{one} / {other}",
            }
            kind = "equal" if one == other else "unequal"
            for column, count in enumerate(counts):
                results.add(
                    "setting similarity",
                    float(draws[0, row, column]),
                    masks=count,
                    kind=kind,
                    **factors,
                )
            plateau, spread = (
                within(jackknife(plateaus[:, row]), *CORRELATION),
                jackknife(np.log(noise[:, row])),
            )
            results.add("plateau", plateau, over=over, kind=kind, **factors)
            results.add(
                "noise",
                _exponential(spread),
                over=over,
                unit="masks",
                kind=kind,
                **factors,
            )
            if one != other:
                gap = (plateaus[:, own[one]] + plateaus[:, own[other]]) / 2 - plateaus[
                    :, row
                ]
                results.add(
                    "plateau gap",
                    within(jackknife(gap), *DIFFERENCE),
                    over=over,
                    **factors,
                )
                last = draws[:, [row, own[one], own[other]], -1].T
                ratio = last[0] / np.sqrt(np.maximum(last[1] * last[2], 1e-6))
                results.add(
                    "corrected similarity of settings",
                    jackknife(ratio),
                    over=over,
                    **factors,
                )
        for column, count in enumerate(counts):
            results.add(
                "centred similarity",
                float(centred[column].mean()),
                data=title,
                masks=count,
            )


def _exponential(found: Interval) -> Interval:
    """The interval of a number from that of its logarithm, cut to the numbers that the
    fit tries.
    """
    cut = within(found, float(np.log(NOISE[0])), float(np.log(NOISE[-1])))
    value, low, high = (
        float(np.exp(number)) for number in (cut.value, cut.low, cut.high)
    )
    return Interval(value, low, high, cut.n)
