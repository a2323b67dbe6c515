"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.

In the order of the page: two to predict, one to try and explain, two to implement.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook.measure.divergence import (
    kl_divergence,
    normalise_logits,
    worst_divergence,
)
from robustbook.models import build
from robustbook.models.network import compute_logits

EPSILON = 0.1
FULL_SWAP_PSI = 0.410981


def check_full_swap(answer: float | None) -> None:
    """Psi of a one-hot prediction that moves to another class, ten classes, normalised
    logits.
    """
    assert isinstance(answer, float), "Give one number."
    assert abs(answer - 1) > 0.02, (
        "That would be a divergence of one nat; work out both probability vectors "
        "first."
    )
    assert abs(answer - FULL_SWAP_PSI) < 0.002, (
        "Normalised one-hot logits are (3, -1/3, ..., -1/3); psi is 1 over the "
        "divergence."
    )


def check_invariance(answer: set[str] | None) -> None:
    """Which changes of the logits leave psi as it is."""
    assert isinstance(answer, set), "Give a set of names, such as {'scale', 'square'}."
    unknown = answer - {"scale", "shift", "square", "one class"}
    assert not unknown, f"Unknown names: {unknown}."
    assert "square" not in answer, (
        "Squaring keeps the order of positive logits but not their ratios after "
        "normalisation."
    )
    assert "one class" not in answer, (
        "Raising one class's logit moves the prediction, and psi with it."
    )
    assert answer == {"scale", "shift"}, "Look at the mean and the deviation once more."


def check_zero_start(answer: float | None) -> None:
    """The mean input gradient of the divergence at the image over that at random points
    of the ball.
    """
    assert isinstance(answer, float), (
        "Give the ratio of the two mean absolute gradients, as a float."
    )
    assert 0 <= answer < 1e-3, (
        "At the image itself the gradient is far smaller than that. Which point is "
        "the divergence measured from?"
    )


def sample_problem() -> tuple[Module, Tensor]:
    """A small untrained network and 16 random images (16, 1, 8, 8) to try
    answers on.
    """
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    return build("cnn", (1, 8, 8), 10, seed=3), images


def check_divergence_ascent(
    answer: Callable[[Module, Tensor, float, int, Generator], Tensor] | None,
) -> None:
    """An own ascent on the divergence must stay in the ball and find nearly as much as
    the book's.
    """
    assert callable(answer), "Give the function itself."
    model, images = sample_problem()
    found = answer(model, images, EPSILON, 20, torch.Generator().manual_seed(0))
    assert isinstance(found, Tensor) and found.shape == images.shape, (
        "Return perturbed images, one for each image."
    )
    assert (found - images).abs().max() <= EPSILON + 1e-6, (
        "Some point lies outside the L-infinity ball."
    )
    assert found.min() >= 0 and found.max() <= 1, "Some pixel lies outside [0, 1]."
    reference = worst_divergence(
        model,
        images,
        epsilon=EPSILON,
        steps=20,
        step_size=EPSILON / 5,
        generator=torch.Generator().manual_seed(0),
    )
    clean, perturbed = (
        normalise_logits(compute_logits(model, points)) for points in (images, found)
    )
    reached = kl_divergence(clean, perturbed)
    assert reached.mean() >= 0.9 * reference.kl.mean(), (
        f"Mean divergence {reached.mean():.3g}, the book's ascent finds "
        f"{reference.kl.mean():.3g}. Did you start at a random point?"
    )


def check_interval_linear(
    answer: Callable[[nn.Linear, Tensor, Tensor], tuple[Tensor, Tensor]] | None,
) -> None:
    """Bounds of a linear layer over a box must hold at every corner and be reached at
    one.
    """
    assert callable(answer), "Give the function itself."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Linear(4, 3)
    low, high = (
        torch.tensor([[-1.0, 0.0, 0.5, -0.2]]),
        torch.tensor([[1.0, 0.3, 0.6, 0.4]]),
    )
    corners = torch.tensor(
        list(product(*zip(low[0].tolist(), high[0].tolist(), strict=True)))
    )
    outputs = layer(corners).detach()
    lower, upper = answer(layer, low, high)
    assert lower.shape == upper.shape == (1, 3), (
        "Return two tensors of the shape of the layer's output."
    )
    assert (lower <= outputs.min(0).values + 1e-5).all() and (
        upper >= outputs.max(0).values - 1e-5
    ).all(), "Some corner of the box lies outside your bounds: they are not sound."
    tight = torch.allclose(
        lower[0], outputs.min(0).values, atol=1e-5
    ) and torch.allclose(upper[0], outputs.max(0).values, atol=1e-5)
    assert tight, (
        "Sound, but loose: a linear layer's bounds are reached at a corner of the box."
    )
