"""One network or posterior measured: clean, under interference, under attacks made on
another network, and attacked itself.

Read `Measured` (what comes out) and `Effort` (how hard the attacks try) first, then
`evaluate` with its parts in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from robustbook.bayes.mean_field import Convergence, MeanField, divergence
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Posterior
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.uncertainty import relative_spread, uncertainty
from robustbook.perturb.averaged import alarm_matching, averaged_apgd
from robustbook.perturb.interference import KINDS as INTERFERENCES
from robustbook.perturb.interference import SEVERITIES, interfere
from robustbook.perturb.one_pixel import one_pixel
from robustbook.perturb.posterior import (
    CHUNK,
    Predictive,
    eot_pgd,
    weight_samples,
)
from robustbook.studies.bnn_attacks.claims import CNN, CONTROL, PENALISED
from robustbook.studies.bnn_attacks.networks import (
    DESIGNS,
    OTHERS,
    Bench,
    Network,
    convergence,
    fit,
)
from robustbook.workers import map_in_workers

Array = npt.NDArray[np.float64]
LARGE = 8.0
"""The share of epsilon at which an attack must leave nothing, unless gradients are
masked.
"""
SCORES = ("mutual information", "two-sided", "entropy")
WEAK_STEPS = 10
"""Steps of the weak attack, which follows one sample at a time."""
NORM_SAMPLES = 50
STEP_FACTORS, SAMPLE_FACTORS = (0.1, 0.25, 0.5, 2.0), (0.25, 0.5, 2.0)
"""Weaker and stronger attacks than the usual one, in shares of its steps and its
samples.
"""
INTERFERED_SAMPLES, PIXEL_SAMPLES = 20, 5


@dataclass(frozen=True)
class Effort:
    """How hard attacks try, and how many samples judge them; not `full` is clean and
    under the two attacks at the first budget alone.
    """

    steps: int
    samples: int
    test_samples: int
    pixel_images: int
    full: bool = True


@dataclass(eq=False)
class Measured:
    """One network on the test images (N,) of its repetition.

    `correct` by way, attack and budget: whether each image is right. `scores` by inputs
    and score, `baseline` the attacked CNN's by inputs. `strength` by steps and samples:
    right answers under other efforts. `norm_ratio`: length of the averaged gradient
    over the mean length of a sample's. `price`: divergence from the prior, nats.
    """

    network: Network
    correct: dict[tuple[str, str, float], Array] = field(default_factory=dict)
    scores: dict[tuple[str, str], Array] = field(default_factory=dict)
    baseline: dict[str, Array] = field(default_factory=dict)
    strength: dict[tuple[int, int], Array] = field(default_factory=dict)
    norm_ratio: Array | None = None
    spread: dict[str, float] = field(default_factory=dict)
    convergence: Convergence | None = None
    price: float | None = None


def evaluate_all(
    networks: Sequence[Network],
    *,
    steps: int,
    samples: int,
    test_samples: int,
    pixel_images: int,
    full: bool = True,
) -> list[Measured]:
    """Measure everything side by side; results in the order of the networks."""
    effort = Effort(steps, samples, test_samples, pixel_images, full)
    groups: dict[tuple[Bench, int, str], list[Network]] = {}
    for each in networks:
        # The published extractor is dear: its attacked images are made once.
        alone = "" if each.bench.extractor else each.kind
        groups.setdefault((each.bench, each.seed, alone), []).append(each)
    found = map_in_workers(_group, [(group, effort) for group in groups.values()])
    by_network = {each.network: each for group in found for each in group}
    return [by_network[each] for each in networks]


def _group(item: tuple[list[Network], Effort]) -> list[Measured]:
    return [evaluate(each, item[1]) for each in item[0]]


def _generator(seed: int, purpose: int) -> Generator:
    return torch.Generator().manual_seed(10_000 * (purpose + 1) + seed)


@dataclass(frozen=True, eq=False)
class Judge:
    """The samples that predict."""

    samples: WeightSamples

    @classmethod
    def of(cls, posterior: Posterior, count: int, seed: int) -> Judge:
        """Samples that no attack has seen (but for a posterior that is a list of
        networks, all of which are used).
        """
        return cls(weight_samples(posterior, count, _generator(seed, 7)))

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, K)."""
        return sampled_probabilities(self.samples, images)

    def right(self, images: Tensor, labels: Tensor) -> Array:
        """Whether the mean prediction is right (N,), as 0 and 1."""
        answers = self.probabilities(images).mean(0).argmax(1)
        found: Array = (answers == labels).double().numpy()
        return found


