"""Masks with less noise, ROAD, infidelity, sensitivity, randomised layers, distance
from the data and attention: against plain loops, captum and values worked out by hand.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from captum import metrics
from torch import nn

from robustbook.measure import attention, map_checks, off_data, road
from robustbook.measure.adjusted_rise import adjusted_maps
from robustbook.measure.saliency import mask_scores, rise_maps
from robustbook.models import build
from robustbook.models.transformer import build_transformer
from robustbook.perturb.mask_designs import antithetic_masks, balanced_masks
from robustbook.perturb.masks import draw_masks


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem():
    model = build("cnn", (1, 12, 12), 3, seed=1).eval()
    images = torch.rand(2, 1, 12, 12, generator=seeded(2))
    return model, images, torch.tensor([0, 2])


def test_designs_keep_the_distribution_of_a_mask() -> None:
    pairs = antithetic_masks(4000, (12, 12), cells=3, generator=seeded())
    even = balanced_masks(4000, (12, 12), cells=3, probability=0.3, generator=seeded())
    assert abs(pairs.grids.mean() - 0.5) < 1e-6
    assert (even.grids.mean(0) - 0.3).abs().max() < 1e-6
    for masks in (pairs, even):
        for axis in (0, 1):
            counts = torch.bincount(masks.shifts[:, axis], minlength=4) / 4000
            assert (counts - 0.25).abs().max() < 0.03


def test_adjusting_leaves_the_expected_map_and_takes_off_noise() -> None:
    model, images, targets = problem()
    grey = torch.full_like(images, 0.5)
    reference = draw_masks(
        4000, (12, 12), cells=3, probability=0.5, generator=seeded(9)
    )

    def maps(seed: int, count: int):
        masks = draw_masks(
            count, (12, 12), cells=3, probability=0.5, generator=seeded(seed)
        )
        scores = mask_scores(model, images, targets, masks, grey)
        plain = rise_maps(scores, masks, centred=True)
        return plain, adjusted_maps(scores, masks, reference)

    exact = maps(1, 20000)[0]
    found = [maps(seed, 300) for seed in range(20, 40)]
    for kind in (0, 1):
        mean = torch.stack([pair[kind] for pair in found]).mean(0)
        assert (mean - exact).abs().max() < 0.15 * exact.abs().max()
    plain, adjusted = (
        torch.stack([pair[kind] - exact for pair in found]).square().mean()
        for kind in (0, 1)
    )
    assert adjusted < 0.35 * plain


def loop_imputation(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One dense row of equations a pixel, as the paper writes them."""
    height, width = known.shape
    system, right = np.eye(height * width), np.zeros(height * width)
    for row in range(height):
        for column in range(width):
            place = row * width + column
            if known[row, column]:
                right[place] = image[row, column]
                continue
            weights = {}
            for down in (-1, 0, 1):
                for beside in (-1, 0, 1):
                    y, x = row + down, column + beside
                    if (down, beside) != (0, 0) and 0 <= y < height and 0 <= x < width:
                        weights[y * width + x] = 1 / 12 if down and beside else 1 / 6
            for other, weight in weights.items():
                system[place, other] -= weight / sum(weights.values())
    return np.linalg.solve(system, right).reshape(height, width)


def test_imputation_is_that_of_a_plain_loop() -> None:
    images = torch.rand(2, 2, 6, 5, generator=seeded()).double()
    known = torch.rand(2, 6, 5, generator=seeded(1)) < 0.4
    found = road.impute(images, known, generator=seeded(), noise=0.0)
    for image, mask, filled in zip(images, known, found, strict=True):
        for channel, got in zip(image, filled, strict=True):
            expected = loop_imputation(channel.numpy(), mask.numpy())
            np.testing.assert_allclose(got.numpy(), expected, atol=1e-9)
    noisy = road.impute(images, known, generator=seeded(), noise=0.1)
    outside = ~known[:, None].expand_as(images)
    assert torch.equal(noisy[~outside], images[~outside])
    assert not torch.allclose(noisy[outside], found[outside], atol=1e-3)


def test_road_removes_what_the_map_puts_first() -> None:
    model, images, targets = problem()
    maps = torch.rand(2, 12, 12, generator=seeded(5))
    curves = road.road_curves(
        model, images, targets, maps, shares=(0.5,), noise=0.0, generator=seeded()
    )
    cut = maps.flatten(1).median(1).values
    filled = road.impute(
        images, maps <= cut[:, None, None], generator=seeded(), noise=0.0
    )
    rows = torch.arange(2)
    for entry, pictures in enumerate((images, filled)):
        expected = model(pictures).softmax(1)[rows, targets]
        torch.testing.assert_close(curves[:, entry], expected, atol=1e-6, rtol=0)


