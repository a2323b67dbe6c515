"""Surfaces say what the network says, and a threshold's error is the smallest
there is.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attack_networks import generator, random_network, trained
from robustbook.measure.surfaces import (
    Surface,
    best_threshold,
    decision_surface,
    line,
    plane,
)
from robustbook.models.network import compute_logits


def test_the_decision_surface_of_known_logits() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.5], [1.0, 1.0, 0.0]])
    assert decision_surface(logits, torch.tensor([0, 2, 0])).tolist() == [
        1.0,
        -0.5,
        0.0,
    ]


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), normalise=st.booleans())
def test_the_sign_of_the_decision_surface_is_the_decision(
    seed: int, normalise: bool
) -> None:
    image, first, second = torch.randn(3, 1, 4, 4, generator=generator(seed))
    image = image.clamp(0, 1)
    surface = plane(
        random_network(seed),
        image,
        seed % 4,
        first,
        second,
        np.linspace(-2, 2, 9),
        np.linspace(-1, 1, 5),
        normalise=normalise,
        chunk=7,
    )
    assert (
        surface.decision.shape
        == surface.cross_entropy.shape
        == surface.predicted.shape
        == (9, 5)
    )
    assert np.array_equal(surface.decision < 0, surface.wrong)


def test_a_plane_holds_the_points_that_it_says() -> None:
    model, images, labels = trained("cnn")
    image, label = images[0], int(labels[0])
    first, second = torch.randn(2, *image.shape, generator=generator())
    alphas, betas = [-0.3, 0.0, 0.7], [0.0, 0.2]
    surface = plane(model, image, label, first, second, alphas, betas)
    for i, alpha in enumerate(alphas):
        for j, beta in enumerate(betas):
            logits = compute_logits(
                model, (image + alpha * first + beta * second)[None]
            )[0]
            others = torch.cat([logits[:label], logits[label + 1 :]])
            assert surface.decision[i, j] == pytest.approx(
                float(logits[label] - others.max()), abs=1e-4
            )
            assert surface.cross_entropy[i, j] == pytest.approx(
                float(-logits.log_softmax(0)[label]), abs=1e-4
            )
            assert surface.predicted[i, j] == int(logits.argmax())


def test_a_line_is_a_plane_with_one_row_of_cells() -> None:
    model, images, labels = trained()
    direction = torch.randn(images[0].shape, generator=generator())
    along = line(model, images[0], int(labels[0]), direction, [0.0, 0.5, 1.0])
    across = plane(
        model,
        images[0],
        int(labels[0]),
        direction,
        torch.zeros_like(direction),
        [0.0, 0.5, 1.0],
        [0.0],
    )
    assert along.betas.tolist() == [0.0]
    np.testing.assert_allclose(along.decision, across.decision)


def test_clipping_keeps_the_points_in_the_pixel_range() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    image, direction = torch.full((1, 2, 2), 0.5), torch.ones(1, 2, 2)
    assert line(model, image, 0, direction, [1.0]).decision.item() == pytest.approx(6)
    assert line(
        model, image, 0, direction, [1.0], clip=True
    ).decision.item() == pytest.approx(4)


def test_normalised_surfaces_do_not_see_the_scale_of_the_logits() -> None:
    model, images, labels = trained()
    scaled = nn.Sequential(*model[:-1], nn.Linear(128, 10)).eval()
    scaled[-1].weight.data, scaled[-1].bias.data = (
        7 * model[-1].weight.data,
        7 * model[-1].bias.data,
    )
    direction = torch.randn(images[0].shape, generator=generator())
    surfaces = [
        line(
            network,
            images[0],
            int(labels[0]),
            direction,
            np.linspace(-1, 1, 7),
            normalise=normalise,
        )
        for network in (model, scaled)
        for normalise in (True, False)
    ]
    np.testing.assert_allclose(surfaces[0].decision, surfaces[2].decision, rtol=1e-4)
    np.testing.assert_allclose(
        7 * surfaces[1].decision, surfaces[3].decision, rtol=1e-4
    )


def test_with_two_classes_one_level_of_the_cross_entropy_is_the_boundary() -> None:
    first, second = torch.randn(2, 1, 8, 8, generator=generator(5))
    grid = np.linspace(-1, 1, 21)

    def surface(classes: int) -> Surface:
        model, images, labels = trained(classes=classes)
        return plane(model, images[0], int(labels[0]), first, second, grid, grid)

    two, many = surface(2), surface(10)
    assert 0 < two.wrong.mean() < 1
    assert 0 < many.wrong.mean() < 1
    assert best_threshold(two.cross_entropy, two.wrong).error == 0
    assert best_threshold(many.cross_entropy, many.wrong).error > 0


@pytest.mark.parametrize(
    ("values", "wrong", "error"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 0.5),
        ([1, 2, 3, 4], [0, 1, 0, 1], 0.25),
        ([1, 1, 1, 1], [0, 1, 0, 0], 0.25),
        ([2, 1, 2, 1], [0, 0, 1, 0], 0.25),
        ([5], [1], 0),
    ],
)
def test_known_threshold_errors(
    values: list[float], wrong: list[int], error: float
) -> None:
    assert best_threshold(values, wrong).error == error


@given(
    cells=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=20)
)
def test_no_threshold_is_better_than_the_best(cells: list[tuple[int, bool]]) -> None:
    values, wrong = (
        np.array([cell[0] for cell in cells]),
        np.array([cell[1] for cell in cells]),
    )
    errors = [
        float(np.mean((values > threshold) != wrong))
        for threshold in np.arange(-0.5, 7)
    ]
    assert best_threshold(values, wrong).error == pytest.approx(min(errors))


def test_shapes_that_do_not_fit_are_refused() -> None:
    image = torch.zeros(1, 4, 4)
    with pytest.raises(ValueError, match="shape"):
        line(random_network(0), image, 0, torch.zeros(1, 3, 3), [0.0])
    with pytest.raises(ValueError, match="shape"):
        best_threshold([1.0, 2.0], [True])
