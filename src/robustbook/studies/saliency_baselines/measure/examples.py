"""Single images, to be looked at: one under eight baselines, and a few under every
choice that a reader makes.

Read `Example`, then `hero` and `examples`. No picture comes from a set that may not be
shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure import saliency
from robustbook.measure.adjusted_rise import adjusted_maps
from robustbook.measure.saliency_metrics import removal_curves, steps_of
from robustbook.measure.similarity import spearman
from robustbook.models.network import compute_logits
from robustbook.studies.saliency_baselines.measure.maps import Maps
from robustbook.studies.saliency_baselines.networks import (
    Material,
    Task,
    baseline_images,
    gather,
    masks_by,
    one_baseline,
    reference_masks,
)

EIGHT = (
    "black",
    "white",
    "grey",
    "training mean",
    "blur 5",
    "blur 10",
    "uniform noise",
    "inpainted",
)
CHOICES = ("black", "grey", "training mean", "blur 5", "uniform noise", "inpainted")
METHODS = ("RISE", "occlusion", "integrated gradients")
SHOWN = ("digits", "mnist", "shapes", "planted")
"""Data whose images may be shown."""
HERO_MASKS, STEPS = 200, 16
SIDE = 227


@dataclass(frozen=True, eq=False)
class Example:
    """One image (C, H, W) under one baseline: a map (H, W), the curve (L + 1,) of its
    removal with that baseline, and how far two draws of masks agree, for RISE.
    """

    title: str
    baseline: str
    method: str
    image: Tensor
    covering: Tensor
    saliency: Tensor
    curve: NDArray[np.float64]
    ceiling: float | None = None


def hero(measured: Sequence[Maps]) -> list[Example]:
    """One image under eight baselines: a cat, where there is a network for photographs,
    else a drawn shape.
    """
    tasks = [one.task for one in measured]
    photographs = [task for task in tasks if task.data == "photographs"]
    task = photographs[0] if photographs else _shown(tasks)[0]
    material = gather(task)
    part = replace(material, images=material.images[:1], targets=material.targets[:1])
    if photographs:
        image = _cat()
        answer = compute_logits(material.model, image).argmax(1)
        part = replace(material, images=image, targets=answer)
    return [_under(name, part, task, masks=HERO_MASKS) for name in EIGHT]


def _cat() -> Tensor:
    """Chelsea (1, 3, 227, 227), of scikit-image, in the public domain."""
    from skimage.data import chelsea
    from skimage.transform import resize

    picture = resize(chelsea()[:, 75:375], (SIDE, SIDE), anti_aliasing=True)
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]


def _shown(tasks: Sequence[Task]) -> list[Task]:
    """The first task of each data set that may be shown, shapes first."""
    firsts = {task.data: task for task in reversed(tasks) if task.data in SHOWN}
    return sorted(firsts.values(), key=lambda task: task.data != "shapes")


def _under(name: str, part: Material, task: Task, *, masks: int) -> Example:
    """RISE's map of the only image of `part` under the baseline `name`."""
    covering = one_baseline(name, part, task.generator(50))
    maps = []
    design = "antithetic" if task.parameters.probability == 0.5 else "independent"
    for draw in (0, 1):
        drawn = masks_by(task, design, masks, 51 + draw)
        scores = saliency.mask_scores(
            part.model,
            part.images,
            part.targets,
            drawn,
            covering,
            chunk=task.chunk,
            dtype=task.dtype,
        )
        maps.append(adjusted_maps(scores, drawn, reference_masks(task)))
    return _example(name, "RISE", part, covering, maps[0], float(spearman(*maps)))


def _example(
    name: str,
    method: str,
    part: Material,
    covering: Tensor,
    found: Tensor,
    ceiling: float | None = None,
) -> Example:
    steps = steps_of(found, pixels=max(1, found[0].numel() // STEPS))
    curve = removal_curves(
        part.model, part.images, part.targets, steps, covering, chunk=16
    )
    return Example(
        part.source.title,
        name,
        method,
        part.images[0],
        covering[0],
        found[0],
        curve[0].double().numpy(),
        ceiling,
    )


def examples(measured: Sequence[Maps]) -> list[Example]:
    """One image of each data set that may be shown, under every choice of baseline and
    method; RISE's maps are those that were measured.
    """
    found = []
    for task in _shown([one.task for one in measured]):
        maps = next(one for one in measured if one.task == task)
        material, made = gather(task), baseline_images(task)
        part = replace(
            material, images=material.images[:1], targets=material.targets[:1]
        )
        window = max(2, part.images.shape[2] // 5)
        question = part.model, part.images, part.targets
        for name in CHOICES:
            row = maps.names.index(name)
            covering = made[row, :1]
            agreed = float(maps.ceiling["adjusted", "spearman"][row, 0])
            rise = maps.maps[0, row, :1]
            found.append(_example(name, "RISE", part, covering, rise, agreed))
            covered = saliency.occlusion(*question, covering, window=window, stride=2)
            found.append(_example(name, "occlusion", part, covering, covered))
            method = "integrated gradients"
            gradients = saliency.captum_map(method, *question, covering)
            found.append(_example(name, method, part, covering, gradients))
    return found
