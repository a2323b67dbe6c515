"""The networks of the study, each trained once and kept.

Read `Network` (what one of them is), then `lenet3s`, `resnets` and `tuned_resnets` (the
three kinds), then `model_of` (the trained network).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbook.data import ImageSet
from robustbook.models import prunable
from robustbook.models.prunable import Prunable
from robustbook.models.training import Recipe
from robustbook.studies import shared
from robustbook.studies.shared import SeededTask, images_of, trained

BATCH = 64
"""Images of a mini-batch, in training and in scores (that of the published code)."""

LEARNING_RATE = {"lenet3": 2e-3, "resnet18": 5e-3, "small resnet": 1e-2}
WIDTH = 8
SMALL_BLOCKS = (1, 1, 1)
TEST_IMAGES = 2000


@dataclass(frozen=True)
class Network(SeededTask):
    """One trained network: its architecture, its images, the length of its training."""

    architecture: str
    dataset: str
    images: int
    epochs: int

    @property
    def training(self) -> ImageSet:
        """The images that it was trained on."""
        return images_of(self.dataset, "train", self.images)

    @property
    def test(self) -> ImageSet:
        """Images that it has not seen, the same for every network."""
        every = images_of(self.dataset, "test", None)
        return images_of(self.dataset, "test", min(TEST_IMAGES, len(every)))

    def seen(self, count: int, after: int = 0) -> tuple[Tensor, Tensor]:
        """`count` of its training images and their labels, past the first `after`."""
        chosen = slice(after, after + count)
        return self.training.images[chosen], self.training.labels[chosen]


def lenet3s(
    data: str, *, seeds: int, train_images: int, epochs: int
) -> tuple[Network, ...]:
    """LeNet3, the paper's small network of 252 units, from several seeds; none where
    the data is "none".
    """
    if data == "none":
        return ()
    return tuple(
        Network(seed, "lenet3", data, train_images, epochs) for seed in range(seeds)
    )


def resnets(
    data: str, *, resnet_seeds: int, resnet_images: int, resnet_epochs: int
) -> tuple[Network, ...]:
    """PreAct-ResNet18, the paper's residual network, at an eighth of its width."""
    return tuple(
        Network(seed, "resnet18", data, resnet_images, resnet_epochs)
        for seed in range(resnet_seeds)
    )


def tuned_resnets(
    tuned_data: str, *, tuned_seeds: int, tuned_images: int, tuned_epochs: int
) -> tuple[Network, ...]:
    """Residual networks of three blocks and three streams, to be pruned and tuned."""
    return tuple(
        Network(seed, "small resnet", tuned_data, tuned_images, tuned_epochs)
        for seed in range(tuned_seeds)
    )


def untrained(network: Network) -> Prunable:
    """The network before training; its weights depend on its seed alone."""
    shape, classes = network.training.image_shape, network.training.classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(network.seed)
        if network.architecture == "lenet3":
            return prunable.lenet3(shape, classes)
        blocks = SMALL_BLOCKS if network.architecture == "small resnet" else (2,) * 4
        return prunable.preact_resnet(shape, classes, WIDTH, blocks)


def model_of(network: Network) -> Prunable:
    """The trained network, in evaluation mode."""
    architecture = network.architecture
    recipe = Recipe(
        "natural",
        epochs=network.epochs,
        learning_rate=LEARNING_RATE[architecture],
        batch=BATCH,
    )
    model = untrained(network).to(memory_format=torch.channels_last)
    identity = {"architecture": architecture, "width": WIDTH}
    seed, data = network.seed, network.training
    trained(identity, model, data, recipe, seed=seed, code=(prunable,))
    return model.to(memory_format=torch.channels_last)


def train_all(networks: Sequence[Network]) -> None:
    """Train what is not in the cache yet."""
    shared.train_all(model_of, networks, cost=lambda each: len(each.architecture))


def by_length(
    data: str, *, length_seeds: int, train_images: int, epochs: int
) -> dict[int, tuple[Network, ...]]:
    """LeNet3 trained for a quarter, a half, once and twice as many epochs."""
    lengths = sorted({max(1, epochs // 4), max(1, epochs // 2), epochs, 2 * epochs})
    return {
        length: lenet3s(
            data, seeds=length_seeds, train_images=train_images, epochs=length
        )
        for length in lengths
    }


def sets_of(networks: Sequence[Network]) -> list[ImageSet]:
    """The images that networks were trained and tested on, each once."""
    sets = {
        (part.title, part.split): replace(part, title=f"{part.title}, {part.split}")
        for network in networks
        for part in (network.training, network.test)
    }
    return list(sets.values())
