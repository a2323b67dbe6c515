"""Does the distance of occluded images from the data explain how far maps of two
baselines diverge?

Read `Shift` first, then `measure_shift` (one task), then `explained`, then `add_shift`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure.off_data import distance_from_data, penultimate
from robustbook.results import Results
from robustbook.stats import correlation
from robustbook.studies.saliency_baselines.measure.maps import Maps, by_title, pair_gaps
from robustbook.studies.saliency_baselines.measure.units import (
    CORRELATION,
    DIFFERENCE,
    add_mean,
)
from robustbook.studies.saliency_baselines.networks import (
    baseline_images,
    gather,
    rise_masks,
)

Numbers = NDArray[np.float64]
OCCLUDED, KNOWN, HELD_OUT = 32, 1000, 200
"""Masks an image, images of the data, and unseen images that give the unit."""
WORST = -3.0
"""A prediction that is worse than the mean by more than this counts as this."""


@dataclass(frozen=True, eq=False)
class Shift:
    """`distance` (B, n) of occluded images from the data by baseline, 1 for unseen
    images; `pixels` (pairs,) root mean square difference of two baselines.
    """

    distance: Numbers
    pixels: Numbers


def with_data(measured: Sequence[Maps]) -> list[Maps]:
    """All but photographs, of which there are too few to say how far others lie."""
    return [one for one in measured if one.task.data != "photographs"]


def measure_shift(measured: Maps) -> Shift:
    """How far the images that RISE shows the network lie off the data, in the features
    in front of its last layer.
    """
    task = measured.task
    material, made = gather(task), baseline_images(task)
    spread = material.training[:: max(1, len(material.training) // KNOWN)]
    data = _features(task, spread[:KNOWN])
    unseen = material.source.take(min(HELD_OUT, len(material.source)), 0).images
    usual = distance_from_data(_features(task, unseen), data).median()
    masks = rise_masks(task, 0).render(0, OCCLUDED)[:, None]
    rows = []
    for baseline in made:
        covered = material.images * masks + baseline * (1 - masks)
        far = distance_from_data(_features(task, covered.flatten(0, 1)), data)
        rows.append((far / usual).reshape(OCCLUDED, -1).mean(0).numpy())
    first, second = np.triu_indices(len(made), 1)
    apart = (made[first] - made[second]).square().mean((1, 2, 3, 4)).sqrt()
    return Shift(np.array(rows, dtype=float), apart.double().numpy())


def _features(task, images: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    layout = images.contiguous(memory_format=torch.channels_last)
    return penultimate(gather(task).model, layout, chunk=task.chunk)


def explained(columns: Sequence[Numbers], gaps: Sequence[Numbers]) -> list[Numbers]:
    """Share of the variance of each seed's `gaps` (pairs,) that `columns` (pairs, k) of
    that seed predict, by least squares on the other seeds.
    """
    found = []
    for held in range(len(gaps)):
        others = [seed for seed in range(len(gaps)) if seed != held]
        matrix = np.concatenate([_with_constant(columns[seed]) for seed in others])
        target = np.concatenate([gaps[seed] for seed in others])
        weights = np.linalg.lstsq(matrix, target, rcond=None)[0]
        left = gaps[held] - _with_constant(columns[held]) @ weights
        spread = ((gaps[held] - gaps[held].mean()) ** 2).sum()
        share = 1 - (left**2).sum() / max(spread, 1e-12)
        found.append(np.array([max(share, WORST)]))
    return found


def _with_constant(columns: Numbers) -> Numbers:
    return np.column_stack([np.ones(len(columns)), columns])


def add_shift(
    results: Results, measured: Sequence[Maps], shifts: Sequence[Shift]
) -> None:
    """Rows `distance from the data` by baseline, `gap reliability` (two estimates of
    the gaps from other masks, correlated over pairs), `divergence explained` by
    distance, by pixels, and the lead of the first, and `gap at no distance`.
    """
    of = {id(one): shift for one, shift in zip(measured, shifts, strict=True)}
    for title, group in by_title(measured).items():
        own = [of[id(one)] for one in group]
        for row, name in enumerate(group[0].names):
            parts = [shift.distance[row] for shift in own]
            limits = (0.0, np.inf)
            factors = {"data": title, "baseline": name}
            add_mean(results, "distance from the data", parts, limits=limits, **factors)
        if len(group) < 2:
            continue
        first, second = np.triu_indices(len(group[0].names), 1)
        gaps = [one.gaps("adjusted", "spearman").mean(1) for one in group]
        twice = [
            [
                pair_gaps(one.ceiling["adjusted", "spearman"], half).mean(1)
                for half in one.halves
            ]
            for one in group
        ]
        steady = [np.array([correlation(*pair)]) for pair in twice]
        add_mean(results, "gap reliability", steady, limits=CORRELATION, data=title)
        means = [shift.distance.mean(1) for shift in own]
        columns = [
            np.column_stack(
                [mean[first] + mean[second], np.abs(mean[first] - mean[second])]
            )
            for mean in means
        ]
        shares = {
            "distance": explained(columns, gaps),
            "pixels": explained([shift.pixels[:, None] for shift in own], gaps),
        }
        shares["lead"] = [
            one - other
            for one, other in zip(shares["distance"], shares["pixels"], strict=True)
        ]
        for by, parts in shares.items():
            limits = (-4.0, 4.0) if by == "lead" else (WORST, 1.0)
            factors = {"data": title, "by": by}
            add_mean(results, "divergence explained", parts, limits=limits, **factors)
        # Both occluded images as far from the data as unseen images are: 1 each.
        left = []
        for column, gap in zip(columns, gaps, strict=True):
            weights = np.linalg.lstsq(_with_constant(column), gap, rcond=None)[0]
            left.append(np.array([weights @ (1.0, 2.0, 0.0)]))
        add_mean(results, "gap at no distance", left, limits=DIFFERENCE, data=title)
