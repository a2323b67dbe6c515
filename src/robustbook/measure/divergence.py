"""The metric psi of Yu et al. (2019): one over the largest divergence of a prediction
inside a ball.

Read `normalise_logits` and `kl_divergence` first, then `worst_divergence` (the ascent),
then `psi`; `divergence_from` is what other searches make large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.models.network import CHUNK, Objective, Passes, compute_logits
from robustbook.perturb.ascent import ascend, random_starts

Direction = Literal["forward", "reverse"]
"""Which prediction the divergence is taken from: that on the image ("forward", D(P(x)
|| P(x + delta))) or the perturbed one ("reverse", D(P(x + delta) || P(x))).
"""


def normalise_logits(logits: Tensor) -> Tensor:
    """`logits` (..., K) with mean 0 and population deviation 1 over the classes;
    constant logits become 0.

    Yu et al. (2019), section on re-parameterisation: a positive factor or a shift of
    all logits cancels.
    """
    checks.tensor(logits, "logits")
    # Only the direction of the logits matters, so their size goes first: no square can
    # overflow or vanish.
    size = logits.detach().abs().amax(dim=-1, keepdim=True)
    unit = logits / torch.where(size > 0, size, torch.ones_like(size))
    centred = unit - unit.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    constant = variance <= (4 * torch.finfo(logits.dtype).eps) ** 2
    return centred * torch.where(
        constant, torch.zeros_like(variance), variance.clamp_min(1e-30).rsqrt()
    )


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """D_KL(softmax(p_logits) || softmax(q_logits)) in nats, for logits (..., K); the
    result has shape (...).
    """
    checks.tensor(p_logits, "p_logits")
    checks.tensor(q_logits, "q_logits")
    log_p, log_q = p_logits.log_softmax(dim=-1), q_logits.log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


@dataclass(frozen=True)
class WorstCase:
    """The largest divergence that an ascent found: `kl` (N,) in nats, the `images` (N,
    C, H, W) there, and its cost.
    """

    kl: Tensor
    images: Tensor
    passes: Passes


def worst_divergence(
    model: Module,
    images: Tensor,
    *,
    epsilon: float | Tensor,
    steps: int,
    step_size: float | Tensor,
    generator: Generator,
    restarts: int = 1,
    normalise: bool = True,
    direction: Direction = "forward",
    chunk: int = CHUNK,
) -> WorstCase:
    """Largest D_KL(P(x) || P(x + delta)) that gradient-sign ascent finds with
    max|delta| <= epsilon (Yu et al. 2019); "reverse" swaps the two predictions.

    P is the softmax of the normalised logits (of the logits as they are with
    `normalise=False`). The gradient is zero at delta = 0, so each of the `restarts`
    starts at a uniform point of the ball drawn from `generator`. The best of all points
    visited is kept: with the same generator seed, more steps or restarts never lower
    `kl`. An image costs 1 + restarts * (steps + 1) forward and restarts * steps
    backward passes.

    Raises ArgumentError if images, network or numbers are out of range.
    """
    images, epsilon = checks.images(images), checks.budget(epsilon, images)
    restarts = checks.whole(restarts, "restarts", at_least=1)
    checks.generator(generator)
    logits = checks.logits(compute_logits(model, images, chunk=chunk), len(images))
    clean = log_prediction(logits, normalise=normalise)
    divergence = divergence_from(normalise=normalise, direction=direction)
    best = _Best(images)
    for _ in range(restarts):
        ascend(
            model,
            images,
            clean,
            divergence,
            epsilon=epsilon,
            steps=steps,
            step_size=step_size,
            starts=random_starts(images, epsilon, generator),
            observe=best,
            chunk=chunk,
        )
    count = len(images)
    # In a ball of radius 0 nothing but rounding can differ.
    moved = best.values * (torch.as_tensor(epsilon, device=images.device) > 0)
    return WorstCase(
        moved,
        best.points,
        Passes(count * (1 + restarts * (steps + 1)), count * restarts * steps),
    )


def psi(kl: Tensor) -> Tensor:
    """The robustness metric 1 / `kl` (Yu et al. 2019), any shape, from divergences in
    nats; infinite where none was found.

    Raises ArgumentError if a divergence is negative (beyond rounding) or not finite.

    >>> psi(torch.tensor([0.5, 0.0])).tolist()
    [2.0, inf]
    """
    kl = checks.tensor(kl, "kl")
    if bool((kl < -1e-6).any()):
        raise ArgumentError("kl", "at least 0", f"values from {float(kl.min()):g}")
    return 1 / kl.clamp_min(0)


def log_prediction(logits: Tensor, *, normalise: bool = True) -> Tensor:
    """Log-probabilities (..., K) that psi compares, in float64: a divergence near 0 is
    the difference of much larger numbers.

    Raises ArgumentError if `logits` are no finite tensor.
    """
    logits = checks.tensor(logits, "logits").double()
    return (normalise_logits(logits) if normalise else logits).log_softmax(dim=-1)


def divergence_from(
    *, normalise: bool = True, direction: Direction = "forward"
) -> Objective:
    """The objective of psi for any ascent: the divergence (n,) in nats between logits
    (n, K) and fixed predictions, given as `log_prediction` (n, K).

    Raises ArgumentError if `direction` is neither "forward" nor "reverse".
    """
    reverse = checks.one_of(direction, "direction", ("forward", "reverse")) == "reverse"

    def divergence(logits: Tensor, log_p: Tensor) -> Tensor:
        return cast(Tensor, _Divergence.apply(logits, log_p, normalise, reverse))

    return divergence


class _Best:
    """Observer that keeps, for each image, the visited point with the highest value
    (the image itself has value 0).
    """

    def __init__(self, images: Tensor) -> None:
        self.points = images.clone()
        self.values = images.new_zeros(len(images))

    def __call__(
        self, rows: Tensor, points: Tensor, logits: Tensor, values: Tensor
    ) -> None:
        # No row ever finishes here, so the rows of a chunk are consecutive and their
        # places are views.
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        kept, kept_points, values = (
            self.values[part],
            self.points[part],
            values.to(self.values),
        )
        better = values > kept
        if bool(better.all()):
            kept_points.copy_(points)
        else:
            update = better.nonzero().squeeze(1)
            kept_points.index_copy_(0, update, points.index_select(0, update))
        torch.maximum(values, kept, out=kept)


class _Divergence(torch.autograd.Function):
    """`kl_divergence` to a fixed prediction, with its gradient written out: many small
    steps cost more than the network.

    With z the normalised logits, s the deviation that they were divided by and g the
    gradient with respect to z, the gradient with respect to the logits is (g - z mean(g
    z)) / s, since mean(g) = 0; without normalisation it is g. Here g = q - p, and in
    reverse g = q (log q - log p - D).
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, log_p: Tensor, normalise: bool, reverse: bool
    ) -> Tensor:
        ctx.dtype = logits.dtype
        prediction, inverse = logits.double(), None
        if normalise:
            mean = prediction.mean(dim=-1, keepdim=True)
            prediction = prediction - mean
            # What is added decides for logits that are constant but for float64's
            # rounding: they become 0.
            size = (
                prediction.square().mean(dim=-1, keepdim=True)
                + (1e-10 * mean).square_()
                + 1e-300
            )
            inverse = size.rsqrt_()
            prediction = prediction * inverse
        log_q = prediction.log_softmax(dim=-1)
        if reverse:
            q, ratio = log_q.exp(), log_q - log_p
            values = (q * ratio).sum(dim=-1)
            gradient = q.mul_(ratio.sub_(values.unsqueeze(-1)))
        else:
            p = log_p.exp()
            values = (p * (log_p - log_q)).sum(dim=-1)
            gradient = log_q.exp_().sub_(p)
        ctx.save_for_backward(prediction, inverse, gradient)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, None, None, None]:
        prediction, inverse, gradient = ctx.saved_tensors
        if inverse is not None:
            along = (gradient * prediction).mean(dim=-1, keepdim=True)
            gradient = (gradient - prediction * along) * inverse
        return (gradient * weight.unsqueeze(-1)).to(ctx.dtype), None, None, None
