"""How good a saliency map is: removal curves (MoRF, LeRF, insertion, deletion) and,
where the truth is planted, hits.

Read `steps_of` first (in which step a pixel goes), then `removal_curves`, then `area`
and `aopc`, then the two measures that need a true mask.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from robustbook.measure.saliency import evaluating, probabilities
from robustbook.measure.similarity import top_pixels
from robustbook.models.network import CHUNK
from robustbook.perturb.baselines import check


def steps_of(
    maps: Tensor, *, pixels: int = 1, segments: Tensor | None = None
) -> Tensor:
    """Step (N, H, W), from 0, in which each pixel goes when the most salient go first,
    `pixels` at a time.

    With `segments` (N, H, W), numbers of superpixels from 0, whole superpixels go, that
    with the largest mean first. Equal pixels go in the order in which they lie in the
    image.

    Raises ValueError if `pixels` is not between 1 and the number of pixels of a map.
    """
    if not 1 <= pixels <= maps[0].numel():
        raise ValueError(
            f"pixels must be between 1 and {maps[0].numel()}, got {pixels}"
        )
    if segments is not None:
        return torch.stack(
            [_segment_steps(*pair) for pair in zip(maps, segments, strict=True)]
        )
    order = torch.from_numpy(
        np.argsort(-maps.flatten(1).numpy(), axis=1, kind="stable")
    )
    places = torch.empty_like(order)
    places.scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return (places // pixels).reshape(maps.shape)


def _segment_steps(saliency: Tensor, segments: Tensor) -> Tensor:
    flat = segments.flatten()
    sums = torch.zeros(int(flat.max()) + 1, dtype=torch.float64).index_add_(
        0, flat, saliency.flatten().double()
    )
    means = sums / torch.bincount(flat).clamp_min(1)
    order = np.argsort(-means.numpy(), kind="stable")
    places = torch.empty(len(order), dtype=torch.long)
    places[torch.from_numpy(order)] = torch.arange(len(order))
    return places[segments]


def removal_curves(
    model: Module,
    images: Tensor,
    targets: Tensor,
    steps: Tensor,
    baselines: Tensor,
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Probability (N, L + 1) of the target class while pixels give way to the baseline,
    in the order of `steps`.

    `steps` (N, H, W) says in which step a pixel goes (from `steps_of`); entry k of a
    curve is the image without the pixels of steps 0 ... k - 1, so the first is the
    image and the last the baseline. Steps of a saliency map give the MoRF curve, which
    is RISE's deletion; steps of its negation the LeRF curve, and that read backwards is
    insertion.
    """
    check(images, baselines)
    baselines = baselines.expand_as(images)
    longest = int(steps.max()) + 2
    pairs = [(image, step) for image in range(len(images)) for step in range(longest)]
    found = []
    with evaluating(model) as network:
        for start in range(0, len(pairs), chunk):
            rows, step = torch.tensor(pairs[start : start + chunk]).T
            stays = (steps[rows] >= step[:, None, None])[:, None]
            found.append(
                probabilities(
                    network,
                    torch.where(stays, images[rows], baselines[rows]),
                    targets[rows],
                )
            )
    return torch.cat(found).reshape(len(images), longest)


def area(curves: Tensor) -> Tensor:
    """Mean height (N,) of curves (N, L + 1) by the trapezium rule; a constant curve has
    its constant.
    """
    return (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)


def aopc(curves: Tensor) -> Tensor:
    """Area over the perturbation curve (Samek et al. 2017): mean drop from the start of
    each curve (N, L + 1). (N,)
    """
    return (curves[:, :1] - curves).mean(1)


def hits(maps: Tensor, truth: Tensor) -> Tensor:
    """Pointing game: whether the largest pixel of each map (N, H, W) lies in the true
    mask (N, H, W). (N,) of 0 and 1
    """
    return (
        (top_pixels(maps, torch.ones(len(maps), dtype=torch.long)) & truth)
        .flatten(1)
        .any(1)
        .float()
    )


def overlap(maps: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (N,) of the true mask with as many of the map's largest
    pixels as it has.
    """
    found = top_pixels(maps, truth.flatten(1).sum(1))
    common, union = (found & truth).flatten(1).sum(1), (found | truth).flatten(1).sum(1)
    return common / union
