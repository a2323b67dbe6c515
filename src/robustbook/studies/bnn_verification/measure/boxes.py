"""Five pixels of a one or a seven: every oracle on the same posterior samples, with an
exact answer among them.

Read `measure` (one posterior from one seed, in a process of its own), then
`record_...` (rows of the record), then `stop_early`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robustbook.bayes.protocol import Posterior
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.branch_and_bound import Exact, exact
from robustbook.measure.mean_prediction import mean_reach
from robustbook.measure.region_attack import fgsm, pgd
from robustbook.measure.sequential import estimate
from robustbook.measure.verification import (
    Reach,
    Region,
    answer,
    by_chunks,
    pixel_box,
)
from robustbook.results import Results
from robustbook.stats import mean_interval_t
from robustbook.studies import protocol
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.measure.guarantees import nearest, pairs
from robustbook.studies.bnn_verification.parameters import DELTAS, EPSILONS, Parameters
from robustbook.workers import map_in_workers

TOLERANCE = 0.4 * DELTAS[0]
"""Logits: branch and bound stops when its bounds are this close. A probability moves by
a quarter of that at most, a tenth of the smallest threshold.
"""
BOXES = 2000
"""Boxes that branch and bound looks at for each pair of sample and image, on average;
few pairs need as many, and what is still open then counts as undecided.
"""
DELTA = 5e-2
"""Threshold of Problem 1 where one is shown."""
TARGETS = (0.05, 0.2, 0.5, 0.8)
"""Violation probabilities that the images of `stop_early` should have."""
SPREAD_EPSILONS = tuple(round(0.1 * step, 1) for step in range(1, 10))
TRACED = 0.3
POOL, CALIBRATION = 60, 60
"""Test images to choose from, and posterior samples by which they are chosen."""
NAMES = (*networks.METHODS, *networks.RIVALS)
ATTACKS = ("FGSM", "PGD", "corners")

Table = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Reached:
    """Reach of one oracle as arrays (S, N)."""

    distance: Table
    margin: Table

    def moves(self, delta: float | None) -> Flags:
        """Problem 1: probabilities move by more than `delta`; Problem 2 (None): the
        decision changes.
        """
        return self.margin > 0 if delta is None else self.distance > delta


def _arrays(reach: Reach) -> Reached:
    return Reached(reach.distance.double().numpy(), reach.margin.double().numpy())


@dataclass(frozen=True, eq=False)
class Boxed:
    """One posterior from one seed on all boxes: accuracy, and by budget what exact
    search bounds (`low`, `high`), each attack reaches, and the bracket of the mean.
    """

    name: str
    seed: int
    accuracy: networks.Accuracy
    low: dict[float, Reached]
    high: dict[float, Reached]
    attacks: dict[str, dict[float, Reached]]
    mean: dict[float, tuple[Reached, Reached]]
    boxes: int


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


def measure_all(**settings: Any) -> list[Boxed]:
    """All posteriors and seeds on 1 against 7, side by side; the chains of HMC and the
    rates that match others to it come first.
    """
    parameters = Parameters.of(settings)
    task = networks.two_classes(parameters)
    match_all(task, parameters)
    items = [
        (name, seed, parameters)
        for seed in protocol.seeds(parameters)
        for name in NAMES
    ]
    return map_in_workers(measure, items)


def match_all(task: networks.Task, parameters: Parameters) -> None:
    """Find all rates of dropout by which it is matched; they stay in the cache."""
    pieces = itertools.product(networks.COMPARED, protocol.seeds(parameters))
    map_in_workers(partial(_match, task=task, parameters=parameters), list(pieces))


def _match(
    item: tuple[str, int], *, task: networks.Task, parameters: Parameters
) -> float:
    method, seed = item
    return networks.matched_rate(method, task, parameters, seed)


def measure(item: tuple[str, int, Parameters]) -> Boxed:
    """Ask every oracle about the same samples of one posterior."""
    name, seed, parameters = item
    task = networks.two_classes(parameters)
    crowd = networks.samples_of(name, task, parameters, seed, counted(parameters))
    samples = crowd.take(slice(parameters.samples))
    low, high, mean, boxes = {}, {}, {}, 0
    attacks: dict[str, dict[float, Reached]] = {attack: {} for attack in ATTACKS}
    for epsilon in EPSILONS:
        region = region_of(task, parameters, epsilon)
        found = search(samples, region)
        low[epsilon], high[epsilon] = _arrays(found.low), _arrays(found.high)
        boxes += found.boxes
        for attack, reach in _attacks(samples, region, parameters):
            attacks[attack][epsilon] = _arrays(reach)
        both = mean_reach(
            samples,
            region,
            found.high,
            steps=parameters.steps,
            restarts=parameters.restarts,
            generator=Generator().manual_seed(seed),
        )
        mean[epsilon] = _arrays(both.low), _arrays(both.high)
    reached = networks.accuracy(crowd, task, parameters)
    return Boxed(name, seed, reached, low, high, attacks, mean, boxes)


def search(samples: WeightSamples, region: Region) -> Exact:
    """Exact search, to a tenth of the smallest threshold."""
    limit = BOXES * len(samples) * len(region.images)
    return exact(samples, region, tolerance=TOLERANCE, limit=limit)


def counted(parameters: Parameters) -> int:
    """Samples to draw: those that are attacked, and more for the accuracy."""
    return max(parameters.samples, networks.ACCURACY_SAMPLES)


def _attacks(
    samples: WeightSamples, region: Region, parameters: Parameters
) -> list[tuple[str, Reach]]:
    strong = pgd(
        samples,
        region,
        steps=parameters.steps,
        restarts=parameters.restarts,
        generator=Generator().manual_seed(parameters.first_seed),
    )
    every = by_chunks(samples, None, partial(corners, region=region))
    return [("FGSM", fgsm(samples, region)), ("PGD", strong), ("corners", every)]


def corners(samples: WeightSamples, region: Region) -> Reach:
    """The farthest corner of each box, of all: no gradient, one pass a corner."""
    free = (region.high > region.low).any(0)
    places = free.nonzero()
    at = answer(samples.logits(region.images))
    found: Reach | None = None
    for picks in itertools.product((False, True), repeat=len(places)):
        mask = torch.zeros_like(free)
        mask[tuple(places[torch.tensor(picks)].T)] = True
        points = torch.where(mask, region.high, region.low)
        here = at.reach(samples.logits(points))
        found = here if found is None else found.farther(here)
    assert found is not None
    return found


# Rows
# --------------------------------------------------------------------------------------


def by_name(measured: Sequence[Boxed]) -> dict[str, list[Boxed]]:
    """The seeds of each posterior, in order."""
    names = dict.fromkeys(each.name for each in measured)
    return {name: [each for each in measured if each.name == name] for name in names}


def over_seeds(found: Sequence[Boxed], value: Callable[[Boxed], float]) -> list[float]:
    """One number a seed."""
    return [float(value(each)) for each in found]


def _add(
    results: Results, name: str, values: Sequence[Any], unit: str, **factors: Any
) -> None:
    """The mean over seeds with Student's interval."""
    results.add(name, mean_interval_t(values), over="seeds", unit=unit, **factors)


