"""CLEVER (Weng et al. 2018): a robustness score from the largest gradients of logit
differences near an image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import weibull_max
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.models.network import CHUNK, beside, frozen
from robustbook.perturb.ascent import random_starts

Array = npt.NDArray[np.float64]
RUNAWAY = 10.0
"""Ranges of the sample above its largest value at which a fitted end point counts as
infinite.
"""


def clever(
    model: Module,
    image: Tensor,
    *,
    radius: float,
    generator: Generator,
    batches: int = 10,
    batch_size: int = 100,
    chunk: int = CHUNK,
) -> float:
    """Untargeted CLEVER score of one `image` (C, H, W): an estimate, not a bound, of
    its L-infinity distance in pixels.

    For each class i other than the predicted t, the local Lipschitz constant of Z_t -
    Z_i is estimated as the location of a reverse Weibull distribution fitted to
    `batches` largest L1 gradient norms, each of `batch_size` uniform points of the ball
    of `radius` (cut to [0, 1]). The score is the smallest (Z_t - Z_i) / constant, and
    at most `radius`. It costs 1 + `batches` * `batch_size` forward and K - 1 times as
    many backward passes.

    Raises ArgumentError if the image leaves [0, 1], `radius` is not positive, or
    `batches` or `batch_size` is less than 1.
    """
    image = checks.images(checks.tensor(image, "image", dimensions=3)[None], "image")[0]
    radius = checks.real(radius, "radius", above=0)
    batches = checks.whole(batches, "batches", at_least=1)
    batch_size = checks.whole(batch_size, "batch_size", at_least=1)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    checks.generator(generator)
    image = beside(checks.network(model), image)
    with frozen(model):
        with torch.no_grad():
            logits = checks.logits(model(image[None]), 1)[0]
        predicted = int(logits.argmax())
        others = [i for i in range(len(logits)) if i != predicted]
        points = random_starts(
            image.expand(batches * batch_size, *image.shape), radius, generator
        ).clamp_(0, 1)
        norms = torch.cat(
            [
                _gradient_norms(model, part, predicted, others)
                for part in points.split(chunk)
            ]
        )
    largest = (
        norms.view(batches, batch_size, len(others)).amax(dim=1).double().cpu().numpy()
    )
    margins = (logits[predicted] - logits[others]).double().cpu().numpy()
    constants = np.array([lipschitz_estimate(column) for column in largest.T])
    scores = np.divide(
        margins, constants, out=np.full_like(margins, radius), where=constants > 0
    )
    return float(min(scores.min(), radius))


def lipschitz_estimate(largest: Array) -> float:
    """Upper end point of the reverse Weibull distribution fitted to `largest` (n,) by
    maximum likelihood.

    On some samples the likelihood grows without end as shape and end point go to
    infinity together; an end point further than `RUNAWAY` times the sample's range
    above its largest value is taken for that, and the largest value is returned in its
    place. No estimate is below the largest value, and a constant sample is its own end
    point.
    """
    largest = checks.values(largest, "largest")
    top, spread = float(largest.max()), float(np.ptp(largest))
    if spread <= 1e-9 * abs(top):
        return top
    _, location, _ = weibull_max.fit(largest, 1.0, loc=top, scale=float(largest.std()))
    return float(location) if top <= location <= top + RUNAWAY * spread else top


def _gradient_norms(
    model: Module, points: Tensor, predicted: int, others: list[int]
) -> Tensor:
    """L1 norms (n, K - 1) of the gradients of Z_t - Z_i at `points` (n, C, H, W)."""
    leaf = points.detach().requires_grad_()
    norms = []
    with torch.enable_grad():
        logits = checks.logits(model(leaf), len(points))
        gaps = (logits[:, [predicted]] - logits[:, others]).sum(dim=0)
        for gap in gaps:
            (gradient,) = torch.autograd.grad(gap, leaf, retain_graph=True)
            norms.append(gradient.abs().flatten(1).sum(dim=1))
    return torch.stack(norms, dim=1)
