"""Oracles over posterior samples: attack <= exact <= certificate, corners by brute
force, no call in vain.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weights import stack
from robustbook.checks import ArgumentError
from robustbook.measure import sequential
from robustbook.measure.branch_and_bound import Shallow, exact, maximum
from robustbook.measure.certificate import certify
from robustbook.measure.region_attack import attack, fgsm, pgd
from robustbook.measure.verification import Region, answer, ball, pixel_box, verify

SIDE = 6
IMAGES = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
PIXELS = ((2, 1), (2, 2), (3, 4))


def mlp(seed, outputs=3, hidden=12, scale=2.0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE**2, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    return network


def deep(seed, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 8),
        nn.ReLU(),
        nn.Linear(8, outputs),
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_points(region: Region, count: int):
    share = torch.rand((count, *region.images.shape), generator=generator(5))
    share[: count // 2] = share[: count // 2].round()  # corners matter most
    return region.low + share * (region.high - region.low)


@pytest.mark.parametrize("method", ["interval", "linear"])
@pytest.mark.parametrize("build", [mlp, deep])
@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_no_point_of_the_box_is_farther_than_the_certificate(
    method, build, outputs, epsilon
):
    samples = stack([build(seed, outputs) for seed in range(4)])
    region = ball(IMAGES, epsilon)
    bound = certify(samples, region, method=method)
    at = answer(samples.logits(IMAGES))
    for points in random_points(region, 60):
        reach = at.reach(samples.logits(points))
        assert (reach.distance <= bound.distance + 1e-5).all()
        assert (reach.margin <= bound.margin + 1e-4).all()
    reached = pgd(samples, region, steps=10, generator=generator())
    assert (reached.distance <= bound.distance + 1e-5).all()
    assert (reached.margin <= bound.margin + 1e-4).all()


def test_linear_bounds_are_tighter_and_all_bounds_meet_at_radius_zero():
    samples = stack([mlp(seed) for seed in range(4)])
    wide, narrow = (
        certify(samples, ball(IMAGES, 0.1), method=method)
        for method in ("interval", "linear")
    )
    assert (narrow.margin <= wide.margin + 1e-5).all()
    assert float((wide.margin - narrow.margin).max()) > 0.01
    point = certify(samples, ball(IMAGES, 0.0))
    torch.testing.assert_close(point.distance, torch.zeros(4, 3), atol=1e-3, rtol=0)
    assert not point.flips.any()


def test_certificate_of_a_linear_network_is_exact():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 2))
    region = ball(IMAGES.clamp(0.3, 0.7), 0.1)
    bound = certify(stack([network]), region, method="interval")
    weight = (network[1].weight[1] - network[1].weight[0]).detach()
    logits = network(region.images).detach()
    expected = -(logits[:, 1] - logits[:, 0]).abs() + 0.1 * weight.abs().sum()
    torch.testing.assert_close(bound.margin[0], expected, atol=1e-3, rtol=1e-3)
    reached = fgsm(stack([network]), region)
    torch.testing.assert_close(reached.margin[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_attack_exact_certificate_are_in_order_and_exact_is_tight(outputs, epsilon):
    samples = stack([mlp(seed, outputs) for seed in range(6)])
    region = pixel_box(IMAGES, epsilon, PIXELS)
    found = exact(samples, region, tolerance=1e-4)
    bound = certify(samples, region)
    for reached in (
        fgsm(samples, region),
        pgd(samples, region, steps=20, generator=generator(), restarts=2),
    ):
        assert (reached.distance <= found.high.distance + 1e-5).all()
        assert (reached.margin <= found.high.margin + 1e-4).all()
    assert (found.low.distance <= found.high.distance).all()
    assert (found.high.margin - found.low.margin).max() <= 1e-4 + 1e-9
    assert (found.high.distance <= bound.distance + 1e-4).all()
    assert (found.high.margin <= bound.margin + 1e-3).all()


def test_exact_reach_is_that_of_a_dense_grid():
    samples = stack([mlp(seed, 1) for seed in range(4)])
    region = pixel_box(IMAGES[:1], 0.4, PIXELS[:2])
    found = exact(samples, region, tolerance=1e-5)
    axis = torch.linspace(0, 1, 201)
    share = torch.cartesian_prod(axis, axis)
    points = region.images.repeat(len(share), 1, 1, 1)
    for column, (row, col) in enumerate(PIXELS[:2]):
        low, high = region.low[0, 0, row, col], region.high[0, 0, row, col]
        points[:, 0, row, col] = low + share[:, column] * (high - low)
    logits = samples.logits(points)
    at = answer(samples.logits(region.images))
    change = (torch.sigmoid(logits[..., 0]) - at.probabilities[..., 1]).abs().amax(1)
    assert (change <= found.high.distance[:, 0] + 1e-6).all()
    torch.testing.assert_close(
        found.low.distance[:, 0].float(), change, atol=2e-3, rtol=0
    )


def random_function(seed, functions, inputs, units, outer_sign=None):
    draw = generator(seed)
    parts = [
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in (
            (functions, units, inputs),
            (functions, units),
            (functions, units),
            (functions, inputs),
            (functions,),
        )
    ]
    if outer_sign is not None:
        parts[2] = parts[2].abs() * outer_sign
    return Shallow(*parts)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 6))
@settings(max_examples=25)
def test_branch_and_bound_finds_the_corner_of_a_convex_function(seed, inputs, units):
    function = random_function(seed, 2, inputs, units, outer_sign=1)
    found = maximum(function, 1e-6)
    corners = torch.tensor(
        list(itertools.product((-1.0, 1.0), repeat=inputs)), dtype=torch.float64
    )
    values = torch.stack([function(corner.expand(2, -1)) for corner in corners]).amax(0)
    torch.testing.assert_close(found.low, values, atol=1e-6, rtol=0)
    assert (found.high - found.low <= 1e-6 + 1e-12).all()


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_branch_and_bound_brackets_every_value_of_any_function(seed):
    function = random_function(seed, 3, 3, 6)
    found = maximum(function, 1e-4)
    points = torch.rand(4000, 3, generator=generator(seed), dtype=torch.float64) * 2 - 1
    values = torch.stack(
        [function(point.expand(3, -1)) for point in points[:400]]
    ).amax(0)
    assert (values <= found.high + 1e-9).all()
    assert (found.low <= found.high).all()
    assert (found.high - found.low <= 1e-4 + 1e-12).all()


def test_a_search_that_is_cut_short_still_brackets():
    function = random_function(1, 4, 4, 12)
    full, short = maximum(function, 1e-6), maximum(function, 1e-6, limit=1)
    assert (short.low <= full.low + 1e-9).all()
    assert (short.high >= full.high - 1e-9).all()
    assert float((short.high - short.low).max()) > 1e-6


def test_reach_grows_with_the_budget():
    samples = stack([mlp(seed, 1) for seed in range(5)])
    reaches = [
        exact(samples, pixel_box(IMAGES, epsilon, PIXELS)).high.distance
        for epsilon in (0.1, 0.2, 0.4)
    ]
    assert (reaches[0] <= reaches[1] + 1e-3).all()
    assert (reaches[1] <= reaches[2] + 1e-3).all()


def test_fgsm_moves_every_pixel_by_epsilon_along_the_gradient_of_the_cross_entropy():
    network = mlp(0)
    images = IMAGES.clamp(0.2, 0.8)
    inputs = images.clone().requires_grad_()
    logits = network(inputs)
    loss = nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs)
    after = network(images + 0.1 * gradient.sign())
    expected = (torch.softmax(after, 1) - torch.softmax(logits, 1)).norm(dim=1)
    reached = fgsm(stack([network]), ball(images, 0.1))
    torch.testing.assert_close(
        reached.distance[0], expected.detach(), atol=1e-5, rtol=1e-4
    )


def test_attack_does_not_depend_on_the_chunk():
    samples = stack([mlp(seed) for seed in range(7)])
    one, all_together = (
        attack(samples, ball(IMAGES, 0.1), steps=5, step_size=0.05, chunk=c)
        for c in (1, 7)
    )
    torch.testing.assert_close(
        one.distance, all_together.distance, atol=1e-5, rtol=1e-4
    )


def test_verify_asks_only_what_the_rules_need_and_agrees_with_replaying_them():
    networks = [mlp(seed, 1) for seed in range(12)]
    posterior, region = Empirical(stack(networks)), pixel_box(IMAGES, 0.5, PIXELS)
    rule = sequential.betting(0.1, 0.1)
    asked = torch.zeros(3, dtype=torch.long)

    def oracle(samples, part):
        rows = torch.tensor(
            [
                int((IMAGES - image).abs().flatten(1).sum(1).argmin())
                for image in part.images
            ]
        )
        asked[rows] += len(samples)
        return exact(samples, part).low.moves(0.2)

    found = verify(posterior, region, oracle, rule, generator())
    assert [estimate.count for estimate in found.estimates] == asked.tolist()
    assert found.calls == int(asked.sum())
    stream = exact(posterior.draw(rule.horizon, generator()), region).low.moves(0.2)
    first = posterior.draw(int(rule.waits[0, 0]), generator())
    assert found.samples == max(estimate.count for estimate in found.estimates)
    assert len(first) <= min(estimate.count for estimate in found.estimates)
    share = stream.float().mean(0)
    for estimate, reference in zip(found.estimates, share.tolist(), strict=True):
        assert abs(estimate.value - reference) < 0.25


def test_bad_input_is_refused():
    with pytest.raises(ArgumentError, match=r"images must be in \[0, 1\]"):
        ball(IMAGES + 1, 0.1)
    with pytest.raises(ArgumentError, match="images must be finite"):
        ball(IMAGES * torch.nan, 0.1)
    with pytest.raises(ArgumentError, match=r"epsilon must be .* at least 0"):
        ball(IMAGES, -0.1)
    with pytest.raises(ArgumentError, match=r"in an image of 6 x 6, got \(9, 0\)"):
        pixel_box(IMAGES, 0.1, [(9, 0)])
    with pytest.raises(ArgumentError, match="exact search, got Conv2d"):
        exact(stack([deep(0, 1)]), ball(IMAGES, 0.1))
    with pytest.raises(ArgumentError, match=r"tolerance must be .* above 0"):
        exact(stack([mlp(0, 1)]), ball(IMAGES, 0.1), tolerance=0)
    with pytest.raises(ArgumentError, match="got a Sigmoid layer"):
        certify(
            stack([nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 2), nn.Sigmoid())]),
            ball(IMAGES, 0.1),
        )
    assert np.isfinite(float(ball(IMAGES, 0.1).high.max()))
