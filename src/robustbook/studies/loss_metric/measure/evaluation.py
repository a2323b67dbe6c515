"""Everything that is measured on one network: attacks, psi at many settings, distances,
bounds and lines through input space.

Read `Settings` (what is varied), then `evaluate` (one network), then `evaluate_all`
(all of them, side by side).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.measure.bounds import divergence_bound
from robustbook.measure.clever import clever
from robustbook.measure.distance import minimal_distance
from robustbook.measure.divergence import (
    Direction,
    divergence_from,
    log_prediction,
    worst_divergence,
)
from robustbook.measure.tight_divergence import tight_divergence_bound
from robustbook.models.network import compute_logits, count_passes
from robustbook.perturb.apgd import apgd
from robustbook.perturb.auto_attack import auto_attack
from robustbook.perturb.gradient import bim, cross_entropy, fgsm, margin_pgd, pgd
from robustbook.studies.loss_metric.claims import MANY_STARTS
from robustbook.studies.loss_metric.measure.landscape import (
    PSI_STEP,
    REACH,
    line_profiles,
    random_direction,
)
from robustbook.studies.loss_metric.networks import Network, images_of, load_network
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
Setting = tuple[str, float]

# At twice epsilon natural networks have no robust accuracy left, and their ranks are
# ties.
BUDGETS = (0.5, 0.7, 1.0)
BOUND_BUDGETS = (0.5, 1.0)
TIGHT = {"steps": 8, "units": 200, "looks": 150, "cuts": 8}
OTHER_PSI_STEPS = (0.1, 0.4)
BISECTIONS = 8
CLEVER_BATCHES, CLEVER_BATCH_SIZE = 10, 32
# Cheaper settings of what psi would replace: bisections and steps, batches and their
# size, steps and queries.
CHEAP_DISTANCES = ((2, 1), (4, 5))
CHEAP_CLEVERS = ((1, 1), (3, 8))
CHEAP_STRONG = ((1, 1), (5, 10))


@dataclass(frozen=True)
class Reading:
    """One reading of the paper's words: from which prediction the divergence is taken,
    and whether logits are normalised.
    """

    direction: Direction
    normalise: bool

    @property
    def factors(self) -> dict[str, Any]:
        """The factors that name it in a metric row."""
        logits = "normalised" if self.normalise else "plain"
        return {"direction": self.direction, "logits": logits}


JUDGED = Reading("forward", True)
READINGS = (
    JUDGED,
    Reading("forward", False),
    Reading("reverse", True),
    Reading("reverse", False),
)


@dataclass(frozen=True)
class Settings:
    """What a network is measured with; `full` adds what the second zoo goes without:
    test settings, readings and harder searches.
    """

    images: int
    bound_images: int
    clever_images: int
    steps: int
    restarts: int
    strong_steps: int
    queries: int
    first_seed: int
    full: bool = True

    @property
    def step_counts(self) -> tuple[int, ...]:
        """Steps of FGSM, BIM, PGD and long PGD; psi is ascended for as many."""
        return tuple(sorted({1, 5, self.steps, self.strong_steps}))

    @property
    def shared_counts(self) -> tuple[int, ...]:
        """Steps at which all readings of psi are compared: all but the longest."""
        return tuple(count for count in self.step_counts if count <= self.steps)


def attack_name(steps: int) -> str:
    """The usual name of the attack with this many steps."""
    return {1: "FGSM", 5: "BIM-5"}.get(steps, f"PGD-{steps}")


@dataclass(frozen=True)
class Measurements:
    """Per-image measurements of one network; keys name the setting, arrays have one
    entry per image.

    `correct[attack, budget]` and `loss[attack, budget]` are after an attack (budget in
    multiples of epsilon); `kl[steps, budget]` is the largest divergence that psi's
    ascent found in nats, `readings[reading, steps, budget]` that of the other readings,
    `searches[name]` that of other searches at epsilon; `distance` is the smallest
    L-infinity radius at which PGD succeeds (pixel units, 0 where the image itself is
    misclassified); `bound[method, budget]` is a sound upper bound of the divergence for
    the first images, computed for the networks of the first seed alone; `passes` are
    those that a measure took an image, `seconds` wall times of psi and PGD;
    `cheaper[measure]` has (number of the network, passes an image) at cheaper settings.
    `clean_whole` is correctness on all images of the test split: with few images, many
    networks share one clean accuracy.
    """

    network: Network
    settings: Settings
    clean: Array
    clean_whole: Array
    strong: Array
    distance: Array
    clever: Array
    profiles: dict[str, Array]
    passes: dict[str, float]
    correct: dict[Setting, Array] = field(default_factory=dict)
    loss: dict[Setting, Array] = field(default_factory=dict)
    kl: dict[tuple[int, float], Array] = field(default_factory=dict)
    readings: dict[tuple[Reading, int, float], Array] = field(default_factory=dict)
    searches: dict[str, Array] = field(default_factory=dict)
    bound: dict[Setting, Array] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cheaper: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def epsilon(self) -> float:
        """The budget, pixel units."""
        return self.network.epsilon

    def usual(self, budget: float = 1.0) -> Array:
        """The largest divergence that the usual ascent found, per image."""
        return self.kl[self.settings.steps, budget]

    def attained(self, budget: float) -> Array:
        """The largest divergence found by any ascent within `budget`, per image."""
        found = [kl for (_, each), kl in self.kl.items() if each <= budget]
        if budget >= 1:
            found.extend(self.searches.values())
        return np.max(found, axis=0)


def test_images(network: Network, images: int) -> tuple[Tensor, Tensor]:
    """The evaluation images (N, C, H, W) and labels (N,): the same for every network of
    a data set.
    """
    data = images_of(network.dataset, "test", images, network.classes)
    return data.images, data.labels


def generator_of(network: Network) -> Generator:
    """Random numbers of a network; the same for every measurement, so that longer
    searches extend shorter ones.
    """
    return torch.Generator().manual_seed(1000 + network.seed)


def evaluate_all(networks: Sequence[Network], **settings: Any) -> list[Measurements]:
    """Evaluate networks side by side with the fields of `Settings`; results in the
    order of `networks`.
    """
    return map_in_workers(partial(evaluate, settings=Settings(**settings)), networks)


def evaluate_lines(networks: Sequence[Network], **settings: Any) -> list[Measurements]:
    """What claim Y2 asks alone, for more networks: clean answers, minimal distances and
    lines.
    """
    return map_in_workers(partial(_lines, settings=Settings(**settings)), networks)


def _lines(network: Network, settings: Settings) -> Measurements:
    model, none = load_network(network), np.empty(0)
    images, labels = test_images(network, settings.images)
    return Measurements(
        network,
        settings,
        clean=_array(compute_logits(model, images).argmax(1) == labels),
        clean_whole=none,
        strong=none,
        distance=_distance(model, images, labels, network, settings, {}),
        clever=none,
        profiles=line_profiles(
            model, images, labels, network.epsilon, generator_of(network)
        ),
        passes={},
    )


def evaluate(network: Network, settings: Settings) -> Measurements:
    """All measurements of one network."""
    model = load_network(network)
    images, labels = test_images(network, settings.images)
    passes: dict[str, float] = {}
    evaluation = Measurements(
        network,
        settings,
        clean=_array(compute_logits(model, images).argmax(1) == labels),
        clean_whole=_correct_on_all(model, network),
        strong=_strong(model, images, labels, network, settings, passes),
        distance=_distance(model, images, labels, network, settings, passes),
        clever=_clever(model, images, network, settings, passes),
        profiles=line_profiles(
            model, images, labels, network.epsilon, generator_of(network)
        ),
        passes=passes,
    )
    for budget in BUDGETS if settings.full else BOUND_BUDGETS:
        for steps in settings.step_counts if settings.full else (settings.steps,):
            _attack(evaluation, model, images, labels, steps, budget)
    if network.seed == settings.first_seed:
        _bounds(evaluation, model, images[: settings.bound_images])
    if settings.full:
        margin_images = margin_pgd(
            model,
            images,
            labels,
            epsilon=network.epsilon,
            steps=settings.steps,
            step_size=network.epsilon / 8,
            generator=generator_of(network),
        )
        evaluation.correct["C&W margin", 1.0] = _array(
            compute_logits(model, margin_images).argmax(1) == labels
        )
        _other_readings(evaluation, model, images)
        _other_searches(evaluation, model, images)
        _cheaper_rivals(evaluation, model, images, labels)
    return evaluation


def _cheaper_rivals(
    evaluation: Measurements, model: Module, images: Tensor, labels: Tensor
) -> None:
    """Rivals of psi at cheaper settings than their usual ones, cheapest first."""
    network, settings = evaluation.network, evaluation.settings
    for steps, queries in CHEAP_STRONG:
        passes: dict[str, float] = {}
        values = _strong(
            model, images, labels, network, settings, passes, steps, queries
        )
        _cheaper(evaluation, passes, values)
    for bisections, steps in CHEAP_DISTANCES:
        passes = {}
        values = _distance(
            model, images, labels, network, settings, passes, bisections, steps
        )
        _cheaper(evaluation, passes, values)
    for batches, batch_size in CHEAP_CLEVERS:
        passes = {}
        values = _clever(model, images, network, settings, passes, batches, batch_size)
        _cheaper(evaluation, passes, values)


def _cheaper(evaluation: Measurements, passes: dict[str, float], values: Array) -> None:
    ((name, cost),) = passes.items()
    evaluation.cheaper.setdefault(name, []).append((float(values.mean()), cost))


def _attack(
    evaluation: Measurements,
    model: Module,
    images: Tensor,
    labels: Tensor,
    steps: int,
    budget: float,
) -> None:
    """Accuracy and loss under one attack, and psi by an ascent of as many steps."""
    network = evaluation.network
    radius, attack = budget * network.epsilon, attack_name(steps)
    with _timed(evaluation, f"PGD, {steps} steps"):
        adversarial = attack_images(
            model, images, labels, radius, steps, generator_of(network)
        )
    logits = compute_logits(model, adversarial)
    evaluation.correct[attack, budget] = _array(logits.argmax(1) == labels)
    evaluation.loss[attack, budget] = _array(cross_entropy(logits, labels))
    with _timed(evaluation, f"psi, {steps} steps"):
        evaluation.kl[steps, budget] = divergence(model, images, radius, steps, network)


def _other_readings(evaluation: Measurements, model: Module, images: Tensor) -> None:
    """The divergence of the readings that are not judged, at all settings but the
    longest ones.
    """
    counts = evaluation.settings.shared_counts
    for reading, steps, budget in product(READINGS, counts, BUDGETS):
        evaluation.readings[reading, steps, budget] = (
            evaluation.kl[steps, budget]
            if reading == JUDGED
            else divergence(
                model,
                images,
                budget * evaluation.epsilon,
                steps,
                evaluation.network,
                reading=reading,
            )
        )


def _other_searches(evaluation: Measurements, model: Module, images: Tensor) -> None:
    """The divergence at epsilon by searches that share steps or starts with the usual
    one, or neither.
    """
    network, settings = evaluation.network, evaluation.settings
    for ratio in OTHER_PSI_STEPS:
        evaluation.searches[f"steps of {ratio:g} radius"] = divergence(
            model, images, network.epsilon, settings.steps, network, step_ratio=ratio
        )
    corners = images + network.epsilon * random_direction(images, generator_of(network))
    evaluation.searches.update(
        {
            "more steps": evaluation.kl[max(settings.step_counts), 1.0],
            "more starts": divergence(
                model,
                images,
                network.epsilon,
                settings.steps,
                network,
                restarts=settings.restarts,
            ),
            "many starts": divergence(
                model,
                images,
                network.epsilon,
                settings.steps,
                network,
                restarts=MANY_STARTS,
            ),
            "adaptive steps": adaptive_divergence(
                model, images, network, settings.strong_steps
            ),
            "adaptive steps, many starts": np.max(
                [
                    adaptive_divergence(
                        model, images, network, settings.steps, draw=1 + start
                    )
                    for start in range(MANY_STARTS)
                ],
                axis=0,
            ),
            "corner starts": adaptive_divergence(
                model, images, network, settings.strong_steps, starts=corners
            ),
        }
    )


def adaptive_divergence(
    model: Module,
    images: Tensor,
    network: Network,
    steps: int,
    starts: Tensor | None = None,
    draw: int = 0,
) -> Array:
    """Largest divergence at epsilon found per image (nats) by Auto-PGD, which sets its
    step sizes itself; from `starts`, else from a uniform point, another for every
    `draw`.
    """
    logits = compute_logits(model, images)
    clean, objective = log_prediction(logits), divergence_from()
    found = apgd(
        model,
        images,
        logits.argmax(1),
        epsilon=network.epsilon,
        steps=steps,
        generator=torch.Generator().manual_seed(1000 * (1 + draw) + network.seed),
        objective=objective,
        targets=clean,
        starts=starts,
        stop_when_fooled=False,
    )
    return _array(objective(compute_logits(model, found), clean))


@contextmanager
def _timed(evaluation: Measurements, work: str) -> Iterator[None]:
    """Note the wall time of the block; the last budget's stays."""
    start = perf_counter()
    yield
    evaluation.seconds[work] = perf_counter() - start


