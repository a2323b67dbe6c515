"""The true importance of units: remove each, or every set of them, and look at the
loss.

Read `removal_losses` first (each unit alone, re-running only what comes after it), then
`all_subsets` (every subset of one group). Both use that the layer behind a gate is
linear: what it puts out without unit m is what it puts out less m's share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.importance import ImportanceError, Loss, checked
from robustbook.models.folded import plain
from robustbook.models.network import evaluating
from robustbook.models.prunable import Gate, Group, Prunable
from robustbook.perturb.gradient import cross_entropy

ROWS = 2048
"""Rows (units times images) that go through the rest of a network at once."""
SUBSET_ROWS = 512
LARGEST_GROUP = 20


@dataclass(frozen=True)
class RemovalLosses:
    """Losses per image with all units, `base` (N,), and with one unit removed,
    `without` (N, units).
    """

    base: Tensor
    without: Tensor

    @property
    def importance(self) -> Tensor:
        """The squared change (units,) of the mean loss by each unit's removal
        (Molchanov et al. 2019, the oracle).
        """
        return (self.base.mean() - self.without.mean(dim=0)).square()

    def part(self, chosen: Tensor) -> RemovalLosses:
        """The losses of the chosen images."""
        return RemovalLosses(self.base[chosen], self.without[chosen])


@torch.no_grad()
def removal_losses(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = cross_entropy,
    chunk: int = 128,
) -> RemovalLosses:
    """Losses of `images` (N, C, H, W) with each single unit removed, in evaluation
    mode.

    The activations before a unit are computed once; only what follows is run again, for
    many units at a time. Gates that are closed stay closed (and change nothing when
    "removed").

    Raises ArgumentError if the model has no gates or gives anything but finite logits,
    or images, labels or `chunk` cannot be taken.
    """
    images, labels = checked(model, images, labels)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    base, without = [], []
    with evaluating(model):
        for part, truth in zip(images.split(chunk), labels.split(chunk), strict=True):
            inputs = _inputs_of_children(model, part)
            base.append(loss(checks.logits(inputs[-1], len(part)), truth))
            groups = [
                torch.cat(list(_group_losses(model, group, inputs, truth, loss)))
                for group in model.groups
            ]
            without.append(torch.cat(groups).T)
    return RemovalLosses(torch.cat(base), torch.cat(without))


def _inputs_of_children(model: Prunable, images: Tensor) -> list[Tensor]:
    """What goes into each child, and last the logits."""
    inputs = [images]
    for child in model:
        inputs.append(child(inputs[-1]))
    return inputs


def _first_child(model: Prunable, group: Group) -> int:
    """The first child that holds the gate of a group."""
    gate = model.gate_of(group)
    return next(
        place
        for place, child in enumerate(model)
        if any(module is gate for module in child.modules())
    )


def _group_losses(
    model: Prunable, group: Group, inputs: list[Tensor], labels: Tensor, loss: Loss
) -> Iterator[Tensor]:
    """Losses (units, N) without each unit of the group, some units at a time."""
    place = _first_child(model, group)
    shares = _linear_behind(model, place, inputs) if _met_once(model, group) else None
    at_once = max(1, ROWS // len(labels))
    for units in torch.arange(group.units, device=labels.device).split(at_once):
        if shares is None:
            logits = _with_gates_closed(model, group, place, inputs[place], units)
        else:
            behind, layer = shares
            logits = _run(
                model,
                behind + 1,
                _without_share(layer, inputs[place + 1], inputs[behind + 1], units),
            )
        yield loss(logits, labels.repeat(len(units))).unflatten(0, (len(units), -1))


def _met_once(model: Prunable, group: Group) -> bool:
    """Whether the group's gate is a child of the network and nowhere else in it."""
    gate = model.gate_of(group)
    holders = [child for child in model if gate in list(child.modules())]
    return len(holders) == 1 and holders[0] is gate and plain(gate, Gate)


def _linear_behind(
    model: Prunable, place: int, inputs: list[Tensor]
) -> tuple[int, nn.Conv2d | nn.Linear] | None:
    """The child after a gate if it is a convolution or a linear layer (perhaps after
    flattening) whose shares are exact, with its place.
    """
    for behind in range(place + 1, len(model)):
        child = model[behind]
        if exact_share(child):
            fits = inputs[behind].ndim == (4 if isinstance(child, nn.Conv2d) else 2)
            return (behind, child) if fits else None
        if not plain(child, nn.Flatten) or child.start_dim != 1 or child.end_dim != -1:
            return None
    return None


def exact_share(layer: nn.Module) -> TypeGuard[nn.Conv2d | nn.Linear]:
    """Whether what a unit adds to the layer's output can be worked out by itself: a
    plain linear layer or an ungrouped convolution, padded in whatever mode.
    """
    if not plain(layer, nn.Conv2d, nn.Linear):
        return False
    return not isinstance(layer, nn.Conv2d) or layer.groups == 1


