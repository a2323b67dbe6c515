"""The metric psi: its check values, its invariance, and that more effort never raises
it.
"""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attack_networks import generator, random_network, trained
from robustbook.checks import ArgumentError
from robustbook.measure.divergence import (
    Direction,
    divergence_from,
    kl_divergence,
    log_prediction,
    normalise_logits,
    psi,
    worst_divergence,
)
from robustbook.models.architectures import Scale
from robustbook.models.network import compute_logits, count_passes

ONE_HOT = torch.eye(10, dtype=torch.float64)


def test_one_hot_logits_normalise_to_the_known_probabilities() -> None:
    logits = normalise_logits(ONE_HOT)
    assert logits[0, 0].item() == pytest.approx(3)
    assert logits[0, 1].item() == pytest.approx(-1 / 3)
    probabilities = logits[0].softmax(dim=0)
    assert probabilities[0].item() == pytest.approx(0.756964, abs=1e-6)
    assert probabilities[1].item() == pytest.approx(0.027004, abs=1e-6)


def test_a_full_swap_and_a_reversal_have_the_known_divergence() -> None:
    logits = normalise_logits(ONE_HOT)
    swap = kl_divergence(logits[0], logits[1])
    assert swap.item() == pytest.approx(2.433202, abs=1e-6)
    assert psi(swap).item() == pytest.approx(0.410981, abs=1e-6)
    assert kl_divergence(logits[0], -logits[0]).item() == pytest.approx(3.636, abs=5e-4)


