"""Attacks on posteriors, interference, uncertainty scores, and the posteriors that
serve as nulls.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robustbook.bayes.designs import DESIGNS, stochastic_layers
from robustbook.bayes.laplace import LastLayerLaplace, fit_last_layer
from robustbook.bayes.mc_dropout import Dropout
from robustbook.bayes.mean_field import (
    MeanField,
    divergence,
    noisy_logits,
    train_mean_field,
)
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Empirical
from robustbook.bayes.weight_noise import train_map, weight_noise
from robustbook.bayes.weights import stack
from robustbook.checks import ArgumentError
from robustbook.measure.uncertainty import (
    auroc,
    mutual_information,
    relative_spread,
    uncertainty,
)
from robustbook.models import build
from robustbook.models.network import compute_logits
from robustbook.models.training import TrainingDiverged
from robustbook.perturb.ascent import (
    Box,
    L2Ball,
    LengthStep,
    MomentumStep,
    SignStep,
    ascend,
)
from robustbook.perturb.gradient import cross_entropy, pgd
from robustbook.perturb.interference import KINDS, interfere
from robustbook.perturb.momentum import l2_pgd, momentum
from robustbook.perturb.posterior import (
    Predictive,
    Sampled,
    eot_pgd,
    log_mean,
    uncertainty_aware,
    weight_samples,
)

IMAGES = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 10


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cnn(seed: int = 0) -> nn.Sequential:
    return build("cnn", (1, 8, 8), 10, seed).eval()


def noisy(layers: tuple[str, ...], share: float = 0.4) -> MeanField:
    found = weight_noise(cnn(), share)
    scales = {
        name: scale
        for name, scale in found.scales.items()
        if name.split(".")[0] in layers
    }
    return MeanField(found.architecture, found.means, scales)


# The predictive mean as a module
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers", [("0",), ("2", "5"), ("5", "7"), ("7",), ("0", "2", "5", "7")]
)
def test_sampled_is_every_network_and_its_gradient_is_theirs(
    layers: tuple[str, ...],
) -> None:
    # Finitely many networks: their weights are used as they are, whatever the layers.
    samples = noisy(layers).draw(4, generator(7))
    posterior = Empirical(samples)
    points = IMAGES[:5].clone().requires_grad_()
    found = Sampled(posterior, 4, generator(7))(points)
    own = IMAGES[:5].clone().requires_grad_()
    expected = torch.stack(
        [torch.log_softmax(samples.network(row)(own), -1) for row in range(4)], dim=1
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = torch.randn(found.shape, generator=generator(1))
    (gradient,) = torch.autograd.grad((found * weights).sum(), points)
    (reference,) = torch.autograd.grad((expected * weights).sum(), own)
    torch.testing.assert_close(gradient, reference, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("layers", [("0",), ("0", "2", "5", "7")])
def test_with_a_stochastic_convolution_the_draws_are_those_of_the_posterior(
    layers: tuple[str, ...],
) -> None:
    posterior = noisy(layers)
    samples = posterior.draw(4, generator(7))
    expected = torch.stack(
        [torch.log_softmax(samples.network(row)(IMAGES), -1) for row in range(4)], dim=1
    )
    torch.testing.assert_close(
        Sampled(posterior, 4, generator(7))(IMAGES), expected, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("layers", [("5", "7"), ("7",)])
def test_drawn_outputs_have_the_distribution_of_drawn_weights_at_every_image(
    layers: tuple[str, ...],
) -> None:
    """Mean and covariance over samples of the log-probabilities, and the gradient of
    the averaged probability.
    """
    small = noisy(layers, 0.8)
    means, scales = (
        {
            name: (10 if name == "7.weight" else 1) * part.detach()
            for name, part in parts.items()
        }
        for parts in (small.means, small.scales)
    )
    posterior = MeanField(small.architecture, means, scales)
    exact, found = (IMAGES[:3].clone().requires_grad_() for _ in range(2))
    weights = torch.log_softmax(
        posterior.draw(20000, generator(7)).logits(exact), -1
    ).transpose(0, 1)
    outputs = Sampled(posterior, 20000, generator(8))(found)
    torch.testing.assert_close(outputs.mean(1), weights.mean(1), atol=0.02, rtol=0)
    for drawn, expected in zip(outputs, weights, strict=True):
        torch.testing.assert_close(
            torch.cov(drawn.T), torch.cov(expected.T), atol=0.01, rtol=0.05
        )
    assert float(weights.detach().std(1).mean()) > 0.2
    gradients = [
        torch.autograd.grad(log_mean(values).gather(1, LABELS[:3, None]).sum(), points)[
            0
        ].flatten(1)
        for values, points in ((weights, exact), (outputs, found))
    ]
    assert torch.cosine_similarity(*gradients).min() > 0.98
    torch.testing.assert_close(
        gradients[1].norm(dim=1), gradients[0].norm(dim=1), rtol=0.1, atol=0
    )


def test_images_that_see_drawn_outputs_see_networks_of_their_own() -> None:
    twice = IMAGES[:1].expand(2, -1, -1, -1)
    first, second = Sampled(noisy(("5", "7")), 3, generator())(twice)
    assert not torch.allclose(first, second, atol=1e-3)


def test_every_call_draws_afresh_and_the_seed_decides() -> None:
    model = Predictive(noisy(("5", "7")), 3, generator(1))
    first, second = compute_logits(model, IMAGES), compute_logits(model, IMAGES)
    assert not torch.allclose(first, second, atol=1e-4)
    assert torch.equal(
        first, compute_logits(Predictive(noisy(("5", "7")), 3, generator(1)), IMAGES)
    )
    torch.testing.assert_close(first.exp().sum(1), torch.ones(24))


def test_small_ensembles_are_used_whole() -> None:
    members = stack([cnn(seed) for seed in range(3)])
    assert weight_samples(Empirical(members), 20, generator()) is members
    assert len(weight_samples(Empirical(members), 2, generator())) == 2
    expected = torch.stack(
        [torch.softmax(cnn(seed)(IMAGES), -1) for seed in range(3)]
    ).mean(0)
    torch.testing.assert_close(
        compute_logits(Predictive(Empirical(members), 20, generator()), IMAGES).exp(),
        expected,
    )


def test_a_posterior_without_spread_is_attacked_as_its_network() -> None:
    point = MeanField(
        cnn(), {name: part.detach() for name, part in cnn().named_parameters()}, {}
    )
    settings_ = {"epsilon": 0.1, "steps": 6, "step_size": 0.03}
    plain = pgd(cnn(), IMAGES, LABELS, generator=generator(3), **settings_)
    averaged = eot_pgd(
        point, IMAGES, LABELS, samples=4, generator=generator(3), **settings_
    )
    torch.testing.assert_close(averaged, plain, atol=1e-6, rtol=0)
    sampled = sampled_probabilities(point.draw(5, generator()), IMAGES)
    torch.testing.assert_close(
        sampled.mean(0), torch.softmax(cnn()(IMAGES), -1), atol=1e-6, rtol=0
    )
    assert mutual_information(sampled.double()).max() < 1e-6


def test_the_averaged_gradient_converges_on_a_linear_gaussian_model() -> None:
    """One logit w x with w ~ N(m, s^2): d/dx log E sigmoid(w x) = E[w sigmoid'] /
    E[sigmoid], by quadrature.
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    mean, scale, position = 1.2, 0.9, 0.7
    means = {"1.weight": torch.tensor([[0.0], [mean]]), "1.bias": torch.zeros(2)}
    posterior = MeanField(network, means, {"1.weight": torch.tensor([[0.0], [scale]])})
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    drawn = mean + scale * nodes
    sigmoid = 1 / (1 + np.exp(-drawn * position))
    exact = (weights * drawn * sigmoid * (1 - sigmoid)).sum() / (
        weights * sigmoid
    ).sum()
    errors = []
    for count in (100, 40000):
        point = torch.full((1, 1, 1, 1), position, requires_grad=True)
        (gradient,) = torch.autograd.grad(
            Predictive(posterior, count, generator(5))(point)[0, 1], point
        )
        errors.append(abs(float(gradient) - exact))
    assert errors[1] < 0.01
    assert errors[1] < errors[0]


def test_averaging_beats_one_sample_and_stays_in_the_ball() -> None:
    posterior = noisy(("0", "2", "5", "7"), 0.6)
    judge = posterior.draw(200, generator(99))
    labels = sampled_probabilities(judge, IMAGES).mean(0).argmax(1)

    def left(samples: int) -> float:
        points = eot_pgd(
            posterior,
            IMAGES,
            labels,
            epsilon=0.1,
            steps=8,
            step_size=0.03,
            samples=samples,
            generator=generator(4),
        )
        assert (points - IMAGES).abs().max() <= 0.1 + 1e-6
        assert points.min() >= 0
        assert points.max() <= 1
        probability = sampled_probabilities(judge, points).mean(0)
        return float(probability.gather(1, labels[:, None]).log().mean())

    assert left(20) < left(1)


def test_given_starts_are_never_made_worse() -> None:
    posterior = Empirical(stack([cnn(seed) for seed in range(3)]))
    labels = compute_logits(Predictive(posterior, 3, generator()), IMAGES).argmax(1)
    strong = eot_pgd(
        posterior,
        IMAGES,
        labels,
        epsilon=0.2,
        steps=12,
        step_size=0.05,
        samples=3,
        generator=generator(),
        restarts=2,
    )
    kept = eot_pgd(
        posterior,
        IMAGES,
        labels,
        epsilon=0.2,
        steps=0,
        step_size=0.05,
        samples=3,
        generator=generator(),
        restarts=1,
        starts=[strong],
    )

    def lead(points: torch.Tensor) -> torch.Tensor:
        logits = compute_logits(Predictive(posterior, 3, generator()), points)
        return (
            logits.scatter(1, labels[:, None], -torch.inf).amax(1)
            - logits.gather(1, labels[:, None])[:, 0]
        )

    assert (lead(kept) >= lead(strong) - 1e-5).all()


def test_the_uncertainty_aware_attack_lowers_the_alarm() -> None:
    small = noisy(("0", "2", "5", "7"), 0.5)
    means = {
        name: (20 if name == "7.weight" else 1) * mean
        for name, mean in small.means.items()
    }
    scales = {
        name: (20 if name == "7.weight" else 1) * scale
        for name, scale in small.scales.items()
    }
    posterior = MeanField(small.architecture, means, scales)
    settings_ = {"epsilon": 0.15, "steps": 12, "step_size": 0.03, "samples": 10}
    loud = eot_pgd(posterior, IMAGES, LABELS, generator=generator(2), **settings_)
    # With no margin to gain the attack works on the alarm alone.
    quiet = uncertainty_aware(
        posterior,
        IMAGES,
        LABELS,
        generator=generator(2),
        starts=loud,
        confidence=-100,
        **settings_,
    )
    assert (quiet - IMAGES).abs().max() <= 0.15 + 1e-6
    alarm = [
        float(
            mutual_information(
                sampled_probabilities(posterior.draw(60, generator(8)), points).double()
            ).mean()
        )
        for points in (loud, quiet)
    ]
    assert alarm[1] < 0.9 * alarm[0]


def test_networks_are_left_as_they_were() -> None:
    posterior = Dropout(cnn().train(), {"7": 0.5})
    before = {
        name: part.clone() for name, part in posterior.network.state_dict().items()
    }
    eot_pgd(
        posterior,
        IMAGES,
        LABELS,
        epsilon=0.1,
        steps=2,
        step_size=0.05,
        samples=3,
        generator=generator(),
    )
    assert all(
        torch.equal(part, before[name])
        for name, part in posterior.network.state_dict().items()
    )
    assert all(
        part.grad is None and part.requires_grad
        for part in posterior.network.parameters()
    )
    assert posterior.network.training


# Momentum and L2
# --------------------------------------------------------------------------------------


@pytest.mark.peer
def test_momentum_and_l2_are_as_strong_as_torchattacks() -> None:
    import torchattacks

    model = cnn()
    labels = compute_logits(model, IMAGES).argmax(1)

    def loss(points: torch.Tensor) -> float:
        return float(nn.functional.cross_entropy(model(points), labels))

    theirs = torchattacks.MIFGSM(model, eps=0.1, alpha=0.02, steps=8, decay=1.0)(
        IMAGES, labels
    )
    ours = momentum(model, IMAGES, labels, epsilon=0.1, steps=8, step_size=0.02)
    # The peer divides by the mean of the gradient, we by its sum: the sign of the
    # velocity is the same.
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    peer = torchattacks.PGDL2(model, eps=1.0, alpha=0.3, steps=10, random_start=False)(
        IMAGES, labels
    )
    found = l2_pgd(
        model,
        IMAGES,
        labels,
        epsilon=1.0,
        steps=10,
        step_size=0.3,
        generator=generator(),
    )
    assert loss(found) == pytest.approx(loss(peer), rel=0.05)


@settings(max_examples=40)
@given(
    st.floats(0, 2),
    st.sampled_from([Box, L2Ball]),
    st.sampled_from([SignStep, LengthStep]),
    st.floats(0, 1),
)
def test_ascents_stay_in_the_ball(epsilon: float, ball, move, decay: float) -> None:
    points = ascend(
        cnn(),
        IMAGES[:4],
        LABELS[:4],
        cross_entropy,
        epsilon=epsilon,
        steps=3,
        step_size=0.5,
        starts=torch.rand(4, 1, 8, 8, generator=generator(2)),
        step=lambda size: MomentumStep(move(size), decay),
        ball=ball,
    )
    offset = (points - IMAGES[:4]).flatten(1)
    norm = math.inf if ball is Box else 2
    assert offset.norm(p=norm, dim=1).max() <= epsilon + 1e-5
    assert points.min() >= 0
    assert points.max() <= 1


# Interference
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_interference_grows_with_severity_and_depends_on_the_seed_alone(
    kind: str,
) -> None:
    images = torch.rand(16, 3, 16, 16, generator=generator(1))
    changed = [
        interfere(kind, images, severity, generator()) for severity in range(1, 6)
    ]
    sizes = [float((each - images).square().mean()) for each in changed]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0
    assert all(
        each.min() >= 0 and each.max() <= 1 and each.shape == images.shape
        for each in changed
    )
    assert torch.equal(changed[2], interfere(kind, images, 3, generator()))


def test_interference_is_what_its_name_says() -> None:
    grey = torch.full((200, 1, 16, 16), 0.5)
    assert float(
        interfere("Gaussian noise", grey, 1, generator()).std()
    ) == pytest.approx(0.1, rel=0.02)
    assert (
        float((interfere("uniform noise", grey, 1, generator()) - grey).abs().max())
        <= 0.2
    )
    assert float(
        (interfere("salt and pepper", grey, 3, generator()) != grey).float().mean()
    ) == pytest.approx(0.2, 0.05)
    torch.testing.assert_close(interfere("blur", grey, 5, generator()), grey)
    white = torch.ones(50, 1, 10, 10)
    assert (interfere("occlusion", white, 4, generator()) == 0.5).sum(
        (1, 2, 3)
    ).tolist() == [25] * 50


def test_blur_is_that_of_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    image = torch.rand(1, 1, 40, 40, generator=generator())
    expected = gaussian_filter(image[0, 0].numpy(), 0.04 * 40, mode="mirror", radius=5)
    np.testing.assert_allclose(
        interfere("blur", image, 2, generator())[0, 0].numpy(), expected, atol=1e-5
    )


# Scores
# --------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.integers(1, 8), st.integers(2, 5), st.integers(0, 10**6))
def test_scores_lie_where_they_must(count: int, classes: int, seed: int) -> None:
    sampled = torch.softmax(
        3 * torch.randn(count, 6, classes, generator=generator(seed)), -1
    )
    found = uncertainty(sampled)
    assert (found.mutual_information >= 0).all()
    assert (found.mutual_information <= found.entropy + 1e-12).all()
    assert (found.entropy <= math.log(classes) + 1e-9).all()
    assert (found.variation_ratio <= 1 - 1 / classes + 1e-9).all()
    assert (found.vote_disagreement >= 0).all()
    same = uncertainty(sampled[:1].expand(5, -1, -1))
    assert same.mutual_information.max() < 1e-12
    assert same.vote_disagreement.max() == same.variation_ratio.max() == 0
    assert same.variance.max() < 1e-15


def test_scores_by_hand() -> None:
    votes = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    found = uncertainty(votes)
    assert float(found.variation_ratio[0]) == 0.25
    assert float(found.vote_disagreement[0]) == pytest.approx(0.5)  # 3 of 6 pairs
    assert float(found.mutual_information[0]) == pytest.approx(
        0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    )
    assert float(found.unconfidence[0]) == 0.25


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auroc_is_that_of_scikit_learn(clean: list[int], attacked: list[int]) -> None:
    from sklearn.metrics import roc_auc_score

    truth = [0] * len(clean) + [1] * len(attacked)
    assert auroc(clean, attacked) == pytest.approx(
        roc_auc_score(truth, clean + attacked)
    )


def test_two_draws_of_clean_inputs_cannot_be_told_apart() -> None:
    scores = torch.rand(2, 4000, generator=generator()).numpy()
    assert auroc(scores[0], scores[1]) == pytest.approx(0.5, abs=0.02)


def test_relative_spread_sees_a_collapsed_layer() -> None:
    spread = relative_spread(noisy(("0",), 0.5).draw(400, generator()))
    assert spread["0"] == pytest.approx(
        0.5 / 0.87, rel=0.1
    )  # weights are uniform: root mean square 2 / sqrt(3) of mean
    assert spread["2"] == spread["5"] == spread["7"] == 0


# Posteriors
# --------------------------------------------------------------------------------------


@pytest.mark.peer
def test_the_divergence_is_that_of_torchbnn_and_bayesian_torch() -> None:
    import torchbnn
    from bayesian_torch.layers import LinearReparameterization

    layer = torchbnn.BayesLinear(
        prior_mu=0, prior_sigma=0.3, in_features=6, out_features=4
    )
    mean, scale = layer.weight_mu.detach(), layer.weight_log_sigma.detach().exp()
    bias, spread = layer.bias_mu.detach(), layer.bias_log_sigma.detach().exp()
    theirs = torchbnn.BKLLoss(reduction="sum")(nn.Sequential(layer))
    ours = divergence(mean, scale, 0.3) + divergence(bias, spread, 0.3)
    torch.testing.assert_close(ours, theirs.detach().view(()), rtol=1e-4, atol=1e-4)
    other = LinearReparameterization(6, 4, prior_mean=0, prior_variance=0.3, bias=False)
    scale = torch.log1p(other.rho_weight.detach().exp())
    expected = (
        other.kl_loss().detach() * other.mu_weight.numel()
    )  # the peer takes the mean over weights
    torch.testing.assert_close(
        divergence(other.mu_weight.detach(), scale, 0.3), expected, rtol=1e-4, atol=1e-4
    )


def test_the_gradient_of_the_local_noise_is_that_of_sampled_weights_on_average() -> (
    None
):
    layer = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    image = torch.tensor([0.3, -0.8, 0.5]).view(1, 1, 1, 3)
    scale = torch.tensor([[0.2, 0.5, 0.3]], requires_grad=True)
    means = {"1.weight": torch.tensor([[0.4, 0.1, -0.2]]), "1.bias": torch.zeros(1)}
    local = noisy_logits(
        layer, means, {"1.weight": scale}, image.expand(40000, -1, -1, -1), generator()
    )
    (found,) = torch.autograd.grad(local.square().mean(), scale)
    expected = (
        2 * scale.detach() * image.flatten().square()
    )  # d/ds E[(w x)^2] with w ~ N(m, s^2)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=2e-3)


@pytest.mark.peer
def test_last_layer_laplace_has_the_moments_of_laplace_torch() -> None:
    from laplace import Laplace
    from torch.utils.data import DataLoader, TensorDataset

    network = cnn()
    found = fit_last_layer(network, IMAGES, LABELS, prior_precision=2.0)
    peer = Laplace(
        cnn(),
        "classification",
        subset_of_weights="last_layer",
        hessian_structure="full",
    )
    peer.fit(DataLoader(TensorDataset(IMAGES, LABELS), batch_size=24))
    peer.prior_precision = torch.tensor(2.0)
    torch.testing.assert_close(
        found.factor @ found.factor.T, peer.posterior_covariance, atol=1e-4, rtol=1e-3
    )
    samples = found.draw(4000, generator())
    drawn = torch.cat(
        [samples.weights["7.weight"].flatten(1), samples.weights["7.bias"]], 1
    )
    torch.testing.assert_close(
        drawn.var(0), peer.posterior_covariance.diagonal(), rtol=0.15, atol=1e-3
    )
    torch.testing.assert_close(drawn.mean(0), peer.mean, atol=0.06, rtol=0)
    assert len(samples.weights["0.weight"]) == 1
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.parameters(), cnn().parameters(), strict=True)
    )


