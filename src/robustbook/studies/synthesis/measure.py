"""One network under all measures: attacks, bounds, saliency maps, filters and removal
of units, on the same images.

Read `Subject` (the network as each lens needs it) and `Measured` (what is kept) first,
then `measure` and the lenses below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook.bayes.mean_field import Convergence, MeanField, diagnose
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weights import WeightSamples
from robustbook.data import ImageSet
from robustbook.measure import similarity
from robustbook.measure.bounds import certified, divergence_bound
from robustbook.measure.divergence import worst_divergence
from robustbook.measure.saliency import occlusion
from robustbook.measure.uncertainty import mutual_information
from robustbook.models.gated import with_gates
from robustbook.models.network import compute_logits
from robustbook.perturb import baselines, pruning
from robustbook.perturb.gradient import margin_pgd, pgd
from robustbook.perturb.lowpass import low_pass
from robustbook.perturb.posterior import Predictive, eot_pgd
from robustbook.studies.shared import images_of
from robustbook.studies.synthesis.claims import ACCURACY_KEPT
from robustbook.studies.synthesis.networks import (
    POSTERIOR,
    TUNED,
    Network,
    load_point,
    load_posterior,
    networks,
    taylor_scores,
    train_set,
)
from robustbook.studies.synthesis.parameters import Parameters
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]

RADII = (0.3, 0.5)
"""Radii at which decisions are certified, as shares of the budget. They were set on one
natural network, before anything was compared: at 0.1 everything is certified, at the
budget itself nothing. The sound end of psi as a lens belongs to the larger one.
"""
BASELINES = ("black", "grey", "white", "image mean", "blur 5")
WAVELENGTHS = (1 / 4, 1 / 2, 3 / 4, 1.0)
"""Cut-off wavelengths of the low-pass filter as shares of the image's side: 7, 14, 21
and 28 pixels of 28. They were widened once, after a quick run in which half of them
cost digits 2 points and two seeds agreed on the loss with rho 0.3.
"""
CURVE_STEPS = 20
"""Steps from no unit to every unit that can go."""
PSI_STEP = 0.2


@dataclass(frozen=True)
class Subject:
    """A network as the lenses see it.

    `model` predicts (log of the predictive mean over `samples` for a posterior),
    `point` is the network whose psi and units are looked at (the posterior mean's),
    `members` are the networks whose decisions are certified.
    """

    network: Network
    model: Module
    point: nn.Sequential
    members: list[Module]
    posterior: MeanField | None = None
    samples: WeightSamples | None = None


@dataclass
class Measured:
    """Per-image measurements of one network; arrays have one entry per image unless
    said otherwise.

    `clean`, `filtered` (wavelengths, A) and `curve` (steps, A) are right or wrong (1,
    0) on all accuracy images, `shares` are the shares of units removed along the curve.
    `robust` and `kl` (nats) belong to the attacked images at the full budget. By radius
    (in budgets), on the bound images: `bound` of the divergence, `attained` divergence,
    `certified` and `unmoved`, the shares of members whose decision no perturbation can
    move, or no attack did. `alarm` holds mutual information on clean and on attacked
    images of a posterior, `convergence` says whether its training lasted long enough,
    `seconds` is the wall time of each lens.
    """

    network: Network
    clean: Array
    robust: Array = field(default_factory=lambda: np.empty(0))
    kl: Array = field(default_factory=lambda: np.empty(0))
    bound: dict[float, Array] = field(default_factory=dict)
    attained: dict[float, Array] = field(default_factory=dict)
    certified: dict[float, Array] = field(default_factory=dict)
    unmoved: dict[float, Array] = field(default_factory=dict)
    stability: Array = field(default_factory=lambda: np.empty(0))
    filtered: Array = field(default_factory=lambda: np.empty(0))
    shares: Array = field(default_factory=lambda: np.empty(0))
    curve: Array = field(default_factory=lambda: np.empty(0))
    alarm: tuple[Array, Array] | None = None
    convergence: Convergence | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def subject(network: Network, parameters: Parameters) -> Subject:
    """The trained network, made ready for the lenses; a posterior's samples are drawn
    once and kept for all of them.
    """
    point = load_point(network, parameters)
    if network.kind != POSTERIOR:
        return Subject(network, point, point, [point])
    posterior = load_posterior(network, parameters)
    samples = posterior.draw(parameters.posterior_samples, generator_of(network))
    model = Predictive(
        Empirical(samples), parameters.posterior_samples, generator_of(network)
    )
    members = [
        samples.network(row)
        for row in range(min(parameters.bound_samples, len(samples)))
    ]
    return Subject(network, model, point, members, posterior, samples)


def test_images(parameters: Parameters) -> ImageSet:
    """The images of all lenses; those of the dearer ones are its first images, again
    with equal shares of the classes.
    """
    return images_of(parameters.dataset, "test", parameters.accuracy_images)


def generator_of(network: Network) -> Generator:
    """Random starts depend on the seed alone, so that kinds are compared alike."""
    return torch.Generator().manual_seed(5000 + network.seed)


def measure_all(networks: list[Network], parameters: Parameters) -> list[Measured]:
    """Measure networks side by side; results in the order of `networks`."""
    return map_in_workers(_measure_one, [(network, parameters) for network in networks])


def _measure_one(item: tuple[Network, Parameters]) -> Measured:
    return measure(*item)


def measure_controls(parameters: Parameters) -> list[Measured]:
    """Clean accuracy and psi alone of the networks that were tuned without pruning,
    which are not part of the zoo.
    """
    found = networks(parameters, tuple(TUNED.values()))
    return map_in_workers(
        _measure_control, [(network, parameters) for network in found]
    )


def _measure_control(item: tuple[Network, Parameters]) -> Measured:
    network, parameters = item
    seen, data = subject(network, parameters), test_images(parameters)
    measured = Measured(network, clean=_right(seen.model, data.images, data.labels))
    measured.kl = largest_divergence(
        seen, data.images[: parameters.images], parameters.epsilon, parameters
    )
    return measured


def seconds_of_lenses(measured: list[Measured]) -> dict[str, float]:
    """Mean wall time of each lens a network, for the record's timing section."""
    return {
        f"seconds a network: {lens}": float(
            np.mean([each.seconds[lens] for each in measured])
        )
        for lens in measured[0].seconds
    }


def measure(network: Network, parameters: Parameters) -> Measured:
    """All lenses on one network."""
    seen, data = subject(network, parameters), test_images(parameters)
    images, labels = data.images[: parameters.images], data.labels[: parameters.images]
    measured = Measured(network, clean=_right(seen.model, data.images, data.labels))
    with _timed(measured, "robust accuracy"):
        ends = attacked(seen, images, labels, parameters)
        measured.robust = np.min(
            [_right(seen.model, each, labels) for each in ends], axis=0
        )
    if seen.samples is not None:
        scores = [
            mutual_information(sampled_probabilities(seen.samples, each))
            for each in (images, ends[0])
        ]
        measured.alarm = (_array(scores[0]), _array(scores[1]))
    if seen.posterior is not None:
        training = train_set(parameters)
        measured.convergence = diagnose(
            seen.posterior,
            training.images,
            training.labels,
            prior_sd=parameters.prior_sd,
        )
    with _timed(measured, "psi"):
        measured.kl = largest_divergence(seen, images, parameters.epsilon, parameters)
    with _timed(measured, "bounds"):
        bound_lens(measured, seen, images[: parameters.bound_images], parameters)
    with _timed(measured, "saliency stability"):
        measured.stability = stability(seen.model, images[: parameters.map_images])
    with _timed(measured, "low-pass loss"):
        side = data.images.shape[-1]
        passed = [
            low_pass(data.images, share * side, pitch=1.0).clamp(0, 1)
            for share in WAVELENGTHS
        ]
        measured.filtered = np.stack(
            [_right(seen.model, each, data.labels) for each in passed]
        )
    with _timed(measured, "prunable share"):
        measured.shares, measured.curve = removal_curve(
            seen.point, data, train_set(parameters)
        )
    return measured


@contextmanager
def _timed(measured: Measured, lens: str) -> Iterator[None]:
    start = perf_counter()
    yield
    measured.seconds[lens] = perf_counter() - start


# Lenses 1 and 2: attacks
# --------------------------------------------------------------------------------------


def attacked(
    seen: Subject, images: Tensor, labels: Tensor, parameters: Parameters
) -> list[Tensor]:
    """Attacked images (N, C, H, W) at the budget, one stack an attack: PGD on the
    cross-entropy and on the margin.

    A posterior's cross-entropy is averaged over fresh weight samples at every step
    (EOT-PGD), which also starts once from where the margin attack on its fixed samples
    ended.
    """
    settings: dict[str, Any] = {
        "epsilon": parameters.epsilon,
        "steps": parameters.steps,
        "step_size": 2.5 * parameters.epsilon / parameters.steps,
        "restarts": parameters.restarts,
        "generator": generator_of(seen.network),
    }
    ends = margin_pgd(seen.model, images, labels, **settings)
    if seen.posterior is None:
        return [pgd(seen.model, images, labels, **settings), ends]
    averaged = eot_pgd(
        seen.posterior,
        images,
        labels,
        samples=parameters.posterior_samples,
        starts=(ends,),
        **settings,
    )
    return [averaged, ends]


def largest_divergence(
    seen: Subject, images: Tensor, radius: float, parameters: Parameters
) -> Array:
    """The largest divergence (nats) that the ascent of psi finds, of the network at the
    posterior mean if there is one.
    """
    found = worst_divergence(
        seen.point,
        images,
        epsilon=radius,
        steps=parameters.steps,
        step_size=PSI_STEP * radius,
        restarts=parameters.restarts,
        generator=generator_of(seen.network),
    )
    return _array(found.kl)


# Lens 3: bounds
# --------------------------------------------------------------------------------------


def bound_lens(
    measured: Measured, seen: Subject, images: Tensor, parameters: Parameters
) -> None:
    """Fill in what bounds prove, and what attacks reach, at the certified radii and
    (for the divergence) the full budget.
    """
    for share in RADII:
        radius = share * parameters.epsilon
        pairs = [
            _member(member, images, radius, seen.network, parameters)
            for member in seen.members
        ]
        measured.certified[share], measured.unmoved[share] = np.mean(pairs, axis=0)
    # At the budget itself the bounds are loose and dear, and no lens: one seed shows
    # it.
    for share in (
        (RADII[-1], 1.0) if seen.network.seed == parameters.first_seed else RADII[-1:]
    ):
        radius = share * parameters.epsilon
        measured.bound[share] = _array(
            divergence_bound(seen.point, images, epsilon=radius)
        )
        measured.attained[share] = largest_divergence(seen, images, radius, parameters)


def _member(
    member: Module,
    images: Tensor,
    radius: float,
    network: Network,
    parameters: Parameters,
) -> tuple[Array, Array]:
    """Of each image, whether bounds prove that the member's own decision stays, and
    whether it stays under PGD.
    """
    decisions = compute_logits(member, images).argmax(1)
    proved = certified(member, images, decisions, epsilon=radius)
    ends = margin_pgd(
        member,
        images,
        decisions,
        epsilon=radius,
        steps=parameters.steps,
        step_size=2.5 * radius / parameters.steps,
        generator=generator_of(network),
        stop_when_fooled=True,
    )
    return _array(proved), _right(member, ends, decisions)


# Lenses 4 to 6: maps, filters, units
# -----------------------------------------------------------------------------------


def stability(model: Module, images: Tensor) -> Array:
    """Mean Spearman correlation (N,) over all pairs of five baselines of the occlusion
    maps of the predicted class.
    """
    side = images.shape[-1]
    window, stride = max(2, side // 4), max(1, side // 14)
    targets = compute_logits(model, images).argmax(1)
    generator = torch.Generator().manual_seed(0)
    maps = [
        occlusion(
            model,
            images,
            targets,
            baselines.make(name, images, images, generator=generator),
            window=window,
            stride=stride,
        )
        for name in BASELINES
    ]
    return _array(
        torch.stack(
            [similarity.spearman(*pair) for pair in combinations(maps, 2)]
        ).mean(0)
    )


def removal_curve(
    network: nn.Sequential, data: ImageSet, training: ImageSet
) -> tuple[Array, Array]:
    """Shares of units removed (steps,) and which images are right then (steps, N),
    units of low Taylor importance first.

    Scores come from training images, once; nothing is tuned in between.
    """
    model, scores = with_gates(network), taylor_scores(network, training)
    most = model.units - len(model.groups)
    counts = np.unique(np.linspace(0, most, CURVE_STEPS + 1).round().astype(int))
    rows = []
    for count in counts.tolist():
        alive = pruning.lowest(model, scores, count, pruning.all_alive(model))
        with pruning.masked(model, alive):
            rows.append(_right(model, data.images, data.labels))
    return counts / model.units, np.stack(rows)


def prunable_share(shares: Array, accuracy: Array) -> Array:
    """The largest of `shares` (steps,) up to which `accuracy` (..., steps) never fell
    by more than 2 points: (...).
    """
    kept = accuracy[..., :1] - accuracy <= ACCURACY_KEPT + 1e-9
    steps = np.cumprod(kept, axis=-1).sum(axis=-1)
    return np.asarray(shares)[steps - 1]


def _right(model: Module, images: Tensor, labels: Tensor) -> Array:
    return _array(compute_logits(model, images).argmax(1) == labels)


def _array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
