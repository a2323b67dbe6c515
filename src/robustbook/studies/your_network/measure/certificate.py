"""The fifth lens: for how many images is it proved that no perturbation up to a budget
changes the right answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbook.measure.bounds import certified as proved
from robustbook.stats import binomial_interval
from robustbook.studies.your_network.measure.attack import bounds_of
from robustbook.studies.your_network.measure.looking import Number, Seen
from robustbook.studies.your_network.networks import Examined

NAME = "certificate"
FRACTIONS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Budgets at which bounds are computed, in parts of the largest one."""
TOGETHER = 8


def passes(subject: Examined, *, budget: float, certified: int) -> int:
    """Bounds are no passes; each takes about as long as one a class."""
    count = min(certified, len(subject.images))
    return count * len(FRACTIONS) * subject.classes


def look(subject: Examined, *, budget: float, certified: int) -> Seen:
    """Share of the images that are right for certain at each budget.

    Raises ArgumentError that names the first layer for which there is no bound.
    """
    images, labels = subject.images[:certified], subject.labels[:certified]
    numbers = []
    radius = torch.zeros(len(images))
    for fraction in FRACTIONS:
        held: Tensor = proved(
            subject.layers,
            images,
            labels,
            epsilon=fraction * budget,
            method=bounds_of(subject),
            chunk=min(TOGETHER, subject.chunk),
        )
        radius[held.cpu()] = fraction * budget
        share = binomial_interval(int(held.sum()), len(held))
        factors = {"budget": fraction * budget}
        numbers.append(Number("certified share", share, "images", factors))
    return Seen(NAME, tuple(numbers), {"radius": radius})
