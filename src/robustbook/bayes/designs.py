"""Which part of a network is stochastic: the four designs of extractor and classifier,
by name.
"""

from __future__ import annotations

from torch import nn

from robustbook import checks

DESIGNS = ("det+det", "det+stoch", "stoch+det", "stoch+stoch")
"""Extractor + classifier, each deterministic (det) or stochastic (stoch)."""


def stochastic_layers(design: str, network: nn.Module) -> tuple[str, ...]:
    """Names of the layers with weights that `design` makes stochastic: convolutions
    extract, linear layers classify.

    Raises ArgumentError if there is no such design or `network` is no network.
    """
    checks.one_of(design, "design", DESIGNS)
    extractor, classifier = (part == "stoch" for part in design.split("+"))
    return tuple(
        name
        for name, layer in checks.network(network, "network").named_modules()
        if (extractor and isinstance(layer, nn.Conv2d))
        or (classifier and isinstance(layer, nn.Linear))
    )
