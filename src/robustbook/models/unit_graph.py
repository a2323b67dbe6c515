"""Units of any network: which channels, neurons and attention heads can be removed, and
which layers read them.

Read `UnitGroup` and `UnitGraph` first, then `unit_graph` (finds them, by the dependency
graph of torch-pruning), then `HeadedAttention` (whose heads are units). A unit is
removed when nothing reads it any more: the inputs of its readers are what a gate
multiplies, so that a closed gate is exactly a removed unit in any architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError

Shape = tuple[int, int, int]
MIXING = (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.Softmax)
"""Layers that mix the channels they get: without one of them the others change."""

EXACT = 1e-4
"""Largest difference, over the largest logit, of masked and removed in the check."""


class HeadedAttention(nn.Module):
    """Self-attention with the weights of an `nn.MultiheadAttention` (batch first),
    whose heads can be taken out.

    Takes the place of the original: `forward(x, x, x)` gives (output, None).
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        size = original.embed_dim
        bias = original.in_proj_bias is not None
        self.heads, self.head_size = original.num_heads, original.head_dim
        self.query, self.key, self.value = (
            nn.Linear(size, size, bias=bias) for _ in range(3)
        )
        self.out = nn.Linear(size, size, bias=original.out_proj.bias is not None)
        parts = original.in_proj_weight.detach().chunk(3)
        for place, layer in enumerate((self.query, self.key, self.value)):
            layer.weight = nn.Parameter(parts[place].clone())
            if bias:
                ours = original.in_proj_bias.detach().chunk(3)[place]
                layer.bias = nn.Parameter(ours.clone())
        self.out.load_state_dict(original.out_proj.state_dict())

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, **_: Any
    ) -> tuple[Tensor, None]:
        """Output (N, T, size) for three times the same tokens (N, T, size)."""
        parts = [
            layer(tokens).unflatten(-1, (self.heads, self.head_size)).transpose(1, 2)
            for layer, tokens in (
                (self.query, query),
                (self.key, key),
                (self.value, value),
            )
        ]
        mixed = F.scaled_dot_product_attention(*parts)
        return self.out(mixed.transpose(1, 2).flatten(2)), None


@dataclass(frozen=True)
class UnitGroup:
    """`units` that belong together, named by the layer that makes them.

    `readers` gives, for every layer that reads them, the unit (inputs,) of each of its
    inputs, -1 where it is none of this group.
    """

    name: str
    units: int
    readers: Mapping[str, Tensor]
    heads: bool = False


