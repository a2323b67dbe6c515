"""Boxes pushed forward and linear forms pulled backward through the layers of a
network, or of S posterior samples at once.

Read `Box` and `layers` first, then `Affine` and `Rectifier` (how a layer takes a box
through), then `Propagation`, which bounds forms of the output with them.

All is rounded outwards by an estimate of the rounding, no worst case: sums of n
products lose about sqrt(n) units of the sum of their sizes where errors have either
sign (Higham and Mary 2019), and up to n where all have one, which this does not cover;
what a large bias swallows is bounded by n units (Higham 2002, section 3.1). In float64
the difference is of no account.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from robustbook.bayes.weights import (
    WeightSamples,
    convolve,
    multiply,
    single,
    unconvolve,
)
from robustbook.checks import ArgumentError
from robustbook.models.architectures import Scale
from robustbook.models.input_convolution import plain

ROWS = 1024
"""Linear forms that are pulled backward at once, those of all samples counted."""
TF32 = 2.0**-8
"""Share that products of tensor cores lose: they round both factors to 11 bits."""


@dataclass(frozen=True, eq=False)
class Box:
    """Every value of a layer lies between `lower` and `upper`, both (S or 1, N, ...),
    for all inputs of a region.
    """

    lower: Tensor
    upper: Tensor

    def middle_and_radius(self) -> tuple[Tensor, Tensor]:
        """Half the sum and half the difference of both ends."""
        return (self.upper + self.lower) / 2, (self.upper - self.lower) / 2

    def sizes(self) -> Tensor:
        """The largest size of each value."""
        return torch.maximum(self.upper, -self.lower)

    def within(self, other: Box) -> Box:
        """What both boxes allow."""
        lower = torch.maximum(self.lower, other.lower)
        upper = torch.minimum(self.upper, other.upper)
        # Rounding must not leave an empty interval.
        return Box(torch.minimum(lower, upper), torch.maximum(lower, upper))


@dataclass(frozen=True, eq=False)
class Affine:
    """A layer y = W v + bias of all samples, by what bounds need of it.

    `product` gives W v and `sizes` |W| v for values v (S or 1, N, ...); `transposed` a
    W for forms a (S or 1, M, ...) and the shape (...) of a value. Sums lose at most
    `share` of |W| |v|, and `bias_loss` where a bias cancels; a layer with share 0 moves
    values to other places and no more.
    """

    product: Callable[[Tensor], Tensor]
    sizes: Callable[[Tensor], Tensor]
    transposed: Callable[[Tensor, torch.Size], Tensor]
    share: float = 0.0
    bias: Tensor | float = 0.0
    bias_loss: Tensor | float = 0.0

    def through(self, box: Box) -> Box:
        """The box of the outputs."""
        if not self.share:
            return Box(self.product(box.lower), self.product(box.upper))
        middle, radius = box.middle_and_radius()
        radius = self.sizes(radius + self.share * (middle.abs() + radius))
        middle = self.product(middle) + self.bias
        radius = radius + self.bias_loss
        return Box(middle - radius, middle + radius)

    def slack(self, box: Box) -> Tensor:
        """What the outputs of inputs in the box can lose: (S or 1, N, ...)."""
        return self.share * self.sizes(box.sizes()) + self.bias_loss


class Rectifier:
    """A ReLU of all samples."""

    def through(self, box: Box) -> Box:
        """The box of the outputs."""
        return Box(box.lower.relu(), box.upper.relu())

    def lines(self, box: Box) -> tuple[Tensor, Tensor, Tensor]:
        """Slope of a line above, its height at 0, and slope of a line below, from 0 (0
        or 1, whichever leaves less area), each (S or 1, N, ...).
        """
        lower, upper = box.lower, box.upper
        crossing = (lower < 0) & (upper > 0)
        on = (lower >= 0).to(lower)
        width = (upper - lower).clamp_min(torch.finfo(upper.dtype).tiny)
        above = torch.where(crossing, upper / width, on)
        below = torch.where(crossing, (upper > -lower).to(upper), on)
        return above, torch.where(crossing, -above * lower, 0.0), below


Layer = Affine | Rectifier


# The layers of a network
# --------------------------------------------------------------------------------------

KNOWN = (
    nn.Linear,
    nn.Conv2d,
    nn.ReLU,
    nn.Flatten,
    nn.AvgPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    Scale,
)
Take = Callable[[Tensor], Tensor]
"""`(parameter or buffer) -> (S or 1, ...)`: its values in all samples."""


def layers(network: Module | WeightSamples) -> tuple[list[Layer], torch.dtype]:
    """The layers of one network, or of posterior samples of it, in order and in eval
    mode, and the type in which to bound them (float32 for half precision).

    Raises ArgumentError that names the layer if one is none of `KNOWN`, or has hooks or
    a `forward` of its own.
    """
    samples = network if isinstance(network, WeightSamples) else single(network)
    types = [each.dtype for each in samples.weights.values()] or [torch.float32]
    work = torch.promote_types(types[0], torch.float32)
    values = samples.lookup()

    def take(given: Tensor) -> Tensor:
        return values(given).to(work)

    eps = torch.finfo(types[0]).eps
    parts = [_layers(layer, take, eps) for layer in samples.layers]
    return [layer for part in parts for layer in part], work


def _layers(layer: Module, take: Take, eps: float) -> list[Layer]:
    """What bounds need of one layer; padding can be a layer of its own."""
    own = type(layer) in KNOWN and not plain(layer, *KNOWN)
    match layer:
        case _ if not plain(layer, *KNOWN):
            pass
        case nn.ReLU():
            return [Rectifier()]
        case nn.Linear():
            return [_linear(layer, take, eps)]
        case nn.Conv2d():
            return _padded_convolution(layer, take, eps)
        case nn.Flatten() if (layer.start_dim, layer.end_dim) == (1, -1):
            return [_monotone(layer)]
        case nn.AvgPool2d():
            sides = layer.kernel_size
            terms = sides**2 if isinstance(sides, int) else sides[0] * sides[1]
            return [_monotone(layer, _share(terms, eps))]
        case nn.BatchNorm1d() | nn.BatchNorm2d() if layer.running_mean is not None:
            return [_normalisation(layer, take, eps)]
        case Scale():
            return [_scaling(float(layer.factor), eps)]
    known = ", ".join(each.__name__ for each in KNOWN)
    found = f"a {type(layer).__name__} layer"
    found += " with hooks or a forward of its own" if own else ""
    raise ArgumentError("model", f"a chain of {known} for bounds", found)


def _share(terms: int, eps: float, weight: Tensor | None = None) -> float:
    """Share of the summed sizes that a sum of so many products loses, in the network
    and in the bounds of it.
    """
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    cores = weight is not None and weight.is_cuda and any(f.allow_tf32 for f in flags)
    single = eps == torch.finfo(torch.float32).eps  # Only such numbers are shortened.
    return (3 + terms**0.5 / 3) * eps + (TF32 if cores and single else 0)


def _linear(layer: nn.Linear, take: Take, eps: float) -> Affine:
    weight = take(layer.weight)
    bias = (
        weight.new_zeros(1, 1, 1) if layer.bias is None else take(layer.bias)[:, None]
    )

    def transposed(form: Tensor, shape: torch.Size) -> Tensor:
        return form @ (weight[0] if len(weight) == 1 else weight)

    return Affine(
        partial(multiply, weight=weight),
        partial(multiply, weight=weight.abs()),
        transposed,
        _share(weight.shape[2], eps, weight),
        bias,
        bias.abs() * ((weight.shape[2] + 4) * eps),
    )


def _padded_convolution(layer: nn.Conv2d, take: Take, eps: float) -> list[Layer]:
    """A convolution, and before it the padding, if that is more than some zeros."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return [_convolution(layer, take, eps)]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    pad = partial(F.pad, pad=layer._reversed_padding_repeated_twice, mode=mode)
    inner = copy.copy(layer)
    inner.padding, inner.padding_mode = (0, 0), "zeros"
    return [_monotone(pad), _convolution(inner, take, eps)]


