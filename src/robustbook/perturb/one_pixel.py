"""A change of one pixel (Su et al. 2019), by trying them all: no gradient, no search
that could stop too early.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import beside, compute_logits, frozen
from robustbook.perturb.gradient import margin

TRIED = 1024
"""Candidates that go through the network at once."""


@torch.no_grad()
def one_pixel(
    model: Module, images: Tensor, labels: Tensor, *, chunk: int = TRIED
) -> Tensor:
    """For each of `images` (N, C, H, W) the worst image that differs from it in one
    pixel, which is black, white or (of colour images) a corner of the colour cube.

    Worst is the largest margin of another class over the label (N,). An image costs
    2^C * H * W passes. A module of random predictions is asked afresh at every chunk.

    Raises ArgumentError for images, labels and networks that it cannot take.

    >>> attacked = one_pixel(model, images, labels)
    """
    images = beside(checks.network(model), checks.images(images))
    logits = checks.logits(compute_logits(model, images[:1]), 1)
    labels = checks.labels(labels, images, logits.shape[1])
    chunk = checks.whole(chunk, "chunk", at_least=1)
    channels, height, width = images.shape[1:]
    corners = images.new_tensor(list(itertools.product((0.0, 1.0), repeat=channels)))
    tries = list(itertools.product(range(height * width), range(len(corners))))
    ends = images.clone()
    with frozen(model):
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            worst = image.new_full((), -torch.inf)
            for start in range(0, len(tries), chunk):
                places, colours = zip(*tries[start : start + chunk], strict=True)
                points = image.flatten(1).expand(len(places), -1, -1).clone()
                points[range(len(places)), :, places] = corners[list(colours)]
                points = points.unflatten(2, (height, width))
                answers = checks.logits(model(points), len(points))
                leads, best = margin(answers, label.expand(len(points))).max(0)
                ends[row] = torch.where(leads > worst, points[best], ends[row])
                worst = torch.maximum(worst, leads)
    return ends
