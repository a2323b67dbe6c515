"""Speed of importance, oracles and removal against torch-pruning and naive loops, in one run; prints seconds and ratios."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.timing import Comparison, compare, fastest, seconds
from robustbook.measure.importance import cross_entropy, norm_terms
from robustbook.measure.oracle import all_subsets, removal_losses
from robustbook.models.prunable import build, preact_resnet
from robustbook.perturb.pruning import all_alive, layer_costs, lowest, masked, multiply_adds, removed

SHARE = 0.3


def resnet18() -> Comparison:
    """Taylor scores and removal of 30 % of the units on a PreAct-ResNet18, 32 x 32 pixels, batch of 128.

    Torch-pruning gets the memory layout that is faster for it.
    """
    import torch_pruning

    model = preact_resnet((3, 32, 32), 10, width=64).eval()
    images, labels = torch.rand(128, 3, 32, 32), torch.randint(10, (128,))

    def ours() -> object:
        scores = norm_terms(model, images, labels, batch=128).square().mean(dim=0)
        return removed(model, lowest(model, scores, int(SHARE * model.units), all_alive(model)))

    def theirs(layout: torch.memory_format) -> object:
        other, pixels = copy.deepcopy(model).to(memory_format=layout), images.to(memory_format=layout)
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
    best = layouts[fastest({key: lambda layout=layout: theirs(layout) for key, layout in layouts.items()})]
    name = "importance and removal, PreAct-ResNet18 (torch-pruning)"
    return compare(name, ours, lambda: theirs(best), limit=0.8, repeats=5)


def half_the_cost() -> Comparison:
    """Time of a network pruned to half its multiply-adds over the full one's."""
    model = preact_resnet((3, 32, 32), 10, width=64).eval().to(memory_format=torch.channels_last)
    images, labels = torch.rand(64, 3, 32, 32).to(memory_format=torch.channels_last), torch.randint(10, (64,))
    scores = norm_terms(model, images, labels, batch=64).square().mean(dim=0)
    layers, alive = layer_costs(model, (3, 32, 32)), all_alive(model)
    full = multiply_adds(model, layers, alive)
    while multiply_adds(model, layers, alive) > full / 2:
        alive = lowest(model, scores, 8, alive)
    smaller = removed(model, alive).to(memory_format=torch.channels_last)
    share = multiply_adds(model, layers, alive) / full
    name = f"forward pass at {share:.2f} of the multiply-adds (full network)"
    with torch.inference_mode():
        return compare(name, lambda: smaller(images), lambda: model(images), limit=0.65, repeats=9)


def oracle(count: int = 1000) -> Comparison:
    """The oracle over LeNet3's 252 units against a loop of full forward passes, and alone on 10,000 images."""
    model = build("lenet3", (3, 32, 32), 10, 0).eval()
    images, labels = torch.rand(10_000, 3, 32, 32), torch.randint(10, (10_000,))

    def naive() -> None:
        with torch.inference_mode():
            for unit in range(model.units):
                alive = all_alive(model)
                alive[unit] = False
                with masked(model, alive):
                    for part, truth in zip(images[:count].split(128), labels[:count].split(128), strict=True):
                        cross_entropy(model(part), truth)

    spent = seconds(lambda: removal_losses(model, images, labels))
    print(f"oracle, 252 units, 10,000 images: {spent:.1f} s", flush=True)
    name = f"oracle, 252 units, {count} images (full passes)"
    return compare(name, lambda: removal_losses(model, images[:count], labels[:count]), naive, limit=0.35, repeats=3)


def subsets(count: int = 64) -> None:
    """All 65,536 subsets of the first layer, against a limit of 300 s."""
    model = build("lenet3", (3, 32, 32), 10, 0).eval()
    images, labels = torch.rand(count, 3, 32, 32), torch.randint(10, (count,))
    spent = seconds(lambda: all_subsets(model, images, labels, model.groups[0]))
    print(
        f"all 65,536 subsets, {count} images: {spent:.1f} s (limit 300) {'ok' if spent <= 300 else 'MISSED'}",
        flush=True,
    )


def trade_off() -> None:
    """Accuracy, multiply-adds, milliseconds and memory of the pruned networks, as the reference run measured them."""
    record = json.loads((Path(__file__).parents[1] / "book" / "studies" / "taylor_pruning.json").read_text())
    rows = {(row["name"], row["factors"].get("way")): row["value"] for row in record["metrics"]}
    for network, prefix in (("preact-resnet", "stream"), ("vgg", "vgg")):
        for way in (row["factors"]["way"] for row in record["metrics"] if row["name"] == f"{prefix} accuracy"):
            latency, memory = (record["timing"].get(f"{name} {network}: {way}") for name in ("latency", "memory"))
            if latency is not None and memory is not None:
                print(
                    f"{network}, {way}: accuracy {rows[f'{prefix} accuracy', way]:.3f}, "
                    f"{rows[f'{prefix} multiply-adds', way] / 1e6:.2f} million multiply-adds, "
                    f"{1000 * latency:.1f} ms and {memory / 1e6:.1f} MB for 64 images on one thread"
                )


def main() -> None:
    """All measurements on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
    for part in (resnet18, half_the_cost, oracle):
        print(part(), flush=True)
    subsets()
    trade_off()


if __name__ == "__main__":
    main()