def seconds_per_image(evaluations: Sequence[Measurements]) -> dict[str, float]:
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
    reading: Reading = JUDGED,
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
        normalise=reading.normalise,
        direction=reading.direction,
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
    settings: Settings,
    passes: dict[str, float],
    steps: int | None = None,
    queries: int | None = None,
) -> Array:
    """Correct after Auto-PGD on two losses and Square Attack."""
    with count_passes(model) as counter:
        adversarial = auto_attack(
            model,
            images,
            labels,
            epsilon=network.epsilon,
            steps=steps or settings.strong_steps,
            queries=queries or settings.queries,
            generator=generator_of(network),
        )
    passes["strong robust accuracy"] = counter.passes.total / len(images)
    return _array(compute_logits(model, adversarial).argmax(1) == labels)


def _distance(
    model: Module,
    images: Tensor,
    labels: Tensor,
    network: Network,
    settings: Settings,
    passes: dict[str, float],
    bisections: int = BISECTIONS,
    steps: int | None = None,
) -> Array:
    with count_passes(model) as counter:
        found = minimal_distance(
            model,
            images,
            labels,
            epsilon_max=min(1.0, REACH * network.epsilon),
            bisections=bisections,
            steps=steps or settings.steps,
            generator=generator_of(network),
        )
    passes["minimal distance"] = counter.passes.total / len(images)
    return _array(found.radius)


