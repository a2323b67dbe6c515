"""The strong attack on a posterior, the attack that matches the alarm, and all changes
of one pixel.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from robustbook.bayes.mean_field import MeanField
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weights import stack
from robustbook.checks import ArgumentError
from robustbook.measure.uncertainty import mutual_information
from robustbook.perturb.averaged import alarm_matching, averaged_apgd, lead
from robustbook.perturb.gradient import margin
from robustbook.perturb.one_pixel import one_pixel

IMAGES = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(3, 9, generator=torch.Generator().manual_seed(1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(weight=WEIGHT):
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 3, bias=False))
    network[1].weight.data = weight.clone()
    return network


def blurred(scale=1.0):
    network = linear()
    return MeanField(
        network, {"1.weight": WEIGHT}, {"1.weight": torch.full_like(WEIGHT, scale)}
    )


def attack(posterior, labels, **given):
    settings = {"epsilon": 0.1, "samples": 20, "steps": 20, "restarts": 2} | given
    return averaged_apgd(posterior, IMAGES, labels, generator=generator(), **settings)


def test_a_single_linear_network_ends_where_the_margin_is_largest():
    """Of a linear network the worst point of the ball is known: for one rival class
    each pixel goes all the way along the sign of the difference of weights.
    """
    network = linear()
    labels = network(IMAGES).argmax(1)
    found = attack(Empirical(stack([network])), labels)
    worst = torch.full((len(IMAGES),), -torch.inf)
    for rival in range(3):
        push = WEIGHT[rival] - WEIGHT[labels]
        ends = IMAGES.flatten(1) + 0.1 * push.sign()
        gap = (ends.clamp(0, 1) * push).sum(1)
        worst = torch.where(labels == rival, worst, torch.maximum(worst, gap))
    assert torch.allclose(margin(network(found), labels), worst, atol=1e-3)
    assert float((found - IMAGES).abs().max()) <= 0.1 + 1e-6


def test_of_several_starts_the_worst_end_is_kept():
    network = linear()
    labels = network(IMAGES).argmax(1)
    posterior = Empirical(stack([network]))
    found = attack(posterior, labels, steps=1, restarts=0, starts=[IMAGES] * 2)
    one = attack(posterior, labels, steps=1, restarts=0, starts=[IMAGES])
    gap = [margin(network(points), labels) for points in (found, one)]
    assert bool((gap[0] >= gap[1] - 1e-6).all())
    with pytest.raises(ArgumentError, match="restarts"):
        attack(posterior, labels, restarts=0)


def test_the_averaged_attack_lowers_the_mean_prediction():
    posterior = blurred()
    labels = linear()(IMAGES).argmax(1)

    def gap(points):
        return lead(posterior, points, labels, count=400, generator=generator(3))

    assert bool((gap(attack(posterior, labels)) > gap(IMAGES)).all())


def test_the_alarm_is_matched_and_the_answer_stays_wrong():
    posterior = blurred(0.6)
    labels = linear()(IMAGES).argmax(1)
    judges = posterior.draw(500, generator(4))
    wide = {"epsilon": 0.4, "samples": 20, "generator": generator()}
    starts = averaged_apgd(posterior, IMAGES, labels, **wide)
    clean = mutual_information(sampled_probabilities(judges, IMAGES))
    aims = torch.full_like(clean, float(clean.median()) / 3)
    found = alarm_matching(posterior, IMAGES, labels, alarm=aims, starts=starts, **wide)
    before, after = (
        mutual_information(sampled_probabilities(judges, points))
        for points in (starts, found)
    )
    wrong = lead(posterior, starts, labels, count=500, generator=generator(5)) > 0.3
    assert bool(wrong.any())
    far = [(value.log() - aims.log()).abs()[wrong].mean() for value in (before, after)]
    assert far[1] < far[0]
    still = lead(posterior, found, labels, count=500, generator=generator(5))
    assert bool((still[wrong] > -0.1).all())


def test_the_worst_pixel_is_the_worst_of_all():
    network = linear()
    labels = network(IMAGES).argmax(1)
    found = one_pixel(network, IMAGES, labels, chunk=5)
    for image, label, end in zip(IMAGES, labels, found, strict=True):
        gaps = []
        for place, value in itertools.product(range(9), (0.0, 1.0)):
            tried = image.flatten().clone()
            tried[place] = value
            gaps.append(margin(network(tried.view(1, 1, 3, 3)), label[None]).item())
        assert margin(network(end[None]), label[None]).item() == pytest.approx(
            max(gaps), abs=1e-5
        )
        assert int((end != image).sum()) == 1


def test_a_colour_pixel_goes_to_a_corner_of_the_cube():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.rand(1, 3, 2, 2, generator=generator())
    end = one_pixel(network, images, torch.tensor([0]))
    moved = (end != images).any(1)[0]
    assert int(moved.sum()) == 1
    assert set(end[0, :, moved].flatten().tolist()) <= {0.0, 1.0}
