"""What is trained: one perceptron a seed, read from the cache where it is there."""

from __future__ import annotations

from functools import partial

from torch import nn

from robustbook.models import build
from robustbook.models.training import Recipe
from robustbook.skeleton.parameters import Parameters
from robustbook.studies import shared
from robustbook.studies.protocol import seeds


def network(parameters: Parameters, seed: int) -> nn.Module:
    """The network of one seed."""
    data = shared.images_of(parameters.dataset, "train", parameters.train_images)
    fresh = build("mlp", data.image_shape, data.classes, seed)
    recipe = Recipe("natural", parameters.epochs)
    return shared.trained({"architecture": "mlp"}, fresh, data, recipe, seed=seed)


def train_all(parameters: Parameters) -> None:
    """Make every network that is not in the cache yet, side by side."""
    shared.train_all(partial(network, parameters), seeds(parameters))