def _clever(
    model: Module,
    images: Tensor,
    network: Network,
    settings: Settings,
    passes: dict[str, float],
    batches: int = CLEVER_BATCHES,
    batch_size: int = CLEVER_BATCH_SIZE,
) -> Array:
    """CLEVER's scores; each point costs a forward pass and one backward pass for every
    other class.
    """
    generator = generator_of(network)
    points = batches * batch_size
    classes = compute_logits(model, images[:1]).shape[1]
    passes["CLEVER"] = 1 + points * classes
    scores = [
        clever(
            model,
            image,
            radius=REACH * network.epsilon,
            batches=batches,
            batch_size=batch_size,
            generator=generator,
        )
        for image in images[: settings.clever_images]
    ]
    return np.array(scores)


def _bounds(evaluation: Measurements, model: Module, images: Tensor) -> None:
    for budget in BOUND_BUDGETS:
        for method in ("ibp", "crown"):
            bound = divergence_bound(
                model, images, epsilon=budget * evaluation.epsilon, method=method
            )
            evaluation.bound[method, budget] = _array(bound)
    if evaluation.settings.full:
        tight = tight_divergence_bound(
            model, images, epsilon=evaluation.epsilon, **TIGHT
        )
        evaluation.bound["tight", 1.0] = _array(tight)


def _array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()
