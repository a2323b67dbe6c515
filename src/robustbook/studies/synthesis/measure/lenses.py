"""One network under all measures: attacks, bounds, saliency maps, filters and removal
of units, on the same images.

Read `Subject` (the network as each lens needs it) and `LensMeasurements` (what is kept)
first, then `measure` and the lenses below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weights import WeightSamples
from robustbook.data import ImageSet
from robustbook.measure import similarity
from robustbook.measure.bounds import certified, divergence_bound
from robustbook.measure.divergence import worst_divergence
from robustbook.measure.saliency import occlusion
from robustbook.models.gated import with_gates
from robustbook.models.network import compute_logits
from robustbook.perturb import baselines, pruning
from robustbook.perturb.gradient import fgsm, margin_pgd, pgd
from robustbook.perturb.lowpass import low_pass
from robustbook.perturb.posterior import Predictive, eot_pgd
from robustbook.perturb.square import square_attack
from robustbook.studies.shared import images_of
from robustbook.studies.synthesis.networks import (
    POSTERIOR,
    Network,
    load_point,
    load_posterior,
    taylor_scores,
)
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]

RADII = (0.3, 0.5)
"""Radii at which decisions are certified, as shares of the budget. They were set on one
natural network, before anything was compared: at 0.1 everything is certified, at the
budget itself nothing. The proved end of psi belongs to the larger one.
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
class LensSettings:
    """On how much each lens looks: the parameters of a run of the same names."""

    epsilon: float
    accuracy_images: int
    images: int
    bound_images: int
    map_images: int
    steps: int
    restarts: int
    queries: int
    posterior_samples: int
    bound_samples: int


@dataclass(frozen=True)
class Subject:
    """A network as the lenses see it.

    `model` predicts (log of the predictive mean over `samples` for a posterior),
    `point` is the network whose units are looked at (the posterior mean's), `members`
    are the networks of which something is proved.
    """

    network: Network
    model: Module
    point: nn.Sequential
    members: list[Module]
    posterior: MeanField | None = None
    samples: WeightSamples | None = None


@dataclass
class LensMeasurements:
    """Per-image measurements of one network; arrays have one entry per image unless
    said otherwise.

    `clean`, `filtered` (wavelengths, A) and `curve` (steps, A) are right or wrong (1,
    0) on all accuracy images, `shares` are the shares of units removed along the curve.
    `robust` (right under every attack), `black_box`, `one_step` and `kl` (nats) belong
    to the attacked images at the full budget. On the bound images: `certified` and
    `unmoved`, the shares of radii and members at which no perturbation can move the
    decision, or no attack did; `bound` and `attained` divergence at the larger radius.
    `convergence` says whether a posterior's training lasted long enough, `seconds` is
    the wall time of each lens.
    """

    network: Network
    clean: Array
    robust: Array = field(default_factory=lambda: np.empty(0))
    black_box: Array = field(default_factory=lambda: np.empty(0))
    one_step: Array = field(default_factory=lambda: np.empty(0))
    kl: Array = field(default_factory=lambda: np.empty(0))
    bound: Array = field(default_factory=lambda: np.empty(0))
    attained: Array = field(default_factory=lambda: np.empty(0))
    certified: Array = field(default_factory=lambda: np.empty(0))
    unmoved: Array = field(default_factory=lambda: np.empty(0))
    stability: Array = field(default_factory=lambda: np.empty(0))
    filtered: Array = field(default_factory=lambda: np.empty(0))
    shares: Array = field(default_factory=lambda: np.empty(0))
    curve: Array = field(default_factory=lambda: np.empty(0))
    convergence: Convergence | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def subject(network: Network, settings: LensSettings) -> Subject:
    """The trained network, made ready for the lenses; a posterior's samples are drawn
    once and kept for all of them.
    """
    point = load_point(network)
    if network.kind != POSTERIOR:
        return Subject(network, point, point, [point])
    posterior, count = load_posterior(network), settings.posterior_samples
    samples = posterior.draw(count, generator_of(network))
    model = Predictive(Empirical(samples), count, generator_of(network))
    members: list[Module] = [
        samples.network(row) for row in range(min(settings.bound_samples, len(samples)))
    ]
    return Subject(network, model, point, members, posterior, samples)


