"""A tighter sound upper bound of the largest divergence of normalised logits than
`bounds.divergence_bound`, at the price of seconds an image.

Read `tight_divergence_bound` first, then its three steps: `Sharpened` (linear forms
bounded with slopes that are optimised, Xu et al. 2021), `Displacements` (how far the
prediction can move along a direction: a quotient of two forms, bounded as one) and
`Search` (branch and bound for the divergence over all that the directions allow).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush, heapreplace
from math import inf
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import logsumexp
from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.measure.bounds import centring, divergence_bound, input_box
from robustbook.measure.divergence import normalise_logits
from robustbook.measure.propagation import ROWS, Affine, Box, Propagation, Rectifier
from robustbook.models.network import compute_logits

Array = NDArray[np.float64]
CLOSE = 0.8
"""Share of a bound that a point must attain for the cell to be left whole."""
GAIN = 1e-3
"""Least share that a new direction must take off, or the search ends."""
RATE, DECAY = 0.1, 0.95
"""Step of the slopes' ascent, and the share of it that is left after each."""
HALVINGS = 10
OUTWARDS = 1e-5
"""Share that is added for what float64 loses outside the network's own bounds."""


def tight_divergence_bound(
    model: Module,
    images: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    units: int = 1000,
    looks: int = 300,
    cuts: int = 20,
) -> Tensor:
    """Sound upper bound (N,) in nats of the largest D_KL(P(x) || P(x + delta)) with
    max|delta| <= epsilon, never above `divergence_bound` by "crown".

    P is the softmax of normalised logits. Slopes take `steps` of ascent, those of inner
    layers only where at most `units` ReLUs are undecided; the branch and bound looks at
    `looks` cells and bounds `cuts` directions more. Images are bounded one by one.

    Raises ArgumentError as `divergence_bound` does.
    """
    images = checks.images(images)
    steps = checks.whole(steps, "steps", at_least=1)
    units = checks.whole(units, "units", at_least=1)
    looks = checks.whole(looks, "looks", at_least=1)
    cuts = checks.whole(cuts, "cuts", at_least=0)
    usual = divergence_bound(model, images, epsilon=epsilon)
    found = [
        _one(model, images[[row]], epsilon, steps, units, looks, cuts)
        for row in range(len(images))
    ]
    return torch.minimum(usual, torch.stack(found).to(usual))


def _one(
    model: Module,
    image: Tensor,
    epsilon: float,
    steps: int,
    units: int,
    looks: int,
    cuts: int,
) -> Tensor:
    """The bound () of one image, infinite where the prediction may turn round."""
    clean = normalise_logits(compute_logits(model, image).double())[0]
    if len(clean) < 3:
        return clean.new_tensor(torch.inf)
    network = Sharpened(model, input_box(image, epsilon))
    network.sharpen(steps, units)
    moved = Displacements(network, clean, steps)
    if moved.least_along <= 0:
        return clean.new_tensor(torch.inf)
    return clean.new_tensor(Search(moved).run(looks, cuts) * (1 + OUTWARDS))


# Linear forms
# --------------------------------------------------------------------------------------


