"""Whole-image balls: ten classes and traffic signs, where the probability of a
violation is held in a bracket.

Read `measure` (one posterior from one seed, in a process of its own), then
`record_...`, then `sweep` (accuracy against robustness over the posteriors' settings).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from robustbook.bayes.mean_field import Convergence
from robustbook.bayes.weights import WeightSamples
from robustbook.data import ImageSet
from robustbook.measure.certificate import certify
from robustbook.measure.mean_prediction import mean_reach
from robustbook.measure.region_attack import pgd
from robustbook.measure.sequential import bounded_mean_interval
from robustbook.measure.verification import ball
from robustbook.results import Results
from robustbook.stats import spearman
from robustbook.studies import protocol
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.measure import boxes
from robustbook.studies.bnn_verification.parameters import Parameters
from robustbook.workers import map_in_workers

BRACKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Budgets of the brackets on ten classes; the paper's begin at 0.05."""
SIGN_BRACKETS = (0.002, 0.005, 0.01, 0.02, 0.05)
BRACKET_IMAGES = 8
DELTA = 0.25
"""Threshold of Problem 1 on ten classes, as published."""
PRIORS, TEMPERATURES = (0.3, 0.6, 1.0, 2.0), (0.1, 0.3, 1.0)
RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SWEEP_HIDDEN = 32
SWEEP_DIAGNOSED = 25
MIXED = 1.1
"""Chains of the sweep whose predictions have a larger R-hat are no posterior."""
CHANCE = 0.1

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Bracket:
    """Which pairs of sample and image (S, N) an attack moves, and which a certificate
    cannot exclude, per problem; and the same of the mean's decision (1, N).
    """

    attacked: dict[int, Flags]
    possible: dict[int, Flags]
    mean: tuple[Flags, Flags]


@dataclass(frozen=True, eq=False)
class AttackedPosterior:
    """One posterior from one seed: accuracy, how far PGD moves samples on images, and
    brackets by budget.
    """

    name: str
    seed: int
    accuracy: networks.Accuracy
    reached: boxes.Reached
    brackets: dict[float, Bracket]

    def robust(self, delta: float | None) -> float:
        """Share of samples and images that PGD does not move, or does not flip."""
        return float(1 - self.reached.moves(delta).mean())


def test_images(task: networks.Task, parameters: Parameters) -> ImageSet:
    """The test images on which every posterior of the task is attacked."""
    count = parameters.ten_images if task.name == "ten classes" else BRACKET_IMAGES
    return task.test.take(count, parameters.first_seed)


def measure_ten(**settings: Any) -> list[AttackedPosterior]:
    """All posteriors and seeds on ten classes, side by side."""
    parameters = Parameters.of(settings)
    task = networks.ten_classes(parameters)
    boxes.match_all(task, parameters)
    items = [
        (name, seed, parameters)
        for seed in protocol.seeds(parameters)
        for name in boxes.NAMES
    ]
    return map_in_workers(_ten, items)


def _ten(item: tuple[str, int, Parameters]) -> AttackedPosterior:
    name, seed, parameters = item
    task = networks.ten_classes(parameters)
    samples = networks.samples_of(
        name, task, parameters, seed, boxes.counted(parameters)
    )
    first = seed == parameters.first_seed and name in networks.METHODS
    return measure(name, seed, samples, task, parameters, BRACKETS if first else ())


def measure(
    name: str,
    seed: int,
    samples: WeightSamples,
    task: networks.Task,
    parameters: Parameters,
    budgets: Sequence[float],
) -> AttackedPosterior:
    """Attack the first samples on the test images, bracket them at several budgets,
    and take the accuracy of all.
    """
    reached = networks.accuracy(samples, task, parameters)
    samples = samples.take(slice(parameters.samples))
    region = ball(test_images(task, parameters).images, parameters.epsilon)
    reach = pgd(
        samples,
        region,
        steps=parameters.steps,
        restarts=parameters.restarts,
        generator=Generator().manual_seed(seed),
    )
    few = task.test.take(BRACKET_IMAGES, parameters.first_seed)
    return AttackedPosterior(
        name,
        seed,
        reached,
        boxes.Reached(reach.distance.numpy(), reach.margin.numpy()),
        {epsilon: _bracket(samples, few, epsilon, parameters) for epsilon in budgets},
    )


