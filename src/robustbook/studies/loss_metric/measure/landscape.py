"""Walks through input space: planes for the loss surfaces, lines along the adversarial
and a random direction, and attacks of growing budget.

Read `slice_of` (one plane) and `distance_to_level` (claim Y1), then `line_profiles`
(claim Y2), then `attacked_series` (one image, pushed farther and farther).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.measure.divergence import normalise_logits, worst_divergence
from robustbook.measure.surfaces import Surface, best_threshold, decision_surface, plane
from robustbook.models.network import compute_logits, frozen
from robustbook.perturb.ascent import ascend
from robustbook.perturb.gradient import cross_entropy
from robustbook.studies.loss_metric.networks import Network, images_of, load_network
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
Cells = NDArray[np.bool_]

# How far surfaces and lines reach, in multiples of epsilon: far enough that natural
# networks are wrong somewhere.
REACH = 4.0
LINE_POINTS = 41
PSI_STEP = 0.2
SERIES_BUDGETS = tuple(np.linspace(0, 2, 9).tolist())


@dataclass(frozen=True)
class Slice:
    """One plane through an image: its surfaces, and how well each surface tells right
    cells from wrong ones.

    `decision_agreement` is the share of cells whose sign of S agrees with the
    prediction; `threshold_error` the smallest share of cells that any single level of
    the cross-entropy puts on the wrong side, and `boundary_distance` how far that
    level's contour is from the decision boundary (multiples of epsilon, NaN without a
    boundary); `known_distance` is that of the level log 2, which is right for two
    classes and needs no boundary to be known; `mixed` whether the plane has cells of
    both kinds; `clip` whether its points were cut to [0, 1].
    """

    network: Network
    image: int
    surface: Surface
    clip: bool
    decision_agreement: float
    threshold_error: float
    boundary_distance: float
    known_distance: float

    @property
    def mixed(self) -> bool:
        """Whether the plane has right and wrong cells."""
        return bool(self.surface.wrong.any() and not self.surface.wrong.all())


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


def planes(
    networks: Sequence[Network],
    *,
    images: int,
    grid: int,
    slices: int,
    clip: bool = False,
) -> list[Slice]:
    """`slice_of` of the first `slices` images under every network."""
    pairs = [(network, image) for network in networks for image in range(slices)]
    return map_in_workers(
        partial(_slice_of_pair, images=images, grid=grid, clip=clip), pairs
    )


def _slice_of_pair(pair: tuple[Network, int], **settings: int) -> Slice:
    return slice_of(*pair, **settings)  # type: ignore[arg-type]


def slice_of(
    network: Network, image: int, *, images: int, grid: int, clip: bool = False
) -> Slice:
    """The plane through test image number `image` along the adversarial and a random
    direction, `grid` cells along each side.

    Its points leave [0, 1]: in a corner of the plane pixels have moved by twice the
    reach. With `clip` each is cut to it.
    """
    model = load_network(network)
    one, label = _image(network, image, images)
    generator = torch.Generator().manual_seed(image)
    reach = REACH * network.epsilon
    positions = torch.linspace(-reach, reach, grid)
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
    return Slice(
        network,
        image,
        surface,
        clip,
        decision_agreement=float(
            np.mean((surface.decision < 0) == np.asarray(surface.wrong))
        ),
        threshold_error=best_threshold(surface.cross_entropy, surface.wrong).error,
        boundary_distance=distance_to_level(surface, reach) / network.epsilon,
        known_distance=distance_to_level(surface, reach, math.log(2)) / network.epsilon,
    )


def distance_to_level(
    surface: Surface, reach: float, level: float | None = None
) -> float:
    """Mean distance from the cells at the decision boundary to the nearest cell at a
    contour of the cross-entropy, in the plane's units; NaN without a boundary. The
    contour is that of `level` (nats), else the one that puts the fewest cells on the
    wrong side.

    Along two directions of signs |alpha| + |beta| is the L-infinity distance. Where the
    level is a contour nowhere on the plane, every cell counts with `reach`.
    """
    boundary = edge(surface.wrong)
    if not boundary.any():
        return float("nan")
    if level is None:
        level = best_threshold(surface.cross_entropy, surface.wrong).level
    contour = edge(surface.cross_entropy > level)
    if not contour.any():
        return reach
    spacing = float(surface.alphas[1] - surface.alphas[0])
    steps = distance_transform_cdt(~contour, metric="taxicab")
    return float(np.minimum(steps[boundary] * spacing, reach).mean())


def edge(cells: Cells) -> Cells:
    """Cells (A, B) that have a neighbour of the other kind beside, above or below."""
    result = np.zeros_like(cells)
    for axis in (0, 1):
        first = np.moveaxis(cells, axis, 0)
        found = np.moveaxis(result, axis, 0)
        change = first[1:] != first[:-1]
        found[1:] |= change
        found[:-1] |= change
    return result


def _image(network: Network, image: int, images: int) -> tuple[Tensor, Tensor]:
    """Test image number `image` of `images` (1, C, H, W) and its label (1,)."""
    data = images_of(network.dataset, "test", images, network.classes)
    return data.images[image : image + 1], data.labels[image : image + 1]


def attack_path(network: Network, image: int, *, images: int, steps: int = 10) -> Array:
    """Where BIM walks from test image number `image`, seen on the plane of `slice_of`:
    points (steps + 1, 2), pixel units.

    BIM stays within half the reach and in [0, 1], so it leaves the plane; the points
    are the nearest ones on the plane.
    """
    model = load_network(network)
    one, label = _image(network, image, images)
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


@dataclass(frozen=True)
class Attacked:
    """One image under one `budget` (multiples of epsilon): where psi's ascent moved it
    (C, H, W), the network's `probabilities` (K,) there, and psi (1/nats).
    """

    budget: float
    image: Tensor
    label: int
    probabilities: Array
    psi: float


def attacked_series(
    network: Network,
    image: int,
    *,
    images: int,
    steps: int,
    budgets: Sequence[float] = SERIES_BUDGETS,
) -> list[Attacked]:
    """Test image number `image` pushed as far as psi's ascent can, budget by budget.

    What was found within a smaller ball lies in every larger one, so psi never rises;
    it is infinite at budget 0.
    """
    model = load_network(network)
    one, label = _image(network, image, images)
    points, largest, series = one, 0.0, []
    for budget in sorted(budgets):
        radius = budget * network.epsilon
        found = worst_divergence(
            model,
            one,
            epsilon=radius,
            steps=steps,
            step_size=PSI_STEP * radius,
            restarts=3,
            generator=torch.Generator().manual_seed(image),
        )
        if float(found.kl) > largest:
            points, largest = found.images, float(found.kl)
        probabilities = compute_logits(model, points)[0].double().softmax(0)
        psi = 1 / largest if largest else float("inf")
        series.append(
            Attacked(budget, points[0], int(label), probabilities.numpy(), psi)
        )
    return series


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


def slope_to_boundary(profiles: Array, epsilon: float) -> Array:
    """Mean |dS/d alpha| (N,) from the image to where its line first crosses S = 0, per
    pixel unit: equal fractions of the way; over the whole line where it never does.
    """
    positions = np.linspace(0, REACH * epsilon, profiles.shape[1])
    ends = boundary_distance(profiles, epsilon)
    slopes = np.zeros(len(profiles))
    for row in np.flatnonzero(ends):
        inside = np.append(positions[positions < ends[row]], ends[row])
        heights = np.interp(inside, positions, profiles[row])
        slopes[row] = np.abs(np.diff(heights)).sum() / ends[row]
    return slopes