def test_images(dataset: str, accuracy_images: int) -> ImageSet:
    """The images of all lenses; those of the dearer ones are its first images, again
    with equal shares of the classes.
    """
    return images_of(dataset, "test", accuracy_images)


def generator_of(network: Network) -> Generator:
    """Random starts depend on the seed alone, so that kinds are compared alike."""
    return torch.Generator().manual_seed(5000 + network.seed)


def measure_all(networks: Sequence[Network], **settings: Any) -> list[LensMeasurements]:
    """Every network under every lens, side by side in workers; `settings` are the
    fields of `LensSettings`.
    """
    chosen = LensSettings(**settings)
    return map_in_workers(_measure_one, [(network, chosen) for network in networks])


def _measure_one(item: tuple[Network, LensSettings]) -> LensMeasurements:
    return measure(*item)


def measure_robustness(
    networks: Sequence[Network], **settings: Any
) -> list[LensMeasurements]:
    """Networks that only compare: clean and robust accuracy and psi alone."""
    chosen = LensSettings(**settings)
    return map_in_workers(_measure_control, [(network, chosen) for network in networks])


def _measure_control(item: tuple[Network, LensSettings]) -> LensMeasurements:
    return measure(*item, full=False)


def seconds_of_lenses(measured: Sequence[LensMeasurements]) -> dict[str, float]:
    """Mean wall time of each lens a network, for the record's timing section."""
    return {
        f"seconds a network: {lens}": float(
            np.mean([each.seconds[lens] for each in measured])
        )
        for lens in measured[0].seconds
    }


def measure(
    network: Network, settings: LensSettings, *, full: bool = True
) -> LensMeasurements:
    """All lenses on one network; those that attack alone unless `full`."""
    seen = subject(network, settings)
    data = test_images(network.dataset, settings.accuracy_images)
    images, labels = data.images[: settings.images], data.labels[: settings.images]
    measured = LensMeasurements(
        network, clean=_right(seen.model, data.images, data.labels)
    )
    _attack(measured, seen, images, labels, settings)
    with _timed(measured, "psi"):
        measured.kl = largest_divergence(seen.model, seen, images, settings)
    if not full:
        return measured
    if seen.posterior is not None:
        plain, prior_sd = network.plain, network.prior_sd
        measured.convergence = diagnose(
            seen.posterior, plain.images, plain.labels, prior_sd=prior_sd
        )
    with _timed(measured, "bounds"):
        prove(measured, seen, images[: settings.bound_images], settings)
    with _timed(measured, "saliency stability"):
        measured.stability = stability(seen.model, images[: settings.map_images])
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
        measured.shares, measured.curve = removal_curve(seen.point, data, network.plain)
    return measured


@contextmanager
def _timed(measured: LensMeasurements, lens: str) -> Iterator[None]:
    start = perf_counter()
    yield
    measured.seconds[lens] = perf_counter() - start


# Attacks
# --------------------------------------------------------------------------------------


def _attack(
    measured: LensMeasurements,
    seen: Subject,
    images: Tensor,
    labels: Tensor,
    settings: LensSettings,
) -> None:
    """Fill in which images are still right: under one step, under random squares that
    need no gradient, and under both kinds of attack together.
    """
    model, epsilon = seen.model, settings.epsilon
    with _timed(measured, "one step"):
        end = fgsm(model, images, labels, epsilon=epsilon)
        measured.one_step = _right(model, end, labels)
    with _timed(measured, "Square attack"):
        end = square_attack(
            model,
            images,
            labels,
            epsilon=epsilon,
            queries=settings.queries,
            generator=generator_of(seen.network),
        )
        measured.black_box = _right(model, end, labels)
    with _timed(measured, "gradient attacks"):
        ends = attacked(seen, images, labels, settings)
        right = [_right(model, each, labels) for each in ends]
        measured.robust = np.min([*right, measured.black_box], axis=0)


