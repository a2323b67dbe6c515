"""Sound bounds of what a network can put out when its input moves inside an L-infinity
ball.

Networks are `nn.Sequential` of Linear, Conv2d, ReLU, Flatten and fixed scalings. Read
`interval_bounds` (a box pushed forward, layer by layer) first, then `linear_bounds` (a
linear lower bound pulled backward), then what they are for: `certified` and
`divergence_bound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module
from torch.nn.grad import conv2d_input

from robustbook.measure import box_divergence
from robustbook.measure.divergence import normalise_logits
from robustbook.models.network import frozen

Method = Literal["ibp", "crown"]
ROWS = 1024
"""Linear forms that are pulled backward at once."""
ROUNDING = 1e-5
"""Relative widening of every final box, above what float32 sums of a few thousand terms
lose.
"""


@dataclass(frozen=True)
class Box:
    """Every value of a layer lies between `lower` and `upper`, both (N, ...), for all
    inputs in the ball.
    """

    lower: Tensor
    upper: Tensor

    def __getitem__(self, rows: Tensor) -> Box:
        return Box(self.lower[rows], self.upper[rows])


def input_box(images: Tensor, epsilon: float) -> Box:
    """The L-infinity ball of radius `epsilon` around `images` (N, C, H, W), cut to [0,
    1].

    Raises ValueError if `epsilon` is negative.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon must not be negative, got {epsilon}")
    return Box((images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1))


def centring(classes: int) -> Tensor:
    """The forms (K, K) that take the mean off K logits: I - 11^T / K."""
    return torch.eye(classes) - 1 / classes


def differences(labels: Tensor, classes: int) -> Tensor:
    """The forms Z_t - Z_i for each other class i, one set for each of the `labels`
    (N,): (N, K - 1, K).
    """
    every = torch.eye(classes, device=labels.device)
    others = torch.stack(
        [
            every[torch.arange(classes, device=labels.device) != int(label)]
            for label in labels
        ]
    )
    return every[labels][:, None] - others


def interval_bounds(
    model: Module, images: Tensor, *, epsilon: float, forms: Tensor
) -> Box:
    """Box (N, S) of the linear `forms` (S, K) or (N, S, K) of the logits, by interval
    propagation (Gowal et al. 2018).

    The forms are merged with the last linear layer, so what cancels between logits
    cancels in the box.

    Raises ValueError if `epsilon` is negative or the network holds a layer without a
    bound.
    """
    with frozen(model), torch.no_grad():
        boxes = _Boxes(_layers(model), input_box(images, epsilon))
        return _widened(boxes.bound(forms, backward=False))


def linear_bounds(
    model: Module, images: Tensor, *, epsilon: float, forms: Tensor
) -> Box:
    """Box (N, S) of the linear `forms` of the logits, by backward linear relaxation
    (CROWN, Zhang et al. 2018).

    Pre-activations that interval propagation leaves undecided are bounded backward too.
    The result is cut with that of `interval_bounds`, so it is never wider.

    Raises ValueError as `interval_bounds` does.
    """
    with frozen(model), torch.no_grad():
        first = _Boxes(_layers(model), input_box(images, epsilon))
        plain = first.bound(forms, backward=False)
        first.refine()
        tight, refined = (
            first.bound(forms, backward=True),
            first.bound(forms, backward=False),
        )
        lower = torch.stack([plain.lower, refined.lower, tight.lower]).amax(dim=0)
        upper = torch.stack([plain.upper, refined.upper, tight.upper]).amin(dim=0)
        return _widened(Box(lower, upper))


def logit_bounds(
    model: Module, images: Tensor, *, epsilon: float, forms: Tensor, method: Method
) -> Box:
    """`interval_bounds` for the method "ibp", `linear_bounds` for "crown"; ValueError
    for another name.
    """
    if method not in ("ibp", "crown"):
        raise ValueError(f"method must be 'ibp' or 'crown', got {method!r}")
    bounds = interval_bounds if method == "ibp" else linear_bounds
    return bounds(model, images, epsilon=epsilon, forms=forms)


def certified(
    model: Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    method: Method = "crown",
    chunk: int = 32,
) -> Tensor:
    """Mask (N,) of images that no perturbation up to `epsilon` can turn away from their
    label: Z_t - Z_i > 0, proved.

    Raises ValueError as `logit_bounds` does.
    """
    verdicts = []
    for part, classes in zip(images.split(chunk), labels.split(chunk), strict=True):
        forms = differences(classes, _class_count(model, images))
        box = logit_bounds(model, part, epsilon=epsilon, forms=forms, method=method)
        verdicts.append((box.lower > 0).all(dim=1))
    return torch.cat(verdicts)


