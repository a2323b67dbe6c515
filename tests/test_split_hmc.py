"""Split HMC: exact circles without data, energy with them, calibration by simulation,
and samplers that are wrong are caught.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from robustbook.bayes import calibration, hmc, split_hmc
from robustbook.bayes.hmc import evaluate
from robustbook.checks import ArgumentError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(dtype=torch.float32):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    images = torch.randn(12, 1, 1, 3, generator=generator(1))
    labels = (images.sum((1, 2, 3)) > 0).long()
    return split_hmc.ScaledNetwork(network.to(dtype), images.to(dtype), labels)


def nothing(positions):
    return 0 * positions.sum(1)


def test_without_data_a_trajectory_is_a_circle_whatever_the_step():
    start = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    momentum = torch.tensor([[0.5, 0.3]], dtype=torch.float64)
    end, last = split_hmc.flow(nothing, evaluate(nothing, start), momentum, 0.9, 3)
    turned = math.cos(2.7) * start + math.sin(2.7) * momentum
    torch.testing.assert_close(end.position, turned)
    torch.testing.assert_close(last, math.cos(2.7) * momentum - math.sin(2.7) * start)


def test_a_trajectory_can_be_run_backwards_and_keeps_its_energy():
    network = tiny(torch.float64)
    start = evaluate(network.misfit, network.prior(3, generator()).double())
    momentum = torch.randn(start.position.shape, generator=generator(2)).double()

    def energy(point, speed):
        return split_hmc._energy(point, speed)

    for size, worst in ((0.1, 1.0), (0.01, 0.05)):
        end, last = split_hmc.flow(network.misfit, start, momentum, size, 10)
        assert (energy(end, last) - energy(start, momentum)).abs().max() < worst
        back, _ = split_hmc.flow(network.misfit, end, -last, size, 10)
        torch.testing.assert_close(back.position, start.position)


def test_the_prior_is_scaled_by_fan_in():
    network = split_hmc.ScaledNetwork(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
        torch.rand(4, 2, 4, 4),
        torch.tensor([0, 1, 0, 1]),
        gain=1.5,
        bias_sd=0.3,
    )
    weights = network.weights(network.prior(3000, generator())).weights
    for name, expected in (
        ("0.weight", 1.5 / math.sqrt(18)),
        ("3.weight", 1.5 / math.sqrt(12)),
        ("3.bias", 0.3),
    ):
        assert float(weights[name].std()) == pytest.approx(expected, rel=0.05)


def test_it_samples_what_hmc_samples():
    network = tiny()
    settings = {"draws": 100, "warmup": 40, "steps": 5, "step_size": 0.3}
    start = network.prior(16, generator())
    split = split_hmc.sample(network.misfit, start, generator=generator(), **settings)

    def potential(at):
        return network.misfit(at) + at.square().sum(1) / 2

    plain = hmc.sample(potential, start, generator=generator(), **settings)
    with torch.no_grad():
        means = [
            network.weights(each.draws.flatten(0, 1)).logits(network.images).mean(0)
            for each in (split, plain)
        ]
    torch.testing.assert_close(*means, atol=0.2, rtol=0)
    assert hmc.diagnose(split.potential[..., None]).worst_r_hat < 1.1


def halved(likelihood):
    """A sampler, and one that believes `likelihood` of the data."""

    def sampler(misfit, start, generator):
        return split_hmc.sample(
            lambda at: likelihood * misfit(at),
            start,
            draws=19,
            warmup=40,
            steps=6,
            step_size=0.4,
            generator=generator,
            thin=4,
        ).draws

    return sampler


def test_ranks_are_uniform_only_if_the_sampler_is_right():
    chances = [
        calibration.uniformity(
            calibration.ranks(
                tiny(), halved(share), replicates=200, generator=generator()
            )
        )
        for share in (1.0, 0.4)
    ]
    assert min(chances[0].values()) > 0.01
    assert chances[1]["log likelihood"] < 1e-6


def test_uniformity_is_the_chi_squared_test():
    values = np.random.default_rng(0).integers(0, 20, (300, 1))
    found = calibration.Ranks(values, 19, ("rank",))
    counts = np.bincount(values[:, 0] // 2, minlength=10)
    assert calibration.uniformity(found)["rank"] == pytest.approx(
        chisquare(counts).pvalue
    )
    with pytest.raises(ArgumentError, match="bins must be at most 3"):
        calibration.uniformity(calibration.Ranks(values[:15], 19, ("rank",)))