@dataclass(frozen=True)
class UnitGraph:
    """A copy of a network, the `groups` of its units, and why other layers were
    `refused`, by their names.
    """

    network: nn.Module
    image_shape: Shape
    groups: tuple[UnitGroup, ...]
    refused: Mapping[str, str]

    @property
    def units(self) -> int:
        """Number of units."""
        return sum(group.units for group in self.groups)

    def split(self, values: Tensor) -> list[Tensor]:
        """Values by unit (..., units) as one tensor a group."""
        return list(values.split([group.units for group in self.groups], dim=-1))

    def named(self, name: str) -> UnitGroup:
        """The group of that name; ArgumentError that says why if there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        known = self.refused.get(name, f"one of {[each.name for each in self.groups]}")
        raise ArgumentError("name", known, name)


def unit_graph(model: nn.Module, image_shape: Shape) -> UnitGraph:
    """The units of `model`, a network from images (N, *image_shape) to logits (N, K).

    Convolutions (depthwise ones go with their channels), linear layers, residual sums,
    concatenations, attention heads and units of a transformer's MLP are found. Layers
    whose outputs are classes, or whose channels a layer mixes that has no weight for
    each pair (a layer norm, a grouped convolution), are refused with the reason.

    Raises ArgumentError if the model is no network, the shape does not fit it, or no
    unit can be removed.
    """
    sides = checks.sides(image_shape, "image_shape", 3)
    shape = (sides[0], sides[1], sides[2])
    network = _with_own_attention(copy.deepcopy(checks.network(model)).eval())
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    image = next(network.parameters()).new_zeros(1, *shape)
    groups: list[UnitGroup] = []
    refused: dict[str, str] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, HeadedAttention):
            unit = torch.arange(layer.heads, device="cpu").repeat_interleave(
                layer.head_size
            )
            readers = {f"{name}.out": unit}
            groups.append(UnitGroup(name, layer.heads, readers, heads=True))
    inside = tuple(f"{group.name}." for group in groups)
    for name, members in dependencies(network, image):
        if name.startswith(inside):
            continue
        found, reason = _group(name, members)
        if found is None:
            refused[name] = reason
        else:
            groups.append(found)
    if not groups:
        raise ArgumentError("model", f"with units that can go ({refused})", model)
    order = {name: place for place, (name, _) in enumerate(network.named_modules())}
    groups.sort(key=lambda group: order[group.name])
    return UnitGraph(network, shape, tuple(groups), refused)


def _with_own_attention(network: nn.Module) -> nn.Module:
    """Every self-attention by one whose heads can be taken out."""
    for name, layer in list(network.named_modules()):
        usual = isinstance(layer, nn.MultiheadAttention) and layer.batch_first
        if usual and layer.in_proj_weight is not None and layer.bias_k is None:
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], HeadedAttention(layer))
    return network


@dataclass(frozen=True)
class GroupMember:
    """One layer of a dependency group: which of its channels belong to which unit, and
    whether it reads them.
    """

    name: str
    layer: nn.Module | nn.Parameter
    channels: tuple[int, ...]
    units: tuple[int, ...]
    reads: bool


def dependencies(
    network: nn.Module, image: Tensor
) -> Iterator[tuple[str, list[GroupMember]]]:
    """Every group of coupled channels, named by the layer that makes them."""
    graph = dependency_graph(network, image)
    names = {layer: name for name, layer in network.named_modules()}
    kinds = (nn.Conv2d, nn.Linear)
    for group in graph.get_all_groups(root_module_types=kinds):
        members = []
        for item in group:
            layer, handler = item.dep.target.module, item.dep.handler
            reads = (
                isinstance(layer, kinds)
                and graph.is_in_channel_pruning_fn(handler)
                and not graph.is_out_channel_pruning_fn(handler)
            )
            members.append(
                GroupMember(
                    names.get(layer, item.dep.target.name),
                    layer,
                    tuple(item.idxs),
                    tuple(item.root_idxs or item.idxs),
                    reads,
                )
            )
        yield members[0].name, members


def dependency_graph(network: nn.Module, image: Tensor) -> Any:
    """Torch-pruning's graph of a network, traced on one `image` (1, C, H, W)."""
    import torch_pruning  # type: ignore[import-untyped]

    graph = torch_pruning.DependencyGraph()
    with torch.enable_grad():
        return graph.build_dependency(network, example_inputs=image, verbose=False)


def _group(name: str, members: list[GroupMember]) -> tuple[UnitGroup | None, str]:
    """The group of these members, or None and why it is refused."""
    readers: dict[str, Tensor] = {}
    for member in members:
        layer = member.layer
        if isinstance(layer, MIXING):
            return None, f"{member.name} mixes its channels ({type(layer).__name__})"
        if isinstance(layer, nn.Parameter):
            return None, "a parameter of the network itself belongs to its channels"
        grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
        if grouped and layer.groups != layer.in_channels:
            return None, f"{member.name} is a grouped convolution"
        if member.reads:
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            inputs = layer.weight.shape[1]
            unit = readers.setdefault(
                member.name, torch.full((inputs,), -1, device="cpu")
            )
            unit[list(member.channels)] = torch.tensor(member.units, device="cpu")
    if not readers:
        return None, "nothing reads its outputs: they are classes"
    return UnitGroup(name, 1 + max(members[0].units), readers), ""
