"""Networks whose units can be switched off by gates and taken out: LeNet3, a VGG-like
net, PreAct-ResNet and ResNet-20.

Read `Gate` and `Group` first (what a unit is and which weights belong to it), then
`Prunable`, then the architectures. Every network is a sequence of children, so that it
can be run from any child onward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.data.store import DataFile, verified
from robustbook.models.architectures import Shape

RESNET20 = "resnet20"
RESNET20_TITLE = "ResNet-20 for CIFAR-10"
RESNET20_LICENCE = "BSD-2 (akamaster/pytorch_resnet_cifar10)"
RESNET20_FILE = "weights/resnet_cifar10/resnet20-12fca82f.th"
RESNET20_DIGEST = "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"


class Gate(nn.Module):
    """Multiplies unit m of its input by z_m: 1 leaves the unit alone, 0 removes it
    (Molchanov et al. 2019).

    `values` is None (all gates open, no cost), z (units,), or one row of gates an image
    (N, units).
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = checks.whole(units, "units", at_least=1)
        self.values: Tensor | None = None

    def forward(self, activations: Tensor) -> Tensor:
        """`activations` (N, units, ...) times the gates, same shape."""
        if self.values is None:
            return activations
        rows = self.values if self.values.ndim == 2 else self.values[None]
        return activations * rows.reshape(*rows.shape, *[1] * (activations.ndim - 2))


@dataclass(frozen=True)
class Group:
    """The units behind one gate, and the layers that hold their weights (names of
    submodules).

    Unit m is output m of every producer, channel m of every norm (batch-norms whose
    output the gate multiplies) and input m (or an equal run of inputs, after
    flattening) of every consumer; it can be removed from all of them at once.
    """

    name: str
    gate: str
    units: int
    producers: tuple[str, ...]
    norms: tuple[str, ...]
    consumers: tuple[str, ...]


