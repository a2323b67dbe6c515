"""Weight samples and the posteriors that draw them: batched runs, closed-form
divergence, dropout, joint draws.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustbook.bayes.ensemble import train_ensemble
from robustbook.bayes.mc_dropout import Dropout, train_dropout
from robustbook.bayes.mean_field import (
    MeanField,
    diagnose,
    divergence,
    noisy_logits,
    train_mean_field,
)
from robustbook.bayes.prediction import (
    log_predictive,
    predictive_accuracy,
    predictive_mean,
)
from robustbook.bayes.protocol import (
    Empirical,
    decisions,
    log_likelihood,
    probabilities,
)
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.checks import ArgumentError
from robustbook.models.training import Recipe, TrainingDiverged

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES[:, 0, :4].mean((1, 2)) > IMAGES[:, 0, 4:].mean((1, 2))).long()


def mlp(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, outputs)
    )


def convolutional(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.ReLU(),
        nn.Linear(6, 2),
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("build", [mlp, convolutional])
@pytest.mark.parametrize("own", [False, True])
def test_batched_logits_and_gradients_are_those_of_the_single_networks(build, own):
    networks = [build(seed) for seed in range(3)]
    samples = stack(networks)
    points = torch.rand(3, 5, 1, 8, 8) if own else IMAGES[:5]
    upstream = torch.randn(3, 5, networks[0][-1].out_features, generator=generator())
    found = samples.evaluate(points, upstream, lambda at, up: (at * up).sum(-1))
    for index, network in enumerate(networks):
        inputs = (points[index] if own else points).clone().requires_grad_()
        logits = network(inputs)
        torch.testing.assert_close(found.logits[index], logits, atol=1e-5, rtol=1e-5)
        (expected,) = torch.autograd.grad((logits * upstream[index]).sum(), inputs)
        torch.testing.assert_close(
            found.gradient[index], expected, atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            samples.network(index)(IMAGES[:5]), network(IMAGES[:5])
        )


def test_dropout_samples_are_networks_with_dropped_inputs():
    network = mlp()
    samples = Dropout(network, {"3": 0.5}).draw(400, generator())
    hidden = network[2](network[1](IMAGES[:4].flatten(1)))
    ratio = samples.weights["3.weight"] / network[3].weight.detach()
    assert set(ratio.unique().tolist()) == {0.0, 2.0}
    assert (ratio == ratio[:, :1]).all(), "all outputs must lose the same inputs"
    kept = ratio[7, 0]
    expected = (hidden * kept) @ network[3].weight.T + network[3].bias
    torch.testing.assert_close(
        samples.logits(IMAGES[:4])[7], expected, atol=1e-5, rtol=1e-5
    )
    assert float((ratio > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(
        samples.logits(IMAGES[:4]).mean(0), network(IMAGES[:4]), atol=0.1, rtol=0
    )


@pytest.mark.parametrize(
    "draw", [Dropout(mlp(), {}), MeanField(mlp(), dict(mlp().named_parameters()), {})]
)
def test_a_posterior_without_spread_is_the_network_exactly(draw):
    logits = draw.draw(5, generator()).logits(IMAGES)
    for sample in logits:
        torch.testing.assert_close(sample, mlp()(IMAGES), rtol=0, atol=1e-6)


def test_divergence_agrees_with_torch_and_monte_carlo():
    mean, scale = (
        torch.randn(30, generator=generator()),
        torch.rand(30, generator=generator(1)) + 0.1,
    )
    q, p = torch.distributions.Normal(mean, scale), torch.distributions.Normal(0.0, 0.8)
    expected = torch.distributions.kl_divergence(q, p).sum()
    torch.testing.assert_close(divergence(mean, scale, 0.8), expected)
    draws = mean + scale * torch.randn(100_000, 30, generator=generator(2))
    estimate = (q.log_prob(draws) - p.log_prob(draws)).sum(1).mean()
    torch.testing.assert_close(
        divergence(mean, scale, 0.8), estimate, rtol=0.02, atol=0
    )


@pytest.mark.parametrize("build", [mlp, convolutional])
def test_local_reparameterisation_has_the_moments_of_sampled_weights_in_one_layer(
    build,
):
    network = build()
    means = {name: tensor.detach() for name, tensor in network.named_parameters()}
    first = "1" if build is mlp else "0"
    scales = {
        name: torch.full_like(means[name], 0.3)
        for name in means
        if name.startswith(first)
    }
    drawn = (
        MeanField(network, means, scales)
        .draw(6000, generator())
        .logits(IMAGES[:1])[:, 0]
    )
    noisy = noisy_logits(
        network, means, scales, IMAGES[:1].expand(6000, -1, -1, -1), generator(1)
    )
    torch.testing.assert_close(noisy.mean(0), drawn.mean(0), atol=0.06, rtol=0)
    if (
        build is mlp
        # neighbouring pixels of a convolution share weights, which the local noise
        # ignores
    ):
        torch.testing.assert_close(noisy.std(0), drawn.std(0), rtol=0.06, atol=0)


def test_local_noise_of_a_convolution_has_the_variance_of_kernels_alone():
    """Outputs of one channel at two pixels: a drawn kernel moves them together, local
    noise does not.
    """
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    means = {name: tensor.detach() for name, tensor in network.named_parameters()}
    scales = {name: torch.full_like(tensor, 0.3) for name, tensor in means.items()}
    image = torch.rand(1, 1, 4, 5, generator=generator(3))
    drawn = (
        MeanField(network, means, scales).draw(20000, generator()).logits(image)[:, 0]
    )
    noisy = noisy_logits(
        network, means, scales, image.expand(20000, -1, -1, -1), generator(1)
    )
    torch.testing.assert_close(noisy.mean(0), drawn.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(noisy.var(0), drawn.var(0), rtol=0.06, atol=0)
    patches = torch.cat(
        [torch.nn.functional.unfold(image, 3)[0], torch.ones(1, 6)]
    )  # the last row meets the bias
    exact = torch.block_diag(*[0.09 * patches.T @ patches] * 2)
    torch.testing.assert_close(torch.cov(drawn.T), exact, atol=0.03, rtol=0.05)
    torch.testing.assert_close(
        torch.cov(noisy.T), exact.diag().diag(), atol=0.03, rtol=0.06
    )
    sums = [values[:, :6].sum(1).var() for values in (noisy, drawn)]
    assert sums[0] < 0.4 * sums[1]


def test_mean_field_on_a_linear_gaussian_problem_finds_the_posteriors_spread():
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 1))
    images, labels = torch.zeros(10, 1, 1, 1), torch.arange(10) % 2
    found = train_mean_field(
        network, images, labels, prior_sd=0.5, epochs=400, seed=0, learning_rate=1e-2
    )
    # The weight sees only zeros: its posterior is its prior. The bias sees ten fair
    # coins.
    assert float(found.scales["1.weight"]) == pytest.approx(0.5, rel=0.1)
    assert float(found.scales["1.bias"]) == pytest.approx(
        (1 / 0.25 + 2.5) ** -0.5, rel=0.12
    )
    assert abs(float(found.means["1.bias"])) < 0.15


def test_deviations_with_their_own_rate_reach_the_optimum_and_the_diagnosis_sees_it():
    """A prior 50 times as wide as the start: 100 steps at the rate of the means cannot
    get there.
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 1))
    images, labels = torch.zeros(10, 1, 1, 1), torch.arange(10) % 2
    setting = {"prior_sd": 1.0, "epochs": 100, "seed": 0, "learning_rate": 3e-3}
    short = train_mean_field(network, images, labels, **setting)
    long = train_mean_field(network, images, labels, **setting, scale_learning_rate=0.1)
    before, after = (
        diagnose(found, images, labels, prior_sd=1.0, passes=200)
        for found in (short, long)
    )
    assert float(long.scales["1.weight"]) == pytest.approx(1, rel=0.05)
    assert after.uninformed == pytest.approx(float(long.scales["1.weight"]))
    # E[p(1 - p)] under the posterior is the curvature of one coin; it lies between that
    # of a fixed bias and 0.
    assert float(long.scales["1.bias"]) == pytest.approx(
        (1 + 10 * 0.22) ** -0.5, rel=0.1
    )
    assert after.balance["1"] == pytest.approx(1, abs=0.1)
    assert before.uninformed < 0.05
    assert before.balance["1"] < 0.05
    assert after.bound > before.bound + 0.1
    wide = MeanField(
        network, long.means, {name: 2 * scale for name, scale in long.scales.items()}
    )
    assert diagnose(wide, images, labels, prior_sd=1.0, passes=200).balance["1"] > 2