class _Pulled(torch.autograd.Function):
    """`Affine.transposed` with its derivative, which is `Affine.product`."""

    @staticmethod
    def forward(ctx: Any, form: Tensor, shape: torch.Size, layer: Affine) -> Tensor:
        ctx.layer = layer
        return layer.transposed(form, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.layer.product(gradients[0]), None, None


def _differentiable(layer: Affine) -> Affine:
    def pulled(form: Tensor, shape: torch.Size) -> Tensor:
        return _Pulled.apply(form, shape, layer)

    return replace(layer, transposed=pulled)


class Sharpened(Propagation):
    """The bounds of one network around one image, first (1, 1, C, H, W); every form has
    slopes of its own below the ReLUs that are undecided.
    """

    def __init__(self, model: Module, first: Box) -> None:
        super().__init__(model, first)
        self.layers = [
            _differentiable(each) if isinstance(each, Affine) else each
            for each in self.layers
        ]
        with torch.no_grad():
            self.refine()

    def sharpen(self, steps: int, units: int) -> None:
        """Bound the undecided pre-activations again, layer by layer."""
        seen = 0
        for index, layer in enumerate(self.layers[: self._needed()]):
            if isinstance(layer, Rectifier):
                if seen:
                    self.before[index] = self._sharper(index, steps, units)
                seen += 1
            through = layer.through(self.before[index])
            self.before[index + 1] = through.within(self.before[index + 1])
            self.known.pop(index, None)

    def _sharper(self, index: int, steps: int, units: int) -> Box:
        box = self.before[index]
        shape = box.lower.shape[2:]
        lower, upper = box.lower.flatten().clone(), box.upper.flatten().clone()
        (open_units,) = torch.nonzero((lower < 0) & (upper > 0), as_tuple=True)
        if len(open_units) > units:
            return box
        for part in open_units.split(ROWS // 4):
            forms = F.one_hot(part, len(lower)).to(lower).view(-1, *shape)
            lower[part] = self.optimised(forms, index, steps)[0]
            upper[part] = -self.optimised(-forms, index, steps)[0]
        found = Box(lower.view_as(box.lower), upper.view_as(box.upper))
        return box.within(found)

    def optimised(
        self, forms: Tensor, last: int, steps: int
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Lower bounds (B,) of `forms` (B, ...) of what enters layer `last`, and the
        slopes (1, B, ...) that gave the last of them, by layer.
        """
        slopes = {
            index: self._lines(index)[2]
            .expand(1, len(forms), *self.before[index].lower.shape[2:])
            .clone()
            .requires_grad_()
            for index in range(last)
            if isinstance(self.layers[index], Rectifier)
        }
        best = self.least(forms, last, {})
        if not slopes:
            return best, {}
        search = torch.optim.Adam(list(slopes.values()), lr=RATE)
        schedule = torch.optim.lr_scheduler.ExponentialLR(search, DECAY)
        for _ in range(steps):
            with torch.enable_grad():
                loss = -self._lower(forms, last, slopes).sum()
                search.zero_grad()
                loss.backward()
            search.step()
            schedule.step()
            for each in slopes.values():
                each.data.clamp_(0, 1)
        slopes = {index: each.detach() for index, each in slopes.items()}
        return torch.maximum(best, self.least(forms, last, slopes)), slopes

    @torch.no_grad()
    def least(self, forms: Tensor, last: int, slopes: dict[int, Tensor]) -> Tensor:
        """Lower bounds (B,) of `forms` (B, ...) of what enters layer `last`, with these
        slopes below (1, B, ...), else with the usual ones.
        """
        return self._lower(forms, last, slopes)

    def _lower(self, forms: Tensor, last: int, slopes: dict[int, Tensor]) -> Tensor:
        for index in range(last):
            if isinstance(self.layers[index], Rectifier):
                above, height, below = self._lines(index)
                box = self.before[index]
                if index in slopes:
                    mixed = (box.lower < 0) & (box.upper > 0)
                    below = torch.where(mixed, slopes[index], below)
                self.known[index] = (above, height, below)
        form = forms[None, :, None]
        return self._least(form, slice(None), last, 0)[0, :, 0]

    def _lines(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        layer = self.layers[index]
        assert isinstance(layer, Rectifier)
        return layer.lines(self.before[index])


# Displacements
# --------------------------------------------------------------------------------------


class Displacements:
    """How far the prediction can move: with c the centred logits, h = c . z / K along
    the `clean` normalised logits z (K,) and t = c - h z across, bounds of a . t / h.

    Raises nothing; of no meaning where `least_along`, a lower bound of h, is not
    positive.
    """

    def __init__(self, network: Sharpened, clean: Tensor, steps: int) -> None:
        classes = len(clean)
        self.network, self.clean, self.steps = network, clean, steps
        self.along = clean / classes
        self.across = centring(classes, clean.device) - clean[:, None] * self.along
        # What a form can lose by being rounded to the network's numbers.
        every = torch.eye(classes, dtype=clean.dtype, device=clean.device)
        both = torch.cat([every, -every])
        self.sizes = -self._least(both, None).view(2, classes).amin(dim=0)
        self.least_along = float(self._least(self.along[None], None))

    def _least(self, forms: Tensor, slopes: dict[int, Tensor] | None) -> Tensor:
        first = self.network.before[0].lower
        rounded = forms.to(first)
        last = len(self.network.layers)
        found = self.network.least(rounded, last, slopes or {}).to(forms)
        if not hasattr(self, "sizes"):
            return found
        return found - (forms - rounded.to(forms)).abs() @ self.sizes

    def largest(self, directions: Tensor) -> Tensor:
        """Upper bounds (B,) of a . t / h for the `directions` a (B, K).

        a . t / h <= b where a . t - b h <= 0 for all inputs, so b is halved in on.
        """
        forms = directions @ self.across
        scale = self._first(forms)
        b = self._smallest(forms, scale, None)
        first = self.network.before[0].lower
        tilted = (b[:, None] * self.along - forms).to(first)
        _, slopes = self.network.optimised(tilted, len(self.network.layers), self.steps)
        return torch.minimum(b, self._smallest(forms, b, slopes))

    def _first(self, forms: Tensor) -> Tensor:
        """Bounds (B,) of both parts on their own."""
        most = -self._least(-forms, None)
        return (most / self.least_along).clamp_min(1e-9)

    def _smallest(
        self, forms: Tensor, high: Tensor, slopes: dict[int, Tensor] | None
    ) -> Tensor:
        """The smallest b (B,) found, between 0 and `high`, for which b h - a . t is
        proved positive; `high` itself needs no proof.
        """
        low = torch.zeros_like(high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            proved = self._least(middle[:, None] * self.along - forms, slopes) >= 0
            low, high = (
                torch.where(proved, low, middle),
                torch.where(proved, middle, high),
            )
        return high


# The divergence
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Cell:
    """Gains from `low` to `high`, both (K,), where the divergence is at most
    `-order`; cells of one bound come in the order of their `number`.
    """

    order: float
    number: int
    low: Array = field(compare=False)
    high: Array = field(compare=False)


class Search:
    """Branch and bound for the largest divergence over all that the limits of
    displacements t / h allow.

    Normalised logits are r (z + t / h) with r in (0, 1]. With u the gain of each on
    their mean under P, the divergence is log E exp(u). Over a cell exp lies below its
    chords, which makes a linear programme of it. Where that is nearly exact, the
    direction in which the divergence grows is bounded as well; elsewhere the cell is
    cut in two.
    """

    def __init__(self, moved: Displacements) -> None:
        self.moved, self.clean = moved, moved.clean.cpu().numpy()
        classes = len(self.clean)
        self.p = np.exp(self.clean - logsumexp(self.clean))
        self.gains = np.eye(classes) - self.p
        self.own = self.gains @ self.clean
        every = np.eye(classes)
        self.directions = np.zeros((0, classes))
        self.limits = np.zeros(0)
        self.ask(np.concatenate([self.gains, -self.gains, every, -every]))
        self.sizes = self.limits[2 * classes :].reshape(2, classes).max(axis=0)

    def ask(self, directions: Array) -> None:
        """Bound the displacements along `directions` (B, K) and remember it."""
        asked = torch.from_numpy(directions).to(self.moved.clean.device)
        limits = self.moved.largest(asked).cpu().numpy()
        self.directions = np.concatenate([self.directions, directions])
        self.limits = np.concatenate([self.limits, limits])

    def run(self, looks: int, cuts: int) -> float:
        """Upper bound (nats) after at most so many `looks` at a cell and so many
        directions more.
        """
        classes = len(self.p)
        heap = [
            Cell(-inf, 0, -self.limits[classes : 2 * classes], self.limits[:classes])
        ]
        for number in range(looks):
            cell = heap[0]
            bound, point = self.look(cell)
            heapreplace(heap, replace(cell, order=max(-bound, cell.order)))
            if heap[0].number != cell.number or bound <= 0:
                if bound <= 0 and heap[0].number == cell.number:
                    return 0.0
                continue
            if self.divergence(point) < CLOSE * bound:
                for half in self.halves(heappop(heap), point, 2 * number + 1):
                    heappush(heap, half)
                continue
            direction = self.uphill(point)
            cuts -= 1
            self.ask(direction[None])
            if cuts < 0 or self.limits[-1] > (1 - GAIN) * direction @ point:
                break
        return -heap[0].order

    def look(self, cell: Cell) -> tuple[float, Array]:
        """Bound of the divergence in a cell, and the displacement (K,) that attains it;
        minus infinity where the cell is empty.
        """
        sides = np.concatenate([self.directions, self.gains, -self.gains])
        limits = np.concatenate([self.limits, cell.high, -cell.low])
        return max(
            (self.programme(cell, r, sides, limits) for r in self.lengths(cell)),
            key=lambda found: found[0],
        )

    def lengths(self, cell: Cell) -> tuple[float, float]:
        """Least and largest r: 1 / sqrt(1 + |t / h|^2 / K), where t has sum 0."""
        mean_low, mean_high = cell.low.mean(), cell.high.mean()
        farthest = np.maximum(cell.high - mean_low, mean_high - cell.low)
        nearest = np.maximum(cell.low - mean_high, mean_low - cell.high).clip(min=0)
        least, most = ((1 + (each**2).mean()) ** -0.5 for each in (farthest, nearest))
        return float(least), float(most)

    def programme(
        self, cell: Cell, r: float, sides: Array, limits: Array
    ) -> tuple[float, Array]:
        """The bound with all lengths r, proved by the programme's own multipliers."""
        low, high = (r * end - (1 - r) * self.own for end in (cell.low, cell.high))
        width = np.maximum(high - low, 1e-9)
        slope = np.exp(low) * np.expm1(width) / width
        constant = self.p @ (np.exp(low) - slope * (low + (1 - r) * self.own))
        upwards = r * (self.p * slope) @ self.gains
        fixed = np.stack([np.ones_like(self.clean), self.clean])
        found = linprog(
            -upwards,
            A_ub=sides,
            b_ub=limits,
            A_eq=fixed,
            b_eq=np.zeros(2),
            bounds=(None, None),
            method="highs",
        )
        if found.status == 2:
            return -inf, np.zeros_like(self.clean)
        if found.status != 0:
            return inf, np.zeros_like(self.clean)
        prices = np.maximum(-found.ineqlin.marginals, 0)
        left = upwards - prices @ sides + found.eqlin.marginals @ fixed
        most = prices @ limits + np.abs(left) @ self.sizes
        return float(np.log(max(constant + most, 1.0))), found.x

    def divergence(self, point: Array) -> float:
        """The divergence (nats) at a displacement (K,)."""
        return float(self._gained(point)[0])

    def uphill(self, point: Array) -> Array:
        """The direction (K,) in which the divergence grows at a displacement."""
        _, chances, r = self._gained(point)
        back = (chances - self.p) @ (self.clean + point) * r**3 / len(point) * point
        return r * (chances - self.p) - back

    def _gained(self, point: Array) -> tuple[float, Array, float]:
        """The divergence at a displacement, the prediction there and its length r."""
        r = float((1 + (point**2).mean()) ** -0.5)
        terms = self.clean + r * self.gains @ point - (1 - r) * self.own
        total = logsumexp(terms)
        return total - logsumexp(self.clean), np.exp(terms - total), r

    def halves(self, cell: Cell, point: Array, number: int) -> list[Cell]:
        """The two parts of a cell, cut where its chords are worst."""
        gained = self.gains @ point
        width = np.maximum(cell.high - cell.low, 1e-12)
        share = ((gained - cell.low) / width).clip(0, 1)
        chord = (1 - share) * np.exp(cell.low) + share * np.exp(cell.high)
        excess = self.p * (chord - np.exp(gained)) + width**2 / (8 * len(width) ** 2)
        axis = int(excess.argmax())
        place = cell.low[axis] + width[axis] * share[axis].clip(0.2, 0.8)
        first, second = cell.high.copy(), cell.low.copy()
        first[axis] = second[axis] = place
        return [
            replace(cell, number=number, high=first),
            replace(cell, number=number + 1, low=second),
        ]
