"""Errors travel between processes, whatever they were made from."""

from __future__ import annotations

import pickle

import pytest

from robustbook.checks import ArgumentError
from robustbook.errors import UnknownNameError, UserError
from robustbook.workers import map_in_workers


@pytest.mark.parametrize(
    "error",
    [
        UserError("nothing\nto see"),
        UnknownNameError("study", "los_metric", ["loss_metric"]),
        ArgumentError("steps", "a whole number, at least 1", 0),
    ],
)
def test_an_error_is_the_same_after_a_journey(error: UserError) -> None:
    home = pickle.loads(pickle.dumps(error))
    assert type(home) is type(error)
    assert str(home) == str(error)


def _refuse(item: int) -> None:
    raise ArgumentError("item", "even", item)


def test_a_refusal_in_a_worker_is_told_as_it_is() -> None:
    with pytest.raises(ArgumentError, match="item must be even, got"):
        map_in_workers(_refuse, [1, 3])
