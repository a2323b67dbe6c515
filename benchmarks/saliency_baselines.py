"""Times saliency maps: `python -m benchmarks.saliency_baselines` prints one ratio a
line, ours over theirs.

RISE with 1,000 masks on a ResNet-18 at 64 pixels against the published algorithm as a
plain loop over images, written here from the paper's description (no code of RISE or
TorchRay is used; TorchRay is not installed). Occlusion against captum at its fastest
`perturbations_per_eval`, with every layer run in full and with the early ones run only
around windows. Ours first folds batch-norms into convolutions and unrolls those of 2 x
2 pixels, which is part of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import (
    Comparison,
    Row,
    Work,
    compare,
    difference,
    fastest,
    growth,
    run,
)
from robustbook.measure.saliency import mask_scores, occlusion, rise_maps
from robustbook.measure.windowed_occlusion import windowed_occlusion
from robustbook.models.folded import fold, unroll
from robustbook.perturb.masks import RiseMasks, draw_masks

SIDE, CELLS, PROBABILITY, MASKS = 64, 7, 0.5, 1000
WINDOW, STRIDE = 8, 4
CHUNK, WINDOWS = 128, 256
"""Images of a forward pass of ours, and windows of which only the changed patches are
kept.
"""
BATCH = 100
"""Masked images per forward pass of the plain loop; RISE's examples use 100 or more."""


def network() -> nn.Module:
    """A ResNet-18 with random weights, whose batch-norms have seen noise so that its
    answers differ.
    """
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(weights=None, num_classes=10)
    with torch.no_grad():
        model(torch.rand(64, 3, SIDE, SIDE))
    return model.eval()


def plain_rise(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    count: int,
    drawn: RiseMasks | None = None,
) -> Tensor:
    """RISE as the paper describes it: for every image its own masks, one by one
    enlarged and cut out, kept whole.

    With `drawn` the grids and shifts are those of these masks, for all images, so that
    maps can be compared.
    """
    maps = []
    cell = math.ceil(SIDE / CELLS)
    for image, target in zip(images, targets, strict=True):
        masks = torch.empty(count, 1, SIDE, SIDE)
        for number in range(count):
            if drawn is None:
                grid = (torch.rand(1, 1, CELLS, CELLS) < PROBABILITY).float()
                row, column = torch.randint(0, cell, (2,)).tolist()
            else:
                grid = drawn.grids[number][None, None]
                row, column = drawn.shifts[number].tolist()
            size = (CELLS + 1) * cell
            large = F.interpolate(
                grid, size=(size, size), mode="bilinear", align_corners=False
            )
            masks[number] = large[0, :, row : row + SIDE, column : column + SIDE]
        with torch.no_grad():
            scores = torch.cat(
                [
                    torch.softmax(model(image * part), dim=1)[:, target]
                    for part in masks.split(BATCH)
                ]
            )
        maps.append(
            (scores[:, None, None] * masks[:, 0]).sum(0) / (count * PROBABILITY)
        )
    return torch.stack(maps)


def faster(model: nn.Module) -> nn.Module:
    return unroll(fold(model), torch.zeros(1, 3, SIDE, SIDE))


def our_masks(count: int) -> RiseMasks:
    generator = torch.Generator().manual_seed(0)
    return draw_masks(
        count, (SIDE, SIDE), cells=CELLS, probability=PROBABILITY, generator=generator
    )


def our_rise(
    model: nn.Module, images: Tensor, targets: Tensor, count: int, dtype: torch.dtype
) -> Tensor:
    masks = our_masks(count)
    scores = mask_scores(
        faster(model),
        images,
        targets,
        masks,
        torch.zeros(1, 3, SIDE, SIDE),
        chunk=CHUNK,
        dtype=dtype,
    )
    return rise_maps(scores, masks)


