"""Stopping rules compared: what they cost and how often they fail, simulated, exactly,
and on a real posterior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.bayes.protocol import Posterior
from robustbook.bayes.weights import WeightSamples
from robustbook.measure import exact_counts, sequential
from robustbook.measure.region_attack import fgsm
from robustbook.measure.sequential import Rule, bounded_mean_interval
from robustbook.measure.verification import Region, ball
from robustbook.results import Results
from robustbook.stats import binomial_interval
from robustbook.studies.bnn_verification import networks
from robustbook.studies.bnn_verification.parameters import Parameters

PROBABILITIES = (
    0.0,
    0.01,
    0.02,
    0.05,
    0.1,
    0.14,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.86,
    0.9,
    0.95,
    0.98,
    0.99,
    1.0,
)
SIMULATED = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
CHEAP_HIDDEN = 32
TARGETS = (0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Reference probabilities that the images of the cheap task should have: image and
budget are chosen for them.
"""
CHEAP_EPSILONS = tuple(np.geomspace(0.01, 0.6, 24).round(4).tolist())
POOL, CALIBRATION = 40, 200
"""Test images to choose from, and posterior samples, of their own, by which they are
chosen.
"""
STREAMS_SHARE = 0.5
"""Of the reference samples, the share whose outcomes are cut into runs; the others give
the reference p.
"""


ETAS = (0.1, 0.25, 0.5)
"""Violation probabilities up to which a network may be declared robust."""
FINE = tuple(np.linspace(0, 1, 201).round(4).tolist())
"""Where the errors of a rule are looked at, to find its largest."""


@lru_cache(maxsize=8)
def all_rules(theta: float, gamma: float, alpha: float) -> Mapping[str, Rule]:
    """The exact binomial number beside the five rules, in the order of the pages."""
    rules = sequential.rules(theta, gamma, alpha)
    fixed = exact_counts.exact_binomial(theta, gamma)
    first = {"Chernoff": rules["Chernoff"], fixed.name: fixed}
    return {**first, **rules}


def pairs(parameters: Parameters) -> dict[str, Mapping[str, Rule]]:
    """The six rules for the published and for the tighter pair of theta and gamma."""
    return {
        "published": all_rules(parameters.theta, parameters.gamma, parameters.alpha),
        "tight": all_rules(
            parameters.tight_theta, parameters.tight_gamma, parameters.tight_alpha
        ),
    }


def record_costs(results: Results, **settings: Any) -> None:
    """Exact mean samples, the lower limit of any rule, the worst failure over all p,
    the error of the estimate, and where a rule's gain over Chernoff's number comes
    from.
    """
    parameters = Parameters.of(settings)
    for pair, rules in pairs(parameters).items():
        theta, gamma = rules["Chernoff"].theta, rules["Chernoff"].gamma
        results.add("promised failure", gamma, unit="share", pair=pair)
        results.add("promised half-width", theta, pair=pair)
        massart = sequential.operating(rules["Massart"], PROBABILITIES).mean_count
        for p, limit in zip(
            PROBABILITIES,
            sequential.fewest_outcomes(theta, gamma, PROBABILITIES),
            strict=True,
        ):
            results.add("lower limit of samples", limit, unit="samples", pair=pair, p=p)
        for name, rule in rules.items():
            costs = sequential.operating(rule, PROBABILITIES).mean_count
            for p, cost, reference in zip(PROBABILITIES, costs, massart, strict=True):
                results.add(
                    "mean samples", cost, unit="samples", rule=name, pair=pair, p=p
                )
                results.add(
                    "samples relative to Massart",
                    cost / reference,
                    rule=name,
                    pair=pair,
                    p=p,
                )
            results.add(
                "worst failure",
                sequential.worst_failure(rule),
                unit="share",
                rule=name,
                pair=pair,
            )
            _record_gain(results, rules["Chernoff"], rule, {"rule": name, "pair": pair})
    _record_mirrored(results, parameters)


