"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.

In the order of the page: one to work out, one to predict, one to change and explain,
one to implement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robustbook.measure.rank_agreement import agreement
from robustbook.stats import rank_matrix

Array = NDArray[np.float64]

PARTIAL_ANSWER = (0.8 - 0.7 * 0.9) / np.sqrt((1 - 0.7**2) * (1 - 0.9**2))
CEILING_ANSWER = float(np.sqrt(0.81 * 0.49))
INVARIANT = {"logarithm", "cube", "times 2 plus 1"}
CHANGES = {*INVARIANT, "inverse", "rounded to one digit"}


def check_partial(answer: float | None) -> None:
    """The partial correlation for r(a, b) = 0.8, r(a, c) = 0.7, r(b, c) = 0.9."""
    assert isinstance(answer, float), "Give one number."
    assert abs(answer - 0.17) > 1e-6, (
        "That is the numerator alone: divide by what c leaves of a and of b."
    )
    assert abs(answer - PARTIAL_ANSWER) < 5e-3, (
        "(r_ab - r_ac r_bc) over the root of (1 - r_ac^2)(1 - r_bc^2)."
    )


def check_invariance(answer: set[str] | None) -> None:
    """Which changes of psi never change a rank correlation with it."""
    assert isinstance(answer, set), "Give a set of names, such as {'cube', 'inverse'}."
    assert not answer - CHANGES, f"Unknown names: {answer - CHANGES}."
    assert "inverse" not in answer, (
        "1 / psi turns the order round: the correlation changes its sign."
    )
    assert "rounded to one digit" not in answer, (
        "Rounding makes networks equal that were not: ranks change."
    )
    assert answer == INVARIANT, (
        "Every rising function leaves ranks as they are; psi is positive."
    )


def check_ceiling(answer: float | None) -> None:
    """The largest correlation to expect of two measures whose seeds agree with rho 0.81
    and 0.49.
    """
    assert isinstance(answer, float), "Give one number."
    assert abs(answer - 0.65) > 1e-6, (
        "Not the mean: seed noise dilutes by a factor for each of the two measures."
    )
    assert abs(answer - CEILING_ANSWER) < 5e-3, (
        "Each measure is diluted by the root of its own agreement."
    )


def noisy_measures(noise: float, *, kinds: int = 12, seeds: int = 200) -> Array:
    """Values (kinds, seeds, 2) of two measures of one true quality, each seed with its
    own noise.
    """
    generator = np.random.default_rng(7)
    truth = generator.standard_normal((kinds, 1, 1))
    return truth + noise * generator.standard_normal((kinds, seeds, 2))


def check_interval(answer: Callable[[Array, int], tuple[float, float]] | None) -> None:
    """An own interval of the correlation of two measures must be as wide as the book's,
    which draws kinds and seeds.
    """
    assert callable(answer), "Give the function itself."
    by_kind = noisy_measures(0.5, seeds=20)
    # The same table with its axes exchanged: now networks of one seed are alike, and
    # those of one kind are not.
    by_seed = by_kind.swapaxes(0, 1)
    for values, alike, other in (
        (by_kind, "kind", "seeds"),
        (by_seed, "seed", "kinds"),
    ):
        low, high = answer(values, 400)
        low_book, high_book = (
            end[0, 1] for end in agreement(values, seed=0, resamples=400).bounds()
        )
        assert low <= rank_matrix(values.reshape(-1, 2))[0, 1] <= high, (
            "The correlation itself must lie inside the interval."
        )
        width, expected = high - low, high_book - low_book
        seen = (
            f"Where networks of one {alike} are alike yours is {width:.2f} wide, "
            f"the book's {expected:.2f}"
        )
        assert width > 0.75 * expected, (
            f"{seen}: did you draw single networks, or {other} alone?"
        )
        assert width < 1.33 * expected, f"{seen}."
