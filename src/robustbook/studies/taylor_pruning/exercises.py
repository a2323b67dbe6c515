"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.

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
    """A small untrained LeNet3, 32 random images (32, 1, 8, 8) and labels (32,) to try
    answers on.
    """
    generator = torch.Generator().manual_seed(5)
    model = build("lenet3", (1, 8, 8), 10, seed=5).eval()
    return (
        model,
        torch.rand(32, 1, 8, 8, generator=generator),
        torch.randint(10, (32,), generator=generator),
    )


def normed_problem() -> tuple[Prunable, Tensor, Tensor]:
    """The same with a VGG-like net, whose convolutions are followed by batch-norms."""
    generator = torch.Generator().manual_seed(6)
    return (
        build("vgg", (1, 8, 8), 10, seed=6).eval(),
        torch.rand(32, 1, 8, 8, generator=generator),
        torch.randint(10, (32,), generator=generator),
    )


def check_two_units(answer: float | None) -> None:
    """Importance of a pair of opposite units: sum of squares against square of
    the sum.
    """
    assert isinstance(answer, float | int), "Give one number."
    assert answer != 18, (
        "That is the sum of squares. One gate multiplies both weights: what is its "
        "derivative?"
    )
    assert answer == 0, (
        "The gate's derivative is the sum of weight times gradient; then square it."
    )


def check_minimum(answer: tuple[set[str], set[str]] | None) -> None:
    """Which criteria still see something at a minimum of the mean cross-entropy, and
    where every image is fitted exactly.
    """
    assert isinstance(answer, tuple) and len(answer) == 2, (
        "Give two sets of names: ({...}, {...})."
    )
    names = {"taylor-fo whole set", "taylor-fo-fg", "obd"}
    for part in answer:
        assert isinstance(part, set) and part <= names, (
            f"Each set may hold {', '.join(sorted(names))}."
        )
    minimum, exact = answer
    assert "taylor-fo whole set" not in minimum, (
        "At a minimum the mean gradient is zero, and so is its square."
    )
    assert "taylor-fo-fg" in minimum, (
        "Gradients of single images that cancel in the mean do not cancel when "
        "squared first."
    )
    assert "obd" in minimum, (
        "Where the gradient of the mean is zero, its derivative, the curvature, "
        "need not be."
    )
    assert "taylor-fo whole set" not in exact and "taylor-fo-fg" not in exact, (
        "An image's gradient in the logits is p - y. What is it where p = y?"
    )
    assert "obd" not in exact, (
        "The curvature in the logits is diag(p) - p p^T. What is it where p is 1 "
        "for one class?"
    )


def check_training_mode(answer: float | None) -> None:
    """A gate before batch-norm in training mode: gradient relative to
    evaluation mode.
    """
    assert isinstance(answer, float), (
        "Give the ratio of the two mean absolute sums, as a float."
    )
    assert 0 <= answer < 0.2, (
        "In training mode the batch-norm divides by the deviation of the very batch. "
        "What does doubling a filter change?"
    )
    model, images, labels = normed_problem()
    evaluated = _mean_absolute_sum(model.eval(), images, labels)
    expected = _mean_absolute_sum(model.train(), images, labels) / evaluated
    # The other order gives 5 % less, since a pass in training mode moves the running
    # statistics.
    assert abs(answer / expected - 1) < 0.1, (
        "Nearly nothing is left, but how much? For each filter of conv2 sum weight "
        "times gradient, then their mean absolute value."
    )


def _mean_absolute_sum(model: Prunable, images: Tensor, labels: Tensor) -> float:
    weight = model.get_submodule("conv2").weight
    assert isinstance(weight, Tensor)
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(model(images), labels), weight
    )
    return float((weight.detach() * gradient).flatten(1).sum(1).abs().mean())


def check_first_order(
    answer: Callable[[Prunable, Tensor, Tensor], Tensor] | None,
) -> None:
    """An own first-order score must be the squared derivative of the mean loss with
    respect to each gate.
    """
    assert callable(answer), "Give the function itself."
    model, images, labels = sample_problem()
    found = answer(model, images, labels)
    assert isinstance(found, Tensor), "Return a tensor."
    assert found.shape == (model.units,), f"Return one score a unit: ({model.units},)."
    expected = first_order(gate_gradients(model, images, labels))
    assert not torch.allclose(found, expected.sqrt(), rtol=1e-3), (
        "That is the derivative itself: square it."
    )
    assert not torch.allclose(found, expected * len(images) ** 2, rtol=1e-3), (
        "Take the mean over images, not the sum."
    )
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-12), (
        "Derivative of the mean loss at z = 1, then squared."
    )
    assert all(gate.values is None for gate in model.gates()), (
        "Open the gates again: set their values to None."
    )


def check_oracle(
    answer: Callable[[Prunable, Tensor, Tensor, Tensor], Tensor] | None,
) -> None:
    """An own oracle must be the squared change of the mean loss for each unit that it
    is asked for.
    """
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
                expected.append(
                    (
                        full - torch.nn.functional.cross_entropy(model(images), labels)
                    ).square()
                )
    assert torch.allclose(found, torch.stack(expected), rtol=1e-2, atol=1e-12), (
        "Close one gate, take the mean loss, subtract it from the full network's, "
        "square."
    )
