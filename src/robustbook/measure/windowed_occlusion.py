"""Occlusion that recomputes in every layer only what the window can reach: the same map
with less work.

Read `Changed` first (a feature map with one changed patch a window), then `slide` and
`combine` (how layers act on it), then `WindowInterpreter` (which layers do), then
`windowed_occlusion`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.saliency import (
    asked,
    average_drops,
    evaluating,
    probability_drops,
    windows,
)
from robustbook.models.folded import plain, traced
from robustbook.models.network import CHUNK
from robustbook.progress import Progress

LARGEST_SHARE = 0.75
"""Patches larger than this share of a feature map are not worth their copies: from
there on whole maps are computed.
"""
POINTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout,
    nn.BatchNorm2d,
)
FUNCTIONS = {
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.iadd,
    torch.add,
    torch.relu,
    F.relu,
}


@dataclass(frozen=True, eq=False)
class Changed:
    """`clean` features (1, C, H, W) and, for every window, the `patches` (n, C, P, Q)
    in which they change.

    `tops` (n, 2) are the first rows and columns of the patches, which lie wholly inside
    the map.
    """

    clean: Tensor
    patches: Tensor
    tops: Tensor

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the map."""
        return self.clean.shape[2], self.clean.shape[3]

    def crop(self, tops: Tensor, sides: Sequence[int], fill: float = 0.0) -> Tensor:
        """Pixels (n, C, *sides) of the changed maps, from `tops` (n, 2) on; `fill`
        where that lies outside.
        """
        rows = [
            values.movedim(1, -1).flatten(0, 2) for values in (self.clean, self.patches)
        ]
        rows.insert(1, rows[0].new_full((1, rows[0].shape[1]), fill))
        found = torch.cat(rows).index_select(0, self._sources(tops, sides).flatten())
        return found.reshape(len(tops), *sides, -1).movedim(-1, 1)

    def _sources(self, tops: Tensor, sides: Sequence[int]) -> Tensor:
        """Where each pixel (n, *sides) of `crop` is among the pixels of the clean map,
        one outside, the patches.
        """
        height, width = self.sides
        depth, breadth = self.patches.shape[2:]
        down, across = (
            tops[:, axis, None] + torch.arange(sides[axis], device=tops.device)
            for axis in (0, 1)
        )
        below, beside = down - self.tops[:, :1], across - self.tops[:, 1:]
        inside = _pairs((down >= 0) & (down < height), (across >= 0) & (across < width))
        changed = _pairs(
            (below >= 0) & (below < depth), (beside >= 0) & (beside < breadth)
        )
        first = (
            height * width
            + 1
            + depth
            * breadth
            * torch.arange(len(tops), device=tops.device)[:, None, None]
        )
        clean = torch.where(
            inside, down[:, :, None] * width + across[:, None, :], height * width
        )
        return torch.where(
            changed, first + below[:, :, None] * breadth + beside[:, None, :], clean
        )

    def whole(self) -> Tensor:
        """The changed maps (n, C, H, W)."""
        return self.crop(torch.zeros_like(self.tops), self.sides)


def _pairs(rows: Tensor, columns: Tensor) -> Tensor:
    return rows[:, :, None] & columns[:, None, :]


def slide(features: Changed, layer: nn.Conv2d | nn.MaxPool2d) -> Changed | None:
    """What the layer makes of `features`, computed for the pixels that a patch can
    reach; None if these are many.
    """
    clean = layer(features.clean)
    kernel, stride, padding, dilation = (
        _pair(getattr(layer, name))
        for name in ("kernel_size", "stride", "padding", "dilation")
    )
    reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    tops, sides = [], []
    for axis in (0, 1):
        first = features.tops[:, axis] + padding[axis]
        last = first + features.patches.shape[2 + axis] - 1
        top, side = _span(
            -((reach[axis] - first) // stride[axis]),
            last // stride[axis],
            clean.shape[2 + axis],
        )
        tops.append(top)
        sides.append(side)
    if sides[0] * sides[1] > LARGEST_SHARE * clean.shape[2] * clean.shape[3]:
        return None
    starts = [tops[axis] * stride[axis] - padding[axis] for axis in (0, 1)]
    read = [(sides[axis] - 1) * stride[axis] + reach[axis] + 1 for axis in (0, 1)]
    fill = 0.0 if isinstance(layer, nn.Conv2d) else -torch.inf
    region = features.crop(torch.stack(starts, dim=1), read, fill)
    if isinstance(layer, nn.Conv2d):
        patches = F.conv2d(
            region, layer.weight, layer.bias, stride, 0, dilation, layer.groups
        )
    else:
        patches = F.max_pool2d(region, kernel, stride, 0, dilation)
    return Changed(clean, patches, torch.stack(tops, dim=1))


def _span(firsts: Tensor, lasts: Tensor, side: int) -> tuple[Tensor, int]:
    """Starts (n,) and the common length of intervals inside 0 ... side - 1 that cover
    `firsts` ... `lasts` (n,).
    """
    firsts, lasts = firsts.clamp(0, side - 1), lasts.clamp(0, side - 1)
    length = max(1, int((lasts - firsts).max()) + 1)
    return firsts.clamp(max=side - length), length


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)


