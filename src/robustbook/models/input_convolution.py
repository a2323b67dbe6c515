"""A convolution whose gradient with respect to its input is fast on a CPU when the
input has few channels.

The general backward pass is slow there: for one or three input channels it takes
several times longer than the forward pass. A matrix product and a fold (each output
pixel adds its patch back) give the same numbers 3 to 6 times faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import NoneType
from typing import Any, TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import Module

FEW = 4
"""Input channels up to which the fold is the faster way back."""


class _InputConvolution(torch.autograd.Function):
    """Convolution that passes a gradient to its input alone."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, layer: nn.Conv2d) -> Tensor:
        # The weight of now: `functional_call` takes it back before the way back.
        ctx.layer, ctx.weight, ctx.size = layer, layer.weight, images.shape[-2:]
        return F.conv2d(
            images,
            layer.weight,
            layer.bias,
            layer.stride,
            layer.padding,
            layer.dilation,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layer: nn.Conv2d = ctx.layer
        patches = ctx.weight.flatten(1).T @ gradient.flatten(2)
        padding = cast(tuple[int, ...], layer.padding)
        return F.fold(
            patches, ctx.size, layer.kernel_size, layer.dilation, padding, layer.stride
        ), None


def _weights(layer: nn.Conv2d) -> tuple[Tensor | None, Tensor | None]:
    return layer.weight, layer.bias


def _forward(layer: nn.Conv2d, images: Tensor) -> Tensor:
    wanted = any(part is not None and part.requires_grad for part in _weights(layer))
    same = images.dtype == layer.weight.dtype and images.device.type == "cpu"
    if wanted or not same or images.dim() != 4 or torch.is_autocast_enabled("cpu"):
        return nn.Conv2d.forward(layer, images)
    return cast(Tensor, _InputConvolution.apply(images, layer))


def plain(layer: Module, *types: type[Module]) -> bool:
    """Whether a layer is of one of the types and computes what that type computes: it
    is of no subclass, and nothing hooks into it or replaces its `forward`.

    Parametrised layers (weight norm and the like) are subclasses or have hooks.
    """
    hooks = (
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    )
    return type(layer) in types and not any(hooks) and "forward" not in layer.__dict__


def _suits(layer: Module) -> TypeGuard[nn.Conv2d]:
    return (
        plain(layer, nn.Conv2d)
        and isinstance(layer, nn.Conv2d)
        and layer.in_channels <= FEW
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(type(part) in (nn.Parameter, NoneType) for part in _weights(layer))
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype in (torch.float32, torch.float64)
    )


@contextmanager
def fast_input_gradient(model: Module) -> Iterator[None]:
    """Inside the block, convolutions of few channels pass a gradient to their input
    alone, and do so faster.

    Taken where it gives the numbers of the plain layer: `nn.Conv2d` itself on a CPU,
    padded with zeros, ungrouped, float32 or float64, without hooks, parametrisations
    or a `forward` of its own, whose weights ask for no gradient. All others run as
    they are.
    """
    layers = [layer for layer in model.modules() if _suits(layer)]
    try:
        for layer in layers:
            layer.__dict__["forward"] = partial(_forward, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
