"""The paper's experiment on ImageNet as one command, for any network of torchvision and
any folder of images: `python -m robustbook.measure.published_schedule --help`.

Read `Schedule` and `PUBLISHED` (what the paper did, and what it reports), then
`prune_by_schedule` (one network), then `main`. Nothing here is run by a chapter: until
somebody has the data and an hour of a GPU, the claim is not tested at this scale.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.unit_graph import UnitGraph, unit_graph
from robustbook.perturb.graph_pruning import gating, network_cost, without

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which the published weights expect."""


@dataclass(frozen=True)
class Schedule:
    """How a network is pruned: every `interval` mini-batches of `batch` images, `step`
    units, until `units` are gone; then tuned to `batches` mini-batches in all.

    The learning rate is divided by ten after each third of them; scores of earlier
    steps count with weight `momentum`.
    """

    units: int
    batches: int
    step: int = 100
    interval: int = 30
    batch: int = 256
    learning_rate: float = 1e-3
    momentum: float = 0.9


PUBLISHED: dict[str, dict[str, Any]] = {
    "resnet101": {"units": 5000, "adds": 0.60, "parameters": 0.70, "lost": 0.0002},
    "resnet50": {"units": 2200, "adds": 0.65, "parameters": 0.70, "lost": 0.0070},
    "resnet34": {"units": 0, "adds": 0.78, "parameters": 0.79, "lost": 0.0048},
    "vgg11_bn": {"units": 0, "adds": 0.91, "parameters": 0.24, "lost": 0.0019},
    "densenet201": {"units": 0, "adds": 0.70, "parameters": 0.57, "lost": 0.0029},
}
"""Rows of Table 3: the `units` removed where the published code says how many (0: until
the share of multiply-adds is reached), the shares of multiply-adds and `parameters`
that are left, and the top-1 accuracy that was `lost`.
"""
EPOCH = 5004
"""Mini-batches of 256 in an epoch of ImageNet; the paper tunes for 25 epochs."""


@dataclass(frozen=True)
class ScheduleOutcome:
    """Top-1 accuracy and cost of a network `before` and after pruning."""

    before: float
    after: float
    adds_left: float
    parameters_left: float
    units_removed: int


def prune_by_schedule(
    graph: UnitGraph,
    images: Tensor,
    labels: Tensor,
    schedule: Schedule,
    *,
    generator: Generator,
    adds_left: float | None = None,
) -> tuple[nn.Module, Tensor]:
    """The smaller network, and which units live (units,): pruned and tuned on `images`
    (N, C, H, W) in [0, 1] by the paper's algorithm.

    With `adds_left` units go until the multiply-adds are down to that share. Raises
    ArgumentError if images or labels cannot be taken or too few units can go.
    """
    labels = checks.labels(labels, checks.images(images))
    order = torch.randint(
        len(images), (schedule.batches, schedule.batch), generator=generator
    )
    parts = ((images[chosen], labels[chosen]) for chosen in order)
    return prune_on(graph, parts, schedule, adds_left=adds_left)


def prune_on(
    graph: UnitGraph,
    batches: Iterator[tuple[Tensor, Tensor]],
    schedule: Schedule,
    *,
    adds_left: float | None = None,
) -> tuple[nn.Module, Tensor]:
    """The same on `batches` of images and labels as they come."""
    network = graph.network
    weight = next(network.parameters())
    alive = torch.ones(graph.units, dtype=torch.bool)
    total, smooth = weight.new_zeros(graph.units), weight.new_zeros(graph.units)
    optimiser = _optimiser(network, schedule)
    full = network_cost(network, graph.image_shape).multiply_adds
    pruning, smaller = True, network
    for place, (images, labels) in enumerate(islice(batches, schedule.batches)):
        for group in optimiser.param_groups:
            third = 3 * place // schedule.batches
            group["lr"] = schedule.learning_rate * 10.0**-third
        smaller.train()
        optimiser.zero_grad()
        if not pruning:
            F.cross_entropy(smaller(images), labels).backward()
            optimiser.step()
            continue
        gates = torch.ones_like(total, requires_grad=True)
        with gating(graph, gates * alive.to(weight)) as gated:
            F.cross_entropy(gated(images), labels).backward()
        optimiser.step()
        assert gates.grad is not None
        total += gates.grad.square()
        if (place + 1) % schedule.interval == 0:
            smooth = schedule.momentum * smooth + (1 - schedule.momentum) * total
            total = torch.zeros_like(total)
            alive = _lowest(graph, smooth.cpu(), schedule.step, alive)
            pruning = not _enough(graph, alive, schedule, full, adds_left)
            if not pruning:
                smaller = without(replace_network(graph, network.eval()), alive)
                optimiser = _optimiser(smaller, schedule)
    if pruning:
        smaller = without(replace_network(graph, network.eval()), alive)
    return smaller.eval(), alive


