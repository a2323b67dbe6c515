"""Everything that is measured on one network: attacks, psi at many settings, distances,
bounds and lines through input space.

Read `Settings` (what is varied), then `evaluate` (one network), then `evaluate_all`
(all of them, side by side).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.measure.bounds import divergence_bound
from robustbook.measure.clever import clever
from robustbook.measure.distance import minimal_distance
from robustbook.measure.divergence import worst_divergence
from robustbook.models.network import compute_logits
from robustbook.perturb.gradient import bim, cross_entropy, fgsm, margin_pgd, pgd
from robustbook.studies.loss_metric.measure.landscape import REACH, line_profiles
from robustbook.studies.loss_metric.networks import Network, images_of, load_network
from robustbook.studies.loss_metric.parameters import Parameters
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
Setting = tuple[str, float]

BUDGETS = (0.5, 1.0, 2.0)
# Linear relaxations of wide networks take seconds an image, and say nothing at the
# largest budget.
BOUND_BUDGETS = (0.5, 1.0)
PSI_STEP = 0.2
OTHER_PSI_STEPS = (0.1, 0.4)
BISECTIONS = 8
CLEVER_BATCHES = 10


@dataclass(frozen=True)
class Settings:
    """The test settings that are varied: names of attacks and of psi, each at every
    budget (in multiples of epsilon).
    """

    steps: int
    strong_steps: int

    @property
    def step_counts(self) -> tuple[int, ...]:
        """Steps of FGSM, BIM, PGD and long PGD; psi is ascended for as many."""
        return tuple(sorted({1, 5, self.steps, self.strong_steps}))

    def attack_name(self, steps: int) -> str:
        """The usual name of the attack with this many steps."""
        return {1: "FGSM", 5: "BIM-5"}.get(steps, f"PGD-{steps}")


@dataclass(frozen=True)
class Evaluation:
    """Per-image measurements of one network; keys name the setting, arrays have one
    entry per image.

    `correct[attack, budget]` and `loss[attack, budget]` are after an attack (budget in
    multiples of epsilon); `kl[name, budget]` is the largest divergence that psi's
    ascent found in nats; `distance` is the smallest L-infinity radius at which PGD
    succeeds (pixel units, 0 where the image itself is misclassified); `bound[method,
    budget]` is a sound upper bound of the divergence for the first images, computed for
    the networks of the first seed alone; `seconds` are wall times of psi and PGD.
    `clean_whole` is correctness on all images of the test split: with few images, many
    networks share one clean accuracy.
    """

    network: Network
    epsilon: float
    clean: Array
    clean_whole: Array = field(default_factory=lambda: np.empty(0))
    correct: dict[Setting, Array] = field(default_factory=dict)
    loss: dict[Setting, Array] = field(default_factory=dict)
    kl: dict[Setting, Array] = field(default_factory=dict)
    kl_by_restarts: dict[int, Array] = field(default_factory=dict)
    strong: Array = field(default_factory=lambda: np.empty(0))
    distance: Array = field(default_factory=lambda: np.empty(0))
    clever: Array = field(default_factory=lambda: np.empty(0))
    bound: dict[Setting, Array] = field(default_factory=dict)
    profiles: dict[str, Array] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def attained(self, budget: float) -> Array:
        """The largest divergence found by any ascent within `budget`, per image."""
        found = [kl for (_, each), kl in self.kl.items() if each <= budget]
        if budget >= 1:
            found.extend(self.kl_by_restarts.values())
        return np.max(found, axis=0)


def test_images(network: Network, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """The evaluation images (N, C, H, W) and labels (N,): the same for every network of
    a data set.
    """
    data = images_of(network.dataset, "test", parameters.images, network.classes)
    return data.images, data.labels


def generator_of(network: Network) -> Generator:
    """Random starts of a network's attacks: they depend on its seed alone, so that
    kinds of networks are compared alike.
    """
    return torch.Generator().manual_seed(1000 + network.seed)


def evaluate_all(networks: list[Network], parameters: Parameters) -> list[Evaluation]:
    """Evaluate networks side by side; results in the order of `networks`."""
    return map_in_workers(
        _evaluate_pair, [(network, parameters) for network in networks]
    )


def _evaluate_pair(pair: tuple[Network, Parameters]) -> Evaluation:
    return evaluate(*pair)


def evaluate(network: Network, parameters: Parameters) -> Evaluation:
    """All measurements of one network."""
    model = load_network(network)
    images, labels = test_images(network, parameters)
    settings = Settings(parameters.steps, parameters.strong_steps)
    epsilon = network.epsilon
    evaluation = Evaluation(
        network,
        epsilon,
        clean=_array(compute_logits(model, images).argmax(1) == labels),
        clean_whole=_correct_on_all(model, network),
        strong=_strong(model, images, labels, network, parameters),
        distance=_distance(model, images, labels, network, parameters),
        clever=_clever(model, images, network, parameters),
        profiles=line_profiles(model, images, labels, epsilon, generator_of(network)),
    )
    # No claim is decided on the second zoo, and none about test settings is looked at
    # there.
    main = network.dataset == parameters.dataset
    for budget in BUDGETS if main else BOUND_BUDGETS:
        for steps in settings.step_counts if main else (settings.steps,):
            radius = budget * epsilon
            attack = settings.attack_name(steps)
            with _timed(evaluation, f"PGD, {steps} steps"):
                adversarial = attack_images(
                    model, images, labels, radius, steps, generator_of(network)
                )
            logits = compute_logits(model, adversarial)
            evaluation.correct[attack, budget] = _array(logits.argmax(1) == labels)
            evaluation.loss[attack, budget] = _array(cross_entropy(logits, labels))
            with _timed(evaluation, f"psi, {steps} steps"):
                evaluation.kl[f"{steps} steps", budget] = divergence(
                    model, images, radius, steps, network
                )
        margin_images = margin_pgd(
            model,
            images,
            labels,
            epsilon=budget * epsilon,
            steps=settings.steps,
            step_size=budget * epsilon / 8,
            generator=generator_of(network),
        )
        evaluation.correct["C&W margin", budget] = _array(
            compute_logits(model, margin_images).argmax(1) == labels
        )
    if network.seed == parameters.first_seed:
        _bounds(evaluation, model, images[: parameters.bound_images])
    for ratio in OTHER_PSI_STEPS if main else ():
        name = f"{settings.steps} steps of {ratio:g}"
        evaluation.kl[name, 1.0] = divergence(
            model, images, epsilon, settings.steps, network, step_ratio=ratio
        )
    for restarts in sorted({1, parameters.restarts}):
        evaluation.kl_by_restarts[restarts] = divergence(
            model, images, epsilon, settings.steps, network, restarts=restarts
        )
    return evaluation


@contextmanager
def _timed(evaluation: Evaluation, work: str) -> Iterator[None]:
    """Note the wall time of the block; the last budget's stays."""
    start = perf_counter()
    yield
    evaluation.seconds[work] = perf_counter() - start


