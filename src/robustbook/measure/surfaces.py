"""Loss and decision surfaces in input space, along one direction or over a plane (Yu et
al. 2019).

Read `decision_surface` first, then `plane` and `line`, then `best_threshold`, which
asks what one level of the cross-entropy can tell of the decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.checks import ArgumentError
from robustbook.measure.divergence import normalise_logits
from robustbook.models.network import CHUNK, compute_logits
from robustbook.perturb.gradient import cross_entropy, margin

Array = npt.NDArray[np.float64]


def decision_surface(logits: Tensor, labels: Tensor) -> Tensor:
    """S = Z_y - max_{i != y} Z_i (n,): positive where the prediction is right, 0 on the
    decision boundary.
    """
    return -margin(logits, labels)


@dataclass(frozen=True)
class Surface:
    """What a network makes of image + alpha * direction_1 + beta * direction_2.

    `alphas` (A,) and `betas` (B,) are in units of the directions; `cross_entropy`
    (nats), `decision` (logit units) and `predicted` (class index) have shape (A, B). A
    line has one beta, 0. `label` is the true class.
    """

    alphas: Array
    betas: Array
    cross_entropy: Array
    decision: Array
    predicted: npt.NDArray[np.int64]
    label: int

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Cells (A, B) where the predicted class is not the true one."""
        return self.predicted != self.label


def plane(
    model: Module,
    image: Tensor,
    label: int,
    direction_1: Tensor,
    direction_2: Tensor,
    alphas: npt.ArrayLike,
    betas: npt.ArrayLike,
    *,
    clip: bool = False,
    normalise: bool = False,
    chunk: int = CHUNK,
) -> Surface:
    """The surfaces over the plane that two directions span around `image` (C, H, W);
    all three have that shape.

    `clip` cuts every point to [0, 1] (then the plane bends at the edge of the pixel
    range); `normalise` reads the surfaces off normalised logits, so that networks with
    logits of different size can be compared.

    Raises ArgumentError if a direction has not the shape of the image, the image leaves
    [0, 1], the label is no class, or a number is not finite.
    """
    image = checks.images(checks.tensor(image, "image", dimensions=3)[None], "image")[0]
    label = checks.whole(label, "label", at_least=0)
    chunk = checks.whole(chunk, "chunk", at_least=1)
    directions = {"direction_1": direction_1, "direction_2": direction_2}
    for name, direction in directions.items():
        if checks.tensor(direction, name).shape != image.shape:
            allowed = f"of the image's shape {tuple(image.shape)}"
            raise ArgumentError(name, allowed, direction)
    along, across = checks.values(alphas, "alphas"), checks.values(betas, "betas")
    grid = torch.cartesian_prod(
        torch.from_numpy(along), torch.from_numpy(across)
    ).reshape(-1, 2)
    parts = []
    for cells in grid.to(image.device, image.dtype).split(chunk):
        alpha, beta = cells[:, 0].view(-1, 1, 1, 1), cells[:, 1].view(-1, 1, 1, 1)
        points = image + alpha * direction_1 + beta * direction_2
        parts.append(
            compute_logits(model, points.clamp(0, 1) if clip else points, chunk=chunk)
        )
    logits = checks.logits(torch.cat(parts), len(grid)).double()
    logits = normalise_logits(logits) if normalise else logits
    if label >= logits.shape[1]:
        raise ArgumentError("label", f"from 0 to {logits.shape[1] - 1}", label)
    labels = torch.full((len(logits),), label, device=logits.device)

    def cells_of(values: Tensor) -> npt.NDArray[np.float64]:
        return values.reshape(len(along), len(across)).cpu().numpy()

    return Surface(
        alphas=along,
        betas=across,
        cross_entropy=cells_of(cross_entropy(logits, labels)),
        decision=cells_of(decision_surface(logits, labels)),
        predicted=logits.argmax(dim=1).reshape(len(along), len(across)).cpu().numpy(),
        label=label,
    )


def line(
    model: Module,
    image: Tensor,
    label: int,
    direction: Tensor,
    alphas: npt.ArrayLike,
    *,
    clip: bool = False,
    normalise: bool = False,
    chunk: int = CHUNK,
) -> Surface:
    """`plane` along one direction: a Surface whose only beta is 0, with values of shape
    (A, 1).
    """
    checks.tensor(direction, "direction", dimensions=3)
    return plane(
        model,
        image,
        label,
        direction,
        direction,
        alphas,
        [0.0],
        clip=clip,
        normalise=normalise,
        chunk=chunk,
    )


@dataclass(frozen=True)
class Threshold:
    """A `level` that sorts cells: what lies above it is called wrong; `error` is the
    share of cells that it sorts wrongly.
    """

    level: float
    error: float


def best_threshold(values: npt.ArrayLike, wrong: npt.ArrayLike) -> Threshold:
    """The threshold of `values` that sorts the fewest cells wrongly, `wrong` being what
    lies above it.

    `values` and `wrong` (bool) have the same shape, `values` say a cross-entropy
    surface. Error 0 means that a single level separates right from wrong predictions.
    Cells of equal value fall on the same side; of several best levels the lowest is
    given, -inf where all cells lie above it.

    Raises ArgumentError if the shapes differ or are empty, or a value is not finite.
    """
    level = checks.values(checks.array(values, "values").ravel(), "values")
    marks = checks.array(wrong, "wrong").ravel()
    if not np.isin(marks, (0, 1)).all():
        raise ArgumentError("wrong", "True or False in each cell", wrong)
    target = marks == 1
    if level.shape != target.shape:
        raise ArgumentError("wrong", f"of the shape of values {level.shape}", target)
    order = np.argsort(level, kind="stable")
    level, target = level[order], target[order]
    # A cut after `count` cells calls those right and the rest wrong; it is possible
    # only between different values.
    wrong_below = np.concatenate([[0], np.cumsum(target)])
    right_above = np.concatenate([np.cumsum(~target[::-1])[::-1], [0]])
    possible = np.concatenate([[True], level[1:] > level[:-1], [True]])
    errors = np.where(possible, wrong_below + right_above, target.size + 1)
    best = int(errors.argmin())
    return Threshold(
        float(level[best - 1]) if best else -np.inf, float(errors[best] / target.size)
    )