@lru_cache(maxsize=2)
def transferred(bench: Bench, seed: int, steps: int) -> dict[float, Tensor]:
    """Images (N, C, H, W) attacked on the deterministic CNN of a repetition, by budget
    (share of epsilon).
    """
    images, labels = bench.repetition(seed)
    source, generator = fit(Network(bench, CNN, seed)), _generator(seed, 1)
    return {
        budget: averaged_apgd(
            source,
            images,
            labels,
            epsilon=budget * bench.epsilon,
            samples=1,
            steps=steps,
            generator=generator,
        )
        for budget in bench.budgets
    }


def evaluate(network: Network, effort: Effort) -> Measured:
    """All measurements of one network."""
    bench, kind, seed = network.bench, network.kind, network.seed
    images, labels = bench.repetition(seed)
    measured, posterior = Measured(network), fit(network)
    judge = Judge.of(posterior, effort.test_samples, seed)
    crafted = transferred(bench, seed, effort.steps)
    measured.correct["clean", "none", 0.0] = judge.right(images, labels)
    for budget, points in crafted.items():
        measured.correct["transfer", "PGD", budget] = judge.right(points, labels)
    measured.spread = relative_spread(judge.samples)
    if effort.full:
        measured.convergence = convergence(network, posterior)
    measured.price = _price(posterior, bench)
    if effort.full and kind in (CNN, CONTROL, PENALISED, bench.bayesian):
        _interference(measured, judge)
    if kind == CNN:
        return measured
    every = effort.full and kind in DESIGNS
    budgets = bench.budgets if every else bench.budgets[:1]
    if bench.extractor and kind == PENALISED:
        return measured
    ends = {
        budget: attacked(network, posterior, effort, budget, crafted[budget])
        for budget in budgets
    }
    for budget, points in ends.items():
        measured.correct["EOT", "PGD", budget] = judge.right(points, labels)
    if not effort.full:
        return measured
    if kind in (CONTROL, bench.bayesian):
        _pair(measured, posterior, judge, effort)
    if kind == bench.bayesian:
        _alarm(measured, posterior, judge, effort, crafted[1.0], ends[1.0])
        measured.norm_ratio = norm_ratio(posterior, images, labels, _generator(seed, 8))
    elif kind in OTHERS:
        usual = _information(judge, bench.reference()[0])
        _scores(measured, judge, "clean", images, usual)
        _scores(measured, judge, "transfer", crafted[1.0], usual)
    return measured


def attacked(
    network: Network,
    posterior: Posterior,
    effort: Effort,
    budget: float,
    start: Tensor,
    *,
    steps: int | None = None,
    samples: int | None = None,
    images: int | None = None,
) -> Tensor:
    """The test images of a network's repetition under the averaged attack: two random
    starts, one at `start`.
    """
    pictures, labels = network.bench.repetition(network.seed)
    return averaged_apgd(
        posterior,
        pictures[:images],
        labels[:images],
        epsilon=budget * network.bench.epsilon,
        steps=steps or effort.steps,
        samples=samples or effort.samples,
        restarts=2,
        starts=[start[:images]],
        generator=_generator(network.seed, 2),
    )


def _price(posterior: Posterior, bench: Bench) -> float | None:
    """Divergence of a mean-field posterior from the prior (nats)."""
    if not isinstance(posterior, MeanField):
        return None
    return sum(
        float(divergence(posterior.means[name], scale, bench.prior_sd))
        for name, scale in posterior.scales.items()
        if bool((scale > 0).all())
    )


def _interference(measured: Measured, judge: Judge) -> None:
    """The same disturbed images for every network of a repetition."""
    bench, seed = measured.network.bench, measured.network.seed
    images, labels = bench.repetition(seed)
    fewer = Judge(judge.samples.take(slice(0, INTERFERED_SAMPLES)))
    for place, kind in enumerate(INTERFERENCES):
        for severity in SEVERITIES:
            source = _generator(seed, 100 + 10 * place + severity)
            disturbed = interfere(kind, images, severity, source)
            measured.correct["interference", kind, float(severity)] = fewer.right(
                disturbed, labels
            )


