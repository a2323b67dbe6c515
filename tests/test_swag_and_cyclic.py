"""SWAG and cyclic stochastic-gradient MCMC give back Gaussians that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from robustbook.bayes.cyclic import fit_cyclic, sample, step_sizes
from robustbook.bayes.swag import Swag, as_weights, fit_swag, gaussian_of
from robustbook.checks import ArgumentError

MEAN = torch.tensor([1.0, -2.0])
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]])
IMAGES = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.mean((1, 2, 3)) > 0.5).long()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def line():
    """Two weights: one input, two outputs."""
    return nn.Linear(1, 2, bias=False)


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))


def test_swag_of_gaussian_points_is_that_gaussian():
    """Half the diagonal and half the covariance of the points: the variances are
    right, and the covariances are halved (equation 1 of Maddox et al.).
    """
    spread = torch.linalg.cholesky(COVARIANCE)
    points = MEAN + torch.randn(2000, 2, generator=generator()) @ spread.T
    drawn = gaussian_of(line(), points, rank=2000).vectors(10_000, generator(1))
    expected = (COVARIANCE + torch.diag(COVARIANCE.diag())) / 2
    assert torch.allclose(drawn.mean(0), MEAN, atol=0.04)
    assert torch.allclose(drawn.T.cov(), expected, atol=0.04)


def test_swag_sees_the_spread_of_a_noisy_descent():
    """w - a (w - m + noise) has the variance a s^2 / (2 - a), here that of the known
    posterior.
    """
    rate, variance = 0.2, 0.5
    noise = math.sqrt(variance * (2 - rate) / rate)
    point, points = torch.zeros(2), []
    source = generator(2)
    for _ in range(10_000):
        shake = noise * torch.randn(2, generator=source)
        point = point - rate * (point - MEAN + shake)
        points.append(point)
    found = gaussian_of(line(), torch.stack(points[100:]), rank=50)
    drawn = found.vectors(20_000, generator(3))
    assert torch.allclose(found.mean, MEAN, atol=0.1)
    assert torch.allclose(drawn.var(0), torch.full((2,), variance), rtol=0.25)


def test_a_chain_of_cycles_samples_a_known_gaussian():
    """Three hundred pairs of weights beside each other, with noisy gradients: where the
    cycles end they have its mean and its covariance.
    """
    precision, source = torch.linalg.inv(COVARIANCE), generator(4)

    def gradient(point):
        away = point.view(-1, 2) - MEAN
        slope = (away @ precision).flatten()
        return slope + torch.randn(600, generator=source)

    points = sample(
        gradient,
        torch.zeros(600),
        steps=1600,
        cycles=8,
        step_size=0.1,
        keep=1,
        explore=0.25,
        generator=generator(5),
    ).reshape(-1, 2)
    assert len(points) == 8 * 300
    assert torch.allclose(points.mean(0), MEAN, atol=0.06)
    assert torch.allclose(points.T.cov(), COVARIANCE, atol=0.06)


def test_without_temperature_a_chain_descends():
    points = sample(
        lambda point: point - MEAN,
        torch.zeros(2),
        steps=400,
        cycles=2,
        step_size=0.2,
        keep=1,
        generator=generator(),
        temperature=0.0,
    )
    assert torch.allclose(points, MEAN.expand(2, 2), atol=1e-3)


def test_every_cycle_falls_from_the_first_step():
    sizes = step_sizes(10, 2, 0.4)
    assert sizes[0] == sizes[5] == 0.4
    assert sizes[:5] == sorted(sizes[:5], reverse=True)
    with pytest.raises(ArgumentError, match="cycles"):
        step_sizes(2, 3, 0.1)
    with pytest.raises(ArgumentError, match="keep"):
        sample(
            lambda point: point,
            torch.zeros(1),
            steps=10,
            cycles=2,
            step_size=0.1,
            keep=5,
            generator=generator(),
        )


def test_networks_are_left_as_they_were_and_samples_differ():
    network = classifier()
    before = parameters_to_vector(network.parameters()).clone()
    swag = fit_swag(network, IMAGES, LABELS, epochs=2, seed=0, rank=4, batch=20)
    chain = fit_cyclic(
        network,
        IMAGES,
        LABELS,
        prior_sd=1.0,
        epochs=20,
        cycles=2,
        keep=2,
        seed=0,
        batch=20,
    )
    assert torch.equal(parameters_to_vector(network.parameters()), before)
    assert len(chain.samples) == 4
    assert len(swag.draw(3, generator())) == 3
    for samples in (chain.samples, swag.draw(3, generator())):
        logits = samples.logits(IMAGES[:5])
        assert not torch.equal(logits[0], logits[1])


def test_vectors_are_weights_in_the_order_of_the_parameters():
    network = classifier()
    vector = parameters_to_vector(network.parameters())
    samples = as_weights(network, torch.stack([vector, 2 * vector]))
    assert torch.allclose(samples.logits(IMAGES)[0], network(IMAGES), atol=1e-6)
    with pytest.raises(ArgumentError, match="vectors"):
        as_weights(network, torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="variance"):
        Swag(line(), torch.zeros(2), torch.tensor([1.0, -1.0]), torch.zeros(2, 2))