@given(
    seed=st.integers(0, 1000),
    exponent=st.integers(-30, 30),
    shift=st.floats(-5, 5),
    classes=st.integers(2, 12),
)
def test_normalising_removes_scale_and_shift(
    seed: int, exponent: int, shift: float, classes: int
) -> None:
    logits = torch.randn(3, classes, generator=generator(seed), dtype=torch.float64)
    normal = normalise_logits(logits)
    torch.testing.assert_close(normal.mean(dim=1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(
        normal.std(dim=1, correction=0), torch.ones(3, dtype=torch.float64)
    )
    torch.testing.assert_close(
        normalise_logits((logits + shift) * 10.0**exponent), normal
    )


@pytest.mark.parametrize("value", [0.0, 3.3, -1e-38, 1e38])
def test_constant_logits_normalise_to_zero_with_a_finite_gradient(value: float) -> None:
    logits = torch.full((2, 10), value, requires_grad=True)
    normal = normalise_logits(logits)
    (gradient,) = torch.autograd.grad(normal[:, 0].sum(), logits)
    assert torch.equal(normal, torch.zeros(2, 10))
    assert bool(gradient.isfinite().all())


def test_normalised_logits_have_the_right_gradient() -> None:
    logits = torch.randn(
        2, 5, generator=generator(), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(normalise_logits, logits)


def test_divergence_is_that_of_torch_and_zero_only_at_equality() -> None:
    p, q = torch.randn(2, 6, 4, generator=generator(), dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p),
        torch.distributions.Categorical(logits=q),
    )
    torch.testing.assert_close(kl_divergence(p, q), expected)
    torch.testing.assert_close(
        kl_divergence(p, p + 2), torch.zeros(6, dtype=torch.float64)
    )
    assert bool((kl_divergence(p, q) > 0).all())


def test_the_gradient_is_zero_at_the_image_itself() -> None:
    model, images, _ = trained()
    model, images = copy.deepcopy(model).double(), images.double().requires_grad_()
    logits = normalise_logits(model(images))
    (gradient,) = torch.autograd.grad(
        kl_divergence(logits.detach(), logits).sum(), images
    )
    assert float(gradient.abs().max()) < 1e-12


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_written_out_gradient_is_that_of_the_formula(
    normalise: bool, direction: Direction
) -> None:
    logits = torch.randn(
        6, 5, generator=generator(), dtype=torch.float64, requires_grad=True
    )
    log_p = torch.randn(6, 5, generator=generator(1), dtype=torch.float64).log_softmax(
        dim=1
    )
    prediction = normalise_logits(logits) if normalise else logits
    pair = (log_p, prediction) if direction == "forward" else (prediction, log_p)
    expected = kl_divergence(*pair)
    objective = divergence_from(normalise=normalise, direction=direction)
    found = objective(logits, log_p)
    torch.testing.assert_close(found, expected)
    weight = torch.rand(6, generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits, weight)[0],
        torch.autograd.grad(expected, logits, weight)[0],
    )
    assert torch.autograd.gradcheck(lambda moved: objective(moved, log_p), logits)


@pytest.mark.parametrize("value", [0.0, 3.3, -1e-38, 1e38])
def test_constant_logits_give_the_ascent_no_direction_and_no_divergence(
    value: float,
) -> None:
    logits = torch.full((2, 10), value, requires_grad=True)
    uniform = torch.zeros(2, 10, dtype=torch.float64).log_softmax(dim=1)
    found = divergence_from()(logits, uniform)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert float(found.detach().abs().max()) < 1e-9
    assert bool(gradient.isfinite().all())


def test_a_small_step_costs_half_the_fisher_form() -> None:
    """D_KL(P(x) || P(x + delta)) = delta^T F delta / 2 with F = J^T (diag p - p p^T) J,
    for small delta.
    """
    model, images, _ = trained()
    model, image = copy.deepcopy(model).double(), images[:1].double()
    clean = normalise_logits(model(image))[0].detach()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: normalise_logits(model(x))[0], image
    ).reshape(10, -1)
    p = clean.softmax(dim=0)
    fisher = jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    eigenvalues, vectors = torch.linalg.eigh(fisher)
    delta = 1e-5 * vectors[:, -1]
    moved = normalise_logits(model(image + delta.view_as(image)))[0]
    assert (kl_divergence(clean, moved) / 1e-10).item() == pytest.approx(
        eigenvalues[-1].item() / 2, rel=1e-3
    )


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
@pytest.mark.parametrize("factor", [0.1, 0.5, 10.0])
def test_psi_does_not_see_a_scaled_last_layer(architecture: str, factor: float) -> None:
    model, images, _ = trained(architecture)
    scaled = copy.deepcopy(model)
    scaled[-1].weight.data *= factor
    scaled[-1].bias.data *= factor
    settings_ = dict(epsilon=0.05, steps=5, step_size=0.02)

    def found(network: nn.Module, normalise: bool) -> torch.Tensor:
        return worst_divergence(
            network, images, **settings_, generator=generator(), normalise=normalise
        ).kl

    torch.testing.assert_close(
        psi(found(scaled, True)), psi(found(model, True)), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        found(nn.Sequential(*model, Scale(factor)), True),
        found(model, True),
        rtol=1e-5,
        atol=1e-5,
    )
    assert (
        float((found(scaled, False) / found(model, False)).log().abs().median()) > 0.3
    )


def test_more_steps_and_restarts_never_raise_psi_and_do_help() -> None:
    model, images, _ = trained("cnn")

    def kl(steps: int, restarts: int) -> torch.Tensor:
        return worst_divergence(
            model,
            images,
            epsilon=0.1,
            steps=steps,
            step_size=0.05,
            restarts=restarts,
            generator=generator(2),
            chunk=20,
        ).kl

    efforts = [kl(0, 1), kl(1, 1), kl(4, 1), kl(12, 1), kl(12, 2), kl(12, 5)]
    for less, more in itertools.pairwise(efforts):
        assert bool((more >= less).all())
        assert bool((more > less).any())


