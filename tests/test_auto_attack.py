"""APGD, its targeted form and Square Attack: analytic cases, properties, the peer."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robustbook.checks import ArgumentError
from robustbook.models.network import Passes, accuracy, compute_logits, count_passes
from robustbook.perturb.apgd import apgd, apgd_targeted, checkpoints, targeted_ratio
from robustbook.perturb.auto_attack import auto_attack
from robustbook.perturb.square import square_attack, square_side

ATTACKS = {
    "apgd": lambda *given, **more: apgd(*given, steps=20, **more),
    "apgd targeted": lambda *given, **more: apgd_targeted(*given, steps=20, **more),
    "square": lambda *given, **more: square_attack(*given, queries=50, **more),
    "all": lambda *given, **more: auto_attack(*given, steps=10, queries=20, **more),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(classes: int = 5, seed: int = 0) -> nn.Sequential:
    """A linear softmax on 1 x 4 x 4 images."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    model[1].weight.data = torch.randn(classes, 16, generator=generator(seed))
    model[1].bias.data = torch.randn(classes, generator=generator(seed + 1)) / 10
    return model


def case(
    seed: int = 0, classes: int = 5
) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A linear network and images, well inside [0, 1], with the labels that it
    gives.
    """
    model = linear(classes, seed)
    images = 0.3 + 0.4 * torch.rand(40, 1, 4, 4, generator=generator(seed + 2))
    return model, images, compute_logits(model, images).argmax(1)


def robust(
    model: nn.Sequential, images: torch.Tensor, labels: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Whether no point of the ball is misclassified, exactly: a linear margin falls by
    epsilon times the L1 norm of the difference of two rows.
    """
    weight = model[1].weight
    logits = compute_logits(model, images)
    own = logits.gather(1, labels[:, None])
    reach = epsilon * (weight[None] - weight[labels][:, None]).abs().sum(2)
    return (own - logits - reach).scatter(1, labels[:, None], torch.inf).amin(1) > 0


@pytest.mark.parametrize("name", ATTACKS)
@given(epsilon=st.sampled_from([0.0, 0.03, 0.5]), seed=st.integers(0, 5))
def test_every_attack_stays_in_the_ball_and_in_the_pixel_range(
    name: str, epsilon: float, seed: int
) -> None:
    model, images, labels = case(seed)
    found = ATTACKS[name](
        model, images, labels, epsilon=epsilon, generator=generator(seed)
    )
    assert found.shape == images.shape
    assert float((found - images).abs().max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@pytest.mark.parametrize("name", ["apgd targeted", "all"])
def test_on_a_linear_network_the_attack_finds_exactly_the_images_that_can_be_fooled(
    name: str,
) -> None:
    model, images, labels = case()
    truth = robust(model, images, labels, 0.05)
    assert 5 < int(truth.sum()) < 35
    found = ATTACKS[name](model, images, labels, epsilon=0.05, generator=generator())
    right = compute_logits(model, found).argmax(1) == labels
    assert torch.equal(right, truth)


def test_the_ascent_ends_in_the_best_corner_of_a_linear_loss() -> None:
    model, images, labels = case(classes=2)
    found = apgd(model, images[:1], labels[:1], epsilon=0.001, generator=generator())
    other = model[1].weight[1 - labels[0]] - model[1].weight[labels[0]]
    corner = images[:1] + 0.001 * other.sign().view(1, 1, 4, 4)
    assert torch.allclose(found, corner, atol=1e-7)


def test_an_ascent_that_does_not_stop_goes_on_from_its_starts_to_the_best_corner() -> (
    None
):
    """Towards one class of a linear network the best corner is known; labels play no
    part then.
    """
    model, images, labels = case()

    def towards(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return logits.gather(1, classes[:, None]).squeeze(1) - 1e3

    classes = (labels + 1) % 5
    corner = images + 0.05 * model[1].weight[classes].sign().view_as(images)
    starts = images - 0.3
    found = apgd(
        model,
        images,
        labels,
        epsilon=0.05,
        steps=20,
        generator=generator(),
        objective=towards,
        targets=classes,
        starts=starts,
        stop_when_fooled=False,
    )
    torch.testing.assert_close(found, corner)
    searched = square_attack(
        model,
        images,
        labels,
        epsilon=0.05,
        queries=2000,
        generator=generator(),
        objective=towards,
        targets=classes,
    )
    best, reached, clean = (
        towards(compute_logits(model, points), classes)
        for points in (corner, searched, images)
    )
    assert bool((reached - clean > 0.9 * (best - clean)).all())


def test_checkpoints_come_closer_together_as_in_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    gaps = [later - earlier for earlier, later in pairwise(checkpoints(1000))]
    assert gaps == sorted(gaps, reverse=True)
    assert checkpoints(1) == [1] * len(checkpoints(100))


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50), seed=st.integers(0, 50))
def test_the_ratio_of_logits_ignores_their_scale_and_shift(
    scale: float, shift: float, seed: int
) -> None:
    logits = torch.randn(6, 5, generator=generator(seed), dtype=torch.float64)
    classes = torch.tensor([[0, 1], [1, 0], [2, 3], [3, 4], [4, 2], [0, 4]])
    ratio = targeted_ratio(logits, classes)
    assert torch.allclose(targeted_ratio(scale * logits + shift, classes), ratio)
    wrong_wins = logits.gather(1, classes[:, 1:]) > logits.gather(1, classes[:, :1])
    assert torch.equal(ratio > 0, wrong_wins.squeeze(1))


