"""How well scores agree with the oracle, and how well the oracle agrees with itself.

Read `Agreement` (the scores and the truth of one network), then `agreement_of` (how
they are measured), then `correlations` and `reliability`. All are put on one scale, the
square root of a squared change; scores and truth are measured on different images, so
that no common noise makes them agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbook.data import load
from robustbook.measure import importance, oracle
from robustbook.measure.importance import (
    CRITERIA,
    Evidence,
    first_order,
    score,
)
from robustbook.measure.oracle import RemovalLosses, removal_losses
from robustbook.models.checkpoints import kept
from robustbook.models.network import accuracy
from robustbook.models.prunable import (
    RESNET20_DIGEST,
    Prunable,
    published_resnet20,
)
from robustbook.stats import correlation, rank_correlation
from robustbook.studies.taylor_pruning.networks import BATCH, Network, model_of
from robustbook.workers import map_in_workers

COEFFICIENTS = {"spearman": rank_correlation, "pearson": correlation}
"""Correlations of two scores; 0 if one of them is constant."""

NORMED = ("bn taylor", "bn-scale")
WITHOUT_NORM = tuple(name for name in CRITERIA if name not in NORMED)
RESIDUAL_CRITERIA = tuple(
    name
    for name in CRITERIA
    if name not in ("taylor-so row", "taylor output by layer", "taylor-fo whole set")
)
PLAIN = ("bn-scale", "taylor output", "taylor output by layer", "random")
"""Scores that are no squares: they stay as they are where others get a square root."""

SIGNED = ("obd",)
"""Scores with a sign, which are squared first, as the paper does."""


def comparable(criterion: str, scores: Tensor) -> Tensor:
    """Scores on the scale of a change of the loss: the root of those that are squares,
    the size of those with a sign.
    """
    if criterion in SIGNED:
        return scores.abs()
    return scores if criterion in PLAIN else scores.clamp_min(0).sqrt()


@dataclass(frozen=True)
class Truth:
    """The oracle of all units on two halves of some images: |change of the mean loss|
    (units,) of each `halves` and of both together.
    """

    halves: tuple[Tensor, Tensor]
    together: Tensor


@dataclass(frozen=True)
class Agreement:
    """Scores (units,) by criterion, on the scale of `comparable`, and the truths of one
    network, on "training" images and on "unseen" ones.

    `layers` gives the units of each group, `loss` the mean loss of the training images
    on which the truth was measured, `batches` the root of first-order scores by size of
    mini-batch.
    """

    accuracy: float
    loss: float
    layers: dict[str, int]
    scores: dict[str, Tensor]
    truths: dict[str, Truth]
    batches: dict[int, Tensor]

    def chosen(self, scope: str) -> Tensor:
        """Mask (units,) of a scope: "all layers", "inner units" (no streams), or a
        layer's name.
        """
        names = [name for name, units in self.layers.items() for _ in range(units)]
        wanted = {
            "all layers": lambda name: True,
            "inner units": lambda name: not name.startswith("stream"),
        }
        choose = wanted.get(scope, lambda name: name == scope)
        return torch.tensor([choose(name) for name in names])


def truth_of(losses: RemovalLosses) -> Truth:
    """The oracle on the even and on the odd images, and on all."""
    even = torch.arange(len(losses.base)) % 2 == 0
    first, second = (losses.part(chosen).importance.sqrt() for chosen in (even, ~even))
    return Truth((first, second), losses.importance.sqrt())


def measured(
    model: Prunable,
    criteria: Sequence[str],
    scored: tuple[Tensor, Tensor],
    truths: dict[str, tuple[Tensor, Tensor]],
    *,
    test: tuple[Tensor, Tensor],
    seed: int,
) -> Agreement:
    """Scores of a network on the images `scored`, in mini-batches of 64, and its oracle
    on each set of `truths`; the first of them is the training one.
    """
    generator = torch.Generator().manual_seed(seed)
    batch = min(BATCH, len(scored[0]))
    seen = Evidence(model, *scored, batch=batch, generator=generator)
    scores = {name: comparable(name, score(name, seen)) for name in criteria}
    losses = {name: removal_losses(model, *images) for name, images in truths.items()}
    sizes = [size for size in (1, 4, 16, 64, 256) if size <= len(scored[0]) // 2]
    return Agreement(
        accuracy(model, *test),
        float(next(iter(losses.values())).base.mean()),
        {group.name: group.units for group in model.groups},
        scores,
        {name: truth_of(each) for name, each in losses.items()},
        {size: first_order(seen.gradients, size).sqrt() for size in sizes},
    )


def agreement_of(
    network: Network, *, criteria: Sequence[str], batches: int, oracle_images: int
) -> Agreement:
    """One network, scored on `batches` mini-batches of its training images, its oracle
    on as many others as there are up to `oracle_images`, and on unseen ones.
    """
    test = network.test
    unseen = test.images[:oracle_images], test.labels[:oracle_images]
    scored = network.seen(batches * BATCH)
    truths = {
        "training": network.seen(oracle_images, after=len(scored[0])),
        "unseen": unseen,
    }
    what = {"criteria": list(criteria), "batches": batches, "oracle": oracle_images}
    return _kept(
        {**what, **asdict(network)},
        lambda: measured(
            model_of(network),
            criteria,
            scored,
            truths,
            test=(test.images, test.labels),
            seed=network.seed,
        ),
    )


def _kept(what: dict[str, Any], make: Callable[[], Agreement]) -> Agreement:
    """The measurement of that description, read from the cache if it is there."""

    def made() -> dict[str, Tensor]:
        found = make()
        tensors = {f"score {name}": each for name, each in found.scores.items()}
        tensors |= {f"batch {size}": each for size, each in found.batches.items()}
        for name, truth in found.truths.items():
            tensors[f"truth {name}"] = torch.stack([*truth.halves, truth.together])
        numbers = [found.accuracy, found.loss, *map(float, found.layers.values())]
        names = "\n".join(found.layers).encode()
        return {
            **{name: each.clone() for name, each in tensors.items()},
            "numbers": torch.tensor(numbers, dtype=torch.float64),
            "names": torch.tensor(list(names), dtype=torch.uint8),
        }

    tensors = kept({"agreement": what}, made, code=(importance, oracle))

    def named(kind: str) -> dict[str, Tensor]:
        start = f"{kind} "
        return {
            name.removeprefix(start): each
            for name, each in tensors.items()
            if name.startswith(start)
        }

    right, loss, *units = tensors["numbers"].tolist()
    layers = bytes(tensors["names"].tolist()).decode().split("\n")
    scores, truths, sizes = named("score"), named("truth"), named("batch")
    return Agreement(
        right,
        loss,
        {name: int(count) for name, count in zip(layers, units, strict=True)},
        {name: scores[name] for name in what["criteria"]},
        {
            name: Truth((truths[name][0], truths[name][1]), truths[name][2])
            for name in ("training", "unseen")
        },
        {size: sizes[str(size)] for size in sorted(map(int, sizes))},
    )


def agreements_of(
    networks: Sequence[Network],
    *,
    batches: int,
    oracle_images: int,
    criteria: Sequence[str] = WITHOUT_NORM,
) -> list[Agreement]:
    """`agreement_of` several networks, side by side."""
    work = partial(
        agreement_of, criteria=criteria, batches=batches, oracle_images=oracle_images
    )
    return map_in_workers(work, networks, title="scores and oracles")


def published_agreement(data: str, *, batches: int, oracle_images: int) -> Agreement:
    """The published ResNet-20 on the lossless images that it was trained on, and on
    unseen images of `data`.
    """
    seen, unseen = load("cifar10-lossless", "train"), load(data, "test")
    count = batches * BATCH
    scored = seen.images[:count], seen.labels[:count]
    test = unseen.take(min(2000, len(unseen)))
    truths = {
        "training": tuple(
            part[count : count + oracle_images] for part in (seen.images, seen.labels)
        ),
        "unseen": (test.images[:oracle_images], test.labels[:oracle_images]),
    }
    what = {"criteria": list(RESIDUAL_CRITERIA), "batches": batches, "data": data}
    what |= {"oracle": oracle_images, "digests": [seen.digest, unseen.digest]}
    return _kept(
        {**what, "network": RESNET20_DIGEST},
        lambda: measured(
            published_resnet20(),
            RESIDUAL_CRITERIA,
            scored,
            truths,  # type: ignore[arg-type]
            test=(test.images, test.labels),
            seed=0,
        ),
    )


def published_agreements(
    published_resnet: bool, data: str, *, batches: int, oracle_images: int
) -> list[Agreement]:
    """The published ResNet-20, where it is asked for."""
    if not published_resnet:
        return []
    return [published_agreement(data, batches=batches, oracle_images=oracle_images)]


def correlations(
    agreement: Agreement,
    coefficient: str,
    scope: str = "all layers",
    truth: str = "training",
) -> dict[str, float]:
    """Correlation of each criterion with the oracle within a scope; "within layers" is
    the mean over layers.
    """
    if scope == "within layers":
        by_layer = [
            correlations(agreement, coefficient, layer, truth)
            for layer in agreement.layers
        ]
        return {
            name: float(np.mean([layer[name] for layer in by_layer]))
            for name in agreement.scores
        }
    chosen, correlate = agreement.chosen(scope), COEFFICIENTS[coefficient]
    true = agreement.truths[truth].together[chosen]
    return {
        name: float(correlate(values[chosen], true))
        for name, values in agreement.scores.items()
    }


def reliability(
    agreement: Agreement,
    coefficient: str,
    scope: str = "all layers",
    truth: str = "training",
) -> float:
    """How well the oracle on these images would agree with itself on as many others:
    the correlation of its halves, raised to the full length (Spearman and Brown); 0 if
    the halves disagree.
    """
    if scope == "within layers":
        return float(
            np.mean(
                [
                    reliability(agreement, coefficient, layer, truth)
                    for layer in agreement.layers
                ]
            )
        )
    chosen, found = agreement.chosen(scope), agreement.truths[truth]
    half = float(COEFFICIENTS[coefficient](*(part[chosen] for part in found.halves)))
    return max(0.0, 2 * half / (1 + half)) if half > -1 else 0.0
