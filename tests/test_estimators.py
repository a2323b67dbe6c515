"""Bayes by Backprop, local reparameterisation and Flipout estimate one gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustbook.bayes.estimators import ESTIMATORS, noisy_logits_by, train_by
from robustbook.bayes.mean_field import divergence
from robustbook.checks import ArgumentError

IMAGES = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES[:, 0, 0, 0] > 0.5).long()
MEANS = {"1.weight": torch.full((2, 16), 0.1), "1.bias": torch.zeros(2)}
SCALES = {"1.weight": torch.full((2, 16), 0.2)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_image_meets_the_same_gaussian(estimator):
    """Mean and variance of a linear layer's outputs in closed form."""
    source = generator()
    drawn = torch.stack(
        [
            noisy_logits_by(estimator, linear(), MEANS, SCALES, IMAGES[:3], source)
            for _ in range(1500)
        ]
    )
    flat = IMAGES[:3].flatten(1)
    mean, variance = flat.sum(1) * 0.1, flat.square().sum(1) * 0.04
    for output in range(2):
        assert torch.allclose(drawn[..., output].mean(0), mean, atol=0.05)
        assert torch.allclose(drawn[..., output].var(0), variance, rtol=0.17)


def test_images_share_their_noise_as_the_estimator_says():
    """Two equal images: one draw gives equal logits, signs or draws of their own do
    not; Flipout's noise differs in sign at least.
    """
    pair = IMAGES[:1].expand(2, -1, -1, -1)
    for estimator, same in zip(ESTIMATORS, (True, False, False), strict=True):
        logits = noisy_logits_by(estimator, linear(), MEANS, SCALES, pair, generator(1))
        assert torch.equal(logits[0], logits[1]) == same


def test_flipout_without_signs_is_a_draw_of_the_weights():
    """On a convolution: the mean layer plus the noise times a sign an output."""
    network = convolutional()
    means = {name: tensor.detach() for name, tensor in network.named_parameters()}
    nothing = {name: torch.zeros_like(tensor) for name, tensor in means.items()}
    logits = noisy_logits_by("Flipout", network, means, nothing, IMAGES, generator())
    assert torch.allclose(logits, network(IMAGES), atol=1e-6)


def test_all_three_end_at_one_optimum():
    """Two features whose posterior the data narrow: divergence and means agree."""
    found = {}
    for estimator in ESTIMATORS:
        settings = {"prior_sd": 1.0, "epochs": 120, "seed": 0, "batch": 20}
        posterior = train_by(
            estimator,
            linear(),
            IMAGES,
            LABELS,
            learning_rate=0.02,
            scale_learning_rate=0.05,
            temperature=0.1,
            **settings,
        )
        price = sum(
            divergence(posterior.means[name], posterior.scales[name], 1.0)
            for name in posterior.means
        )
        fit = nn.functional.cross_entropy(
            noisy_logits_by(
                ESTIMATORS[1],
                linear(),
                posterior.means,
                posterior.scales,
                IMAGES.repeat(50, 1, 1, 1),
                generator(3),
            ),
            LABELS.repeat(50),
        )
        found[estimator] = float(fit + 0.1 * price / len(IMAGES))
    assert max(found.values()) < min(found.values()) + 0.02
    assert max(found.values()) < 0.5


def test_what_is_not_stochastic_stays_a_point():
    found = train_by(
        "Flipout",
        convolutional(),
        IMAGES,
        LABELS,
        prior_sd=0.5,
        epochs=1,
        seed=0,
        stochastic=["3"],
    )
    assert set(found.scales) == {"3.weight", "3.bias"}
    with pytest.raises(ArgumentError, match="stochastic"):
        train_by(
            "Flipout",
            convolutional(),
            IMAGES,
            LABELS,
            prior_sd=0.5,
            epochs=1,
            seed=0,
            stochastic=["7"],
        )
    with pytest.raises(ArgumentError, match="estimator"):
        noisy_logits_by("none", linear(), MEANS, SCALES, IMAGES, generator())