def test_the_ratio_by_hand() -> None:
    logits = torch.tensor([[5.0, 4.0, 2.0, 1.0]])
    ratio = targeted_ratio(logits, torch.tensor([[0, 2]]))
    assert ratio.item() == pytest.approx((2 - 5) / (5 - (2 + 1) / 2))


def test_misclassified_images_cost_one_pass_and_robust_ones_all_of_them() -> None:
    model, images, labels = case()
    with count_passes(model) as counter:
        apgd(
            model,
            images,
            (labels + 1) % 5,
            epsilon=1e-6,
            steps=7,
            generator=generator(),
        )
    assert counter.passes == Passes(40, 40)
    with count_passes(model) as counter:
        apgd(model, images, labels, epsilon=1e-6, steps=7, generator=generator())
    assert counter.passes == Passes(8 * 40, 8 * 40)


def test_square_attack_stops_asking_about_fooled_images() -> None:
    model, images, labels = case()
    wrong = (labels + 1) % 5
    with count_passes(model) as counter:
        found = square_attack(
            model, images, wrong, epsilon=0.1, queries=50, generator=generator()
        )
    assert counter.passes == Passes(40, 0)
    assert torch.equal(found, images)


def test_squares_shrink_with_the_queries_spent_and_fit_the_image() -> None:
    sides = [square_side((28, 20), 0.8, progress / 50) for progress in range(51)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 20
    assert sides[-1] == 1
    assert square_side((28, 28), 0.8, 0.0) == 25


def test_square_attack_breaks_a_network_whose_gradient_is_masked() -> None:
    model, images, labels = case()
    scaled = nn.Sequential(model[0], model[1], Steps())
    assert accuracy(scaled, images, labels) == 1
    blind = apgd(scaled, images, labels, epsilon=0.2, generator=generator())
    found = square_attack(
        scaled, images, labels, epsilon=0.2, queries=200, generator=generator()
    )
    assert accuracy(scaled, found, labels) < accuracy(scaled, blind, labels) - 0.2


class Steps(nn.Module):
    """Logits rounded to steps: no gradient anywhere, the same answers."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits * 1000).round() / 1000 + 0 * logits.sum(1, keepdim=True)


@pytest.mark.parametrize("name", ATTACKS)
def test_two_classes_are_enough_and_one_logit_is_refused(name: str) -> None:
    model, images, labels = case(classes=2)
    found = ATTACKS[name](model, images, labels, epsilon=0.5, generator=generator())
    assert accuracy(model, found, labels) < 0.2
    with pytest.raises(ArgumentError, match="the output of model"):
        ATTACKS[name](
            linear(classes=1), images, labels, epsilon=0.5, generator=generator()
        )


@pytest.mark.peer
def test_robust_accuracy_is_that_of_the_peer() -> None:
    peer = pytest.importorskip("pyautoattack")
    from robustbook.data import load
    from robustbook.models import build
    from robustbook.models.training import Recipe, train

    seen, unseen = load("digits", "train", limit=600), load("digits", "test", limit=100)
    for architecture in ("mlp", "cnn"):
        model = build(architecture, seen.image_shape, seen.classes, 0)
        model = train(model, seen.images, seen.labels, Recipe("natural", 5), seed=0)
        model = model.eval().requires_grad_(False)
        theirs = peer.AutoAttack(
            model,
            attacks=["apgd-ce", "apgd-t", "square"],
            eps=0.08,
            seed=0,
            version="custom",
            device="cpu",
        )
        theirs.verbose, theirs.apgd.n_restarts, theirs.square.n_queries = False, 1, 300
        attacked = theirs.run_standard_evaluation(unseen.images, unseen.labels)
        attacked = attacked[0] if isinstance(attacked, tuple) else attacked
        ours = auto_attack(
            model,
            unseen.images,
            unseen.labels,
            epsilon=0.08,
            queries=300,
            generator=generator(),
        )
        them = accuracy(model, attacked, unseen.labels)
        assert 0 < them < 0.9
        assert accuracy(model, ours, unseen.labels) <= them + 0.011


@pytest.mark.parametrize("attack", ATTACKS)
def test_images_of_another_precision_stay_in_the_ball(attack: str) -> None:
    model, images, labels = case()
    images = images.double() + 1e-9
    found = ATTACKS[attack](model, images, labels, epsilon=0.1, generator=generator())
    assert found.dtype == torch.float64
    assert float((found - images).abs().max()) <= 0.1 + 1e-15
