"""Times saliency maps: `python -m benchmarks.saliency_baselines` prints one ratio a line, ours over theirs.

RISE with 1,000 masks on a ResNet-18 at 64 pixels against the published algorithm as a plain loop over images, written
here from the paper's description (no code of RISE or TorchRay is used; TorchRay is not installed). Occlusion against
captum at its fastest `perturbations_per_eval`, with every layer run in full and with the early ones run only around
windows. Ours first folds batch-norms into convolutions and unrolls those of 2 x 2 pixels, which is part of the time.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Comparison, Work, compare, fastest
from robustbook.measure.saliency import mask_scores, occlusion, rise_maps
from robustbook.measure.windowed_occlusion import windowed_occlusion
from robustbook.models.folded import fold, unroll
from robustbook.perturb.masks import draw_masks

SIDE, CELLS, PROBABILITY = 64, 7, 0.5
WINDOW, STRIDE = 8, 4
CHUNK, WINDOWS = 128, 256
"""Images of a forward pass of ours, and windows of which only the changed patches are kept."""
BATCH = 100
"""Masked images per forward pass of the plain loop; RISE's examples use 100 or more."""


def network() -> nn.Module:
    """A ResNet-18 with random weights, whose batch-norms have seen noise so that its answers differ."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(weights=None, num_classes=10)
    with torch.no_grad():
        model(torch.rand(64, 3, SIDE, SIDE))
    return model.eval()


def plain_rise(model: nn.Module, images: Tensor, targets: Tensor, count: int) -> Tensor:
    """RISE as the paper describes it: for every image its own masks, one by one enlarged and cut out, kept whole."""
    maps = []
    cell = math.ceil(SIDE / CELLS)
    for image, target in zip(images, targets, strict=True):
        masks = torch.empty(count, 1, SIDE, SIDE)
        for number in range(count):
            grid = (torch.rand(1, 1, CELLS, CELLS) < PROBABILITY).float()
            size = (CELLS + 1) * cell
            large = F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False)
            row, column = torch.randint(0, cell, (2,)).tolist()
            masks[number] = large[0, :, row : row + SIDE, column : column + SIDE]
        with torch.no_grad():
            scores = torch.cat([torch.softmax(model(image * part), dim=1)[:, target] for part in masks.split(BATCH)])
        maps.append((scores[:, None, None] * masks[:, 0]).sum(0) / (count * PROBABILITY))
    return torch.stack(maps)


def faster(model: nn.Module) -> nn.Module:
    return unroll(fold(model), torch.zeros(1, 3, SIDE, SIDE))


def our_rise(model: nn.Module, images: Tensor, targets: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    masks = draw_masks(count, (SIDE, SIDE), cells=CELLS, probability=PROBABILITY, generator=generator)
    scores = mask_scores(faster(model), images, targets, masks, torch.zeros(1, 3, SIDE, SIDE), chunk=CHUNK, dtype=dtype)
    return rise_maps(scores, masks)


def rise_rows(model: nn.Module, images: Tensor, targets: Tensor, count: int, repeats: int) -> list[Comparison]:
    exact = our_rise(model, images, targets, count, torch.float32)
    rounded = our_rise(model, images, targets, count, torch.bfloat16)
    correlation = torch.corrcoef(torch.stack([exact.flatten(), rounded.flatten()]))[0, 1]
    print(
        f"bfloat16 maps differ from float32 by at most {float((exact - rounded).abs().max()):.1e} "
        f"(range {float(exact.max() - exact.min()):.1e}), correlation {float(correlation):.5f}"
    )
    return [
        compare(
            f"RISE, {count} masks, {name} / plain loop",
            lambda dtype=dtype: our_rise(model, images, targets, count, dtype),
            lambda: plain_rise(model, images, targets, count),
            limit=0.6,
            repeats=repeats,
        )
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    ]


def occlusion_rows(model: nn.Module, images: Tensor, targets: Tensor, repeats: int) -> list[Comparison]:
    from captum.attr import Occlusion

    black = torch.zeros_like(images)
    method = Occlusion(lambda values: torch.softmax(model(values), dim=1))

    def captum(size: int) -> Tensor:
        with torch.no_grad():
            return method.attribute(
                images, (3, WINDOW, WINDOW), (3, STRIDE, STRIDE), target=targets, perturbations_per_eval=size
            )

    def ours(method: Callable[..., Tensor], chunk: int, dtype: torch.dtype) -> Tensor:
        network = faster(model)
        return method(network, images, targets, black, window=WINDOW, stride=STRIDE, chunk=chunk, dtype=dtype)

    size = fastest({size: lambda size=size: captum(size) for size in (4, 16, 32, 64, 128)})
    expected = captum(size)[:, 0]
    works: dict[str, Work] = {
        f"{name}, {precision}": lambda method=method, chunk=chunk, dtype=dtype: ours(method, chunk, dtype)
        for name, method, chunk in (("in full", occlusion, CHUNK), ("windowed", windowed_occlusion, WINDOWS))
        for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    for name, work in works.items():
        print(f"occlusion {name}: largest difference to captum {float((work() - expected).abs().max()):.1e}")
    print(f"(range of captum's maps {float(expected.max() - expected.min()):.1e})")
    peer = f"captum ({size} at once)"
    return [
        *(
            compare(f"occlusion {name} / {peer}", work, lambda: captum(size), limit=0.75, repeats=repeats)
            for name, work in works.items()
        ),
        compare(
            "occlusion windowed / in full, float32",
            works["windowed, float32"],
            works["in full, float32"],
            limit=1.0,
            repeats=repeats,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--masks", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the ratios to this file")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    model = network()
    images = torch.rand(options.images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(options.images) % 10
    rows = []
    for row in (
        *rise_rows(model, images, targets, options.masks, options.repeats),
        *occlusion_rows(model, images, targets, options.repeats),
    ):
        print(row, flush=True)
        rows.append(asdict(row))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
