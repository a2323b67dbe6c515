"""The gate for a user's own networks, images and numbers: every public function asks
here, and every refusal is an `ArgumentError`.

Read `ArgumentError` first, then `images`, `labels` and `logits` (tensors), `network`,
then the numbers: `real`, `whole`, `budget`, and `values` (columns of statistics).
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from robustbook.errors import UserError, shortened

if TYPE_CHECKING:  # Torch is slow to import, and statistics ask here too.
    from torch import Generator, Tensor
    from torch.nn import Module


class ArgumentError(UserError, ValueError):
    """An argument that a function cannot take: its name, what it may be,
    what was given.

    >>> ArgumentError("steps", "a whole number, at least 1", 0)
    ArgumentError('steps must be a whole number, at least 1, got 0')
    """

    def __init__(self, name: str, allowed: str, given: object) -> None:
        super().__init__(f"{name} must be {allowed}, got {told(given)}")


def told(given: object) -> str:
    """What was given, in at most 120 characters: tensors by type and shape."""
    if _is_tensor(given):
        return (
            f"a {str(given.dtype).removeprefix('torch.')} tensor {tuple(given.shape)}"
        )
    if isinstance(given, np.ndarray):
        return f"a {given.dtype} array {given.shape}"
    text = given if isinstance(given, str) else repr(given)
    return shortened(text, 120)


def _is_tensor(given: object) -> TypeGuard[Tensor]:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


# Tensors -----------------------------------------------------------------------------


def tensor(given: Tensor, name: str, *, dimensions: int | None = None) -> Tensor:
    """A floating, finite tensor of so many dimensions, cut from any graph.

    Raises ArgumentError if it is anything else.
    """
    if not _is_tensor(given):
        raise ArgumentError(name, "a tensor", type(given).__name__)
    if dimensions is not None and given.dim() != dimensions:
        raise ArgumentError(name, f"a tensor of {dimensions} dimensions", given)
    if not given.is_floating_point():
        raise ArgumentError(name, "of a floating type", given)
    given = given.detach()
    if not _finite(given):
        raise ArgumentError(name, "finite", "NaN or infinity in it")
    return given


def _finite(given: Tensor) -> bool:
    """Whether all entries are finite. The sum is, if they are and do not overflow,
    and is the fastest to look at.
    """
    import torch

    total = float(given.sum())
    return math.isfinite(total) or bool(torch.isfinite(given).all())


def images(given: Tensor, name: str = "images") -> Tensor:
    """Images (N, C, H, W), N >= 1, floating, finite and in [0, 1], cut from any graph.

    Raises ArgumentError if they are anything else; integer images are refused, since
    what looks like 0..255 there would be a budget of another unit.
    """
    import torch

    if not _is_tensor(given) or given.dim() != 4:
        what = given if _is_tensor(given) else type(given).__name__
        raise ArgumentError(name, "a tensor (N, C, H, W)", what)
    if not given.numel():
        raise ArgumentError(name, "at least one image with pixels", given)
    given = tensor(given, name)
    low, high = (float(end) for end in torch.aminmax(given))
    if low < 0 or high > 1:
        raise ArgumentError(name, "in [0, 1]", f"values from {low:g} to {high:g}")
    return given


def labels(
    given: Tensor, images: Tensor, classes: int | None = None, *, name: str = "labels"
) -> Tensor:
    """Labels (N,) of the N `images` as int64: whole numbers from 0 to `classes` - 1.

    Raises ArgumentError for another shape (one-hot, (N, 1)), type or range.
    """
    import torch

    count = len(images)
    if not _is_tensor(given) or given.shape != (count,):
        what = given if _is_tensor(given) else type(given).__name__
        raise ArgumentError(name, f"a tensor ({count},), one label an image", what)
    return _classes(given, classes, name).to(images.device, torch.int64)


def labels_of(given: Tensor, logits: Tensor, *, name: str = "labels") -> Tensor:
    """Labels (...) of `logits` (..., K) as int64; errors as in `labels`."""
    import torch

    if not _is_tensor(given) or given.shape != logits.shape[:-1]:
        what = given if _is_tensor(given) else type(given).__name__
        shape = tuple(logits.shape[:-1])
        raise ArgumentError(name, f"a tensor {shape}, one label a row of logits", what)
    return _classes(given, logits.shape[-1], name).to(logits.device, torch.int64)


def _classes(given: Tensor, classes: int | None, name: str) -> Tensor:
    import torch

    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ArgumentError(name, "of an integer type", given)
    low, high = (int(end) for end in torch.aminmax(given))
    if low < 0 or (classes is not None and high >= classes):
        end = "" if classes is None else f" to {classes - 1}"
        raise ArgumentError(name, f"from 0{end}", f"values from {low} to {high}")
    return given


def mask(given: Tensor, name: str, shape: Iterable[int] | None = None) -> Tensor:
    """A mask as booleans, of the given shape if there is one: True and False, or
    numbers 0 and 1.

    Raises ArgumentError for other values or another shape.
    """
    import torch

    if not _is_tensor(given):
        raise ArgumentError(name, "a tensor", type(given).__name__)
    if shape is not None and given.shape != tuple(shape):
        raise ArgumentError(name, f"a mask of shape {tuple(shape)}", given)
    if given.dtype != torch.bool and not bool(((given == 0) | (given == 1)).all()):
        raise ArgumentError(name, "a mask of 0 and 1", given)
    return given.detach().bool()


def network(given: Module, name: str = "model") -> Module:
    """A network, as far as can be said before it is run: an `nn.Module`."""
    from torch.nn import Module

    if not isinstance(given, Module):
        raise ArgumentError(name, "an nn.Module", type(given).__name__)
    return given


def logits(
    given: Tensor, count: int, classes: int | None = None, *, name: str = "model"
) -> Tensor:
    """A network's outputs for `count` images: logits (N, K), K >= 2, floating, finite.

    Raises ArgumentError if they are anything else, or have not `classes` columns.
    """
    if not _is_tensor(given):
        raise ArgumentError(f"the output of {name}", "a tensor", type(given).__name__)
    if given.dim() != 2 or len(given) != count or given.shape[1] < 2:
        allowed = f"logits ({count}, K) of K >= 2 classes"
        raise ArgumentError(f"the output of {name}", allowed, given)
    if classes is not None and given.shape[1] != classes:
        raise ArgumentError(f"the output of {name}", f"of {classes} classes", given)
    if not given.is_floating_point():
        raise ArgumentError(f"the output of {name}", "of a floating type", given)
    if not _finite(given.detach()):
        raise ArgumentError(f"the output of {name}", "finite", "NaN or infinity in it")
    return given


def having(given: Any, name: str, *attributes: str) -> Any:
    """Anything that has the attributes: a posterior, say, that has `draw`."""
    if isinstance(given, str) or not all(hasattr(given, each) for each in attributes):
        allowed = f"something with {', '.join(attributes)}"
        raise ArgumentError(name, allowed, type(given).__name__)
    return given


def generator(given: Generator, name: str = "generator") -> Generator:
    """A `torch.Generator`, since nothing here draws unseeded numbers."""
    from torch import Generator

    if not isinstance(given, Generator):
        raise ArgumentError(name, "a torch.Generator", type(given).__name__)
    return given


# Numbers -----------------------------------------------------------------------------


def real(
    given: Any,
    name: str,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """A finite real number in the given range, as a float (a 0-dimensional tensor or
    NumPy number will do).

    Raises ArgumentError for anything else, True and False among them.
    """
    number = (
        given.item() if isinstance(given, np.generic) or _is_tensor(given) else given
    )
    limits = _limits(at_least=at_least, above=above, at_most=at_most, below=below)
    allowed = f"a finite number{limits}"
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise ArgumentError(name, allowed, given)
    number = float(number)
    inside = at_least <= number <= at_most and above < number < below
    if not math.isfinite(number) or not inside:
        raise ArgumentError(name, allowed, given)
    return number


def whole(
    given: Any, name: str, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """A whole number in the given range, as an int (a float, 2.0 too, is refused).

    Raises ArgumentError for anything else, True and False among them.
    """
    number = (
        given.item() if isinstance(given, np.generic) or _is_tensor(given) else given
    )
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    allowed = f"a whole number{_limits(at_least=low, at_most=high)}"
    if isinstance(number, bool) or not isinstance(number, numbers.Integral):
        raise ArgumentError(name, allowed, given)
    if not low <= int(number) <= high:
        raise ArgumentError(name, allowed, given)
    return int(number)


def _limits(**ends: float) -> str:
    words = {"at_least": "at least", "at_most": "at most"}
    said = [
        f"{words.get(key, key)} {value:g}"
        for key, value in ends.items()
        if math.isfinite(value)
    ]
    return f", {' and '.join(said)}" if said else ""


def sides(given: Any, name: str, count: int) -> tuple[int, ...]:
    """So many whole numbers, at least 1: the shape of an image."""
    if not isinstance(given, Iterable) or len(found := tuple(given)) != count:
        raise ArgumentError(name, f"{count} whole numbers", given)
    return tuple(whole(side, name, at_least=1) for side in found)


def budget(
    given: float | Tensor, images: Tensor, name: str = "epsilon"
) -> float | Tensor:
    """A budget or step size in pixel units: one number >= 0 (then a float), or one for
    each of the N `images` (then a tensor (N,) beside them).

    Raises ArgumentError if it is negative, not finite or of another shape.
    """
    if _is_tensor(given) and given.dim():
        if given.shape != (len(images),):
            raise ArgumentError(name, f"one number or a tensor ({len(images)},)", given)
        given = tensor(given, name).to(images)
        if bool((given < 0).any()):
            raise ArgumentError(name, "at least 0", f"values from {float(given.min())}")
        return given
    return real(given, name, at_least=0)


# Statistics --------------------------------------------------------------------------


def array(
    given: npt.ArrayLike,
    name: str,
    *,
    dimensions: int | None = None,
    finite: bool = True,
) -> npt.NDArray[np.float64]:
    """Finite numbers as float64, of so many dimensions if that is said; without
    `finite`, NaN and infinity too.

    Raises ArgumentError for NaN, infinity, text, another number of dimensions.
    """
    try:
        found = np.asarray(given)
        if found.dtype.kind in "SU":
            raise ArgumentError(name, "numbers", given)
        found = found.astype(np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(name, "numbers", given) from None
    if dimensions is not None and found.ndim != dimensions:
        raise ArgumentError(name, f"an array of {dimensions} dimensions", found)
    if finite and not np.isfinite(found).all():
        raise ArgumentError(name, "finite", "NaN or infinity in it")
    return found


def values(
    given: npt.ArrayLike, name: str, *, count: int = 1
) -> npt.NDArray[np.float64]:
    """A column of finite numbers (n,), at least `count` of them, as float64.

    Raises ArgumentError for NaN, infinity, text, another number of dimensions.
    """
    column = array(given, name)
    if column.ndim != 1 or len(column) < count:
        raise ArgumentError(name, f"a column of at least {count} numbers", column)
    return column


def same_length(**columns: npt.ArrayLike) -> None:
    """Raise ArgumentError unless all columns have one length."""
    lengths = {name: len(np.asarray(column)) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(" and ".join(lengths), "of one length", lengths)


def one_of(given: Any, name: str, options: Iterable[Any]) -> Any:
    """One of the named options; ArgumentError if it is none of them."""
    known = list(options)
    if not any(given is option or given == option for option in known):
        allowed = f"one of {', '.join(str(option) for option in known)}"
        raise ArgumentError(name, allowed, given)
    return given
