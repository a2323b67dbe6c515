"""Predictions of many posterior samples on many images, as fast as a loop over the
networks or faster.

Read `sampled_probabilities` first, then `first_stochastic` and `install`, which attacks
on a posterior use too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import WeightSamples, layer_weights, multiply

IMAGES = 128
"""Images that go through a network at once: what lies between two layers then stays in
the processor's cache.
"""


def first_stochastic(samples: WeightSamples) -> int:
    """Index of the first layer that differs between samples; the last layer's if none
    does.
    """
    layers = [
        int(name.split(".")[0])
        for name, tensor in samples.weights.items()
        if len(tensor) > 1
    ]
    return min(layers, default=len(samples.architecture) - 1)


def install(
    network: nn.Sequential, samples: WeightSamples, row: int, offset: int = 0
) -> None:
    """Point the weights of `network`, the layers from `offset` on, at those of one
    sample; nothing is copied.
    """
    for name, parameter in network.named_parameters():
        index, kind = name.split(".")
        tensor = samples.weights[f"{int(index) + offset}.{kind}"]
        parameter.data = tensor[row if len(tensor) > 1 else 0]


@torch.no_grad()
def sampled_probabilities(samples: WeightSamples, images: Tensor) -> Tensor:
    """Class probabilities (S, N, K) of each sample on `images` (N, C, H, W); layers
    that all samples share run once.

    Stochastic layers run network by network, since a batched product of as many weights
    is no faster on a CPU.
    """
    split = first_stochastic(samples)
    # Slices of a network keep the names of their layers.
    network = copy.deepcopy(samples.architecture).eval()
    prefix, suffix = network[:split], network[split:]
    install(prefix, samples, 0)
    values = [prefix(part) for part in images.split(IMAGES)]
    if not any(isinstance(layer, nn.Conv2d) for layer in suffix):
        return probabilities(
            _linear_logits(samples, split, torch.cat(values).flatten(1))
        )
    outputs = []
    for row in range(len(samples)):
        install(suffix, samples, row)
        outputs.append(probabilities(torch.cat([suffix(part) for part in values])))
    return torch.stack(outputs)


def _linear_logits(samples: WeightSamples, split: int, values: Tensor) -> Tensor:
    """Logits (S, N, K) of the layers from `split` on, which hold no convolution, on
    `values` (N, D).

    The values stay in the layout of oneDNN from layer to layer: its products add the
    bias on their way.
    """
    layers = list(enumerate(samples.architecture))[split:]
    last = layers[-1][0]
    if split == last:
        weight, bias = layer_weights(samples, last)
        return multiply(values[None], weight) + (0 if bias is None else bias[:, None])
    ready = _layout(values)
    start = ready(values)
    logits = values.new_empty(
        len(samples), len(values), samples.weights[f"{last}.weight"].shape[1]
    )
    for row in range(len(samples)):
        moving = start
        for index, layer in layers:
            if isinstance(layer, nn.Linear):
                weight, bias = layer_weights(samples, index)
                own = None if bias is None else ready(bias[row % len(bias)])
                moving = F.linear(moving, ready(weight[row % len(weight)]), own)
            elif isinstance(layer, nn.ReLU):
                moving = moving.relu_()  # never the start: layer `split` has weights
        logits[row] = moving.to_dense() if moving.is_mkldnn else moving
    return logits


def _layout(values: Tensor) -> Callable[[Tensor], Tensor]:
    """What brings a tensor into oneDNN's layout, where that exists for the device and
    type of `values`.
    """
    known = (
        torch.backends.mkldnn.is_available()
        and values.device.type == "cpu"
        and values.dtype == torch.float32
    )
    return (lambda tensor: tensor.to_mkldnn()) if known else (lambda tensor: tensor)