def divergence_bound(
    model: Module,
    images: Tensor,
    *,
    epsilon: float,
    method: Method = "crown",
    normalise: bool = True,
    chunk: int = 32,
) -> Tensor:
    """Sound upper bound (N,) in nats of the largest D_KL(P(x) || P(x + delta)) with
    max|delta| <= epsilon.

    So psi lies in [1 / bound, 1 / attained]. P is the softmax of the normalised logits,
    or of the logits as they are with `normalise=False`. The bound comes from boxes of
    linear forms of the logits (see `box_divergence`); those of method "crown" are cut
    with those of "ibp".

    Raises ValueError as `logit_bounds` does.
    """
    bounds = []
    for part in images.split(chunk):
        with frozen(model), torch.no_grad():
            logits = model(part).double()
        clean = normalise_logits(logits) if normalise else logits
        forms = _divergence_forms(clean, normalise).to(part)
        box = logit_bounds(model, part, epsilon=epsilon, forms=forms, method=method)
        bounds.append(_divergence(clean, box, normalise).to(part.dtype))
    return torch.cat(bounds)


def _divergence_forms(clean: Tensor, normalise: bool) -> Tensor:
    """The forms (N, S, K) of the logits that bound the divergence from the `clean`
    logits (N, K).

    The centred logits; their gaps to the predicted class; and, if logits are
    normalised, their component h along the clean logits and what is left of both
    without it.
    """
    count, classes = clean.shape
    centred = centring(classes).to(clean).expand(count, -1, -1)
    gaps = -differences(clean.argmax(dim=1), classes).to(clean)
    if not normalise:
        return torch.cat([centred, gaps], dim=1)
    along = clean[:, None] / classes
    tangent = centred - clean[:, :, None] * along
    tangent_gaps = gaps - (gaps @ clean[:, :, None]) * along
    return torch.cat([centred, tangent_gaps, tangent, along], dim=1)


def _divergence(clean: Tensor, box: Box, normalise: bool) -> Tensor:
    classes, top = clean.shape[1], clean.argmax(dim=1)
    ranges = box_divergence.Ranges(box.lower.double(), box.upper.double())
    centred, gaps = (
        ranges[:, :classes],
        ranges[:, classes : 2 * classes - 1].insert_zero(top),
    )
    if not normalise:
        return box_divergence.plain(clean, centred, gaps)
    return box_divergence.normalised(
        clean, centred, gaps, ranges[:, 2 * classes - 1 : -1], ranges[:, -1:]
    )