def _convolution(layer: nn.Conv2d, take: Take, eps: float) -> Affine:
    weight = take(layer.weight)
    bias = weight.new_zeros(1, 1) if layer.bias is None else take(layer.bias)
    bias, terms = bias[:, None, :, None, None], weight[0, 0].numel()
    return Affine(
        partial(convolve, layer, weight=weight),
        partial(convolve, layer, weight=weight.abs()),
        partial(unconvolve, layer, weight=weight),
        _share(terms, eps, weight),
        bias,
        bias.abs() * ((terms + 4) * eps),
    )


def _monotone(moved: Callable[[Tensor], Tensor], share: float = 0.0) -> Affine:
    """A layer whose weights are 0 or positive, and that adds nothing."""

    def product(values: Tensor) -> Tensor:
        return moved(values.flatten(0, 1)).unflatten(0, values.shape[:2])

    def transposed(form: Tensor, shape: torch.Size) -> Tensor:
        flat = form.flatten(0, 1)
        with torch.enable_grad():
            values = flat.new_zeros(len(flat), *shape).requires_grad_()
            (back,) = torch.autograd.grad(moved(values), values, flat)
        return back.unflatten(0, form.shape[:2])

    return Affine(product, product, transposed, share)


def _normalisation(
    layer: nn.BatchNorm1d | nn.BatchNorm2d, take: Take, eps: float
) -> Affine:
    """Batch-norm in eval mode, of values (S, N, C) or (S, N, C, H, W)."""
    assert layer.running_mean is not None and layer.running_var is not None
    axes = (1, -1, 1, 1) if isinstance(layer, nn.BatchNorm2d) else (1, -1)
    factor = (take(layer.running_var) + layer.eps).rsqrt()
    factor = factor if layer.weight is None else factor * take(layer.weight)
    moved = factor * take(layer.running_mean)
    added = torch.zeros_like(moved) if layer.bias is None else take(layer.bias)
    return _scaling(
        factor.unflatten(1, axes),
        eps,
        (added - moved).unflatten(1, axes),
        (added.abs() + moved.abs()).unflatten(1, axes) * (8 * eps),
    )