def _bracket(
    samples: WeightSamples, images: ImageSet, epsilon: float, parameters: Parameters
) -> Bracket:
    region = ball(images.images, epsilon)
    search: dict[str, Any] = {
        "steps": parameters.steps,
        "restarts": parameters.restarts,
    }
    generator = Generator().manual_seed(parameters.first_seed)
    attacked = pgd(samples, region, generator=generator, **search)
    certified = certify(samples, region)
    mean = mean_reach(samples, region, certified, generator=generator, **search)
    return Bracket(
        {1: attacked.moves(DELTA).numpy(), 2: attacked.flips.numpy()},
        {1: certified.moves(DELTA).numpy(), 2: certified.flips.numpy()},
        (mean.low.flips.numpy(), mean.high.flips.numpy()),
    )


def record_brackets(
    results: Results, measured: Mapping[str, Sequence[AttackedPosterior]]
) -> None:
    """Attacked and certified ends of the violation probability, each with its own 95 %
    interval on its outer side, and the bracket of the mean prediction; `measured` goes
    by task.

    The intervals are over posterior samples, for the mean over the images: samples are
    independent, images share them.
    """
    for task, found in measured.items():
        for each in found:
            for epsilon, bracket in each.brackets.items():
                factors = {"posterior": each.name, "epsilon": epsilon, "task": task}
                _record_bracket(results, bracket, factors)


def _record_bracket(
    results: Results, bracket: Bracket, factors: Mapping[str, Any]
) -> None:
    for problem in (1, 2):
        for end, flags in (
            ("attacked", bracket.attacked),
            ("certified", bracket.possible),
        ):
            _record_end(results, flags[problem], end=end, problem=problem, **factors)
    broken = sum(
        int((bracket.attacked[p] & ~bracket.possible[p]).sum()) for p in (1, 2)
    )
    results.add("brackets broken", broken, **factors)
    boxes.record_mean_bracket(results, [bracket.mean], ", whole images", **factors)


def _record_end(results: Results, flags: Flags, **factors: Any) -> None:
    """One end of a bracket, mean over images, with an interval over samples."""
    shares = flags.mean(axis=1)
    interval = bounded_mean_interval(shares) if len(shares) > 1 else None
    results.add(
        "violation bracket",
        shares.mean(),
        interval,
        n=len(shares),
        over="samples",
        unit="share",
        **factors,
    )


def compare(results: Results, measured: Sequence[AttackedPosterior]) -> None:
    """Robustness of each posterior over seeds, and `boxes.record_differences` under
    PGD.
    """
    found = {
        name: [each for each in measured if each.name == name] for name in boxes.NAMES
    }
    for name, seeds in found.items():
        for problem, delta in ((1, DELTA), (2, None)):
            boxes._add(
                results,
                "robustness under PGD",
                [each.robust(delta) for each in seeds],
                "share",
                posterior=name,
                problem=problem,
            )
    boxes.record_differences(
        results,
        "ten classes",
        lambda name, delta: [each.robust(delta) for each in found[name]],
        lambda name: [each.accuracy.sample for each in found[name]],
        (DELTA, None),
    )


# Traffic signs
# --------------------------------------------------------------------------------------


def measure_signs(**settings: Any) -> list[AttackedPosterior]:
    """All methods on the sign network, on the same training images; without signs,
    nothing.
    """
    parameters = Parameters.of(settings)
    if parameters.sign_dataset == "none":
        return []
    return map_in_workers(_sign, [(name, parameters) for name in networks.METHODS])


def _sign(item: tuple[str, Parameters]) -> AttackedPosterior:
    name, parameters = item
    task, seed = networks.signs(parameters), parameters.first_seed
    generator = Generator().manual_seed(seed)
    if name == "HMC":
        posterior = networks.fit_sign_chains(task, parameters).posterior
    else:
        posterior = networks.fit(name, task, parameters, seed)
    count = 1 if name == "deterministic" else parameters.sign_samples
    samples = posterior.draw(count, generator)
    few = parameters.model_copy(update={"samples": count})
    return measure(name, seed, samples, task, few, SIGN_BRACKETS)