def violated(each: Boxed, delta: float | None, budgets: Sequence[float]) -> float:
    """Exact violation probability, mean over samples, images and budgets."""
    return float(np.mean([each.low[epsilon].moves(delta) for epsilon in budgets]))


def record_grid(results: Results, measured: Sequence[Boxed]) -> None:
    """Violation probability over the grid of budgets and thresholds, how many cells
    are not decided, and the order on the grid.
    """
    for name, found in by_name(measured).items():
        for epsilon, delta in itertools.product(EPSILONS, (*DELTAS, None)):
            problem = (
                {"problem": 2} if delta is None else {"problem": 1, "delta": delta}
            )
            values = over_seeds(found, partial(_violated_at, delta, epsilon))
            _add(
                results,
                "violation probability",
                values,
                "share",
                posterior=name,
                epsilon=epsilon,
                **problem,
            )
    for delta in DELTAS:
        open_pairs = [
            (each.low[epsilon].distance <= delta)
            & (each.high[epsilon].distance > delta)
            for each in measured
            for epsilon in EPSILONS
        ]
        results.add(
            "undecided by exact search",
            np.mean(np.concatenate([part.ravel() for part in open_pairs])),
            n=sum(part.size for part in open_pairs),
            over="pairs of sample and image",
            unit="share",
            delta=delta,
        )
    _record_order(results, measured)


def _violated_at(delta: float | None, epsilon: float, each: Boxed) -> float:
    return violated(each, delta, [epsilon])


def _record_order(results: Results, measured: Sequence[Boxed]) -> None:
    """Comparisons of neighbouring budgets in which a violation vanishes, and the rise
    from first to last.

    Thresholds need no comparison: on the same samples whatever moves by more than the
    larger one moves by more than the smaller one.
    """
    tables = {"exact": [(each.low, each.high) for each in measured]}
    tables["FGSM"] = [(each.attacks["FGSM"],) * 2 for each in measured]
    for oracle, pairs_of in tables.items():
        counts = np.concatenate(
            [
                _vanished(low, high, delta).ravel()
                for low, high in pairs_of
                for delta in DELTAS
            ]
        )
        results.add(
            "violations of monotonicity",
            counts.sum(),
            n=counts.size,
            over="neighbouring budgets",
            oracle=oracle,
        )
    seeds = sorted({each.seed for each in measured})
    rises = [
        np.mean(
            [
                violated(each, DELTA, EPSILONS[-1:])
                - violated(each, DELTA, EPSILONS[:1])
                for each in measured
                if each.seed == seed and each.name in networks.METHODS
            ]
        )
        for seed in seeds
    ]
    _add(results, "rise of the violation probability over the budgets", rises, "share")