def test_the_balance_is_the_slope_of_the_bound_in_the_deviations():
    network = mlp(outputs=2)
    means = {name: tensor.detach() for name, tensor in network.named_parameters()}
    scales = {
        name: torch.full_like(means[name], 0.2) for name in ("3.weight", "3.bias")
    }

    def found(factor):
        posterior = MeanField(
            network, means, {name: scale * factor for name, scale in scales.items()}
        )
        return diagnose(
            posterior, IMAGES, LABELS, prior_sd=0.5, temperature=0.3, passes=50
        )

    slope = (found(1.02).bound - found(1 / 1.02).bound) / (2 * torch.tensor(1.02).log())
    assert found(1).balance["3"] == pytest.approx(
        1 - float(slope) * 40 / 0.3 / 22, abs=0.01
    )
    assert found(1).uninformed is None
    assert set(found(1).balance) == {"3"}


def test_the_rate_of_the_means_is_the_default_rate_of_the_deviations():
    setting = {"prior_sd": 1, "epochs": 2, "batch": 20, "seed": 0}
    plain = train_mean_field(mlp(outputs=2), IMAGES, LABELS, **setting)
    named = train_mean_field(
        mlp(outputs=2), IMAGES, LABELS, **setting, scale_learning_rate=3e-3
    )
    for name, scale in plain.scales.items():
        assert torch.equal(scale, named.scales[name])
        assert torch.equal(plain.means[name], named.means[name])
    with pytest.raises(
        ArgumentError, match="scale_learning_rate must be a finite number, above 0"
    ):
        train_mean_field(
            mlp(outputs=2), IMAGES, LABELS, **setting, scale_learning_rate=0
        )
    with pytest.raises(
        ArgumentError, match="temperature must be a finite number, above 0"
    ):
        diagnose(plain, IMAGES, LABELS, prior_sd=1, temperature=0)


