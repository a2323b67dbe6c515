"""Hamiltonian Monte Carlo: known Gaussians, energy and reversibility, Pyro's potential
and moments, divergence.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustbook.bayes import hmc
from robustbook.checks import ArgumentError

COVARIANCE = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
PRECISION = torch.linalg.inv(COVARIANCE)


def gaussian(position):
    centred = position - MEAN
    return ((centred @ PRECISION) * centred).sum(1) / 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    images = torch.rand(12, 1, 2, 2)
    return hmc.Network(
        network, images, (images.sum((1, 2, 3)) > 2).long(), prior_sd=0.7
    )


def test_a_gaussian_has_its_mean_and_covariance():
    chains = hmc.sample(
        gaussian,
        torch.zeros(8, 2, dtype=torch.float64),
        draws=1500,
        warmup=200,
        steps=8,
        step_size=0.1,
        generator=generator(),
    )
    draws = chains.draws.flatten(0, 1)
    torch.testing.assert_close(draws.mean(0), MEAN, atol=0.06, rtol=0)
    torch.testing.assert_close(draws.T.cov(), COVARIANCE, atol=0.12, rtol=0)
    assert 0.6 < float(chains.acceptance.mean()) < 0.98


def test_acceptance_rises_to_one_as_the_step_size_falls():
    rates = []
    for step_size in (0.9, 0.3, 0.05):
        chains = hmc.sample(
            gaussian,
            torch.zeros(4, 2, dtype=torch.float64),
            draws=100,
            warmup=0,
            steps=6,
            step_size=step_size,
            generator=generator(),
        )
        rates.append(float(chains.acceptance.mean()))
    assert rates[0] < rates[1] < rates[2]
    assert rates[2] > 0.999


def test_leapfrog_is_reversible_and_its_energy_error_is_of_second_order():
    start = hmc.evaluate(
        gaussian, torch.randn(5, 2, generator=generator(), dtype=torch.float64)
    )
    momentum = torch.randn(5, 2, generator=generator(1), dtype=torch.float64)
    end, last = hmc.leapfrog(gaussian, start, momentum, 0.1, 10)
    back, _ = hmc.leapfrog(gaussian, end, -last, 0.1, 10)
    torch.testing.assert_close(back.position, start.position)

    def energy_error(step_size, steps):
        end, last = hmc.leapfrog(gaussian, start, momentum, step_size, steps)
        return (
            (
                end.potential
                - start.potential
                + (last.square() - momentum.square()).sum(1) / 2
            )
            .abs()
            .mean()
        )

    assert 3 < float(energy_error(0.1, 10) / energy_error(0.05, 20)) < 5


def test_metropolis_correction_removes_the_bias_of_large_steps():
    def draws_of(step_size):
        chains = hmc.sample(
            lambda position: position.square().sum(1) / 2,
            torch.zeros(16, 1, dtype=torch.float64),
            draws=2500,
            warmup=0,
            steps=2,
            step_size=step_size,
            generator=generator(3),
        )
        return float(chains.draws.var())

    # Without the correction the variance of a unit Gaussian would be 1 / (1 -
    # step_size^2 / 4) = 1.78.
    assert draws_of(1.3) == pytest.approx(1, abs=0.05)


def test_grouped_steps_follow_the_widths_and_keep_the_moments():
    widths = torch.tensor([0.01, 0.01, 1.0, 1.0], dtype=torch.float64)

    def run(groups):
        return hmc.sample(
            lambda position: (position / widths).square().sum(1) / 2,
            torch.randn(8, 4, generator=generator(), dtype=torch.float64) * widths,
            draws=400,
            warmup=90,
            steps=6,
            step_size=0.005,
            generator=generator(1),
            groups=groups,
        )

    plain, grouped = run(None), run(torch.tensor([0, 0, 1, 1]))
    assert float(grouped.scale[2] / grouped.scale[0]) == pytest.approx(100, rel=0.35)
    assert float(grouped.scale.log().mean()) == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(
        grouped.draws.flatten(0, 1).std(0) / widths,
        torch.ones_like(widths),
        atol=0.08,
        rtol=0,
    )
    assert (
        hmc.diagnose(grouped.draws).least_ess > 5 * hmc.diagnose(plain.draws).least_ess
    )


def wide_network(temperature=1.0):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2))
    images = torch.rand(5, 1, 3, 3)
    return hmc.Network(
        network,
        images,
        torch.tensor([0, 1, 0, 1, 1]),
        prior_sd=0.7,
        temperature=temperature,
    )


def test_a_reduced_network_has_the_whole_ones_outputs_and_density():
    whole = wide_network()
    reduced = hmc.Reduced.of(whole)
    assert reduced.basis.shape == (9, 5)
    torch.testing.assert_close(
        reduced.basis.T @ reduced.basis, torch.eye(5), atol=1e-5, rtol=0
    )
    positions = torch.randn(3, reduced.inner.dimension, generator=generator())
    inner = reduced.inner.weights(positions)
    lifted = reduced.lift(inner, generator(2))
    torch.testing.assert_close(
        lifted.logits(whole.images),
        inner.logits(reduced.inner.images),
        atol=1e-4,
        rtol=1e-4,
    )
    across = (
        lifted.weights["1.weight"]
        - lifted.weights["1.weight"] @ reduced.basis @ reduced.basis.T
    )
    prior = across.square().sum((1, 2)) / (2 * whole.prior_sd**2)
    expected = reduced.inner.potential(positions) + prior
    torch.testing.assert_close(
        whole.potential(whole.positions(lifted)), expected, atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_across_the_span_of_the_images_the_posterior_is_the_prior(temperature):
    reduced = hmc.Reduced.of(wide_network(temperature))
    inner = reduced.inner.weights(torch.zeros(1, reduced.inner.dimension))
    posterior = hmc.Lifted(reduced, inner)
    weights = posterior.draw(4000, generator()).weights["1.weight"].flatten(0, 1)
    _, _, rows = torch.linalg.svd(reduced.basis.T, full_matrices=True)
    across = weights @ rows[5:].T
    torch.testing.assert_close(
        weights @ reduced.basis, torch.zeros(len(weights), 5), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        across.T.cov(), temperature * 0.49 * torch.eye(4), atol=0.02, rtol=0
    )


def test_reduced_and_whole_hmc_agree_on_predictions():
    whole = wide_network()
    points = torch.rand(6, 1, 3, 3, generator=generator(7))
    settings = {
        "chains": 6,
        "draws": 300,
        "warmup": 80,
        "steps": 8,
        "step_size": 0.1,
        "seed": 0,
    }
    plain = hmc.network_posterior(whole, **settings).posterior.samples
    reduced = hmc.Reduced.of(whole)
    start = hmc.settled(reduced.inner, 6, 1)
    found = hmc.network_posterior(
        reduced.inner, **settings, start=start, grouped=True
    ).posterior.samples
    means = [
        torch.softmax(each.logits(points), -1)[..., 1].mean(0)
        for each in (plain, reduced.lift(found, generator()))
    ]
    torch.testing.assert_close(*means, atol=0.05, rtol=0)


def test_only_a_network_that_begins_with_flatten_and_linear_is_reduced():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)
    )
    with pytest.raises(ArgumentError, match="begins with Flatten and Linear"):
        hmc.Reduced.of(
            hmc.Network(network, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
        )


def test_groups_are_the_inputs_of_the_first_layer_and_the_other_parameters():
    groups = small_network().groups
    assert groups.tolist() == [0, 1, 2, 3] * 3 + [4] * 3 + [5] * 6 + [6] * 2


def test_settled_starts_fit_and_stay_as_far_out_as_the_prior():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 64), nn.ReLU(), nn.Linear(64, 2))
    target = hmc.Network(network, torch.rand(5, 1, 3, 3), torch.tensor([0, 1, 0, 1, 1]))
    starts = target.positions(hmc.settled(target, 4, 0))
    fits = target.potential(starts) - starts.square().sum(1) / 2
    assert (fits < 5).all()
    torch.testing.assert_close(
        starts.square().mean(1), torch.ones(4), atol=0.25, rtol=0
    )


def test_a_divergent_chain_is_named_and_stops_the_run():
    with pytest.raises(
        hmc.ChainDivergedError, match=r"chain 1 diverged at draw \d+: energy error"
    ):
        hmc.sample(
            gaussian,
            torch.zeros(2, 2, dtype=torch.float64),
            draws=50,
            warmup=0,
            steps=30,
            step_size=3.0,
            generator=generator(),
        )


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"steps": 0}, {"chains": 0}])
def test_counts_below_one_are_refused(wrong):
    settings = {
        "chains": 2,
        "draws": 2,
        "warmup": 0,
        "steps": 2,
        "step_size": 0.1,
        "seed": 0,
    } | wrong
    with pytest.raises(ArgumentError, match="must be a whole number, at least 1"):
        hmc.network_posterior(small_network(), **settings)


def test_the_same_seed_gives_the_same_networks():
    settings = {
        "chains": 2,
        "draws": 3,
        "warmup": 5,
        "steps": 3,
        "step_size": 0.05,
        "seed": 4,
    }
    one, two = (hmc.network_posterior(small_network(), **settings) for _ in range(2))
    for name, tensor in one.posterior.samples.weights.items():
        assert torch.equal(tensor, two.posterior.samples.weights[name])


def test_samples_are_joint_positions_of_the_chains():
    target = small_network()
    run = hmc.network_posterior(
        target, chains=2, draws=3, warmup=0, steps=3, step_size=0.05, seed=0
    )
    again = target.potential(run.chains.draws[1])
    network = run.by_chain[1].network(2)
    fit = -nn.functional.cross_entropy(
        network(target.images), target.labels, reduction="sum"
    )
    prior = sum(parameter.square().sum() for parameter in network.parameters()) / (
        2 * target.prior_sd**2
    )
    assert float((prior - fit).detach()) == pytest.approx(float(again[2]), rel=1e-5)


def test_chains_start_where_they_are_told():
    target = small_network()
    weights = target.weights(torch.randn(2, target.dimension, generator=generator()))
    torch.testing.assert_close(
        target.weights(target.positions(weights)).logits(target.images),
        weights.logits(target.images),
    )
    with pytest.raises(
        ArgumentError, match="start must be 3 networks, one a chain, got 2"
    ):
        hmc.network_posterior(
            target,
            chains=3,
            draws=2,
            warmup=0,
            steps=2,
            step_size=0.1,
            seed=0,
            start=weights,
        )


def test_diagnosis_tells_mixed_chains_from_stuck_ones():
    mixed = torch.randn(4, 200, 3, generator=generator())
    stuck = mixed + 3 * torch.arange(4)[:, None, None]
    assert hmc.diagnose(mixed).worst_r_hat < 1.02
    assert hmc.diagnose(mixed).least_ess > 400
    assert hmc.diagnose(stuck).worst_r_hat > 1.5
    with pytest.raises(ArgumentError, match="something that changes"):
        hmc.diagnose(torch.ones(2, 10, 1))


@pytest.mark.peer
def test_potential_and_moments_agree_with_pyro():
    import pyro
    import pyro.distributions as dist
    from pyro.infer.mcmc import HMC, MCMC
    from pyro.infer.mcmc.util import initialize_model

    target = small_network()
    shapes = {
        name: tuple(part.shape) for name, part in target.architecture.named_parameters()
    }

    def model():
        weights = {
            name: pyro.sample(
                name,
                dist.Normal(torch.zeros(shape), target.prior_sd).to_event(len(shape)),
            )
            for name, shape in shapes.items()
        }
        logits = torch.func.functional_call(target.architecture, weights, target.images)
        pyro.sample(
            "labels", dist.Categorical(logits=logits).to_event(1), obs=target.labels
        )

    _, potential, _, _ = initialize_model(model)
    positions = torch.randn(3, target.dimension, generator=generator())
    ours = target.potential(positions)
    samples = target.weights(positions)
    theirs = torch.stack(
        [
            potential({name: samples.weights[name][i] for name in shapes})
            for i in range(3)
        ]
    )
    torch.testing.assert_close(ours - ours[0], theirs - theirs[0], atol=1e-3, rtol=1e-4)

    pyro.set_rng_seed(0)
    kernel = HMC(model, step_size=0.1, num_steps=8)
    peer = MCMC(kernel, num_samples=250, warmup_steps=60, disable_progbar=True)
    peer.run()
    logits = [
        torch.func.functional_call(
            target.architecture, dict(zip(shapes, parts, strict=True)), target.images
        )
        for parts in zip(*(peer.get_samples()[name] for name in shapes), strict=True)
    ]
    expected = torch.softmax(torch.stack(logits), -1)[..., 1].mean(0)
    run = hmc.network_posterior(
        target, chains=4, draws=400, warmup=100, steps=8, step_size=0.1, seed=0
    )
    found = torch.softmax(run.posterior.samples.logits(target.images), -1)[..., 1].mean(
        0
    )
    torch.testing.assert_close(found, expected.detach(), atol=0.05, rtol=0)
