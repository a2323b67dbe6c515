"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ALL_HELD = float(1 - 0.025 ** (1 / 50))
MASKED = {"Square breaks what gradients leave"}
SIGNS = {
    *MASKED,
    "accuracy falls with the budget",
    "noise costs less than an attack",
}


def check_all_held(answer: float | None) -> None:
    """The largest share of broken images that 0 of 50 leaves possible (exact, 95 %)."""
    assert isinstance(answer, float), "Give one number, a share."
    assert abs(answer - 0.02) > 1e-3, (
        "One in fifty is the next number, not the limit of what can be excluded."
    )
    assert abs(answer - (1 - 0.05 ** (1 / 50))) > 1e-3, (
        "The interval has two sides: half of 5 % lies on each."
    )
    assert abs(answer - ALL_HELD) < 2e-3, "Solve (1 - p)^50 = 0.025 for p."


def check_masked(answer: set[str] | None) -> None:
    """Which sign on the page says that gradients are masked."""
    assert isinstance(answer, set), "Give a set of sentences."
    assert not answer - SIGNS, f"Unknown: {answer - SIGNS}."
    assert answer == MASKED, (
        "Any network loses accuracy with the budget, and noise is no attack."
    )


def check_units(answer: float | None) -> None:
    """A budget of 8 grey levels of 255 for a network that divides by 0.25, in the
    network's own normalised units.
    """
    assert isinstance(answer, float), "Give one number."
    assert abs(answer - 8 / 255) > 1e-6, "That is in pixel units: now normalise it."
    assert abs(answer - 8 / 255 / 0.25) < 1e-6, (
        "Taking off the mean changes no difference; dividing by the deviation does."
    )


def check_two_sided(answer: Callable[[Tensor, Tensor], Tensor] | None) -> None:
    """A two-sided score: the distance from the median of the clean scores."""
    assert callable(answer), "Give a function (scores, clean) -> scores."
    clean, asked = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([2.0, 0.0, 5.0])
    found = answer(asked, clean)
    assert torch.is_tensor(found) and found.shape == (3,), "One number a score."
    assert torch.allclose(found, torch.tensor([0.0, 2.0, 3.0])), (
        "Both too much and too little doubt are unusual: take the median of the clean "
        "scores off and drop the sign."
    )
