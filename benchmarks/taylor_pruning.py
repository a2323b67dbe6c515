"""Speed of importance, oracles and removal against torch-pruning and naive loops, in one run; prints seconds and ratios."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from robustbook.measure.importance import cross_entropy, norm_terms
from robustbook.measure.oracle import all_subsets, removal_losses
from robustbook.models.prunable import build, preact_resnet
from robustbook.perturb.pruning import all_alive, layer_costs, lowest, masked, multiply_adds, removed

SHARE = 0.3


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Smallest of a few measurements, after one run to warm up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def line(name: str, ours: float, theirs: float, limit: float) -> None:
    verdict = "ok" if ours / theirs <= limit else "MISSED"
    print(
        f"{name}: {ours:.3f} s against {theirs:.3f} s, ratio {ours / theirs:.2f} (limit {limit}) {verdict}", flush=True
    )


def resnet18() -> None:
    """Taylor scores and removal of 30 % of the units on a PreAct-ResNet18, 32 x 32 pixels, batch of 128."""
    import torch_pruning

    model = preact_resnet((3, 32, 32), 10, width=64).eval()
    images, labels = torch.rand(128, 3, 32, 32), torch.randint(10, (128,))

    def ours() -> object:
        scores = norm_terms(model, images, labels, batch=128).square().mean(dim=0)
        return removed(model, lowest(model, scores, int(SHARE * model.units), all_alive(model)))

    def theirs() -> object:
        other = copy.deepcopy(model)
        pruner = torch_pruning.pruner.BasePruner(
            other,
            images[:1],
            importance=torch_pruning.importance.GroupTaylorImportance(),
            pruning_ratio=SHARE,
            global_pruning=True,
            ignored_layers=[other.get_submodule("classifier")],
        )
        F.cross_entropy(other(images), labels).backward()
        pruner.step()
        return other

    line("importance and removal, PreAct-ResNet18, against torch-pruning", seconds(ours), seconds(theirs), 0.8)


def half_the_cost() -> None:
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
    with torch.inference_mode():
        line(
            f"forward pass at {share:.2f} of the multiply-adds",
            seconds(lambda: smaller(images), 7),
            seconds(lambda: model(images), 7),
            0.65,
        )


def oracle(count: int = 1000) -> None:
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

    ours = seconds(lambda: removal_losses(model, images[:count], labels[:count]), 2)
    line(f"oracle, 252 units, {count} images, against full passes", ours, seconds(naive, 1), 0.35)
    print(
        f"oracle, 252 units, 10,000 images: {seconds(lambda: removal_losses(model, images, labels), 1):.1f} s",
        flush=True,
    )


def subsets(count: int = 64) -> None:
    """All 65,536 subsets of the first layer."""
    model = build("lenet3", (3, 32, 32), 10, 0).eval()
    images, labels = torch.rand(count, 3, 32, 32), torch.randint(10, (count,))
    start = time.perf_counter()
    all_subsets(model, images, labels, model.groups[0])
    spent = time.perf_counter() - start
    print(
        f"all 65,536 subsets, {count} images: {spent:.1f} s (limit 300) {'ok' if spent <= 300 else 'MISSED'}",
        flush=True,
    )


def trade_off() -> None:
    """Accuracy of the reference run's PreAct-ResNet against multiply-adds and the milliseconds measured in that run."""
    record = json.loads((Path(__file__).parents[1] / "book" / "studies" / "taylor_pruning.json").read_text())
    rows = {(row["name"], row["factors"].get("way")): row["value"] for row in record["metrics"]}
    for way in (row["factors"]["way"] for row in record["metrics"] if row["name"] == "stream accuracy"):
        print(
            f"{way}: accuracy {rows['stream accuracy', way]:.3f}, {rows['stream multiply-adds', way] / 1e6:.2f} million "
            f"multiply-adds, {1000 * record['timing'][f'latency {way}']:.1f} ms for 64 images on one thread"
        )


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    torch.manual_seed(0)
    for part in (resnet18, half_the_cost, oracle, subsets, trade_off):
        part()


if __name__ == "__main__":
    main()
