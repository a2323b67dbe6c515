"""Scores of how much each unit matters, for pruning: Taylor expansions on gates and on
weights, and what they compete with.

Read `gate_gradients` first (one gradient per image and unit, from which most scores
follow), then `first_order` and `second_order`, then `weight_terms` and `norm_terms`
(the same from the weights' gradients), then `CRITERIA` and `score`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.draws import uniform
from robustbook.errors import UserError
from robustbook.models.folded import plain
from robustbook.models.network import beside, evaluating
from robustbook.models.prunable import (
    Gate,
    PaddedBlock,
    PreActivationBlock,
    Prunable,
    Standardise,
)
from robustbook.perturb.gradient import cross_entropy

# (logits (N, K), labels (N,)) -> losses (N,)
Loss = Callable[[Tensor, Tensor], Tensor]


CHUNK = 128
"""Images that are scored at once."""


class ImportanceError(UserError):
    """A score that this network cannot have, or that is not a number; the message names
    the criterion or the unit.
    """


def checked(model: Prunable, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images in the precision of the model, and their labels.

    Raises ArgumentError if the model has no gates, images or labels cannot be taken.
    """
    checks.having(model, "model", "gates", "groups")
    images = checks.images(images)
    return beside(model, images), checks.labels(labels, images)


def _chunks(
    images: Tensor, labels: Tensor, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    chunk = checks.whole(chunk, "chunk", at_least=1)
    return zip(images.split(chunk), labels.split(chunk), strict=True)


def _logits(model: Prunable, images: Tensor) -> Tensor:
    return checks.logits(model(images), len(images))


@contextmanager
def gated(model: Prunable, values: Tensor) -> Iterator[None]:
    """Set the gates of all units to `values` (units,) or (N, units), on top of those
    that are set; restored at the end.
    """
    before = [gate.values for gate in model.gates()]
    try:
        for gate, old, new in zip(
            model.gates(), before, model.split(values).values(), strict=True
        ):
            gate.values = new if old is None else old * new
        yield
    finally:
        for gate, old in zip(model.gates(), before, strict=True):
            gate.values = old


def gate_gradients(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = cross_entropy,
    chunk: int = CHUNK,
) -> Tensor:
    """Gradient (N, units) of each image's loss with respect to each gate z_m at z = 1,
    in evaluation mode.

    One forward and one backward pass an image: every image has its own row of gates, so
    that nothing is summed over images. Units that are removed already have gradient 0.

    Raises ArgumentError if the model has no gates or gives anything but finite logits,
    or images, labels or `chunk` cannot be taken.
    """
    images, labels = checked(model, images, labels)
    rows = []
    with evaluating(model), torch.enable_grad():
        for part, truth in _chunks(images, labels, chunk):
            gates = part.new_ones(len(part), model.units).requires_grad_()
            with gated(model, gates):
                total = loss(_logits(model, part), truth).sum()
            rows.append(torch.autograd.grad(total, gates)[0])
    return torch.cat(rows)


def first_order(gradients: Tensor, batch: int | None = None) -> Tensor:
    """Taylor first order (units,): the squared gradient g_m^2 of a mini-batch, averaged
    over mini-batches.

    `gradients` (N, units) are per image; `batch` images make a mini-batch, all of them
    if None. With z_m = 1, (g_m z_m)^2 approximates (L - L without m)^2 (Molchanov et
    al. 2019, equations for the gate).

    Raises ArgumentError if the gradients are not finite or `batch` is less than 1.
    """
    gradients = _rows(gradients)
    if batch is not None:
        batch = checks.whole(batch, "batch", at_least=1)
    return _batch_means(gradients, batch).square().mean(dim=0)


def per_example(gradients: Tensor) -> Tensor:
    """Taylor first order with every image's gradient squared before averaging (the
    paper's "full gradient"):
    (units,).
    """
    return _rows(gradients).square().mean(dim=0)


def taylor_output(gradients: Tensor, positions: Tensor) -> Tensor:
    """The criterion of Molchanov et al. (2017): mean over images of |mean over
    positions of activation times gradient|.

    A gate's gradient is the sum of that product over the unit's `positions` (units,),
    so no activation is needed.
    """
    return _rows(gradients).abs().mean(dim=0) / _row(positions, "positions")


def second_order(gradient: Tensor, curvature: Tensor) -> Tensor:
    """Taylor second order (units,): (g_m - h_m / 2)^2 at z = 1, exact for a loss that
    is quadratic in each gate.

    `curvature` is the Hessian's diagonal, or the row sum (H 1)_m of the published
    formula, which also takes the interaction with all other gates although only one
    unit is removed.
    """
    return (_row(gradient, "gradient") - _row(curvature, "curvature") / 2).square()


def _rows(gradients: Tensor) -> Tensor:
    return checks.tensor(gradients, "gradients", dimensions=2)


def _row(given: Tensor, name: str, units: int | None = None) -> Tensor:
    given = checks.tensor(given, name, dimensions=1)
    if units is not None and len(given) != units:
        raise ArgumentError(name, f"a tensor ({units},)", given)
    return given


PIECEWISE_LINEAR = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.LeakyReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.Sequential,
    Gate,
    Prunable,
    Standardise,
    PaddedBlock,
    PreActivationBlock,
)
"""Layers of which a network's logits are piecewise linear along one gate."""


