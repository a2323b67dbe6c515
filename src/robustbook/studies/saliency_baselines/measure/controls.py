"""Infidelity, sensitivity and randomised layers of a few methods on small networks.

Read `Checked` first, then `measure_controls` (one task), then `add_controls`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from robustbook.measure import saliency
from robustbook.measure.map_checks import infidelity, max_sensitivity, randomised
from robustbook.measure.saliency import captum_map, mask_scores, occlusion, rise_maps
from robustbook.measure.similarity import spearman
from robustbook.results import Results
from robustbook.studies.saliency_baselines.measure.units import CORRELATION, add_mean
from robustbook.studies.saliency_baselines.networks import (
    Material,
    Task,
    gather,
    masks_by,
    one_baseline,
)

Numbers = NDArray[np.float64]
METHODS = ("RISE", "occlusion", "gradient", "integrated gradients", "edges")
BASELINES = ("training mean", "black", "blur 5", "uniform noise")
IMAGES, MASKS, DRAWS, RADIUS = 4, 400, 4, 0.05


@dataclass(frozen=True, eq=False)
class Checked:
    """By method: `infidelity` (baselines, n), `sensitivity` (n,), and `cascade`
    (layers, n), similarity to the map of the trained network after each layer.
    """

    title: str
    infidelity: dict[str, Numbers]
    sensitivity: dict[str, Numbers]
    cascade: dict[str, Numbers]


def control_tasks(tasks: Sequence[Task]) -> list[Task]:
    """Those of the small networks, three seeds at most."""
    return [
        task
        for task in tasks
        if task.data in (task.parameters.dataset, "shapes") and task.seed < 3
    ]


def explain(
    name: str, model: Module, images: Tensor, material: Material, task: Task
) -> Tensor:
    """The map (n, H, W) of a method, with the training mean as its baseline."""
    targets = material.targets[: len(images)]
    baseline = one_baseline(
        "training mean", replace(material, images=images), task.generator(5)
    )
    if name == "edges":
        return saliency.edge_maps(images)
    if name == "RISE":
        masks = masks_by(task, "independent", MASKS, 40)
        scores = mask_scores(model, images, targets, masks, baseline)
        return rise_maps(scores, masks, centred=True)
    if name == "occlusion":
        window = max(2, images.shape[2] // 5)
        return occlusion(model, images, targets, baseline, window=window, stride=2)
    return captum_map(name, model, images, targets, baseline)


def measure_controls(task: Task) -> Checked:
    """All three checks of every method on a few images of a task."""
    material = gather(task)
    images, targets = material.images[:IMAGES], material.targets[:IMAGES]
    masks = masks_by(task, "independent", 64, 41).render(0, 64)[:, None]
    part = replace(material, images=images)
    covers = {
        name: images * masks + one_baseline(name, part, task.generator(7)) * (1 - masks)
        for name in BASELINES
    }
    wrong, moved, kept = {}, {}, {}
    stages = list(randomised(material.model, seed=task.seed))
    for name in METHODS:
        maps = explain(name, material.model, images, material, task)
        wrong[name] = np.array(
            [
                infidelity(material.model, images, targets, maps, cover).numpy()
                for cover in covers.values()
            ],
            dtype=float,
        )
        moved[name] = max_sensitivity(
            lambda given, name=name: explain(  # type: ignore[misc]
                name, material.model, given, material, task
            ),
            images,
            radius=RADIUS,
            draws=DRAWS,
            generator=task.generator(8),
        ).numpy()
        kept[name] = np.array(
            [
                spearman(maps, explain(name, model, images, material, task)).numpy()
                for _, model in stages
            ],
            dtype=float,
        )
    return Checked(material.source.title, wrong, moved, kept)


def add_controls(results: Results, checked: Sequence[Checked]) -> None:
    """Rows `infidelity` by method and baseline, `sensitivity` by method, and
    `similarity after randomising` by method and number of layers.
    """
    for title in dict.fromkeys(one.title for one in checked):
        group = [one for one in checked if one.title == title]
        for name in METHODS:
            factors = {"data": title, "method": name}
            for row, baseline in enumerate(BASELINES):
                parts = [one.infidelity[name][row] for one in group]
                add_mean(
                    results,
                    "infidelity",
                    parts,
                    limits=(0.0, np.inf),
                    baseline=baseline,
                    **factors,
                )
            parts = [one.sensitivity[name] for one in group]
            limits = (0.0, np.inf)
            add_mean(results, "sensitivity", parts, limits=limits, **factors)
            for row in range(len(group[0].cascade[name])):
                parts = [one.cascade[name][row] for one in group]
                add_mean(
                    results,
                    "similarity after randomising",
                    parts,
                    limits=CORRELATION,
                    layers=row + 1,
                    **factors,
                )
