"""Is there an input in a box that changes a network's answer? For many posterior
samples at once.

Read `Region` (the inputs in question) and `Reach` (how far the answer moves) first.
Three oracles bound the reach: `measure.region_attack` from below,
`measure.certificate` from above, `measure.branch_and_bound` from both sides. Then read
`verify`, which samples, asks an oracle and stops as a rule of `measure.sequential`
says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustbook import checks
from robustbook.bayes.protocol import Posterior, decisions, probabilities
from robustbook.bayes.weights import WeightSamples
from robustbook.checks import ArgumentError
from robustbook.measure.sequential import Estimate, Rule

CACHE = 8 * 2**20
"""Bytes of weights that run together: they stay in the processor's cache from one step
of an attack to the next.
"""


@dataclass(frozen=True, eq=False)
class Region:
    """Boxes around `images` (N, C, H, W): all inputs between `low` and `high` (N, C, H,
    W), cut to [0, 1].

    `epsilon` is the perturbation budget in pixel units, before the cut.
    """

    images: Tensor
    low: Tensor
    high: Tensor
    epsilon: float

    def take(self, chosen: Tensor) -> Region:
        """The boxes of some of the images."""
        return Region(
            self.images[chosen], self.low[chosen], self.high[chosen], self.epsilon
        )


def ball(images: Tensor, epsilon: float) -> Region:
    """The L-infinity ball of radius `epsilon` around each of `images` (N, C, H, W).

    Raises ArgumentError if `epsilon` is negative or an image leaves [0, 1].
    """
    return pixel_box(images, epsilon, None)


def pixel_box(
    images: Tensor, epsilon: float, pixels: Sequence[tuple[int, int]] | None
) -> Region:
    """Inputs that differ from each image by at most `epsilon`, and only at the `pixels`
    (row, column); None: anywhere.

    Raises ArgumentError if `epsilon` is negative, an image leaves [0, 1], or a pixel is
    not in the image.
    """
    images = checks.images(images)
    epsilon = checks.real(epsilon, "epsilon", at_least=0)
    height, width = images.shape[2:]
    radius = images.new_full((height, width), epsilon if pixels is None else 0.0)
    for pixel in () if pixels is None else pixels:
        place = checks.array(pixel, "pixels")
        inside = place.shape == (2,) and bool(
            ((place >= 0) & (place < (height, width)) & (place % 1 == 0)).all()
        )
        if not inside:
            allowed = f"(row, column) in an image of {height} x {width}"
            raise ArgumentError("pixels", allowed, pixel)
        row, column = place
        radius[int(row), int(column)] = epsilon
    return Region(
        images, (images - radius).clamp(min=0), (images + radius).clamp(max=1), epsilon
    )


@dataclass(frozen=True, eq=False)
class Reach:
    """How far the answer of each sample moves within each box, or a bound of it: two
    tensors (S, N).

    `distance` is the largest change of the class probabilities (2-norm; of the one
    probability if there is one logit), `margin` the largest logit of another class
    minus that of the class at the image: positive if the decision changes.
    """

    distance: Tensor
    margin: Tensor

    def moves(self, delta: float) -> Tensor:
        """Problem 1: whether the probabilities move by more than `delta` (S, N)."""
        return self.distance > delta

    @property
    def flips(self) -> Tensor:
        """Problem 2: whether the decision changes (S, N)."""
        return self.margin > 0

    def farther(self, other: Reach) -> Reach:
        """The larger of two lower bounds."""
        return Reach(
            torch.maximum(self.distance, other.distance),
            torch.maximum(self.margin, other.margin),
        )


def by_chunks(
    samples: WeightSamples, chunk: int | None, oracle: Callable[[WeightSamples], Reach]
) -> Reach:
    """An oracle on `chunk` samples at a time, by default as many as stay in the
    cache. Raises ArgumentError if `chunk` is less than 1.
    """
    checks.having(samples, "samples", "weights", "architecture")
    size = sum(
        tensor[0].numel() * tensor.element_size() for tensor in samples.weights.values()
    )
    if chunk is None:
        chunk = min(max(CACHE // max(size, 1), 2), 64)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    found = [
        oracle(samples.take(slice(start, start + chunk)))
        for start in range(0, len(samples), chunk)
    ]
    return Reach(
        torch.cat([each.distance for each in found]),
        torch.cat([each.margin for each in found]),
    )


@dataclass(frozen=True, eq=False)
class Answer:
    """What each sample says at the images themselves: class probabilities (S, N, K) and
    decisions (S, N).
    """

    probabilities: Tensor
    classes: Tensor

    def reach(self, logits: Tensor) -> Reach:
        """How far `logits` (S, N, K) are from this answer."""
        change = probabilities(logits) - self.probabilities
        distance = (
            change[..., 1].abs() if logits.shape[-1] == 1 else change.norm(dim=-1)
        )
        return Reach(distance, margins(logits, self.classes))


def answer(logits: Tensor) -> Answer:
    """The answer that logits (S, N, K) give."""
    return Answer(probabilities(logits), decisions(logits))


def margins(logits: Tensor, classes: Tensor) -> Tensor:
    """Largest logit of another class minus that of `classes` (S, N), from logits (S, N,
    K).
    """
    if logits.shape[-1] == 1:
        return logits.squeeze(-1) * (1 - 2 * classes)
    own = logits.gather(-1, classes[..., None]).squeeze(-1)
    return logits.scatter(-1, classes[..., None], -torch.inf).amax(-1) - own


# Sampling and verification together
# --------------------------------------------------------------------------------------

Oracle = Callable[[WeightSamples, Region], Tensor]
"""`(samples, region) -> (S, N)` whether each sample's answer moves (Problem 1) or
changes (Problem 2) on each box.
"""


@dataclass(frozen=True)
class Verification:
    """One estimate an image, the posterior samples drawn, and the pairs of sample and
    image that were asked.
    """

    estimates: list[Estimate]
    samples: int
    calls: int


def verify(
    posterior: Posterior,
    region: Region,
    oracle: Oracle,
    rule: Rule,
    generator: Generator,
) -> Verification:
    """Estimate for each image the probability that a posterior sample's answer moves,
    by a stopping rule.

    All images see the same samples, so their estimates depend on each other. Samples
    are drawn in blocks that every running image needs in any case, and an image whose
    rule has stopped is asked no more: no oracle call is in vain.

    Raises ArgumentError if an argument is none of those.
    """
    checks.having(posterior, "posterior", "draw", "architecture")
    checks.having(region, "region", "low", "high", "images")
    checks.having(rule, "rule", "stops", "estimates", "waits")
    checks.generator(generator)
    # The counts stay on the CPU, where the rule's tables are.
    n, k = torch.zeros(2, len(region.images), dtype=torch.long, device="cpu")
    drawn = calls = 0
    while len(active := _still_running(rule, n, k)):
        block = min(int(rule.waits[n[i], k[i]]) for i in active.tolist())
        answers = oracle(posterior.draw(block, generator), region.take(active))
        n[active] += block
        k[active] += answers.long().sum(0).cpu()
        drawn, calls = drawn + block, calls + block * len(active)
    estimates = [
        Estimate(float(rule.estimates[a, b]), a, b, rule.theta)
        for a, b in zip(n.tolist(), k.tolist(), strict=True)
    ]
    return Verification(estimates, drawn, calls)


def _still_running(rule: Rule, n: Tensor, k: Tensor) -> Tensor:
    stops = [
        bool(rule.stops[a, b]) for a, b in zip(n.tolist(), k.tolist(), strict=True)
    ]
    return torch.tensor(
        [index for index, stopped in enumerate(stops) if not stopped],
        dtype=torch.long,
        device="cpu",
    )
