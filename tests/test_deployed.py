"""The mean prediction's bracket and weight-space boxes: sound against points and
samples, tight where the answer is known.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import nn

from robustbook.bayes.mean_field import MeanField
from robustbook.bayes.protocol import probabilities
from robustbook.bayes.weights import stack
from robustbook.checks import ArgumentError
from robustbook.measure import weight_boxes
from robustbook.measure.branch_and_bound import exact
from robustbook.measure.certificate import certify
from robustbook.measure.mean_prediction import mean_reach
from robustbook.measure.verification import ball, pixel_box
from robustbook.measure.weight_boxes import safe_probability, union_bound


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def perceptron(seed, outputs, hidden=5):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(9, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def images(count=4):
    return torch.rand(count, 1, 3, 3, generator=generator(3))


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_the_mean_lies_in_its_bracket_at_every_point(outputs, epsilon):
    samples = stack([perceptron(seed, outputs) for seed in range(6)])
    region = ball(images(), epsilon)
    found = mean_reach(
        samples,
        region,
        certify(samples, region),
        steps=8,
        generator=generator(),
        restarts=1,
    )
    at = probabilities(samples.logits(region.images)).mean(0)
    own = at.argmax(-1, keepdim=True)
    best = torch.full((4,), -torch.inf)
    for seed in range(200):
        share = torch.rand(region.images.shape, generator=generator(seed))
        points = region.low + share.round() * (region.high - region.low)
        here = probabilities(samples.logits(points)).mean(0)
        ahead = here.scatter(-1, own, -1).amax(-1) - here.gather(-1, own).squeeze(-1)
        best = torch.maximum(best, ahead)
    assert (best <= found.high.margin[0] + 1e-5).all()
    assert (found.low.margin <= found.high.margin + 1e-5).all()
    assert (found.low.distance <= found.high.distance + 1e-5).all()
    assert (found.low.margin[0] >= best - 0.05).all()


def test_one_sample_is_its_own_mean():
    samples = stack([perceptron(0, 1)])
    region = pixel_box(images(), 0.3, [(0, 0), (1, 1)])
    sure = exact(samples, region, tolerance=1e-6)
    found = mean_reach(samples, region, sure.high, steps=30, generator=generator())
    assert torch.equal(found.high.flips, sure.high.flips)
    torch.testing.assert_close(
        found.low.distance.double(), sure.low.distance, atol=1e-3, rtol=0
    )


def gaussian(scale, hidden=2, outputs=1):
    network = perceptron(1, outputs, hidden)
    means = {name: p.detach() * 4 for name, p in network.named_parameters()}
    scales = {name: torch.full_like(m, scale) for name, m in means.items()}
    return MeanField(network, means, scales)


@pytest.mark.parametrize("outputs", [1, 3])
def test_boxes_prove_no_more_than_samples_show(outputs):
    posterior = gaussian(0.05, outputs=outputs)
    region = pixel_box(images(6), 0.2, [(0, 1), (2, 2)])
    found = safe_probability(posterior, region, boxes=8, generator=generator())
    samples = posterior.draw(4000, generator(1))
    robust = 1 - certify(samples, region, method="linear").flips.double().mean(0)
    attacked = 1 - torch.stack(
        [
            samples.logits(point).squeeze(-1).sign()
            != samples.logits(region.images).squeeze(-1).sign()
            if outputs == 1
            else samples.logits(point).argmax(-1)
            != samples.logits(region.images).argmax(-1)
            for point in (region.low, region.high)
        ]
    ).any(0).double().mean(0)
    proved = torch.tensor([each.probability for each in found])
    assert (proved <= attacked + 0.03).all()
    assert proved.max() > 0.1
    assert (proved - robust).max() < 0.03


def test_every_network_of_a_box_keeps_the_decision():
    posterior = gaussian(0.1)
    region = pixel_box(images(1), 0.2, [(0, 1), (2, 2)])
    layers = weight_boxes.layers_of(posterior, region)
    assert layers.variables == 2 * (2 + 1) + 2 + 1
    (found,) = safe_probability(posterior, region, boxes=1, generator=generator())
    assert found.width > 0
    corners = 2 * torch.randint(0, 2, (500, layers.variables)) - 1
    sign = 1 if found.decision == 1 else -1
    for corner in corners:
        offset, values = corner * found.width, []
        for mean, scale in zip(layers.means, layers.scales, strict=True):
            for m, s in zip(mean, scale, strict=True):
                values.append(m + s * offset[: m.numel()].view(m.shape))
                offset = offset[m.numel() :]
        w, b, v, c = values
        for point in (layers.low, layers.high):
            assert sign * float(v @ (w @ point + b).relu() + c) > 0


def test_the_probability_of_boxes_is_that_of_independent_normals():
    def chance(low, high):
        return norm.cdf(high) - norm.cdf(low)

    zero, one = torch.zeros(2).double(), torch.ones(2).double()
    alone = chance(-2, 2) ** 2
    assert union_bound([(zero, 2.0)]) == (pytest.approx(alone), 1)
    assert union_bound([(zero, 2.0)] * 2) == (pytest.approx(alone), 1)
    both = alone + chance(-0.5, 2.5) ** 2 - chance(-0.5, 2) ** 2
    assert union_bound([(zero, 2.0), (one, 1.5)]) == (pytest.approx(both), 2)
    far = torch.full((1,), 9.0).double()
    assert union_bound([(far, 1.0)])[0] == pytest.approx(
        norm.sf(8) - norm.sf(10), rel=1e-9
    )
    assert math.isclose(union_bound([])[0], 0.0)


def test_a_network_without_weight_boxes_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 2), nn.Tanh(), nn.Linear(2, 1))
    parts = dict(network.named_parameters())
    posterior = MeanField(
        network,
        {name: part.detach() for name, part in parts.items()},
        {name: torch.ones_like(part) for name, part in parts.items()},
    )
    with pytest.raises(ArgumentError, match="Tanh"):
        safe_probability(posterior, ball(images(), 0.1), boxes=1, generator=generator())
