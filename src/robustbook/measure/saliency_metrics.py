"""How good a saliency map is: removal curves (MoRF, LeRF, insertion, deletion) and,
where the truth is planted, hits.

Read `steps_of` first (in which step a pixel goes), then `removal_curves`, then `area`
and `aopc`, then the two measures that need a true mask.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.saliency import asked, chosen, evaluating, pixel_numbers
from robustbook.measure.similarity import places
from robustbook.models.network import CHUNK


def steps_of(
    maps: Tensor, *, pixels: int = 1, segments: Tensor | None = None
) -> Tensor:
    """Step (N, H, W), from 0, in which each pixel goes when the most salient go first,
    `pixels` at a time.

    With `segments` (N, H, W), numbers of superpixels from 0, whole superpixels go, that
    with the largest mean first. Equal pixels go in the order in which they lie in the
    image.

    >>> steps_of(torch.tensor([[[0.2, 0.9, 0.5]]]))
    tensor([[[2, 0, 1]]])

    Raises ArgumentError if maps are not floating and finite, `pixels` is not between 1
    and the number of pixels of a map, or segments do not fit.
    """
    order = places(maps)
    pixels = checks.whole(pixels, "pixels", at_least=1, at_most=maps[0].numel())
    if segments is None:
        return order // pixels
    segments = pixel_numbers(segments, "segments", maps)
    return torch.stack(
        [_segment_steps(*pair) for pair in zip(maps.detach(), segments, strict=True)]
    )


def _segment_steps(saliency: Tensor, segments: Tensor) -> Tensor:
    flat = segments.flatten()
    counts = torch.bincount(flat)
    sums = torch.zeros(len(counts), dtype=torch.float64, device=flat.device)
    sums.index_add_(0, flat, saliency.flatten().double())
    return places((sums / counts.clamp_min(1))[None, None])[0, 0][segments]


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

    Raises ArgumentError if images, targets, steps, baselines or the model's outputs do
    not fit.
    """
    seen = asked(model, images, targets, baselines)
    steps = pixel_numbers(steps, "steps", seen.images)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    longest = int(steps.max()) + 2
    pairs = torch.cartesian_prod(
        *(torch.arange(n, device=steps.device) for n in (len(images), longest))
    )
    found = []
    with evaluating(model, seen.dtype) as network:
        for rows, step in (part.T for part in pairs.split(chunk)):
            stays = (steps[rows] >= step[:, None, None])[:, None]
            covered = torch.where(stays, seen.images[rows], seen.baselines[rows])
            found.append(chosen(network(covered), seen.targets[rows]))
    return torch.cat(found).reshape(len(images), longest)


def _curves(given: Tensor) -> Tensor:
    curves = checks.tensor(given, "curves", dimensions=2)
    if curves.shape[1] < 2 or not len(curves):
        raise ArgumentError(
            "curves", "a tensor (N, L + 1) of at least one step", curves
        )
    return curves


def area(curves: Tensor) -> Tensor:
    """Mean height (N,) of curves (N, L + 1) by the trapezium rule; a constant curve has
    its constant.

    >>> area(torch.tensor([[1.0, 0.5, 0.0]]))
    tensor([0.5000])
    """
    curves = _curves(curves)
    return (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)


def aopc(curves: Tensor) -> Tensor:
    """Area over the perturbation curve (Samek et al. 2017): mean drop from the start of
    each curve (N, L + 1). (N,)
    """
    curves = _curves(curves)
    return (curves[:, :1] - curves).mean(1)


def _truth(maps: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Places (N, H, W) of the pixels of `maps`, and the checked masks."""
    order = places(maps)
    truth = checks.mask(truth, "truth", order.shape).to(order.device)
    if not bool(truth.flatten(1).any(1).all()):
        raise ArgumentError(
            "truth", "a mask of at least one pixel each", "an empty one"
        )
    return order, truth


def hits(maps: Tensor, truth: Tensor) -> Tensor:
    """Pointing game: whether the largest pixel of each map (N, H, W) lies in the true
    mask (N, H, W). (N,) of 0 and 1

    Raises ArgumentError if maps are not finite or a mask is empty or does not fit.
    """
    order, truth = _truth(maps, truth)
    return ((order < 1) & truth).flatten(1).any(1).float()


def overlap(maps: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (N,) of the true mask with as many of the map's largest
    pixels as it has.

    Raises ArgumentError as `hits` does.
    """
    order, truth = _truth(maps, truth)
    found = order < truth.sum((1, 2), keepdim=True)
    return (found & truth).sum((1, 2)) / (found | truth).sum((1, 2))
