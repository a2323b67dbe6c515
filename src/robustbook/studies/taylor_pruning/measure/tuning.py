"""Pruning while fine-tuning: `prune_and_tune` (the paper's algorithm), its controls,
and what they show on two networks.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbook.data import ImageSet
from robustbook.measure.importance import Evidence, score, weight_norm
from robustbook.models.network import accuracy
from robustbook.models.prunable import Prunable
from robustbook.models.training import Recipe, train
from robustbook.perturb.pruning import (
    Cost,
    all_alive,
    cost,
    layer_costs,
    lowest,
    masked,
    multiply_adds,
    removed,
)
from robustbook.results import Results
from robustbook.stats import mean_interval_t, rank_correlation
from robustbook.studies.taylor_pruning.measure.curves import mean_loss
from robustbook.studies.taylor_pruning.networks import (
    BATCH,
    Task,
    lenet3,
    preact_resnet,
    vgg,
)

PRUNING_SHARE = 2 / 3
"""Share of the mini-batches during which units are removed; the rest only tunes."""
HALF = 0.5


@dataclass(frozen=True)
class Plan:
    """How a network is pruned while it is tuned.

    Every `batches_per_step` mini-batches some units go, until `units` are gone or the
    multiply-adds are down to `budget` of the original; `one_shot` removes all at the
    first step. Scores of earlier steps count with weight `momentum`. `layers` names the
    groups that may be touched (all if None).
    """

    batches: int
    batches_per_step: int
    units: int | None = None
    budget: float | None = None
    criterion: str = "taylor-fo"
    momentum: float = 0.0
    one_shot: bool = False
    layers: tuple[str, ...] | None = None
    learning_rate: float = 0.01


@dataclass(frozen=True)
class Tuned:
    """A pruned network: which units live, its test `accuracy`, and what it costs."""

    alive: Tensor
    accuracy: float
    cost: Cost


def prune_and_tune(
    model: Prunable, data: ImageSet, plan: Plan, generator: torch.Generator
) -> tuple[Prunable, Tensor]:
    """A tuned copy of `model` without the removed units, and the units that live
    (Molchanov et al. 2019, algorithm of section 3).

    Each mini-batch gives one gradient: of the weights, for a step of SGD with momentum
    0.9, and of the gates, whose squares are averaged until the next removal. As in the
    published code the network is in training mode, so batch-norms use the statistics of
    the mini-batch, in the scores too.
    """
    network = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(
        network.parameters(), lr=plan.learning_rate, momentum=0.9
    )
    schedule = _Schedule(network, data.image_shape, plan, generator)
    order = torch.randint(len(data), (plan.batches, BATCH), generator=generator)
    for chosen in order:
        gates = torch.ones(network.units, requires_grad=True)
        for gate, part in zip(
            network.gates(), network.split(gates * schedule.alive).values(), strict=True
        ):
            gate.values = part
        optimiser.zero_grad()
        F.cross_entropy(network(data.images[chosen]), data.labels[chosen]).backward()
        optimiser.step()
        assert gates.grad is not None
        schedule.see(gates.grad.square())
    return removed(network.eval(), schedule.alive).eval(), schedule.alive


class _Schedule:
    """Gathers scores, and removes units whenever a step of the plan is over."""

    def __init__(
        self,
        model: Prunable,
        shape: tuple[int, int, int],
        plan: Plan,
        generator: torch.Generator,
    ) -> None:
        self.model, self.plan, self.generator = model, plan, generator
        self.layers = layer_costs(model, shape)
        self.alive = all_alive(model)
        self.steps = (
            1
            if plan.one_shot
            else max(1, int(PRUNING_SHARE * plan.batches) // plan.batches_per_step)
        )
        self.batches, self.step = 0, 0
        self.total, self.smooth = torch.zeros(model.units), torch.zeros(model.units)
        self.full = multiply_adds(model, self.layers, self.alive)

    def see(self, squares: Tensor) -> None:
        """Take one mini-batch's squared gate gradients (units,) into account."""
        if self.step == self.steps:
            return
        self.batches, self.total = self.batches + 1, self.total + squares
        if self.batches < self.plan.batches_per_step:
            return
        self.smooth = (
            self.plan.momentum * self.smooth + (1 - self.plan.momentum) * self._scores()
        )
        self.batches, self.total, self.step = (
            0,
            torch.zeros(self.model.units),
            self.step + 1,
        )
        if self.plan.units is not None:
            gone = int((~self.alive).sum())
            self._remove(round(self.plan.units * self.step / self.steps) - gone)
        else:
            self._remove_towards_budget()

    def _scores(self) -> Tensor:
        if self.plan.criterion == "random":
            return torch.rand(self.model.units, generator=self.generator)
        if self.plan.criterion == "weight-norm":
            return weight_norm(self.model)
        return self.total / self.batches

    def _remove(self, count: int) -> None:
        self.alive = lowest(
            self.model, self.smooth, count, self.alive, layers=self.plan.layers
        )

    def _remove_towards_budget(self) -> None:
        """Remove as few units as bring the multiply-adds down to this step's share of
        the way to the budget.
        """
        assert self.plan.budget is not None
        goal = self.full * (1 - (1 - self.plan.budget) * self.step / self.steps)
        living = {
            name: int(part.sum()) for name, part in self.model.split(self.alive).items()
        }
        most = sum(
            count - 1
            for name, count in living.items()
            if self.plan.layers is None or name in self.plan.layers
        )
        self._remove(
            bisect_left(
                range(most + 1),
                True,
                key=lambda count: self._adds_without(count) <= goal,
            )
        )

    def _adds_without(self, count: int) -> int:
        alive = lowest(
            self.model, self.smooth, count, self.alive, layers=self.plan.layers
        )
        return multiply_adds(self.model, self.layers, alive)


