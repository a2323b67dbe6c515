"""Speed of importance, oracles and removal against torch-pruning and naive loops, in
one run.

`python -m benchmarks.taylor_pruning` prints one row a line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import (
    Comparison,
    Growth,
    Measurement,
    Row,
    compare,
    difference,
    fastest,
    growth,
    run,
    seconds,
)
from robustbook.measure.importance import norm_terms
from robustbook.measure.oracle import all_subsets, removal_losses
from robustbook.models.prunable import build, preact_resnet
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.pruning import (
    all_alive,
    layer_costs,
    lowest,
    masked,
    multiply_adds,
    removed,
)

SHARE = 0.3


def resnet18(repeats: int) -> Comparison:
    """Taylor scores and removal of 30 % of the units on a PreAct-ResNet18, 32 x 32
    pixels, batch of 128.

    Torch-pruning gets the memory layout that is faster for it.
    """
    import torch_pruning

    model = preact_resnet((3, 32, 32), 10, width=64).eval()
    images, labels = torch.rand(128, 3, 32, 32), torch.randint(10, (128,))

    def ours() -> nn.Module:
        scores = norm_terms(model, images, labels, batch=128).square().mean(dim=0)
        return removed(
            model, lowest(model, scores, int(SHARE * model.units), all_alive(model))
        )

    def theirs(layout: torch.memory_format) -> nn.Module:
        other, pixels = (
            copy.deepcopy(model).to(memory_format=layout),
            images.to(memory_format=layout),
        )
        pruner = torch_pruning.pruner.BasePruner(
            other,
            pixels[:1],
            importance=torch_pruning.importance.GroupTaylorImportance(),
            pruning_ratio=SHARE,
            global_pruning=True,
            ignored_layers=[other.get_submodule("classifier")],
        )
        F.cross_entropy(other(pixels), labels).backward()
        pruner.step()
        return other

    layouts = {0: torch.contiguous_format, 1: torch.channels_last}
    best = layouts[
        fastest(
            {
                key: lambda layout=layout: theirs(layout)
                for key, layout in layouts.items()
            }
        )
    ]
    name = "importance and removal, PreAct-ResNet18 (torch-pruning)"
    gone = [channels(model) - channels(smaller) for smaller in (ours(), theirs(best))]
    agreement = (
        f"each removes {SHARE:.0%} as it counts: ours {gone[0]} of {channels(model)} "
        f"outputs of convolutions ({SHARE:.0%} of {model.units} units), torch-pruning "
        f"{gone[1]}; their scores are scaled differently"
    )
    return compare(
        name,
        ours,
        lambda: theirs(best),
        limit=0.8,
        repeats=repeats,
        agreement=agreement,
    )


def channels(model: nn.Module) -> int:
    """Outputs of all convolutions."""
    return sum(
        layer.weight.shape[0]
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
    )


def half_the_cost(repeats: int) -> Comparison:
    """Time of a network pruned to half its multiply-adds over the full one's."""
    model = (
        preact_resnet((3, 32, 32), 10, width=64)
        .eval()
        .to(memory_format=torch.channels_last)
    )
    images, labels = (
        torch.rand(64, 3, 32, 32).to(memory_format=torch.channels_last),
        torch.randint(10, (64,)),
    )
    scores = norm_terms(model, images, labels, batch=64).square().mean(dim=0)
    layers, alive = layer_costs(model, (3, 32, 32)), all_alive(model)
    full = multiply_adds(model, layers, alive)
    while multiply_adds(model, layers, alive) > full / 2:
        alive = lowest(model, scores, 8, alive)
    smaller = removed(model, alive).to(memory_format=torch.channels_last)
    share = multiply_adds(model, layers, alive) / full
    name = f"forward pass at {share:.2f} of the multiply-adds (full network)"
    with torch.inference_mode():
        with masked(model, alive):
            off = model(images)
        agreement = (
            "to the full network with the same units switched off: "
            f"{difference(smaller(images), off)}"
        )
        work = (lambda: smaller(images)), (lambda: model(images))
        return compare(name, *work, limit=0.65, repeats=repeats, agreement=agreement)


def oracle(repeats: int, count: int = 1000) -> Iterator[Row]:
    """The oracle over LeNet3's 252 units against a loop of full forward passes."""
    model = build("lenet3", (3, 32, 32), 10, 0).eval()
    images, labels = torch.rand(2000, 3, 32, 32), torch.randint(10, (2000,))

    parts = list(zip(images[:count].split(128), labels[:count].split(128), strict=True))

    def ours() -> Tensor:
        return removal_losses(model, images[:count], labels[:count]).without

    @torch.inference_mode()
    def naive() -> Tensor:
        without = []
        for unit in range(model.units):
            alive = all_alive(model)
            alive[unit] = False
            with masked(model, alive):
                without.append(
                    torch.cat(
                        [cross_entropy(model(part), truth) for part, truth in parts]
                    )
                )
        return torch.stack(without, dim=1)

    name = f"oracle, 252 units, {count} images (full passes)"
    agreement = f"{difference(ours(), naive())} of the losses without a unit"
    yield compare(
        name, ours, naive, limit=0.35, repeats=min(repeats, 3), agreement=agreement
    )
    works = {
        size: lambda size=size: removal_losses(model, images[:size], labels[:size])
        for size in (250, 500, 1000, 2000)
    }
    yield growth("oracle over 252 units", "images", works, repeats=min(repeats, 4))


def more_units(repeats: int) -> Growth:
    """The oracle on PreAct-ResNets of growing width: more units, and each pass
    dearer.
    """
    images, labels = torch.rand(64, 3, 32, 32), torch.randint(10, (64,))
    models = [preact_resnet((3, 32, 32), 10, width=width).eval() for width in (2, 4, 8)]
    works = {
        model.units: lambda model=model: removal_losses(model, images, labels)
        for model in models
    }
    return growth(
        "oracle on PreAct-ResNets, 64 images", "units", works, repeats=min(repeats, 2)
    )


def subsets(count: int = 64) -> Measurement:
    """All 65,536 subsets of the first layer."""
    model = build("lenet3", (3, 32, 32), 10, 0).eval()
    images, labels = torch.rand(count, 3, 32, 32), torch.randint(10, (count,))
    spent = seconds(lambda: all_subsets(model, images, labels, model.groups[0]))
    return Measurement(
        f"all 65,536 subsets of 16 units, {count} images", spent, "s", 300
    )


def rows(repeats: int) -> Iterator[Row]:
    """All rows of this study."""
    yield resnet18(repeats)
    yield half_the_cost(repeats)
    yield from oracle(repeats)
    yield more_units(repeats)
    yield subsets()


if __name__ == "__main__":
    run({"taylor_pruning": rows})