def _vanished(
    low: dict[float, Reached], high: dict[float, Reached], delta: float
) -> Flags:
    """Per comparison of neighbouring budgets (E - 1, N): whether the share of moved
    samples falls for certain.
    """
    before = np.stack([low[e].moves(delta).mean(0) for e in EPSILONS[:-1]])
    after = np.stack([high[e].moves(delta).mean(0) for e in EPSILONS[1:]])
    vanished: Flags = after < before - 1e-12
    return vanished


def record_oracles(results: Results, measured: Sequence[Boxed]) -> None:
    """Violation probability by oracle and budget, and the share of what exists that
    attacks overlook (over budgets and posteriors, one number a seed).
    """
    found = [each for each in measured if each.name in networks.METHODS]
    for name, seeds in by_name(found).items():
        for epsilon, problem in itertools.product(EPSILONS, (1, 2)):
            delta = DELTA if problem == 1 else None
            for oracle in ("exact", *ATTACKS):
                shares = [
                    (each.low if oracle == "exact" else each.attacks[oracle])[epsilon]
                    .moves(delta)
                    .mean()
                    for each in seeds
                ]
                results.add(
                    "probability by oracle",
                    np.mean(shares),
                    unit="share",
                    oracle=oracle,
                    posterior=name,
                    epsilon=epsilon,
                    problem=problem,
                )
    seeds_of = sorted({each.seed for each in found})
    for problem, oracle in itertools.product((1, 2), ATTACKS):
        delta = DELTA if problem == 1 else None
        shares = [
            _overlooked([e for e in found if e.seed == seed], oracle, delta)
            for seed in seeds_of
        ]
        name = "share of violations overlooked"
        _add(results, name, shares, "share", oracle=oracle, problem=problem)


def _overlooked(found: Sequence[Boxed], oracle: str, delta: float | None) -> float:
    """Of the violations that exist, the share that an attack does not find."""
    exist = missed = 0
    for each, epsilon in itertools.product(found, EPSILONS):
        certain = each.low[epsilon].moves(delta)
        exist += int(certain.sum())
        missed += int((certain & ~each.attacks[oracle][epsilon].moves(delta)).sum())
    return missed / max(exist, 1)


def record_means(results: Results, measured: Sequence[Boxed]) -> None:
    """The bracket of the mean prediction: share of images whose mean decision an attack
    changes, and that no bound protects, beside single samples.
    """
    for name, found in by_name(measured).items():
        if name not in networks.METHODS:
            continue
        for epsilon in EPSILONS:
            record_mean_bracket(
                results,
                [
                    (
                        each.mean[epsilon][0].moves(None),
                        each.mean[epsilon][1].moves(None),
                    )
                    for each in found
                ],
                posterior=name,
                epsilon=epsilon,
            )


def record_mean_bracket(
    results: Results,
    flips: Sequence[tuple[Flags, Flags]],
    images: str = "",
    **factors: Any,
) -> None:
    """Both ends of one bracket, mean over seeds; `flips` has one pair a seed, and
    `images` is added to the names of the rows.
    """
    for place, end in enumerate(("attacked", "certified")):
        results.add(
            f"mean prediction bracket{images}",
            np.mean([pair[place].mean() for pair in flips]),
            n=len(flips),
            over="seeds",
            unit="share",
            end=end,
            **factors,
        )
    broken = sum(int((low & ~high).sum()) for low, high in flips)
    results.add(f"mean brackets broken{images}", broken, **factors)


def record_searches(results: Results, measured: Sequence[Boxed]) -> None:
    """How close the bounds of exact search come, what they cost, and whether any attack
    got farther than they allow.
    """
    gaps = [
        np.max(each.high[epsilon].margin - each.low[epsilon].margin)
        for each in measured
        for epsilon in EPSILONS
    ]
    results.add("widest gap of exact bounds", max(gaps), unit="logits")
    results.add("boxes of branch and bound", sum(each.boxes for each in measured))
    beyond = sum(
        int((reached[epsilon].margin > each.high[epsilon].margin + 1e-3).sum())
        for each in measured
        for reached in each.attacks.values()
        for epsilon in EPSILONS
    )
    results.add("attacks beyond the exact bound", beyond)


