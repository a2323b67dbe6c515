"""Many networks of one architecture run at once: `WeightSamples`, one of the networks
that ascents and bounds take (`models.network.Network`).

Read `WeightSamples`, `single` and `stack` first, then `Layer` (a layer of all samples
at once, and the way back through it), then `Part` (some layers, one sample after the
other).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module
from torch.nn.grad import conv2d_input

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.input_convolution import plain
from robustbook.models.network import Evaluation, Objective, chain, frozen


@dataclass(frozen=True, eq=False)
class WeightSamples:
    """S joint samples of the weights of `architecture`, which always runs in eval mode.

    `weights` maps each parameter's name to a tensor (S, ...), or (1, ...) where all
    samples share it; buffers (batch-norm's averages) may be among them. Chains of
    Linear, Conv2d (padded with zeros), ReLU and Flatten run all samples at once, other
    networks one sample after the other.

    Raises ArgumentError if names or shapes are not those of the architecture, or their
    numbers of samples differ or are 0.
    """

    architecture: Module
    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        checks.network(self.architecture, "architecture")
        found = {name: tensor.shape[1:] for name, tensor in self.weights.items()}
        expected = {
            name: tensor.shape
            for name, tensor in _tensors(self.architecture)
            if name in found or isinstance(tensor, nn.Parameter)
        }
        if found != expected:
            wrong = set(found.items()) ^ set(expected.items())
            names = ", ".join(sorted({name for name, _ in wrong}))
            raise ArgumentError(
                "weights", "those of the architecture", f"other {names}"
            )
        sizes = {len(tensor) for tensor in self.weights.values()}
        if 0 in sizes or len(sizes - {1}) > 1:
            allowed = "of one number of samples, at least 1 (or shared)"
            raise ArgumentError("weights", allowed, sorted(sizes))

    def __len__(self) -> int:
        return max((len(tensor) for tensor in self.weights.values()), default=1)

    @property
    def layers(self) -> list[Module]:
        """The layers in order, see `models.network.chain`."""
        return chain(self.architecture)

    def lookup(self) -> Callable[[Tensor], Tensor]:
        """What gives the values (S or 1, ...) in all samples of a parameter or buffer
        of the architecture.
        """
        names = {id(tensor): name for name, tensor in _tensors(self.architecture)}

        def values(given: Tensor) -> Tensor:
            found = self.weights.get(names.get(id(given), ""))
            return given.detach()[None] if found is None else found

        return values

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

    def network(self, index: int) -> Module:
        """The network of one sample, a module of its own."""
        index = checks.whole(index, "index", at_least=-len(self), at_most=len(self) - 1)
        model = copy.deepcopy(self.architecture)
        model.load_state_dict(
            {
                name: tensor[_own(tensor, index)]
                for name, tensor in self.weights.items()
            },
            strict=False,
        )
        return model.eval()

    def logits(self, images: Tensor) -> Tensor:
        """Logits (S, N, K) of `images` (N, C, H, W), or of other images for each sample
        (S, N, C, H, W); K may be 1. They may leave [0, 1].

        Raises ArgumentError if images or logits are not finite or of another shape.
        """
        checks.tensor(images, "images")
        return self.checked(self.unchecked_logits(images), images.shape[-4])

    def unchecked_logits(self, images: Tensor) -> Tensor:
        """As `logits`, but with NaN and infinity let through: chains of HMC may meet
        them.
        """
        points, layers = self.points(images), self._together()
        if layers is None:
            return self._one_by_one(points)
        return forward(layers, points)[-1].expand(len(self), -1, -1)

    def evaluate(
        self, points: Tensor, targets: Any, objective: Objective
    ) -> Evaluation:
        """The objective at `points` (1 or S, n, C, H, W), and its gradient there (S, n,
        C, H, W): a forward and a backward pass of each sample.

        An objective may have a method `slope`, its gradient with respect to the logits:
        for small networks autograd costs as much as they do.
        """
        points, layers = self.points(points), self._together()
        if layers is None:
            with torch.enable_grad():
                leaf = points.detach().expand(len(self), *points.shape[1:]).clone()
                logits = self._one_by_one(leaf.requires_grad_())
                values, slope = self._slope(logits, targets, objective)
                (gradient,) = torch.autograd.grad(logits, leaf, slope)
            return Evaluation(gradient, logits.detach(), values)
        with torch.no_grad():
            steps = forward(layers, points)
            logits = steps[-1].expand(len(self), -1, -1)
            values, slope = self._slope(logits, targets, objective)
            return Evaluation(pull_back(layers, steps, slope), logits, values)

    def _slope(
        self, logits: Tensor, targets: Any, objective: Objective
    ) -> tuple[Tensor, Tensor]:
        """Values (S, n) of the objective, and its gradient with respect to logits."""
        self.checked(logits, logits.shape[1])
        leaf = logits.detach()
        if (closed := getattr(objective, "slope", None)) is not None:
            return objective(leaf, targets), closed(leaf, targets)
        with torch.enable_grad():
            values = objective(leaf.requires_grad_(), targets)
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), slope

    @cached_property
    def _known(self) -> list[Layer]:
        values = self.lookup()
        return [Layer.of(layer, values) for layer in self.layers]

    def _together(self) -> list[Layer] | None:
        """The layers, if all samples can run at once. Hooks may come at any time."""
        known, modules = self._known, self.layers
        same = [layer.module for layer in known] == modules
        return known if same and all(map(is_fast, modules)) else None

    def points(self, images: Tensor) -> Tensor:
        """Images (1 or S, N, C, H, W) in the precision of the weights."""
        points = images[None] if images.dim() == 4 else images
        if points.dim() != 5 or len(points) not in (1, len(self)):
            allowed = f"a tensor (N, C, H, W) or ({len(self)}, N, C, H, W)"
            raise ArgumentError("images", allowed, images)
        for tensor in self.weights.values():
            if tensor.device != images.device:
                allowed = f"on the samples' device {tensor.device}"
                raise ArgumentError("images", allowed, images.device)
            if tensor.is_floating_point():
                return points.to(tensor.dtype)
        return points

    def _one_by_one(self, points: Tensor) -> Tensor:
        part = Part.of(self.architecture, [self.architecture])
        with frozen(self.architecture):
            found = [
                part.run(self, row, points[_own(points, row)])
                for row in range(len(self))
            ]
        for each in found:
            if not isinstance(each, Tensor):
                name = "the output of the architecture"
                raise ArgumentError(name, "a tensor", type(each).__name__)
        return torch.stack(found)

    def checked(self, logits: Tensor, count: int) -> Tensor:
        """Logits (S, N, K) of `count` images; ArgumentError if they are not finite or
        of another shape.
        """
        name = "the output of the architecture"
        if logits.dim() != 3 or logits.shape[1] != count:
            raise ArgumentError(name, f"logits ({count}, K)", logits[0])
        checks.tensor(logits, name)
        return logits


def single(network: Module) -> WeightSamples:
    """A network as its only sample; nothing is copied."""
    parameters = checks.network(network, "network").named_parameters()
    return WeightSamples(
        network, {name: each.detach()[None] for name, each in parameters}
    )


def stack(networks: Sequence[Module]) -> WeightSamples:
    """Networks of one architecture as weight samples; buffers are sampled too where
    they differ.

    Raises ArgumentError if there are none or their layers differ.
    """
    networks = list(networks)
    if not networks:
        raise ArgumentError("networks", "at least one network", "none")
    for network in networks:
        checks.network(network, "networks")
        if repr(network) != repr(networks[0]) or _shapes(network) != _shapes(
            networks[0]
        ):
            raise ArgumentError("networks", "of one architecture", repr(network))
    states = [dict(_tensors(network)) for network in networks]
    weights = {
        name: torch.stack([state[name].detach() for state in states])
        for name, first in states[0].items()
        if isinstance(first, nn.Parameter)
        or any(not torch.equal(state[name], first) for state in states)
    }
    return WeightSamples(networks[0], weights)


def _tensors(network: Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, what is shared only once."""
    yield from network.named_parameters()
    yield from network.named_buffers()


def _shapes(network: Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _tensors(network)}


def _own(tensor: Tensor, index: int) -> int:
    return index if len(tensor) > 1 else 0


# All samples at once
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layer:
    """A Linear, Conv2d, ReLU or Flatten layer of all samples; `weight` and `bias` are
    (S or 1, ...), None where there is none.
    """

    module: Module
    weight: Tensor | None = None
    bias: Tensor | None = None

    @classmethod
    def of(cls, module: Module, values: Callable[[Tensor], Tensor]) -> Layer:
        """A layer by what `WeightSamples.lookup` gives."""
        parts = (getattr(module, name, None) for name in ("weight", "bias"))
        return cls(
            module,
            *(values(part) if isinstance(part, Tensor) else None for part in parts),
        )

    def __call__(self, values: Tensor) -> Tensor:
        """Output (S or 1, N, ...) for `values` (S or 1, N, ...)."""
        if self.weight is None:
            return values.relu() if self._rectifies() else values.flatten(2)
        if isinstance(self.module, nn.Conv2d):
            return convolve(self.module, values, self.weight, self.bias)
        shape = values.shape[1:-1]
        found = multiply(values.flatten(1, -2), self.weight)
        found = found if self.bias is None else found + self.bias[:, None]
        return found.unflatten(1, shape)

    def back(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Gradient with respect to `values`, which went in, from that with respect to
        what came out.
        """
        if self.weight is None:
            if self._rectifies():
                return gradient * (values > 0)
            return gradient.unflatten(2, values.shape[2:])
        if isinstance(self.module, nn.Conv2d):
            return unconvolve(self.module, gradient, values.shape[2:], self.weight)
        flat = gradient.flatten(1, -2)
        shared = len(self.weight) == 1
        found = flat @ self.weight[0] if shared else torch.bmm(flat, self.weight)
        return found.unflatten(1, values.shape[1:-1])

    def _rectifies(self) -> bool:
        return isinstance(self.module, nn.ReLU)


def fast_layers(samples: WeightSamples, layers: Iterable[Module]) -> list[Layer] | None:
    """Some layers of the samples as `Layer`s, or None if one is not exactly of a type
    that they know.
    """
    values, layers = samples.lookup(), list(layers)
    if not all(map(is_fast, layers)):
        return None
    return [Layer.of(layer, values) for layer in layers]


def is_fast(layer: Module) -> bool:
    """Whether a `Layer` computes what this layer does."""
    if isinstance(layer, nn.Flatten):
        return plain(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.Conv2d):
        zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return plain(layer, nn.Conv2d) and zeros
    return plain(layer, nn.Linear, nn.ReLU)


def forward(layers: Iterable[Layer], points: Tensor) -> list[Tensor]:
    """What goes into every layer and what the last one gives, from `points` (1 or S, N,
    C, H, W).
    """
    steps = [points]
    for layer in layers:
        steps.append(layer(steps[-1]))
    return steps


def pull_back(
    layers: Sequence[Layer], steps: Sequence[Tensor], gradient: Tensor
) -> Tensor:
    """Gradient with respect to the points (S, N, C, H, W), from that with respect to
    the logits (S, N, K) and what `forward` gave.
    """
    for layer, values in zip(reversed(layers), reversed(steps[:-1]), strict=True):
        gradient = layer.back(gradient, values)
    return gradient


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


# One sample after the other
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Part:
    """Some layers of an architecture as a `module`; `names` says what its parameters
    and buffers are called in the architecture.
    """

    module: Module
    names: Mapping[str, str]

    @classmethod
    def of(cls, architecture: Module, layers: Sequence[Module]) -> Part:
        """The part of `architecture` that these of its layers make up, in order."""
        module = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
        known = {id(tensor): name for name, tensor in _tensors(architecture)}
        return cls(
            module, {name: known[id(tensor)] for name, tensor in _tensors(module)}
        )

    def run(self, samples: WeightSamples, row: int, values: Tensor) -> Tensor:
        """Output (N, ...) of one sample for `values` (N, ...), by any layers: only
        their weights are exchanged, for the length of the call.
        """
        state = {
            name: tensor[_own(tensor, row)]
            for name, known in self.names.items()
            if (tensor := samples.weights.get(known)) is not None
        }
        found: Tensor = torch.func.functional_call(self.module, state, (values,))
        return found