def combine(function: Any, values: Sequence[Any]) -> Changed | None:
    """What a function that acts on every pixel alone makes of `values`; None unless all
    of them allow that.
    """
    changed = [value for value in values if isinstance(value, Changed)]
    fixed = all(_is_fixed(value) for value in values if isinstance(value, Tensor))
    if not fixed or len({value.sides for value in changed}) != 1:
        return None
    tops, sides = [], []
    for axis, side in enumerate(changed[0].sides):
        firsts = torch.stack([value.tops[:, axis] for value in changed])
        lasts = torch.stack(
            [
                value.tops[:, axis] + value.patches.shape[2 + axis] - 1
                for value in changed
            ]
        )
        top, length = _span(firsts.amin(0), lasts.amax(0), side)
        tops.append(top)
        sides.append(length)
    where = torch.stack(tops, dim=1)

    def applied(part: Any) -> Tensor:
        return function(
            *(part(value) if isinstance(value, Changed) else value for value in values)
        )

    return Changed(
        applied(lambda value: value.clean),
        applied(lambda value: _aligned(value, where, sides)),
        where,
    )


def _is_fixed(value: Tensor) -> bool:
    """Whether a tensor is the same for all pixels and all windows."""
    return value.ndim == 0 or (
        value.shape[-2:] == (1, 1) and value.ndim <= 4 and value.shape[:-3].numel() == 1
    )


def _aligned(features: Changed, tops: Tensor, sides: Sequence[int]) -> Tensor:
    if list(features.patches.shape[2:]) == list(sides) and torch.equal(
        features.tops, tops
    ):
        return features.patches
    return features.crop(tops, sides)


class WindowInterpreter(Interpreter):
    """Runs a traced network on `Changed` images as far as its layers allow it, and from
    there on whole feature maps.
    """

    def run_node(self, n: Node) -> Any:
        """What the node makes of its inputs: `Changed` where it can."""
        inputs = [
            node for node in n.all_input_nodes if isinstance(self.env[node], Changed)
        ]
        if inputs:
            found = self._changed(n)
            if found is not None:
                return found
            for node in inputs:
                self.env[node] = self.env[node].whole()
        return super().run_node(n)

    def _changed(self, node: Node) -> Changed | None:
        values = [
            self.env[value] if isinstance(value, Node) else value for value in node.args
        ]
        if (
            node.op == "call_function"
            and node.target in FUNCTIONS
            and not set(node.kwargs) - {"inplace"}
            # What is added to in place must not be read again.
            and (
                node.target is not operator.iadd
                or len(node.all_input_nodes[0].users) == 1
            )
        ):
            return combine(node.target, values)
        if (
            node.op != "call_module"
            or len(values) != 1
            or not isinstance(values[0], Changed)
        ):
            return None
        layer = self.fetch_attr(str(node.target))
        if plain(layer, *POINTWISE):
            running = not isinstance(layer, nn.BatchNorm2d) or (
                layer.running_mean is not None and not layer.training
            )
            return combine(layer, values) if running else None
        if plain(layer, nn.Conv2d):
            zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            return slide(values[0], layer) if zeros else None
        if plain(layer, nn.MaxPool2d):
            usual = not layer.ceil_mode and not layer.return_indices
            return slide(values[0], layer) if usual else None
        return None


def windowed_occlusion(
    model: Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    window: int,
    stride: int = 1,
    chunk: int = CHUNK,
    dtype: torch.dtype | None = None,
    progress: Progress | bool = False,
) -> Tensor:
    """`saliency.occlusion` (N, H, W) with convolutions, max-poolings and what acts on
    single pixels run only where a window reaches, from the first layer until most of
    the map is reached. Layers of any other kind run on whole maps.

    Fold batch-norms first (`models.folded.fold`): that leaves fewer layers. Memory
    grows with `chunk`, in windows.

    Raises ArgumentError as `saliency.occlusion` does, and if torch.fx cannot trace the
    model or what it traced answers otherwise.
    """
    seen = asked(model, images, targets, baselines, dtype)
    device = seen.images.device
    covers = windows(tuple(images.shape[2:]), window, stride, device)

    def covered(
        network: Module, image: Tensor, baseline: Tensor, part: Tensor
    ) -> Tensor:
        assert isinstance(network, GraphModule)
        changed = cover(image, baseline, part, window)
        logits: Tensor = WindowInterpreter(network).run(changed)
        return logits

    # Traced in evaluation mode, where dropout and the like leave no trace.
    with evaluating(model, seen.dtype) as plain_model:
        network = traced(plain_model)
        first = seen.images[:1]
        checks.logits(plain_model(first), 1)
        if not torch.allclose(network(first), plain_model(first), 1e-3, 1e-3):
            raise ArgumentError("model", "traceable by torch.fx", "other answers")
        drops = probability_drops(network, seen, covers, covered, chunk, progress)
    return average_drops(drops, covers)


def cover(image: Tensor, baseline: Tensor, covers: Tensor, window: int) -> Changed:
    """`image` (C, H, W) with a patch for each of `covers` (n, H, W); a window over the
    border is shifted inside.
    """
    firsts = [
        covers.any(2 - axis).int().argmax(1).clamp(max=covers.shape[1 + axis] - window)
        for axis in (0, 1)
    ]
    down, across = (
        first[:, None] + torch.arange(window, device=covers.device) for first in firsts
    )
    places = (
        torch.arange(len(covers), device=covers.device)[:, None, None],
        slice(None),
        down[:, :, None],
        across[:, None, :],
    )
    patches = torch.where(covers[:, None], baseline, image)[places].movedim(-1, 1)
    return Changed(image[None].clone(), patches, torch.stack(firsts, dim=1))