def _without_share(
    layer: nn.Conv2d | nn.Linear, activations: Tensor, output: Tensor, units: Tensor
) -> Tensor:
    """What `layer` puts out for gated `activations` without each of `units`,
    (len(units) * N, ...) from its full `output`.
    """
    if isinstance(layer, nn.Linear):
        parts = (
            activations.flatten(2)[:, units]
            if activations.ndim > 2
            else activations[:, units, None]
        )
        weight = layer.weight.unflatten(1, (activations.shape[1], -1))[:, units]
        # One small product for each unit: (units, N, positions) @ (units, positions,
        # outputs).
        shares = torch.bmm(parts.transpose(0, 1), weight.permute(1, 2, 0))
        return (output - shares).flatten(0, 1)
    shares = torch.stack(
        [share_of_channel(layer, activations, int(unit)) for unit in units]
    )
    return (output - shares).flatten(0, 1)


def share_of_channel(layer: nn.Conv2d, activations: Tensor, channel: int) -> Tensor:
    """What one input channel adds to the output (N, out, H, W) of a convolution, bias
    left out.
    """
    kept = slice(channel, channel + 1)
    # The layer's own convolution, which knows its padding mode.
    return layer._conv_forward(activations[:, kept], layer.weight[:, kept], None)


def _with_gates_closed(
    model: Prunable, group: Group, place: int, activations: Tensor, units: Tensor
) -> Tensor:
    """Logits (len(units) * N, K) from child `place` onward with one of `units` closed
    in each run of rows.
    """
    gate = model.gate_of(group)
    old = gate.values
    closed = (
        activations.new_ones(len(units), group.units)
        if old is None
        else old.expand(len(units), -1).clone()
    )
    closed[torch.arange(len(units), device=units.device), units] = 0
    try:
        gate.values = closed.repeat_interleave(len(activations), dim=0)
        return _run(
            model, place, activations.repeat(len(units), *[1] * (activations.ndim - 1))
        )
    finally:
        gate.values = old


def _run(model: Prunable, start: int, values: Tensor) -> Tensor:
    for child in list(model)[start:]:
        values = child(values)
    return values


@torch.no_grad()
def all_subsets(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    group: Group,
    *,
    loss: Loss = cross_entropy,
    chunk: int = 32,
) -> Tensor:
    """Mean loss (2^units,) for every subset of a group's units; bit m of the index says
    that unit m is kept.

    The layer behind the gate is linear, so what it puts out for a subset is its bias
    and the sum of the kept shares: one matrix product makes it for many subsets at
    once.

    Raises ImportanceError if the group has more than 20 units or a convolution does not
    follow its gate directly, and ArgumentError as `removal_losses` does.
    """
    images, labels = checked(model, images, labels)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    if group not in model.groups:
        raise ArgumentError("group", "one of the model's groups", group)
    place = _first_child(model, group)
    layer = model[place + 1] if place + 1 < len(model) else None
    if group.units > LARGEST_GROUP or not (
        isinstance(layer, nn.Conv2d) and exact_share(layer) and _met_once(model, group)
    ):
        raise ImportanceError(
            f"all subsets of {group.name!r}: it needs at most {LARGEST_GROUP} units "
            "before a convolution"
        )
    total = images.new_zeros(2**group.units)
    with evaluating(model):
        for part, truth in zip(images.split(chunk), labels.split(chunk), strict=True):
            inputs = _inputs_of_children(model, part)
            checks.logits(inputs[-1], len(part))
            activations = inputs[place + 1]
            assert isinstance(layer, nn.Conv2d)
            shares = torch.stack(
                [
                    share_of_channel(layer, activations, unit)
                    for unit in range(group.units)
                ]
            )
            # Channels last, where pooling is many times faster; few rows at once, so
            # that they stay in the cache.
            shares = shares.permute(0, 1, 3, 4, 2).contiguous()
            every = torch.arange(len(total), device=total.device)
            for codes in every.split(max(1, SUBSET_ROWS // len(part))):
                kept = kept_units(codes, group.units).to(shares)
                output = (kept @ shares.flatten(1)).unflatten(1, shares.shape[1:])
                if layer.bias is not None:
                    output += layer.bias
                logits = _run(
                    model, place + 2, output.flatten(0, 1).permute(0, 3, 1, 2)
                )
                losses = loss(logits, truth.repeat(len(codes)))
                total[codes] += losses.unflatten(0, (len(codes), -1)).sum(dim=1)
    return total / len(images)


def kept_units(codes: Tensor, units: int) -> Tensor:
    """Subsets (B, units) of 0 and 1 from their index (B,): bit m is unit m.

    Raises ArgumentError if the codes are no whole numbers, or `units` is less than 1.
    """
    units = checks.whole(units, "units", at_least=1)
    codes = checks.labels(codes, codes, 2**units, name="codes")
    return (codes[:, None] >> torch.arange(units, device=codes.device) & 1).float()


def best_by_size(losses: Tensor) -> Tensor:
    """Smallest loss (units + 1,) over all subsets that keep 0, 1, ... units, from
    `losses` (2^units,).

    Raises ArgumentError for another number of losses.
    """
    losses = checks.tensor(losses, "losses", dimensions=1)
    units = len(losses).bit_length() - 1
    if len(losses) != 2**units or not units:
        raise ArgumentError("losses", "one for each subset of the units", losses)
    codes = torch.arange(len(losses), device=losses.device)
    sizes = kept_units(codes, units).sum(dim=1).long()
    return losses.new_full((units + 1,), torch.inf).scatter_reduce(
        0, sizes, losses, reduce="amin"
    )
