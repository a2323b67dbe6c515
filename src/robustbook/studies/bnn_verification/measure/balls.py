"""Whole-image balls: ten classes and traffic signs, where the probability of a
violation is held in a bracket.

Read `measure` (one method and seed, in a process of its own), then `record_...` and
`crossed` (its intervals), then `sweep` (accuracy against robustness over the
posteriors' settings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from robustbook import stats
from robustbook.bayes.mean_field import Convergence
from robustbook.bayes.protocol import Posterior, decisions
from robustbook.bayes.weights import WeightSamples
from robustbook.data import ImageSet
from robustbook.measure.certificate import certify
from robustbook.measure.region_attack import pgd
from robustbook.measure.sequential import bounded_mean_interval
from robustbook.measure.verification import ball
from robustbook.results import Results
from robustbook.stats import Interval, mean_interval_t, spearman
from robustbook.studies import protocol
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.measure.boxes import (
    record_convergence,
    record_mixing,
)
from robustbook.studies.bnn_verification.parameters import Parameters
from robustbook.workers import map_in_workers

BRACKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Budgets of the brackets on ten classes; the paper's begin at 0.05."""
SIGN_BRACKETS = (0.002, 0.005, 0.01, 0.02, 0.05)
BRACKET_IMAGES = 8
DELTA = 0.25
"""Threshold of Problem 1 on ten classes, as published."""
PRIORS, TEMPERATURES, RATES = (
    (0.1, 0.3, 1.0, 3.0),
    (0.1, 1.0),
    (0.1, 0.25, 0.5, 0.75, 0.9),
)
SWEEP_HIDDEN = 32
SWEEP_CHAINS, SWEEP_DIAGNOSED = 2, 50
RESAMPLES = 2000

Flags = NDArray[np.bool_]
Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bracket:
    """Which pairs of sample and image (S, N) an attack moves, and which a certificate
    cannot exclude, per problem.
    """

    attacked: dict[int, Flags]
    possible: dict[int, Flags]
    interval_possible: Flags


@dataclass(frozen=True, eq=False)
class Measured:
    """One posterior from one seed: accuracy, decisions kept under PGD and right answers
    (S, N), and brackets by budget.
    """

    method: str
    seed: int
    accuracy: networks.Accuracy
    kept: Flags
    right: Flags
    brackets: dict[float, Bracket]
    mixing: networks.Mixing | None
    convergence: Convergence | None


def test_images(task: networks.Task, parameters: Parameters) -> ImageSet:
    """The test images on which every posterior of the task is measured."""
    count = parameters.ten_images if task.name == "ten classes" else BRACKET_IMAGES
    return task.test.take(count, parameters.first_seed)


def measure_ten(parameters: Parameters) -> list[Measured]:
    """All methods and seeds on ten classes, side by side."""
    items = [("HMC", parameters.first_seed, parameters)]
    seeds = protocol.seeds(parameters)
    items += [
        (method, seed, parameters) for method in networks.METHODS[1:] for seed in seeds
    ]
    return [found for part in map_in_workers(_ten, items) for found in part]


def _ten(item: tuple[str, int, Parameters]) -> list[Measured]:
    """One method and seed; HMC gives one measurement a chain."""
    method, seed, parameters = item
    task = networks.ten_classes(parameters)
    if method != "HMC":
        posterior = networks.fit(method, task, parameters, seed)
        return [measure(method, seed, posterior, task, parameters)]
    sampled = networks.fit_hmc(
        task, parameters, networks.budget(task, parameters, parameters.seeds), seed
    )
    chains = enumerate(sampled.by_chain)
    return [
        measure("HMC", seed + c, part, task, parameters, sampled.mixing)
        for c, part in chains
    ]