# LeNet3: iterative against one-shot, and the oracle's own sanity
# ----------------------------------------------------


def tuning_plans(task: Task) -> dict[str, Plan]:
    """The ways of pruning LeNet3 to the same number of units in the same number of
    mini-batches.
    """
    parameters = task.parameters
    iterative = Plan(
        parameters.tune_batches,
        parameters.batches_per_step,
        units=parameters.tuned_units,
    )
    return {
        "iterative": iterative,
        "momentum 0.9": replace(iterative, momentum=0.9),
        "one-shot": replace(iterative, one_shot=True),
        "weight norm": replace(iterative, criterion="weight-norm"),
        "random": replace(iterative, criterion="random"),
    }


def measure_tuning(task: Task) -> dict[str, Tuned]:
    """LeNet3 pruned in every way, and networks of the iterative one's size trained from
    scratch.
    """
    model, found = lenet3(task), {}
    training = task.trained_on(task.parameters.train_images)
    for name, plan in tuning_plans(task).items():
        smaller, alive = prune_and_tune(model, training, plan, task.generator(4))
        found[name] = _tuned(smaller, alive, task)
        if name == "iterative":
            found["from scratch"] = _tuned(retrained(smaller, task), alive, task)
    return found


def _tuned(model: Prunable, alive: Tensor, task: Task) -> Tuned:
    test = accuracy(model, task.test.images, task.test.labels)
    return Tuned(alive, test, cost(model, task.training.image_shape))


def retrained(model: Prunable, task: Task) -> Prunable:
    """A network of the same size with new weights, trained as the full LeNet3 was."""
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed + 1)
        for module in fresh.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    parameters = task.parameters
    recipe = Recipe(
        "natural", epochs=parameters.epochs, learning_rate=1e-3, batch=BATCH
    )
    images, labels = task.scored(parameters.train_images)
    train(fresh, images, labels, recipe, seed=task.seed + 1)
    return fresh


