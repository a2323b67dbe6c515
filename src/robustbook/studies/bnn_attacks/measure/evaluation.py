"""One network or posterior measured: clean, under interference, and under attacks
crafted in every way.

Read `Measured` (what comes out) first, then `evaluate` and `transferred`, then the
parts of `evaluate` in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook.bayes.mean_field import Convergence
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Posterior
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.uncertainty import relative_spread, uncertainty
from robustbook.perturb.carlini_wagner import carlini_wagner
from robustbook.perturb.gradient import bim, fgsm, margin_pgd, pgd
from robustbook.perturb.interference import KINDS as INTERFERENCES
from robustbook.perturb.interference import SEVERITIES, interfere
from robustbook.perturb.momentum import l2_pgd, momentum
from robustbook.perturb.posterior import (
    CHUNK,
    Predictive,
    eot_pgd,
    uncertainty_aware,
    weight_samples,
)
from robustbook.studies.bnn_attacks.claims import BNN, CNN
from robustbook.studies.bnn_attacks.measure.quiet import alarm_weight
from robustbook.studies.bnn_attacks.networks import (
    POSTERIORS,
    VARIATIONAL,
    Setting,
    convergence,
    fit,
)
from robustbook.studies.bnn_attacks.parameters import Parameters
from robustbook.studies.shared import images_of
from robustbook.workers import map_in_workers

Array = npt.NDArray[np.float64]


class Search(TypedDict):
    """What the search of Carlini and Wagner is told."""

    steps: int
    searches: int
    learning_rate: float
    first_constant: float
    confidence: float


BUDGETS = (0.25, 0.5, 1.0)
"""Budgets as shares of epsilon; claims are decided on the mean over them."""
LARGE = 4.0
"""The share of epsilon at which a white-box attack must leave nothing, unless gradients
are masked.
"""
GRADIENT_SAMPLES = (1, 2, 5, 10, 20)
L2_SHARE = 0.3
"""Radius of the L2 ball over the length of the L-infinity ball's corner."""
CARLINI_WAGNER: Search = {
    "steps": 20,
    "searches": 2,
    "learning_rate": 0.2,
    "first_constant": 10.0,
    "confidence": 1.0,
}
"""C&W L2, transferred and averaged: a nat beyond the boundary, since other samples move
the boundary.
"""
SCORES = (
    "entropy",
    "mutual information",
    "variation ratio",
    "vote disagreement",
    "max-softmax",
)


@dataclass(eq=False)
class Measured:
    """One network on the test images (N,).

    `correct` by way, attack and strength: whether each image is still right. `scores`
    by inputs and score, `baseline` the CNN's max-softmax score by inputs. `truth` by
    budget: probability of the true class by sample (S, N) under EOT. `by_samples`:
    right answers by number of samples in the gradient. `spread` by layer. `lengths`:
    how far (L2) C&W moved each image, NaN where the network was wrong already or
    nothing was found. `alarm_weight`: see `quiet`. `convergence`: of the deviations of
    variational inference, on training images.
    """

    kind: str
    dataset: str
    seed: int
    correct: dict[tuple[str, str, float], Array] = field(default_factory=dict)
    scores: dict[tuple[str, str], Array] = field(default_factory=dict)
    baseline: dict[str, Array] = field(default_factory=dict)
    truth: dict[float, Array] = field(default_factory=dict)
    by_samples: dict[int, Array] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    lengths: Array | None = None
    variance: float = 0.0
    alarm_weight: float | None = None
    convergence: Convergence | None = None


def evaluate_all(pairs: list[tuple[str, Setting, Parameters, int]]) -> list[Measured]:
    """Measure everything side by side; results in the order of the pairs."""
    return map_in_workers(_evaluate_one, pairs)


def _evaluate_one(item: tuple[str, Setting, Parameters, int]) -> Measured:
    return evaluate(*item)


def _generator(seed: int, purpose: int) -> Generator:
    return torch.Generator().manual_seed(10_000 * (purpose + 1) + seed)