def measure(
    method: str,
    seed: int,
    posterior: Posterior,
    task: networks.Task,
    parameters: Parameters,
    mixing: networks.Mixing | None = None,
    **changes: Any,
) -> Measured:
    """Attack samples of a posterior on the test images; the first seed's are bracketed
    at several budgets too.
    """
    first = seed == parameters.first_seed
    count = (
        parameters.samples if task.name == "ten classes" else parameters.sign_samples
    )
    samples = posterior.draw(
        1 if method == "deterministic" else count, Generator().manual_seed(seed)
    )
    images = test_images(task, parameters)
    generator = Generator().manual_seed(seed)
    region = ball(images.images, parameters.epsilon)
    reach = pgd(
        samples,
        region,
        steps=parameters.steps,
        restarts=parameters.restarts,
        generator=generator,
    )
    budgets = BRACKETS if task.name == "ten classes" else SIGN_BRACKETS
    few = task.test.take(BRACKET_IMAGES, parameters.first_seed)
    return Measured(
        method,
        seed,
        networks.accuracy(samples, task, parameters),
        ~reach.flips.numpy(),
        (decisions(samples.logits(images.images)) == images.labels).numpy(),
        {epsilon: _bracket(samples, few, epsilon, parameters) for epsilon in budgets}
        if first
        else {},
        mixing if first else None,
        networks.convergence(posterior, task, parameters, **changes),
    )


def _bracket(
    samples: WeightSamples, images: ImageSet, epsilon: float, parameters: Parameters
) -> Bracket:
    region = ball(images.images, epsilon)
    generator = Generator().manual_seed(parameters.first_seed)
    attacked = pgd(
        samples,
        region,
        steps=parameters.steps,
        restarts=parameters.restarts,
        generator=generator,
    )
    certified, plain = (
        certify(samples, region),
        certify(samples, region, method="interval"),
    )
    return Bracket(
        {1: attacked.moves(DELTA).numpy(), 2: attacked.flips.numpy()},
        {1: certified.moves(DELTA).numpy(), 2: certified.flips.numpy()},
        plain.flips.numpy(),
    )


def record_brackets(results: Results, measured: list[Measured], task: str) -> None:
    """Attacked and certified ends of the violation probability, each with its own 95 %
    interval on its outer side.

    The intervals are over posterior samples, for the mean over the images: samples are
    independent, images share them.
    """
    for each in measured:
        for epsilon, bracket in each.brackets.items():
            for problem in (1, 2):
                ends = (
                    ("attacked", bracket.attacked[problem]),
                    ("certified", bracket.possible[problem]),
                )
                for end, flags in ends:
                    _record_end(
                        results,
                        flags,
                        end=end,
                        problem=problem,
                        epsilon=epsilon,
                        posterior=each.method,
                        task=task,
                    )
            _record_end(
                results,
                bracket.interval_possible,
                end="certified by intervals",
                problem=2,
                epsilon=epsilon,
                posterior=each.method,
                task=task,
            )
            broken = sum(
                int((bracket.attacked[p] & ~bracket.possible[p]).sum()) for p in (1, 2)
            )
            results.add(
                "brackets broken",
                broken,
                posterior=each.method,
                epsilon=epsilon,
                task=task,
            )


def _record_end(results: Results, flags: Flags, **factors: Any) -> None:
    """One end of a bracket, mean over images, with an interval over samples."""
    shares = flags.mean(axis=1)
    if len(shares) == 1:
        results.add(
            "violation bracket",
            shares.mean(),
            n=1,
            over="samples",
            unit="share",
            **factors,
        )
        return
    interval = bounded_mean_interval(shares)
    results.add(
        "violation bracket",
        shares.mean(),
        interval,
        n=len(shares),
        over="samples",
        unit="share",
        **factors,
    )


def record_comparison(results: Results, measured: list[Measured]) -> None:
    """Accuracy and robustness of each method, and differences to MC dropout on the same
    images.

    Intervals of robustness are over images and seeds (`crossed`), those of accuracy
    over seeds.
    """
    methods = [
        method
        for method in networks.METHODS
        if any(each.method == method for each in measured)
    ]
    by_method = {
        method: [each for each in measured if each.method == method]
        for method in methods
    }
    for method, found in by_method.items():
        _record_mean(
            results,
            "accuracy",
            [each.accuracy.sample for each in found],
            method,
            of="single sample",
        )
        _record_mean(
            results,
            "accuracy",
            [each.accuracy.predictive for each in found],
            method,
            of="predictive mean",
        )
        for right, of in ((False, ""), (True, " of right answers")):
            row = crossed([kept_shares(found, right=right)])
            _record_crossed(
                results, f"robustness{of}", row, posterior=method, task="ten classes"
            )
        for each in found:
            record_mixing(results, each.mixing, "ten classes")
        record_convergence(results, [each.convergence for each in found], "ten classes")
        kept = np.mean([each.kept.mean(axis=0) for each in found], axis=0)
        for image, value in enumerate(kept):
            results.add(
                "robustness of an image",
                value,
                posterior=method,
                image=image,
                task="ten classes",
            )
    for method in (name for name in methods if name != "MC dropout"):
        _record_differences(results, by_method[method], by_method["MC dropout"], method)