def test_infidelity_is_captums() -> None:
    model, images, targets = problem()
    maps = torch.rand(2, 12, 12, generator=seeded(3))
    perturbed = torch.rand(7, 2, 1, 12, 12, generator=seeded(4))
    found = map_checks.infidelity(model, images, targets, maps, perturbed)

    def perturb(inputs):
        # captum repeats every image in place.
        moved = perturbed.transpose(0, 1).flatten(0, 1)
        return inputs - moved, moved

    expected = metrics.infidelity(
        lambda x: model(x).softmax(1),
        perturb,
        images,
        maps[:, None],
        target=targets,
        n_perturb_samples=7,
        normalize=True,
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_sensitivity_is_captums() -> None:
    _, images, _ = problem()
    images = 0.1 + 0.8 * images

    def explain(x):
        return (x**2).sum(1)

    found = map_checks.max_sensitivity(
        explain, images, radius=0.05, draws=4, generator=seeded()
    )
    source = seeded()
    moves = [
        0.05 * (2 * torch.rand(images.shape, generator=source) - 1) for _ in range(4)
    ]

    def shift(move, inputs, _radius):
        return (inputs[0] if isinstance(inputs, tuple) else inputs) + move

    peers = [
        metrics.sensitivity_max(
            lambda x: ((x[0] if isinstance(x, tuple) else x).square(),),
            images,
            perturb_func=partial(shift, move),
            n_perturb_samples=1,
        )
        for move in moves
    ]
    expected = torch.stack(peers).amax(0)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_layers_are_randomised_from_the_last_to_the_first() -> None:
    model, _, _ = problem()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    stages = list(map_checks.randomised(model, seed=0))
    names = [name for name, _ in stages]
    layers = [
        name for name, each in model.named_modules() if list(each.parameters(False))
    ]
    assert names == [name for name in reversed(layers) if name]
    for number, (_, copied) in enumerate(stages):
        changed = {
            name.rsplit(".", 1)[0]
            for name, each in copied.state_dict().items()
            if not torch.equal(each, before[name])
        }
        assert changed == set(names[: number + 1])
    assert all(torch.equal(before[n], e) for n, e in model.state_dict().items())


def test_the_distance_from_the_data_is_that_of_a_plain_loop() -> None:
    data = torch.randn(40, 6, generator=seeded()) * torch.arange(1, 7)
    asked = torch.randn(5, 6, generator=seeded(1))
    found = off_data.distance_from_data(asked, data, neighbours=3)
    for point, distance in zip(asked, found, strict=True):
        every = [float(((point - row) / data.std(0)).norm()) for row in data]
        assert abs(np.mean(sorted(every)[:3]) - distance) < 1e-4


def test_features_are_what_the_last_layer_is_given() -> None:
    model, images, _ = problem()
    expected = model[:-1](images)
    torch.testing.assert_close(off_data.penultimate(model, images), expected)
    ends = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Flatten()
    )
    pooled = ends[:2](images).mean((2, 3))
    torch.testing.assert_close(off_data.penultimate(ends, images), pooled)


def test_rollout_is_the_product_of_attention_that_pytorch_computes() -> None:
    model = build_transformer((1, 12, 8), 3, seed=0).eval()
    images = torch.rand(2, 1, 12, 8, generator=seeded())
    maps = attention.attention_rollout(model, images)
    assert maps.shape == (2, 12, 8)
    tokens = model.patches(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.answer.expand(2, -1, -1), tokens], 1) + model.places
    flow = torch.eye(7).expand(2, 7, 7)
    for block in model.blocks:
        peer = nn.MultiheadAttention(48, 4, batch_first=True)
        peer.in_proj_weight.data = block.attention.project.weight.data
        peer.in_proj_bias.data = block.attention.project.bias.data
        peer.out_proj.load_state_dict(block.attention.merge.state_dict())
        normed = block.first(tokens)
        mixed, weights = peer(normed, normed, normed)
        tokens = tokens + mixed
        tokens = tokens + block.mix(block.second(tokens))
        flow = (weights + torch.eye(7)) / 2 @ flow
    torch.testing.assert_close(
        model(images), model.head(model.norm(tokens[:, 0])), atol=1e-5, rtol=0
    )
    middles = maps[:, 1:12:4, 1:8:4] + maps[:, 2:12:4, 2:8:4]
    expected = flow[:, 0, 1:].reshape(2, 3, 2)
    assert (middles / 2 - expected).abs().max() < 0.3 * expected.max()
    coarse = nn.functional.interpolate(
        expected[:, None], size=(12, 8), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(maps, coarse[:, 0], atol=1e-5, rtol=0)


def test_patches_that_do_not_fit_are_refused() -> None:
    from robustbook.checks import ArgumentError

    with pytest.raises(ArgumentError, match="divisible by 4"):
        build_transformer((1, 10, 8), 3, seed=0)
