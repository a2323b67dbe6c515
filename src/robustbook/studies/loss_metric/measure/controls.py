"""The controls of the study: logits scaled by a constant (claim Y5), and networks whose
gradients are masked (claim Y7b).

Read `record_scaling`, then `record_masked` with `searched` (four searches for the
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
from robustbook.models.network import accuracy, compute_logits, frozen
from robustbook.perturb.auto_attack import auto_attack
from robustbook.perturb.gradient import fgsm
from robustbook.perturb.square import square_attack
from robustbook.results import Results
from robustbook.stats import bootstrap_mean, rank_correlation
from robustbook.studies.loss_metric.measure.evaluation import (
    READINGS,
    Measurements,
    Reading,
    divergence,
    generator_of,
    test_images,
)
from robustbook.studies.loss_metric.measure.landscape import PSI_STEP
from robustbook.studies.loss_metric.networks import (
    MASKED_ARCHITECTURE,
    Network,
    approximated,
    judged,
    load_network,
)
from robustbook.studies.loss_metric.rows import SMALLEST_KL, Rows, over_rows, psi_of
from robustbook.workers import map_in_workers

Array = NDArray[np.float64]
SCALES = (0.1, 1.0, 10.0)
SEARCHES = ("gradient", "BPDA", "transfer", "random search")
# A gradient vanishes where all that it promises over the ball is less than this share
# of what a search without gradients finds.
VANISHING = 1e-3


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
    among: Sequence[Measurements] = (),
) -> None:
    """Rows of Y7b: psi of natural and of masked networks by four searches, and by the
    best of them, which is the remedy; and what each costs. Where there are networks to
    rank them `among`, also how well psi ranks all (Y3).
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
    if among:
        _record_ranks(results, networks, measured, among)
    ascent = restarts * (2 * steps + 1) + 1
    costs = (ascent, 2 * steps + 3, ascent + 1, queries + 2)
    passes = dict(zip(SEARCHES, costs, strict=True))
    for search, count in {**passes, "best": sum(passes.values())}.items():
        results.add("passes of a search", count, unit="passes per image", search=search)


def _record_searches(
    results: Results, masking: str, group: Sequence[dict[str, Array]]
) -> None:
    over: dict[str, Any] = {"over": "images, mean of seeds", "network": masking}
    for name, key in (
        ("clean accuracy of masked", "clean"),
        ("strong robust accuracy of masked", "strong"),
        ("images whose gradient vanishes", "vanishing"),
    ):
        share = np.mean([found[key] for found in group], axis=0)
        results.add(name, bootstrap_mean(share, seed=0), unit="share", **over)
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
    """The divergence (nats) where four searches end: along the network's own gradient,
    along that of `approximated`, along that of a natural network of another of the
    `seeds`, and by the squares of Square Attack. Beside them correctness: "clean",
    after "FGSM", and "strong", after every search and the strong attack; and whether
    the gradient is "vanishing".

    All is read off `judged`, so that noise in a single pass counts for nothing.
    """
    model, judge = load_network(network), judged(network)
    points, labels = test_images(network, images)
    clean = compute_logits(judge, points)

    def ascent(along: Module, restarts: int) -> Tensor:
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
    ends = (
        ascent(model, restarts),
        ascent(approximated(network), 1),
        ascent(load_network(_source(network, seeds)), restarts),
        squares,
    )

    def attained(end: Tensor) -> Array:
        kl = divergence_of(compute_logits(judge, end), log_prediction(clean))
        return kl.double().numpy()

    def right(*points: Tensor) -> Array:
        """Correct on all of the points."""
        answers = [compute_logits(judge, each).argmax(1) == labels for each in points]
        return torch.stack(answers).all(dim=0).double().numpy()

    found = {name: attained(end) for name, end in zip(SEARCHES, ends, strict=True)}
    attack: dict[str, Any] = {
        "epsilon": network.epsilon,
        "generator": generator_of(network),
    }
    strong = auto_attack(model, points, labels, steps=steps, queries=queries, **attack)
    promised = network.epsilon * _gradient_size(model, points, network)
    return {
        **found,
        "clean": right(points),
        "FGSM": right(fgsm(model, points, labels, epsilon=network.epsilon)),
        "strong": right(points, strong, *ends),
        "vanishing": (promised < VANISHING * found["random search"]).astype(float),
    }


def _gradient_size(model: Module, images: Tensor, network: Network) -> Array:
    """The L1 norm (N,) of the gradient of psi's divergence at a random point of the
    ball.
    """
    targets = log_prediction(compute_logits(model, images))
    noise = 2 * torch.rand(images.shape, generator=generator_of(network)) - 1
    start = (images + network.epsilon * noise).clamp(0, 1).requires_grad_(True)
    with frozen(model):
        reached = divergence_from()(model(start), targets).sum()
        (gradient,) = torch.autograd.grad(reached, start)
    return gradient.abs().flatten(1).sum(dim=1).double().numpy()


def _record_ranks(
    results: Results,
    networks: Sequence[Network],
    measured: Sequence[dict[str, Array]],
    among: Sequence[Measurements],
) -> None:
    """How well psi, its remedy and FGSM accuracy rank plain and masked networks
    together, by the accuracy that every attack leaves.
    """
    pairs = [
        (network, found)
        for network, found in zip(networks, measured, strict=True)
        if network.masking != "natural"
    ]
    kinds = [f"{each.network.architecture} {each.network.training}" for each in among]
    kinds += [network.masking for network, _ in pairs]

    def ranked(of_plain: Sequence[Any], of_masked: Sequence[Any]) -> Array:
        return np.array([*of_plain, *of_masked], dtype=np.float64)

    def least(*found: Array) -> float:
        return float(np.median(psi_of(np.max(found, axis=0))))

    truth = ranked(
        [each.strong.mean() for each in among],
        [found["strong"].mean() for _, found in pairs],
    )
    plain = [least(each.attained(1.0)) for each in among]
    scores = {
        "median psi": ranked(plain, [least(found["gradient"]) for _, found in pairs]),
        "psi by the best search": ranked(
            plain,
            [least(*(found[search] for search in SEARCHES)) for _, found in pairs],
        ),
        "FGSM accuracy": ranked(
            [each.correct["FGSM", 1.0].mean() for each in among],
            [found["FGSM"].mean() for _, found in pairs],
        ),
    }
    for measure, values in scores.items():
        rho = over_rows(
            lambda rows, values=values: rank_correlation(values[rows], truth[rows]),  # type: ignore[misc]
            len(kinds),
            kinds,
        )
        results.add(
            "rank agreement, masked networks too",
            rho,
            over="kinds of network",
            measure=measure,
            networks=len(pairs),
        )


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
