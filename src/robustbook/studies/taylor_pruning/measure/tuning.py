"""One network pruned and tuned in several ways, all to the same multiply-adds.

Read `ways_of` (what is compared), then `tuned_by_all` (each way of one network, kept
once made).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from robustbook.measure import tuned_pruning
from robustbook.measure.tuned_pruning import Plan, Tuned, prune_and_tune
from robustbook.models.checkpoints import kept
from robustbook.models.prunable import Prunable
from robustbook.studies.taylor_pruning.claims import (
    BY_LAYER,
    FULL,
    INNER,
    ITERATIVE,
    ONE_SHOT,
    PRICED,
    PRICED_INNER,
    RANDOM,
    RANDOM_INNER,
)
from robustbook.studies.taylor_pruning.networks import Network, model_of
from robustbook.workers import map_in_workers

WAYS = (
    *(FULL, ITERATIVE, ONE_SHOT, INNER, PRICED, PRICED_INNER, BY_LAYER),
    *(RANDOM, RANDOM_INNER),
)


def ways_of(
    model: Prunable, *, budget: float, removals: int, lengths: Sequence[int]
) -> dict[str, Plan]:
    """Plans that end at the same multiply-adds after the same mini-batches, and the
    full network, tuned as long; a one-shot plan removes all at its first step.

    Units go during the first half of the shortest length.
    """
    inner = tuple(
        group.name for group in model.groups if not group.name.startswith("stream")
    )
    every = max(1, min(lengths) // (2 * removals))
    plan = Plan(budget, removals, every, tuple(lengths))
    priced = replace(plan, criterion="per multiply-add")
    random = replace(plan, criterion="random")
    plans = (
        replace(plan, budget=1.0),
        plan,
        replace(plan, removals=1),
        replace(plan, groups=inner),
        priced,
        replace(priced, groups=inner),
        replace(plan, criterion="by layer"),
        random,
        replace(random, groups=inner),
    )
    return dict(zip(WAYS, plans, strict=True))


def tuned_by_all(
    network: Network, *, budget: float, removals: int, lengths: Sequence[int]
) -> dict[str, Tuned]:
    """One network pruned and tuned in each way, all on the same mini-batches."""
    model, found = model_of(network), {}
    plans = ways_of(model, budget=budget, removals=removals, lengths=lengths)
    for way, plan in plans.items():

        def make(plan: Plan = plan) -> dict[str, Tensor]:
            made = prune_and_tune(
                model, network.training, network.test, plan, network.generator(7)
            )
            numbers = [made.loss, made.multiply_adds, *made.accuracies.values()]
            return {
                "alive": made.alive,
                "numbers": torch.tensor(numbers, dtype=torch.float64),
            }

        what = {"tuned": asdict(plan), **asdict(network)}
        tensors = kept(what, make, code=(tuned_pruning,))
        loss, left, *accuracies = tensors["numbers"].tolist()
        by_length = dict(zip(sorted(plan.lengths), accuracies, strict=True))
        found[way] = Tuned(tensors["alive"], loss, by_length, left)
    return found


def tune_all(
    networks: Sequence[Network], *, budget: float, removals: int, lengths: Sequence[int]
) -> list[dict[str, Tuned]]:
    """`tuned_by_all` of several networks, side by side."""
    work = partial(
        tuned_by_all, budget=budget, removals=removals, lengths=tuple(lengths)
    )
    return map_in_workers(work, networks, title="tuning")