def rise_rows(
    model: nn.Module, images: Tensor, targets: Tensor, repeats: int
) -> Iterator[Comparison]:
    expected = plain_rise(model, images, targets, MASKS, our_masks(MASKS))
    scale = float(expected.max() - expected.min())
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        maps = our_rise(model, images, targets, MASKS, dtype)
        correlation = float(
            torch.corrcoef(torch.stack([expected.flatten(), maps.flatten()]))[0, 1]
        )
        yield compare(
            f"RISE, {MASKS} masks, {name} / plain loop",
            lambda dtype=dtype: our_rise(model, images, targets, MASKS, dtype),
            lambda: plain_rise(model, images, targets, MASKS),
            limit=0.6,
            repeats=repeats,
            agreement=(
                f"same masks: {difference(maps, expected)} of a range of "
                f"{scale:.1e}, correlation {correlation:.4f}"
            ),
        )


def occlusion_rows(
    model: nn.Module, images: Tensor, targets: Tensor, repeats: int
) -> Iterator[Comparison]:
    from captum.attr import Occlusion

    black = torch.zeros_like(images)
    method = Occlusion(lambda values: torch.softmax(model(values), dim=1))

    def captum(size: int) -> Tensor:
        with torch.no_grad():
            return method.attribute(
                images,
                (3, WINDOW, WINDOW),
                (3, STRIDE, STRIDE),
                target=targets,
                perturbations_per_eval=size,
            )

    def ours(method: Callable[..., Tensor], chunk: int, dtype: torch.dtype) -> Tensor:
        network = faster(model)
        return method(
            network,
            images,
            targets,
            black,
            window=WINDOW,
            stride=STRIDE,
            chunk=chunk,
            dtype=dtype,
        )

    size = fastest(
        {size: lambda size=size: captum(size) for size in (4, 16, 32, 64, 128)}
    )
    expected = captum(size)[:, 0]
    works: dict[str, Work] = {
        f"{name}, {precision}": lambda method=method, chunk=chunk, dtype=dtype: ours(
            method, chunk, dtype
        )
        for name, method, chunk in (
            ("in full", occlusion, CHUNK),
            ("windowed", windowed_occlusion, WINDOWS),
        )
        for precision, dtype in (
            ("float32", torch.float32),
            ("bfloat16", torch.bfloat16),
        )
    }
    scale = float(expected.max() - expected.min())
    for name, work in works.items():
        yield compare(
            f"occlusion {name} / captum ({size} at once)",
            work,
            lambda: captum(size),
            limit=0.75,
            repeats=repeats,
            agreement=f"{difference(work(), expected)} of a range of {scale:.1e}",
        )
    yield compare(
        "occlusion windowed / in full, float32",
        works["windowed, float32"],
        works["in full, float32"],
        limit=1.0,
        repeats=repeats,
        agreement=difference(works["windowed, float32"](), works["in full, float32"]()),
    )


def growths(
    model: nn.Module, images: Tensor, targets: Tensor, repeats: int
) -> Iterator[Row]:
    """RISE over the number of masks, occlusion over the pixels at an equal share of the
    side for window and stride.
    """
    masks = {
        count: lambda count=count: our_rise(
            model, images, targets, count, torch.float32
        )
        for count in (50, 100, 200, 400)
    }
    yield growth(
        "RISE on ResNet-18, 2 images of 64 x 64", "masks", masks, repeats=repeats
    )

    def occluded(side: int) -> Work:
        enlarged = F.interpolate(images[:1], size=(side, side))
        black, step = torch.zeros_like(enlarged), side // 8
        return lambda: occlusion(
            fold(model),
            enlarged,
            targets[:1],
            black,
            window=step,
            stride=step,
            chunk=16,
        )

    pixels = {side**2: occluded(side) for side in (32, 64, 128)}
    yield growth(
        "occlusion on ResNet-18, 64 windows", "pixels", pixels, repeats=repeats
    )


def rows(repeats: int, count: int = 2) -> Iterator[Row]:
    """All rows of this study."""
    model = network()
    images = torch.rand(
        count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)
    )
    targets = torch.arange(count) % 10
    # A turn of RISE is the longest here: fewer will do.
    yield from rise_rows(model, images, targets, max(2, repeats // 3))
    yield from occlusion_rows(model, images, targets, max(2, 2 * repeats // 3))
    yield from growths(model, images, targets, 2)


if __name__ == "__main__":
    run({"saliency_baselines": rows})