def precision_matrix(found: LastLayerLaplace) -> torch.Tensor:
    return torch.linalg.inv((found.factor @ found.factor.T).double())


def test_without_a_precision_it_is_the_one_that_maximises_the_marginal_likelihood() -> (
    None
):
    hessian = precision_matrix(
        fit_last_layer(cnn(), IMAGES, LABELS, prior_precision=1.0)
    ) - torch.eye(1010)
    found = fit_last_layer(cnn(), IMAGES, LABELS)
    chosen = float((precision_matrix(found) - hessian).diagonal().mean())
    curvature = torch.linalg.eigvalsh(hessian).clamp(min=0)

    def log_likelihood(precision: float) -> float:
        """Of the data, but for what no precision changes."""
        fit = -precision * found.mean.double().square().sum()
        return (
            float(
                fit
                + len(curvature) * math.log(precision)
                - (curvature + precision).log().sum()
            )
            / 2
        )

    grid = torch.logspace(-2, 4, 241).tolist()
    best = max(grid, key=log_likelihood)
    assert grid[0] < best < grid[-1]
    assert chosen == pytest.approx(best, rel=0.1)
    assert log_likelihood(chosen) > log_likelihood(best) - 0.05


def test_the_l2_network_shrinks_with_the_prior() -> None:
    norms = []
    for prior_sd in (0.03, 10.0):
        trained = train_map(cnn(), IMAGES, LABELS, prior_sd=prior_sd, epochs=30, seed=0)
        norms.append(sum(float(part.square().sum()) for part in trained.parameters()))
    assert norms[0] < 0.2 * norms[1]


