"""Distances of linear networks are known; on others they agree with the attack, with
CLEVER and with its peer.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from torch import Tensor, nn

from attack_networks import generator, random_network, trained
from robustbook.checks import ArgumentError
from robustbook.measure import distance
from robustbook.measure.bounds import certified
from robustbook.measure.clever import clever, lipschitz_estimate
from robustbook.measure.distance import minimal_distance
from robustbook.models.network import compute_logits


def linear_network() -> nn.Sequential:
    """Two classes, Z_0 - Z_1 = x_1 + 2 x_2 - x_3 + 0.5 x_4 - 0.8: L-infinity distance
    |Z_0 - Z_1| / 4.5.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    model[1].bias.data = torch.tensor([-0.8, 0.0])
    return model.eval()


def linear_images() -> tuple[Tensor, Tensor]:
    images = 0.3 + 0.4 * torch.rand(20, 1, 2, 2, generator=generator())
    return images, compute_logits(linear_network(), images).argmax(dim=1)


def test_the_distance_of_a_linear_network_is_found_from_above() -> None:
    images, labels = linear_images()
    logits = compute_logits(linear_network(), images)
    exact = (logits[:, 0] - logits[:, 1]).abs() / 4.5
    found = minimal_distance(
        linear_network(),
        images,
        labels,
        epsilon_max=0.3,
        bisections=10,
        steps=20,
        generator=generator(),
    )
    near = exact < 0.29
    assert bool(near.any())
    assert bool(found.found[near].all())
    assert bool((found.radius[near] >= exact[near] - 1e-6).all())
    assert bool((found.radius[near] <= exact[near] + 0.3 / 2**10 + 1e-6).all())


def test_distances_are_where_the_misclassified_images_are() -> None:
    model, images, labels = trained("cnn")
    labels = labels.clone()
    labels[0] = (labels[0] + 1) % 10
    found = minimal_distance(
        model,
        images,
        labels,
        epsilon_max=0.06,
        steps=10,
        generator=generator(),
        chunk=17,
    )
    reached = (found.images - images).abs().flatten(1).amax(dim=1)
    wrong = compute_logits(model, found.images).argmax(dim=1) != labels
    assert 1 < int(found.found.sum()) < len(images)
    assert torch.equal(wrong, found.found)
    torch.testing.assert_close(reached[found.found], found.radius[found.found])
    assert found.radius[0] == 0
    assert bool((found.radius[~found.found] == 0.06).all())
    assert torch.equal(found.images[~found.found], images[~found.found])


def test_more_bisections_come_closer() -> None:
    model, images, labels = trained()
    mean = [
        float(
            minimal_distance(
                model,
                images,
                labels,
                epsilon_max=0.3,
                bisections=b,
                generator=generator(),
            ).radius.mean()
        )
        for b in (0, 3, 7)
    ]
    assert mean[0] > mean[1] > mean[2]


def test_no_certified_radius_is_beyond_the_distance() -> None:
    model, images, labels = trained()
    radius = minimal_distance(
        model, images, labels, epsilon_max=0.2, generator=generator()
    ).radius
    for epsilon in (0.005, 0.02):
        assert bool(
            (radius[certified(model, images, labels, epsilon=epsilon)] > epsilon).all()
        )


def test_impossible_radii_are_refused() -> None:
    images, labels = linear_images()
    with pytest.raises(ValueError, match="epsilon_max"):
        minimal_distance(
            linear_network(), images, labels, epsilon_max=-1, generator=generator()
        )
    with pytest.raises(ValueError, match="radius"):
        clever(linear_network(), images[0], radius=0, generator=generator())


def test_clever_of_a_linear_network_is_its_distance() -> None:
    images, _ = linear_images()
    logits = compute_logits(linear_network(), images)
    for image, row in zip(images[:4], logits, strict=False):
        expected = min(float((row[0] - row[1]).abs()) / 4.5, 0.3)
        score = clever(
            linear_network(),
            image,
            radius=0.3,
            batches=3,
            batch_size=4,
            generator=generator(),
        )
        assert score == pytest.approx(expected, rel=1e-4)


def test_the_end_point_of_a_reverse_weibull_sample_is_found() -> None:
    sample = scipy_stats.weibull_max.rvs(
        3.0, loc=10.0, scale=2.0, size=2000, random_state=0
    )
    assert lipschitz_estimate(sample) == pytest.approx(10, abs=0.3)
    assert lipschitz_estimate(np.full(5, 4.0)) == 4
    assert lipschitz_estimate(np.zeros(5)) == 0


