"""The first lens: how much accuracy attacks of growing strength leave, how far the
nearest mistake is, and psi.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from robustbook.errors import UserError, shortened
from robustbook.measure.bounds import Method, divergence_bound
from robustbook.measure.distance import minimal_distance
from robustbook.measure.divergence import worst_divergence
from robustbook.models.network import compute_logits
from robustbook.perturb.apgd import apgd, apgd_targeted
from robustbook.perturb.square import square_attack
from robustbook.stats import binomial_interval, bootstrap_median
from robustbook.studies.your_network.measure.looking import Factors, Number, Seen
from robustbook.studies.your_network.networks import Examined

NAME = "attack"
TARGETS = 3
"""Wrong classes that the targeted attack tries."""
BISECTIONS = 6
BOUNDED = 8
"""Images for which psi is bracketed."""
LARGE = 4000
"""Above so many pixel values bounds are the cheap ones."""
SMALLEST_KL = 1e-9


def passes(
    subject: Examined, *, budgets: Sequence[float], steps: int, queries: int
) -> int:
    """At most: no image falls, and every attack is tried on each."""
    targets = min(TARGETS, subject.classes - 1)
    each = 2 * steps * (1 + targets) + queries
    distance = 2 * steps * (BISECTIONS + 1)
    return len(subject.images) * (len(budgets) * each + distance + 2 * steps)


def look(
    subject: Examined, *, budgets: Sequence[float], steps: int, queries: int
) -> Seen:
    """Accuracy after each attack at each budget, on the images that all before it left
    right; the median distance to a mistake; psi at the middle budget.
    """
    attacks = {
        "APGD-CE": partial(apgd, steps=steps),
        "then APGD-T": partial(apgd_targeted, steps=steps, classes=TARGETS),
        "then Square": partial(square_attack, queries=queries),
    }
    numbers: list[Number] = []
    left, attacked = subject.right.clone(), subject.images.clone()
    for place, budget in enumerate(sorted(budgets)):
        for order, (name, attack) in enumerate(attacks.items()):
            rows = torch.nonzero(left).squeeze(1)
            if len(rows):
                found = attack(
                    subject.network,
                    subject.images[rows],
                    subject.labels[rows],
                    epsilon=budget,
                    generator=subject.generator(10 * place + order),
                    chunk=subject.chunk,
                )
                fallen = answers(subject, found) != subject.labels[rows]
                attacked[rows[fallen]] = found[fallen]
                left[rows[fallen]] = False
            share = binomial_interval(int(left.sum()), len(left))
            factors: Factors = {"attack": name, "budget": budget}
            numbers.append(Number("robust accuracy", share, "images", factors))
    middle = sorted(budgets)[len(budgets) // 2]
    numbers += _distance(subject, budgets, steps)
    bracket, remarks = _psi(subject, middle, steps)
    return Seen(NAME, (*numbers, *bracket), {"attacked": attacked}, remarks)


def answers(subject: Examined, images: Tensor) -> Tensor:
    """The class (n,) that the network gives each of `images`."""
    return compute_logits(subject.network, images, chunk=subject.chunk).argmax(1)


def _distance(subject: Examined, budgets: Sequence[float], steps: int) -> list[Number]:
    right = subject.right
    if int(right.sum()) < 2:
        raise UserError("fewer than two images get their right class")
    found = minimal_distance(
        subject.network,
        subject.images[right],
        subject.labels[right],
        epsilon_max=min(1.0, 2 * max(budgets)),
        generator=subject.generator(90),
        bisections=BISECTIONS,
        steps=steps,
        chunk=subject.chunk,
    )
    median = bootstrap_median(found.radius.cpu().numpy(), seed=subject.seed)
    return [Number("minimal distance", median, "images")]


def _psi(
    subject: Examined, budget: float, steps: int
) -> tuple[list[Number], tuple[str, ...]]:
    """Psi is at most what an ascent finds, and at least what a bound of the network
    allows, where there is one.
    """
    found = worst_divergence(
        subject.network,
        subject.images,
        epsilon=budget,
        steps=steps,
        step_size=budget / 5,
        generator=subject.generator(91),
        chunk=subject.chunk,
    )
    most = (1 / found.kl.clamp_min(SMALLEST_KL)).cpu().numpy()
    numbers = [_median(most, "at most", subject)]
    try:
        bound = divergence_bound(
            subject.layers,
            subject.images[:BOUNDED],
            epsilon=budget,
            method=bounds_of(subject),
            chunk=min(8, subject.chunk),
        )
    except (UserError, RuntimeError) as error:
        return numbers, (f"psi has no lower end: {shortened(str(error))}.",)
    least = (1 / bound.clamp_min(SMALLEST_KL)).cpu().numpy()
    return [*numbers, _median(least, "at least", subject)], ()


def bounds_of(subject: Examined) -> Method:
    """The method of bounds that the size of the images allows."""
    return "ibp" if subject.images[0].numel() > LARGE else "crown"


def _median(values: object, end: str, subject: Examined) -> Number:
    median = bootstrap_median(values, seed=subject.seed)  # type: ignore[arg-type]
    return Number("psi", median, "images", {"end": end})
