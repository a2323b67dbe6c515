"""Sound upper bounds of D_KL(P || softmax(z)) over what is known of z: ranges, a fixed
sum, a fixed length.

Read `vertices` and `largest_at_vertices` first (a convex function is largest at a
corner), then `largest_by_tangent` (the fixed length makes it concave), then `plain` and
`normalised`, which take the least of all bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

MOST_CLASSES = 10
"""Corners are listed up to this number of classes: K * 2 ** (K - 1) of them."""
IMAGES_AT_ONCE = 16
CURVATURE = 0.25
"""Half the largest eigenvalue, 1/2, of the second derivative of log-sum-exp."""


@dataclass(frozen=True)
class Ranges:
    """Coordinate k of row n lies in [`lower`[n, k], `upper`[n, k]]; both (N, K)."""

    lower: Tensor
    upper: Tensor

    def __getitem__(self, part: slice | tuple[slice, slice]) -> Ranges:
        return Ranges(self.lower[part], self.upper[part])

    def insert_zero(self, position: Tensor) -> Ranges:
        """One coordinate more, which is always 0, at `position` (N,)."""
        rows, width = self.lower.shape
        keep = torch.arange(width + 1, device=position.device) != position[:, None]
        ends = self.lower.new_zeros(2, rows, width + 1)
        ends[0][keep], ends[1][keep] = self.lower.reshape(-1), self.upper.reshape(-1)
        return Ranges(ends[0], ends[1])

    def within(self, other: Ranges) -> Ranges:
        """What both ranges allow; where rounding leaves nothing, the two ends are
        exchanged.
        """
        lower, upper = (
            torch.maximum(self.lower, other.lower),
            torch.minimum(self.upper, other.upper),
        )
        return Ranges(torch.minimum(lower, upper), torch.maximum(lower, upper))


def plain(logits: Tensor, centred: Ranges, gaps: Ranges) -> Tensor:
    """Bound (N,) for the softmax of the logits as they are, at the clean `logits` (N,
    K).

    `centred` holds the logits less their mean, `gaps` their differences from one class
    (0 there).
    """
    return torch.minimum(
        _over_centred(logits, centred, None), _over_gaps(logits, gaps)
    ).clamp_min(0)


def normalised(
    logits: Tensor, centred: Ranges, gaps: Ranges, tangent: Ranges, along: Ranges
) -> Tensor:
    """Bound (N,) for normalised logits z = sqrt(K) c / |c|, at the clean normalised
    `logits` z0 (N, K).

    With c the centred logits before normalisation and h = c . z0 / K: `centred` holds
    c, `along` (N, 1) h, `tangent` c - h z0, and `gaps` the differences of `tangent`
    from the predicted class (0 there). What is used of z: its ranges, sum 0, |z|^2 = K.
    """
    shrink = _shrink(tangent, along)
    box = normalised_ranges(centred).within(
        _from_tangent(logits, tangent, along, shrink)
    )
    clean_gaps = logits - logits.amax(dim=1, keepdim=True)
    bounds = [
        _over_centred(logits, box, float(logits.shape[1])),
        _over_gaps(logits, _from_tangent(clean_gaps, gaps, along, shrink)),
        largest_by_tangent(logits, box),
    ]
    return torch.stack(bounds).amin(dim=0).clamp_min(0)


def normalised_ranges(centred: Ranges) -> Ranges:
    """Ranges of sqrt(K) c / |c| from ranges of c with sum 0.

    z_k grows with c_k; the squares of the other coordinates pull it towards 0.
    """
    classes = centred.lower.shape[1]
    least, most = _squares(centred)
    others_least, others_most = (
        least.sum(1, keepdim=True) - least,
        most.sum(1, keepdim=True) - most,
    )
    limit = (classes - 1) ** 0.5

    def ratio(value: Tensor, near: Tensor, far: Tensor) -> Tensor:
        others = torch.where(value > 0, near, far).clamp_min(0)
        length = (value.square() + others).sqrt()
        return (
            classes**0.5
            * value
            / torch.where(length > 0, length, torch.ones_like(length))
        )

    upper = ratio(centred.upper, others_least, others_most)
    lower = -ratio(-centred.lower, others_least, others_most)
    return Ranges(lower.clamp(-limit, limit), upper.clamp(-limit, limit))


def _shrink(tangent: Ranges, along: Ranges) -> Tensor:
    """Least value (N, 1) of 1 / sqrt(1 + |t / h|^2 / K), the length of z along the
    clean logits.
    """
    _, most = _squares(_quotient(tangent, along))
    return (1 + most.mean(dim=1, keepdim=True)).rsqrt()


def _from_tangent(
    clean: Tensor, tangent: Ranges, along: Ranges, shrink: Tensor
) -> Ranges:
    """Ranges of (clean + t / h) r with r in [`shrink`, 1]: what normalised logits, or
    their gaps, can be.

    Exact to first order: moving along the clean logits changes no normalised logit.
    Where h may be 0 or less the limit sqrt(2 K) of any gap is all that is known.
    """
    moved = _quotient(tangent, along)
    upper, lower = clean + moved.upper, clean + moved.lower
    limit = torch.full_like(upper, (2 * upper.shape[1]) ** 0.5)
    known = along.lower > 0
    upper = torch.where(known, torch.maximum(upper, upper * shrink), limit)
    lower = torch.where(known, torch.minimum(lower, lower * shrink), -limit)
    return Ranges(torch.maximum(lower, -limit), torch.minimum(upper, limit))


def _quotient(tangent: Ranges, along: Ranges) -> Ranges:
    """Ranges of t / h where h is positive; of no meaning elsewhere."""
    small, large = along.lower.clamp_min(1e-12), along.upper.clamp_min(1e-12)
    upper = tangent.upper / torch.where(tangent.upper > 0, small, large)
    return Ranges(tangent.lower / torch.where(tangent.lower < 0, small, large), upper)


def _squares(ranges: Ranges) -> tuple[Tensor, Tensor]:
    """Least and most that each coordinate's square can be."""
    least = torch.maximum(ranges.lower, -ranges.upper).clamp_min(0).square()
    return least, torch.maximum(ranges.lower.abs(), ranges.upper.abs()).square()


