"""Sound bounds of what a network can put out when its input moves inside an L-infinity
ball.

Read `interval_bounds` (a box pushed forward, layer by layer; `measure.propagation` does
it) first, then `linear_bounds` (a linear lower bound pulled backward), then what they
are for: `certified` and `divergence_bound`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure import box_divergence
from robustbook.measure.divergence import normalise_logits
from robustbook.measure.propagation import Box, Propagation
from robustbook.models.network import compute_logits

Method = Literal["ibp", "crown"]


def input_box(images: Tensor, epsilon: float) -> Box:
    """The L-infinity ball of radius `epsilon` (pixel units) around `images` (N, C, H,
    W), cut to [0, 1]: ends (1, N, C, H, W).

    Raises ArgumentError if `epsilon` is negative or an image leaves [0, 1].
    """
    images = checks.images(images)[None]
    epsilon = checks.real(epsilon, "epsilon", at_least=0)
    return Box((images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1))


def centring(classes: int, device: torch.device | None = None) -> Tensor:
    """The forms (K, K) that take the mean off K logits: I - 11^T / K."""
    classes = checks.whole(classes, "classes", at_least=2)
    return torch.eye(classes, dtype=torch.float64, device=device) - 1 / classes


def differences(labels: Tensor, classes: int) -> Tensor:
    """The forms Z_t - Z_i for each other class i, one set for each of the `labels`
    (N,): (N, K - 1, K).

    >>> differences(torch.tensor([1]), 3).tolist()
    [[[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]]
    """
    classes = checks.whole(classes, "classes", at_least=2)
    labels = checks.labels(labels, labels, classes)
    every = torch.eye(classes, device=labels.device)
    others = every[labels] == 0
    rest = every.expand(len(labels), -1, -1)[others].view(len(labels), -1, classes)
    return every[labels][:, None] - rest


@torch.no_grad()
def interval_bounds(
    model: Module, images: Tensor, *, epsilon: float, forms: Tensor
) -> Box:
    """Box (N, P) of the linear `forms` (P, K) or (N, P, K) of the logits, by interval
    propagation (Gowal et al. 2018), for all inputs within `epsilon` (pixel units) of
    the `images` (N, C, H, W).

    The forms are merged with the last linear layers, so what cancels between logits
    cancels in the box.

    Raises ArgumentError if an argument is out of range, or names the layer if there is
    no bound for one (`propagation.layers`).
    """
    box = _propagation(model, images, epsilon, forms).bound(forms, backward=False)
    return Box(box.lower[0], box.upper[0])


@torch.no_grad()
def linear_bounds(
    model: Module, images: Tensor, *, epsilon: float, forms: Tensor
) -> Box:
    """Box (N, P) of the linear `forms` of the logits, by backward linear relaxation
    (CROWN, Zhang et al. 2018).

    Pre-activations that interval propagation leaves undecided are bounded backward too.
    The result is cut with that of `interval_bounds`, so it is never wider.

    Raises ArgumentError as `interval_bounds` does.
    """
    boxes = _propagation(model, images, epsilon, forms)
    box = boxes.bound(forms, backward=False)
    boxes.refine()
    for backward in (False, True):
        box = box.within(boxes.bound(forms, backward=backward))
    return Box(box.lower[0], box.upper[0])


def _propagation(
    model: Module, images: Tensor, epsilon: float, forms: Tensor
) -> Propagation:
    first = input_box(images, epsilon)
    classes = checks.logits(compute_logits(model, images[:1]), 1).shape[1]
    forms = checks.tensor(forms, "forms")
    if forms.shape[-1] != classes or forms.shape[:-2] not in ((), (len(images),)):
        allowed = f"forms (P, {classes}) or ({len(images)}, P, {classes})"
        raise ArgumentError("forms", allowed, forms)
    return Propagation(model, first)


def logit_bounds(
    model: Module, images: Tensor, *, epsilon: float, forms: Tensor, method: Method
) -> Box:
    """`interval_bounds` for the method "ibp", `linear_bounds` for "crown".

    Raises ArgumentError for another name, and as they do.
    """
    checks.one_of(method, "method", ("ibp", "crown"))
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
    images, chunk = checks.images(images), checks.whole(chunk, "chunk", at_least=1)
    classes = checks.logits(compute_logits(model, images[:1]), 1).shape[1]
    labels = checks.labels(labels, images, classes)
    verdicts = []
    for part, own in zip(images.split(chunk), labels.split(chunk), strict=True):
        forms = differences(own, classes)
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

    Raises ArgumentError as `logit_bounds` does.
    """
    images, chunk = checks.images(images), checks.whole(chunk, "chunk", at_least=1)
    bounds = []
    for part in images.split(chunk):
        logits = checks.logits(
            compute_logits(model, part, chunk=chunk), len(part)
        ).double()
        clean = normalise_logits(logits) if normalise else logits
        forms = _divergence_forms(clean, normalise)
        box = logit_bounds(model, part, epsilon=epsilon, forms=forms, method=method)
        bounds.append(_divergence(clean, box, normalise))
    # Rounded outwards; what nothing is known of may be infinite.
    bound = torch.cat(bounds) * (1 + 1e-6) + 1e-12
    return bound.nan_to_num(nan=torch.inf, posinf=torch.inf).to(images.dtype)


def _divergence_forms(clean: Tensor, normalise: bool) -> Tensor:
    """The forms (N, S, K) of the logits that bound the divergence from the `clean`
    logits (N, K).

    The centred logits; their gaps to the predicted class; and, if logits are
    normalised, their component h along the clean logits and what is left of both
    without it.
    """
    count, classes = clean.shape
    centred = centring(classes, clean.device).expand(count, -1, -1)
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
