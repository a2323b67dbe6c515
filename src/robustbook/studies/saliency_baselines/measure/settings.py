"""Settings of RISE: maps for several p, s and N, and how far two settings fall short of
what each repeats of itself.

Read `Curves` first, then `measure_settings` (one task), then `add_settings` (rows of
all).
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
from robustbook.measure.adjusted_rise import adjusted_maps
from robustbook.measure.similarity import ranks
from robustbook.perturb.masks import draw_masks
from robustbook.results import Results
from robustbook.stats import correlation
from robustbook.studies.saliency_baselines.claims import CEILING
from robustbook.studies.saliency_baselines.measure.judging import REFERENCE
from robustbook.studies.saliency_baselines.measure.units import DIFFERENCE, add_mean
from robustbook.studies.saliency_baselines.networks import Task, gather, one_baseline

Numbers = NDArray[np.float64]
PROBABILITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
CELLS = (2, 4, 7, 10, 14)
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Numbers of masks at which maps are compared, as shares of the largest."""
UNSEEN = 3000
"""Masks that no network sees, over which the linear part of a map is averaged."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Spearman's correlations (pairs, counts, n) of maps of two settings from different
    masks, against N (counts,).

    `pairs` holds two settings each, equal ones for the ceiling of a setting; `varied`
    says of each pair what it varies: "p", "s", or nothing.
    """

    title: str
    pairs: tuple[tuple[str, str], ...]
    varied: tuple[str, ...]
    counts: tuple[int, ...]
    correlations: Numbers


def setting_tasks(
    tasks: Sequence[Task], *, setting_images: int, setting_masks: int
) -> list[Task]:
    """Those of the small networks, on which settings vary."""
    changed = {"images": setting_images, "setting_masks": setting_masks}
    return [
        Task(task.seed, task.data, task.parameters.model_copy(update=changed))
        for task in tasks
        if task.data in (task.parameters.dataset, "shapes")
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
    chosen = {
        pair: axis if pair[0] != pair[1] else ""
        for axis, settings in by_axis.items()
        for pair in combinations_with_replacement(settings, 2)
    }
    found = np.stack([_crossed(ranked[one], ranked[other]) for one, other in chosen])
    pairs = tuple((names[one], names[other]) for one, other in chosen)
    title = material.source.title
    return Curves(title, pairs, tuple(chosen.values()), counts, found)


def _ranked(
    task: Task,
    reference: Tensor,
    setting: tuple[float, int],
    counts: Sequence[int],
    purpose: int,
) -> Tensor:
    """Ranks (counts, n, pixels) of the maps of a setting."""
    material = gather(task)
    shape = (material.images.shape[2], material.images.shape[3])
    masks, unseen = (
        draw_masks(
            count,
            shape,
            cells=setting[1],
            probability=setting[0],
            generator=task.generator(number),
        )
        for count, number in ((counts[-1], purpose), (UNSEEN, purpose + 100))
    )
    scores = saliency.mask_scores(
        material.model, material.images, material.targets, masks, reference
    )
    maps = (adjusted_maps(scores, masks, unseen, count=count) for count in counts)
    return torch.stack([ranks(each) for each in maps])


def _crossed(first: Tensor, second: Tensor) -> Numbers:
    """Correlations (counts, n) of ranks (2 draws, counts, n, pixels), each draw of the
    one with the other draw of the other.
    """
    pairs = [(first[0], second[1]), (first[1], second[0])]
    values = [correlation(one.numpy(), other.numpy()) for one, other in pairs]
    return np.asarray((values[0] + values[1]) / 2)


def add_settings(results: Results, measured: Sequence[Curves]) -> None:
    """Rows `setting similarity` by pair and N, `setting ceiling` (N at its largest),
    `reliable pairs`, and `setting gap`: ceiling minus similarity of two settings, by
    what they vary and N, over pairs of which both repeat themselves.

    The ceiling of a pair is the geometric mean of those of its settings.
    """
    for title in dict.fromkeys(one.title for one in measured):
        group = [one for one in measured if one.title == title]
        curves = np.array([one.correlations.mean(-1) for one in group])
        pairs, varied, counts = group[0].pairs, group[0].varied, group[0].counts
        own = {pair[0]: row for row, pair in enumerate(pairs) if not varied[row]}
        for row, (one, other) in enumerate(pairs):
            name = one if one == other else f"{one} / {other}"
            for column, count in enumerate(counts):
                value = float(curves[:, row, column].mean())
                results.add(
                    "setting similarity", value, masks=count, data=title, pair=name
                )
        for name, row in own.items():
            parts = list(curves[:, row, -1:])
            add_mean(results, "setting ceiling", parts, data=title, setting=name)
        steady = {
            name for name, row in own.items() if curves[:, row, -1].mean() >= CEILING
        }
        for axis in ("p", "s"):
            rows = [row for row, name in enumerate(varied) if name == axis]
            kept = [row for row in rows if steady.issuperset(pairs[row])]
            factors: dict[str, Any] = {"data": title, "varied": axis}
            share = len(kept) / len(rows)
            results.add("reliable pairs", share, n=len(rows), unit="share", **factors)
            if kept:
                for column, count in enumerate(counts):
                    gaps = [
                        _gaps(curve[:, column], pairs, own, kept) for curve in curves
                    ]
                    add_mean(
                        results,
                        "setting gap",
                        gaps,
                        limits=DIFFERENCE,
                        masks=count,
                        **factors,
                    )


def _gaps(
    similar: Numbers,
    pairs: Sequence[tuple[str, str]],
    own: dict[str, int],
    kept: Sequence[int],
) -> Numbers:
    """Ceiling minus similarity of the pairs in `kept` from `similar` (pairs,)."""
    ceilings = [
        np.sqrt(np.prod([max(similar[own[name]], 0) for name in pairs[row]]))
        for row in kept
    ]
    found: Numbers = np.array(ceilings) - similar[list(kept)]
    return found