def record_differences(
    results: Results,
    task: str,
    robust: Callable[[str, float | None], list[float]],
    accuracy: Callable[[str], list[float]],
    thresholds: Sequence[float | None],
) -> None:
    """HMC and variational inference less dropout: at the published rate, at their
    accuracy, and for Problem 1 with logits of their size too; by seed.
    """
    for method in networks.COMPARED:
        rivals = {
            "published rate": "MC dropout",
            "same accuracy": f"{networks.ACCURATE}{method}",
            "same accuracy and logits": f"{networks.ALIKE}{method}",
        }
        for rival, name in rivals.items():
            gaps = np.subtract(accuracy(method), accuracy(name))
            common = {"posterior": method, "rival": rival, "task": task}
            _add(results, "accuracy difference", list(gaps), "share", **common)
            for delta in thresholds:
                if delta is None and name.startswith(networks.ALIKE):
                    continue  # no decision depends on the size of the logits
                theirs = robust(name, delta)
                ahead = np.subtract(robust(method, delta), theirs)
                problem: dict[str, Any] = (
                    {"problem": 2} if delta is None else {"problem": 1, "delta": delta}
                )
                for row, values in (
                    ("robustness difference", list(ahead)),
                    ("robustness of the rival", theirs),
                ):
                    _add(results, row, values, "share", **common, **problem)


def compare(results: Results, measured: Sequence[Boxed]) -> None:
    """`record_differences` on five pixels, mean over the published budgets."""
    found = by_name(measured)

    def robust(name: str, delta: float | None) -> list[float]:
        return over_seeds(found[name], lambda each: 1 - violated(each, delta, EPSILONS))

    def accuracy(name: str) -> list[float]:
        return over_seeds(found[name], lambda each: each.accuracy.sample)

    record_differences(results, "1 against 7", robust, accuracy, (*DELTAS, None))


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


def stop_early(results: Results, **settings: Any) -> None:
    """Every rule on the same networks of the dropout posterior, asked by exact search
    for Problem 1: what each draws until it stops, and finds.
    """
    parameters = Parameters.of(settings)
    task = networks.two_classes(parameters)
    posterior = networks.fit("MC dropout", task, parameters, parameters.first_seed)
    region = spread(posterior, task, parameters)
    rules = pairs(parameters)["published"]
    most = max(rule.horizon for rule in rules.values())
    samples = posterior.draw(most, Generator().manual_seed(parameters.first_seed))
    moved = search(samples, region).low.moves(DELTA)
    for name, rule in rules.items():
        found = [estimate(rule, _read(column)) for column in moved.T.tolist()]
        calls = sum(each.count for each in found)
        results.add("oracle calls", calls, rule=name, n=len(found), over="images")
        for image, each in enumerate(found):
            share = each.successes / each.count
            low, high = each.interval
            results.add(
                "violations found",
                share,
                (min(low, share), max(high, share)),
                n=each.count,
                over="samples",
                unit="share",
                rule=name,
                image=image,
            )


def _read(outcomes: list[bool]) -> Callable[[int], list[bool]]:
    """Outcomes one block after the other."""
    stream = iter(outcomes)
    return lambda count: list(itertools.islice(stream, count))


@dataclass(frozen=True, eq=False)
class Trace:
    """Outcomes (T,) of networks drawn one after the other on one image: whether its
    five pixels can change the decision; `reference` is their share in many more.
    """

    image: Tensor
    pixels: list[tuple[int, int]]
    epsilon: float
    outcomes: Flags
    reference: float


def trace(**settings: Any) -> Trace:
    """The networks that Chernoff's number draws from the variational posterior, on the
    image and budget at which about a third of them can be flipped.
    """
    parameters = Parameters.of(settings)
    task = networks.two_classes(parameters)
    posterior = networks.fit("mean-field VI", task, parameters, parameters.first_seed)
    images = task.test.take(POOL, parameters.first_seed).images
    pixels = box_pixels(images.shape[-1])
    generator = Generator().manual_seed(parameters.first_seed)
    pool = posterior.draw(CALIBRATION, generator)
    regions = [pixel_box(images, epsilon, pixels) for epsilon in SPREAD_EPSILONS]
    shares = [fgsm(pool, region).flips.double().mean(0) for region in regions]
    ((budget, image),) = nearest(torch.stack(shares).numpy(), (TRACED,))
    region = regions[budget].take(torch.tensor([image]))
    count = pairs(parameters)["published"]["Chernoff"].horizon
    samples = posterior.draw(5 * count, generator)
    flips = search(samples, region).low.flips[:, 0].numpy()
    return Trace(
        region.images[0],
        pixels,
        SPREAD_EPSILONS[budget],
        flips[:count],
        float(flips[count:].mean()),
    )
