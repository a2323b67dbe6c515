"""Exercises with a check and a folded solution: `report` (what a cell shows), then
`cells` and `outcomes` (for tests).

An exercise is a Markdown cell that asks, and two code cells of the notebook that name
it and end with `report`::

    # %% tags=["exercise"] exercise="full-swap"
    answer = None  # the psi of an image whose normalised one-hot logits move to another
    class exercises.report(study.check_full_swap, answer)

    # %% tags=["solution", "hide-cell"] exercise="full-swap"
    answer = 1 / 2.433202
    exercises.report(study.check_full_swap, answer)

A check takes the answer (a number, a text, a function) and raises AssertionError with a
hint if it is wrong, so that `assert isinstance(answer, float), "give a number"` is all
that it needs: `plainly` has made every real number a float before, and given every text
the case that the check writes. `report` never raises: the untouched stub, which is part
of every run, shows "Not solved yet", and its page stays whole. The solution runs too,
folded away on the page. An exercise to implement something has a stub such as `def
psi(model, images): ...`; its check calls it, and names what it returns `found` and what
is right `expected`: where one follows from the other, `relation` says how.
"""

from __future__ import annotations

import html
import linecache
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Role = Literal["exercise", "solution"]
_SOLVED, _UNSOLVED = "pm-exercise pm-solved", "pm-exercise pm-unsolved"


@dataclass(frozen=True)
class Outcome:
    """Whether an answer passed its check, and the hint or the error if not."""

    correct: bool
    message: str

    def __str__(self) -> str:
        return (
            f"{'Correct' if self.correct else 'Not solved yet'}. {self.message}".strip()
        )

    def _repr_html_(self) -> str:
        head, _, rest = str(self).partition(".")
        style = _SOLVED if self.correct else _UNSOLVED
        return (
            f'<p class="{style}" '
            f'role="status"><strong>{head}.</strong>{html.escape(rest)}</p>'
        )


def report(check: Callable[[Any], object], answer: object) -> Outcome:
    """Run `check(answer)` and say how it went; a hint is the first line of its
    AssertionError.

    Any other error that the answer causes is reported by its type, its message and the
    line of the answer's own code, for an unfinished function fails in many ways.
    """
    try:
        check(plainly(answer, check))
    except Exception as error:
        if said := _own_error(answer, error):
            return Outcome(False, said)
        if isinstance(error, AssertionError):
            return Outcome(False, _hint(error))
        return Outcome(False, f"The check stopped with {_named(error)}")
    return Outcome(True, "")


def _hint(error: AssertionError) -> str:
    """What is wrong, by how the numbers relate to the right ones; else the check's
    hint.
    """
    said = str(error).strip().partition("\n")[0]
    *_, (frame, number) = traceback.walk_tb(error.__traceback__)
    line = linecache.getline(frame.f_code.co_filename, number).strip()
    if not line.startswith("assert not ") and {"found", "expected"} <= set(
        frame.f_locals
    ):
        said = relation(frame.f_locals["found"], frame.f_locals["expected"]) or said
    return said or "The answer is not right yet."


def _own_error(answer: object, error: Exception) -> str:
    """What an error in the answer's own code says; empty where it came from
    elsewhere.
    """
    module = getattr(answer, "__module__", None)
    own = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if callable(answer) and frame.f_globals.get("__name__") == module
    ]
    if not own:
        return ""
    line = linecache.getline(*own[-1]).strip()
    shown = f", `{line}`" if line else ""
    return f"Your function stopped with {_named(error)} (line {own[-1][1]}{shown})"


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


# Answers as checks take them
# --------------------------------------------------------------------------------------


def plainly(answer: Any, check: Callable[[Any], object]) -> Any:
    """The answer with every real number in it a float, and every text as `check` writes
    it, whatever its case.

    Numbers of NumPy and tensors without dimensions are numbers; truth values stay.
    """
    exact = set(_texts(check))
    texts = {text.casefold(): text for text in sorted(exact)}

    def plain(value: Any) -> Any:
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, str):
            text = value.strip()
            return text if text in exact else texts.get(text.casefold(), text)
        if isinstance(value, Real | Decimal) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, dict):
            return {_key(plain, key): plain(each) for key, each in value.items()}
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(map(plain, value))
        return value

    return plain(answer)


def _key(plain: Callable[[Any], Any], key: Any) -> Any:
    return plain(key) if isinstance(key, str) else key


def _texts(check: Callable[[Any], object]) -> Iterator[str]:
    """Texts of one line that a check, or what it calls, writes or names."""
    waiting: list[Any] = [check]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, str) and "\n" not in value:
            yield value
        elif isinstance(value, set | frozenset | tuple | list | dict):
            waiting += value
        elif isinstance(value, CodeType):
            waiting += value.co_consts
        elif isinstance(value, FunctionType):
            waiting += [value.__code__, *_used(value)]


def _used(function: FunctionType) -> Iterator[Any]:
    """The globals that a function names: plain values, and functions beside it or in a
    module that it names.
    """
    names, space = function.__code__.co_names, function.__globals__
    for value in (space[name] for name in names if name in space):
        if isinstance(value, ModuleType):
            inside = vars(value)
            yield from (
                each
                for name in names
                if isinstance(each := inside.get(name), FunctionType)
                and each.__module__ == value.__name__
            )
        elif not isinstance(value, FunctionType) or (
            value.__module__ == function.__module__
        ):
            yield value


# What is wrong with numbers
# --------------------------------------------------------------------------------------