class _Boxes:
    """The box before every layer of a network; `bound` reads a form of the output off
    them.
    """

    def __init__(self, layers: list[Module], first: Box) -> None:
        self.layers = layers
        self.before = [first]
        for layer in layers:
            self.before.append(_through(layer, self.before[-1]))

    def refine(self) -> None:
        """Bound the undecided pre-activations backward, first layer to last, and push
        the tighter boxes forward.
        """
        weighted = 0
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.ReLU) and weighted > 1:
                self.before[index] = self._refined(index)
            self.before[index + 1] = _through(layer, self.before[index])
            weighted += isinstance(layer, nn.Linear | nn.Conv2d)

    def _refined(self, index: int) -> Box:
        box = self.before[index]
        lower, upper = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
        open_rows, units = torch.nonzero((lower < 0) & (upper > 0), as_tuple=True)
        for rows, unit in zip(open_rows.split(ROWS), units.split(ROWS), strict=True):
            form = (
                F.one_hot(unit, lower.shape[1]).to(lower).view(-1, *box.lower.shape[1:])
            )
            least, most = self._range(form, rows, index)
            lower[rows, unit] = torch.maximum(lower[rows, unit], least)
            upper[rows, unit] = torch.minimum(upper[rows, unit], most)
        # Rounding must not leave an empty interval.
        lower, upper = torch.minimum(lower, upper), torch.maximum(lower, upper)
        return Box(lower.view_as(box.lower), upper.view_as(box.upper))

    def bound(self, forms: Tensor, *, backward: bool) -> Box:
        """Box (N, S) of `forms` of the output; without `backward` only the last linear
        layers are merged with them.
        """
        count = len(self.before[0].lower)
        each = forms.to(self.before[0].lower).expand(count, *forms.shape[-2:])
        rows = torch.arange(count, device=each.device).repeat_interleave(each.shape[1])
        flat, stop = (
            each.reshape(-1, each.shape[-1]),
            0 if backward else self._last_relu(),
        )
        parts = zip(flat.split(ROWS), rows.split(ROWS), strict=True)
        ends = [self._range(form, row, len(self.layers), stop) for form, row in parts]
        lower, upper = (
            torch.cat(end).view(each.shape[:2]) for end in zip(*ends, strict=True)
        )
        return Box(lower, upper)

    def _last_relu(self) -> int:
        """How many layers there are up to and with the last ReLU."""
        return max(
            (
                index + 1
                for index, layer in enumerate(self.layers)
                if isinstance(layer, nn.ReLU)
            ),
            default=0,
        )

    def _range(
        self, form: Tensor, rows: Tensor, last: int, stop: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Least and largest value (R,) of the forms (R, ...) of what enters layer
        `last`, read off what enters `stop`.

        Up to the first ReLU on the way back the form is exact, so both ends share it.
        """
        shift = form.new_zeros(len(form))
        while last > stop and not isinstance(self.layers[last - 1], nn.ReLU):
            last -= 1
            form, constant = _back(self.layers[last], form, self.before[last], rows)
            shift = shift + constant
        return shift + self._least(form, rows, last, stop), shift - self._least(
            -form, rows, last, stop
        )

    def _least(self, form: Tensor, rows: Tensor, last: int, stop: int) -> Tensor:
        shift = form.new_zeros(len(form))
        for index in range(last - 1, stop - 1, -1):
            form, constant = _back(self.layers[index], form, self.before[index], rows)
            shift = shift + constant
        box = self.before[stop][rows]
        least = form.clamp_min(0) * box.lower + form.clamp_max(0) * box.upper
        return shift + least.flatten(1).sum(dim=1)


def _through(layer: Module, box: Box) -> Box:
    """The box after one layer."""
    if isinstance(layer, nn.ReLU | nn.Flatten | nn.Identity):
        return Box(layer(box.lower), layer(box.upper))
    if isinstance(layer, nn.Linear | nn.Conv2d):
        middle, radius = (box.upper + box.lower) / 2, (box.upper - box.lower) / 2
        middle, radius = layer(middle), _affine(layer, radius)
        return Box(middle - radius, middle + radius)
    factor = float(cast(float, layer.factor))
    ends = box.lower * factor, box.upper * factor
    return Box(torch.minimum(*ends), torch.maximum(*ends))


def _affine(layer: nn.Linear | nn.Conv2d, radius: Tensor) -> Tensor:
    """|W| radius: how far the layer's outputs move."""
    if isinstance(layer, nn.Linear):
        return F.linear(radius, layer.weight.abs())
    return F.conv2d(
        radius,
        layer.weight.abs(),
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )


def _back(layer: Module, form: Tensor, box: Box, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A form (R, ...) of a layer's output as a form of its input, and the constant (R,)
    that it leaves.

    Equal for linear layers; for a ReLU a lower bound of it, from the `box` (N, ...)
    before the layer.
    """
    nothing = form.new_zeros(len(form))
    if isinstance(layer, nn.ReLU):
        return _back_through_relu(form, box[rows])
    if isinstance(layer, nn.Linear):
        return form @ layer.weight, nothing if layer.bias is None else form @ layer.bias
    if isinstance(layer, nn.Conv2d):
        shift = nothing if layer.bias is None else form.sum(dim=(2, 3)) @ layer.bias
        shape = (len(form), *box.lower.shape[1:])
        return conv2d_input(
            shape,
            layer.weight,
            form,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        ), shift
    if isinstance(layer, nn.Flatten | nn.Identity):
        return form.reshape(len(form), *box.lower.shape[1:]), nothing
    return form * float(cast(float, layer.factor)), nothing


def _back_through_relu(form: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Lower bound of a form of max(z, 0) by lines: the chord above, 0 or z below
    (whichever leaves less area).
    """
    lower, upper = box.lower, box.upper
    undecided = (lower < 0) & (upper > 0)
    on = (lower >= 0).to(form)
    chord = torch.where(
        undecided, upper / (upper - lower).clamp_min(torch.finfo(form.dtype).tiny), on
    )
    below = torch.where(undecided, (upper > -lower).to(form), on)
    positive, negative = form.clamp_min(0), form.clamp_max(0)
    shift = negative * torch.where(undecided, -chord * lower, torch.zeros_like(lower))
    return positive * below + negative * chord, shift.flatten(1).sum(dim=1)


def _layers(model: Module) -> list[Module]:
    """The network's layers in order; nested Sequentials are opened."""
    layers: list[Module] = []
    for layer in model.children() if isinstance(model, nn.Sequential) else [model]:
        if isinstance(layer, nn.Sequential):
            layers += _layers(layer)
        elif isinstance(
            layer, nn.ReLU | nn.Flatten | nn.Identity | nn.Linear | nn.Conv2d
        ) or hasattr(layer, "factor"):
            layers.append(layer)
        else:
            raise ValueError(
                f"no bound is known for a layer of type {type(layer).__name__}"
            )
    return layers


def _class_count(model: Module, images: Tensor) -> int:
    with frozen(model), torch.no_grad():
        return int(model(images[:1]).shape[1])


def _widened(box: Box) -> Box:
    slack = ROUNDING * torch.maximum(box.lower.abs(), box.upper.abs()).amax(
        dim=1, keepdim=True
    )
    return Box(box.lower - slack, box.upper + slack)