def _scaling(
    factor: Tensor | float,
    eps: float,
    bias: Tensor | float = 0.0,
    bias_loss: Tensor | float = 0.0,
) -> Affine:
    return Affine(
        lambda values: values * factor,
        lambda values: (
            values * (abs(factor) if isinstance(factor, float) else factor.abs())
        ),
        lambda form, shape: form * factor,
        _share(8, eps),
        bias,
        bias_loss,
    )


# Forms of the output
# --------------------------------------------------------------------------------------

Rows = slice | Tensor
"""The images that forms are about: as many as a form has, or all for one."""


class Propagation:
    """The box before every layer of one network, or of S posterior samples, for all
    inputs in `first`, (1, N, C, H, W); `bound` reads forms of the output off them.

    Raises ArgumentError as `layers` does.
    """

    def __init__(self, network: Module | WeightSamples, first: Box) -> None:
        self.layers, work = layers(network)
        self.before = [Box(first.lower.to(work), first.upper.to(work))]
        for layer in self.layers[: self._needed()]:
            self.before.append(layer.through(self.before[-1]))
        self.known: dict[int, tuple[Tensor, ...]] = {}

    def _needed(self) -> int:
        """Layers whose output's box is read: all but the last if that is affine."""
        return max(len(self.layers) - 1, self._last_rectifier())

    def refine(self) -> None:
        """Bound the undecided pre-activations of one network backward, first layer to
        last, and push the tighter boxes forward.
        """
        mixed = 0
        for index, layer in enumerate(self.layers[: self._needed()]):
            if isinstance(layer, Rectifier) and mixed > 1:
                self.before[index] = self._refined(index)
                self.known.pop(index, None)
            self.before[index + 1] = layer.through(self.before[index])
            mixed += isinstance(layer, Affine) and layer.share > 0

    def _refined(self, index: int) -> Box:
        box = self.before[index]
        shape = box.lower.shape[2:]
        lower, upper = box.lower.flatten(2).clone(), box.upper.flatten(2).clone()
        rows, units = torch.nonzero((lower[0] < 0) & (upper[0] > 0), as_tuple=True)
        for row, unit in zip(rows.split(ROWS), units.split(ROWS), strict=True):
            form = F.one_hot(unit, lower.shape[2]).to(lower).view(1, -1, 1, *shape)
            least, most = self._range(form, row, index, 0)
            lower[:, row, unit] = least[..., 0]
            upper[:, row, unit] = most[..., 0]
        found = Box(lower.view_as(box.lower), upper.view_as(box.upper))
        return box.within(found)

    def bound(self, forms: Tensor, *, backward: bool = True) -> Box:
        """Box (S, N, P) of `forms` (P, K) or (N, P, K) of the output; without
        `backward` only the layers after the last ReLU are merged with them.
        """
        first = self.before[0].lower
        each = forms.to(first).expand(1 if forms.dim() == 2 else len(forms), -1, -1)
        count, samples = first.shape[1], len(self.before[-1].lower)
        stop = 0 if backward else self._last_rectifier()
        size = max(ROWS // (samples * forms.shape[-2]), 1)
        ends = [
            self._range(
                each[None, start : start + size] if len(each) > 1 else each[None],
                slice(start, start + size),
                len(self.layers),
                stop,
            )
            for start in range(0, count, size)
        ]
        lower, upper = (torch.cat(end, dim=1) for end in zip(*ends, strict=True))
        # Infinite weights and overflows leave nothing known.
        return Box(lower.nan_to_num(nan=-torch.inf), upper.nan_to_num(nan=torch.inf))

    def _last_rectifier(self) -> int:
        """How many layers there are up to and with the last ReLU."""
        places = [
            i for i, layer in enumerate(self.layers) if isinstance(layer, Rectifier)
        ]
        return places[-1] + 1 if places else 0

    def _range(
        self, form: Tensor, rows: Rows, last: int, stop: int
    ) -> tuple[Tensor, Tensor]:
        """Least and largest value (S, B, P) of the forms (S or 1, B or 1, P, ...) of
        what enters layer `last`, read off what enters `stop`.

        Up to the first ReLU on the way back the form is exact, so both ends share it.
        """
        lower = upper = form.new_zeros(())
        while last > stop and isinstance(self.layers[last - 1], Affine):
            last -= 1
            form, shift, slack = self._back(form, rows, last)
            lower, upper = lower + (shift - slack), upper + (shift + slack)
        if last == stop:
            middle, radius = self._at(form, rows, stop)
            return lower + (middle - radius), upper + (middle + radius)
        return (
            lower + self._least(form, rows, last, stop),
            upper - self._least(-form, rows, last, stop),
        )

    def _least(self, form: Tensor, rows: Rows, last: int, stop: int) -> Tensor:
        total = form.new_zeros(())
        for index in range(last - 1, stop - 1, -1):
            form, shift, slack = self._back(form, rows, index)
            total = total + (shift - slack)
        middle, radius = self._at(form, rows, stop)
        return total + (middle - radius)

    def _at(self, form: Tensor, rows: Rows, index: int) -> tuple[Tensor, Tensor]:
        """Middle and radius of forms of what enters layer `index`, by its box alone."""
        middle, radius = self.before[index].middle_and_radius()
        share = _share(middle[0, 0].numel(), torch.finfo(middle.dtype).eps)
        radius = radius + share * (middle.abs() + radius)
        return _dot(form, middle, rows), _dot(form.abs(), radius, rows)

    def _back(
        self, form: Tensor, rows: Rows, index: int
    ) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """A form of the output of layer `index` as a form of its input, the constant
        (S, B, P) that this leaves, and how much rounding may change both.

        Equal for affine layers; for a ReLU a lower bound.
        """
        layer, box = self.layers[index], self.before[index]
        if isinstance(layer, Rectifier):
            if index not in self.known:
                self.known[index] = layer.lines(box)
            above, height, below = self.known[index]
            down = form.clamp_max(0)
            lift = _dot(down, height, rows)
            up = (form - down) * _of(below, rows)
            return up.addcmul_(down, _of(above, rows)), lift, 0.0
        flat = layer.transposed(form.flatten(1, 2), box.lower.shape[2:])
        moved = flat.unflatten(1, form.shape[1:3])
        if not layer.share:
            return moved, 0.0, 0.0
        if index not in self.known:
            self.known[index] = (layer.slack(box),)
        (slack,) = self.known[index]
        shift: Tensor | float = 0.0
        if isinstance(layer.bias, Tensor):
            bias = layer.bias.expand(-1, 1, *slack.shape[2:])
            shift = _dot(form, bias, slice(None))
        return moved, shift, _dot(form.abs(), slack, rows)


def _of(values: Tensor, rows: Rows) -> Tensor:
    return values[:, rows].unsqueeze(2)


def _dot(form: Tensor, values: Tensor, rows: Rows) -> Tensor:
    """The forms (S or 1, B or 1, P, ...) of the chosen values (S or 1, N or 1, ...),
    (S, B, P).
    """
    form, values = form.flatten(3), values.flatten(2)[:, rows]
    if form.shape[1] == 1:
        return multiply(values, form[:, 0])
    return (form @ values.unsqueeze(3)).squeeze(3)
