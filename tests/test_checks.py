"""The gate: every refusal names the argument, what is allowed and what was given."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from robustbook import checks
from robustbook.checks import ArgumentError

IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (IMAGES[0], "images must be a tensor (N, C, H, W), got a float32 tensor"),
        (IMAGES.numpy(), "got ndarray"),
        ((IMAGES * 255).byte(), "images must be of a floating type, got a uint8"),
        (IMAGES[:0], "images must be at least one image"),
        (IMAGES * 2 - 1, "images must be in [0, 1], got values from -"),
        (IMAGES / 0, "images must be finite"),
        (torch.full_like(IMAGES, torch.nan), "images must be finite"),
    ],
)
def test_images_are_refused_by_name(given: object, said: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(said)):
        checks.images(given)


def test_images_are_taken_with_their_precision_and_without_their_graph() -> None:
    taken = checks.images(IMAGES.double().requires_grad_())
    assert taken.dtype == torch.float64
    assert not taken.requires_grad
    assert torch.equal(taken.float(), IMAGES)


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([0, 1]),
        torch.tensor([[0], [1], [2]]),
        torch.eye(3, dtype=torch.int64),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([0, -1, 2]),
        torch.tensor([0, 1, 3]),
        [0, 1, 2],
    ],
)
def test_labels_are_refused_by_name(given: object) -> None:
    with pytest.raises(ArgumentError, match=r"^labels must be"):
        checks.labels(given, IMAGES, 3)


def test_labels_of_any_integer_type_become_int64() -> None:
    taken = checks.labels(torch.tensor([0, 1, 2], dtype=torch.int32), IMAGES, 3)
    assert taken.dtype == torch.int64
    assert taken.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(3, 1),
        torch.zeros(2, 4),
        torch.zeros(3),
        (torch.zeros(3, 4),),
        {"logits": torch.zeros(3, 4)},
        torch.full((3, 4), torch.nan),
        torch.zeros(3, 4, dtype=torch.int64),
        torch.zeros(3, 5),
    ],
)
def test_outputs_that_are_no_logits_are_refused_by_name(given: object) -> None:
    with pytest.raises(ArgumentError, match=r"^the output of model must be"):
        checks.logits(given, 3, 4)


@pytest.mark.parametrize("given", [-0.1, 1.5, np.nan, np.inf, "1", None, True, 1j])
def test_numbers_out_of_range_or_of_another_kind_are_refused(given: object) -> None:
    with pytest.raises(ArgumentError, match="share must be a finite number, at least"):
        checks.real(given, "share", at_least=0, at_most=1)


def test_numbers_of_every_real_kind_are_taken() -> None:
    for given in (1, 1.0, np.float32(1), np.int64(1), torch.tensor(1.0)):
        assert checks.real(given, "share", at_least=0, at_most=1) == 1.0


def test_the_ends_of_open_ranges_are_refused_and_those_of_closed_ones_taken() -> None:
    assert checks.real(0, "x", at_least=0) == 0
    assert checks.real(1, "x", at_most=1) == 1
    with pytest.raises(ArgumentError, match="x must be a finite number, above 0"):
        checks.real(0, "x", above=0)
    with pytest.raises(ArgumentError, match="below 1"):
        checks.real(1, "x", below=1)


@pytest.mark.parametrize("given", [0, 2.5, 2.0, "2", True, None, 11])
def test_whole_numbers_are_whole_and_in_range(given: object) -> None:
    with pytest.raises(ArgumentError, match="steps must be a whole number, at least 1"):
        checks.whole(given, "steps", at_least=1, at_most=10)
    assert checks.whole(np.int32(10), "steps", at_least=1, at_most=10) == 10


def test_budgets_are_one_number_or_one_an_image() -> None:
    assert checks.budget(torch.tensor(0.5), IMAGES) == 0.5
    assert checks.budget(torch.ones(3), IMAGES).shape == (3,)
    for given in (-1, torch.tensor([0.1, -0.1, 0.1]), torch.ones(2), torch.ones(3, 1)):
        with pytest.raises(ArgumentError, match=r"^epsilon must be"):
            checks.budget(given, IMAGES)
    with pytest.raises(ArgumentError, match="epsilon must be finite"):
        checks.budget(torch.tensor([0.1, torch.nan, 0.1]), IMAGES)


@pytest.mark.parametrize("given", [[1, np.nan], [1, np.inf], ["a", "b"], [[1, 2]], []])
def test_columns_hold_finite_numbers(given: object) -> None:
    with pytest.raises(ArgumentError, match=r"^scores must be"):
        checks.values(given, "scores")


def test_what_was_given_is_told_in_one_short_line() -> None:
    error = ArgumentError("x", "short", "a\n" * 500)
    assert len(str(error)) < 200
    assert "\n" not in str(error)


def test_options_are_named() -> None:
    assert checks.one_of("sign", "step", ("sign", "momentum")) == "sign"
    with pytest.raises(ArgumentError, match="step must be one of sign, momentum"):
        checks.one_of("adam", "step", ("sign", "momentum"))
