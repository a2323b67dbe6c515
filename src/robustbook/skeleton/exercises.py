"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.
"""

from __future__ import annotations


def check_budget(answer: float | None) -> None:
    """The budget, in pixel units, of 8 grey levels of 255."""
    assert isinstance(answer, float), "Give one number."
    assert abs(answer - 8) > 1e-6, "Pixel units: black is 0 and white is 1."
    assert abs(answer - 8 / 255) < 1e-6, "White is grey level 255."