def _pair(
    measured: Measured, posterior: Posterior, judge: Judge, effort: Effort
) -> None:
    """What is asked of the Bayesian network and its control alone: other efforts, a
    weak attack, a large budget and one pixel (of grey pictures).
    """
    network = measured.network
    bench, seed = network.bench, network.seed
    images, labels = bench.repetition(seed)
    start = transferred(bench, seed, effort.steps)[1.0]
    half = images[: len(images) // (4 if bench.extractor else 2)]
    plans = [(factor, 1.0) for factor in (*STEP_FACTORS, 1.0)]
    if network.kind != CONTROL:
        plans += [(1.0, factor) for factor in SAMPLE_FACTORS]
    if bench.extractor:
        plans = [plan for plan in plans if plan[0] in (1.0, 2.0) and plan[1] >= 1.0]
    for by_steps, by_samples in plans:
        steps = max(1, round(by_steps * effort.steps))
        count = max(1, round(by_samples * effort.samples))
        points = attacked(
            network,
            posterior,
            effort,
            bench.budgets[0],
            start,
            steps=steps,
            samples=count,
            images=len(half),
        )
        measured.strength[steps, count] = judge.right(points, labels[: len(half)])
    epsilon = bench.budgets[0] * bench.epsilon
    weak = eot_pgd(
        posterior,
        images,
        labels,
        epsilon=epsilon,
        steps=WEAK_STEPS,
        step_size=epsilon / 4,
        samples=1,
        generator=_generator(seed, 4),
    )
    measured.correct["one sample", "PGD", bench.budgets[0]] = judge.right(weak, labels)
    if bench.extractor:
        return
    large = averaged_apgd(
        posterior,
        half,
        labels[: len(half)],
        epsilon=min(0.5, LARGE * bench.epsilon),
        steps=effort.steps,
        samples=effort.samples,
        restarts=1,
        generator=_generator(seed, 3),
    )
    measured.correct["EOT", "PGD", LARGE] = judge.right(large, labels[: len(half)])
    if images.shape[1] > 1:
        return
    few, own = images[: effort.pixel_images], labels[: effort.pixel_images]
    source = fit(Network(bench, CNN, seed)).architecture
    model = Predictive(posterior, PIXEL_SAMPLES, _generator(seed, 9))
    for way, victim in (("transfer", source), ("EOT", model)):
        points = one_pixel(victim, few, own)
        measured.correct[way, "one pixel", 1.0] = judge.right(points, own)


# The alarm
# --------------------------------------------------------------------------------------


def _alarm(
    measured: Measured,
    posterior: Posterior,
    judge: Judge,
    effort: Effort,
    crafted: Tensor,
    ends: Tensor,
) -> None:
    """Scores of clean and attacked images, and two attacks that know the alarm."""
    network = measured.network
    bench, seed = network.bench, network.seed
    images, labels = bench.repetition(seed)
    inputs = {"clean": images, "transfer": crafted, "EOT": ends}
    generator = _generator(seed, 6)
    usual = _information(judge, bench.reference()[0])
    drawn = torch.randint(len(usual), (len(images),), generator=generator)
    aims = {"quiet": torch.zeros(len(images)), "matching": usual[drawn].float()}
    for name, alarm in aims.items():
        inputs[name] = alarm_matching(
            posterior,
            images,
            labels,
            epsilon=bench.epsilon,
            alarm=alarm,
            starts=ends,
            steps=effort.steps,
            samples=effort.samples,
            generator=generator,
        )
        right = judge.right(inputs[name], labels)
        measured.correct[name, "PGD", 1.0] = right
    source = Judge.of(fit(Network(bench, CNN, seed)), 1, seed)
    for name, points in inputs.items():
        _scores(measured, judge, name, points, usual)
        sure = source.probabilities(points).mean(0).amax(1)
        measured.baseline[name] = (1 - sure).double().numpy()


def _information(judge: Judge, images: Tensor) -> Tensor:
    return uncertainty(judge.probabilities(images)).mutual_information


def _scores(
    measured: Measured, judge: Judge, inputs: str, images: Tensor, usual: Tensor
) -> None:
    """The scores of an alarm; the two-sided one is the distance of the mutual
    information's rank among usual images from the middle.
    """
    found = uncertainty(judge.probabilities(images))
    information = found.mutual_information
    rank = (usual[None] < information[:, None]).double().mean(1)
    measured.scores[inputs, "mutual information"] = information.numpy()
    measured.scores[inputs, "two-sided"] = (rank - 0.5).abs().numpy()
    measured.scores[inputs, "entropy"] = found.entropy.numpy()


# Theory
# --------------------------------------------------------------------------------------


def norm_ratio(
    posterior: Posterior, images: Tensor, labels: Tensor, generator: Generator
) -> Array:
    """Length of the mean over samples of the loss gradient, over the mean length of a
    sample's (N,): 1 where all samples agree, 1 / sqrt(S) where they are independent.
    """
    samples = weight_samples(posterior, NORM_SAMPLES, generator)

    def losses(logits: Tensor, classes: Tensor) -> Tensor:
        flat = logits.flatten(0, -2)
        own = classes.expand(logits.shape[:-1]).flatten()
        return torch.nn.functional.cross_entropy(flat, own, reduction="none").view(
            logits.shape[:-1]
        )

    parts = []
    for rows in torch.arange(len(images)).split(CHUNK):
        points = images[rows][None]
        slopes = samples.evaluate(points, labels[rows], losses).gradient.flatten(2)
        parts.append(slopes.mean(0).norm(dim=1) / slopes.norm(dim=2).mean(0))
    found: Array = torch.cat(parts).double().nan_to_num(1.0).numpy()
    return found
