"""Walks through input space: planes for the loss surfaces, and lines along the
adversarial and a random direction.

Read `slice_of` (one plane), `compare_surfaces` (claim Y1), then `line_profiles` (claim
Y2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.measure.divergence import normalise_logits
from robustbook.measure.surfaces import (
    Surface,
    best_threshold_error,
    decision_surface,
    plane,
)
from robustbook.models.network import compute_logits, frozen
from robustbook.perturb.ascent import ascend
from robustbook.perturb.gradient import cross_entropy
from robustbook.studies.loss_metric.networks import Network, images_of, load_network
from robustbook.studies.loss_metric.parameters import Parameters

Array = NDArray[np.float64]

# How far surfaces and lines reach, in multiples of epsilon: far enough that natural
# networks are wrong somewhere.
REACH = 4.0
LINE_POINTS = 41


@dataclass(frozen=True)
class Slice:
    """One plane through an image: its surfaces, and how well each surface tells right
    cells from wrong ones.

    `decision_agreement` is the share of cells whose sign of S agrees with the
    prediction; `threshold_error` the smallest share of cells that any single level of
    the cross-entropy puts on the wrong side; `mixed` whether the plane has cells of
    both kinds.
    """

    network: Network
    image: int
    surface: Surface
    decision_agreement: float
    threshold_error: float
    mixed: bool


def adversarial_direction(model: Module, images: Tensor, labels: Tensor) -> Tensor:
    """Sign of the input gradient of the cross-entropy (N, C, H, W): the direction of
    FGSM.
    """
    with frozen(model):
        inputs = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(
            cross_entropy(model(inputs), labels).sum(), inputs
        )
    return gradient.sign()


def random_direction(images: Tensor, generator: Generator) -> Tensor:
    """Random signs (N, C, H, W): as long as the adversarial direction in every norm."""
    return (
        torch.randint(0, 2, images.shape, generator=generator).to(images.dtype) * 2 - 1
    )


def slice_of(
    network: Network, image: int, parameters: Parameters, *, clip: bool = False
) -> Slice:
    """The plane through test image number `image` along the adversarial and a random
    direction.

    Its points leave [0, 1]: in a corner of the plane pixels have moved by twice the
    reach. With `clip` each is cut to it.
    """
    model = load_network(network)
    data = images_of(network.dataset, "test", parameters.images, network.classes)
    one, label = data.images[image : image + 1], data.labels[image : image + 1]
    generator = torch.Generator().manual_seed(image)
    reach = REACH * network.epsilon
    positions = torch.linspace(-reach, reach, parameters.grid)
    surface = plane(
        model,
        one[0],
        int(label),
        adversarial_direction(model, one, label)[0],
        random_direction(one, generator)[0],
        positions,
        positions,
        clip=clip,
    )
    return _compared(network, image, surface, int(label))


def _compared(network: Network, image: int, surface: Surface, label: int) -> Slice:
    wrong = np.asarray(surface.predicted) != label
    decision, loss = np.asarray(surface.decision), np.asarray(surface.cross_entropy)
    agreement = float(np.mean((decision < 0) == wrong))
    return Slice(
        network,
        image,
        surface,
        agreement,
        float(best_threshold_error(loss, wrong)),
        mixed=bool(wrong.any() and not wrong.all()),
    )


def attack_path(
    network: Network, image: int, parameters: Parameters, steps: int = 10
) -> Array:
    """Where BIM walks from test image number `image`, seen on the plane of `slice_of`:
    points (steps + 1, 2), pixel units.

    BIM stays within half the reach and in [0, 1], so it leaves the plane; the points
    are the nearest ones on the plane.
    """
    model = load_network(network)
    data = images_of(network.dataset, "test", parameters.images, network.classes)
    one, label = data.images[image : image + 1], data.labels[image : image + 1]
    visited: list[Tensor] = []

    def remember(rows: Tensor, points: Tensor, logits: Tensor, values: Tensor) -> None:
        visited.append(points.clone())

    step = REACH * network.epsilon / 2 / steps
    radius = REACH * network.epsilon / 2
    ascend(
        model,
        one,
        label,
        cross_entropy,
        epsilon=radius,
        steps=steps,
        step_size=step,
        observe=remember,
    )
    along = adversarial_direction(model, one, label).flatten()
    across = random_direction(one, torch.Generator().manual_seed(image)).flatten()
    moved = torch.cat(visited).flatten(1) - one.flatten()
    plane_of = torch.stack([along, across], dim=1)
    return torch.linalg.lstsq(plane_of, moved.T).solution.T.double().numpy()


def line_profiles(
    model: Module, images: Tensor, labels: Tensor, epsilon: float, generator: Generator
) -> dict[str, Array]:
    """Decision surface along lines from each image: arrays (N, 41) over distances from
    0 to 4 epsilon (pixel units).

    The lines are straight: their points are not cut to [0, 1].
    Keys name direction ("adversarial", "random") and logits ("normalised", "plain").
    """
    positions = torch.linspace(0, REACH * epsilon, LINE_POINTS)
    directions = {
        "adversarial": adversarial_direction(model, images, labels),
        "random": random_direction(images, generator),
    }
    profiles = {}
    for name, direction in directions.items():
        points = (
            images[:, None] + positions[None, :, None, None, None] * direction[:, None]
        )
        logits = compute_logits(model, points.flatten(0, 1))
        repeated = labels.repeat_interleave(LINE_POINTS)
        for kind, shown in (
            ("normalised", normalise_logits(logits)),
            ("plain", logits),
        ):
            values = decision_surface(shown, repeated).reshape(len(images), LINE_POINTS)
            profiles[f"{name} {kind}"] = values.double().numpy()
    return profiles


def boundary_distance(profiles: Array, epsilon: float) -> Array:
    """Distance (N,) at which each line first crosses S = 0, by linear interpolation; 4
    epsilon where it never does.
    """
    positions = np.linspace(0, REACH * epsilon, profiles.shape[1])
    distances = np.full(len(profiles), positions[-1])
    for row, values in enumerate(profiles):
        below = np.flatnonzero(values <= 0)
        if len(below) and below[0] == 0:
            distances[row] = 0.0
        elif len(below):
            after = below[0]
            step = values[after - 1] / (values[after - 1] - values[after])
            distances[row] = positions[after - 1] + step * (positions[1] - positions[0])
    return distances


def mean_slope(profiles: Array, epsilon: float) -> Array:
    """Mean |dS/d alpha| (N,) over distances up to epsilon, per pixel unit."""
    spacing = REACH * epsilon / (profiles.shape[1] - 1)
    inside = 1 + round(epsilon / spacing)
    result: Array = np.abs(np.diff(profiles[:, :inside], axis=1)).mean(axis=1) / spacing
    return result
