"""Networks pruned without tuning, by every criterion, and all subsets of a layer.

Read `walks_of` (the paper's Figs. 3 and 4 of one network, kept once made), then
`subsets_of` (its Fig. 2), then `stages_of` (what a reader may watch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from robustbook.measure import oracle, pruning_walk
from robustbook.measure.importance import (
    Evidence,
    first_order,
    gate_gradients,
    score,
)
from robustbook.measure.oracle import all_subsets, best_by_size
from robustbook.measure.pruning_walk import (
    BATCH,
    FIXED,
    ORACLE,
    Walk,
    scores_by,
    walk,
)
from robustbook.models.checkpoints import kept
from robustbook.models.network import accuracy
from robustbook.models.prunable import Group, Prunable
from robustbook.perturb.pruning import (
    all_alive,
    layer_costs,
    lowest,
    masked,
    multiply_adds,
)
from robustbook.studies.taylor_pruning.networks import Network, model_of
from robustbook.workers import map_in_workers

PAPER_CRITERIA = (
    ORACLE,
    "taylor-so",
    "taylor-fo",
    "weight taylor",
    "obd",
    "weight-norm",
    "weight-norm by layer",
    "taylor-fo by layer",
    "random",
)
"""Those of the paper's Fig. 3, and two that are normalised by layer."""
CHEAP_CRITERIA = (ORACLE, "taylor-fo", "weight-norm", "weight-norm by layer", "random")
RESNET_CRITERIA = (
    *(ORACLE, "taylor-so", "taylor-fo", "obd", "weight-norm", "weight-norm by layer"),
    *("random", f"taylor-fo{FIXED}", f"{ORACLE}{FIXED}"),
)
"""Those of the paper's Fig. 4, and the rival that is normalised by layer."""


def walks_of(
    network: Network,
    *,
    criteria: Sequence[str],
    images: int,
    step: int,
    limit: float,
) -> dict[str, Walk]:
    """The walks of one network by criterion, on its first training images."""
    settings = {"images": images, "step": step, "limit": limit}
    found = {}
    for place, criterion in enumerate(criteria):

        def make(criterion: str = criterion, place: int = place) -> dict[str, Tensor]:
            made = walk(
                model_of(network),
                *network.seen(images),
                criterion,
                step=step,
                until=limit,
                generator=network.generator(place),
            )
            values = {"removed": made.removed, "losses": made.losses}
            return {
                key: torch.tensor(value, dtype=torch.float64)
                for key, value in values.items()
            }

        what = {"walk": criterion, **asdict(network), **settings}
        tensors = kept(what, make, code=(pruning_walk,))
        found[criterion] = Walk(
            tuple(int(count) for count in tensors["removed"]),
            tuple(float(loss) for loss in tensors["losses"]),
        )
    return found


def all_walks(
    networks: Sequence[Network],
    *,
    criteria: Sequence[str],
    curve_images: int,
    curve_step: int,
    limit: float,
) -> list[dict[str, Walk]]:
    """`walks_of` several networks, side by side."""
    work = partial(
        walks_of,
        criteria=criteria,
        images=curve_images,
        step=curve_step,
        limit=limit,
    )
    return map_in_workers(work, networks, title="walks")


# All subsets of a layer
# --------------------------------------------------------------------------------------

AGAIN = "taylor-fo, measured again"
SUBSET_WAYS = (
    *("best subset", "greedy oracle", AGAIN, "taylor-fo", "weight-norm", "random"),
)


def subsets_of(network: Network, *, images: int) -> dict[str, list[float]]:
    """Mean loss of a LeNet3 with 0, 1, ... of its first layer's 16 filters removed, by
    each way of choosing them: walks through a table of all 65,536 subsets.

    Scores are taken once, on the full network, but for the way that measures the
    first-order score again after each removal, as the greedy oracle does.
    """
    model, seen = model_of(network), network.seen(images)
    group = model.groups[0]
    what = {"subsets": group.name, **asdict(network), "images": images}

    def make() -> dict[str, Tensor]:
        return {"losses": all_subsets(model, *seen, group)}

    losses = kept(what, make, code=(oracle,))["losses"]
    evidence = Evidence(
        model, *seen, batch=min(BATCH, images), generator=network.generator(99)
    )
    orders = {
        name: torch.argsort(model.split(score(name, evidence))[group.name]).tolist()
        for name in ("taylor-fo", "weight-norm", "random")
    }
    orders["greedy oracle"] = greedy_order(losses, group.units)
    orders[AGAIN] = rescored_order(model, *seen, group)
    found = {name: losses_along(losses, order) for name, order in orders.items()}
    return {"best subset": best_by_size(losses).flip(0).tolist(), **found}


def all_subset_tables(
    networks: Sequence[Network], *, subset_images: int
) -> list[dict[str, list[float]]]:
    """`subsets_of` several networks, side by side."""
    return map_in_workers(partial(subsets_of, images=subset_images), networks)


def greedy_order(losses: Tensor, units: int) -> list[int]:
    """The order in which units go if each time the one goes whose removal changes the
    loss least (squared), from `losses` (2^units,) of all subsets.
    """
    code, order = 2**units - 1, []
    while code:
        left = [unit for unit in range(units) if code >> unit & 1]
        change = {
            unit: float(losses[code] - losses[code & ~(1 << unit)]) ** 2
            for unit in left
        }
        order.append(min(left, key=change.__getitem__))
        code &= ~(1 << order[-1])
    return order


def rescored_order(
    model: Prunable, images: Tensor, labels: Tensor, group: Group
) -> list[int]:
    """The order in which a group's units go if each time the one with the lowest
    first-order score goes, measured anew.
    """
    inside = model.group_of_unit() == model.groups.index(group)
    first, alive, order = int(inside.nonzero()[0]), all_alive(model), []
    for _ in range(group.units):
        with masked(model, alive):
            gradients = gate_gradients(model, images, labels)
        scores = first_order(gradients, min(BATCH, len(images)))
        chosen = int(scores.masked_fill(~(inside & alive), torch.inf).argmin())
        order.append(chosen - first)
        alive[chosen] = False
    return order


def losses_along(losses: Tensor, order: Sequence[int]) -> list[float]:
    """Losses after 0, 1, ... removals in that order, from the table of all subsets."""
    code = 2 ** len(order) - 1
    found = [float(losses[code])]
    for unit in order:
        code &= ~(1 << unit)
        found.append(float(losses[code]))
    return found


# What a reader may watch
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A network after some of its units went: which live `alive` (units,), the test
    accuracy, and the share of its multiply-adds that is left.
    """

    criterion: str
    share: float
    alive: Tensor
    accuracy: float
    multiply_adds: float


def stages_of(
    network: Network, *, criteria: Sequence[str], shares: Sequence[float], images: int
) -> list[Stage]:
    """The network after each of the `shares` of its units went by each criterion, all
    scores measured once, on `images` training images.
    """
    model, (pixels, labels) = model_of(network), network.seen(images)
    test, layers = network.test, layer_costs(model, network.training.image_shape)
    full = multiply_adds(model, layers, all_alive(model))
    found = []
    for place, criterion in enumerate(criteria):
        scores = scores_by(
            criterion, model, pixels, labels, generator=network.generator(place)
        )
        for share in shares:
            count = round(share * model.units)
            alive = lowest(model, scores, count, all_alive(model))
            with masked(model, alive):
                right = accuracy(model, test.images, test.labels)
            left = multiply_adds(model, layers, alive) / full
            found.append(Stage(criterion, share, alive, right, left))
    return found
