"""The networks of the study and the images they are trained and scored on; each is
trained once and kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbook.data import ImageSet, load
from robustbook.models import prunable
from robustbook.models.prunable import Prunable
from robustbook.models.training import Recipe
from robustbook.studies.shared import SeededTask, trained
from robustbook.studies.taylor_pruning.parameters import Parameters

BATCH = 64
VGG_WIDTHS = (8, 8, 16, 16, 32, 32)


@dataclass(frozen=True)
class Task(SeededTask):
    """One network's work: training and test images, the seed of its weights, and the
    run's parameters.
    """

    training: ImageSet
    test: ImageSet
    parameters: Parameters

    def scored(self, count: int, part: int = 0) -> tuple[Tensor, Tensor]:
        """Images and labels number `part * count` to `(part + 1) * count` of the
        training images.
        """
        chosen = slice(part * count, (part + 1) * count)
        return self.training.images[chosen], self.training.labels[chosen]

    def trained_on(self, count: int) -> ImageSet:
        """The first `count` training images: those that a network of this task has
        seen, for its pruning and tuning.
        """
        images, labels = self.scored(count)
        return replace(self.training, images=images, labels=labels)


def load_images(name: str, parameters: Parameters) -> tuple[ImageSet, ImageSet]:
    """Training and test images of a data set: as many as the parameters ask for, and at
    most 2,000 for the test.
    """
    wanted = max(
        parameters.train_images, 2 * parameters.score_images, parameters.residual_images
    )
    training, test = load(name, "train"), load(name, "test")
    return training.take(wanted), test.take(min(2000, len(test)))


def tasks(
    images: tuple[ImageSet, ImageSet], parameters: Parameters, count: int
) -> list[Task]:
    """One task a seed 0 ... count - 1."""
    return [Task(seed, *images, parameters) for seed in range(count)]


def lenet3(task: Task) -> Prunable:
    """LeNet3 trained on the task's images, in evaluation mode."""
    parameters = task.parameters
    return _trained("lenet3", task, parameters.train_images, parameters.epochs, 1e-3)


def preact_resnet(task: Task) -> Prunable:
    """PreAct-ResNet18 at an eighth of the width, trained on the task's images, in
    evaluation mode.
    """
    parameters = task.parameters
    return _trained(
        "preact-resnet",
        task,
        parameters.residual_images,
        parameters.residual_epochs,
        3e-3,
    )


def vgg(task: Task) -> Prunable:
    """A VGG-like net with batch-norm, 112 filters, trained as the PreAct-ResNet is, in
    evaluation mode.
    """
    parameters = task.parameters
    return _trained(
        "vgg", task, parameters.residual_images, parameters.residual_epochs, 3e-3
    )


NETWORKS = {"lenet3": lenet3, "vgg": vgg, "preact-resnet": preact_resnet}
"""The trained networks of the study by name."""


def _built(architecture: str, task: Task) -> Prunable:
    """The untrained network; its weights depend on the task's seed alone."""
    shape, classes = task.training.image_shape, task.training.classes
    if architecture != "vgg":
        return prunable.build(architecture, shape, classes, task.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        return prunable.vgg(shape, classes, VGG_WIDTHS)


def _trained(
    architecture: str, task: Task, count: int, epochs: int, learning_rate: float
) -> Prunable:
    recipe = Recipe("natural", epochs=epochs, learning_rate=learning_rate, batch=BATCH)
    identity = {
        "architecture": f"vgg {VGG_WIDTHS}" if architecture == "vgg" else architecture,
        "of": len(task.training),
    }
    model = _built(architecture, task).to(memory_format=torch.channels_last)
    data = task.trained_on(count)
    trained(identity, model, data, recipe, seed=task.seed, code=(prunable,))
    return model.to(memory_format=torch.channels_last)
