"""Gates for plain networks: `with_gates` puts one behind every ReLU, `without_gates`
takes them out again.

So a network of Linear, Conv2d, ReLU and Flatten can be scored and pruned, and what is
left can be walked by bounds.
"""

from __future__ import annotations

import copy

from torch import nn

from robustbook.models.prunable import Gate, Group, Prunable


def with_gates(network: nn.Sequential) -> Prunable:
    """A copy of `network` with a gate behind every ReLU; a unit is an output of the
    layer before that ReLU.

    The last layer's outputs are classes and have no gate. Raises ValueError if a ReLU
    has no layer with weights before it or behind it.
    """
    children: dict[str, nn.Module] = {}
    groups: list[Group] = []
    open_group: tuple[str, str, int] | None = None
    producer: str | None = None
    for index, layer in enumerate(network):
        name = f"layer{index}"
        children[name] = copy.deepcopy(layer)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if open_group is not None:
                before, gate, units = open_group
                groups.append(Group(before, gate, units, (before,), (), (name,)))
                open_group = None
            producer = name
        elif isinstance(layer, nn.ReLU):
            if producer is None:
                raise ValueError(
                    "a ReLU needs a layer with weights before it to have units"
                )
            gate, units = (
                f"gate{index}",
                units_of(network[int(producer.removeprefix("layer"))]),
            )
            children[gate] = Gate(units)
            open_group = (producer, gate, units)
    if open_group is not None:
        raise ValueError(
            "a ReLU needs a layer with weights behind it, so that its units can be "
            "taken out"
        )
    return Prunable(children, groups)


def units_of(layer: nn.Module) -> int:
    """Number of outputs (filters or neurons) of a layer with weights; TypeError for
    another layer.
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels
    raise TypeError(f"only Linear and Conv2d have units, got {type(layer).__name__}")


def without_gates(network: Prunable) -> nn.Sequential:
    """A copy of `network` as a plain sequence without its gates, all of which count as
    open.
    """
    layers = [copy.deepcopy(layer) for layer in network if not isinstance(layer, Gate)]
    return nn.Sequential(*layers).eval()