def divergence(logits: Tensor, points: Tensor) -> Tensor:
    """D_KL(softmax(logits) || softmax(points)) (N, V) for logits (N, K) and points (N,
    V, K).
    """
    log_p = logits.log_softmax(dim=1)
    p = log_p.exp()
    return (
        (p * log_p).sum(1, keepdim=True)
        + points.logsumexp(dim=2)
        - torch.einsum("nk,nvk->nv", p, points)
    )


@lru_cache(maxsize=4)
def _corners(classes: int, device: torch.device) -> Tensor:
    """All (2 ** K, K) choices between the lower end (False) and the upper end
    (True).
    """
    codes = torch.arange(2**classes, device=device)
    return ((codes[:, None] >> torch.arange(classes, device=device)) & 1).bool()


@lru_cache(maxsize=4)
def _balanced_corners(classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Choices (V, K) for all coordinates but one, and a mask (V, K) of that one, which
    then balances the sum.
    """
    halves = _corners(classes - 1, device)
    choices, free = [], []
    for position in range(classes):
        zero = halves.new_zeros(len(halves), 1)
        choices.append(
            torch.cat([halves[:, :position], zero, halves[:, position:]], dim=1)
        )
        places = torch.arange(classes, device=device)
        free.append(places.eq(position).expand(len(halves), -1))
    return torch.cat(choices), torch.cat(free)


def vertices(ranges: Ranges) -> tuple[Tensor, Tensor]:
    """Vertices (N, V, K) of the part of a box where the coordinates sum to 0, and which
    of them (N, V) exist.
    """
    choices, free = _balanced_corners(ranges.lower.shape[1], ranges.lower.device)
    lower, upper = ranges.lower[:, None], ranges.upper[:, None]
    points = torch.where(choices, upper, lower).masked_fill(free, 0)
    balance = -points.sum(dim=2, keepdim=True)
    tolerance = 1e-9 * (1 + upper.abs().amax(dim=2))
    exists = (balance[..., 0] >= (lower * free).sum(2) - tolerance) & (
        balance[..., 0] <= (upper * free).sum(2) + tolerance
    )
    return torch.where(free, balance, points), exists


def largest_at_vertices(logits: Tensor, ranges: Ranges, length: float | None) -> Tensor:
    """Largest divergence (N,) over a box cut by sum 0: exact, because a convex function
    is largest at a vertex.

    With `length` (|z|^2 of every point that counts, the clean `logits` among them) a
    multiple of what is then 0 or positive is added before the vertices are compared;
    every multiple gives a sound bound, and the least is returned.
    """
    points, exists = vertices(ranges)
    values = divergence(logits, points).masked_fill(~exists, -torch.inf)
    if length is None:
        return values.amax(dim=1)
    along = torch.einsum("nk,nvk->nv", logits, points) - length
    excess = points.square().sum(dim=2) - length
    away = (
        (points - logits[:, None])
        .square()
        .sum(dim=2)
        .masked_fill(~exists, 0)
        .amax(dim=1, keepdim=True)
    )
    best = values.amax(dim=1)
    for squeeze in (0.0, 0.02, 0.05, 0.1, 0.2):
        convex = values + squeeze * excess
        for weight in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
            # With |z|^2 = |logits|^2 = length,
            # -|z - logits|^2 / 2 <= z . logits - length <= 0.
            best = torch.minimum(
                best, (convex + weight * (along + away / 2)).amax(dim=1)
            )
            best = torch.minimum(best, (convex - weight * along).amax(dim=1))
    # A box around 0 holds constant logits, which have no length.
    around_zero = ((ranges.lower <= 0) & (ranges.upper >= 0)).all(dim=1)
    return torch.where(around_zero, values.amax(dim=1), best)


def largest_by_tangent(logits: Tensor, ranges: Ranges, steps: int = 60) -> Tensor:
    """Bound (N,) over a box cut by sum 0 and |z|^2 = K, where divergence + (K - |z|^2)
    / 4 equals the divergence.

    That function is concave, so it lies below its tangent at every point; the tangent
    is maximised over the box, and over the sphere alone, in closed form. `steps` of a
    fixed-point iteration look for a good point to touch.
    """
    p, classes = logits.softmax(dim=1), logits.shape[1]
    touch = logits.clone()
    for _ in range(steps):
        slope = touch.softmax(dim=1) - p
        touch = torch.minimum(
            torch.maximum((touch + slope / CURVATURE / 2) / 2, ranges.lower),
            ranges.upper,
        )
    slope = touch.softmax(dim=1) - p - 2 * CURVATURE * touch
    height = divergence(logits, touch[:, None])[:, 0] + CURVATURE * (
        classes - touch.square().sum(dim=1)
    )
    over_sphere = classes**0.5 * (slope - slope.mean(dim=1, keepdim=True)).norm(dim=1)
    reach = torch.minimum(_largest_linear(slope, ranges), over_sphere)
    return height - (slope * touch).sum(dim=1) + reach


def _largest_linear(slope: Tensor, ranges: Ranges) -> Tensor:
    """Largest slope . z (N,) over a box cut by sum 0: for every shift of the slope a
    bound, for the best one exact.
    """
    shifted = slope[:, None, :] - slope[:, :, None]
    ends = torch.maximum(
        shifted * ranges.lower[:, None], shifted * ranges.upper[:, None]
    )
    return ends.sum(dim=2).amin(dim=1)


def _over_centred(logits: Tensor, ranges: Ranges, length: float | None) -> Tensor:
    if logits.shape[1] > MOST_CLASSES:
        return _corner_bound(logits, ranges)
    parts = [
        slice(start, start + IMAGES_AT_ONCE)
        for start in range(0, len(logits), IMAGES_AT_ONCE)
    ]
    return torch.cat(
        [largest_at_vertices(logits[part], ranges[part], length) for part in parts]
    )


def _over_gaps(logits: Tensor, gaps: Ranges) -> Tensor:
    """Largest divergence (N,) over a box of differences from one class: the softmax
    does not see the shift.
    """
    if logits.shape[1] > MOST_CLASSES:
        return _corner_bound(logits, gaps)
    corners = _corners(logits.shape[1], logits.device)
    parts = [
        slice(start, start + IMAGES_AT_ONCE)
        for start in range(0, len(logits), IMAGES_AT_ONCE)
    ]
    return torch.cat(
        [
            divergence(
                logits[part],
                torch.where(corners, gaps.upper[part, None], gaps.lower[part, None]),
            ).amax(dim=1)
            for part in parts
        ]
    )


def _corner_bound(logits: Tensor, ranges: Ranges) -> Tensor:
    """Every term at its worst on its own: sound for any number of classes, and
    loose.
    """
    log_p = logits.log_softmax(dim=1)
    p = log_p.exp()
    return (
        (p * log_p).sum(dim=1)
        + ranges.upper.logsumexp(dim=1)
        - (p * ranges.lower).sum(dim=1)
    )