def measure_sanity(task: Task) -> tuple[list[float], list[float]]:
    """Loss before fine-tuning and test accuracy after it, for prunings of LeNet3
    between the Taylor order and a random one.
    """
    parameters, model = task.parameters, lenet3(task)
    generator = task.generator(5)
    images = task.scored(parameters.curve_images)
    seen = Evidence(model, *images, batch=len(images[0]), generator=generator)
    ranks = torch.argsort(torch.argsort(score("taylor-fo", seen))) / model.units
    plan = Plan(parameters.tune_batches // 2, parameters.tune_batches)
    training = task.trained_on(parameters.train_images)
    before, after = [], []
    for share in torch.linspace(0, 1, parameters.sanity_masks):
        scores = share * ranks + (1 - share) * torch.rand(
            model.units, generator=generator
        )
        alive = lowest(model, scores, parameters.curve_units, all_alive(model))
        before.append(mean_loss(model, *images, alive))
        with masked(model, alive):
            smaller = removed(model, alive)
        tuned, _ = prune_and_tune(smaller, training, replace(plan, units=0), generator)
        after.append(accuracy(tuned, task.test.images, task.test.labels))
    return before, after


def add_tuning(results: Results, networks: Sequence[dict[str, Tuned]]) -> None:
    """Rows `tuned accuracy` and `tuned multiply-adds` by way, `tuned lead` (iterative
    minus another), `units left` by layer.
    """
    for way in networks[0]:
        _add(
            results,
            "tuned accuracy",
            [one[way].accuracy for one in networks],
            "share",
            way=way,
        )
        _add(
            results,
            "tuned multiply-adds",
            [one[way].cost.multiply_adds for one in networks],
            "",
            way=way,
        )
        if way != "iterative":
            leads = [one["iterative"].accuracy - one[way].accuracy for one in networks]
            _add(results, "tuned lead", leads, "share", rival=way)


def add_sanity(
    results: Results, networks: Sequence[tuple[list[float], list[float]]]
) -> None:
    """Row `oracle sanity`: Spearman of minus the loss before fine-tuning with the
    accuracy after it, over networks.
    """
    found = [rank_correlation(-np.array(before), after) for before, after in networks]
    _add(results, "oracle sanity", found, "")


# PreAct-ResNet: with and without the streams
# ------------------------------------------------------------------------

STREAM_WAYS = (
    "with streams",
    "inner units only",
    "random, streams too",
    "random, inner units only",
)


def stream_plans(model: Prunable, task: Task) -> dict[str, Plan]:
    """The ways of pruning the PreAct-ResNet to half its multiply-adds in the same
    number of mini-batches.
    """
    parameters = task.parameters
    inner = tuple(
        group.name for group in model.groups if not group.name.startswith("stream")
    )
    plan = Plan(parameters.tune_batches, parameters.batches_per_step, budget=HALF)
    plans = (
        plan,
        replace(plan, layers=inner),
        replace(plan, criterion="random"),
        replace(plan, layers=inner, criterion="random"),
    )
    return dict(zip(STREAM_WAYS, plans, strict=True))


def measure_streams(task: Task) -> dict[str, Tuned]:
    """The PreAct-ResNet pruned in each of those ways, and `full`: the network as it
    was.
    """
    model = preact_resnet(task)
    found = {"full": _tuned(model, all_alive(model), task)}
    training = task.trained_on(task.parameters.residual_images)
    for name, plan in stream_plans(model, task).items():
        smaller, alive = prune_and_tune(model, training, plan, task.generator(6))
        found[name] = _tuned(smaller, alive, task)
    return found


def add_streams(results: Results, networks: Sequence[dict[str, Tuned]]) -> None:
    """Rows `stream accuracy`, `stream multiply-adds`, `stream parameters` and `stream
    memory` by way, and `stream lead`.
    """
    for way in networks[0]:
        _add_costs(results, "stream", [one[way] for one in networks], way)
        if way not in ("with streams", "full"):
            leads = [
                one["with streams"].accuracy - one[way].accuracy for one in networks
            ]
            _add(results, "stream lead", leads, "share", rival=way)


# The VGG-like net: half and a quarter of the cost
# -------------------------------------------------------------------

VGG_BUDGETS = {"half": 0.5, "quarter": 0.25}
VGG_CRITERIA = {"Taylor": "taylor-fo", "random": "random"}


def vgg_plans(task: Task) -> dict[str, Plan]:
    """The ways of pruning the VGG-like net to each budget of multiply-adds, in the same
    number of mini-batches.
    """
    plan = Plan(task.parameters.tune_batches, task.parameters.batches_per_step)
    return {
        f"{budget}, {name}": replace(plan, budget=share, criterion=criterion)
        for budget, share in VGG_BUDGETS.items()
        for name, criterion in VGG_CRITERIA.items()
    }


def measure_vgg_pruning(task: Task) -> dict[str, Tuned]:
    """The VGG-like net pruned in each of those ways, and `full`: the network as
    it was.
    """
    model = vgg(task)
    found = {"full": _tuned(model, all_alive(model), task)}
    training = task.trained_on(task.parameters.residual_images)
    for name, plan in vgg_plans(task).items():
        smaller, alive = prune_and_tune(model, training, plan, task.generator(7))
        found[name] = _tuned(smaller, alive, task)
    return found


def add_vgg(results: Results, networks: Sequence[dict[str, Tuned]]) -> None:
    """Rows `vgg accuracy`, `vgg multiply-adds`, `vgg parameters` and `vgg memory` by
    way, and `vgg lead` over random by budget.
    """
    for way in networks[0]:
        _add_costs(results, "vgg", [one[way] for one in networks], way)
    for budget in VGG_BUDGETS:
        leads = [
            one[f"{budget}, Taylor"].accuracy - one[f"{budget}, random"].accuracy
            for one in networks
        ]
        _add(results, "vgg lead", leads, "share", rival="random", budget=budget)


def _add_costs(
    results: Results, network: str, tuned: Sequence[Tuned], way: str
) -> None:
    """Rows of accuracy and cost of one way of pruning."""
    _add(
        results,
        f"{network} accuracy",
        [one.accuracy for one in tuned],
        "share",
        way=way,
    )
    for name, field in (
        ("multiply-adds", "multiply_adds"),
        ("parameters", "parameters"),
        ("memory", "activation_bytes"),
    ):
        values = [getattr(one.cost, field) for one in tuned]
        _add(
            results,
            f"{network} {name}",
            values,
            "bytes" if name == "memory" else "",
            way=way,
        )


def _add(
    results: Results,
    name: str,
    values: Sequence[float],
    unit: str,
    **factors: str | int,
) -> None:
    found = mean_interval_t(np.asarray(values, dtype=float))
    bounds = found.bounds
    if unit == "share" or name == "oracle sanity":
        bounds = (max(found.low, -1.0), min(found.high, 1.0))
    results.add(
        name, found.value, bounds, n=found.n, over="networks", unit=unit, **factors
    )
