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
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.mean_field import repeated
from robustbook.bayes.weights import WeightSamples
from robustbook.checks import ArgumentError
from robustbook.draws import uniform
from robustbook.models.input_convolution import plain
from robustbook.models.training import Recipe, train


@dataclass(frozen=True, eq=False)
class Dropout:
    """A network whose layer `name` loses each of its inputs with probability
    `rates[name]` (a convolution: channels).

    Raises ArgumentError if a rate is outside [0, 1), or a layer is neither linear nor a
    convolution.
    """

    network: Module
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        _check_rates(self.network, self.rates)

    @property
    def architecture(self) -> Module:
        """The network whose weights are distributed."""
        return self.network

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples; a kept input is scaled by 1 / (1 - rate),
        as in training.
        """
        count = checks.whole(count, "count", at_least=1)
        checks.generator(generator)
        weights = {
            name: tensor.detach()[None]
            for name, tensor in self.network.named_parameters()
        }
        for name, rate in self.rates.items():
            layer = self.network.get_submodule(name)
            weight = weights[f"{name}.weight"]
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            kept = uniform((count, groups, weight.shape[2]), weight, generator) >= rate
            # An output reads the inputs of its own group.
            factor = (kept.to(weight) / (1 - rate)).repeat_interleave(
                weight.shape[1] // groups if groups > 1 else 1, dim=1
            )
            shape = (*factor.shape, *[1] * (weight.dim() - 3))
            weights[f"{name}.weight"] = weight * factor.view(shape)
        return WeightSamples(
            self.network, weights if self.rates else repeated(weights, count)
        )


def _check_rates(network: Module, rates: Mapping[str, float]) -> None:
    own = dict(checks.network(network, "network").named_parameters())
    layers = [
        name
        for name, layer in network.named_modules()
        if plain(layer, nn.Linear, nn.Conv2d) and f"{name}.weight" in own
    ]
    for layer, rate in rates.items():
        if layer not in layers:
            allowed = f"by layer, one of {', '.join(layers)}"
            raise ArgumentError("rates", allowed, repr(layer))
        checks.real(rate, f"rates of {layer}", at_least=0, below=1)


def train_dropout(
    network: Module,
    images: Tensor,
    labels: Tensor,
    rates: Mapping[str, float],
    recipe: Recipe,
    *,
    seed: int,
) -> Dropout:
    """Train a copy of `network` with dropout before the layers that `rates` names; see
    `robustbook.models.training`.

    Raises ArgumentError as `Dropout` does, and for images, labels and networks that it
    cannot take, TrainingDiverged if the loss stops being finite.
    """
    _check_rates(network, rates)
    seed = checks.whole(seed, "seed", at_least=0)
    trained = copy.deepcopy(network)
    layers = {name: trained.get_submodule(name) for name in rates}
    for name, layer in layers.items():
        drop = nn.Dropout2d if isinstance(layer, nn.Conv2d) else nn.Dropout
        trained.set_submodule(name, nn.Sequential(drop(rates[name]), layer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train(trained, images, labels, recipe, seed=seed)
    for name, layer in layers.items():
        trained.set_submodule(name, layer)
    return Dropout(trained.eval(), dict(rates))