@dataclass(frozen=True, eq=False)
class Shares:
    """By seed and image (S, I): the share of samples that count, and the share that
    count and keep their decision.
    """

    kept: Table
    counted: Table


def kept_shares(found: list[Measured], *, right: bool) -> Shares:
    """Decisions kept under attack, among all samples or among right answers only."""
    counted = [each.right if right else np.ones_like(each.right) for each in found]
    kept = [each.kept & mask for each, mask in zip(found, counted, strict=True)]
    return Shares(
        np.stack([each.mean(axis=0) for each in kept]),
        np.stack([each.mean(axis=0) for each in counted]),
    )


def crossed(signed: list[Shares]) -> Interval:
    """Robustness of the first, less that of the second if there is one: mean over seeds
    of the share kept of what counts.

    The percentile bootstrap draws seeds and images, independently of each other; all
    methods have the same images, and so get the same draw of them. A seed in which
    nothing counts has the share 0.
    """

    def robustness(by_seed: Table, by_image: Table) -> Table:
        rates = sum(
            sign * _rates(each, by_image)
            for sign, each in zip((1, -1), signed, strict=False)
        )
        result: Table = (by_seed * rates).mean(axis=1)
        return result

    draws = stats.draw(*signed[0].kept.shape, seed=0, resamples=RESAMPLES)
    return stats.crossed(robustness, *draws).interval()


def _rates(shares: Shares, by_image: Table) -> Table:
    """Share kept of what counts, by draw of the images and seed (R, S)."""
    counted = by_image @ shares.counted.T
    return np.divide(
        by_image @ shares.kept.T, counted, out=np.zeros_like(counted), where=counted > 0
    )


def _record_crossed(
    results: Results, name: str, found: Interval, **factors: Any
) -> None:
    results.add(name, found, over="images and seeds", unit="share", **factors)


def _record_mean(
    results: Results, name: str, values: list[float], method: str, **factors: Any
) -> None:
    mean = mean_interval_t(values)
    results.add(
        name,
        mean.value,
        (max(mean.low, 0.0), min(mean.high, 1.0)),
        n=mean.n,
        over="seeds",
        unit="share",
        posterior=method,
        task="ten classes",
        **factors,
    )


def _record_differences(
    results: Results, ours: list[Measured], theirs: list[Measured], method: str
) -> None:
    """Differences to MC dropout: of robustness over images and seeds, of accuracy over
    seeds, paired by their order.
    """
    for right, of in ((False, ""), (True, " of right answers")):
        found = crossed([kept_shares(each, right=right) for each in (ours, theirs)])
        _record_crossed(results, f"robustness difference{of}", found, posterior=method)
    gaps = mean_interval_t(
        [
            a.accuracy.sample - b.accuracy.sample
            for a, b in zip(ours, theirs, strict=True)
        ]
    )
    results.add(
        "accuracy difference", gaps, over="seeds", unit="share", posterior=method
    )


def measure_signs(parameters: Parameters) -> list[Measured]:
    """All methods on the sign network, HMC with full batches of a small subset of the
    training images.
    """
    return map_in_workers(_sign, [(method, parameters) for method in networks.METHODS])


def _sign(item: tuple[str, Parameters]) -> Measured:
    method, parameters = item
    task = networks.signs(parameters)
    seed = parameters.first_seed
    if method != "HMC":
        return measure(
            method,
            seed,
            networks.fit(method, task, parameters, seed),
            task,
            parameters,
        )
    sampled = networks.fit_hmc(
        task,
        parameters,
        networks.budget(task, parameters, parameters.sign_chains),
        seed,
    )
    return measure(method, seed, sampled.posterior, task, parameters, sampled.mixing)