def _record_gain(
    results: Results, chernoff: Rule, rule: Rule, factors: Mapping[str, Any]
) -> None:
    """How far a rule's number falls below Chernoff's: by its inequality, also where it
    pays most, and by stopping early where it pays less; and its estimate's error.
    """
    most = sequential.operating(rule, FINE).mean_count.max()
    results.add(
        "samples saved by the inequality",
        chernoff.horizon - most,
        unit="samples",
        **factors,
    )
    for p in (0.0, 0.05, 0.2):
        saved = most - sequential.operating(rule, p).mean_count[0]
        results.add("samples saved by stopping", saved, unit="samples", p=p, **factors)
    errors = exact_counts.typical_error(rule, FINE)
    results.add("largest error of the estimate", errors.max(), of="any p", **factors)
    results.add("largest error of the estimate", errors[0], of="p = 0", **factors)
    for eta in ETAS:
        # Falls in p, so the largest value above eta is the one at eta.
        wrong = exact_counts.declared_robust(rule, eta, eta)[0]
        right = exact_counts.declared_robust(rule, 0.0, eta)[0]
        for of, share in (("p above eta", wrong), ("p = 0", right)):
            results.add(
                "declared robust", share, unit="share", eta=eta, of=of, **factors
            )


def _record_mirrored(results: Results, parameters: Parameters) -> None:
    """The other reading of Massart's bound above one half."""
    rule = exact_counts.mirrored_massart(
        parameters.theta, parameters.gamma, parameters.alpha
    )
    cost = sequential.operating(rule, [0.9, 1.0]).mean_count
    for p, value in zip((0.9, 1.0), cost, strict=True):
        results.add("mean samples, mirrored Massart", value, unit="samples", p=p)
    results.add(
        "worst failure, mirrored Massart", sequential.worst_failure(rule), unit="share"
    )


def record_simulations(results: Results, **settings: Any) -> None:
    """Share of simulated Bernoulli runs that miss p by more than theta, for each pair
    and p; all rules on the same runs.
    """
    parameters = Parameters.of(settings)
    for pair, rules in pairs(parameters).items():
        for p in SIMULATED:
            rng = np.random.default_rng([parameters.first_seed, int(1000 * p)])
            for name, misses in _misses(rules, p, parameters.runs, rng).items():
                share = binomial_interval(misses, parameters.runs)
                results.add(
                    "simulated failure",
                    share.value,
                    (share.low, share.high),
                    n=parameters.runs,
                    over="runs",
                    unit="share",
                    rule=name,
                    pair=pair,
                    p=p,
                )


def _misses(
    rules: Mapping[str, Rule],
    p: float,
    runs: int,
    rng: np.random.Generator,
    block: int = 2500,
) -> dict[str, int]:
    """Failures of each rule among `runs` simulated runs, `block` at a time to save
    memory.
    """
    misses, horizon = (
        dict.fromkeys(rules, 0),
        max(rule.horizon for rule in rules.values()),
    )
    for start in range(0, runs, block):
        outcomes = rng.random((min(block, runs - start), horizon), dtype=np.float32) < p
        for name, rule in rules.items():
            misses[name] += int(sequential.replay(rule, outcomes, p).misses.sum())
    return misses


@dataclass(frozen=True, eq=False)
class Streams:
    """Outcomes (I, R) of many posterior samples on I images, and the reference
    probability of each from as many others.
    """

    outcomes: NDArray[np.bool_]
    references: NDArray[np.float64]


def posterior_streams(**settings: Any) -> Streams:
    """Whether FGSM flips the decision, for many samples of a cheap variational
    posterior on 1 against 7.

    Any yes-or-no outcome of a posterior sample would do; this one costs three passes.
    """
    parameters = Parameters.of(settings)
    task = networks.two_classes(parameters, hidden=CHEAP_HIDDEN)
    posterior = networks.fit("mean-field VI", task, parameters, parameters.first_seed)
    generator = torch.Generator().manual_seed(parameters.first_seed)
    regions = spread_regions(
        posterior, task.test.take(POOL, parameters.first_seed).images, parameters
    )
    total = int(parameters.reference_samples / STREAMS_SHARE)
    blocks = [
        _flips(posterior.draw(min(2000, total - n), generator), regions)
        for n in range(0, total, 2000)
    ]
    flips = torch.cat(blocks).numpy().T
    count = parameters.reference_samples
    return Streams(flips[:, count:], flips[:, :count].mean(axis=1))