class Prunable(nn.Sequential):
    """A sequence of children with gates; `groups` says which units can be removed, in
    the order of their numbers.
    """

    def __init__(self, children: dict[str, nn.Module], groups: Sequence[Group]) -> None:
        super().__init__(OrderedDict(children))
        self.groups: tuple[Group, ...] = tuple(groups)

    @property
    def units(self) -> int:
        """Number of units that can be removed."""
        return sum(group.units for group in self.groups)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def gate_of(self, group: Group) -> Gate:
        """The gate of a group."""
        gate = self.get_submodule(group.gate)
        assert isinstance(gate, Gate)
        return gate

    def gates(self) -> list[Gate]:
        """The gates in the order of `groups`."""
        return [self.gate_of(group) for group in self.groups]

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Values by unit (..., units) as one tensor a group."""
        parts = values.split([group.units for group in self.groups], dim=-1)
        return {
            group.name: part for group, part in zip(self.groups, parts, strict=True)
        }

    def group_of_unit(self) -> Tensor:
        """Index (units,) of the group to which each unit belongs."""
        sizes = torch.tensor([group.units for group in self.groups], device=self.device)
        return torch.arange(len(sizes), device=self.device).repeat_interleave(sizes)


class Standardise(nn.Module):
    """Subtracts a mean and divides by a deviation per channel, so that networks take
    images in [0, 1].
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        checks.values(mean, "mean")
        if (checks.values(deviation, "deviation") <= 0).any():
            raise ArgumentError("deviation", "above 0", deviation)
        checks.same_length(mean=mean, deviation=deviation)
        self.register_buffer(
            "mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False
        )
        self.register_buffer(
            "deviation", torch.tensor(deviation).reshape(1, -1, 1, 1), persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """`images` (N, C, H, W) in [0, 1], standardised."""
        return (images - self.mean) / self.deviation  # type: ignore[operator]


def _sizes(shape: Shape, classes: int, name: str = "shape") -> None:
    checks.sides(shape, name, 3)
    checks.whole(classes, "classes", at_least=1)


def lenet3(shape: Shape, classes: int) -> Prunable:
    """LeNet3 of the paper: gates behind 16 + 32 filters and 120 + 84 neurons, 252
    units.

    Filters are 5 x 5 without padding; images with sides below 20 get 3 x 3 filters with
    padding. Pooling stands before ReLU, which gives the same values as after it and
    rectifies a quarter of them.
    """
    _sizes(shape, classes)
    channels, side = shape[0], min(shape[1:])
    size, padding = (5, 0) if side >= 20 else (3, 1)

    def pooled(length: int) -> int:
        return (length + 2 * padding - size + 1) // 2

    features = 32 * pooled(pooled(shape[1])) * pooled(pooled(shape[2]))
    children: dict[str, nn.Module] = {
        "standardise": Standardise([0.5], [0.25]),
        "conv1": nn.Conv2d(channels, 16, size, padding=padding),
        "pool1": nn.MaxPool2d(2),
        "relu1": nn.ReLU(),
        "gate1": Gate(16),
        "conv2": nn.Conv2d(16, 32, size, padding=padding),
        "pool2": nn.MaxPool2d(2),
        "relu2": nn.ReLU(),
        "gate2": Gate(32),
        "flatten": nn.Flatten(),
        "linear1": nn.Linear(features, 120),
        "relu3": nn.ReLU(),
        "gate3": Gate(120),
        "linear2": nn.Linear(120, 84),
        "relu4": nn.ReLU(),
        "gate4": Gate(84),
        "classifier": nn.Linear(84, classes),
    }
    chain = ("conv1", "conv2", "linear1", "linear2", "classifier")
    groups = [
        Group(name, f"gate{place + 1}", units, (name,), (), (chain[place + 1],))
        for place, (name, units) in enumerate(
            zip(chain, (16, 32, 120, 84), strict=False)
        )
    ]
    return Prunable(children, groups)


def vgg(
    shape: Shape, classes: int, widths: Sequence[int] = (16, 16, 32, 32, 64, 64)
) -> Prunable:
    """A VGG-like net: 3 x 3 convolutions with batch-norm, halved by pooling after every
    second one, then one linear layer.
    """
    _sizes(shape, classes)
    widths = checks.sides(widths, "widths", len(widths))
    children: dict[str, nn.Module] = {"standardise": Standardise([0.5], [0.25])}
    groups, channels = [], shape[0]
    for place, width in enumerate(widths, start=1):
        children[f"conv{place}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        children[f"norm{place}"] = nn.BatchNorm2d(width)
        children[f"relu{place}"] = nn.ReLU()
        children[f"gate{place}"] = Gate(width)
        if place % 2 == 0:
            children[f"pool{place}"] = nn.MaxPool2d(2)
        reader = f"conv{place + 1}" if place < len(widths) else "classifier"
        groups.append(
            Group(
                f"conv{place}",
                f"gate{place}",
                width,
                (f"conv{place}",),
                (f"norm{place}",),
                (reader,),
            )
        )
        channels = width
    children |= {
        "mean": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(channels, classes),
    }
    return Prunable(children, groups)


class PreActivationBlock(nn.Module):
    """Two 3 x 3 convolutions, each after batch-norm and ReLU, added to the stream (He
    et al. 2016, identity mappings).

    `stream` is the gate of the stream that comes in; all blocks that read the same
    stream share it.
    """

    def __init__(self, channels: int, width: int, stride: int, stream: Gate) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.stream = stream
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.gate = Gate(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or channels != width
        self.shortcut = (
            nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            if changes
            else None
        )

    def forward(self, stream: Tensor) -> Tensor:
        """The stream (N, C, H, W) plus what this block adds to it."""
        read = self.stream(F.relu(self.norm1(stream)))
        inner = self.gate(F.relu(self.norm2(self.conv1(read))))
        return self.conv2(inner) + (
            stream if self.shortcut is None else self.shortcut(read)
        )


def preact_resnet(
    shape: Shape, classes: int, width: int = 8, blocks: Sequence[int] = (2, 2, 2, 2)
) -> Prunable:
    """PreAct-ResNet (blocks (2, 2, 2, 2) and width 64: PreAct-ResNet18) with a gate in
    every block and one a stage's stream.

    The stream's gates multiply what every reader of the stream gets after its
    batch-norm and ReLU, so that a closed gate is exactly a removed channel, shortcuts
    included.
    """
    _sizes(shape, classes)
    width = checks.whole(width, "width", at_least=1)
    blocks = checks.sides(blocks, "blocks", len(blocks))
    children: dict[str, nn.Module] = {
        "standardise": Standardise([0.5], [0.25]),
        "stem": nn.Conv2d(shape[0], width, 3, padding=1, bias=False),
    }
    streams, inner = [_Stream(Gate(width), "stem")], []
    for stage, count in enumerate(blocks):
        for place in range(count):
            name = f"stage{stage + 1}block{place + 1}"
            block = PreActivationBlock(
                streams[-1].gate.units,
                width * 2**stage,
                2 if stage and not place else 1,
                streams[-1].gate,
            )
            children[name] = block
            streams[-1].read(
                name,
                "norm1",
                *(["conv1"] if block.shortcut is None else ["conv1", "shortcut"]),
            )
            if block.shortcut is None:
                streams[-1].producers.append(f"{name}.conv2")
            else:
                streams.append(
                    _Stream(Gate(width * 2**stage), f"{name}.conv2", f"{name}.shortcut")
                )
            inner.append(
                Group(
                    f"{name}.conv1",
                    f"{name}.gate",
                    block.gate.units,
                    (f"{name}.conv1",),
                    (f"{name}.norm2",),
                    (f"{name}.conv2",),
                )
            )
    last = streams[-1]
    children |= {
        "norm": nn.BatchNorm2d(last.gate.units),
        "relu": nn.ReLU(),
        "stream": last.gate,
        "mean": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(last.gate.units, classes),
    }
    last.norms.append("norm")
    last.consumers.append("classifier")
    return Prunable(
        children,
        [
            *inner,
            *(stream.group(number) for number, stream in enumerate(streams, start=1)),
        ],
    )


class _Stream:
    """What writes into a stage's stream and what reads it, collected while the network
    is built.
    """

    def __init__(self, gate: Gate, *producers: str) -> None:
        self.gate, self.producers = gate, list(producers)
        self.norms: list[str] = []
        self.consumers: list[str] = []

    def read(self, block: str, norm: str, *layers: str) -> None:
        self.norms.append(f"{block}.{norm}")
        self.consumers.extend(f"{block}.{layer}" for layer in layers)

    def group(self, number: int) -> Group:
        reader = self.norms[0].rpartition(".")[0]
        gate = f"{reader}.stream" if reader else "stream"
        return Group(
            f"stream{number}",
            gate,
            self.gate.units,
            tuple(self.producers),
            tuple(self.norms),
            tuple(self.consumers),
        )


class PaddedBlock(nn.Module):
    """A block of the CIFAR ResNets with a shortcut without weights: every second pixel,
    new channels zero (He et al. 2016).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if channels == width else 2
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.gate = Gate(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.added = stride, width - channels

    def forward(self, stream: Tensor) -> Tensor:
        """The rectified sum of the shortcut of `stream` (N, C, H, W) and two
        convolutions of it.
        """
        inner = self.bn2(self.conv2(self.gate(F.relu(self.bn1(self.conv1(stream))))))
        shortcut = F.pad(
            stream[:, :, :: self.stride, :: self.stride],
            (0, 0, 0, 0, self.added // 2, self.added // 2),
        )
        return F.relu(inner + shortcut)


def resnet20(shape: Shape, classes: int) -> Prunable:
    """ResNet-20 for CIFAR-10 with a gate inside each of its nine blocks, 336 units; its
    stream has no gates.
    """
    _sizes(shape, classes)
    children: dict[str, nn.Module] = {
        "standardise": Standardise([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "conv1": nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(16),
        "relu": nn.ReLU(),
    }
    groups, channels = [], 16
    for stage, width in enumerate((16, 32, 64), start=1):
        for place in range(3):
            name = f"layer{stage}block{place}"
            children[name] = PaddedBlock(channels, width)
            groups.append(
                Group(
                    f"{name}.conv1",
                    f"{name}.gate",
                    width,
                    (f"{name}.conv1",),
                    (f"{name}.bn1",),
                    (f"{name}.conv2",),
                )
            )
            channels = width
    children |= {
        "mean": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(64, classes),
    }
    return Prunable(children, groups)


ARCHITECTURES: dict[str, Callable[[Shape, int], Prunable]] = {
    "lenet3": lenet3,
    "vgg": vgg,
    "preact-resnet": preact_resnet,
    "resnet20": resnet20,
}


def build(architecture: str, image_shape: Shape, classes: int, seed: int) -> Prunable:
    """An untrained prunable network for images (channels, height, width); its weights
    depend on `seed` alone.

    Raises ArgumentError if the architecture is unknown or a number is out of range.
    """
    checks.one_of(architecture, "architecture", ARCHITECTURES)
    _sizes(image_shape, classes, "image_shape")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.whole(seed, "seed", at_least=0))
        return ARCHITECTURES[architecture](image_shape, classes)


def published_resnet20() -> Prunable:
    """ResNet-20 with published weights (akamaster/pytorch_resnet_cifar10, BSD-2), read
    from the data root, in eval mode.

    They were trained on the official CIFAR-10 (91.7 % of its test images, published);
    the JPEG copy is harder for them. Raises DataError if the file is missing or is not
    the pinned one.
    """
    path = verified(RESNET20, RESNET20_TITLE, DataFile(RESNET20_FILE, RESNET20_DIGEST))
    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)[
        "state_dict"
    ]
    model = resnet20((3, 32, 32), 10)
    model.load_state_dict({_own_name(name): tensor for name, tensor in stored.items()})
    return model.eval()


def _own_name(name: str) -> str:
    """Our name of a published weight: `module.layer1.0.conv1.weight` is
    `layer1block0.conv1.weight`.
    """
    parts = name.removeprefix("module.").split(".")
    return ".".join(
        [f"{parts[0]}block{parts[1]}", *parts[2:]]
        if parts[0].startswith("layer")
        else parts
    )
