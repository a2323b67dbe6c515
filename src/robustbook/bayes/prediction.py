"""Predictions of many posterior samples on many images, as fast as a loop over the networks or faster.

Read `sampled_probabilities` first, then `first_stochastic` and `install`, which attacks on a posterior use too.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import WeightSamples, layer_weights

IMAGES = 128
"""Images that go through a network at once: what lies between two layers then stays in the processor's cache."""


TOGETHER = 4
"""Samples whose linear layers run in one batched product."""


def first_stochastic(samples: WeightSamples) -> int:
    """Index of the first layer that differs between samples; the last layer's if none does."""
    layers = [int(name.split(".")[0]) for name, tensor in samples.weights.items() if len(tensor) > 1]
    return min(layers, default=len(samples.architecture) - 1)


def install(network: nn.Sequential, samples: WeightSamples, row: int, offset: int = 0) -> None:
    """Point the weights of `network`, the layers from `offset` on, at those of one sample; nothing is copied."""
    for name, parameter in network.named_parameters():
        index, kind = name.split(".")
        tensor = samples.weights[f"{int(index) + offset}.{kind}"]
        parameter.data = tensor[row if len(tensor) > 1 else 0]


@torch.no_grad()
def sampled_probabilities(samples: WeightSamples, images: Tensor) -> Tensor:
    """Class probabilities (S, N, K) of each sample on `images` (N, C, H, W); layers that all samples share run once.

    Stochastic convolutions run network by network, since a batched one is slower on a CPU; linear layers together.
    """
    split = first_stochastic(samples)
    # Slices of a network keep the names of their layers.
    network = copy.deepcopy(samples.architecture).eval()
    prefix, suffix = network[:split], network[split:]
    install(prefix, samples, 0)
    values = [prefix(part) for part in images.split(IMAGES)]
    if not any(isinstance(layer, nn.Conv2d) for layer in suffix):
        parts = torch.arange(len(samples)).split(TOGETHER)
        return torch.cat([_linear(samples, part, split, torch.cat(values)) for part in parts])
    outputs = []
    for row in range(len(samples)):
        install(suffix, samples, row)
        outputs.append(probabilities(torch.cat([suffix(part) for part in values])))
    return torch.stack(outputs)


def _linear(samples: WeightSamples, rows: Tensor, split: int, values: Tensor) -> Tensor:
    """Class probabilities (s, N, K) of some samples, whose layers from `split` on hold no convolution."""
    batch = values.expand(len(rows), *values.shape)
    for index in range(split, len(samples.architecture)):
        layer = samples.architecture[index]
        if isinstance(layer, nn.Linear):
            weight, bias = layer_weights(samples, index)
            own = rows if len(weight) > 1 else torch.zeros_like(rows)
            offset = torch.zeros(1) if bias is None else bias[rows if len(bias) > 1 else own * 0][:, None]
            batch = torch.baddbmm(offset, batch, weight[own].transpose(1, 2))
        else:
            batch = batch.relu_() if isinstance(layer, nn.ReLU) else batch.flatten(2)
    return probabilities(batch)
