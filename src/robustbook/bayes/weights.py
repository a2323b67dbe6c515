"""Many networks of one architecture run at once: `WeightSamples`, its `forward`, and
the gradient back to the input.

Read `WeightSamples` first, then `forward` and `pull_back` (what attacks and bounds are
made of).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from robustbook.errors import UserError


class EmptyPosteriorError(UserError):
    """A posterior without a sample, or of which no sample was asked for."""


@dataclass(frozen=True, eq=False)
class WeightSamples:
    """S joint samples of the weights of `architecture` (Linear, Conv2d, ReLU, Flatten).

    `weights` maps each parameter's name to a tensor (S, ...), or (1, ...) where all
    samples share it. Raises EmptyPosteriorError if there is no sample, ValueError if
    names or shapes are not those of the architecture.
    """

    architecture: nn.Sequential
    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        expected = {
            name: parameter.shape
            for name, parameter in self.architecture.named_parameters()
        }
        found = {name: tensor.shape[1:] for name, tensor in self.weights.items()}
        if found != expected:
            raise ValueError(
                f"weights {dict(found)} do not fit the architecture {expected}"
            )
        sizes = {len(tensor) for tensor in self.weights.values()}
        if 0 in sizes:
            raise EmptyPosteriorError("a posterior needs at least one sample, got none")
        if len(sizes - {1}) > 1:
            raise ValueError(
                "all weights need the same number of samples or one, got "
                f"{sorted(sizes)}"
            )

    def __len__(self) -> int:
        return max(len(tensor) for tensor in self.weights.values())

    def take(self, chosen: Tensor | slice) -> WeightSamples:
        """The samples that an index tensor or a slice names; what all samples share is
        not copied.
        """
        if len(self) == 1 and isinstance(chosen, Tensor):
            chosen = torch.zeros_like(chosen)
        shared = {
            name: len(tensor) == 1 and len(self) > 1
            for name, tensor in self.weights.items()
        }
        picked = {
            name: tensor if shared[name] else tensor[chosen]
            for name, tensor in self.weights.items()
        }
        return WeightSamples(self.architecture, picked)

    def network(self, index: int) -> nn.Sequential:
        """The network of one sample, a module of its own."""
        model = copy.deepcopy(self.architecture)
        model.load_state_dict(
            {
                name: tensor[index if len(tensor) > 1 else 0]
                for name, tensor in self.weights.items()
            }
        )
        return model.eval()

    def logits(self, images: Tensor) -> Tensor:
        """Logits (S, N, K) of `images` (N, C, H, W), or of other images for each sample
        (S, N, C, H, W).
        """
        return forward(self, images).logits


def stack(networks: list[nn.Sequential]) -> WeightSamples:
    """Networks of one architecture as weight samples.

    Raises EmptyPosteriorError if there are none.
    """
    if not networks:
        raise EmptyPosteriorError("a posterior needs at least one sample, got none")
    states = [dict(network.named_parameters()) for network in networks]
    weights = {
        name: torch.stack([state[name].detach() for state in states])
        for name in states[0]
    }
    return WeightSamples(networks[0], weights)


@dataclass(frozen=True)
class Trace:
    """Logits (S, N, K), and what `pull_back` needs: the shape of every layer's input,
    and where each ReLU is open.
    """

    logits: Tensor
    shapes: list[torch.Size] = field(default_factory=list)
    open: dict[int, Tensor] = field(default_factory=dict)


def forward(samples: WeightSamples, points: Tensor) -> Trace:
    """Run all samples on `points`: (N, C, H, W) for all of them, or (S, N, C, H, W)
    with images of their own.
    """
    values = points[None] if points.dim() == 4 else points
    trace = Trace(values)
    for index, layer in enumerate(samples.architecture):
        trace.shapes.append(values.shape)
        if isinstance(layer, nn.ReLU):
            trace.open[index] = values > 0
            values = values.relu()
        else:
            values = apply_layer(samples, index, layer, values)
    return Trace(values.expand(len(samples), -1, -1), trace.shapes, trace.open)


def apply_layer(
    samples: WeightSamples, index: int, layer: nn.Module, values: Tensor
) -> Tensor:
    """Output (S, N, ...) of layer `index`, which is Flatten, Linear or Conv2d, on
    `values` (S or 1, N, ...).

    Raises TypeError if it is another layer.
    """
    if isinstance(layer, nn.Flatten):
        return values.flatten(2)
    weight, bias = layer_weights(samples, index)
    if isinstance(layer, nn.Linear):
        return multiply(values, weight) + (0 if bias is None else bias[:, None])
    if isinstance(layer, nn.Conv2d):
        return convolve(layer, values, weight, bias)
    raise TypeError(
        "only Linear, Conv2d, ReLU and Flatten are known here, got "
        f"{type(layer).__name__}"
    )


def layer_weights(samples: WeightSamples, index: int) -> tuple[Tensor, Tensor | None]:
    """Weight (S or 1, ...) and bias (S or 1, ...) of layer `index`."""
    return samples.weights[f"{index}.weight"], samples.weights.get(f"{index}.bias")


def multiply(values: Tensor, weight: Tensor) -> Tensor:
    """`values` (S or 1, N, i) times the transposed `weight` (S or 1, o, i): (S, N, o),
    in as few products as can be.
    """
    if len(weight) == 1:
        return values @ weight[0].T
    if len(values) == 1:
        return (
            (values[0] @ weight.flatten(0, 1).T)
            .unflatten(1, weight.shape[:2])
            .transpose(0, 1)
        )
    return torch.bmm(values, weight.transpose(1, 2))


def convolve(
    layer: nn.Conv2d, values: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Convolve `values` (S or 1, N, ...) sample by sample: on a CPU that is faster than
    one grouped convolution.
    """
    outputs = [
        F.conv2d(
            values[_own(values, index)],
            weight[_own(weight, index)],
            None if bias is None else bias[_own(bias, index)],
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )
        for index in range(max(len(values), len(weight)))
    ]
    return torch.stack(outputs)


