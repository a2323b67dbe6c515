"""Points for exercises in a lesson: `graded` in the cell below each answer, `score` in
the last cell, `read` for whoever collects the codes.

nbgrader reads the points of a cell from what it shows as text, so that a `Graded` shows
its points as text and the hint as HTML.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustbook.exercises import Outcome, report

_EARNED: dict[str, Graded] = {}
_CODE = re.compile(r"(?P<said>(?P<study>\w+):(?P<student>[^:]*):.*):(?P<seal>\w{8})")
_PART = re.compile(r"(?P<name>[\w-]+)=(?P<earned>\d+)/(?P<points>\d+)")


@dataclass(frozen=True)
class Graded:
    """How an answer went, and its points."""

    outcome: Outcome
    points: int

    @property
    def earned(self) -> int:
        """All points or none."""
        return self.points if self.outcome.correct else 0

    def __repr__(self) -> str:
        return str(self.earned)

    def _repr_html_(self) -> str:
        return f"{self.outcome._repr_html_()}<p>{self.earned} of {self.points}</p>"


def graded(
    name: str, check: Callable[[Any], object], answer: object, *, points: int
) -> Graded:
    """Check the answer to an exercise, note its points and show both.

    What an answer prints is not shown: a line on stderr would cost all points.
    """
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        outcome = report(check, answer)
    _EARNED[name] = Graded(outcome, points)
    return _EARNED[name]


@dataclass(frozen=True)
class Score:
    """What a student earned in a lesson: points by exercise, (earned, possible)."""

    study: str
    student: str
    parts: dict[str, tuple[int, int]]

    @property
    def code(self) -> str:
        """A line to hand in. Its seal finds slips of the hand; it is no proof."""
        listed = ",".join(f"{name}={e}/{p}" for name, (e, p) in self.parts.items())
        said = f"{self.study}:{self.student}:{listed}"
        return f"{said}:{_seal(said)}"

    def __str__(self) -> str:
        earned, points = (sum(pair) for pair in zip(*self.parts.values(), strict=True))
        return f"{earned} of {points} points"

    def _repr_html_(self) -> str:
        return (
            f'<p role="status"><strong>{self}.</strong> Hand in this line:</p>'
            f"<pre>{html.escape(self.code)}</pre>"
        )


def score(study: str, exercises: dict[str, int], student: str = "") -> Score:
    """The score of a lesson: of `exercises`, which have these points, what was earned
    since the notebook was opened.
    """
    parts = {
        name: (_EARNED[name].earned if name in _EARNED else 0, points)
        for name, points in exercises.items()
    }
    return Score(study, " ".join(student.replace(":", " ").split()), parts)


def read(code: str) -> Score:
    """The score in a student's line; ValueError where it was changed or cut."""
    found = _CODE.fullmatch(code.strip())
    if not found or _seal(found["said"]) != found["seal"]:
        raise ValueError("the code is not whole: copy the line once more")
    parts = {
        part["name"]: (int(part["earned"]), int(part["points"]))
        for part in _PART.finditer(found["said"].rpartition(":")[2])
    }
    return Score(found["study"], found["student"], parts)


def _seal(said: str) -> str:
    return hashlib.sha256(f"robustbook {said}".encode()).hexdigest()[:8]
