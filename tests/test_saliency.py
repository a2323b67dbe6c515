"""Baselines, masks, saliency maps, their metrics and their similarity against analytic
cases and peers.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import symbolic_trace

from robustbook.checks import ArgumentError
from robustbook.data import load
from robustbook.data.shapes import load_masked, swap_patch
from robustbook.measure import saliency, saliency_metrics, similarity
from robustbook.measure.windowed_occlusion import (
    WindowInterpreter,
    cover,
    slide,
    windowed_occlusion,
)
from robustbook.models import build
from robustbook.models.folded import fold, unroll
from robustbook.perturb import baselines, masks


class PlantedPixels(nn.Module):
    """Two classes; the probability of class 1 is the mean of a region of the image."""

    def __init__(self, region: Tensor) -> None:
        super().__init__()
        self.weights = region.float() / region.sum()

    def forward(self, images: Tensor) -> Tensor:
        share = (images.mean(1) * self.weights).sum((1, 2)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([torch.zeros_like(share), torch.logit(share)], dim=1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    return build("cnn", (3, 12, 12), 4, seed=1).eval()


def pictures(count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.rand(count, 3, 12, 12, generator=seeded(2))
    return (
        images,
        torch.arange(count) % 4,
        torch.rand(count, 3, 12, 12, generator=seeded(3)),
    )


# Masks
# --------------------------------------------------------------------------------------


def test_masks_are_grids_enlarged_bilinearly_and_cut_out() -> None:
    drawn = masks.draw_masks(20, (13, 17), cells=4, probability=0.4, generator=seeded())
    pixels = drawn.render(0, 20)
    assert pixels.shape == (20, 1, 13, 17)
    for number in range(20):
        size = (5 * math.ceil(13 / 4), 5 * math.ceil(17 / 4))
        large = nn.functional.interpolate(
            drawn.grids[number][None, None],
            size=size,
            mode="bilinear",
            align_corners=False,
        )
        top, left = drawn.shifts[number].tolist()
        torch.testing.assert_close(
            pixels[number], large[0, :, top : top + 13, left : left + 17]
        )


def test_masks_stay_in_range_and_their_mean_is_the_probability() -> None:
    pixels = masks.draw_masks(
        4000, (12, 12), cells=3, probability=0.3, generator=seeded()
    ).render(0, 4000)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert (pixels.mean((0, 1)) - 0.3).abs().max() < 0.04


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_probability_outside_zero_and_one_is_refused(probability: float) -> None:
    with pytest.raises(
        ArgumentError, match="probability must be a finite number, above 0 and below 1"
    ):
        masks.draw_masks(
            5, (8, 8), cells=2, probability=probability, generator=seeded()
        )


def test_more_cells_than_pixels_are_refused() -> None:
    with pytest.raises(ArgumentError, match="cells"):
        masks.draw_masks(5, (8, 8), cells=9, probability=0.5, generator=seeded())


# Baselines
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", baselines.NAMES)
def test_every_baseline_has_the_shape_and_range_of_images_and_depends_on_its_seed_alone(
    name: str,
) -> None:
    images, _, training = pictures()
    made = baselines.make(name, images, training, generator=seeded(5))
    baselines.check(images, made)
    assert torch.equal(
        made, baselines.make(name, images, training, generator=seeded(5))
    )


def test_what_baselines_keep_of_the_image() -> None:
    images, _, training = pictures()
    shuffled = baselines.make("shuffled", images, training, generator=seeded())
    assert torch.equal(
        shuffled.flatten(2).sum(1).sort(1).values,
        images.flatten(2).sum(1).sort(1).values,
    )
    mean = baselines.make("image mean", images, training, generator=seeded())
    torch.testing.assert_close(mean.mean((2, 3)), images.mean((2, 3)))
    colour = baselines.make("training mean", images, training, generator=seeded())
    torch.testing.assert_close(colour[0, :, 3, 4], training.mean((0, 2, 3)))
    other = baselines.make("another image", images, training, generator=seeded())
    assert all(any(torch.equal(one, each) for each in training) for one in other)


def test_inpainting_continues_the_border_harmonically() -> None:
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, 9), torch.linspace(0, 1, 11), indexing="ij"
    )
    slope = (0.2 + 0.3 * rows + 0.4 * columns)[None, None]
    spoilt = slope.clone()
    spoilt[..., 3:6, 4:8] = 1.0
    torch.testing.assert_close(baselines.inpaint(spoilt), slope, atol=1e-6, rtol=0)


@pytest.mark.peer
def test_blur_is_scipys_gaussian_filter() -> None:
    from scipy.ndimage import gaussian_filter

    image = torch.rand(1, 1, 30, 26, generator=seeded())
    expected = gaussian_filter(
        image[0, 0].double().numpy(), 2.0, mode="nearest", truncate=3.0
    )
    np.testing.assert_allclose(
        baselines.blur(image, 2.0)[0, 0].numpy(), expected, atol=1e-6
    )


def test_neutrality_is_zero_for_uniform_answers_and_one_for_certain_ones() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(flat[1].weight)
    nn.init.zeros_(flat[1].bias)
    images = torch.rand(2, 1, 2, 2, generator=seeded())
    assert baselines.neutrality(flat, images).abs().max() < 1e-6
    with torch.no_grad():
        flat[1].bias[0] = 100.0
    torch.testing.assert_close(baselines.neutrality(flat, images), torch.ones(2))


def test_the_neutral_baseline_reaches_its_target_and_leaves_the_model_alone() -> None:
    model = network()
    with torch.no_grad():
        model[-1].weight *= 30
    start = torch.full((2, 3, 12, 12), 0.5)
    assert baselines.neutrality(model, start).min() > 0.05
    found = baselines.neutral(model, start, target=1e-3)
    assert baselines.neutrality(model, found).max() <= 1e-3
    assert found.min() >= 0
    assert found.max() <= 1
    assert all(
        parameter.requires_grad and parameter.grad is None
        for parameter in model.parameters()
    )


def test_baselines_of_another_shape_or_range_and_unknown_ones_are_refused() -> None:
    images, targets, _ = pictures()
    drawn = masks.draw_masks(4, (12, 12), cells=3, probability=0.5, generator=seeded())
    with pytest.raises(ArgumentError, match="shape"):
        saliency.rise(network(), images, targets, drawn, torch.zeros(1, 3, 11, 12))
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match=r"baselines must be (in|finite)"):
            saliency.occlusion(
                network(), images, targets, torch.full_like(images, value), window=3
            )
    with pytest.raises(ArgumentError, match=r"name must be one of .* got beige"):
        baselines.make("beige", images, images, generator=seeded())


# Maps
# --------------------------------------------------------------------------------------


@pytest.mark.peer
@pytest.mark.parametrize(
    ("window", "stride"), [(3, 1), (4, 2), (5, 3), (12, 1), (5, 4)]
)
def test_occlusion_is_captums(window: int, stride: int) -> None:
    from captum.attr import Occlusion

    model, (images, targets, others) = network(), pictures()
    ours = saliency.occlusion(
        model, images, targets, others, window=window, stride=stride, chunk=7
    )
    theirs = Occlusion(lambda values: torch.softmax(model(values), 1)).attribute(
        images,
        (3, window, window),
        (3, stride, stride),
        baselines=others,
        target=targets,
    )
    assert (ours - theirs[:, 0]).abs().max() < 1e-6


@pytest.mark.peer
def test_superpixel_ablation_is_captums_feature_ablation() -> None:
    from captum.attr import FeatureAblation

    model, (images, targets, others) = network(), pictures()
    segments = saliency.superpixels(images, 9)
    ours = saliency.superpixel_ablation(
        model, images, targets, others, segments, chunk=4
    )
    for row in range(len(images)):
        theirs = FeatureAblation(
            lambda values: torch.softmax(model(values), 1)
        ).attribute(
            images[row : row + 1],
            baselines=others[row : row + 1],
            target=targets[row : row + 1],
            feature_mask=segments[row][None, None].expand(1, 3, -1, -1),
        )
        assert (ours[row] - theirs[0, 0]).abs().max() < 1e-6


def test_rise_of_a_linear_model_converges_to_the_analytic_map() -> None:
    region = torch.zeros(12, 12)
    region[2:5, 6:9] = 1
    model = PlantedPixels(region)
    image, black = torch.full((1, 1, 12, 12), 0.8), torch.zeros(1, 1, 12, 12)
    # Each pixel a cell of its own, moved by no shift: E[f M_k] / p = sum_j w_j x_j (p +
    # (1 - p) [j = k]).
    drawn = masks.draw_masks(
        60_000, (12, 12), cells=12, probability=0.5, generator=seeded()
    )
    drawn = masks.RiseMasks(drawn.grids, torch.zeros_like(drawn.shifts), (12, 12), 0.5)
    seen = drawn.render(0, len(drawn))[:, 0]
    model_share = 0.8 * model.weights
    expected = torch.einsum("nhw,hw,nij->ij", seen, model_share, seen) / (
        len(drawn) * 0.5
    )
    found = saliency.rise(model, image, torch.tensor([1]), drawn, black, chunk=5000)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    mean, second = (
        seen.mean(0),
        torch.einsum("nhw,nij->hwij", seen[:20_000], seen[:20_000]) / 20_000,
    )
    analytic = torch.einsum("hw,hwij->ij", model_share, second) / 0.5
    assert (found - analytic).abs().max() < 0.02
    assert found[region > 0].min() > found[region == 0].max()
    assert (mean - 0.5).abs().max() < 0.02


def test_rise_of_a_constant_model_is_the_constant() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 4)

    images, targets, others = pictures(1)
    drawn = masks.draw_masks(
        6000, (12, 12), cells=4, probability=0.5, generator=seeded()
    )
    found = saliency.rise(Constant(), images, targets, drawn, others)
    assert (found - 0.25).abs().max() < 0.02


def test_maps_do_not_depend_on_the_chunk() -> None:
    model, (images, targets, others) = network(), pictures()
    drawn = masks.draw_masks(50, (12, 12), cells=4, probability=0.5, generator=seeded())
    whole = saliency.rise(model, images, targets, drawn, others, chunk=50)
    torch.testing.assert_close(
        saliency.rise(model, images, targets, drawn, others, chunk=7), whole
    )
    whole = saliency.occlusion(model, images, targets, others, window=4, chunk=1000)
    torch.testing.assert_close(
        saliency.occlusion(model, images, targets, others, window=4, chunk=5), whole
    )
    steps = saliency_metrics.steps_of(whole, pixels=12)
    curves = saliency_metrics.removal_curves(
        model, images, targets, steps, others, chunk=1000
    )
    torch.testing.assert_close(
        saliency_metrics.removal_curves(model, images, targets, steps, others, chunk=5),
        curves,
    )


def test_half_precision_scores_are_close_and_progress_is_reported() -> None:
    model, (images, targets, others) = network(), pictures()
    drawn = masks.draw_masks(40, (12, 12), cells=4, probability=0.5, generator=seeded())
    seen: list[tuple[int, int]] = []
    exact = saliency.mask_scores(
        model,
        images,
        targets,
        drawn,
        others,
        chunk=16,
        progress=lambda *done: seen.append(done),
    )
    assert seen == [(48, 120), (96, 120), (120, 120)]
    occluded: list[tuple[int, int]] = []
    for method in (saliency.occlusion, windowed_occlusion):
        method(
            model,
            images,
            targets,
            others,
            window=12,
            progress=lambda *done: occluded.append(done),
        )
    assert occluded == 2 * [(1, 3), (2, 3), (3, 3)]
    rounded = saliency.mask_scores(
        model, images, targets, drawn, others, dtype=torch.bfloat16
    )
    assert 0 < (rounded - exact).abs().max() < 0.02
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "method", [saliency.meaningful_perturbation, saliency.extremal_perturbation]
)
def test_learned_masks_find_the_planted_region(method) -> None:
    region = torch.zeros(12, 12, dtype=torch.bool)
    region[2:8, 4:10] = True
    model = PlantedPixels(region)
    image, black = torch.full((1, 1, 12, 12), 0.9), torch.zeros(1, 1, 12, 12)
    found = method(model, image, torch.tensor([1]), black, cells=6)
    assert found.shape == (1, 12, 12)
    assert (
        saliency_metrics.overlap(found, region[None])[0] > 0.45
    )  # the outermost cells reach into the region
    assert found[0][region].mean() > 2 * found[0][~region].mean()
    assert saliency_metrics.hits(found, region[None])[0] == 1


def test_extremal_masks_keep_their_area() -> None:
    model, (images, targets, others) = network(), pictures()
    found = saliency.extremal_perturbation(
        model, images, targets, others, area=0.3, steps=150
    )
    assert (found.mean((1, 2)) - 0.3).abs().max() < 0.06


@pytest.mark.peer
@pytest.mark.parametrize("name", saliency.CAPTUM_METHODS)
def test_references_give_one_finite_map_an_image(name: str) -> None:
    model, (images, targets, others) = network(), pictures()
    found = saliency.captum_map(name, model, images, targets, others, layer=model[2])
    assert found.shape == (3, 12, 12)
    assert torch.isfinite(found).all()
    assert not found.requires_grad
    assert torch.equal(
        found, saliency.captum_map(name, model, images, targets, others, layer=model[2])
    )


def test_bad_requests_are_refused_in_one_line() -> None:
    model, (images, targets, others) = network(), pictures()
    with pytest.raises(ArgumentError, match=r"window must be .* at most 12, got 13"):
        saliency.occlusion(model, images, targets, others, window=13)
    with pytest.raises(ArgumentError, match="stride"):
        saliency.occlusion(model, images, targets, others, window=3, stride=0)
    for bad in (4, -1):
        with pytest.raises(ArgumentError, match="targets must be from 0"):
            saliency.occlusion(model, images, torch.full((3,), bad), others, window=3)
    for bad_targets in (targets[:2], targets.float()):
        with pytest.raises(ArgumentError, match="targets must be"):
            saliency.occlusion(model, images, bad_targets, others, window=3)
    small = masks.draw_masks(4, (10, 10), cells=3, probability=0.5, generator=seeded())
    with pytest.raises(ArgumentError, match="masks must be drawn for images"):
        saliency.rise(model, images, targets, small, others)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ArgumentError, match="output of model must be finite"):
        saliency.occlusion(model, images, targets, others, window=3)
    with pytest.raises(ArgumentError, match="name must be one of gradient"):
        saliency.captum_map("magic", model, images, targets, others)
    with pytest.raises(ArgumentError, match="area"):
        saliency.extremal_perturbation(model, images, targets, others, area=1.0)


# Metrics
# --------------------------------------------------------------------------------------


def test_removing_a_planted_patch_first_gives_the_analytic_curve() -> None:
    region = torch.zeros(8, 8)
    region[2:4, 2:6] = 1
    model = PlantedPixels(region)
    image, black = torch.full((1, 1, 8, 8), 0.8), torch.zeros(1, 1, 8, 8)
    steps = saliency_metrics.steps_of(region[None], pixels=1)
    curve = saliency_metrics.removal_curves(
        model, image, torch.tensor([1]), steps, black
    )[0]
    expected = 0.8 * (1 - torch.arange(65) / 8).clamp_min(0)
    torch.testing.assert_close(curve, expected, atol=1e-5, rtol=0)
    heights = torch.cat([expected[:1] / 2, expected[1:-1], expected[-1:] / 2])
    torch.testing.assert_close(
        saliency_metrics.area(curve[None])[0],
        heights.mean() * 65 / 64,
        atol=1e-5,
        rtol=0,
    )
    torch.testing.assert_close(
        saliency_metrics.aopc(curve[None])[0], 0.8 - curve.mean(), atol=1e-5, rtol=0
    )


@given(st.integers(0, 10_000), st.sampled_from([1, 4, 12]))
@settings(max_examples=15)
def test_most_relevant_first_of_a_map_is_least_relevant_first_of_its_negation(
    seed: int, pixels: int
) -> None:
    model, (images, targets, others) = network(), pictures()
    maps = torch.rand(3, 12, 12, generator=seeded(seed))
    forward, backward = (
        saliency_metrics.steps_of(sign * maps, pixels=pixels) for sign in (1, -1)
    )
    assert torch.equal(forward, forward.amax() - backward)
    # The least relevant first read backwards is insertion, which starts with the
    # baseline.
    removed = saliency_metrics.removal_curves(model, images, targets, backward, others)
    inserted = saliency_metrics.removal_curves(model, others, targets, forward, images)
    torch.testing.assert_close(removed.flip(1), inserted)


def test_a_constant_curve_has_its_constant_as_area_and_superpixels_go_whole() -> None:
    torch.testing.assert_close(
        saliency_metrics.area(torch.full((2, 9), 0.3)), torch.full((2,), 0.3)
    )
    segments = torch.tensor([[[0, 0, 1], [2, 2, 1]]])
    steps = saliency_metrics.steps_of(
        torch.tensor([[[1.0, 1.0, 5.0], [2.0, 2.0, 0.0]]]), segments=segments
    )
    assert steps.tolist() == [[[2, 2, 0], [1, 1, 0]]]
    with pytest.raises(ValueError, match="pixels must be a whole number"):
        saliency_metrics.steps_of(torch.zeros(1, 3, 3), pixels=10)


def test_pointing_and_overlap_of_the_truth_are_one_and_elsewhere_zero() -> None:
    truth = torch.zeros(1, 6, 6, dtype=torch.bool)
    truth[0, 1:3, 1:4] = True
    assert saliency_metrics.hits(truth.float(), truth) == 1
    assert saliency_metrics.overlap(truth.float(), truth) == 1
    assert saliency_metrics.hits(-truth.float(), truth) == 0
    assert saliency_metrics.overlap(-truth.float(), truth) == 0


# Similarity
# --------------------------------------------------------------------------------------


@pytest.mark.peer
def test_similarities_are_those_of_scipy_and_scikit_image() -> None:
    from scipy.stats import spearmanr
    from skimage.metrics import structural_similarity

    first, second = (
        torch.rand(4, 15, 11, generator=seeded(1)),
        torch.rand(4, 15, 11, generator=seeded(2)),
    )
    second = second + first
    first[0] = (first[0] * 4).round()
    ours = similarity.ssim(first, second)
    for row in range(4):
        expected = spearmanr(first[row].flatten(), second[row].flatten()).statistic
        assert abs(similarity.spearman(first, second)[row] - expected) < 1e-6
        pair = (
            similarity.stretch(maps)[row].double().numpy() for maps in (first, second)
        )
        assert abs(ours[row] - structural_similarity(*pair, data_range=1.0)) < 1e-6


def test_a_map_is_most_similar_to_itself_and_a_constant_to_nothing() -> None:
    maps = torch.rand(2, 10, 10, generator=seeded())
    for measure in similarity.SIMILARITIES.values():
        torch.testing.assert_close(
            measure(maps, maps).double(), torch.ones(2, dtype=torch.float64)
        )
    assert (similarity.spearman(maps, torch.ones(2, 10, 10)) == 0).all()
    assert (similarity.spearman(maps, -maps) < -0.999).all()
    assert (similarity.top_overlap(maps, -maps) == 0).all()
    with pytest.raises(ValueError, match="7 pixels"):
        similarity.ssim(maps[:, :6], maps[:, :6])


# Data
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shapes", "planted"])
def test_masks_travel_with_their_images(name: str) -> None:
    drawn, plain = (
        load_masked(name, "test", limit=40, seed=3),
        load(name, "test", limit=40, seed=3),
    )
    assert torch.equal(drawn.images.images, plain.images)
    assert torch.equal(drawn.images.labels, plain.labels)
    assert drawn.masks.shape == (40, 24, 24)
    assert drawn.masks.flatten(1).any(1).all()
    assert plain.shareable
    whole = load_masked(name, "test")
    place = (
        (whole.images.images == drawn.images.images[:1])
        .flatten(1)
        .all(1)
        .nonzero()
        .item()
    )
    assert torch.equal(whole.masks[place], drawn.masks[0])


def test_a_swapped_patch_changes_the_patch_alone() -> None:
    planted = load_masked("planted", "test", limit=8)
    assert (planted.masks.flatten(1).sum(1) == 36).all()
    swapped = swap_patch(
        planted.images.images, planted.masks, (planted.images.labels + 1) % 4
    )
    changed = (swapped != planted.images.images).any(1)
    assert not (changed & ~planted.masks).any()
    again = swap_patch(planted.images.images, planted.masks, planted.images.labels)
    assert (again - planted.images.images).abs().max() < 0.2


@pytest.mark.data("photographs")
def test_squeezenet_knows_the_photographs(data_root) -> None:
    from robustbook.models.pretrained import squeezenet

    photographs = load("photographs", "test", limit=6)
    assert photographs.image_shape == (3, 227, 227)
    assert not photographs.shareable
    with torch.no_grad():
        assert (
            squeezenet()(photographs.images).argmax(1) == photographs.labels
        ).float().mean() > 0.6


# Windowed occlusion
# --------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A block with a shortcut, a pooling and a normalisation, as in networks for small
    images.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(5, 5, 3, stride=stride, padding=1),
            nn.Conv2d(5, 5, 3, padding=1),
        )
        self.shortcut = (
            nn.Conv2d(5, 5, 1, stride=stride) if stride > 1 else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        inner = self.second(torch.relu(self.first((features - 0.1) / 2)))
        return nn.functional.relu(inner + self.shortcut(features))


class Gated(nn.Module):
    """Features times a number that depends on all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(5, 5, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        gate = torch.sigmoid(self.inner(features).mean((2, 3), keepdim=True) / 10)
        return torch.relu(features) * gate


def layered(*layers: nn.Module, side: int = 24) -> nn.Module:
    """A network in double precision with the early `layers`, whose weights are random
    but always the same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(copy.deepcopy(layer) for layer in layers), nn.Flatten(), nn.LazyLinear(4)
        ).double()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_()
        model(torch.rand(2, 3, side, side).double())
        with torch.no_grad():
            for weights in model[:-1].parameters():
                weights.normal_(std=0.5)
    return model.eval()


EARLY = {
    "kernel 3": (nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True)),
    "kernel 7, pooled, residual": (
        nn.Conv2d(3, 5, 7, stride=2, padding=3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        Residual(1),
        Residual(2),
    ),
    "gated": (nn.Conv2d(3, 5, 3, padding=1), Gated()),
    "even kernel": (
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 5, 4, stride=2, padding=1),
        nn.MaxPool2d(2),
    ),
    "pixels never read": (nn.Conv2d(3, 5, 2, stride=3), nn.ReLU()),
    "dilation and groups": (
        nn.Conv2d(3, 6, 3, dilation=2, groups=3),
        nn.Conv2d(6, 5, (1, 5), padding=(0, 2)),
    ),
    "another first layer": (nn.AvgPool2d(2), nn.Conv2d(3, 5, 3)),
}


@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize(
    ("window", "stride"), [(4, 2), (5, 3), (1, 1), (24, 24), (7, 6)]
)
def test_windowed_occlusion_is_occlusion(early: str, window: int, stride: int) -> None:
    model = layered(*EARLY[early])
    images, others = (
        torch.rand(2, 3, 24, 24, generator=seeded(seed), dtype=torch.float64)
        for seed in (2, 3)
    )
    targets = torch.tensor([1, 3])
    request = {"window": window, "stride": stride, "chunk": 23, "dtype": torch.float64}
    before = images.clone()
    expected = saliency.occlusion(model, images, targets, others, **request)
    found = windowed_occlusion(model, images, targets, others, **request)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert torch.equal(images, before)


def test_windows_change_every_pixel_of_the_features_that_they_reach_and_no_other() -> (
    None
):
    """Windows at the corners, the borders and inside: whole features equal those of the
    covered image.
    """
    model = layered(*EARLY["kernel 7, pooled, residual"], side=48)[:4]
    image, other = (
        torch.rand(3, 48, 48, generator=seeded(seed), dtype=torch.float64)
        for seed in (2, 3)
    )
    covers = saliency.windows((48, 48), 5, 4)
    with torch.no_grad():
        plain = model(torch.where(covers[:, None], other, image))
        found = WindowInterpreter(symbolic_trace(model)).run(
            cover(image, other, covers, 5)
        )
        patches = slide(cover(image, other, covers, 5), model[0])
    assert patches is not None
    assert patches.patches.shape[2:] == (5, 5)
    torch.testing.assert_close(
        patches.whole(), model[0](torch.where(covers[:, None], other, image))
    )
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.peer
@pytest.mark.parametrize(
    "prepare", [fold, lambda model: unroll(fold(model), torch.zeros(1, 3, 48, 48))]
)
def test_windowed_occlusion_of_a_folded_resnet_is_captums(prepare) -> None:
    from captum.attr import Occlusion

    model = resnet(48)
    images, targets = torch.rand(2, 3, 48, 48, generator=seeded()), torch.tensor([0, 2])
    request = {"window": 9, "stride": 7}
    found = windowed_occlusion(
        prepare(model), images, targets, torch.zeros(1, 3, 48, 48), **request
    )
    method = Occlusion(lambda values: torch.softmax(model(values), dim=1))
    with torch.no_grad():
        expected = method.attribute(
            images, (3, 9, 9), (3, 7, 7), target=targets, perturbations_per_eval=16
        )[:, 0]
    assert (found - expected).abs().max() < 1e-6
    assert expected.abs().max() > 1e-4


def test_what_windowed_occlusion_cannot_do_is_refused() -> None:
    images, targets, others = pictures()
    with pytest.raises(ArgumentError, match=r"window must be .* at most 12, got 13"):
        windowed_occlusion(network(), images, targets, others, window=13)
    with pytest.raises(ArgumentError, match="shape"):
        windowed_occlusion(network(), images, targets, others[:, :, 1:], window=3)

    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) if images.mean() > 0 else images.flatten(1)[:, :4]

    with pytest.raises(ArgumentError, match="traceable"):
        windowed_occlusion(Branching(), images, targets, others, window=3)


# Faster copies
# --------------------------------------------------------------------------------------


def resnet(side: int) -> nn.Module:
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(weights=None, num_classes=5)
        with torch.no_grad():
            model(torch.rand(8, 3, side, side))
    return model.eval()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3, padding=1),
        nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(3, 5, (3, 5), dilation=(1, 2), padding=(1, 4)),
    ],
)
def test_an_unrolled_convolution_is_the_convolution(layer: nn.Conv2d) -> None:
    model = nn.Sequential(layer, nn.Flatten()).double()
    features = torch.rand(4, 3, 2, 3, generator=seeded(), dtype=torch.float64)
    flat = unroll(model, features)
    assert not any(isinstance(module, nn.Conv2d) for module in flat.modules())
    torch.testing.assert_close(flat(features), model(features), rtol=1e-12, atol=1e-12)


def test_convolutions_of_larger_maps_are_not_unrolled() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1))
    assert any(
        isinstance(module, nn.Conv2d)
        for module in unroll(model, torch.rand(1, 3, 3, 3)).modules()
    )


@pytest.mark.peer
def test_a_folded_network_answers_alike() -> None:
    model = resnet(32)
    folded = fold(model.train())
    assert model.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    fold(nn.Sequential(model.eval()))
    assert not model.training
    assert not model.bn1.training
    images = torch.rand(3, 3, 32, 32, generator=seeded())
    with torch.no_grad():
        for faster in (folded, unroll(folded, images)):
            torch.testing.assert_close(
                faster(images), model.eval()(images), atol=1e-4, rtol=1e-4
            )