class Judge:
    """The posterior that predicts, and what it said goes into `measured`.

    Its weight samples are none that an attack has seen, except where the posterior is a
    list of networks that are all used.
    """

    def __init__(
        self, posterior: Posterior, count: int, labels: Tensor, measured: Measured
    ) -> None:
        self.samples: WeightSamples = weight_samples(
            posterior, count, _generator(measured.seed, 7)
        )
        self.labels, self.measured = labels, measured

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, K)."""
        return sampled_probabilities(self.samples, images)

    def right(self, images: Tensor) -> Array:
        """Whether the predictive mean is right (N,), as 0 and 1."""
        right: Array = (
            (self.predict(images).mean(0).argmax(1) == self.labels).double().numpy()
        )
        return right

    def note(self, way: str, attack: str, strength: float, images: Tensor) -> None:
        """Record the right answers under one attack."""
        self.measured.correct[way, attack, strength] = self.right(images)

    def note_lengths(self, images: Tensor, attacked: Tensor) -> None:
        """Record how far an attack that leaves an image alone where it fails moved
        those that were right.
        """
        moved = (attacked - images).flatten(1).norm(dim=1).double().numpy()
        right = self.measured.correct["clean", "none", 0.0] > 0
        self.measured.lengths = np.where(right & (moved > 0), moved, np.nan)

    def note_scores(self, inputs: str, images: Tensor, baseline: Judge) -> None:
        """Record all scores of the alarm, and the baseline's."""
        found = uncertainty(self.predict(images))
        for name in SCORES:
            key = "unconfidence" if name == "max-softmax" else name.replace(" ", "_")
            self.measured.scores[inputs, name] = getattr(found, key).numpy()
        self.measured.baseline[inputs] = uncertainty(
            baseline.predict(images)
        ).unconfidence.numpy()


def evaluate(
    kind: str, setting: Setting, parameters: Parameters, seed: int
) -> Measured:
    """All measurements of one kind in one repetition."""
    data = images_of(setting.dataset, "test", parameters.images)
    measured = Measured(kind, setting.dataset, seed)
    posterior = fit(kind, setting, parameters, seed)
    judge = Judge(posterior, parameters.test_samples, data.labels, measured)
    source = Judge(
        fit(CNN, setting, parameters, seed),
        1,
        data.labels,
        Measured(CNN, setting.dataset, seed),
    )
    judge.note("clean", "none", 0.0, data.images)
    measured.spread = relative_spread(judge.samples)
    measured.variance = float(uncertainty(judge.predict(data.images)).variance.mean())
    if kind in VARIATIONAL:
        measured.convergence = convergence(posterior, setting, parameters)
    crafted = transferred(setting, parameters, seed)
    for (attack, budget), images in crafted.items():
        judge.note("transfer", attack, budget, images)
    _interference(judge, data.images, seed)
    if kind == CNN:
        judge.note_lengths(data.images, crafted["C&W L2", 1.0])
    else:
        _white_box(judge, source, posterior, data.images, crafted, setting, parameters)
    return measured


@lru_cache(maxsize=2)
def transferred(
    setting: Setting, parameters: Parameters, seed: int
) -> dict[tuple[str, float], Tensor]:
    """Images (N, C, H, W) crafted on the deterministic CNN of a repetition, by attack
    and budget (share of epsilon).
    """
    data = images_of(setting.dataset, "test", parameters.images)
    model = fit(CNN, setting, parameters, seed).architecture
    generator = _generator(seed, 1)
    found = {
        ("PGD", budget): pgd(
            model,
            data.images,
            data.labels,
            generator=generator,
            **_numbers(setting, parameters, budget),
        )
        for budget in BUDGETS
    }
    found |= {
        (name, 1.0): attack(model, data.images, data.labels)
        for name, attack in single_attacks(
            setting, parameters, generator, data.images
        ).items()
    }
    found["C&W L2", 1.0] = carlini_wagner(
        model, data.images, data.labels, **CARLINI_WAGNER
    )
    return found


class Numbers(TypedDict):
    """What every iterative attack is told: budget, steps and step size."""

    epsilon: float
    steps: int
    step_size: float


def _numbers(setting: Setting, parameters: Parameters, budget: float) -> Numbers:
    """Budget, steps and step size: 2.5 times what would just reach the edge."""
    epsilon = budget * setting.epsilon
    return {
        "epsilon": epsilon,
        "steps": parameters.steps,
        "step_size": 2.5 * epsilon / parameters.steps,
    }


def single_attacks(
    setting: Setting, parameters: Parameters, generator: Generator, images: Tensor
) -> dict[str, Callable[[Module, Tensor, Tensor], Tensor]]:
    """Every gradient attack but PGD at the full budget; each takes a module that gives
    logits or log-probabilities.
    """
    numbers = _numbers(setting, parameters, 1.0)
    radius = L2_SHARE * setting.epsilon * float(np.sqrt(images[0].numel()))
    rounded: Numbers = {
        "epsilon": radius,
        "steps": parameters.steps,
        "step_size": 2.5 * radius / parameters.steps,
    }
    return {
        "FGSM": lambda model, x, y: fgsm(
            model, x, y, epsilon=setting.epsilon, chunk=CHUNK
        ),
        "BIM": lambda model, x, y: bim(model, x, y, chunk=CHUNK, **numbers),
        "momentum": lambda model, x, y: momentum(model, x, y, **numbers),
        "C&W margin": lambda model, x, y: margin_pgd(
            model, x, y, generator=generator, chunk=CHUNK, **numbers
        ),
        "PGD L2": lambda model, x, y: l2_pgd(
            model, x, y, generator=generator, **rounded
        ),
    }


