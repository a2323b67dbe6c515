"""The controls of the study: logits scaled by a constant (claim Y5), and networks whose
gradients are masked (claim Y7b).

Read `record_scaling`, then `record_masked` with `searched` (three searches for the
largest divergence of one network).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module, Sequential

from robustbook.measure.divergence import (
    divergence_from,
    log_prediction,
    worst_divergence,
)
from robustbook.models import Scale
from robustbook.models.network import accuracy, compute_logits
from robustbook.perturb.gradient import fgsm
from robustbook.perturb.square import square_attack
from robustbook.results import Results
from robustbook.stats import bootstrap_mean
from robustbook.studies.loss_metric.measure.evaluation import (
    READINGS,
    Reading,
    divergence,
    generator_of,
    test_images,
)
from robustbook.studies.loss_metric.measure.landscape import PSI_STEP
from robustbook.studies.loss_metric.networks import (
    MASKED_ARCHITECTURE,
    Network,
    judged,
    load_network,
)
from robustbook.studies.loss_metric.rows import SMALLEST_KL, Rows, over_rows, psi_of
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
SCALES = (0.1, 1.0, 10.0)
SEARCHES = ("gradient", "transfer", "random search")


def record_scaling(
    results: Results, networks: Sequence[Network], *, images: int, steps: int
) -> None:
    """Rows of Y5: psi of `networks` when logits are scaled, under every reading; what
    happens without normalisation, and to FGSM accuracy, to the first of them.
    """
    for reading, precision in product(READINGS, ("double", "single")):
        dtype = torch.float64 if precision == "double" else torch.float32
        changes = [
            _largest_change(network, images, steps, reading, dtype)
            for network in networks
        ]
        results.add(
            "largest relative change of psi under scaling",
            max(changes),
            n=len(networks) * images,
            precision=precision,
            **reading.factors,
        )
    network = networks[0]
    model = load_network(network)
    points, labels = test_images(network, images)
    medians = []
    for scale in SCALES:
        kl = divergence(
            _times(model, scale),
            points,
            network.epsilon,
            steps,
            network,
            reading=Reading("forward", False),
        )
        medians.append(float(np.median(psi_of(kl))))
        results.add(
            "median psi without normalisation",
            medians[-1],
            n=len(points),
            unit="1/nats",
            scale=scale,
        )
    results.add(
        "ratio of median psi between scales",
        max(medians) / min(medians),
        logits="plain",
    )
    for scale in (*SCALES, 100.0):
        attacked = fgsm(_times(model, scale), points, labels, epsilon=network.epsilon)
        results.add(
            "FGSM accuracy of scaled logits",
            accuracy(model, attacked, labels),
            n=len(points),
            unit="share",
            scale=scale,
        )


def _largest_change(
    network: Network, images: int, steps: int, reading: Reading, dtype: torch.dtype
) -> float:
    """Largest relative change of psi over images when the logits are scaled by 0.1 and
    10.
    """
    model = copy.deepcopy(load_network(network)).to(dtype)
    points = test_images(network, images)[0].to(dtype)
    psi = {
        scale: psi_of(
            divergence(
                _times(model, scale),
                points,
                network.epsilon,
                steps,
                network,
                reading=reading,
            )
        )
        for scale in SCALES
    }
    return max(float(np.abs(psi[scale] / psi[1.0] - 1).max()) for scale in SCALES)


def _times(model: Module, factor: float) -> Module:
    """The model with its logits multiplied by `factor`, as if its last layer were."""
    return Sequential(*model.children(), Scale(factor)).eval()


def record_masked(
    results: Results,
    networks: Sequence[Network],
    *,
    images: int,
    steps: int,
    restarts: int,
    queries: int,
) -> None:
    """Rows of Y7b: psi of natural and of masked networks by three searches, and by the
    best of them, which is the remedy; and what each costs.
    """
    measure = partial(
        searched,
        seeds=sorted({network.seed for network in networks}),
        images=images,
        steps=steps,
        restarts=restarts,
        queries=queries,
    )
    measured = map_in_workers(measure, networks)
    for masking in dict.fromkeys(network.masking for network in networks):
        group = [
            found
            for network, found in zip(networks, measured, strict=True)
            if network.masking == masking
        ]
        _record_searches(results, masking, group)
    ascent = restarts * (2 * steps + 1) + 1
    passes = dict(zip(SEARCHES, (ascent, ascent + 1, queries + 2), strict=True))
    for search, count in {**passes, "best": sum(passes.values())}.items():
        results.add("passes of a search", count, unit="passes per image", search=search)


def _record_searches(
    results: Results, masking: str, group: Sequence[dict[str, Array]]
) -> None:
    over: dict[str, Any] = {"over": "images, mean of seeds", "network": masking}
    clean = np.mean([found["clean"] for found in group], axis=0)
    results.add(
        "clean accuracy of masked", bootstrap_mean(clean, seed=0), unit="share", **over
    )
    psi = {
        search: np.stack([psi_of(found[search]) for found in group])
        for search in SEARCHES
    }
    psi["best"] = np.min(list(psi.values()), axis=0)

    def median(search: str, rows: Rows) -> Array:
        return np.asarray(np.median(psi[search][:, rows], axis=1))

    count = psi["best"].shape[1]
    for search in psi:
        found = over_rows(
            lambda rows, search=search: float(median(search, rows).mean()),  # type: ignore[misc]
            count,
        )
        results.add("psi of masked", found, unit="1/nats", search=search, **over)
    ratio = over_rows(
        lambda rows: float((median("gradient", rows) / median("best", rows)).mean()),
        count,
    )
    results.add("psi by gradient over the best search", ratio, **over)


def searched(
    network: Network,
    *,
    seeds: Sequence[int],
    images: int,
    steps: int,
    restarts: int,
    queries: int,
) -> dict[str, Array]:
    """Correctness, and the divergence (nats) where three searches end: along the
    network's own gradient, along that of a natural network of another of the `seeds`,
    and by the squares of Square Attack.

    All three are read off `judged`, so that noise in a single pass counts for nothing.
    """
    model, judge = load_network(network), judged(network)
    points, labels = test_images(network, images)
    clean = compute_logits(judge, points)

    def ascent(along: Module) -> Tensor:
        return worst_divergence(
            along,
            points,
            epsilon=network.epsilon,
            steps=steps,
            step_size=PSI_STEP * network.epsilon,
            restarts=restarts,
            generator=generator_of(network),
        ).images

    divergence_of = divergence_from()

    def minus_psi(logits: Tensor, log_p: Tensor) -> Tensor:
        """Below 0 always, so that the search never stops early."""
        return -1 / divergence_of(logits, log_p).clamp_min(SMALLEST_KL)

    squares = square_attack(
        model,
        points,
        labels,
        epsilon=network.epsilon,
        queries=queries,
        objective=minus_psi,
        targets=log_prediction(compute_logits(model, points)),
        generator=generator_of(network),
    )
    ends = (ascent(model), ascent(load_network(_source(network, seeds))), squares)

    def attained(end: Tensor) -> Array:
        kl = divergence_of(compute_logits(judge, end), log_prediction(clean))
        return kl.double().numpy()

    return {
        "clean": (clean.argmax(1) == labels).double().numpy(),
        **{name: attained(end) for name, end in zip(SEARCHES, ends, strict=True)},
    }


def _source(network: Network, seeds: Sequence[int]) -> Network:
    """The natural network whose gradient is transferred: another seed than this one."""
    others = [seed for seed in seeds if seed != network.seed] or [network.seed + 1]
    return replace(
        network,
        architecture=MASKED_ARCHITECTURE,
        training="natural",
        seed=others[0],
        scale=1.0,
        levels=0,
        noise=0.0,
    )
