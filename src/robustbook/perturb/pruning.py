"""Removing units from a network: choosing them, switching them off, and taking them out
for good.

Read `lowest` first (which units go), then `masked` (gates closed, weights in place),
then `removed` (a smaller network with the same outputs), then `cost` (what it saves). A
choice of units is always `alive` (units,), True for a unit that stays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.errors import UserError
from robustbook.models.network import evaluating
from robustbook.models.prunable import Prunable


class PruningError(UserError):
    """A removal that cannot be made; the message says which units or layer and why."""


def all_alive(model: Prunable) -> Tensor:
    """Every unit stays: True (units,)."""
    checks.having(model, "model", "gates", "groups")
    return torch.ones(model.units, dtype=torch.bool, device=model.device)


def _alive(model: Prunable, alive: Tensor) -> Tensor:
    """`alive` as a mask (units,) beside the model; ArgumentError if it is none."""
    checks.having(model, "model", "gates", "groups")
    return checks.mask(alive, "alive", (model.units,)).to(model.device)


def lowest(
    model: Prunable,
    scores: Tensor,
    count: int,
    alive: Tensor,
    *,
    layers: Sequence[str] | None = None,
) -> Tensor:
    """`alive` (units,) after the removal of the `count` living units with the lowest
    `scores` (units,).

    Only units of the groups named in `layers` may go (all by default), and the last
    unit of a group never does. Equal scores go in the order of their units.

    Raises ArgumentError if `count` is no whole number from 0, or scores or `alive` are
    not (units,), PruningError if a score is not a number, a layer may not be touched,
    or fewer than `count` units can go.
    """
    count = checks.whole(count, "count", at_least=0)
    alive = _alive(model, alive)
    if not isinstance(scores, Tensor) or scores.shape != (model.units,):
        raise ArgumentError("scores", f"a tensor ({model.units},)", scores)
    scores = scores.to(model.device)
    candidates = _candidates(model, scores, alive, layers).tolist()
    group_of, left = (
        model.group_of_unit().tolist(),
        [int(part.sum()) for part in model.split(alive).values()],
    )
    gone: list[int] = []
    for unit in torch.argsort(scores, stable=True).tolist():
        if len(gone) == count:
            break
        if candidates[unit] and left[group_of[unit]] > 1:
            left[group_of[unit]] -= 1
            gone.append(unit)
    if len(gone) < count:
        raise PruningError(
            f"{count} units are to be removed, but only {len(gone)} can be: every "
            "layer keeps at least one"
        )
    after = alive.clone()
    after[gone] = False
    return after


def _candidates(
    model: Prunable, scores: Tensor, alive: Tensor, layers: Sequence[str] | None
) -> Tensor:
    names = [group.name for group in model.groups]
    for layer in layers or ():
        if layer not in names:
            raise PruningError(
                f"layer {layer!r} may not be touched; units can be removed from "
                f"{', '.join(names)}"
            )
    for name, part in model.split(scores).items():
        if torch.isnan(part).any():
            unit = int(torch.isnan(part).nonzero()[0])
            raise ArgumentError("scores", "numbers", f"NaN for unit {unit} of {name!r}")
    allowed = torch.tensor(
        [layers is None or name in layers for name in names], device=model.device
    )
    return alive & allowed[model.group_of_unit()]


@contextmanager
def masked(model: Prunable, alive: Tensor) -> Iterator[Prunable]:
    """The network with the gates of removed units closed; the gates are as before at
    the end.
    """
    alive = _alive(model, alive)
    before = [gate.values for gate in model.gates()]
    try:
        close(model, alive)
        yield model
    finally:
        for gate, old in zip(model.gates(), before, strict=True):
            gate.values = old


def close(model: Prunable, alive: Tensor) -> None:
    """Close the gates of removed units and open all others."""
    parts = model.split(_alive(model, alive).float()).values()
    for gate, part in zip(model.gates(), parts, strict=True):
        gate.values = None if bool(part.all()) else part


def removed(model: Prunable, alive: Tensor) -> Prunable:
    """A smaller copy of the network without the removed units, its gates open; its
    outputs are those of the masked one.

    Raises PruningError if a group would lose all its units.
    """
    alive = _alive(model, alive)
    with masked(model, all_alive(model)):
        smaller = copy.deepcopy(model)
    groups = []
    for group, part in zip(model.groups, model.split(alive).values(), strict=True):
        kept = part.nonzero().squeeze(1)
        if not len(kept):
            raise PruningError(
                f"layer {group.name!r} would lose all its {group.units} units"
            )
        for name in group.producers:
            _keep_outputs(smaller.get_submodule(name), kept)
        for name in group.norms:
            _keep_channels(smaller.get_submodule(name), kept)
        for name in group.consumers:
            _keep_inputs(smaller.get_submodule(name), kept, group.units)
        smaller.gate_of(group).units = len(kept)
        groups.append(replace(group, units=len(kept)))
    smaller.groups = tuple(groups)
    return smaller


def _keep(parameter: Tensor, kept: Tensor, dimension: int) -> nn.Parameter:
    return nn.Parameter(
        parameter.detach().index_select(dimension, kept),
        requires_grad=parameter.requires_grad,
    )


def _keep_outputs(layer: nn.Module, kept: Tensor) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    layer.weight = _keep(layer.weight, kept, 0)
    if layer.bias is not None:
        layer.bias = _keep(layer.bias, kept, 0)
    setattr(
        layer,
        "out_channels" if isinstance(layer, nn.Conv2d) else "out_features",
        len(kept),
    )


def _keep_inputs(layer: nn.Module, kept: Tensor, units: int) -> None:
    """Keep the inputs of the kept units; after flattening, each unit feeds an equal run
    of inputs.
    """
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    run = layer.weight.shape[1] // units
    inputs = (kept[:, None] * run + torch.arange(run, device=kept.device)).flatten()
    layer.weight = _keep(layer.weight, inputs, 1)
    setattr(
        layer,
        "in_channels" if isinstance(layer, nn.Conv2d) else "in_features",
        len(inputs),
    )


def _keep_channels(norm: nn.Module, kept: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight, norm.bias = _keep(norm.weight, kept, 0), _keep(norm.bias, kept, 0)
    norm.running_mean = norm.running_mean[kept]
    norm.running_var = norm.running_var[kept]
    norm.num_features = len(kept)


@dataclass(frozen=True)
class Cost:
    """What one image costs: `parameters`, `multiply_adds` of convolutions and linear
    layers, and `activation_bytes`.

    `activation_bytes` is the largest sum of a layer's input and output (float32), the
    memory that a layer-by-layer run needs.
    """

    parameters: int
    multiply_adds: int
    activation_bytes: int


@torch.no_grad()
def cost(model: Prunable, image_shape: tuple[int, int, int]) -> Cost:
    """The cost of a network for one image of that shape, counted in one forward
    pass.
    """
    image = _black(model, image_shape)
    adds, sizes = [], []

    def see(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(4 * (inputs[0].numel() + output.numel()))
        if isinstance(layer, nn.Conv2d | nn.Linear):
            adds.append(layer.weight[0].numel() * output.numel())

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(see) for leaf in leaves]
    try:
        with evaluating(model):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return Cost(
        sum(parameter.numel() for parameter in model.parameters()),
        sum(adds),
        max(sizes),
    )


def _black(model: Prunable, shape: tuple[int, int, int]) -> Tensor:
    checks.having(model, "model", "gates", "groups")
    sides = checks.sides(shape, "image_shape", 3)
    return next(model.parameters()).new_zeros(1, *sides)


@dataclass(frozen=True)
class LayerCost:
    """Multiply-adds of one layer by width: `each` for every pair of a living input and
    a living output unit.

    `reads` and `writes` are the places of the groups that its inputs and outputs belong
    to, or None where they cannot be removed; then `each` already holds their number.
    """

    each: int
    reads: int | None
    writes: int | None


@torch.no_grad()
def layer_costs(model: Prunable, image_shape: tuple[int, int, int]) -> list[LayerCost]:
    """What each convolution and linear layer costs as a function of which units live,
    from one forward pass.
    """
    image = _black(model, image_shape)
    reads = {
        name: place
        for place, group in enumerate(model.groups)
        for name in group.consumers
    }
    writes = {
        name: place
        for place, group in enumerate(model.groups)
        for name in group.producers
    }
    found: list[LayerCost] = []

    def see(name: str, layer: nn.Conv2d | nn.Linear, output: Tensor) -> None:
        each = layer.weight[0].numel() * output.numel()
        for side in (reads, writes):
            each //= model.groups[side[name]].units if name in side else 1
        found.append(LayerCost(each, reads.get(name), writes.get(name)))

    handles = [
        layer.register_forward_hook(
            lambda layer, _inputs, output, name=name: see(name, layer, output)
        )
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with evaluating(model):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def multiply_adds(model: Prunable, layers: Sequence[LayerCost], alive: Tensor) -> int:
    """Multiply-adds of one image when only the living units are left; equal to
    `cost(removed(...))` without building it.
    """
    parts = model.split(_alive(model, alive)).values()
    living = [int(part.sum()) for part in parts]
    return sum(
        layer.each
        * (1 if layer.reads is None else living[layer.reads])
        * (1 if layer.writes is None else living[layer.writes])
        for layer in layers
    )