# Accuracy against robustness
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One posterior of the sweep: a method and the values of what is varied for it."""

    method: str
    changes: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """The varied values as text, such as "prior_sd 0.3, temperature 1"."""
        return ", ".join(f"{name} {value:g}" for name, value in self.changes)


def sweep_settings() -> list[Setting]:
    """The posteriors of the sweep."""
    both = [
        Setting(method, (("prior_sd", sd), ("temperature", t)))
        for method in networks.COMPARED
        for sd, t in itertools.product(PRIORS, TEMPERATURES)
    ]
    dropped = [Setting("MC dropout", (("rate", rate),)) for rate in RATES]
    return [*both, *dropped, Setting("deterministic", ()), Setting("ensemble", ())]


@dataclass(frozen=True)
class Point:
    """Single-sample accuracy and robustness of one posterior of the sweep by seed (for
    HMC: chain), and how well it was fitted.
    """

    setting: Setting
    accuracy: tuple[float, ...]
    robustness: tuple[float, ...]
    mixing: networks.Mixing | None = None
    convergence: Convergence | None = None


def sweep(**settings: Any) -> list[Point]:
    """Accuracy and robustness of all posteriors of the sweep, on a small network."""
    parameters = Parameters.of(settings)
    return map_in_workers(
        _point, [(setting, parameters) for setting in sweep_settings()]
    )


def _point(item: tuple[Setting, Parameters]) -> Point:
    setting, parameters = item
    task = networks.ten_classes(parameters, hidden=SWEEP_HIDDEN, small=True)
    first, changes = parameters.first_seed, dict(setting.changes)
    seeds = range(first, first + parameters.sweep_seeds)
    mixing = convergence = None
    if setting.method == "HMC":
        length = networks.budget(parameters, parameters.sweep_seeds)
        length = replace(length, leapfrog=max(length.leapfrog // 2, 1))
        sampled = networks.fit_hmc(
            task, parameters, length, first, diagnosed=SWEEP_DIAGNOSED, **changes
        )
        posteriors, mixing = sampled.by_chain, sampled.mixing
    else:
        posteriors = [
            networks.fit(setting.method, task, parameters, seed, **changes)
            for seed in seeds
        ]
        convergence = networks.convergence(posteriors[0], task, parameters, **changes)
    one = setting.method == "deterministic"
    count = 1 if one else boxes.counted(parameters)
    found = [
        measure(
            setting.method,
            seed,
            posterior.draw(count, Generator().manual_seed(seed)),
            task,
            parameters,
            (),
        )
        for seed, posterior in zip(seeds, posteriors, strict=True)
    ]
    return Point(
        setting,
        tuple(each.accuracy.sample for each in found),
        tuple(each.robust(None) for each in found),
        mixing,
        convergence,
    )


def record_sweep(results: Results, points: Sequence[Point]) -> None:
    """All points with their diagnoses, and the rank correlation of those with at least
    twice the accuracy of chance and, for HMC, chains that agree.
    """
    for point in points:
        factors: dict[str, Any] = {
            "posterior": point.setting.method,
            "setting": point.setting.text,
        }
        for name, values in (
            ("accuracy in the sweep", point.accuracy),
            ("robustness in the sweep", point.robustness),
        ):
            n = len(values)
            results.add(
                name, float(np.mean(values)), n=n, over="seeds", unit="share", **factors
            )
        if point.mixing:
            worst = point.mixing.diagnoses["predictions"].worst_r_hat
            results.add("worst R-hat in the sweep", worst, **factors)
        if point.convergence:
            for layer, balance in point.convergence.balance.items():
                results.add("balance in the sweep", balance, layer=layer, **factors)
    used = [point for point in points if _counts(point)]
    results.add("posteriors left out of the sweep", len(points) - len(used))
    for family in ("all", *networks.METHODS[:3]):
        chosen = [point for point in used if family in ("all", point.setting.method)]
        _record_correlation(results, chosen, family)
    for of in ("accuracy", "robustness"):
        columns = zip(*(getattr(point, of)[:2] for point in used), strict=True)
        if len(used) >= 4:
            found = spearman(*columns, seed=0)
            name = "agreement of two seeds in the sweep"
            results.add(name, found, over="posteriors", of=of)


def _counts(point: Point) -> bool:
    worst = point.mixing.diagnoses["predictions"].worst_r_hat if point.mixing else 1.0
    return float(np.mean(point.accuracy)) >= 2 * CHANCE and worst <= MIXED


def _record_correlation(results: Results, chosen: Sequence[Point], family: str) -> None:
    columns = [
        [float(np.mean(getattr(point, of))) for point in chosen]
        for of in ("accuracy", "robustness")
    ]
    if len(chosen) < 4 or any(len(set(column)) < 2 for column in columns):
        return
    results.add(
        "rank correlation of accuracy and robustness",
        spearman(*columns, seed=0),
        over="posteriors",
        family=family,
    )