def replace_network(graph: UnitGraph, network: nn.Module) -> UnitGraph:
    """The graph around the network as it is now."""
    return replace(graph, network=network)


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    rate = schedule.learning_rate
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)


def _lowest(graph: UnitGraph, scores: Tensor, count: int, alive: Tensor) -> Tensor:
    """`alive` after the `count` living units of lowest score went; the last unit of a
    group stays.
    """
    after = alive.clone()
    owner = torch.arange(len(graph.groups)).repeat_interleave(
        torch.tensor([group.units for group in graph.groups])
    )
    left = [int(part.sum()) for part in graph.split(alive)]
    for unit in torch.argsort(scores, stable=True).tolist():
        if count and alive[unit] and left[owner[unit]] > 1:
            after[unit] = False
            left[owner[unit]] -= 1
            count -= 1
    if count:
        raise ArgumentError("schedule", "of fewer units than can go", count)
    return after


def _enough(
    graph: UnitGraph,
    alive: Tensor,
    schedule: Schedule,
    full: int,
    adds_left: float | None,
) -> bool:
    if adds_left is None:
        return int((~alive).sum()) >= schedule.units
    smaller = without(replace_network(graph, graph.network.eval()), alive)
    return network_cost(smaller, graph.image_shape).multiply_adds <= adds_left * full


class _Standardised(nn.Module):
    """A network for images in [0, 1] from one for standardised images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.deviation)  # type: ignore[operator]


@torch.no_grad()
def top_1(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    """Share of the images whose class the network says."""
    right = total = 0
    for images, labels in batches:
        right += int((network(images).argmax(1) == labels).sum())
        total += len(labels)
    return right / total


def run(
    model: str,
    data: Path,
    *,
    weights: Path | None,
    device: str,
    schedule: Schedule,
    adds_left: float | None,
    side: int = 224,
    workers: int = 0,
) -> ScheduleOutcome:
    """One network of torchvision on a folder with `train` and `val`, one folder of
    images a class in each; random weights without a file of weights.
    """
    from torchvision import datasets, models, transforms

    scaled = transforms.Compose(
        [
            transforms.Resize(round(side * 256 / 224)),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
        ]
    )
    sets = {
        split: datasets.ImageFolder(str(data / split), scaled)
        for split in ("train", "val")
    }
    network = models.get_model(model, num_classes=len(sets["train"].classes))
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    graph = unit_graph(_Standardised(network).to(device), (3, side, side))

    def batches(split: str) -> Iterator[tuple[Tensor, Tensor]]:
        loader = torch.utils.data.DataLoader(
            sets[split],
            schedule.batch,
            shuffle=split == "train",
            num_workers=workers,
            generator=Generator().manual_seed(0),
        )
        return ((images.to(device), labels.to(device)) for images, labels in loader)

    before = top_1(graph.network, batches("val"))
    full = network_cost(graph.network, graph.image_shape)
    endless = (batch for _ in cycle([0]) for batch in batches("train"))
    smaller, alive = prune_on(graph, endless, schedule, adds_left=adds_left)
    cost = network_cost(smaller, graph.image_shape)
    return ScheduleOutcome(
        before,
        top_1(smaller, batches("val")),
        cost.multiply_adds / full.multiply_adds,
        cost.parameters / full.parameters,
        int((~alive).sum()),
    )


def main(arguments: list[str] | None = None) -> None:
    """Prune one network by the published schedule and print what came of it, beside
    what the paper reports.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=PUBLISHED, default="resnet101")
    parser.add_argument("--weights", type=Path, help="state_dict of that network")
    parser.add_argument("--data", type=Path, required=True, help="train/ and val/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=25 * EPOCH)
    parser.add_argument("--interval", type=int, default=30)
    parser.add_argument("--step", type=int, default=100)
    parser.add_argument("--units", type=int)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--workers", type=int, default=0)
    chosen = parser.parse_args(arguments)
    reported = PUBLISHED[chosen.model]
    units = reported["units"] if chosen.units is None else chosen.units
    schedule = Schedule(
        units, chosen.batches, chosen.step, chosen.interval, chosen.batch
    )
    found = run(
        chosen.model,
        chosen.data,
        weights=chosen.weights,
        device=chosen.device,
        schedule=schedule,
        adds_left=None if units else reported["adds"],
        side=chosen.side,
        workers=chosen.workers,
    )
    print(json.dumps({"measured": asdict(found), "published": reported}, indent=2))


if __name__ == "__main__":
    main()
