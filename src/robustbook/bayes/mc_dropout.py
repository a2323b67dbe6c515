"""Monte-Carlo dropout as a posterior over weights: a dropped input is a column of zeros
(Gal and Ghahramani 2016).

Read `Dropout` first, then `train_dropout`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustbook.bayes.protocol import check_count
from robustbook.bayes.weights import WeightSamples
from robustbook.errors import ParameterError
from robustbook.models.training import Recipe, train


@dataclass(frozen=True, eq=False)
class Dropout:
    """A network whose layer `name` loses each of its inputs with probability
    `rates[name]` (a convolution: channels).

    Raises ParameterError if a rate is outside [0, 1) or a layer has no weights.
    """

    network: nn.Sequential
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        _check_rates(self.network, self.rates)

    @property
    def architecture(self) -> nn.Sequential:
        """The network whose weights are distributed."""
        return self.network

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples; a kept input is scaled by 1 / (1 - rate),
        as in training.
        """
        check_count(count)
        weights = {
            name: tensor.detach()[None]
            for name, tensor in self.network.named_parameters()
        }
        for layer, rate in self.rates.items():
            weight = weights[f"{layer}.weight"]
            shape = (count, 1, weight.shape[2], *[1] * (weight.dim() - 3))
            kept = torch.rand(shape, generator=generator) >= rate
            weights[f"{layer}.weight"] = weight * (kept / (1 - rate))
        if not self.rates:
            weights = {
                name: tensor.expand(count, *tensor.shape[1:])
                for name, tensor in weights.items()
            }
        return WeightSamples(self.network, weights)


def _check_rates(network: nn.Sequential, rates: Mapping[str, float]) -> None:
    layers = {
        str(index)
        for index, layer in enumerate(network)
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    for layer, rate in rates.items():
        if layer not in layers:
            raise ParameterError(
                f"no layer {layer!r} with weights; there are "
                f"{', '.join(sorted(layers))}"
            )
        if not 0 <= rate < 1:
            raise ParameterError(f"a dropout rate must lie in [0, 1), got {rate}")


def train_dropout(
    network: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    rates: Mapping[str, float],
    recipe: Recipe,
    *,
    seed: int,
) -> Dropout:
    """Train a copy of `network` with dropout before the layers that `rates` names; see
    `robustbook.models.training`.

    Raises ParameterError as `Dropout` does, TrainingDiverged if the loss stops being
    finite.
    """
    _check_rates(network, rates)
    layers: list[nn.Module] = []
    for index, layer in enumerate(copy.deepcopy(network).children()):
        if str(index) in rates:
            rate = rates[str(index)]
            layers.append(
                nn.Dropout2d(rate) if isinstance(layer, nn.Conv2d) else nn.Dropout(rate)
            )
        layers.append(layer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = train(nn.Sequential(*layers), images, labels, recipe, seed=seed)
    kept = [
        layer
        for layer in trained.children()
        if not isinstance(layer, nn.Dropout | nn.Dropout2d)
    ]
    return Dropout(nn.Sequential(*kept).eval(), dict(rates))