def curvature_diagonal(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = cross_entropy,
    chunk: int = CHUNK,
) -> Tensor:
    """Diagonal (units,) of the Hessian of the mean loss with respect to the gates.

    Where all layers are piecewise linear, so are the logits along one gate: the second
    derivative is J_m^T S J_m with J the logits' gradient and S the loss's Hessian in
    the logits, from one backward pass a class. (A stream's gate is met several times in
    a row, and there this is the Gauss-Newton part.) Other networks, with GELU or hooks,
    take the plain way: one product with the Hessian a unit. Errors as in
    `gate_gradients`.
    """
    images, labels = checked(model, images, labels)
    if not all(plain(layer, *PIECEWISE_LINEAR) for layer in model.modules()):
        units = torch.eye(model.units, dtype=images.dtype, device=images.device)
        rows = [
            hessian_vector_product(model, images, labels, unit, loss=loss, chunk=chunk)
            for unit in units
        ]
        return torch.stack(rows).diagonal()
    total = images.new_zeros(model.units)
    with evaluating(model), torch.enable_grad():
        for part, truth in _chunks(images, labels, chunk):
            gates = part.new_ones(len(part), model.units).requires_grad_()
            with gated(model, gates):
                logits = _logits(model, part)
            jacobian = _rows_of_jacobian(logits, gates)
            total += torch.einsum(
                "nku,nkl,nlu->u",
                jacobian,
                _loss_hessian(logits.detach(), truth, loss),
                jacobian,
            )
    return total / len(images)


def curvature_row(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = cross_entropy,
    chunk: int = CHUNK,
) -> Tensor:
    """Row sums (H 1)_m (units,) of the Hessian of the mean loss with respect to the
    gates, by one Hessian-vector product. Errors as in `gate_gradients`.
    """
    images, labels = checked(model, images, labels)
    ones = images.new_ones(model.units)
    return hessian_vector_product(model, images, labels, ones, loss=loss, chunk=chunk)


def hessian_vector_product(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    vector: Tensor,
    *,
    loss: Loss = cross_entropy,
    chunk: int = CHUNK,
) -> Tensor:
    """H v (units,) for the Hessian H of the mean loss with respect to the gates and a
    `vector` (units,). Errors as in `gate_gradients`.
    """
    images, labels = checked(model, images, labels)
    vector = _row(vector, "vector", model.units).to(images)
    total = images.new_zeros(model.units)
    with evaluating(model), torch.enable_grad():
        for part, truth in _chunks(images, labels, chunk):
            gates = part.new_ones(model.units).requires_grad_()
            with gated(model, gates):
                value = loss(_logits(model, part), truth).sum()
            (gradient,) = torch.autograd.grad(value, gates, create_graph=True)
            total += torch.autograd.grad(gradient @ vector, gates)[0]
    return total / len(images)


