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
that it needs. `report` never raises: the untouched stub, which is part of every run,
shows "Not solved yet", and its page stays whole. The solution runs too, folded away on
the page. An exercise to implement something has a stub such as `def psi(model, images):
...`; its check calls it.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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

    Any other error that the answer causes is reported by its name, for an unfinished
    function fails in many ways.
    """
    try:
        check(answer)
    except AssertionError as hint:
        return Outcome(
            False,
            next(iter(str(hint).strip().splitlines()), "The answer is not right yet."),
        )
    except Exception as error:
        return Outcome(False, f"The check stopped with {type(error).__name__}: {error}")
    return Outcome(True, "")


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
