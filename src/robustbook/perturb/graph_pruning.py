"""Units of any network switched off and taken out.

Read `gating` (gates on what readers of a unit get, by hooks, without surgery), then
`without` (a smaller network that answers as the masked one does), then `network_cost`.
A choice of units is always `alive` (units,), True for a unit that stays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.draws import uniform
from robustbook.models.network import evaluating
from robustbook.models.unit_graph import (
    EXACT,
    HeadedAttention,
    UnitGraph,
    UnitGroup,
    dependency_graph,
)
from robustbook.perturb.pruning import Cost


@contextmanager
def gating(graph: UnitGraph, values: Tensor) -> Iterator[nn.Module]:
    """The network with every unit multiplied by its gate, `values` (units,) or one row
    of gates an image (N, units), wherever it is read.
    """
    by_layer: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for group, part in zip(graph.groups, graph.split(values), strict=True):
        for name, unit in group.readers.items():
            by_layer.setdefault(name, []).append((unit, part))
    handles = [
        graph.network.get_submodule(name).register_forward_pre_hook(
            partial(_scaled, parts)
        )
        for name, parts in by_layer.items()
    ]
    try:
        yield graph.network
    finally:
        for handle in handles:
            handle.remove()


def _scaled(
    parts: list[tuple[Tensor, Tensor]], layer: nn.Module, inputs: tuple[Tensor, ...]
) -> Tensor:
    """The inputs of a layer, multiplied by the gates of the units they belong to."""
    given, size, first = inputs[0], len(parts[0][0]), parts[0][1]
    rows = first.new_ones(*first.shape[:-1], size)
    for unit, gates in parts:
        mine = (unit >= 0).nonzero().flatten().to(first.device)
        rows = rows.index_copy(-1, mine, gates[..., unit[unit >= 0].to(first.device)])
    rows = rows if rows.ndim == 2 else rows[None]
    if isinstance(layer, nn.Conv2d):
        return given * rows[..., None, None]
    return given * rows.reshape(len(rows), *[1] * (given.ndim - 2), size)


def _alive(graph: UnitGraph, alive: Tensor) -> Tensor:
    checks.having(graph, "graph", "network", "groups", "refused")
    return checks.mask(alive, "alive", (graph.units,)).cpu()


@contextmanager
def switched_off(graph: UnitGraph, alive: Tensor) -> Iterator[nn.Module]:
    """The network without what the removed units contribute, weights in place.

    Raises ArgumentError if `alive` is no mask (units,).
    """
    weight = next(graph.network.parameters())
    with gating(graph, _alive(graph, alive).to(weight)) as network:
        yield network


def without(graph: UnitGraph, alive: Tensor) -> nn.Module:
    """A smaller network without the removed units, which answers as the masked one.

    It is checked on one image of noise. Raises ArgumentError that names the group if
    one would lose all its units, or the network if the smaller one answers otherwise.
    """
    alive = _alive(graph, alive)
    smaller = copy.deepcopy(graph.network)
    image = next(smaller.parameters()).new_zeros(1, *graph.image_shape)
    channels: list[tuple[UnitGroup, list[int]]] = []
    for group, part in zip(graph.groups, graph.split(alive), strict=True):
        gone = (~part).nonzero().flatten().tolist()
        if len(gone) == group.units:
            raise ArgumentError("alive", f"a unit of {group.name!r} left", "none")
        if gone and group.heads:
            _take_heads(smaller.get_submodule(group.name), part)
        elif gone:
            channels.append((group, gone))
    if channels:
        structure = dependency_graph(smaller, image)
        for group, gone in channels:
            layer = smaller.get_submodule(group.name)
            prune = structure.get_pruner_of_module(layer).prune_out_channels
            structure.get_pruning_group(layer, prune, gone).prune()
    _compare(graph, alive, smaller.eval())
    return smaller


def _take_heads(attention: nn.Module, kept: Tensor) -> None:
    """Leave only the kept heads (heads,) of an attention."""
    assert isinstance(attention, HeadedAttention)
    rows = kept.repeat_interleave(attention.head_size)
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value):
            layer.weight = nn.Parameter(layer.weight[rows])
            if layer.bias is not None:
                layer.bias = nn.Parameter(layer.bias[rows])
            layer.out_features = int(rows.sum())
        attention.out.weight = nn.Parameter(attention.out.weight[:, rows])
    attention.out.in_features = int(rows.sum())
    attention.heads = int(kept.sum())


@torch.no_grad()
def _compare(graph: UnitGraph, alive: Tensor, smaller: nn.Module) -> None:
    weight = next(smaller.parameters())
    generator = torch.Generator("cpu").manual_seed(0)
    noise = uniform((1, *graph.image_shape), weight, generator)
    with evaluating(graph.network), switched_off(graph, alive) as masked:
        expected = masked(noise)
    found = smaller(noise)
    if (found - expected).abs().max() > EXACT * expected.abs().max().clamp_min(1e-6):
        raise ArgumentError(
            "graph", "a network whose smaller copy answers as the masked one", graph
        )


@torch.no_grad()
def network_cost(model: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """What one image of that shape costs in any network: parameters, multiply-adds of
    convolutions, linear layers and attention, and the largest layer in bytes.

    Raises ArgumentError if the model is no network or the shape does not fit.
    """
    sides = checks.sides(image_shape, "image_shape", 3)
    image = next(checks.network(model).parameters()).new_zeros(1, *sides)
    adds, sizes = [0], [0]

    def see(layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(layer, HeadedAttention):
            tokens = inputs[0].shape[1]
            adds.append(2 * tokens * tokens * layer.heads * layer.head_size)
        elif isinstance(output, Tensor):
            sizes.append(4 * (inputs[0].numel() + output.numel()))
            if isinstance(layer, nn.Conv2d | nn.Linear):
                adds.append(layer.weight[0].numel() * output.numel())

    handles = [
        module.register_forward_hook(see)
        for module in model.modules()
        if isinstance(module, HeadedAttention) or not list(module.children())
    ]
    try:
        with evaluating(model):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, sum(adds), max(sizes))
