"""Pruning while tuning, down to a budget of multiply-adds.

Read `Plan`, then `prune` (the algorithm of Molchanov et al. 2019, section 3), then
`prune_and_tune` (pruned, made smaller, and tuned on).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from robustbook import checks
from robustbook.data import ImageSet
from robustbook.measure.importance import normalised_by_layer
from robustbook.models.network import accuracy, compute_logits
from robustbook.models.prunable import Prunable
from robustbook.perturb.budgets import down_to, unit_costs
from robustbook.perturb.pruning import all_alive, layer_costs, multiply_adds, removed

BATCH = 64
"""Images of a mini-batch."""

CRITERIA = ("taylor-fo", "per multiply-add", "by layer", "random")
"""First order, that divided by what a unit costs, or normalised by layer; random."""


@dataclass(frozen=True)
class Plan:
    """How a network is pruned while it is tuned, and tuned on.

    In each of `removals` steps units go, after `batches` mini-batches of scores, until
    the multiply-adds are down to `budget` of the original; then it is tuned on.
    `lengths` are the mini-batches, pruning included, after which it is looked at.
    `groups` names those that may be touched (all if None). Raises ArgumentError for a
    number out of its range or another criterion.
    """

    budget: float
    removals: int
    batches: int
    lengths: tuple[int, ...]
    criterion: str = "taylor-fo"
    groups: tuple[str, ...] | None = None
    learning_rate: float = 0.02

    def __post_init__(self) -> None:
        checks.real(self.budget, "budget", above=0, at_most=1)
        checks.whole(self.removals, "removals", at_least=1)
        checks.whole(self.batches, "batches", at_least=1)
        for length in self.lengths:
            checks.whole(length, "lengths", at_least=1)
        checks.one_of(self.criterion, "criterion", CRITERIA)
        checks.real(self.learning_rate, "learning_rate", above=0)


@dataclass(frozen=True)
class Tuned:
    """A pruned network: which units live, its loss on training images when the last
    went, its test `accuracies` by length of tuning, and the share of its multiply-adds.
    """

    alive: Tensor
    loss: float
    accuracies: dict[int, float]
    multiply_adds: float


def prune(
    network: Prunable,
    data: ImageSet,
    plan: Plan,
    order: Tensor,
    generator: Generator,
) -> Tensor:
    """Prune `network` in place by its gates while it is tuned, and say which units live
    (Molchanov et al. 2019, algorithm of section 3).

    Each mini-batch gives one gradient: of the weights, for a step of SGD with momentum
    0.9, and of the gates, whose squares are averaged until the next removal. As in the
    published code the network is in training mode, so batch-norms use the statistics of
    the mini-batch, in the scores too.
    """
    optimiser = _optimiser(network, plan)
    layers, alive = layer_costs(network, data.image_shape), all_alive(network)
    full = multiply_adds(network, layers, alive)
    total = torch.zeros(network.units)
    network.train()
    for step, chosen in enumerate(order, start=1):
        gates = torch.ones(network.units, requires_grad=True)
        parts = network.split(gates * alive).values()
        for gate, part in zip(network.gates(), parts, strict=True):
            gate.values = part
        _step(network, data, chosen, optimiser)
        assert gates.grad is not None
        total += gates.grad.square()
        if step % plan.batches == 0:
            done = step // plan.batches / plan.removals
            goal = full * (1 - (1 - plan.budget) * done)
            costs = unit_costs(network, layers, alive)
            scores = _scores(network, plan.criterion, total, costs, generator)
            alive = down_to(network, scores, goal, layers, alive, among=plan.groups)
            total = torch.zeros(network.units)
    for gate in network.gates():
        gate.values = None
    return alive


def _optimiser(network: Prunable, plan: Plan) -> torch.optim.Optimizer:
    rate = plan.learning_rate
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)


def _step(
    network: Prunable,
    data: ImageSet,
    chosen: Tensor,
    optimiser: torch.optim.Optimizer,
) -> None:
    optimiser.zero_grad()
    F.cross_entropy(network(data.images[chosen]), data.labels[chosen]).backward()
    optimiser.step()


def _scores(
    network: Prunable,
    criterion: str,
    total: Tensor,
    costs: Tensor,
    generator: Generator,
) -> Tensor:
    """Scores of all units from the sum of squared gradients since the last removal."""
    if criterion == "random":
        return torch.rand(network.units, generator=generator)
    if criterion == "per multiply-add":
        return total / costs.clamp_min(1)
    return normalised_by_layer(network, total) if criterion == "by layer" else total


def prune_and_tune(
    model: Prunable, data: ImageSet, test: ImageSet, plan: Plan, generator: Generator
) -> Tuned:
    """A copy of `model` pruned by the plan and tuned on without the units that went."""
    network = copy.deepcopy(model)
    longest = max(plan.lengths)
    order = torch.randint(len(data), (longest, BATCH), generator=generator)
    pruning = plan.removals * plan.batches if plan.budget < 1 else 0
    alive = all_alive(network)
    full = multiply_adds(model, layer_costs(model, data.image_shape), alive)
    if pruning:
        alive = prune(network, data, plan, order[:pruning], generator)
    smaller = removed(network, alive).eval()
    left = multiply_adds(
        smaller, layer_costs(smaller, data.image_shape), all_alive(smaller)
    )
    few = slice(0, 512)
    logits = compute_logits(smaller, data.images[few])
    loss = float(F.cross_entropy(logits, data.labels[few]))
    optimiser, accuracies = _optimiser(smaller, plan), {}
    for step, chosen in enumerate(order[pruning:], start=pruning + 1):
        smaller.train()
        _step(smaller, data, chosen, optimiser)
        if step in plan.lengths:
            accuracies[step] = accuracy(smaller.eval(), test.images, test.labels)
    return Tuned(alive, loss, accuracies, left / full)
