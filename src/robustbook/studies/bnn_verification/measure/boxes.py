"""Five pixels of a one or a seven: every oracle on the same posterior samples, with an
exact answer among them.

Read `measure` (one posterior, in a process of its own), then `record_...` (rows of the
record), then `stop_early`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robustbook.bayes.mean_field import Convergence
from robustbook.bayes.protocol import Posterior
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.branch_and_bound import Exact, exact
from robustbook.measure.region_attack import fgsm, pgd
from robustbook.measure.verification import Reach, Region, pixel_box, verify
from robustbook.results import Results
from robustbook.stats import bootstrap_mean
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.measure.guarantees import nearest, pairs
from robustbook.studies.bnn_verification.parameters import DELTAS, EPSILONS, Parameters
from robustbook.workers import map_in_workers

TOLERANCE = 1e-3
"""Logits: branch and bound stops when its bounds are this close."""
DELTA = 5e-2
"""Threshold of Problem 1 where one is shown."""
TARGETS = (0.05, 0.2, 0.5, 0.8)
"""Violation probabilities that the images of `stop_early` should have."""
SPREAD_EPSILONS = tuple(round(0.1 * step, 1) for step in range(1, 10))
ENOUGH_DRAWS = 20
"""Draws of each chain below which no effective sample size is recorded."""
POOL, CALIBRATION = 60, 60
"""Test images to choose from, and posterior samples by which they are chosen."""

Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reached:
    """Reach of one oracle as arrays (S, N)."""

    distance: Table
    margin: Table


def _arrays(reach: Reach) -> Reached:
    return Reached(reach.distance.double().numpy(), reach.margin.double().numpy())


@dataclass(frozen=True, eq=False)
class Measured:
    """One posterior on all boxes: accuracy, and by budget the reach that each oracle
    found.
    """

    method: str
    accuracy: networks.Accuracy
    exact_low: dict[float, Reached]
    exact_high: dict[float, Reached]
    fgsm: dict[float, Reached]
    pgd: dict[float, Reached]
    boxes: int
    mixing: networks.Mixing | None
    convergence: Convergence | None


def box_pixels(side: int) -> list[tuple[int, int]]:
    """Five pixels in a row: those of the paper at 14 x 14, a row as near the middle of
    smaller images.
    """
    row, first = (5, 5) if side == 14 else (side // 2 - 1, side // 2 - 2)
    return [(row, first + offset) for offset in range(5)]


def region_of(task: networks.Task, parameters: Parameters, epsilon: float) -> Region:
    """The five-pixel boxes around the test images."""
    images = task.test.take(parameters.images, parameters.first_seed).images
    return pixel_box(images, epsilon, box_pixels(images.shape[-1]))


def measure_all(parameters: Parameters) -> list[Measured]:
    """All posteriors on 1 against 7, side by side."""
    return map_in_workers(
        measure, [(method, parameters) for method in networks.METHODS]
    )


def measure(item: tuple[str, Parameters]) -> Measured:
    """Fit one posterior and ask every oracle about the same samples of it."""
    method, parameters = item
    task = networks.two_classes(parameters)
    seed = parameters.first_seed
    sampled = None
    if method == "HMC":
        sampled = networks.fit_hmc(
            task,
            parameters,
            networks.budget(task, parameters, parameters.chains),
            seed,
        )
    posterior = (
        sampled.posterior if sampled else networks.fit(method, task, parameters, seed)
    )
    samples = posterior.draw(_count(method, parameters), Generator().manual_seed(seed))
    found = {
        epsilon: _ask(samples, region_of(task, parameters, epsilon), parameters)
        for epsilon in EPSILONS
    }
    return Measured(
        method,
        networks.accuracy(samples, task, parameters),
        {epsilon: _arrays(each.exact.low) for epsilon, each in found.items()},
        {epsilon: _arrays(each.exact.high) for epsilon, each in found.items()},
        {epsilon: _arrays(each.fgsm) for epsilon, each in found.items()},
        {epsilon: _arrays(each.pgd) for epsilon, each in found.items()},
        sum(each.exact.boxes for each in found.values()),
        sampled.mixing if sampled else None,
        networks.convergence(posterior, task, parameters),
    )


def _count(method: str, parameters: Parameters) -> int:
    """Samples to look at: a single network has one."""
    return 1 if method == "deterministic" else parameters.samples


@dataclass(frozen=True, eq=False)
class _Oracles:
    exact: Exact
    fgsm: Reach
    pgd: Reach


def _ask(samples: WeightSamples, region: Region, parameters: Parameters) -> _Oracles:
    generator = Generator().manual_seed(parameters.first_seed)
    strong = pgd(
        samples,
        region,
        steps=parameters.steps,
        restarts=parameters.restarts,
        generator=generator,
    )
    return _Oracles(
        exact(samples, region, tolerance=TOLERANCE), fgsm(samples, region), strong
    )


def moves(reached: Reached, problem: int, delta: float = DELTA) -> NDArray[np.bool_]:
    """Problem 1: probabilities move by more than `delta`; Problem 2: the decision
    changes (S, N).
    """
    return reached.distance > delta if problem == 1 else reached.margin > 0


def record_grid(results: Results, measured: list[Measured]) -> None:
    """Violation probability over the grid of budgets and thresholds, mean over images,
    and the order on the grid.
    """
    for each in measured:
        for epsilon in EPSILONS:
            for delta in DELTAS:
                shares = moves(each.exact_low[epsilon], 1, delta).mean(axis=0)
                results.add(
                    "violation probability",
                    shares.mean(),
                    posterior=each.method,
                    epsilon=epsilon,
                    delta=delta,
                    problem=1,
                )
            flips = moves(each.exact_low[epsilon], 2).mean(axis=0)
            results.add(
                "violation probability",
                flips.mean(),
                posterior=each.method,
                epsilon=epsilon,
                problem=2,
            )
    _record_order(results, measured)


def _record_order(results: Results, measured: list[Measured]) -> None:
    """Comparisons of neighbouring budgets in which a violation vanishes, and the rise
    from first to last.

    Thresholds need no comparison: on the same samples whatever moves by more than the
    larger one moves by more than the smaller one.
    """
    exact_order = [
        _vanished(each.exact_low, each.exact_high, delta)
        for each in measured
        for delta in DELTAS
    ]
    fgsm_order = [
        _vanished(each.fgsm, each.fgsm, delta) for each in measured for delta in DELTAS
    ]
    for oracle, found in (("exact", exact_order), ("FGSM", fgsm_order)):
        counts = np.concatenate([part.ravel() for part in found])
        results.add(
            "violations of monotonicity",
            counts.sum(),
            n=counts.size,
            over="neighbouring budgets",
            oracle=oracle,
        )
    rises = [
        (
            moves(each.exact_low[EPSILONS[-1]], 1).mean(0)
            - moves(each.exact_high[EPSILONS[0]], 1).mean(0)
        )
        for each in measured
    ]
    rise = bootstrap_mean(np.mean(rises, axis=0), seed=0)
    results.add(
        "rise of the violation probability over the budgets",
        rise.value,
        (rise.low, rise.high),
        n=rise.n,
        over="images",
    )


def _vanished(
    low: dict[float, Reached], high: dict[float, Reached], delta: float
) -> NDArray[np.bool_]:
    """Per comparison of neighbouring budgets (E - 1, N): whether the share of moved
    samples falls for certain.
    """
    before = np.stack(
        [moves(low[epsilon], 1, delta).mean(0) for epsilon in EPSILONS[:-1]]
    )
    after = np.stack(
        [moves(high[epsilon], 1, delta).mean(0) for epsilon in EPSILONS[1:]]
    )
    return after < before - 1e-12


def record_oracles(results: Results, measured: list[Measured]) -> None:
    """Violation probability by oracle and budget, and how much the attacks overlook
    (mean over budgets and posteriors).
    """
    for each in measured:
        for epsilon in EPSILONS:
            for problem in (1, 2):
                for oracle, table in (
                    ("exact", each.exact_low),
                    ("FGSM", each.fgsm),
                    ("PGD", each.pgd),
                ):
                    shares = moves(table[epsilon], problem).mean(axis=0)
                    results.add(
                        "probability by oracle",
                        shares.mean(),
                        oracle=oracle,
                        posterior=each.method,
                        epsilon=epsilon,
                        problem=problem,
                    )
    for problem in (1, 2):
        for oracle in ("FGSM", "PGD"):
            _record_missed(results, measured, problem, oracle)


def _record_missed(
    results: Results, measured: list[Measured], problem: int, oracle: str
) -> None:
    gaps = []
    for each in measured:
        attacked = each.fgsm if oracle == "FGSM" else each.pgd
        for epsilon in EPSILONS:
            certain = moves(each.exact_low[epsilon], problem)
            gaps.append((certain & ~moves(attacked[epsilon], problem)).mean(axis=0))
    mean = bootstrap_mean(np.mean(gaps, axis=0), seed=problem)
    results.add(
        f"exact minus {oracle}",
        mean.value,
        (mean.low, mean.high),
        n=mean.n,
        over="images",
        problem=problem,
    )


def record_fits(results: Results, measured: list[Measured]) -> None:
    """Accuracies of all posteriors, and the mixing of HMC."""
    for each in measured:
        for kind, value in (
            ("single sample", each.accuracy.sample),
            ("predictive mean", each.accuracy.predictive),
        ):
            results.add(
                "accuracy",
                value,
                task="1 against 7",
                posterior=each.method,
                of=kind,
                unit="share",
            )
        record_mixing(results, each.mixing, "1 against 7")
        record_convergence(results, [each.convergence], "1 against 7")
    gaps = [
        np.max(each.exact_high[epsilon].margin - each.exact_low[epsilon].margin)
        for each in measured
        for epsilon in EPSILONS
    ]
    results.add(
        "widest gap of exact bounds",
        max(gaps),
        unit="logits",
        n=len(gaps),
        over="posteriors and budgets",
    )
    results.add("boxes of branch and bound", sum(each.boxes for each in measured))
    orders = [_in_order(each, epsilon) for each in measured for epsilon in EPSILONS]
    results.add(
        "attacks beyond the exact bound",
        sum(orders),
        n=len(orders),
        over="posteriors and budgets",
    )


def _in_order(each: Measured, epsilon: float) -> int:
    """Pairs of sample and image in which an attack got farther than exact verification
    allows (none, if all is right).
    """
    top = each.exact_high[epsilon].margin + 1e-3
    return int(
        (each.fgsm[epsilon].margin > top).sum() + (each.pgd[epsilon].margin > top).sum()
    )


def record_mixing(results: Results, mixing: networks.Mixing | None, task: str) -> None:
    """R-hat and effective sample sizes of an HMC run, its acceptance and step size;
    nothing if there was none.

    From a handful of draws no effective sample size can be told, and none is recorded.
    """
    if mixing is None:
        return
    results.add("mean acceptance", mixing.acceptance, task=task, unit="share")
    results.add(
        "step size", mixing.step_size, task=task, unit="prior standard deviations"
    )
    for quantity, found in mixing.diagnoses.items():
        results.add("worst R-hat", found.worst_r_hat, task=task, quantity=quantity)
        results.add("median R-hat", found.median_r_hat, task=task, quantity=quantity)
        if mixing.draws < ENOUGH_DRAWS:
            continue
        results.add(
            "least effective sample size",
            found.least_ess,
            task=task,
            quantity=quantity,
            unit="samples",
        )
        results.add(
            "median effective sample size",
            found.median_ess,
            task=task,
            quantity=quantity,
            unit="samples",
        )


def record_convergence(
    results: Results, found: Sequence[Convergence | None], task: str
) -> None:
    """How variational training went: the bound, mean over seeds; of
    `mean_field.diagnose`'s other numbers, which are 1 at the optimum, the worst over
    seeds.

    Nothing is recorded where a posterior is not variational.
    """
    known = [each for each in found if each]
    if not known:
        return
    results.add(
        "evidence lower bound",
        float(np.mean([each.bound for each in known])),
        task=task,
        unit="nats per image",
    )
    for layer in known[0].balance:
        results.add(
            "balance of deviations",
            _farthest([each.balance[layer] for each in known]),
            task=task,
            layer=layer,
        )
    blank = [each.uninformed for each in known if each.uninformed is not None]
    if blank:
        results.add(
            "deviation without information",
            _farthest(blank),
            task=task,
            unit="prior standard deviations",
        )


def _farthest(values: Sequence[float]) -> float:
    """The value that is farthest from 1."""
    return max(values, key=lambda value: abs(value - 1))


def spread(posterior: Posterior, task: networks.Task, parameters: Parameters) -> Region:
    """Five-pixel boxes whose violation probabilities are spread over (0, 1): one image
    and budget for each target.

    Images and budgets are chosen on samples of their own, by FGSM, before any rule sees
    one.
    """
    images = task.test.take(POOL, parameters.first_seed).images
    samples = posterior.draw(
        CALIBRATION, Generator().manual_seed(parameters.first_seed + 1000)
    )
    pixels = box_pixels(images.shape[-1])
    regions = [pixel_box(images, epsilon, pixels) for epsilon in SPREAD_EPSILONS]
    shares = np.stack(
        [
            fgsm(samples, region).moves(DELTA).double().mean(0).numpy()
            for region in regions
        ]
    )
    chosen = nearest(shares, TARGETS)
    parts = [regions[budget].take(torch.tensor([image])) for budget, image in chosen]
    images, low, high = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("images", "low", "high")
    )
    return Region(images, low, high, max(part.epsilon for part in parts))


def stop_early(results: Results, parameters: Parameters) -> None:
    """Every rule on the dropout posterior with the exact oracle for Problem 1: sampling
    and verification stop together.
    """
    task = networks.two_classes(parameters)
    posterior = networks.fit("MC dropout", task, parameters, parameters.first_seed)
    region = spread(posterior, task, parameters)

    def oracle(samples: WeightSamples, boxes: Region) -> Tensor:
        return exact(samples, boxes, tolerance=TOLERANCE).low.moves(DELTA)

    for name, rule in pairs(parameters)["published"].items():
        generator = Generator().manual_seed(parameters.first_seed)
        found = verify(posterior, region, oracle, rule, generator)
        results.add(
            "oracle calls", found.calls, rule=name, n=len(TARGETS), over="images"
        )
        for image, estimate in enumerate(found.estimates):
            interval = estimate.interval
            results.add(
                "estimate",
                estimate.value,
                interval,
                n=estimate.count,
                over="samples",
                rule=name,
                image=image,
            )