def test_only_the_chosen_layer_is_stochastic():
    found = train_mean_field(
        mlp(outputs=2), IMAGES, LABELS, prior_sd=1, epochs=1, seed=0, stochastic=("3",)
    )
    assert set(found.scales) == {"3.weight", "3.bias"}
    assert len(found.draw(4, generator()).weights["1.weight"]) == 1
    with pytest.raises(ArgumentError, match=r"layers with weights 1, 3, got 2"):
        train_mean_field(
            mlp(), IMAGES, LABELS, prior_sd=1, epochs=1, seed=0, stochastic=("2",)
        )


def test_training_learns_and_depends_on_the_seed_alone():
    recipe = Recipe("natural", epochs=60, batch=20, learning_rate=1e-2)
    dropout = train_dropout(mlp(outputs=2), IMAGES, LABELS, {"3": 0.2}, recipe, seed=1)
    again = train_dropout(mlp(outputs=2), IMAGES, LABELS, {"3": 0.2}, recipe, seed=1)
    ensemble = train_ensemble(
        lambda seed: mlp(seed, 2), IMAGES, LABELS, recipe, members=3, seed=0
    )
    mean_field = train_mean_field(
        mlp(outputs=2), IMAGES, LABELS, prior_sd=1, epochs=100, batch=20, seed=0
    )
    for posterior in (dropout, ensemble, mean_field):
        assert (
            predictive_accuracy(posterior.draw(30, generator()), IMAGES, LABELS) > 0.9
        )
    assert torch.equal(dropout.network[1].weight, again.network[1].weight)
    assert len(ensemble.samples) == 3


def test_empirical_draws_are_joint():
    samples = stack([mlp(seed) for seed in range(4)])
    drawn = Empirical(samples).draw(50, generator())
    rows = {
        tuple(row.flatten()[:3].tolist()): index
        for index, row in enumerate(samples.weights["1.weight"])
    }
    for first, last in zip(
        drawn.weights["1.weight"], drawn.weights["3.weight"], strict=True
    ):
        assert torch.equal(
            last, samples.weights["3.weight"][rows[tuple(first.flatten()[:3].tolist())]]
        )


def test_predictions_are_means_of_probabilities():
    samples = stack([mlp(seed, 2) for seed in range(3)])
    expected = torch.softmax(samples.logits(IMAGES), -1).mean(0)
    torch.testing.assert_close(predictive_mean(samples, IMAGES, chunk=2), expected)
    picked = expected[torch.arange(40), LABELS].log()
    torch.testing.assert_close(log_predictive(samples, IMAGES, LABELS), picked)


def test_a_single_logit_is_the_second_of_two():
    logits = torch.randn(4, 7, 1, generator=generator())
    two = torch.cat([torch.zeros_like(logits), logits], -1)
    labels = torch.arange(7) % 2
    torch.testing.assert_close(probabilities(logits), probabilities(two))
    torch.testing.assert_close(
        log_likelihood(logits, labels), log_likelihood(two, labels)
    )
    assert torch.equal(decisions(logits), decisions(two))


def test_bad_input_is_refused():
    with pytest.raises(ArgumentError, match="at least one network"):
        stack([])
    with pytest.raises(ArgumentError, match=r"count must be .* at least 1, got 0"):
        Dropout(mlp(), {"3": 0.5}).draw(0, generator())
    with pytest.raises(ArgumentError, match="at least 1"):
        stack([mlp()]).take(slice(0, 0))
    with pytest.raises(ArgumentError, match=r"those of the arch.*other 1.bias, 3.bias"):
        WeightSamples(mlp(), {"1.weight": torch.zeros(2, 10, 64)})
    with pytest.raises(ArgumentError, match="rates of 3 must be"):
        Dropout(mlp(), {"3": -0.1})
    with pytest.raises(ArgumentError, match="rates must be by layer, one of 1, 3"):
        Dropout(mlp(), {"2": 0.1})
    with pytest.raises(TrainingDiverged, match="epoch 1 of 1"):
        train_mean_field(
            mlp(outputs=2), IMAGES, LABELS, prior_sd=1e-30, epochs=1, seed=0
        )
    with pytest.raises(ArgumentError, match="images must be finite"):
        train_mean_field(
            mlp(outputs=2), IMAGES * torch.nan, LABELS, prior_sd=1, epochs=1, seed=0
        )
