"""Gates for plain networks: `with_gates` puts one behind every ReLU, `without_gates`
takes them out again.

So a plain sequence of layers can be scored and pruned, and what is left can be walked
by bounds.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.folded import plain
from robustbook.models.prunable import Gate, Group, Prunable

BEFORE = (nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Identity)
"""Layers between a unit's weights and its ReLU that keep units apart."""
BEHIND = (*BEFORE, nn.AdaptiveAvgPool2d, nn.Flatten)
"""Layers behind a gate that keep units apart and make zeros of zeros."""


def with_gates(network: nn.Sequential) -> Prunable:
    """A copy of `network`, nested sequences opened, with a gate behind every ReLU; a
    unit is an output of the layer before that ReLU, with its batch-norm.

    The last layer's outputs are classes and have no gate.

    >>> with_gates(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))).units
    5

    Raises ArgumentError that names the layer if a ReLU has no layer with weights before
    it or behind it, a convolution has groups, or another layer stands where units could
    not be told apart, and if there is no ReLU.
    """
    children: dict[str, nn.Module] = {}
    groups: list[Group] = []
    waiting: Group | None = None
    producer = ""
    norms: tuple[str, ...] = ()
    for index, layer in enumerate(_opened(checks.network(network, "network"))):
        name = f"layer{index}"
        children[name] = copy.deepcopy(layer)
        if plain(layer, nn.Linear, nn.Conv2d):
            if isinstance(layer, nn.Conv2d) and layer.groups != 1:
                raise _refused(layer, index, "a convolution of one group")
            flat = any(isinstance(each, nn.Flatten) for each in children.values())
            maps = any(isinstance(each, nn.Conv2d) for each in children.values())
            if isinstance(layer, nn.Linear) and maps and not flat:
                raise _refused(layer, index, "behind a Flatten")
            if waiting is not None:
                groups.append(replace(waiting, consumers=(name,)))
            producer, norms, waiting = name, (), None
        elif plain(layer, nn.ReLU):
            if not producer or waiting is not None:
                raise _refused(layer, index, "behind a layer with weights before it")
            weights = children[producer]
            assert isinstance(weights, nn.Linear | nn.Conv2d)
            units, gate = len(weights.weight), f"gate{index}"
            children[gate] = Gate(units)
            waiting = Group(producer, gate, units, (producer,), norms, ())
        elif waiting is None and producer and _is_norm(layer):
            norms = (*norms, name)
        elif waiting is not None and not plain(layer, *BEHIND):
            raise _refused(layer, index, "a layer that makes zeros of closed units")
        elif isinstance(layer, nn.Flatten) and not _of_images(layer):
            raise _refused(layer, index, "a Flatten of all but the images' dimension")
        elif waiting is None and not plain(layer, *BEFORE):
            producer = ""
    if waiting is not None:
        raise ArgumentError(
            "network", "a ReLU with a layer with weights behind it", waiting.producers
        )
    if not groups:
        raise ArgumentError("network", "with a ReLU, whose units can be gated", network)
    return Prunable(children, groups)


def _opened(network: nn.Module) -> list[nn.Module]:
    if plain(network, nn.Sequential):
        return [each for layer in network.children() for each in _opened(layer)]
    if isinstance(network, nn.Sequential):
        raise ArgumentError("network", "an nn.Sequential without hooks", network)
    return [network]


def _of_images(layer: nn.Flatten) -> bool:
    return (layer.start_dim, layer.end_dim) == (1, -1)


def _is_norm(layer: nn.Module) -> bool:
    return plain(layer, nn.BatchNorm2d) and layer.running_mean is not None


def _refused(layer: nn.Module, index: int, allowed: str) -> ArgumentError:
    return ArgumentError(f"layer {index} of network", allowed, layer)


def without_gates(network: Prunable) -> nn.Sequential:
    """A copy of `network` as a plain sequence without its gates, all of which count as
    open.
    """
    checks.having(network, "network", "gates", "groups")
    layers = [copy.deepcopy(layer) for layer in network if not isinstance(layer, Gate)]
    return nn.Sequential(*layers).eval()