def relation(found: Any, expected: Any) -> str:
    """How numbers follow from the right ones (another sign, a factor, a square, another
    order), in a sentence; empty where they do not.
    """
    import numpy as np

    try:
        yours, right = _numbers(found), _numbers(expected)
    except (TypeError, ValueError, RuntimeError):
        return ""
    if yours.size != right.size or not right.any() or not np.isfinite(yours).all():
        return ""
    if yours.shape != right.shape:
        same = _near(yours.ravel(), right.ravel())
        return _SHAPE.format(yours.shape, right.shape) if same else ""
    return next((said for said in _relations(yours, right) if said), "")


_SHAPE = "The numbers are right, their shape is not: {} in place of {}."


def _numbers(values: Any) -> Array:
    import numpy as np

    if isinstance(values, list | tuple):
        return np.stack([_numbers(value) for value in values])
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, float)


def _near(left: Array, right: Array) -> bool:
    import numpy as np

    return bool(np.allclose(left, right, rtol=1e-3, atol=1e-6 * np.abs(right).max()))


def _relations(yours: Array, right: Array) -> Iterator[str]:
    """What could be said of the numbers, each sentence empty unless it is true."""
    import numpy as np

    if _near(yours, right):
        return
    yield "The sign is the other way round." * _near(-yours, right)
    factor = float((yours * right).sum() / (right * right).sum())
    if factor and _near(yours / factor, right):
        yield _factor(factor)
    with np.errstate(all="ignore"):
        yield "Square your numbers, and they are right." * _near(yours**2, right)
        yield "Take the root of your numbers, and they are right." * (
            _near(yours, right**2)
        )
        yield "Take the logarithm of your numbers, and they are right." * (
            _near(np.log(np.abs(yours)), right) and bool((yours > 0).all())
        )
    if right.ndim >= 2 and right.shape[-1] == right.shape[-2]:
        yield "Rows and columns are exchanged." * _near(
            np.swapaxes(yours, -1, -2), right
        )
    if right.ndim == 1 and len(right) > 2:
        yield "The order is turned round." * _near(yours[::-1], right)
        one_early = _near(yours[:-1], right[1:])
        one_late = _near(yours[1:], right[:-1])
        yield "Your numbers are off by one place." * (one_early or one_late)
    yield "These are the right numbers in another order." * _near(
        np.sort(yours, axis=None), np.sort(right, axis=None)
    )
    gap = float((yours - right).mean()) if right.size > 1 else 0.0
    yield f"All your numbers are off by {gap:.3g}." * _near(yours - gap, right)


def _factor(factor: float) -> str:
    """A sentence about numbers that are the right ones times a factor."""
    if factor < 0:
        return (
            f"Your numbers are the right ones times {factor:.3g}: mind the sign, too."
        )
    for value, way, cause in (
        (factor, "times", "a sum where a mean belongs"),
        (1 / factor, "divided by", "a mean where a sum belongs"),
    ):
        whole = round(value)
        if whole >= 2 and abs(value / whole - 1) < 1e-3:
            root = round(whole**0.5)
            squared = f" (over {root}, before a square)" if root**2 == whole > 4 else ""
            return f"Your numbers are the right ones {way} {whole}: {cause}{squared}?"
    return (
        f"Your numbers are the right ones times {factor:.3g}: mind units and factors."
    )


# Exercises of a notebook
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """The source of an exercise's two code cells."""

    stub: str
    solution: str


def cells(path: Path) -> dict[str, Exercise]:
    """The exercises of a percent notebook by name, in the order of the page.

    Raises ValueError if a tagged cell has no name, or an exercise does not have exactly
    one stub and one solution.
    """
    import jupytext

    pairs = _pairs(jupytext.read(path).cells)
    return {
        name: Exercise(stub["source"], solution["source"])
        for name, (stub, solution) in pairs.items()
    }


def outcomes(notebook: Mapping[str, Any]) -> dict[str, tuple[bool, bool]]:
    """Of each exercise of an executed notebook: whether the stub and whether the
    solution passed the check.

    Raises ValueError as `cells` does, or if a cell of an exercise did not end with
    `report`.
    """
    return {
        name: (_passed(stub), _passed(solution))
        for name, (stub, solution) in _pairs(notebook["cells"]).items()
    }


def _pairs(
    all_cells: Iterable[Mapping[str, Any]],
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    found: dict[str, dict[Role, Mapping[str, Any]]] = {}
    for cell in all_cells:
        role = _role(cell)
        if role is None:
            continue
        name = cell["metadata"].get("exercise")
        if not name:
            raise ValueError(
                f"a cell tagged {role!r} does not say which exercise it belongs to"
            )
        if role in found.setdefault(name, {}):
            raise ValueError(
                f"exercise {name!r} has more than one cell tagged {role!r}"
            )
        found[name][role] = cell
    for name, roles in found.items():
        if len(roles) != 2:
            raise ValueError(
                f"exercise {name!r} needs one cell tagged 'exercise' and one tagged "
                "'solution'"
            )
    return {
        name: (roles["exercise"], roles["solution"]) for name, roles in found.items()
    }


def _role(cell: Mapping[str, Any]) -> Role | None:
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] != "code":
        return None
    return (
        "exercise" if "exercise" in tags else "solution" if "solution" in tags else None
    )


def _passed(cell: Mapping[str, Any]) -> bool:
    shown = "".join(
        "".join(output.get("data", {}).get("text/html", ""))
        for output in cell.get("outputs", [])
    )
    if _SOLVED in shown or _UNSOLVED in shown:
        return _UNSOLVED not in shown
    raise ValueError(
        f"a cell of exercise {cell['metadata']['exercise']!r} shows no outcome: end "
        "it with report(...)"
    )