def _own(tensor: Tensor, index: int) -> int:
    return index if len(tensor) > 1 else 0


def pull_back(samples: WeightSamples, trace: Trace, gradient: Tensor) -> Tensor:
    """Gradient with respect to the points (S, N, C, H, W), from that with respect to
    the logits (S, N, K).
    """
    for index in range(len(samples.architecture) - 1, -1, -1):
        layer = samples.architecture[index]
        if isinstance(layer, nn.ReLU):
            gradient = gradient * trace.open[index]
        else:
            gradient = transpose_layer(
                samples, index, layer, gradient, trace.shapes[index]
            )
    return gradient


def transpose_layer(
    samples: WeightSamples,
    index: int,
    layer: nn.Module,
    gradient: Tensor,
    shape: torch.Size,
) -> Tensor:
    """The linear part of layer `index` transposed and applied to `gradient` (S, N,
    ...); `shape` is its input's.
    """
    if isinstance(layer, nn.Flatten):
        return gradient.unflatten(2, shape[2:])
    weight, _ = layer_weights(samples, index)
    if isinstance(layer, nn.Linear):
        return gradient @ weight[0] if len(weight) == 1 else torch.bmm(gradient, weight)
    if isinstance(layer, nn.Conv2d):
        return unconvolve(layer, gradient, shape[2:], weight)
    raise TypeError(
        "only Linear, Conv2d, ReLU and Flatten are known here, got "
        f"{type(layer).__name__}"
    )


def unconvolve(
    layer: nn.Conv2d, gradient: Tensor, shape: torch.Size, weight: Tensor
) -> Tensor:
    """The convolution transposed, of `gradient` (S or 1, M, ...); `shape` is that of
    one input.
    """
    outputs = [
        conv2d_input(
            (gradient.shape[1], *shape),
            weight[_own(weight, index)],
            gradient[_own(gradient, index)].contiguous(),
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )
        for index in range(max(len(gradient), len(weight)))
    ]
    return torch.stack(outputs)
