"""A faster copy of a network for inference: batch-norms folded into the convolutions
before them, channels last.

Read `fold` first, then `unroll`, which replaces convolutions of very small feature
maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional


def fold(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode whose batch-norms are part of the
    convolutions before them.

    Its outputs are those of `model` up to rounding. The model must be traceable by
    torch.fx (no control flow that depends on values), and is left as it was.
    """
    from torch.fx.experimental.optimization import fuse

    # Each module's own mode: a new container around modules of another network is in
    # training mode, they may not be.
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            folded: nn.Module = fuse(model.eval())
    finally:
        for module, training in modes:
            module.training = training
    return folded.to(memory_format=torch.channels_last).eval()


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
        self.sizes = (*output_sides, layer.out_channels)
        self.weight = nn.Parameter(matrix.flatten(2).flatten(0, 1))
        self.bias = nn.Parameter(bias.repeat(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """`features` (N, C, H, W) to (N, channels, H', W')."""
        rows = functional.linear(
            features.permute(0, 2, 3, 1).flatten(1), self.weight, self.bias
        )
        return rows.unflatten(1, self.sizes).permute(0, 3, 1, 2)


def unroll(model: nn.Module, images: Tensor) -> nn.Module:
    """`model`, folded before, for images of the shape of `images` (N, C, H, W) alone:
    convolutions of feature maps with fewer pixels than their kernel become matrix
    products. Outputs are the same up to rounding.
    """
    from torch.fx.passes.shape_prop import ShapeProp

    traced = fx.symbolic_trace(model)
    with torch.no_grad():
        ShapeProp(traced).propagate(images[:1])
    for node in traced.graph.nodes:
        layer = (
            traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        )
        if (
            isinstance(layer, nn.Conv2d)
            and layer.groups == 1
            and layer.padding_mode == "zeros"
        ):
            sides = node.args[0].meta["tensor_meta"].shape[2:]
            if math.prod(sides) < math.prod(layer.kernel_size) and not isinstance(
                layer.padding, str
            ):
                traced.set_submodule(
                    str(node.target),
                    Unrolled(layer, sides, node.meta["tensor_meta"].shape[2:]),
                )
    return traced