def seconds_per_image(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """Mean wall time per image of psi and PGD over networks, for the record's timing
    section.
    """
    return {
        f"seconds per image: {work}": float(
            np.mean([each.seconds[work] / len(each.clean) for each in evaluations])
        )
        for work in evaluations[0].seconds
    }


def attack_images(
    model: Module,
    images: Tensor,
    labels: Tensor,
    radius: float,
    steps: int,
    generator: Generator,
) -> Tensor:
    """FGSM (1 step), BIM (5) or PGD from a random start (more), each with its customary
    step size.
    """
    if steps == 1:
        return fgsm(model, images, labels, epsilon=radius)
    if steps == 5:
        return bim(
            model, images, labels, epsilon=radius, steps=steps, step_size=radius / 4
        )
    step_size = 2.5 * radius / steps
    return pgd(
        model,
        images,
        labels,
        epsilon=radius,
        steps=steps,
        step_size=step_size,
        generator=generator,
    )


def divergence(
    model: Module,
    images: Tensor,
    radius: float,
    steps: int,
    network: Network,
    *,
    restarts: int = 1,
    step_ratio: float = PSI_STEP,
    normalise: bool = True,
) -> Array:
    """Largest divergence found per image (nats).

    The step is a fixed share of the radius, so that longer runs extend shorter ones.
    """
    found = worst_divergence(
        model,
        images,
        epsilon=radius,
        steps=steps,
        step_size=step_ratio * radius,
        restarts=restarts,
        normalise=normalise,
        generator=generator_of(network),
    )
    return _array(found.kl)


def _correct_on_all(model: Module, network: Network) -> Array:
    """Correctness on every image of the test split: one forward pass each."""
    data = images_of(network.dataset, "test", None, network.classes)
    return _array(compute_logits(model, data.images).argmax(1) == data.labels)


def _strong(
    model: Module,
    images: Tensor,
    labels: Tensor,
    network: Network,
    parameters: Parameters,
) -> Array:
    """Correct after the reference attack: long PGD on the cross-entropy and on the
    margin, each with restarts.
    """
    survivors = torch.ones(len(images), dtype=torch.bool)
    for attack in (pgd, margin_pgd):
        adversarial = attack(
            model,
            images,
            labels,
            epsilon=network.epsilon,
            steps=parameters.strong_steps,
            step_size=2.5 * network.epsilon / parameters.strong_steps,
            restarts=parameters.restarts,
            generator=generator_of(network),
            stop_when_fooled=True,
        )
        survivors &= compute_logits(model, adversarial).argmax(1) == labels
    return _array(survivors)


def _distance(
    model: Module,
    images: Tensor,
    labels: Tensor,
    network: Network,
    parameters: Parameters,
) -> Array:
    found = minimal_distance(
        model,
        images,
        labels,
        epsilon_max=min(1.0, REACH * network.epsilon),
        bisections=BISECTIONS,
        steps=parameters.steps,
        restarts=1,
        generator=generator_of(network),
    )
    return _array(found.radius)


def _clever(
    model: Module, images: Tensor, network: Network, parameters: Parameters
) -> Array:
    generator = generator_of(network)
    radius = REACH * network.epsilon
    scores = [
        clever(
            model,
            image,
            radius=radius,
            batches=CLEVER_BATCHES,
            batch_size=32,
            generator=generator,
        )
        for image in images[: parameters.clever_images]
    ]
    return np.array(scores)


def _bounds(evaluation: Evaluation, model: Module, images: Tensor) -> None:
    for budget in BOUND_BUDGETS:
        for method in ("ibp", "crown"):
            bound = divergence_bound(
                model, images, epsilon=budget * evaluation.epsilon, method=method
            )
            evaluation.bound[method, budget] = _array(bound)


def _array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