def _interference(judge: Judge, images: Tensor, seed: int) -> None:
    """The same disturbed images for every network of a repetition."""
    for place, kind in enumerate(INTERFERENCES):
        for severity in SEVERITIES:
            disturbed = interfere(
                kind, images, severity, _generator(seed, 100 + 10 * place + severity)
            )
            judge.note("interference", kind, float(severity), disturbed)


def _white_box(
    judge: Judge,
    source: Judge,
    posterior: Posterior,
    images: Tensor,
    crafted: dict[tuple[str, float], Tensor],
    setting: Setting,
    parameters: Parameters,
) -> None:
    """Attacks on the network itself: averaged over samples, from a random start and
    from the transferred image.
    """
    measured, labels = judge.measured, judge.labels
    generator = _generator(measured.seed, 2)
    points = {}
    for budget in BUDGETS:
        points[budget] = eot_pgd(
            posterior,
            images,
            labels,
            samples=parameters.samples,
            generator=generator,
            starts=[crafted["PGD", budget]],
            **_numbers(setting, parameters, budget),
        )
        judge.note("EOT", "PGD", budget, points[budget])
    if measured.kind not in POSTERIORS:
        return
    for inputs, shown in (
        ("clean", images),
        ("transfer", crafted["PGD", 1.0]),
        ("EOT", points[1.0]),
    ):
        judge.note_scores(inputs, shown, source)
    alone = eot_pgd(
        posterior,
        images,
        labels,
        samples=1,
        generator=generator,
        **_numbers(setting, parameters, 1.0),
    )
    judge.note("one sample", "PGD", 1.0, alone)
    _quiet(judge, source, posterior, images, points[1.0], setting, parameters)
    if measured.kind == BNN:
        _bayesian_only(judge, posterior, images, points, setting, parameters)


def _quiet(
    judge: Judge,
    source: Judge,
    posterior: Posterior,
    images: Tensor,
    starts: Tensor,
    setting: Setting,
    parameters: Parameters,
) -> None:
    """The uncertainty-aware attack, its weight chosen on training images."""
    measured, numbers = judge.measured, _numbers(setting, parameters, 1.0)
    training = images_of(setting.dataset, "train", setting.train_images).take(
        parameters.weight_images
    )
    measured.alarm_weight = alarm_weight(
        posterior,
        training.images,
        training.labels,
        samples=parameters.samples,
        test_samples=parameters.test_samples,
        generator=_generator(measured.seed, 5),
        **numbers,
    )
    quiet = uncertainty_aware(
        posterior,
        images,
        judge.labels,
        samples=parameters.samples,
        generator=_generator(measured.seed, 6),
        starts=starts,
        weight=measured.alarm_weight,
        **numbers,
    )
    judge.note("uncertainty-aware", "PGD", 1.0, quiet)
    judge.note_scores("uncertainty-aware", quiet, source)


def _bayesian_only(
    judge: Judge,
    posterior: Posterior,
    images: Tensor,
    points: dict[float, Tensor],
    setting: Setting,
    parameters: Parameters,
) -> None:
    """What is asked of the Bayesian network alone: all attacks, C&W, more samples, a
    large budget.
    """
    measured, labels = judge.measured, judge.labels
    generator = _generator(measured.seed, 3)
    numbers = _numbers(setting, parameters, 1.0)
    model = Predictive(posterior, parameters.samples, generator)
    for name, attack in single_attacks(setting, parameters, generator, images).items():
        judge.note("EOT", name, 1.0, attack(model, images, labels))
    closest = carlini_wagner(model, images, labels, chunk=CHUNK, **CARLINI_WAGNER)
    judge.note("EOT", "C&W L2", 1.0, closest)
    judge.note_lengths(images, closest)
    for count in GRADIENT_SAMPLES:
        found = eot_pgd(
            posterior,
            images,
            labels,
            samples=count,
            generator=_generator(measured.seed, 4),
            **numbers,
        )
        measured.by_samples[count] = judge.right(found)
    large = eot_pgd(
        posterior,
        images,
        labels,
        samples=parameters.samples,
        generator=generator,
        **_numbers(setting, parameters, LARGE),
    )
    judge.note("EOT", "PGD", LARGE, large)
    for budget, attacked in ((0.0, images), *points.items()):
        probabilities = judge.predict(attacked)
        chosen = labels[None, :, None].expand(len(probabilities), -1, 1)
        measured.truth[budget] = probabilities.gather(2, chosen).squeeze(2).numpy()
