"""The fourth lens: where the answer comes from, and how far to trust such maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from robustbook.errors import UserError
from robustbook.measure.map_checks import randomised
from robustbook.measure.road import road_curves
from robustbook.measure.saliency import captum_map, mask_scores, occlusion, rise_maps
from robustbook.measure.saliency_metrics import area, removal_curves, steps_of
from robustbook.measure.similarity import spearman
from robustbook.perturb.baselines import blur
from robustbook.perturb.masks import draw_masks
from robustbook.stats import bootstrap_mean
from robustbook.studies.your_network.measure.looking import Number, Seen
from robustbook.studies.your_network.networks import Examined

NAME = "saliency"
CELLS = 7
PROBABILITY = 0.5
STEPS = 20
"""So many parts of an image are removed one after the other."""
ROAD_SHARES = (0.1, 0.3, 0.5)
WINDOWS, STRIDES = 4, 8
"""The window is a quarter of the shorter side and moves by an eighth of it."""


def passes(subject: Examined, *, explained: int, masks: int) -> int:
    """Two covers with all masks, windows, removal for four maps, and gradients."""
    count = min(explained, len(subject.images))
    return count * (2 * masks + STRIDES**2 + 4 * (2 * STEPS + 8) + 6)


def look(subject: Examined, *, explained: int, masks: int) -> Seen:
    """Maps of the predicted class; how alike they are under two covers and under one;
    how fast removal destroys the answer; what is left of a map without the weights.
    """
    if min(subject.images.shape[2:]) < STRIDES:
        raise UserError(f"images have fewer than {STRIDES} pixels a side")
    images = subject.images[:explained]
    targets = subject.answers[:explained]
    grey, blurred = torch.full_like(images, 0.5), blurred_images(images)
    first, second = (
        _rise(subject, images, targets, masks, covers) for covers in (grey, blurred)
    )
    maps = {
        "RISE": (first[0] + first[1]) / 2,
        "occlusion": _occlusion(subject, images, targets, grey),
        "gradient": captum_map("gradient", subject.network, images, targets, grey),
        "random": torch.rand(first[0].shape, generator=subject.generator(300)).to(
            images
        ),
    }
    numbers = [
        _mean("map agreement", spearman(first[0], first[1]), compared="one baseline"),
        _mean("map agreement", spearman(first[0], second[1]), compared="two baselines"),
    ]
    for name, each in maps.items():
        for curve, values in _removal(subject, images, targets, each, grey):
            numbers.append(_mean("removal", values, map=name, curve=curve))
    numbers += _without_weights(subject, images, targets, maps["gradient"], grey)
    shown = {name: each.cpu() for name, each in maps.items() if name != "random"}
    return Seen(NAME, tuple(numbers), shown)


def blurred_images(images: Tensor) -> Tensor:
    """The images without what is finer than a quarter of their shorter side."""
    return blur(images, min(images.shape[2:]) / 4)


def _mean(name: str, values: Tensor, **factors: str | float) -> Number:
    mean = bootstrap_mean(values.double().cpu().numpy(), seed=0)
    return Number(name, mean, "images", factors)


def _rise(
    subject: Examined, images: Tensor, targets: Tensor, masks: int, covers: Tensor
) -> tuple[Tensor, Tensor]:
    """Two maps (N, H, W) of the same images by two halves of the masks, which are the
    same for all covers.
    """
    shape = (images.shape[2], images.shape[3])
    generator = torch.Generator(subject.device).manual_seed(1000 * subject.seed + 301)
    drawn = [
        draw_masks(
            max(2, masks // 2),
            shape,
            cells=min(CELLS, *shape),
            probability=PROBABILITY,
            generator=generator,
        )
        for _ in range(2)
    ]
    one, other = (
        rise_maps(
            mask_scores(
                subject.network, images, targets, each, covers, chunk=subject.chunk
            ),
            each,
            centred=True,
        )
        for each in drawn
    )
    return one, other


def _occlusion(
    subject: Examined, images: Tensor, targets: Tensor, covers: Tensor
) -> Tensor:
    side = min(images.shape[2:])
    return occlusion(
        subject.network,
        images,
        targets,
        covers,
        window=max(1, side // WINDOWS),
        stride=max(1, side // STRIDES),
        chunk=subject.chunk,
    )


def _removal(
    subject: Examined, images: Tensor, targets: Tensor, maps: Tensor, covers: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Mean height (N,) of the curves of deletion and insertion, and of ROAD's removal
    of the most salient pixels.
    """
    pixels = max(1, maps[0].numel() // STEPS)
    for curve, each in (("deletion", maps), ("insertion", -maps)):
        found = removal_curves(
            subject.network,
            images,
            targets,
            steps_of(each, pixels=pixels),
            covers,
            chunk=subject.chunk,
        )
        yield curve, area(found)
    found = road_curves(
        subject.network,
        images,
        targets,
        maps,
        generator=subject.generator(302),
        shares=ROAD_SHARES,
        chunk=subject.chunk,
    )
    yield "ROAD", found[:, 1:].mean(1)


def _without_weights(
    subject: Examined, images: Tensor, targets: Tensor, maps: Tensor, covers: Tensor
) -> list[Number]:
    """How alike the gradient's map still is when the last layer, and when all layers,
    are initialised anew.
    """
    copies = list_ends(randomised(subject.layers, seed=subject.seed))
    return [
        _mean(
            "randomised agreement",
            spearman(maps, captum_map("gradient", network, images, targets, covers)),
            layers=layers,
        )
        for layers, network in copies.items()
    ]


def list_ends(
    copies: Iterator[tuple[str, torch.nn.Module]],
) -> Mapping[str, torch.nn.Module]:
    """The first and the last of the copies."""
    _, first = next(copies)
    last = first
    for _, network in copies:
        last = network
    return {"the last": first, "all": last}