def _rows_of_jacobian(logits: Tensor, gates: Tensor) -> Tensor:
    """Derivatives (N, K, units) of each image's logits with respect to its gates."""
    count = logits.shape[1]
    rows = [
        torch.autograd.grad(logits[:, k].sum(), gates, retain_graph=k < count - 1)[0]
        for k in range(count)
    ]
    return torch.stack(rows, dim=1)


def _loss_hessian(logits: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Second derivatives (N, K, K) of each image's loss with respect to its logits."""
    logits = logits.requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        loss(logits, labels).sum(), logits, create_graph=True
    )
    rows = [
        torch.autograd.grad(gradient[:, k].sum(), logits, retain_graph=True)[0]
        for k in range(logits.shape[1])
    ]
    return torch.stack(rows, dim=1)


def _batch_means(values: Tensor, batch: int | None) -> Tensor:
    """Means (B, units) over consecutive batches; a last incomplete batch is left out
    unless it is the only one.
    """
    if batch is None or batch >= len(values):
        return values.mean(dim=0, keepdim=True)
    whole = len(values) // batch * batch
    return values[:whole].unflatten(0, (-1, batch)).mean(dim=1)


# Scores from weights
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightTerms:
    """Sums over a unit's weights w and their gradients g, one mini-batch a row: `sums`
    of w g, `squares` of (w g)^2 (B, units).
    """

    sums: Tensor
    squares: Tensor


def weight_terms(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    batch: int,
    bias: bool = True,
    loss: Loss = cross_entropy,
) -> WeightTerms:
    """Terms of the weights that make each unit (its filters or rows, and their biases
    unless `bias` is False).

    For ReLU networks without batch-norm, `sums` with biases are the gate's gradient;
    before a batch-norm, `sums` are the gradient of a gate between the convolution and
    the batch-norm. Errors as in `gate_gradients`.
    """
    images, labels = checked(model, images, labels)
    names = [name for group in model.groups for name in group.producers]
    parameters = [p for name in names for p in layer_parameters(model, name)]
    sums, squares = [], []
    for gradients in _parameter_gradients(
        model, parameters, images, labels, batch, loss
    ):
        products = _products(parameters, gradients)
        rows = [
            _unit_products(model, group.producers, products, bias)
            for group in model.groups
        ]
        sums.append(torch.cat([row.sum(dim=1) for row in rows]))
        squares.append(torch.cat([row.square().sum(dim=1) for row in rows]))
    return WeightTerms(torch.stack(sums), torch.stack(squares))