@settings(max_examples=20)
@given(
    seed=st.integers(0, 40),
    epsilon=st.floats(0, 0.5),
    steps=st.integers(0, 3),
    restarts=st.integers(1, 3),
    normalise=st.booleans(),
)
def test_the_worst_case_is_what_it_says_it_is(
    seed: int, epsilon: float, steps: int, restarts: int, normalise: bool
) -> None:
    model = random_network(seed)
    images = torch.rand(5, 1, 4, 4, generator=generator(seed))
    with count_passes(model) as counter:
        worst = worst_divergence(
            model,
            images,
            epsilon=epsilon,
            steps=steps,
            step_size=epsilon / 2,
            restarts=restarts,
            generator=generator(),
            normalise=normalise,
            chunk=3,
        )
    assert worst.passes == counter.passes
    assert float((worst.images - images).abs().max()) <= epsilon + 1e-6
    assert float(worst.images.min()) >= 0
    assert float(worst.images.max()) <= 1
    clean, moved = (
        compute_logits(model, points).double() for points in (images, worst.images)
    )
    if normalise:
        clean, moved = normalise_logits(clean), normalise_logits(moved)
    torch.testing.assert_close(
        worst.kl.double(), kl_divergence(clean, moved), rtol=1e-3, atol=1e-6
    )


def test_ascent_beats_random_points_and_leaves_the_model_alone() -> None:
    model, images, _ = trained()
    model.train()
    model.zero_grad()
    searched = worst_divergence(
        model, images, epsilon=0.1, steps=15, step_size=0.02, generator=generator()
    )
    sampled = worst_divergence(
        model,
        images,
        epsilon=0.1,
        steps=0,
        step_size=0,
        restarts=50,
        generator=generator(),
    )
    assert model.training
    assert all(
        parameter.grad is None and parameter.requires_grad
        for parameter in model.parameters()
    )
    model.eval()
    assert bool((searched.kl > 3 * sampled.kl).all())


def test_psi_without_divergence_is_infinite() -> None:
    assert psi(torch.tensor([0.0, 2.0])).tolist() == [float("inf"), 0.5]


def test_no_restarts_are_refused() -> None:
    model, images, _ = trained()
    with pytest.raises(ValueError, match="restarts"):
        worst_divergence(
            model,
            images,
            epsilon=0.1,
            steps=1,
            step_size=0.1,
            restarts=0,
            generator=generator(),
        )


@pytest.mark.parametrize("normalise", [True, False])
def test_psi_in_a_ball_of_radius_zero_is_infinite(normalise: bool) -> None:
    images = torch.rand(3, 1, 4, 4, generator=generator(0))
    found = worst_divergence(
        random_network(1),
        images,
        epsilon=0,
        steps=2,
        step_size=0,
        generator=generator(),
        normalise=normalise,
    )
    assert psi(found.kl).tolist() == [torch.inf] * 3


def test_what_has_no_divergence_is_refused() -> None:
    images = torch.rand(2, 1, 4, 4)
    numbers = dict(steps=1, step_size=0.1, generator=generator())
    single = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    broken = random_network(0)
    broken[-1].bias.data.fill_(torch.nan)
    for model in (single, broken):
        with pytest.raises(ArgumentError, match="the output of model"):
            worst_divergence(model, images, epsilon=0.1, **numbers)
    with pytest.raises(ArgumentError, match="images"):
        worst_divergence(random_network(0), images + 1, epsilon=0.1, **numbers)
    with pytest.raises(ArgumentError, match="kl"):
        psi(torch.tensor([-1.0]))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_reverse_divergence_is_taken_from_the_perturbed_prediction(
    normalise: bool,
) -> None:
    model, images, _ = trained()
    found = worst_divergence(
        model,
        images[:6],
        epsilon=0.2,
        steps=5,
        step_size=0.05,
        normalise=normalise,
        direction="reverse",
        generator=generator(),
    )
    clean, perturbed = (
        log_prediction(compute_logits(model, points), normalise=normalise)
        for points in (images[:6], found.images)
    )
    torch.testing.assert_close(found.kl.double(), kl_divergence(perturbed, clean))
    with pytest.raises(ArgumentError, match="direction"):
        divergence_from(direction="both")  # type: ignore[arg-type]