def spread_regions(
    posterior: Posterior, images: Tensor, parameters: Parameters
) -> list[Region]:
    """Balls of one image each whose flip probabilities, on samples of their own, come
    nearest to the targets.
    """
    samples = posterior.draw(
        CALIBRATION, torch.Generator().manual_seed(parameters.first_seed + 1000)
    )
    regions = [ball(images, epsilon) for epsilon in CHEAP_EPSILONS]
    shares = np.stack(
        [fgsm(samples, region).flips.double().mean(0).numpy() for region in regions]
    )
    return [
        regions[budget].take(torch.tensor([image]))
        for budget, image in nearest(shares, TARGETS)
    ]


def nearest(
    shares: NDArray[np.float64], targets: Sequence[float]
) -> list[tuple[int, int]]:
    """For each target the (budget, image) of a table (E, N) of shares that comes
    nearest, no image twice.
    """
    left, chosen = shares.astype(float).copy(), []
    for target in targets:
        budget, image = np.unravel_index(
            np.nanargmin(np.abs(left - target)), left.shape
        )
        chosen.append((int(budget), int(image)))
        left[:, image] = np.nan
    return chosen


def _flips(samples: WeightSamples, regions: list[Region]) -> Tensor:
    """Whether FGSM flips the decision of each sample in each one-image region
    (S, I).
    """
    return torch.cat([fgsm(samples, region).flips for region in regions], dim=1)


def record_posterior(results: Results, streams: Streams, **settings: Any) -> None:
    """Share of runs on real posterior samples that miss the reference p by more than
    theta, mean over the images.

    A block of samples gives one run on every image, so the runs of a block are
    dependent and the blocks are what counts: the interval is that of the mean over
    independent blocks of values in [0, 1], the share of images missed in a block.
    """
    parameters = Parameters.of(settings)
    for image, reference in enumerate(streams.references):
        results.add(
            "reference probability",
            reference,
            n=parameters.reference_samples,
            over="samples",
            image=image,
        )
    for name, rule in pairs(parameters)["published"].items():
        runs = streams.outcomes.shape[1] // rule.horizon
        cut = streams.outcomes[:, : runs * rule.horizon].reshape(-1, runs, rule.horizon)
        replays = [
            sequential.replay(rule, part, p)
            for part, p in zip(cut, streams.references, strict=True)
        ]
        shares = np.mean([replay.misses for replay in replays], axis=0)
        results.add(
            "failure on a posterior",
            shares.mean(),
            bounded_mean_interval(shares),
            n=runs,
            over="blocks of samples",
            unit="share",
            rule=name,
        )
        _record_declared(results, name, replays, rule, streams.references)
        counts = np.mean([replay.counts for replay in replays], axis=0)
        results.add(
            "samples on a posterior",
            counts.mean(),
            n=runs,
            over="blocks of samples",
            unit="samples",
            rule=name,
        )


def _record_declared(
    results: Results,
    name: str,
    replays: Sequence[sequential.Simulation],
    rule: Rule,
    references: NDArray[np.float64],
) -> None:
    """Share of runs that declare a network robust although the reference p is above
    eta: mean over such images, interval over blocks.
    """
    for eta in ETAS:
        found = [
            replay.estimates + rule.theta <= eta + sequential.SLACK
            for replay, p in zip(replays, references, strict=True)
            if p > eta
        ]
        if not found:
            continue
        shares = np.mean(found, axis=0)
        results.add(
            "wrongly declared robust on a posterior",
            shares.mean(),
            bounded_mean_interval(shares),
            n=len(shares),
            over="blocks of samples",
            unit="share",
            rule=name,
            eta=eta,
        )
