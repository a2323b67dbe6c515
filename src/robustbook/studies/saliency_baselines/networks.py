"""What a piece of work needs: a network, images that it classifies correctly, and
baselines for them.

Read `Task` (what identifies a piece of work), then `gather` (what it needs), then
`baseline_images`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

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
from robustbook.perturb import baselines
from robustbook.perturb.masks import RiseMasks, draw_masks
from robustbook.studies.saliency_baselines.parameters import Parameters
from robustbook.studies.shared import SeededTask, trained

ALL_BASELINES = (*baselines.NAMES, *baselines.STARTS)
FEW_BASELINES = (
    "black",
    "training mean",
    "blur 5",
    "Gaussian noise",
    "another image",
    *baselines.STARTS,
)
PHOTOGRAPH_BASELINES = (
    "black",
    "grey",
    "training mean",
    "blur 5",
    "Gaussian noise",
    "neutral from grey",
)
ROUNDED = ("cifar10", "photographs")
"""Data whose RISE scores are computed in bfloat16, in half the time; what that changes
is measured.
"""
CHUNKS = {"photographs": 16, "cifar10": 64}
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


def tasks(parameters: Parameters) -> list[Task]:
    """All pieces of work of the main comparison, the longest first."""
    seeds = range(parameters.seeds)
    found = [Task(0, "photographs", parameters)] if parameters.photographs else []
    if parameters.cifar_images:
        found += [Task(seed, "cifar10", parameters) for seed in seeds]
    names = (parameters.dataset, "shapes", "planted")
    return found + [Task(seed, name, parameters) for name in names for seed in seeds]


@lru_cache(maxsize=16)
def gather(task: Task) -> Material:
    """Network, images and truth of a task; the network is trained, or read from the
    cache or the data root.
    """
    if task.data == "photographs":
        return _photographs(task)
    training, test = _image_sets(task.data)
    if task.data == "cifar10":
        from robustbook.models.prunable import published_resnet20

        model: Module = published_resnet20()
        wanted = task.parameters.cifar_images
    else:
        model = _trained(task, training)
        wanted = task.parameters.images
    model = model.to(memory_format=torch.channels_last)
    drawn = test.take(min(CANDIDATES * wanted, len(test)), task.seed)
    scored = test.take(min(2000, len(test)))
    right = (
        (compute_logits(model, drawn.images).argmax(1) == drawn.labels)
        .nonzero()
        .flatten()[:wanted]
    )
    truth = None
    if task.data in ("shapes", "planted"):
        truth = shapes.load_masked(
            task.data, "test", limit=len(drawn), seed=task.seed
        ).masks[right]
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
    drawn = photographs.take(
        min(CANDIDATES * task.parameters.photographs, len(photographs)), task.seed
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
def _image_sets(name: str) -> tuple[ImageSet, ImageSet]:
    training, test = load(name, "train"), load(name, "test")
    return training.take(
        min(5000, len(training))
    ) if name == "cifar10" else training, test


def _trained(task: Task, training: ImageSet) -> Module:
    parameters = task.parameters
    part = training.take(min(parameters.train_images, len(training)))
    recipe = Recipe("natural", parameters.epochs, learning_rate=2e-3, batch=64)
    model = build("cnn", part.image_shape, part.classes, task.seed)
    identity = {"data": task.data, "architecture": "cnn"}
    return trained(identity, model, part, recipe, seed=task.seed)


def _last_convolution(model: Module) -> Module:
    return [module for module in model.modules() if isinstance(module, Conv2d)][-1]


def baseline_names(task: Task) -> tuple[str, ...]:
    """Baselines that are compared on the task's data: all on small networks, fewer on
    large ones.
    """
    return {"photographs": PHOTOGRAPH_BASELINES, "cifar10": FEW_BASELINES}.get(
        task.data, ALL_BASELINES
    )


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
    if name not in baselines.STARTS:
        return baselines.make(
            name, material.images, material.training, generator=generator
        )
    start = baselines.make(
        baselines.STARTS[name], material.images, material.training, generator=generator
    )
    if baselines.STARTS[name] in baselines.CONSTANTS:
        return baselines.neutral(material.model, start[:1]).expand_as(start).clone()
    return baselines.neutral(material.model, start)


def rise_masks(task: Task, draw: int) -> RiseMasks:
    """The task's masks, number `draw` (0 or 1): independent of each other, the same for
    all baselines and images.
    """
    parameters, shape = task.parameters, gather(task).images.shape[2:]
    counts = {
        "photographs": parameters.photograph_masks,
        "cifar10": parameters.cifar_masks,
    }
    return draw_masks(
        counts.get(task.data, parameters.masks),
        (shape[0], shape[1]),
        cells=parameters.cells,
        probability=parameters.probability,
        generator=task.generator(10 + draw),
    )


def image_sets(parameters: Parameters) -> list[ImageSet]:
    """All images that the run reads, each with its split in the title."""
    names = list(dict.fromkeys(task.data for task in tasks(parameters)))
    pairs = [
        (name, split)
        for name in names
        for split in ("train", "test")
        if (name, split) != ("photographs", "train")
    ]
    found = [load(name, split) for name, split in pairs]
    return [replace(each, title=f"{each.title}, {each.split}") for each in found]
