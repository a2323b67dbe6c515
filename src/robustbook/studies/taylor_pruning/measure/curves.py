"""Pruning without fine-tuning: loss against units removed, for every criterion, the
oracle, and all subsets of one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustbook.measure.importance import (
    Evidence,
    first_order,
    gate_gradients,
    score,
)
from robustbook.measure.oracle import all_subsets, best_by_size, removal_losses
from robustbook.models.network import compute_logits
from robustbook.models.prunable import Group, Prunable
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.pruning import all_alive, lowest, masked
from robustbook.results import Results
from robustbook.stats import mean_interval_t
from robustbook.studies.taylor_pruning.networks import Task, lenet3

ORACLE = "oracle"
CURVE_CRITERIA = (
    ORACLE,
    "taylor-fo",
    "taylor-fo-fg",
    "taylor-so",
    "obd",
    "taylor-fo by layer",
    "weight-norm",
    "weight-norm by layer",
    "random",
)
AGAIN = "taylor-fo, measured again"
SUBSET_WAYS = (
    "best subset",
    "greedy oracle",
    AGAIN,
    "taylor-fo",
    "weight-norm",
    "random",
)


@dataclass(frozen=True)
class Curves:
    """Mean losses in nats after each number of `removed` units, by criterion: on the
    images scored, and on test images.
    """

    removed: list[int]
    losses: dict[str, list[float]]
    test_losses: dict[str, list[float]]


def measure_curves(task: Task) -> Curves:
    """The pruning curves of one LeNet3: every criterion is measured again after each
    step.
    """
    parameters = task.parameters
    removed = list(range(0, parameters.curve_units + 1, parameters.curve_step))
    model, losses, test_losses = lenet3(task), {}, {}
    test = (
        task.test.images[: parameters.curve_images],
        task.test.labels[: parameters.curve_images],
    )
    images = task.scored(parameters.curve_images)
    for criterion in CURVE_CRITERIA:
        path = pruning_path(
            model,
            *images,
            criterion,
            len(removed) - 1,
            parameters.curve_step,
            task.generator(2),
        )
        losses[criterion] = [mean_loss(model, *images, alive) for alive in path]
        test_losses[criterion] = [mean_loss(model, *test, alive) for alive in path]
    return Curves(removed, losses, test_losses)


def pruning_path(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    criterion: str,
    steps: int,
    units: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """Living units (units,) before and after each of `steps` removals of the `units`
    lowest, scored again every time.

    The first-order score squares the gradient of all `images` together: they are one
    mini-batch.
    """
    path = [all_alive(model)]
    for _ in range(steps):
        with masked(model, path[-1]):
            if criterion == ORACLE:
                scores = removal_losses(model, images, labels).importance
            else:
                seen = Evidence(
                    model, images, labels, batch=len(images), generator=generator
                )
                scores = score(criterion, seen)
        path.append(lowest(model, scores, units, path[-1]))
    return path


def mean_loss(model: Prunable, images: Tensor, labels: Tensor, alive: Tensor) -> float:
    """Mean cross-entropy in nats with the other units switched off."""
    with masked(model, alive):
        return float(cross_entropy(compute_logits(model, images), labels).mean())


def measure_subsets(task: Task) -> dict[str, list[float]]:
    """Mean loss of one LeNet3 with 0, 1, ... of its first layer's units removed, by
    each way of choosing them.

    All 2^16 subsets are evaluated once; every way is then a walk through that table.
    Scores are taken once, on the full network, but for the way that measures the
    first-order score again after each removal, as the greedy oracle does.
    """
    model = lenet3(task)
    images, labels = task.scored(task.parameters.subset_images)
    group = model.groups[0]
    losses = all_subsets(model, images, labels, group)
    seen = Evidence(
        model, images, labels, batch=len(images), generator=task.generator(3)
    )
    walks = {
        name: torch.argsort(model.split(score(name, seen))[group.name]).tolist()
        for name in ("taylor-fo", "weight-norm", "random")
    }
    walks["greedy oracle"] = greedy_walk(losses, group.units)
    walks[AGAIN] = rescored_walk(model, images, labels, group)
    found = {name: losses_along(losses, walk) for name, walk in walks.items()}
    return {"best subset": best_by_size(losses).flip(0).tolist(), **found}


def greedy_walk(losses: Tensor, units: int) -> list[int]:
    """The order in which units go if each time the one goes whose removal changes the
    loss least (squared).
    """
    code, walk = 2**units - 1, []
    while code:
        left = [unit for unit in range(units) if code >> unit & 1]
        change = {
            unit: float(losses[code] - losses[code & ~(1 << unit)]) ** 2
            for unit in left
        }
        walk.append(min(left, key=change.__getitem__))
        code &= ~(1 << walk[-1])
    return walk


def rescored_walk(
    model: Prunable, images: Tensor, labels: Tensor, group: Group
) -> list[int]:
    """The order in which a group's units go if each time the one with the lowest
    first-order score goes, measured anew.
    """
    inside = model.group_of_unit() == model.groups.index(group)
    first, alive, walk = int(inside.nonzero()[0]), all_alive(model), []
    for _ in range(group.units):
        with masked(model, alive):
            scores = first_order(gate_gradients(model, images, labels))
        chosen = int(scores.masked_fill(~(inside & alive), torch.inf).argmin())
        walk.append(chosen - first)
        alive[chosen] = False
    return walk


def losses_along(losses: Tensor, walk: Sequence[int]) -> list[float]:
    """Losses after 0, 1, ... removals in the order of a walk, looked up in the table of
    all subsets.
    """
    code = 2 ** len(walk) - 1
    found = [float(losses[code])]
    for unit in walk:
        code &= ~(1 << unit)
        found.append(float(losses[code]))
    return found


def add_curves(results: Results, curves: Sequence[Curves]) -> None:
    """Rows `pruned loss` by units removed, `area` (mean over a curve), `area ratio` to
    the oracle's, and `area lead`.
    """
    for criterion in CURVE_CRITERIA:
        for part in ("scored", "test"):
            table = np.array(
                [
                    (one.losses if part == "scored" else one.test_losses)[criterion]
                    for one in curves
                ]
            )
            for removed, column in zip(curves[0].removed, table.T, strict=True):
                _add(
                    results,
                    "pruned loss",
                    column,
                    "nats",
                    criterion=criterion,
                    images=part,
                    removed=removed,
                )
    area = {
        name: np.array([np.mean(one.losses[name]) for one in curves])
        for name in CURVE_CRITERIA
    }
    for name, values in area.items():
        _add(results, "area", values, "nats", criterion=name)
        if name != ORACLE:
            _add(results, "area ratio", values / area[ORACLE], "", criterion=name)
        if name != "taylor-fo":
            _add(results, "area lead", values - area["taylor-fo"], "nats", rival=name)


def add_subsets(results: Results, tables: Sequence[dict[str, list[float]]]) -> None:
    """Rows `subset loss` by way of choosing and units removed (no interval for fewer
    than three networks).
    """
    for way in SUBSET_WAYS:
        for removed, column in enumerate(np.array([table[way] for table in tables]).T):
            _add(results, "subset loss", column, "nats", way=way, removed=removed)


def _add(
    results: Results, name: str, values: np.ndarray, unit: str, **factors: str | int
) -> None:
    if len(values) < 3:
        results.add(
            name,
            float(np.mean(values)),
            None,
            n=len(values),
            over="networks",
            unit=unit,
            **factors,
        )
        return
    found = mean_interval_t(values)
    results.add(
        name,
        found.value,
        found.bounds,
        n=found.n,
        over="networks",
        unit=unit,
        **factors,
    )
