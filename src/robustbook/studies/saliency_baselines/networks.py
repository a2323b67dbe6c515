"""What a piece of work needs: a network, images that it classifies correctly, and
baselines for them.

Read `Task` (what identifies a piece of work), then `gather` (what it needs), then
`baseline_images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Conv2d, Module

from robustbook.data import (
    ImageSet,
    load,
    shapes,
)
from robustbook.models import build
from robustbook.models.network import CHUNK, accuracy, compute_logits
from robustbook.models.training import Recipe
from robustbook.models.transformer import build_transformer
from robustbook.perturb import baselines
from robustbook.perturb.mask_designs import antithetic_masks, balanced_masks
from robustbook.perturb.masks import RiseMasks, draw_masks
from robustbook.studies.saliency_baselines.parameters import Parameters
from robustbook.studies.shared import SeededTask, trained

NEUTRALS = {
    "neutral from grey": "grey",
    "neutral from noise": "uniform noise",
    "neutral from Gaussian": "Gaussian noise",
    "neutral from blur": "blur 5",
    "neutral from shuffled": "shuffled",
    "neutral from another": "another image",
}
"""Neutral baselines by the baseline from which each is optimised; most are drawn."""
ALL_BASELINES = (*baselines.NAMES, *NEUTRALS)
FEW_BASELINES = (
    "black",
    "training mean",
    "blur 5",
    "Gaussian noise",
    "another image",
    "neutral from grey",
    "neutral from noise",
    "neutral from blur",
    "neutral from another",
)
PHOTOGRAPH_BASELINES = (
    "black",
    "grey",
    "training mean",
    "blur 5",
    "Gaussian noise",
    "neutral from grey",
)
PHOTOGRAPH_SEEDS, TRANSFORMER_SEEDS = 4, 3
"""Most seeds of these, for their cost."""
ROUNDED = ("cifar10", "photographs")
"""Data whose RISE scores are computed in bfloat16, in half the time; what that changes
is measured.
"""
CHUNKS = {"photographs": 16, "cifar10": 64, "transformer": 64}
"""Images that go through a large network at once."""
CANDIDATES = 4
"""Test images drawn for every image wanted; those the network gets wrong are left out.
"""


@dataclass(frozen=True)
class Task(SeededTask):
    """One piece of work: the name of its data, the seed of its network, images and
    masks, and the run's parameters.
    """

    data: str
    parameters: Parameters

    @property
    def chunk(self) -> int:
        """Images that go through the task's network at once."""
        return CHUNKS.get(self.data, CHUNK)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of RISE's passes."""
        return torch.bfloat16 if self.data in ROUNDED else torch.float32


@dataclass(frozen=True, eq=False)
class Material:
    """A network (and its last convolution), the correctly classified `images` (n, C, H,
    W) that are explained, and what is needed to make their baselines; `truth` (n, H, W)
    where it is known.
    """

    model: Module
    layer: Module
    source: ImageSet
    training: Tensor
    images: Tensor
    targets: Tensor
    truth: Tensor | None
    accuracy: float

    def __len__(self) -> int:
        return len(self.images)


def tasks(**settings: Any) -> list[Task]:
    """All pieces of work of the main comparison, the longest first; `settings` are
    those of `Parameters`.
    """
    parameters = Parameters(**settings)
    counts = {
        "photographs": parameters.photographs and PHOTOGRAPH_SEEDS,
        "cifar10": parameters.cifar_images and parameters.seeds,
        "transformer": parameters.transformer_images and TRANSFORMER_SEEDS,
        parameters.dataset: parameters.seeds,
        "shapes": parameters.seeds,
        "planted": parameters.seeds,
    }
    return [
        Task(seed, name, parameters)
        for name, count in counts.items()
        for seed in range(min(count, parameters.seeds))
    ]


@lru_cache(maxsize=16)
def gather(task: Task) -> Material:
    """Network, images and truth of a task; the network is trained, or read from the
    cache or the data root.
    """
    if task.data == "photographs":
        return _photographs(task)
    training, test = image_pair(task.data)
    parameters, wanted = task.parameters, task.parameters.images
    if task.data == "cifar10":
        from robustbook.models.prunable import published_resnet20

        model: Module = published_resnet20()
        wanted = parameters.cifar_images
    else:
        model = trained_for(task, training, task.seed)
    if task.data == "transformer":
        wanted = parameters.transformer_images
    model = model.to(memory_format=torch.channels_last)
    drawn = test.take(min(CANDIDATES * wanted, len(test)), task.seed)
    scored = test.take(min(2000, len(test)))
    right = (
        (compute_logits(model, drawn.images).argmax(1) == drawn.labels)
        .nonzero()
        .flatten()[:wanted]
    )
    truth = None
    if task.data in ("shapes", "planted", "transformer"):
        name = "planted" if task.data == "planted" else "shapes"
        masked = shapes.load_masked(name, "test", limit=len(drawn), seed=task.seed)
        truth = masked.masks[right]
    return Material(
        model,
        _last_convolution(model),
        test,
        training.images,
        drawn.images[right],
        drawn.labels[right],
        truth,
        accuracy(model, scored.images, scored.labels),
    )


