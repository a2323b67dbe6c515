"""The strong reference: Auto-PGD twice, then Square Attack, each on the images that the
ones before it left (AutoAttack of Croce and Hein 2020, without its minimum-norm
attack).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import CHUNK, compute_logits
from robustbook.perturb.apgd import apgd, apgd_targeted
from robustbook.perturb.square import square_attack


def auto_attack(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    generator: Generator,
    steps: int = 100,
    classes: int = 9,
    queries: int = 5000,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images (N, C, H, W) by the first of three attacks that succeeds:
    `apgd` on the cross-entropy, `apgd_targeted`, `square_attack`.

    The result lies in the L-infinity ball of radius `epsilon` (pixel units) and in
    [0, 1]; the network's accuracy on it is its strong robust accuracy. Defaults are the
    paper's. An image that is misclassified when clean is returned as it is.

    Raises ArgumentError for images, labels, networks and numbers that it cannot take.

    >>> attacked = auto_attack(model, images, labels, epsilon=0.1, generator=generator)
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    shared: dict[str, Any] = {
        "epsilon": epsilon,
        "generator": generator,
        "chunk": chunk,
    }
    attacks: tuple[Callable[..., Tensor], ...] = (
        lambda *given: apgd(*given, steps=steps, **shared),
        lambda *given: apgd_targeted(*given, steps=steps, classes=classes, **shared),
        lambda *given: square_attack(*given, queries=queries, **shared),
    )
    ends = images.clone()
    rows = _still_right(model, images, labels, chunk)
    for attack in attacks:
        if not len(rows):
            break
        ends[rows] = attack(model, images[rows], labels[rows])
        rows = rows[_still_right(model, ends[rows], labels[rows], chunk)]
    return ends


def _still_right(model: Module, points: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """Indices of the points that are classified rightly."""
    logits = compute_logits(model, points, chunk=chunk)
    labels = checks.labels(labels, points, logits.shape[1])
    return torch.nonzero(logits.argmax(1) == labels).squeeze(1)
