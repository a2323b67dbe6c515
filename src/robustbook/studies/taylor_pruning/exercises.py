"""Checks of the chapter's exercises: each takes an answer and raises AssertionError with a hint where it is wrong.

In the order of the page: two to predict, one to try and explain, two to implement.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustbook.measure.importance import first_order, gate_gradients
from robustbook.models.prunable import Prunable, build
from robustbook.perturb.pruning import all_alive, masked


def sample_problem() -> tuple[Prunable, Tensor, Tensor]:
    """A small untrained LeNet3, 32 random images (32, 1, 8, 8) and labels (32,) to try answers on."""
    generator = torch.Generator().manual_seed(5)
    model = build("lenet3", (1, 8, 8), 10, seed=5).eval()
    return model, torch.rand(32, 1, 8, 8, generator=generator), torch.randint(10, (32,), generator=generator)


def normed_problem() -> tuple[Prunable, Tensor, Tensor]:
    """The same with a VGG-like net, whose convolutions are followed by batch-norms."""
    generator = torch.Generator().manual_seed(6)
    return (
        build("vgg", (1, 8, 8), 10, seed=6).eval(),
        torch.rand(32, 1, 8, 8, generator=generator),
        torch.randint(10, (32,), generator=generator),
    )


def check_two_units(answer: float | None) -> None:
    """Importance of a pair of opposite units: sum of squares against square of the sum."""
    assert isinstance(answer, float | int), "Give one number."
    assert answer != 18, "That is the sum of squares. One gate multiplies both weights: what is its derivative?"
    assert answer == 0, "The gate's derivative is the sum of weight times gradient; then square it."


def check_minimum(answer: str | None) -> None:
    """Which criterion still sees something at a perfect minimum of the training loss."""
    assert isinstance(answer, str), "Give one of the names."
    names = {"taylor-fo whole set", "taylor-fo-fg", "obd"}
    assert answer in names, f"Choose one of {', '.join(sorted(names))}."
    assert answer != "taylor-fo whole set", "At a minimum the mean gradient is zero, and so is its square."
    assert answer != "taylor-fo-fg", "If every image is fitted exactly, each image's own gradient is zero too."


def check_training_mode(answer: float | None) -> None:
    """A gate before batch-norm in training mode: gradient relative to evaluation mode."""
    assert isinstance(answer, float), "Give the ratio of the two mean absolute sums, as a float."
    assert 0 <= answer < 0.2, (
        "In training mode the batch-norm divides by the deviation of the very batch. What does doubling a filter "
        "change?"
    )


def check_first_order(answer: Callable[[Prunable, Tensor, Tensor], Tensor] | None) -> None:
    """An own first-order score must be the squared derivative of the mean loss with respect to each gate."""
    assert callable(answer), "Give the function itself."
    model, images, labels = sample_problem()
    found = answer(model, images, labels)
    assert isinstance(found, Tensor), "Return a tensor."
    assert found.shape == (model.units,), f"Return one score a unit: ({model.units},)."
    expected = first_order(gate_gradients(model, images, labels))
    assert not torch.allclose(found, expected.sqrt(), rtol=1e-3), "That is the derivative itself: square it."
    assert not torch.allclose(found, expected * len(images) ** 2, rtol=1e-3), "Take the mean over images, not the sum."
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-12), "Derivative of the mean loss at z = 1, then squared."
    assert all(gate.values is None for gate in model.gates()), "Open the gates again: set their values to None."


def check_oracle(answer: Callable[[Prunable, Tensor, Tensor, Tensor], Tensor] | None) -> None:
    """An own oracle must be the squared change of the mean loss for each unit that it is asked for."""
    assert callable(answer), "Give the function itself."
    model, images, labels = sample_problem()
    units = torch.tensor([0, 20, 100, 251])
    found = answer(model, images, labels, units)
    assert isinstance(found, Tensor), "Return a tensor."
    assert found.shape == units.shape, "Return one number for each of the units."
    expected = []
    with torch.no_grad():
        full = torch.nn.functional.cross_entropy(model(images), labels)
        for unit in units:
            alive = all_alive(model)
            alive[unit] = False
            with masked(model, alive):
                expected.append((full - torch.nn.functional.cross_entropy(model(images), labels)).square())
    assert torch.allclose(found, torch.stack(expected), rtol=1e-2, atol=1e-12), (
        "Close one gate, take the mean loss, subtract it from the full network's, square."
    )
