"""A faster copy of a network for inference: batch-norms folded into the convolutions
before them, channels last.

Read `fold` first, then `unroll`, which replaces convolutions of very small feature
maps; `traced` and `plain` say what can be replaced at all.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.input_convolution import _forward as input_convolution
from robustbook.models.network import beside


def plain(layer: nn.Module, *types: type[nn.Module]) -> bool:
    """Whether a layer computes what its type, one of `types`, does: it is of no
    subclass, and nothing hooks into it or replaces its `forward`.

    Parametrised layers (weight norm and the like) are subclasses or have hooks.
    """
    own = layer.__dict__.get("forward")
    ours = own is None or getattr(own, "func", None) is input_convolution
    return type(layer) in types and ours and not hooked(layer)


def hooked(layer: nn.Module) -> bool:
    """Whether a hook of a layer may change what it puts out."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def traced(model: nn.Module) -> fx.GraphModule:
    """The graph of a network that torch.fx can trace, on the network's own layers.

    Raises ArgumentError if it cannot be traced (control flow depends on values), or a
    hook of its own would be lost.
    """
    if hooked(checks.network(model)):
        raise ArgumentError("model", "without hooks of its own", type(model).__name__)
    if isinstance(model, fx.GraphModule):
        return model
    try:
        return fx.symbolic_trace(model)
    except (fx.proxy.TraceError, RuntimeError, TypeError) as error:
        raise ArgumentError("model", "traceable by torch.fx", error) from error


def _single_calls(graph: fx.GraphModule) -> Iterator[tuple[fx.Node, nn.Module]]:
    """The layers that are called once, with their places in the graph."""
    nodes = [node for node in graph.graph.nodes if node.op == "call_module"]
    calls = Counter(id(graph.get_submodule(str(node.target))) for node in nodes)
    for node in nodes:
        layer = graph.get_submodule(str(node.target))
        if calls[id(layer)] == 1:
            yield node, layer


def fold(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode whose batch-norms are part of the
    convolutions before them, wherever nothing else reads these or hooks into them.

    Its outputs are those of `model` up to rounding; `model` is left as it was.

    >>> layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    >>> [type(layer).__name__ for layer in fold(layers).children()]
    ['Conv2d']

    Raises ArgumentError if torch.fx cannot trace the model.
    """
    graph = traced(copy.deepcopy(checks.network(model)).eval())
    single = dict(_single_calls(graph))
    for node, norm in single.items():
        before = node.args[0] if node.args else None
        layer = single.get(before) if isinstance(before, fx.Node) else None
        if (
            layer is not None
            and isinstance(before, fx.Node)
            and len(before.users) == 1
            and isinstance(norm, nn.BatchNorm2d)
            and plain(norm, nn.BatchNorm2d)
            and norm.running_mean is not None
            and plain(layer, nn.Conv2d)
        ):
            folded = fuse_conv_bn_eval(cast(nn.Conv2d, layer), norm)
            graph.set_submodule(str(before.target), folded)
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph.to(memory_format=torch.channels_last).eval()


class Unrolled(nn.Module):
    """A convolution of feature maps of one size (C, H, W) as one matrix product.

    Where a map has fewer pixels than the kernel, most of the kernel multiplies padding;
    the matrix leaves that out.
    """

    def __init__(
        self, layer: nn.Conv2d, sides: Sequence[int], output_sides: Sequence[int]
    ) -> None:
        super().__init__()
        pixels, outputs = math.prod(sides), math.prod(output_sides)
        # Which place of the kernel meets which pixel: (pixels in, places, pixels out),
        # zeros and ones.
        every = torch.eye(
            pixels, dtype=layer.weight.dtype, device=layer.weight.device
        ).reshape(pixels, 1, *sides)
        meets = functional.unfold(
            every,
            layer.kernel_size,
            layer.dilation,
            cast(Any, layer.padding),
            layer.stride,
        )
        with torch.no_grad():
            matrix = torch.einsum("pko,yxk->oypx", meets, layer.weight.flatten(2))
        bias = (
            layer.weight.new_zeros(layer.out_channels)
            if layer.bias is None
            else layer.bias.detach()
        )
        self.sides = tuple(sides)
        self.sizes = (*output_sides, layer.out_channels)
        self.weight = nn.Parameter(matrix.flatten(2).flatten(0, 1))
        self.bias = nn.Parameter(bias.repeat(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """`features` (N, C, H, W) to (N, channels, H', W').

        Raises ArgumentError for maps of another size.
        """
        if features.shape[2:] != self.sides:
            raise ArgumentError("features", f"maps of {self.sides} pixels", features)
        rows = functional.linear(
            features.permute(0, 2, 3, 1).flatten(1), self.weight, self.bias
        )
        return rows.unflatten(1, self.sizes).permute(0, 3, 1, 2)


def unroll(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy of `model` in evaluation mode for images of the shape of `images` (N, C,
    H, W) alone: convolutions of feature maps with fewer pixels than their kernel become
    matrix products. Outputs are the same up to rounding.

    Only plain ungrouped convolutions, padded with zeros and called once, are replaced.
    Raises ArgumentError if torch.fx cannot trace the model.
    """
    from torch.fx.passes.shape_prop import ShapeProp

    images = beside(checks.network(model), checks.images(images))
    graph = traced(copy.deepcopy(checks.network(model)).eval())
    with torch.no_grad():
        ShapeProp(graph).propagate(images[:1])
    for node, layer in list(_single_calls(graph)):
        if (
            isinstance(layer, nn.Conv2d)
            and plain(layer, nn.Conv2d)
            and layer.groups == 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        ):
            sides = cast(fx.Node, node.args[0]).meta["tensor_meta"].shape[2:]
            if math.prod(sides) < math.prod(layer.kernel_size):
                made = node.meta["tensor_meta"].shape[2:]
                graph.set_submodule(str(node.target), Unrolled(layer, sides, made))
    return graph
