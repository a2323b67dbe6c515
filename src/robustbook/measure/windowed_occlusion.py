"""Occlusion that runs the first convolution only where the window can reach: the same map with less work.

Read `first_difference` first (what a window changes), then `windowed_occlusion`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Conv2d, Module

from robustbook.measure.saliency import evaluating, probabilities, windows
from robustbook.perturb.baselines import check
from robustbook.perturb.network import CHUNK


def first_difference(convolution: Conv2d, changes: Tensor, tops: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """How a square window of `changes` (C, H, W) changes a convolution's output, only where it can.

    `tops` (positions, 2) are the windows' first rows and columns. Returns patches (positions, channels, P, P) to add to
    the output without a window, and their first rows and columns there (positions, 2), which may lie outside it. A
    convolution is linear, so the change of the output is the convolution of the change.
    """
    kernel, stride, padding = _square(convolution)
    reach = (window + kernel - 2) // stride + 1
    starts = torch.div(tops + padding - kernel + stride, stride, rounding_mode="floor")
    length = (reach - 1) * stride + kernel
    offset = tops - (starts * stride - padding)
    crops = changes.new_zeros(len(tops), len(changes), length, length)
    for crop, (top, left), (row, column) in zip(crops, tops.tolist(), offset.tolist(), strict=True):
        part = changes[:, top : top + window, left : left + window]
        height, width = min(part.shape[1], length - row), min(part.shape[2], length - column)
        crop[:, row : row + height, column : column + width] = part[:, :height, :width]
    return F.conv2d(crops, convolution.weight, stride=stride), starts


def _square(convolution: Conv2d) -> tuple[int, int, int]:
    """Side of the kernel, stride and padding, where both axes agree."""
    found = []
    for name in ("kernel_size", "stride", "padding", "dilation"):
        value = getattr(convolution, name)
        pair = value if isinstance(value, tuple) else (value, value)
        if len(set(pair)) != 1 or not isinstance(pair[0], int):
            raise ValueError(f"the first convolution must be square, got {name} = {value}")
        found.append(pair[0])
    if found[3] != 1 or convolution.groups != 1 or convolution.padding_mode != "zeros":
        raise ValueError("the first convolution must have neither dilation nor groups, and pad with zeros")
    return found[0], found[1], found[2]


def windowed_occlusion(
    before: Module,
    convolution: Conv2d,
    rest: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    window: int,
    stride: int = 1,
    chunk: int = CHUNK,
) -> Tensor:
    """`saliency.occlusion` (N, H, W) of the network `rest(convolution(before(images)))`, with the convolution run once
    an image and then only around each window.

    `before` acts on every pixel alone (a normalisation, or Identity).

    Raises ValueError if the convolution has dilation, groups, another padding than zeros, or unequal axes.
    """
    check(images, baselines)
    baselines = baselines.expand_as(images)
    shape = images.shape[2:]
    covers = windows(tuple(shape), window, stride)
    tops = torch.stack([covers.any(2).int().argmax(1), covers.any(1).int().argmax(1)], dim=1)
    drops = torch.empty(len(images), len(covers))
    with evaluating(before) as first, evaluating(rest) as network, torch.no_grad():
        plain, replaced = first(images), first(baselines)
        outputs = convolution(plain)
        # A copy, since a network may start with an activation that works in place.
        whole = probabilities(network, outputs.clone(), targets)
        for row, target in enumerate(targets):
            changes = replaced[row] - plain[row]
            for start in range(0, len(covers), chunk):
                places = tops[start : start + chunk]
                covered = _changed(outputs[row], *first_difference(convolution, changes, places, window))
                drops[row, start : start + chunk] = whole[row] - probabilities(
                    network, covered, target.expand(len(places))
                )
    cover = covers.flatten(1).float()
    return (drops @ cover / cover.sum(0)).reshape(len(images), *shape)


def _changed(output: Tensor, patches: Tensor, starts: Tensor) -> Tensor:
    """Copies (positions, channels, H, W) of `output` (channels, H, W), each with its patch added where it lies."""
    copies = output.expand(len(patches), -1, -1, -1).clone(memory_format=torch.channels_last)
    side = patches.shape[-1]
    for copy, patch, (row, column) in zip(copies, patches, starts.tolist(), strict=True):
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + side, output.shape[1]), min(column + side, output.shape[2])
        copy[:, top:bottom, left:right] += patch[:, top - row : bottom - row, left - column : right - column]
    return copies