def norm_terms(
    model: Prunable,
    images: Tensor,
    labels: Tensor,
    *,
    batch: int,
    loss: Loss = cross_entropy,
) -> Tensor:
    """Sums (B, units) over a unit's batch-norms of gamma times its gradient plus beta
    times its gradient, one mini-batch a row.

    The gate multiplies what these batch-norms put out, so this is the gate's gradient,
    without any gate: one backward pass that computes no convolution's weight gradient,
    over images whose channels lie last in memory, where convolutions are faster. Raises
    ImportanceError if a unit has no batch-norm.
    """
    images, labels = checked(model, images, labels)
    require_norms(model, "the batch-norm form of the Taylor score")
    names = [name for group in model.groups for name in group.norms]
    parameters = [p for name in names for p in layer_parameters(model, name)]
    rows, last = [], images.contiguous(memory_format=torch.channels_last)
    for gradients in _parameter_gradients(model, parameters, last, labels, batch, loss):
        products = _products(parameters, gradients)
        parts = [
            _unit_products(model, group.norms, products, bias=True).sum(dim=1)
            for group in model.groups
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def require_norms(model: Prunable, what: str) -> None:
    """Raise ImportanceError that names a group without batch-norm, if there is one."""
    for group in model.groups:
        if not group.norms:
            raise ImportanceError(
                f"{what} needs a batch-norm behind every unit, and {group.name!r} "
                "has none"
            )


def _parameter_gradients(
    model: Prunable,
    parameters: list[nn.Parameter],
    images: Tensor,
    labels: Tensor,
    batch: int,
    loss: Loss,
) -> Iterator[tuple[Tensor, ...]]:
    """Gradients of the mean loss of each mini-batch with respect to `parameters` alone,
    in evaluation mode.
    """
    batch = checks.whole(batch, "batch", at_least=1)
    with evaluating(model):
        for part, truth in _chunks(images, labels, batch):
            if len(part) < batch <= len(images):
                return
            for parameter in parameters:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                value = loss(_logits(model, part), truth).mean()
            yield torch.autograd.grad(value, parameters)


def layer_parameters(model: Prunable, name: str) -> list[nn.Parameter]:
    """Weight and, if it has one, bias of a layer."""
    return list(model.get_submodule(name).parameters())


def _products(
    parameters: Iterable[nn.Parameter], gradients: Iterable[Tensor]
) -> dict[int, Tensor]:
    """Weight times gradient, one row a unit, by the identity of the parameter."""
    return {
        id(p): (p.detach() * gradient).reshape(len(p), -1)
        for p, gradient in zip(parameters, gradients, strict=True)
    }


def _unit_products(
    model: Prunable, layers: Iterable[str], products: dict[int, Tensor], bias: bool
) -> Tensor:
    """Products of weight and gradient (units, ...) of several layers, side by side."""
    parts = [
        products[id(p)]
        for name in layers
        for p in layer_parameters(model, name)[: 2 if bias else 1]
    ]
    return torch.cat(parts, dim=1)


def weight_norm(model: Prunable) -> Tensor:
    """Squared L2 norm (units,) of the weights that make each unit, biases left out (Li
    et al. 2016 use the L1 norm).
    """
    sums = []
    for group in checks.having(model, "model", "gates", "groups").groups:
        weights = [
            layer_parameters(model, name)[0].detach().flatten(1)
            for name in group.producers
        ]
        sums.append(torch.cat(weights, dim=1).square().sum(dim=1))
    return torch.cat(sums)


def norm_scale(model: Prunable) -> Tensor:
    """|gamma| (units,) of the batch-norm behind each unit, averaged where several read
    it (Ye et al. 2018).

    Raises ImportanceError if a unit has no batch-norm.
    """
    checks.having(model, "model", "gates", "groups")
    require_norms(model, "the batch-norm scale")

    def scale(norms: Iterable[str]) -> Tensor:
        return torch.stack(
            [layer_parameters(model, name)[0].detach().abs() for name in norms]
        ).mean(dim=0)

    return torch.cat([scale(group.norms) for group in model.groups])


def normalised_by_layer(model: Prunable, scores: Tensor) -> Tensor:
    """`scores` (units,) divided by their L2 norm within each group (Molchanov et al.
    2017); a group of zeros stays zero.
    """
    checks.having(model, "model", "gates", "groups")
    parts = model.split(_row(scores, "scores", model.units)).values()
    return torch.cat(
        [part / part.norm().clamp_min(torch.finfo(part.dtype).tiny) for part in parts]
    )


@torch.no_grad()
def positions(model: Prunable, image: Tensor) -> Tensor:
    """Number (units,) of places in the feature map of each unit for an `image` (1, C,
    H, W); 1 for a neuron.
    """
    checks.having(model, "model", "gates", "groups")
    image = beside(model, checks.images(image, "image"))
    sizes: dict[int, int] = {}

    def see(gate: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes[id(gate)] = output[0, 0].numel()

    handles = [gate.register_forward_hook(see) for gate in model.gates()]
    try:
        with evaluating(model):
            _logits(model, image)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(
        [image.new_full((gate.units,), sizes[id(gate)]) for gate in model.gates()]
    )


# All criteria by name
# --------------------------------------------------------------------------------------


class Evidence:
    """A network and the images on which it is scored; what several criteria need is
    computed once, when first asked for.
    """

    def __init__(
        self,
        model: Prunable,
        images: Tensor,
        labels: Tensor,
        *,
        batch: int,
        generator: Generator,
        loss: Loss = cross_entropy,
    ) -> None:
        self.images, self.labels = checked(model, images, labels)
        self.batch = checks.whole(batch, "batch", at_least=1)
        self.generator = checks.generator(generator)
        self.model, self.loss = model, loss

    @cached_property
    def gradients(self) -> Tensor:
        """See `gate_gradients`."""
        return gate_gradients(self.model, self.images, self.labels, loss=self.loss)

    @cached_property
    def diagonal(self) -> Tensor:
        """See `curvature_diagonal`."""
        return curvature_diagonal(self.model, self.images, self.labels, loss=self.loss)

    @cached_property
    def row(self) -> Tensor:
        """See `curvature_row`."""
        return curvature_row(self.model, self.images, self.labels, loss=self.loss)

    @cached_property
    def weights(self) -> WeightTerms:
        """See `weight_terms`; without biases."""
        return weight_terms(
            self.model,
            self.images,
            self.labels,
            batch=self.batch,
            bias=False,
            loss=self.loss,
        )

    @cached_property
    def norms(self) -> Tensor:
        """See `norm_terms`."""
        return norm_terms(
            self.model, self.images, self.labels, batch=self.batch, loss=self.loss
        )

    @cached_property
    def output(self) -> Tensor:
        """See `taylor_output`."""
        return taylor_output(self.gradients, positions(self.model, self.images[:1]))


def _normalised(
    criterion: Callable[[Evidence], Tensor],
) -> Callable[[Evidence], Tensor]:
    return lambda seen: normalised_by_layer(seen.model, criterion(seen))


CRITERIA: dict[str, Callable[[Evidence], Tensor]] = {
    "taylor-fo": lambda seen: first_order(seen.gradients, seen.batch),
    "taylor-fo whole set": lambda seen: first_order(seen.gradients),
    "taylor-fo-fg": lambda seen: per_example(seen.gradients),
    "taylor-so": lambda seen: second_order(seen.gradients.mean(dim=0), seen.diagonal),
    "taylor-so row": lambda seen: second_order(seen.gradients.mean(dim=0), seen.row),
    "obd": lambda seen: seen.diagonal / 2,
    "weight taylor": lambda seen: seen.weights.squares.mean(dim=0),
    "weight taylor sum": lambda seen: seen.weights.sums.square().mean(dim=0),
    "bn taylor": lambda seen: seen.norms.square().mean(dim=0),
    "bn-scale": lambda seen: norm_scale(seen.model),
    "weight-norm": lambda seen: weight_norm(seen.model),
    "weight-norm by layer": _normalised(lambda seen: weight_norm(seen.model)),
    "taylor-fo by layer": _normalised(
        lambda seen: first_order(seen.gradients, seen.batch)
    ),
    "taylor output": lambda seen: seen.output,
    "taylor output by layer": _normalised(lambda seen: seen.output),
    "random": lambda seen: uniform((seen.model.units,), seen.images, seen.generator),
}
"""Criteria by name; every one gives scores (units,), low for a unit that can go."""


def score(criterion: str, seen: Evidence) -> Tensor:
    """Scores (units,) of a network by the criterion of that name.

    Raises ArgumentError if the name is unknown, ImportanceError if the network cannot
    have this score, or a score is not finite (named).
    """
    checks.one_of(criterion, "criterion", CRITERIA)
    scores = CRITERIA[criterion](seen)
    require_finite(seen.model, scores, criterion)
    return scores


def require_finite(model: Prunable, scores: Tensor, criterion: str) -> None:
    """Raise ImportanceError that names the first unit whose score is NaN or
    infinite.
    """
    for name, part in model.split(scores).items():
        wrong = (~torch.isfinite(part)).nonzero()
        if len(wrong):
            unit = int(wrong[0])
            raise ImportanceError(
                f"{criterion} of unit {unit} of {name!r} is {part[unit].item()}; "
                f"{len(wrong)} such there"
            )
