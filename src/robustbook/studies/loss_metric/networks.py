"""The networks of the study: which there are, and how each is trained (or read from the
cache).

Read `Network` (what identifies one), then `zoo` (all of them), then `load_network` (the
trained module).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import torch
from torch.nn import Module, Sequential

from robustbook.data import ImageSet, load
from robustbook.models import Scale, build
from robustbook.models.training import Recipe, Training, train
from robustbook.studies import shared
from robustbook.studies.loss_metric.parameters import Parameters
from robustbook.studies.protocol import seeds
from robustbook.studies.shared import trained

ARCHITECTURES = ("mlp", "cnn", "wide-cnn")
TRAININGS: tuple[Training, ...] = ("natural", "fgsm", "gradient-regularised", "minmax")
COLOUR_ARCHITECTURES = ("cnn", "wide-cnn")
COLOUR_TRAININGS: tuple[Training, ...] = ("natural", "minmax")
MASKED_ARCHITECTURE = "cnn"
MINMAX_STEPS = 7
DISTILLATION_TEMPERATURE = 20.0
# Weight of the squared input gradient: one value, set before the first run and kept.
GRADIENT_PENALTY = 0.3
SCALE_OF_MASKED_LAYER = 100.0


@dataclass(frozen=True)
class Network:
    """What identifies a trained network: data, architecture, training, its numbers and
    its seed.

    `classes` keeps only the images of these labels (renumbered from 0), all if empty;
    `scale` multiplies the logits.
    """

    dataset: str
    architecture: str
    training: Training
    seed: int
    train_images: int
    epochs: int
    epsilon: float
    classes: tuple[int, ...] = ()
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Name of the kind of network, the same for all its seeds."""
        scaled = f" x{self.scale:g}" if self.scale != 1 else ""
        return f"{self.architecture} {self.training}{scaled}"


def zoo(parameters: Parameters) -> list[Network]:
    """The main zoo: three architectures, four trainings, `seeds` networks each."""
    return [
        main_network(parameters, architecture, training, seed)
        for architecture in ARCHITECTURES
        for training in TRAININGS
        for seed in seeds(parameters)
    ]


def colour_zoo(parameters: Parameters) -> list[Network]:
    """The second zoo, empty if `colour_dataset` is none: two architectures, natural and
    MinMax training.
    """
    if parameters.colour_dataset == "none":
        return []
    return [
        Network(
            parameters.colour_dataset,
            architecture,
            training,
            seed,
            parameters.colour_train_images,
            parameters.colour_epochs,
            parameters.colour_epsilon,
        )
        for architecture in COLOUR_ARCHITECTURES
        for training in COLOUR_TRAININGS
        for seed in seeds(parameters)
    ]


def masked_networks(parameters: Parameters) -> list[Network]:
    """Networks with masked gradients: defensive distillation, and the natural network
    with its last layer scaled up.
    """
    natural = [
        main_network(parameters, MASKED_ARCHITECTURE, "natural", seed)
        for seed in seeds(parameters)
    ]
    distilled = [
        main_network(parameters, MASKED_ARCHITECTURE, "distilled", seed)
        for seed in seeds(parameters)
    ]
    return distilled + [scaled(network, SCALE_OF_MASKED_LAYER) for network in natural]


def two_class_networks(parameters: Parameters) -> list[Network]:
    """The control of claim Y1: natural networks that tell classes 3 and 8 apart, where
    cross-entropy hides nothing.
    """
    return [
        Network(
            parameters.dataset,
            "cnn",
            "natural",
            seed,
            parameters.train_images,
            parameters.epochs,
            parameters.epsilon,
            (3, 8),
        )
        for seed in seeds(parameters)
    ]


def main_network(
    parameters: Parameters, architecture: str, training: Training, seed: int
) -> Network:
    """A network of the main data set."""
    return Network(
        parameters.dataset,
        architecture,
        training,
        seed,
        parameters.train_images,
        parameters.epochs,
        parameters.epsilon,
    )


def scaled(network: Network, factor: float) -> Network:
    """The same network with its logits multiplied by `factor`: the same predictions
    from other parameters.
    """
    return replace(network, scale=factor)


@lru_cache(maxsize=8)
def images_of(
    dataset: str, split: str, limit: int | None, classes: tuple[int, ...] = ()
) -> ImageSet:
    """A class-balanced subset of a split; with `classes`, only their images, labelled
    by their place in `classes`.
    """
    if not classes:
        return shared.images_of(dataset, split, limit)
    whole = load(dataset, split)
    chosen = torch.isin(whole.labels, torch.tensor(classes))
    labels = (whole.labels[chosen, None] == torch.tensor(classes)).int().argmax(dim=1)
    kept = replace(
        whole,
        images=whole.images[chosen],
        labels=labels,
        class_names=tuple(whole.class_names[c] for c in classes),
    )
    return kept.take(None if limit is None else min(limit, len(kept)))


def load_network(network: Network) -> Module:
    """The trained network in evaluation mode, from the checkpoint cache if it
    is there.
    """
    if network.scale != 1:
        unscaled = load_network(replace(network, scale=1.0))
        return Sequential(*unscaled.children(), Scale(network.scale)).eval()
    data = images_of(network.dataset, "train", network.train_images, network.classes)
    recipe = recipe_of(network)

    def fresh() -> Module:
        return build(network.architecture, data.image_shape, data.classes, network.seed)

    def teacher() -> Module:
        softened = replace(recipe, training="natural")
        return train(fresh(), data.images, data.labels, softened, seed=network.seed)

    return trained(
        asdict(network),
        fresh(),
        data,
        recipe,
        seed=network.seed,
        teacher=teacher if network.training == "distilled" else None,
    )


def recipe_of(network: Network) -> Recipe:
    """How the network is trained. The attacked trainings use the network's own
    budget.
    """
    if network.training == "fgsm":
        return Recipe("fgsm", network.epochs, epsilon=network.epsilon, steps=1)
    if network.training == "minmax":
        return Recipe(
            "minmax", network.epochs, epsilon=network.epsilon, steps=MINMAX_STEPS
        )
    if network.training == "gradient-regularised":
        return Recipe("gradient-regularised", network.epochs, penalty=GRADIENT_PENALTY)
    if network.training == "distilled":
        # Softened answers are learned slowly: twice the epochs bring clean accuracy to
        # that of natural training.
        return Recipe(
            "distilled", 2 * network.epochs, temperature=DISTILLATION_TEMPERATURE
        )
    return Recipe("natural", network.epochs)


def train_all(networks: list[Network]) -> None:
    """Train every network that is not in the cache yet; the largest ones first."""
    size = {"mlp": 1, "cnn": 3, "wide-cnn": 6}
    passes = {
        "natural": 1,
        "distilled": 2,
        "gradient-regularised": 3,
        "fgsm": 3,
        "minmax": MINMAX_STEPS + 1,
    }
    shared.train_all(
        load_network,
        [network for network in networks if network.scale == 1],
        lambda each: size[each.architecture] * passes[each.training],
    )
