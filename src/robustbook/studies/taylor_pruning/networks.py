"""The networks of the study and the images they are trained and scored on; each is trained once and kept."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustbook.data import ImageSet, load
from robustbook.models import checkpoints, prunable
from robustbook.models.prunable import Prunable
from robustbook.models.training import Recipe, train
from robustbook.studies.taylor_pruning.parameters import Parameters

BATCH = 64
NETWORK_NAMES = {
    "lenet3": "LeNet3",
    "preact-resnet": "PreAct-ResNet18, eighth width",
    "resnet20": "ResNet-20, published weights",
}


@dataclass(frozen=True)
class Task:
    """One network's work: training and test images, the seed of its weights, and the run's parameters."""

    training: ImageSet
    test: ImageSet
    seed: int
    parameters: Parameters

    def scored(self, count: int, part: int = 0) -> tuple[Tensor, Tensor]:
        """Images and labels number `part * count` to `(part + 1) * count` of the training images."""
        chosen = slice(part * count, (part + 1) * count)
        return self.training.images[chosen], self.training.labels[chosen]

    def generator(self, purpose: int) -> torch.Generator:
        """Random numbers of this network for one purpose."""
        return torch.Generator().manual_seed(1000 * self.seed + purpose)


def load_images(name: str, parameters: Parameters) -> tuple[ImageSet, ImageSet]:
    """Training and test images of a data set: as many as the parameters ask for, and at most 2,000 for the test."""
    wanted = max(parameters.train_images, 2 * parameters.score_images, parameters.residual_images)
    training, test = load(name, "train"), load(name, "test")
    return training.take(min(wanted, len(training))), test.take(min(2000, len(test)))


def tasks(images: tuple[ImageSet, ImageSet], parameters: Parameters, count: int) -> list[Task]:
    """One task a seed 0 ... count - 1."""
    return [Task(*images, seed, parameters) for seed in range(count)]


def lenet3(task: Task) -> Prunable:
    """LeNet3 trained on the task's images, in evaluation mode."""
    parameters = task.parameters
    return _trained("lenet3", task, parameters.train_images, parameters.epochs, 1e-3)


def preact_resnet(task: Task) -> Prunable:
    """PreAct-ResNet18 at an eighth of the width, trained on the task's images, in evaluation mode."""
    parameters = task.parameters
    return _trained("preact-resnet", task, parameters.residual_images, parameters.residual_epochs, 3e-3)


def _trained(architecture: str, task: Task, count: int, epochs: int, learning_rate: float) -> Prunable:
    recipe = Recipe("natural", epochs=epochs, learning_rate=learning_rate, batch=BATCH)
    specification = {
        "architecture": architecture,
        "data": task.training.digest,
        "images": count,
        "of": len(task.training),
        "recipe": repr(recipe),
        "seed": task.seed,
        "code": hashlib.sha256(Path(inspect.getfile(prunable)).read_bytes()).hexdigest(),
    }
    model = prunable.build(architecture, task.training.image_shape, task.training.classes, task.seed)
    images, labels = task.scored(count)

    def fit(network: torch.nn.Module) -> torch.nn.Module:
        return train(network.to(memory_format=torch.channels_last), images, labels, recipe, seed=task.seed)

    checkpoints.cached(specification, model, fit)
    return model.to(memory_format=torch.channels_last).eval()
