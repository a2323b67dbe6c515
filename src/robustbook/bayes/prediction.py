"""Predictions of many posterior samples on many images, as fast as a loop over the
networks or faster.

Read `sampled_probabilities` first, then `first_stochastic` (attacks on a posterior use
it too), then the predictions averaged over samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbook import checks
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import (
    Layer,
    Part,
    WeightSamples,
    fast_layers,
    multiply,
)
from robustbook.models.network import frozen

IMAGES = 128
"""Images that go through a network at once: what lies between two layers then stays in
the processor's cache.
"""


def first_stochastic(samples: WeightSamples) -> int:
    """Index among `samples.layers` of the first layer that differs between samples; the
    last layer's if none does.
    """
    values, layers = samples.lookup(), samples.layers
    for index, layer in enumerate(layers):
        if any(len(values(tensor)) > 1 for tensor in _tensors(layer)):
            return index
    return len(layers) - 1


def _tensors(layer: nn.Module) -> list[Tensor]:
    return [*layer.parameters(), *layer.buffers()]


@torch.no_grad()
def sampled_probabilities(
    samples: WeightSamples, images: Tensor, *, chunk: int = IMAGES
) -> Tensor:
    """Class probabilities (S, N, K) of each sample on `images` (N, C, H, W), which may
    leave [0, 1]; layers that all samples share run once, `chunk` images at a time.

    Stochastic layers run network by network, since a batched product of as many weights
    is no faster on a CPU.

    Raises ArgumentError if images or logits are not finite or of another shape.
    """
    checks.having(samples, "samples", "weights", "lookup")
    images = checks.tensor(images, "images", dimensions=4)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    if not len(images):
        raise checks.ArgumentError("images", "at least one image", images)
    split, layers = first_stochastic(samples), samples.layers
    later = fast_layers(samples, layers[split:])
    suffix = Part.of(samples.architecture, layers[split:])
    values = list(samples.points(images)[0].split(chunk))
    with frozen(samples.architecture):
        if split:
            prefix = Part.of(samples.architecture, layers[:split])
            values = [prefix.run(samples, 0, part) for part in values]
        if later and values[0].dim() == 2 and isinstance(later[0].module, nn.Linear):
            logits = _linear_logits(samples, later, torch.cat(values))
        else:
            outputs = [
                torch.cat([suffix.run(samples, row, part) for part in values])
                for row in range(len(samples))
            ]
            logits = torch.stack(outputs)
    return probabilities(samples.checked(logits, len(images)))


def _linear_logits(
    samples: WeightSamples, layers: list[Layer], values: Tensor
) -> Tensor:
    """Logits (S, N, K) of linear layers and ReLUs on `values` (N, D).

    The values stay in the layout of oneDNN from layer to layer: its products add the
    bias on their way.
    """
    first, *later = layers
    if not later:
        assert first.weight is not None
        logits = multiply(values[None], first.weight)
        return logits if first.bias is None else logits + first.bias[:, None]
    ready = _layout(values)
    start, outputs = ready(values), []
    for row in range(len(samples)):
        moving = start
        for layer in layers:
            if layer.weight is not None:
                weight, bias = layer.weight, layer.bias
                own = None if bias is None else ready(bias[row % len(bias)])
                moving = F.linear(moving, ready(weight[row % len(weight)]), own)
            elif isinstance(layer.module, nn.ReLU):
                moving = moving.relu_()  # never the start: the first layer has weights
        outputs.append(moving.to_dense() if moving.is_mkldnn else moving)
    return torch.stack(outputs)


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


# Averaged over samples
# --------------------------------------------------------------------------------------


def predictive_mean(
    samples: WeightSamples, images: Tensor, *, chunk: int = IMAGES
) -> Tensor:
    """Posterior-predictive class probabilities (N, K): the mean of those of the
    samples. Errors as in `sampled_probabilities`.
    """
    return sampled_probabilities(samples, images, chunk=chunk).mean(dim=0)


def log_predictive(
    samples: WeightSamples, images: Tensor, labels: Tensor, *, chunk: int = IMAGES
) -> Tensor:
    """Log posterior-predictive probability (N,) of `labels` (N,), in nats.

    Raises ArgumentError as `sampled_probabilities` does, and for labels that are not
    (N,) whole numbers below K.
    """
    mean = predictive_mean(samples, images, chunk=chunk)
    labels = checks.labels(labels, images, mean.shape[1])
    return mean.gather(1, labels[:, None]).squeeze(1).log()


def predictive_accuracy(
    samples: WeightSamples, images: Tensor, labels: Tensor, *, chunk: int = IMAGES
) -> float:
    """Share of `images` (N, C, H, W) whose most probable class under the predictive
    mean is their label (N,). Errors as in `log_predictive`.
    """
    mean = predictive_mean(samples, images, chunk=chunk)
    labels = checks.labels(labels, images, mean.shape[1])
    return float((mean.argmax(dim=1) == labels).float().mean())
