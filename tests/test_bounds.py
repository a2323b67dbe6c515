"""Bounds hold against attacks and samples, are exact where they can be, and grow with
the ball.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attack_networks import generator, random_network, trained
from robustbook.checks import ArgumentError
from robustbook.measure import box_divergence
from robustbook.measure.bounds import (
    Method,
    certified,
    differences,
    divergence_bound,
    interval_bounds,
    linear_bounds,
    logit_bounds,
)
from robustbook.measure.box_divergence import Ranges
from robustbook.measure.divergence import (
    kl_divergence,
    normalise_logits,
    worst_divergence,
)
from robustbook.models.architectures import Scale
from robustbook.models.network import compute_logits
from robustbook.perturb.gradient import pgd

METHODS = pytest.mark.parametrize("method", ["ibp", "crown"])
ROUNDING = (
    1e-12  # of a divergence that is zero in exact arithmetic, as in a ball of radius 0
)
EPSILONS = st.one_of(st.floats(0, 0.02), st.floats(0, 1))


def _sampled(images: Tensor, epsilon: float, count: int, seed: int) -> Tensor:
    """Points (count, N, C, H, W) of the ball, half of them at its corners."""
    noise = 2 * torch.rand(count, *images.shape, generator=generator(seed)) - 1
    noise[: count // 2] = noise[: count // 2].sign()
    return (images + epsilon * noise).clamp(0, 1)


@METHODS
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    epsilon=EPSILONS,
    factor=st.sampled_from([None, 2.0, 0.1]),
)
def test_logits_stay_in_their_box(
    method: Method, seed: int, epsilon: float, factor: float | None
) -> None:
    model = random_network(seed)
    if factor is not None:
        model = nn.Sequential(*model[:-1], Scale(factor), model[-1], Scale(factor))
    images = torch.rand(3, 1, 4, 4, generator=generator(seed))
    forms = torch.randn(3, 5, 4, generator=generator(seed + 1))
    box = logit_bounds(model, images, epsilon=epsilon, forms=forms, method=method)
    points = _sampled(images, epsilon, 60, seed)
    values = torch.einsum(
        "nsk,cnk->cns",
        forms,
        compute_logits(model, points.flatten(0, 1)).view(60, 3, 4),
    )
    assert bool((values >= box.lower).all())
    assert bool((values <= box.upper).all())


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), epsilon=EPSILONS)
def test_linear_bounds_are_never_wider_than_intervals(
    seed: int, epsilon: float
) -> None:
    model, images = (
        random_network(seed),
        torch.rand(3, 1, 4, 4, generator=generator(seed)),
    )
    wide = interval_bounds(model, images, epsilon=epsilon, forms=torch.eye(4))
    tight = linear_bounds(model, images, epsilon=epsilon, forms=torch.eye(4))
    slack = 1e-5 * float(wide.upper.abs().max() + wide.lower.abs().max())
    assert bool((tight.upper <= wide.upper + slack).all())
    assert bool((tight.lower >= wide.lower - slack).all())


@METHODS
def test_a_network_without_relu_is_bounded_exactly(method: Method) -> None:
    source = generator(3)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 6), nn.Linear(6, 3)
    )
    images = torch.rand(2, 1, 4, 4, generator=source) * 0.6 + 0.2
    box = logit_bounds(model, images, epsilon=0.1, forms=torch.eye(3), method=method)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model(x), images[:1]
    ).reshape(3, -1)
    reach = 0.1 * jacobian.abs().sum(dim=1)
    logits = compute_logits(model, images)
    torch.testing.assert_close(box.upper, logits + reach, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(box.lower, logits - reach, rtol=1e-4, atol=1e-4)


def test_a_relu_that_never_switches_is_exact_by_lines_but_not_by_intervals() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[1].weight.data, model[1].bias.data = (
        torch.tensor([[1.0, 1.0], [1.0, -1.0]]),
        torch.tensor([5.0, 5.0]),
    )
    model[3].weight.data, model[3].bias.data = (
        torch.tensor([[1.0, -1.0], [0.0, 0.0]]),
        torch.tensor([0.0, 0.0]),
    )
    images = torch.full((1, 1, 1, 2), 0.5)
    exact = linear_bounds(model, images, epsilon=0.1, forms=torch.eye(2)[:1])
    assert exact.upper.item() - exact.lower.item() == pytest.approx(0.4, abs=1e-3)
    loose = interval_bounds(model, images, epsilon=0.1, forms=torch.eye(2)[:1])
    assert loose.upper.item() - loose.lower.item() == pytest.approx(0.8, abs=1e-3)


def test_the_box_is_cut_to_the_pixel_range() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    box = interval_bounds(
        model, torch.tensor([[[[0.0, 1.0]]]]), epsilon=0.25, forms=torch.eye(2)[:1]
    )
    assert box.upper.item() == pytest.approx(1.25, abs=1e-4)
    assert box.lower.item() == pytest.approx(0.75, abs=1e-4)


@METHODS
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    epsilon=EPSILONS,
    normalise=st.booleans(),
    classes=st.sampled_from([2, 3, 10, 12]),
)
def test_the_bound_is_above_every_divergence_that_is_found(
    method: Method, seed: int, epsilon: float, normalise: bool, classes: int
) -> None:
    model = random_network(seed, classes=classes)
    images = torch.rand(4, 1, 4, 4, generator=generator(seed))
    bound = divergence_bound(
        model, images, epsilon=epsilon, method=method, normalise=normalise
    )
    attained = worst_divergence(
        model,
        images,
        epsilon=epsilon,
        steps=15,
        step_size=epsilon / 5,
        restarts=3,
        generator=generator(),
        normalise=normalise,
    )
    assert bool((bound >= attained.kl * (1 - 1e-6) - ROUNDING).all())
    clean = compute_logits(model, images).double()
    moved = (
        compute_logits(model, _sampled(images, epsilon, 40, seed).flatten(0, 1))
        .double()
        .view(40, 4, classes)
    )
    if normalise:
        clean, moved = normalise_logits(clean), normalise_logits(moved)
    assert bool((bound >= kl_divergence(clean, moved) * (1 - 1e-6) - ROUNDING).all())


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
@pytest.mark.parametrize("normalise", [True, False])
def test_trained_networks_have_a_bracket_that_tightens(
    architecture: str, normalise: bool
) -> None:
    model, images, _ = trained(architecture)
    images, last = images[:12], torch.zeros(12)
    for epsilon in (0.0, 0.002, 0.01, 0.05):
        found = worst_divergence(
            model,
            images,
            epsilon=epsilon,
            steps=20,
            step_size=epsilon / 5,
            restarts=2,
            generator=generator(),
            normalise=normalise,
        ).kl
        crown = divergence_bound(model, images, epsilon=epsilon, normalise=normalise)
        intervals = divergence_bound(
            model, images, epsilon=epsilon, method="ibp", normalise=normalise
        )
        assert bool((found <= crown).all())
        assert bool((crown <= intervals * (1 + 1e-6) + ROUNDING).all())
        assert bool((crown >= last * (1 - 1e-6) - ROUNDING).all())
        last = crown
        if epsilon == 0:
            assert float(intervals.max()) < 1e-7
        if epsilon == 0.002:
            assert float((crown / found).median()) < 6


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_constant_logits_have_no_divergence_but_a_bound(epsilon: float) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model[1].weight.data.zero_()
    model[1].bias.data.fill_(0.7)
    bound = divergence_bound(model, torch.rand(2, 1, 2, 2), epsilon=epsilon)
    assert bool(bound.isfinite().all())
    assert bool((bound >= 0).all())


def test_without_knowledge_the_bound_is_that_of_the_whole_sphere() -> None:
    """One-hot logits can reach 3.636 on the sphere; the tangent bound must be above and
    not far above.
    """
    logits = normalise_logits(torch.eye(10, dtype=torch.float64)[:1])
    everything = Ranges(
        torch.full((1, 10), -3.0).double(), torch.full((1, 10), 3.0).double()
    )
    bound = box_divergence.largest_by_tangent(logits, everything).item()
    assert 3.636 <= bound <= 4.4
    assert bound <= box_divergence.largest_at_vertices(logits, everything, None).item()


def _inside(ranges: Ranges, seed: int) -> Tensor:
    """Points (n, K) with sum 0 inside a box of one row."""
    width = ranges.upper - ranges.lower
    points = ranges.lower + width * torch.rand(
        4000, width.shape[1], generator=generator(seed), dtype=torch.float64
    )
    points = points - points.mean(dim=1, keepdim=True)
    return points[((points >= ranges.lower) & (points <= ranges.upper)).all(dim=1)]


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 2))
def test_boxes_of_logits_are_searched_without_a_miss(seed: int, size: float) -> None:
    clean = torch.randn(1, 4, generator=generator(seed), dtype=torch.float64)
    clean = clean - clean.mean()
    reach = size * torch.rand(
        2, 1, 4, generator=generator(seed + 1), dtype=torch.float64
    )
    centred = Ranges(clean - reach[0], clean + reach[1])
    points = torch.cat([_inside(centred, seed), clean])
    best = box_divergence.largest_at_vertices(clean, centred, None)
    assert bool((kl_divergence(clean, points) <= best + 1e-12).all())
    normal, moved = normalise_logits(clean), normalise_logits(points)
    box = box_divergence.normalised_ranges(centred)
    assert bool(((moved >= box.lower - 1e-9) & (moved <= box.upper + 1e-9)).all())
    for bound in (
        box_divergence.largest_at_vertices(normal, box, 4.0),
        box_divergence.largest_by_tangent(normal, box),
    ):
        assert bool((kl_divergence(normal, moved) <= bound + 1e-12).all())


def test_vertices_of_a_box_are_exact() -> None:
    clean = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    box = Ranges(clean - 0.5, clean + 0.5)
    axis = torch.linspace(-0.5, 0.5, 201, dtype=torch.float64)
    first, second = torch.meshgrid(axis, axis, indexing="ij")
    third = -first - second
    grid = clean + torch.stack([first, second, third], dim=-1)[third.abs() <= 0.5]
    best = box_divergence.largest_at_vertices(clean, box, None).item()
    assert best == pytest.approx(kl_divergence(clean, grid).max().item(), rel=1e-9)


@METHODS
def test_certified_images_cannot_be_fooled(method: Method) -> None:
    model, images, labels = trained()
    proved = [
        certified(model, images, labels, epsilon=epsilon, method=method, chunk=10)
        for epsilon in (0, 0.01, 0.02)
    ]
    assert bool(proved[0].all())
    assert not bool(
        certified(model, images, (labels + 1) % 10, epsilon=0, method=method).any()
    )
    assert bool((proved[2] <= proved[1]).all())
    attacked = pgd(
        model,
        images,
        labels,
        epsilon=0.02,
        steps=20,
        step_size=0.005,
        generator=generator(),
        restarts=2,
    )
    fooled = compute_logits(model, attacked).argmax(dim=1) != labels
    assert not bool((fooled & proved[2]).any())
    if method == "crown":
        assert bool(proved[1].any())


def test_differences_leave_out_the_class_itself() -> None:
    forms = differences(torch.tensor([2, 0]), 3)
    logits = torch.tensor([1.0, 2.0, 5.0])
    assert (forms @ logits).tolist() == [[4.0, 3.0], [-1.0, -4.0]]


def _adversarial(seed: int, dead: float, common: float, far: float) -> nn.Sequential:
    """ReLUs that are dead near most images, logits that share a bias, one far away."""
    model = random_network(seed, classes=4)
    first, last = model[0 if seed % 2 else 1], model[-1]
    first.bias.data -= dead
    last.bias.data += common
    last.bias.data[0] += far
    return model


@METHODS
@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    dead=st.sampled_from([0.0, 1.0, 3.0, 100.0]),
    common=st.sampled_from([0.0, 1e-6, 1e2, 1e4, 1e6, -1e6]),
    far=st.sampled_from([0.0, 1e-7, 30.0]),
    constant=st.booleans(),
    epsilon=EPSILONS,
)
def test_no_network_is_found_beyond_its_bounds(
    method: Method,
    seed: int,
    dead: float,
    common: float,
    far: float,
    constant: bool,
    epsilon: float,
) -> None:
    """Also where float32 takes most of what the logits differ by."""
    model = _adversarial(seed, dead, common, far)
    if constant:
        model[-1].weight.data.mul_(1e-30)
    images = torch.rand(3, 1, 4, 4, generator=generator(seed))
    points = _sampled(images, epsilon, 40, seed)
    logits = compute_logits(model, points.flatten(0, 1)).view(40, 3, 4)
    clean = compute_logits(model, images)
    proved = certified(
        model, images, clean.argmax(dim=1), epsilon=epsilon, method=method
    )
    fooled = (logits.argmax(dim=2) != clean.argmax(dim=1)).any(dim=0)
    assert not bool((fooled & proved).any())
    for normalise in (True, False):
        bound = divergence_bound(
            model, images, epsilon=epsilon, method=method, normalise=normalise
        ).double()
        attained = worst_divergence(
            model,
            images,
            epsilon=epsilon,
            steps=8,
            step_size=epsilon / 4,
            restarts=2,
            generator=generator(seed),
            normalise=normalise,
        ).kl.double()
        at, moved = clean.double(), logits.double()
        if normalise:
            at, moved = normalise_logits(at), normalise_logits(moved)
        attained = torch.maximum(attained, kl_divergence(at, moved).amax(dim=0))
        assert bool((attained <= bound * (1 + 1e-6) + ROUNDING).all())


@METHODS
def test_every_known_layer_is_bounded_as_it_computes(method: Method) -> None:
    shared = nn.ReLU()
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"), shared),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=2, bias=False),
        nn.BatchNorm2d(4),
        shared,
        nn.Dropout(0.5),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.BatchNorm1d(8),
        shared,
        nn.Identity(),
        nn.Linear(8, 3),
    )
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(16, 1, 6, 6))
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.float64, 1e-9)):
        model.to(dtype)
        images = torch.rand(2, 1, 6, 6, dtype=dtype)
        exact = compute_logits(model, images)
        forms = torch.eye(3)
        point = logit_bounds(model, images, epsilon=0, forms=forms, method=method)
        torch.testing.assert_close(point.upper, exact, atol=tolerance, rtol=0)
        torch.testing.assert_close(point.lower, exact, atol=tolerance, rtol=0)
        box = logit_bounds(model, images, epsilon=0.1, forms=forms, method=method)
        values = compute_logits(
            model, _sampled(images, 0.1, 50, 0).flatten(0, 1).to(dtype)
        ).view(50, 2, 3)
        assert bool(((box.lower <= values) & (values <= box.upper)).all())


def _hooked() -> nn.Module:
    layer = nn.Conv2d(1, 1, 1)
    layer.register_forward_hook(lambda *_: None)
    return layer


class _Halved(nn.Conv2d):
    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values) / 2


@pytest.mark.parametrize(
    "layer",
    [_hooked(), _Halved(1, 1, 1), nn.MaxPool2d(1), nn.Tanh(), nn.LayerNorm((4, 4))],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_without_a_bound_is_named(layer: nn.Module) -> None:
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(16, 2))
    images, labels = torch.rand(1, 1, 4, 4), torch.tensor([0])
    with pytest.raises(ArgumentError, match=type(layer).__name__):
        certified(model, images, labels, epsilon=0.1)
    with pytest.raises(ArgumentError, match=type(layer).__name__):
        divergence_bound(model, images, epsilon=0.1)


def test_images_outside_the_pixel_range_have_no_box() -> None:
    images, labels = torch.full((1, 1, 4, 4), 2.0), torch.tensor([0])
    with pytest.raises(ArgumentError, match=r"images must be in \[0, 1\]"):
        certified(random_network(0), images, labels, epsilon=0.1)
    with pytest.raises(ArgumentError, match="labels"):
        certified(random_network(0), images / 2, labels[:, None], epsilon=0.1)
    single = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    with pytest.raises(ArgumentError, match="the output of model"):
        divergence_bound(single, images / 2, epsilon=0.1)


def test_what_has_no_bound_is_refused() -> None:
    images = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match="Sigmoid"):
        interval_bounds(
            nn.Sequential(nn.Flatten(), nn.Sigmoid()),
            images,
            epsilon=0.1,
            forms=torch.eye(16),
        )
    with pytest.raises(ValueError, match="epsilon"):
        divergence_bound(random_network(0), images, epsilon=-0.1)
    with pytest.raises(ValueError, match="method"):
        divergence_bound(random_network(0), images, epsilon=0.1, method="guess")  # type: ignore[arg-type]


def test_bounds_leave_the_model_as_it_was() -> None:
    model = random_network(1).train()
    divergence_bound(model, torch.rand(2, 1, 4, 4), epsilon=0.1)
    assert model.training
    assert all(
        parameter.grad is None and parameter.requires_grad
        for parameter in model.parameters()
    )