def test_designs_name_their_layers() -> None:
    layers = {design: stochastic_layers(design, cnn()) for design in DESIGNS}
    assert layers == {
        "det+det": (),
        "det+stoch": ("5", "7"),
        "stoch+det": ("0", "2"),
        "stoch+stoch": ("0", "2", "5", "7"),
    }
    for design, names in layers.items():
        trained = train_mean_field(
            cnn(), IMAGES, LABELS, prior_sd=0.3, epochs=1, seed=0, stochastic=names
        )
        assert {name.split(".")[0] for name in trained.scales} == set(names), design


def test_bad_input_is_refused_in_a_line() -> None:
    with pytest.raises(ArgumentError, match=r"samples must be .* got 0"):
        eot_pgd(
            noisy(("7",)),
            IMAGES,
            LABELS,
            epsilon=0.1,
            steps=1,
            step_size=0.1,
            samples=0,
            generator=generator(),
        )
    with pytest.raises(ArgumentError, match="design must be one of det"):
        stochastic_layers("stoch+stok", cnn())
    with pytest.raises(ArgumentError, match=r"share must be .* at least 0, got -0\.1"):
        weight_noise(cnn(), -0.1)
    with pytest.raises(ArgumentError, match=r"prior_sd must be .* above 0"):
        train_map(cnn(), IMAGES, LABELS, prior_sd=0, epochs=1, seed=0)
    with pytest.raises(ArgumentError, match=r"prior_precision must be .* above 0"):
        fit_last_layer(cnn(), IMAGES, LABELS, prior_precision=-1)
    with pytest.raises(TrainingDiverged, match=r"epoch 2 of 2.*prior_sd 1"):
        train_map(
            cnn(), IMAGES, LABELS, prior_sd=1, epochs=2, seed=0, learning_rate=1e30
        )
    with pytest.raises(ArgumentError, match="severity must be"):
        interfere("blur", IMAGES, 6, generator())
    with pytest.raises(ArgumentError, match="kind must be one of Gaussian noise"):
        interfere("gaussian noise", IMAGES, 1, generator())
    with pytest.raises(ArgumentError, match="decay must be"):
        momentum(cnn(), IMAGES, LABELS, epsilon=0.1, steps=1, step_size=0.1, decay=-1)
    with pytest.raises(ValueError, match="clean must be"):
        auroc([], [1.0])


def test_log_mean_is_the_mean_of_probabilities() -> None:
    logs = torch.log_softmax(torch.randn(3, 4, 5, generator=generator()), -1)
    torch.testing.assert_close(log_mean(logs).exp(), logs.exp().mean(1))


@pytest.mark.parametrize(
    "layers", [("0",), ("2", "5"), ("5", "7"), ("7",), ("0", "2", "5", "7")]
)
def test_fast_predictions_are_those_of_every_network(layers: tuple[str, ...]) -> None:
    samples = noisy(layers).draw(3, generator(5))
    images = torch.rand(200, 1, 8, 8, generator=generator(6))
    before = {
        name: part.clone() for name, part in samples.architecture.state_dict().items()
    }
    expected = torch.stack(
        [torch.softmax(samples.network(row)(images), -1) for row in range(3)]
    )
    torch.testing.assert_close(
        sampled_probabilities(samples, images),
        expected,
        atol=1e-5,
        rtol=1e-4,
    )
    assert all(
        torch.equal(part, before[name])
        for name, part in samples.architecture.state_dict().items()
    )