def _photographs(task: Task) -> Material:
    from robustbook.models.pretrained import squeezenet

    photographs, model = (
        load("photographs", "test"),
        squeezenet().to(memory_format=torch.channels_last),
    )
    # Every seed has photographs of its own.
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(0))
    mine = order[task.seed :: PHOTOGRAPH_SEEDS][: 2 * task.parameters.photographs]
    drawn = replace(
        photographs, images=photographs.images[mine], labels=photographs.labels[mine]
    )
    answers = compute_logits(model, drawn.images, chunk=16).argmax(1)
    right = (answers == drawn.labels).nonzero().flatten()[: task.parameters.photographs]
    share = float((answers == drawn.labels).float().mean())
    parts = drawn.images[right], drawn.labels[right]
    return Material(
        model,
        _last_convolution(model),
        photographs,
        photographs.images,
        *parts,
        None,
        share,
    )


@lru_cache(maxsize=8)
def image_pair(name: str) -> tuple[ImageSet, ImageSet]:
    """Images to train on and to explain."""
    if name == "transformer":
        training, test = load("shapes", "train"), load("shapes", "test")
        return training, replace(test, title="Shapes, transformer")
    training, test = load(name, "train"), load(name, "test")
    if name == "cifar10":
        training = training.take(min(5000, len(training)))
    return training, test


def trained_for(task: Task, training: ImageSet, seed: int) -> Module:
    """The network of one seed for the task's data."""
    parameters, kind = task.parameters, "cnn"
    part = training.take(min(parameters.train_images, len(training)))
    recipe = Recipe("natural", parameters.epochs, learning_rate=2e-3, batch=64)
    model: Module = build("cnn", part.image_shape, part.classes, seed)
    if task.data == "transformer":
        kind = "transformer"
        recipe = Recipe("natural", parameters.epochs, learning_rate=1e-3, batch=64)
        model = build_transformer(part.image_shape, part.classes, seed)
    identity = {"data": task.data, "architecture": kind}
    return trained(identity, model, part, recipe, seed=seed)


def _last_convolution(model: Module) -> Module:
    return [module for module in model.modules() if isinstance(module, Conv2d)][-1]


def baseline_names(task: Task) -> tuple[str, ...]:
    """Baselines that are compared on the task's data: all on small networks, fewer on
    large ones.
    """
    few: dict[str, tuple[str, ...]] = {
        "cifar10": FEW_BASELINES,
        "transformer": FEW_BASELINES,
        "photographs": PHOTOGRAPH_BASELINES,
    }
    return few.get(task.data, ALL_BASELINES)


@lru_cache(maxsize=16)
def baseline_images(task: Task) -> Tensor:
    """The baselines (B, n, C, H, W) of the task's images in the order of
    `baseline_names`.
    """
    material, generator = gather(task), task.generator(1)
    return torch.stack(
        [one_baseline(name, material, generator) for name in baseline_names(task)]
    )


def one_baseline(name: str, material: Material, generator: torch.Generator) -> Tensor:
    """The baseline `name` (n, C, H, W); a neutral one is optimised from its start, once
    where the start is one colour.
    """
    if name not in NEUTRALS:
        return baselines.make(
            name, material.images, material.training, generator=generator
        )
    start = baselines.make(
        NEUTRALS[name], material.images, material.training, generator=generator
    )
    if NEUTRALS[name] in baselines.CONSTANTS:
        return baselines.neutral(material.model, start[:1]).expand_as(start).clone()
    return baselines.neutral(material.model, start)


def mask_count(task: Task) -> int:
    """Masks of each of the task's maps."""
    parameters = task.parameters
    counts = {
        "photographs": parameters.photograph_masks,
        "cifar10": parameters.cifar_masks,
        "transformer": parameters.transformer_masks,
    }
    return counts.get(task.data, parameters.masks) // 2 * 2


def design_of(task: Task) -> str:
    """How the task's masks are drawn: in complementary pairs where passes are dear."""
    paired = task.data == "photographs" and task.parameters.probability == 0.5
    return "antithetic" if paired else "independent"


def masks_by(task: Task, design: str, count: int, purpose: int) -> RiseMasks:
    """Masks for the task's images by a design, their random numbers by a purpose."""
    parameters, shape = task.parameters, gather(task).images.shape[2:]
    settings: dict[str, Any] = {
        "cells": parameters.cells,
        "generator": task.generator(purpose),
    }
    size = (shape[0], shape[1])
    if design == "antithetic":
        return antithetic_masks(count, size, **settings)
    make = balanced_masks if design == "balanced" else draw_masks
    return make(count, size, probability=parameters.probability, **settings)


def rise_masks(task: Task, draw: int) -> RiseMasks:
    """The task's masks, number `draw` (0 or 1): independent of each other, the same for
    all baselines and images.
    """
    return masks_by(task, design_of(task), mask_count(task), 10 + draw)


@lru_cache(maxsize=4)
def reference_masks(task: Task) -> RiseMasks:
    """Masks that no network sees, for what is averaged exactly."""
    count = 1000 if task.data == "photographs" else 4000
    return masks_by(task, "independent", count, 12)


def image_sets(tasks: Sequence[Task]) -> list[ImageSet]:
    """All images that the run reads, each with its split in the title."""
    names = list(dict.fromkeys(task.data for task in tasks))
    names = [name for name in names if name != "transformer"]
    pairs = [
        (name, split)
        for name in names
        for split in ("train", "test")
        if (name, split) != ("photographs", "train")
    ]
    found = [load(name, split) for name, split in pairs]
    return [replace(each, title=f"{each.title}, {each.split}") for each in found]