def attacked(
    seen: Subject, images: Tensor, labels: Tensor, settings: LensSettings
) -> list[Tensor]:
    """Attacked images (N, C, H, W) at the budget, one stack an attack: PGD on the
    cross-entropy and on the margin.

    A posterior's cross-entropy is averaged over fresh weight samples at every step
    (EOT-PGD), which also starts once from where the margin attack on its fixed samples
    ended.
    """
    chosen: dict[str, Any] = {
        "epsilon": settings.epsilon,
        "steps": settings.steps,
        "step_size": 2.5 * settings.epsilon / settings.steps,
        "restarts": settings.restarts,
        "generator": generator_of(seen.network),
    }
    ends = margin_pgd(seen.model, images, labels, **chosen)
    if seen.posterior is None:
        return [pgd(seen.model, images, labels, **chosen), ends]
    samples = settings.posterior_samples
    averaged = eot_pgd(
        seen.posterior, images, labels, samples=samples, starts=(ends,), **chosen
    )
    return [averaged, ends]


def largest_divergence(
    model: Module,
    seen: Subject,
    images: Tensor,
    settings: LensSettings,
    share: float = 1.0,
) -> Array:
    """The largest divergence (nats) of `model`'s prediction that the ascent of psi
    finds within a share of the budget.
    """
    radius = share * settings.epsilon
    found = worst_divergence(
        model,
        images,
        epsilon=radius,
        steps=settings.steps,
        step_size=PSI_STEP * radius,
        restarts=settings.restarts,
        generator=generator_of(seen.network),
    )
    return _array(found.kl)


# Bounds
# --------------------------------------------------------------------------------------


def prove(
    measured: LensMeasurements, seen: Subject, images: Tensor, settings: LensSettings
) -> None:
    """Fill in what bounds prove, and what attacks at the same radii reach, as means
    over the members of a posterior.
    """
    pairs = [
        _decisions(member, images, share * settings.epsilon, seen.network, settings)
        for member in seen.members
        for share in RADII
    ]
    measured.certified, measured.unmoved = np.mean(pairs, axis=0)
    radius = RADII[-1] * settings.epsilon
    bounds = [
        _array(divergence_bound(member, images, epsilon=radius))
        for member in seen.members
    ]
    reached = [
        largest_divergence(member, seen, images, settings, RADII[-1])
        for member in seen.members
    ]
    measured.bound, measured.attained = np.mean(bounds, axis=0), np.mean(reached, 0)


def _decisions(
    member: Module,
    images: Tensor,
    radius: float,
    network: Network,
    settings: LensSettings,
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
        steps=settings.steps,
        step_size=2.5 * radius / settings.steps,
        generator=generator_of(network),
        stop_when_fooled=True,
    )
    return _array(proved), _right(member, ends, decisions)


# Maps, filters, units
# --------------------------------------------------------------------------------------


def stability(model: Module, images: Tensor) -> Array:
    """Mean Spearman correlation (N,) over all pairs of five baselines of the occlusion
    maps of the predicted class.
    """
    side = images.shape[-1]
    window, stride = max(2, side // 4), max(1, side // 14)
    targets = compute_logits(model, images).argmax(1)
    generator = torch.Generator().manual_seed(0)
    maps = []
    for name in BASELINES:
        cover = baselines.make(name, images, images, generator=generator)
        shown = occlusion(model, images, targets, cover, window=window, stride=stride)
        maps.append(shown)
    pairs = [similarity.spearman(*pair) for pair in combinations(maps, 2)]
    return _array(torch.stack(pairs).mean(0))


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


def prunable_share(shares: Array, accuracy: Array, *, loss: float) -> Array:
    """The largest of `shares` (steps,) up to which `accuracy` (..., steps) never fell
    by more than `loss`: (...).
    """
    kept = accuracy[..., :1] - accuracy <= loss + 1e-9
    steps = np.cumprod(kept, axis=-1).sum(axis=-1)
    return np.asarray(shares)[steps - 1]


def _right(model: Module, images: Tensor, labels: Tensor) -> Array:
    return _array(compute_logits(model, images).argmax(1) == labels)


def _array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
