"""Small functions against values worked out by hand, where larger tests look past a
wrong sign or constant.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from robustbook.measure import observers, sequential, similarity
from robustbook.models import architectures, four_view, prunable, training
from robustbook.models.pretrained import CHANNEL_MEANS, BlueFirst
from robustbook.models.training import Recipe
from robustbook.perturb.interference import interfere
from robustbook.perturb.universal import apply, universal_perturbation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear() -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    model[1].weight.data = torch.randn(3, 16, generator=generator(7))
    return model


def test_channels_are_centred_differences_of_gaussians() -> None:
    side, smallest, ratio = 6, 0.7, 1.6
    found = observers.difference_of_gaussians(side, 2, smallest, ratio)
    grids = found.reshape(2, side, side)
    np.testing.assert_allclose(grids, grids[:, ::-1, ::-1])
    np.testing.assert_allclose(grids, grids.transpose(0, 2, 1))

    def blob(row: int, column: int, width: float) -> float:
        squared = (row - 2.5) ** 2 + (column - 2.5) ** 2
        return math.exp(-squared / (2 * width**2)) / width**2

    for channel in range(2):
        narrow, wide = (smallest * ratio ** (channel + more) for more in (0, 1))
        expected = np.array(
            [
                [blob(r, c, narrow) - blob(r, c, wide) for c in range(side)]
                for r in range(side)
            ]
        )
        np.testing.assert_allclose(
            grids[channel], expected / np.linalg.norm(expected), atol=1e-12
        )


def test_contrast_to_noise_takes_the_sample_deviation() -> None:
    image = np.array([[5.0, 1.0, 3.0]])
    inside = np.array([[True, False, False]])
    found = observers.contrast_to_noise(image, inside, ~inside)
    assert found == pytest.approx((5 - 2) / math.sqrt(2))


def test_one_step_of_the_universal_ascent_is_a_quarter_of_the_budget() -> None:
    model, images = linear(), torch.rand(4, 1, 4, 4, generator=generator()) / 2 + 0.2
    labels = torch.tensor([0, 1, 2, 0])
    pattern = universal_perturbation(
        model, images, labels, epsilon=0.08, epochs=1, generator=generator()
    )
    sizes = torch.unique((pattern.abs() * 1000).round())
    assert sizes.tolist() == [20, 60]
    assert 0 < int((pattern < 0).sum()) < 16


def test_the_second_step_of_the_universal_ascent_is_half_the_first() -> None:
    model, images = linear(), torch.rand(4, 1, 4, 4, generator=generator()) / 2 + 0.2
    labels = torch.tensor([0, 1, 2, 0])
    more = {"epsilon": 0.08, "step_size": 0.02, "chunk": 2}
    once = universal_perturbation(
        model, images, labels, epochs=1, generator=generator(), **more
    )
    # From +-0.04 by +-0.02 and then by +-0.01.
    sizes = torch.unique((once.abs() * 1000).round())
    assert set(sizes.tolist()) <= {10, 30, 50, 70}
    assert len(sizes) > 2


def test_occlusion_reaches_every_place_of_the_image() -> None:
    images = torch.ones(400, 1, 5, 5)
    covered = interfere("occlusion", images, 2, generator())[:, 0] == 0.5
    rows, columns = covered.any(2), covered.any(1)
    assert set(covered.sum((1, 2)).tolist()) == {4}
    assert set(rows.int().argmax(1).tolist()) == {0, 1, 2, 3}
    assert set(columns.int().argmax(1).tolist()) == {0, 1, 2, 3}


def test_blue_comes_first_in_levels_less_the_channels_means() -> None:
    image = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    levels = torch.tensor([0.3, 0.2, 0.1]) * 255 - torch.tensor(CHANNEL_MEANS)
    torch.testing.assert_close(BlueFirst()(image).flatten(), levels)


def test_minmax_sees_attacked_images_alone_and_fgsm_both_halves() -> None:
    model, images = linear(), torch.rand(4, 1, 4, 4, generator=generator())
    labels = torch.tensor([0, 1, 2, 0])

    def brighter(model: nn.Module, images: torch.Tensor, *_: object) -> torch.Tensor:
        return images + 0.2

    def loss(recipe: Recipe, share: float) -> float:
        given = (model, images, labels, recipe, brighter, None, generator(), share)
        return training._loss(*given).item()

    def plain(images: torch.Tensor) -> float:
        return nn.functional.cross_entropy(model(images), labels).item()

    half = plain(images + 0.1)
    assert loss(Recipe("minmax", 1), 0.5) == pytest.approx(half)
    both = (plain(images) + half) / 2
    assert loss(Recipe("fgsm", 1), 0.5) == pytest.approx(both, rel=1e-6)


def test_half_of_the_training_views_are_turned_upside_down() -> None:
    image = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    recipe = four_view.Recipe(epochs=1, noise=0.0)
    seen = four_view._varied(image.expand(200, 1, 2, 2), recipe, None, generator())
    turned = torch.tensor([bool(torch.equal(one[0], image.flip(0))) for one in seen])
    as_it_was = torch.tensor([bool(torch.equal(one[0], image)) for one in seen])
    assert bool((turned ^ as_it_was).all())
    assert 70 < int(turned.sum()) < 130


def test_overlap_counts_the_share_of_the_pixels() -> None:
    first = torch.arange(16.0).view(1, 4, 4)
    second = first.clone()
    second[0, 3, 2:] = -1.0
    # The top quarter of the first: its last row; of the second: its first half of that
    # row, and the two pixels before it.
    assert similarity.top_overlap(first, second, 0.25).item() == 0.5


def test_a_pattern_is_added_and_cut_at_both_ends() -> None:
    images = torch.tensor([0.1, 0.5, 0.9]).view(1, 1, 1, 3)
    pattern = torch.tensor([-0.2, 0.2, 0.2]).view(1, 1, 3)
    expected = torch.tensor([0.0, 0.7, 1.0])
    torch.testing.assert_close(apply(images, pattern).flatten(), expected)


def test_standardising_takes_off_the_mean_and_divides_by_the_deviation() -> None:
    image = torch.tensor([0.1, 0.7]).view(1, 2, 1, 1)
    found = prunable.Standardise([0.5, 0.1], [0.25, 0.3])(image)
    torch.testing.assert_close(found.flatten(), torch.tensor([-1.6, 2.0]))


SHAPES = {
    "mlp": [(256, 784), 256, (128, 256), 128, (10, 128), 10],
    "cnn": [(16, 1, 4, 4), 16, (32, 16, 4, 4), 32, (100, 1568), 100, (10, 100), 10],
    "wide-cnn": [
        *[(32, 1, 4, 4), 32, (64, 32, 4, 4), 64],
        *[(128, 3136), 128, (10, 128), 10],
    ],
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_layers_of_a_network_are_those_of_its_name(name: str) -> None:
    model = architectures.build(name, (1, 28, 28), 10, 0)
    found = [tuple(tensor.shape) for tensor in model.parameters()]
    wanted = [size if isinstance(size, tuple) else (size,) for size in SHAPES[name]]
    assert found == wanted


def test_walds_bound_by_hand() -> None:
    def entropy(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    told_apart = 0.8 * math.log(0.8 / 0.2) + 0.2 * math.log(0.2 / 0.8)
    found = sequential.fewest_outcomes(0.1, 0.2, [0.05, 0.3, 0.8])
    expected = [told_apart / entropy(0.05, 0.25), told_apart / entropy(0.3, 0.5)]
    expected += [told_apart / entropy(0.8, 1 - 0.4)]
    np.testing.assert_allclose(found[:2], expected[:2])
    assert found[2] == pytest.approx(expected[2])
    assert found[2] == pytest.approx(sequential.fewest_outcomes(0.1, 0.2, [0.2])[0])


def test_evidence_is_the_smaller_of_both_sides_and_mirrors() -> None:
    n, k = np.array([50]), np.array([20])
    found = sequential._evidence(n, k, np.array([0.42]), 0.1)
    ratios = [50 * sequential.relative_entropy(0.4, q) for q in (0.32, 0.52)]
    assert found[0] == pytest.approx(min(ratios))
    mirrored = sequential._evidence(n, n - k, np.array([0.58]), 0.1)
    assert mirrored[0] == pytest.approx(found[0])
    low = sequential._evidence(n, k, np.array([0.38]), 0.1)
    assert low[0] == pytest.approx(50 * sequential.relative_entropy(0.4, 0.48))
