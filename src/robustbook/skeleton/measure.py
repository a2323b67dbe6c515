"""Numbers from networks and images: accuracy on images as they are, with noise, and
attacked.
"""

from __future__ import annotations

from torch import Generator

from robustbook.data import ImageSet
from robustbook.draws import uniform
from robustbook.models.network import accuracy
from robustbook.perturb.gradient import fgsm
from robustbook.skeleton import networks
from robustbook.skeleton.parameters import Parameters
from robustbook.studies.protocol import seeds
from robustbook.studies.shared import images_of


def test_images(parameters: Parameters) -> ImageSet:
    """The images on which every network is measured."""
    return images_of(parameters.dataset, "test", parameters.images)


def measure(parameters: Parameters, seed: int) -> dict[str, float]:
    """Accuracy (share) of the network of one seed by what was done to the images."""
    model, data = networks.network(parameters, seed), test_images(parameters)
    images, labels, epsilon = data.images, data.labels, parameters.epsilon
    noise = uniform(images.shape, images, Generator().manual_seed(seed)) * 2 - 1
    shown = {
        "nothing": images,
        "noise": (images + epsilon * noise).clamp(0, 1),
        "attack": fgsm(model, images, labels, epsilon=epsilon),
    }
    return {name: accuracy(model, each, labels) for name, each in shown.items()}


def measure_all(parameters: Parameters) -> list[dict[str, float]]:
    """Measure every network."""
    return [measure(parameters, seed) for seed in seeds(parameters)]
