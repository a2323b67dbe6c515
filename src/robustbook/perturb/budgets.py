"""Pruning down to a budget of multiply-adds: what a unit costs, and how many units have
to go.

Read `unit_costs` first (what the removal of each unit saves), then `down_to` (the units
with the lowest scores go until the budget is met).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from robustbook import checks
from robustbook.models.prunable import Prunable
from robustbook.perturb.pruning import LayerCost, PruningError, lowest, multiply_adds


def unit_costs(model: Prunable, layers: Sequence[LayerCost], alive: Tensor) -> Tensor:
    """Multiply-adds (units,) that the removal of each unit would save beside the living
    ones; all units of a group cost the same, and 0 is the cost of one that is gone.

    `layers` are those of `layer_costs`. A score divided by this says what a unit
    contributes for its price. Errors as in `multiply_adds`.
    """
    full = multiply_adds(model, layers, alive)
    alive = alive.to(model.device)
    costs = torch.zeros(model.units, device=model.device)
    places = model.group_of_unit()
    for place in range(len(model.groups)):
        living = (alive & (places == place)).nonzero().flatten()
        if len(living):
            without = alive.clone()
            without[living[0]] = False
            costs[living] = float(full - multiply_adds(model, layers, without))
    return costs


def down_to(
    model: Prunable,
    scores: Tensor,
    goal: float,
    layers: Sequence[LayerCost],
    alive: Tensor,
    *,
    among: Sequence[str] | None = None,
) -> Tensor:
    """`alive` (units,) after as few living units with the lowest `scores` (units,) went
    as bring the multiply-adds of an image down to `goal`.

    Only units of the groups named in `among` may go (all by default), and every group
    keeps one. Raises PruningError if the goal is below what then is left, and errors as
    in `lowest`.
    """
    goal = checks.real(goal, "goal", above=0)
    scores = checks.tensor(scores, "scores", dimensions=1)
    alive = lowest(model, scores, 0, alive, layers=among)
    living = {
        name: int(part.sum())
        for name, part in model.split(alive).items()
        if among is None or name in among
    }
    most = sum(max(count - 1, 0) for count in living.values())

    def left(count: int) -> Tensor:
        return lowest(model, scores, count, alive, layers=among)

    if multiply_adds(model, layers, left(most)) > goal:
        raise PruningError(
            f"{goal:.0f} multiply-adds cannot be reached: every group keeps a unit"
        )
    fits = bisect_left(
        range(most + 1),
        True,
        key=lambda count: multiply_adds(model, layers, left(count)) <= goal,
    )
    return left(fits)