def record_signs(results: Results, measured: list[Measured]) -> None:
    """Accuracies and brackets of the sign posteriors."""
    for each in measured:
        for kind, value in (
            ("single sample", each.accuracy.sample),
            ("predictive mean", each.accuracy.predictive),
        ):
            results.add(
                "accuracy",
                value,
                task="signs",
                posterior=each.method,
                of=kind,
                unit="share",
            )
        record_mixing(results, each.mixing, "signs")
        record_convergence(results, [each.convergence], "signs")
    record_brackets(results, measured, "signs")


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


def settings() -> list[Setting]:
    """The posteriors of the sweep."""
    variational = [
        Setting("mean-field VI", (("prior_sd", sd), ("temperature", t)))
        for sd in PRIORS
        for t in TEMPERATURES
    ]
    sampled = [
        Setting("HMC", (("prior_sd", sd), ("temperature", 1.0))) for sd in PRIORS
    ]
    sampled.append(Setting("HMC", (("prior_sd", 1.0), ("temperature", 0.1))))
    dropped = [Setting("MC dropout", (("rate", rate),)) for rate in RATES]
    return [*sampled, *variational, *dropped, Setting("deterministic", ())]


@dataclass(frozen=True)
class Point:
    """Single-sample accuracy and mean robustness of one posterior of the sweep, and how
    well it was fitted.
    """

    setting: Setting
    accuracy: float
    robustness: float
    mixing: networks.Mixing | None = None
    convergence: Convergence | None = None


def sweep(parameters: Parameters) -> list[Point]:
    """Accuracy and robustness of all posteriors of the sweep, on a small network."""
    return map_in_workers(_point, [(setting, parameters) for setting in settings()])


def _point(item: tuple[Setting, Parameters]) -> Point:
    setting, parameters = item
    task = networks.ten_classes(parameters, hidden=SWEEP_HIDDEN, small=True)
    seed = parameters.first_seed
    changes: dict[str, Any] = dict(setting.changes)
    if setting.method == "HMC":
        length = networks.budget(task, parameters, SWEEP_CHAINS)
        sampled = networks.fit_hmc(
            task, parameters, length, seed, diagnosed=SWEEP_DIAGNOSED, **changes
        )
        posterior, mixing = sampled.posterior, sampled.mixing
    else:
        posterior, mixing = (
            networks.fit(setting.method, task, parameters, seed, **changes),
            None,
        )
    found = measure(setting.method, seed + 1, posterior, task, parameters, **changes)
    return Point(
        setting,
        found.accuracy.sample,
        float(found.kept.mean()),
        mixing,
        found.convergence,
    )


def record_sweep(results: Results, points: list[Point], chance: float = 0.1) -> None:
    """All points with their diagnoses, and the rank correlation of those with at least
    twice the accuracy of chance.
    """
    for point in points:
        factors: dict[str, Any] = {
            "posterior": point.setting.method,
            "setting": point.setting.text,
        }
        results.add("accuracy in the sweep", point.accuracy, unit="share", **factors)
        results.add(
            "robustness in the sweep", point.robustness, unit="share", **factors
        )
        if point.mixing:
            found = point.mixing.diagnoses["predictions"]
            results.add(
                "worst R-hat in the sweep",
                found.worst_r_hat,
                quantity="predictions",
                **factors,
            )
            results.add(
                "median R-hat in the sweep",
                found.median_r_hat,
                quantity="predictions",
                **factors,
            )
        if point.convergence:
            for layer, balance in point.convergence.balance.items():
                results.add("balance in the sweep", balance, layer=layer, **factors)
    used = [point for point in points if point.accuracy >= 2 * chance]
    for family in ("all", "mean-field VI", "MC dropout", "HMC"):
        chosen = [point for point in used if family in ("all", point.setting.method)]
        values = [(point.accuracy, point.robustness) for point in chosen]
        if len(chosen) < 4 or any(
            len(set(column)) < 2 for column in zip(*values, strict=True)
        ):
            continue
        rho = spearman(*zip(*values, strict=True), seed=0)
        results.add(
            "rank correlation of accuracy and robustness",
            rho.value,
            (rho.low, rho.high),
            n=rho.n,
            over="posteriors",
            family=family,
        )