def test_clever_is_at_most_the_radius_and_leaves_the_model_alone() -> None:
    model, images, _labels = trained()
    model.train()
    model.zero_grad()
    assert clever(
        model, images[0], radius=1e-4, batches=3, batch_size=5, generator=generator()
    ) == pytest.approx(1e-4)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_clever_ranks_images_as_an_attack_does() -> None:
    model, images, labels = trained()
    images, labels = images[:24], labels[:24]
    scores = [
        clever(
            model, image, radius=0.15, batches=20, batch_size=20, generator=generator()
        )
        for image in images
    ]
    radius = minimal_distance(
        model, images, labels, epsilon_max=0.3, restarts=2, generator=generator()
    ).radius
    assert scipy_stats.spearmanr(scores, radius.numpy()).statistic > 0.8


def test_a_fit_that_runs_away_falls_back_on_the_sample() -> None:
    """Gumbel's distribution has no end point: whatever the fit says must stay near the
    sample.
    """
    generator_ = np.random.default_rng(0)
    for _ in range(20):
        sample = generator_.gumbel(5, 0.1, size=20)
        assert (
            sample.max()
            <= lipschitz_estimate(sample)
            <= sample.max() + 10 * np.ptp(sample)
        )


@pytest.mark.peer
def test_clever_agrees_with_that_of_art() -> None:
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_u

    model, images, _ = trained()
    wrapped = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    np.random.seed(0)  # noqa: NPY002 - what the peer draws from
    theirs = np.array(
        [
            clever_u(wrapped, image.numpy(), 20, 20, 0.1, np.inf, verbose=False)
            for image in images[:4]
        ]
    )
    ours = np.array(
        [
            clever(
                model,
                image,
                radius=0.1,
                batches=20,
                batch_size=20,
                generator=generator(),
            )
            for image in images[:4]
        ]
    )
    assert float(np.median(np.abs(ours / theirs - 1))) < 0.1
    assert theirs.max() < 0.1


@pytest.mark.peer
def test_the_distance_is_not_beyond_that_of_foolbox() -> None:
    import foolbox

    model, images, labels = trained()
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    budgets = [0.07, 0.08, 0.09, 0.1]
    _, _clipped, success = foolbox.attacks.LinfBasicIterativeAttack(steps=20)(
        wrapped, images, labels, epsilons=budgets
    )
    ours = minimal_distance(
        model, images, labels, epsilon_max=0.3, steps=20, generator=generator()
    ).radius
    # The two attacks step and start differently, so each may be a little ahead: a tenth
    # of the radius.
    assert 0 < success.float().mean() < 1
    for epsilon, fooled in zip(budgets, success, strict=True):
        assert (ours[fooled] <= 1.1 * epsilon).all()


def test_a_radius_never_rises_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    model[1].weight.data, model[1].bias.data = (
        torch.tensor([[0.0], [1.0]]),
        torch.tensor([0.501, 0.0]),
    )
    # In a ball of 0.2 it goes to the edge, finds nothing at 0.1, then a near point at
    # 0.15, then only what is farther.
    moves = iter([0.2, 0.0, 0.05, 0.075, 0.06, 0.055])
    monkeypatch.setattr(
        distance, "pgd", lambda model, images, labels, **rest: images + next(moves)
    )
    found = minimal_distance(
        model, images, labels, epsilon_max=0.2, bisections=5, generator=generator()
    )
    assert float(found.radius) == pytest.approx(0.05)
    assert float(found.images) == pytest.approx(0.55)


def test_images_and_networks_outside_their_range_have_no_distance() -> None:
    images, labels = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    model, numbers = random_network(0), dict(epsilon_max=0.1, generator=generator())
    with pytest.raises(ArgumentError, match="images"):
        minimal_distance(model, images * 255, labels, **numbers)
    with pytest.raises(ArgumentError, match="labels"):
        minimal_distance(model, images, labels[:, None], **numbers)
    with pytest.raises(ArgumentError, match="image"):
        clever(model, images[0] - 2, radius=0.1, generator=generator())
    with torch.no_grad():
        score = clever(
            model, images[0], radius=0.1, generator=generator(), batches=2, batch_size=4
        )
    assert 0 <= score <= 0.1
    model[-1].bias.data.fill_(torch.nan)
    with pytest.raises(ArgumentError, match="the output of model"):
        minimal_distance(model, images, labels, **numbers)
