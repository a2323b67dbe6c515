"""The tighter bound of the divergence: never below what a hard search finds, exact
where it can be, and its parts sound on their own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attack_networks import generator, random_network, trained
from robustbook.checks import ArgumentError
from robustbook.measure.bounds import divergence_bound, input_box
from robustbook.measure.divergence import (
    kl_divergence,
    normalise_logits,
    worst_divergence,
)
from robustbook.measure.tight_divergence import (
    Displacements,
    Search,
    Sharpened,
    tight_divergence_bound,
)
from robustbook.models.network import compute_logits

QUICK = {"steps": 3, "looks": 25, "cuts": 2}


def hard_search(model: nn.Module, images: Tensor, epsilon: float) -> Tensor:
    """The largest divergence of long ascents with small and large steps from many
    starts, and of many corners.
    """
    found = [
        worst_divergence(
            model,
            images,
            epsilon=epsilon,
            steps=60,
            step_size=share * epsilon,
            restarts=8,
            generator=generator(number),
        ).kl
        for number, share in enumerate((0.02, 0.1, 0.4))
    ]
    signs = 2 * torch.randint(2, (200, *images.shape), generator=generator(5)) - 1
    corners = (images + epsilon * signs).clamp(0, 1)
    moved = compute_logits(model, corners.flatten(0, 1)).double()
    clean = normalise_logits(compute_logits(model, images).double())
    moved = normalise_logits(moved).view(200, len(images), -1)
    return torch.stack([*found, kl_divergence(clean, moved).amax(dim=0)]).amax(dim=0)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    epsilon=st.floats(0, 0.3),
    classes=st.sampled_from([2, 3, 5, 10]),
)
def test_no_search_goes_beyond_the_bound(
    seed: int, epsilon: float, classes: int
) -> None:
    model = random_network(seed, classes=classes)
    images = torch.rand(2, 1, 4, 4, generator=generator(seed))
    bound = tight_divergence_bound(model, images, epsilon=epsilon, **QUICK)
    found = worst_divergence(
        model,
        images,
        epsilon=epsilon,
        steps=20,
        step_size=epsilon / 5,
        restarts=3,
        generator=generator(),
    ).kl
    assert bool((bound >= found * (1 - 1e-6) - 1e-12).all())
    assert bool((bound <= divergence_bound(model, images, epsilon=epsilon)).all())


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_a_much_harder_search_stays_below_and_the_usual_bound_lies_above(
    architecture: str,
) -> None:
    model, images, _ = trained(architecture)
    images = images[:2]
    for epsilon, share in ((0.003, 0.95), (0.02, 0.9)):
        found = hard_search(model, images, epsilon)
        bound = tight_divergence_bound(model, images, epsilon=epsilon, **QUICK)
        usual = divergence_bound(model, images, epsilon=epsilon)
        assert bool((bound >= found).all())
        assert float((bound / usual).median()) < share


def test_a_linear_network_leaves_no_more_than_the_search_allows() -> None:
    """Displacements of a linear network are linear-fractional: their bound along any
    direction is that of the best corner.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4)).double()
    model[1].weight.data = torch.randn(4, 6, generator=generator(1)).double()
    model[1].bias.data = torch.tensor([9.0, 0.0, -3.0, 1.0]).double()
    image = torch.full((1, 1, 2, 3), 0.5).double()
    clean = normalise_logits(compute_logits(model, image))[0]
    moved = Displacements(Sharpened(model, input_box(image, 0.1)), clean, 3)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6).double()
    logits = compute_logits(model, image + 0.1 * signs.view(-1, 1, 2, 3))
    centred = logits - logits.mean(dim=1, keepdim=True)
    along = centred @ clean / 4
    across = (centred - along[:, None] * clean) / along[:, None]
    directions = torch.randn(5, 4, generator=generator(2)).double()
    exact = (across @ directions.T).amax(dim=0)
    bound = moved.largest(directions)
    assert bool((bound >= exact - 1e-12).all())
    torch.testing.assert_close(bound, exact, rtol=0.02, atol=1e-3)
    assert moved.least_along == pytest.approx(float(along.min()), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_optimised_slopes_bound_every_form(seed: int) -> None:
    model = random_network(seed, classes=4)
    image = torch.rand(1, 1, 4, 4, generator=generator(seed))
    network = Sharpened(model, input_box(image, 0.2))
    network.sharpen(4, 100)
    forms = torch.randn(6, 4, generator=generator(seed + 1))
    usual = network.least(forms, len(network.layers), {})
    better, _ = network.optimised(forms, len(network.layers), 8)
    assert bool((better >= usual).all())
    noise = 2 * torch.rand(300, 1, 4, 4, generator=generator(seed)) - 1
    noise[:150] = noise[:150].sign()
    logits = compute_logits(model, (image + 0.2 * noise).clamp(0, 1))
    assert bool((logits @ forms.T >= better).all())


class Known:
    """Displacements that fill a box in three directions, and nothing else."""

    def __init__(self, clean: Tensor, reach: float) -> None:
        self.clean, self.reach = clean, reach

    def largest(self, directions: Tensor) -> Tensor:
        """Of all points whose entries are at most `reach` in size."""
        return self.reach * directions.abs().sum(dim=1)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), reach=st.floats(0.01, 0.6))
def test_the_search_is_above_every_displacement_and_not_far(
    seed: int, reach: float
) -> None:
    clean = normalise_logits(torch.randn(5, generator=generator(seed)).double())
    search = Search(Known(clean, reach))  # type: ignore[arg-type]
    bound = search.run(100, 5)
    points = reach * (2 * torch.rand(20_000, 5, generator=generator(1)).double() - 1)
    points[::2] = reach * points[::2].sign()
    free = torch.linalg.qr(torch.stack([torch.ones(5).double(), clean]).T).Q
    points = points - points @ free @ free.T
    inside = points[points.abs().amax(dim=1) <= reach]
    found = kl_divergence(clean, normalise_logits(clean + inside)).amax()
    assert float(found) <= bound
    assert bound <= 4 * float(found)
    for point in inside[:5].numpy():
        assert search.divergence(point) == pytest.approx(
            float(kl_divergence(clean, normalise_logits(clean + torch.tensor(point)))),
            rel=1e-6,
            abs=1e-12,
        )
        tiny = 1e-6 * np.ones(5) @ np.diag(search.uphill(point))
        assert search.divergence(point + tiny) >= search.divergence(point)


def test_two_classes_keep_the_usual_bound() -> None:
    model = random_network(0, classes=2)
    images = torch.rand(2, 1, 4, 4, generator=generator(0))
    bound = tight_divergence_bound(model, images, epsilon=0.1)
    assert torch.equal(bound, divergence_bound(model, images, epsilon=0.1))


def test_arguments_are_refused_by_name() -> None:
    model, images = random_network(0), torch.rand(1, 1, 4, 4)
    with pytest.raises(ArgumentError, match="looks"):
        tight_divergence_bound(model, images, epsilon=0.1, looks=0)
    with pytest.raises(ArgumentError, match="epsilon"):
        tight_divergence_bound(model, images, epsilon=-0.1)
