"""Posterior samples of drawn architectures against a loop of plain networks, and bounds
of them against points of the box.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustbook.bayes.mc_dropout import Dropout, train_dropout
from robustbook.bayes.mean_field import MeanField, noisy_logits, train_mean_field
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Empirical, as_posterior
from robustbook.bayes.weight_noise import weight_noise
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.checks import ArgumentError
from robustbook.measure.branch_and_bound import exact
from robustbook.measure.certificate import certify
from robustbook.measure.propagation import Box, Propagation, layers
from robustbook.measure.region_attack import attack, pgd
from robustbook.measure.verification import ball, pixel_box
from robustbook.models.training import Recipe
from robustbook.perturb.posterior import Sampled

SIDE, CLASSES, SAMPLES = 8, 3, 3
BOUNDED = (nn.Identity, nn.BatchNorm2d)
ANY = (*BOUNDED, nn.InstanceNorm2d)
MODES = st.sampled_from(["zeros", "reflect", "replicate", "circular"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(dtype: torch.dtype = torch.float32, count: int = 2) -> Tensor:
    return torch.rand(count, 2, SIDE, SIDE, generator=generator()).to(dtype)


class Halved(nn.Conv2d):
    """A convolution with a `forward` of its own."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / 2


@st.composite
def convolutions(draw) -> nn.Conv2d:
    return nn.Conv2d(
        2,
        4,
        draw(st.sampled_from([1, 3])),
        stride=draw(st.sampled_from([1, 2])),
        padding=draw(st.sampled_from([0, 1])),
        dilation=draw(st.sampled_from([1, 2])),
        groups=draw(st.sampled_from([1, 2])),
        bias=draw(st.booleans()),
        padding_mode=draw(MODES),
    )


@st.composite
def networks(draw, bounded: bool = False) -> nn.Sequential:
    """An architecture in eval mode, nested or not; with `bounded`, of layers that have
    bounds.
    """
    torch.manual_seed(draw(st.integers(0, 1000)))
    active = st.just(nn.ReLU)
    if not bounded:
        active = st.sampled_from([nn.ReLU, nn.ReLU, nn.GELU, nn.Tanh, nn.LeakyReLU])
    early: list[nn.Module] = []
    if draw(st.booleans()):
        early += [
            draw(convolutions()),
            draw(st.sampled_from(BOUNDED if bounded else ANY))(4),
        ]
        pools = [nn.Identity(), nn.AvgPool2d(2)]
        pools += [] if bounded else [nn.MaxPool2d(2, padding=1), nn.Dropout2d()]
        early += [draw(active)(), draw(st.sampled_from(pools))]
    early.append(nn.Flatten())
    with torch.no_grad():
        width = nn.Sequential(*early).eval()(pictures()).shape[1]
    late = [nn.Linear(width, 5, bias=draw(st.booleans())), draw(active)(), nn.Dropout()]
    parts = [nn.Sequential(*early), *late] if draw(st.booleans()) else [*early, *late]
    if draw(st.booleans()):
        parts = [*parts[:-3], nn.Sequential(*parts[-3:])]
    model = nn.Sequential(*parts, nn.Linear(5, CLASSES))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return model.to(draw(st.sampled_from([torch.float32, torch.float64]))).eval()


@st.composite
def drawn_samples(draw, bounded: bool = False) -> WeightSamples:
    """Samples whose first weights are shared, or that differ everywhere."""
    network = draw(networks(bounded))
    posterior = weight_noise(network, 0.3)
    if draw(st.booleans()):
        last = {name: part for name, part in posterior.scales.items() if part.dim() < 3}
        posterior = MeanField(network, posterior.means, last)
    return posterior.draw(SAMPLES, generator(draw(st.integers(0, 100))))


def plain_networks(samples: WeightSamples) -> list[nn.Module]:
    return [samples.network(row) for row in range(len(samples))]


def dtype_of(samples: WeightSamples) -> torch.dtype:
    return next(iter(samples.weights.values())).dtype


def log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    rows = labels.expand(len(logits), -1)[..., None]
    return logits.log_softmax(-1).gather(2, rows).squeeze(2)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# Samples and posteriors against a loop of networks
# --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(drawn_samples(), st.booleans(), st.booleans())
def test_logits_gradients_and_predictions_are_those_of_the_networks(
    samples, own, hook
) -> None:
    if hook:
        last = [*samples.architecture.modules()][-1]
        last.register_forward_hook(lambda *call: call[-1] * 2)
    samples.architecture.train()
    shape = (SAMPLES, *pictures().shape) if own else pictures().shape
    points = torch.rand(shape, generator=generator(1)).to(dtype_of(samples))
    labels = torch.tensor([1, 0])
    found = samples.evaluate(points, labels, log_probability)
    for row, network in enumerate(plain_networks(samples)):
        leaf = (points[row] if own else points).clone().requires_grad_()
        logits = network(leaf)
        close(found.logits[row], logits.detach())
        value = log_probability(logits[None], labels)[0]
        close(found.values[row], value.detach())
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        close(found.gradient[row], gradient)
    if not own:
        close(samples.logits(points), found.logits)
        close(sampled_probabilities(samples, points), found.logits.softmax(-1))
        module = Sampled(Empirical(samples), SAMPLES, generator())
        close(module(points), found.logits.log_softmax(-1).transpose(0, 1).detach())
    assert samples.architecture.training


@settings(max_examples=25, deadline=None)
@given(networks())
def test_noise_and_dropout_are_drawn_for_any_layers(network) -> None:
    means = {name: part.detach() for name, part in network.named_parameters()}
    tiny = {name: torch.full_like(part, 1e-7) for name, part in means.items()}
    images = pictures(next(network.parameters()).dtype)
    with torch.no_grad():
        expected = network(images)
        close(noisy_logits(network, means, tiny, images, generator()), expected)
    linear = [
        n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    drawn = Dropout(network, dict.fromkeys(linear, 0.5)).draw(200, generator())
    first = network.get_submodule(linear[0])
    kept = drawn.weights[f"{linear[0]}.weight"] / first.weight.detach()
    assert set(kept.unique().tolist()) <= {0.0, 2.0}
    groups = getattr(first, "groups", 1)
    # Outputs of one group lose the same inputs, those of two groups do not.
    by_group = kept.flatten(3)[..., :1] if kept.dim() > 3 else kept[..., None]
    by_group = by_group.unflatten(1, (groups, -1))
    assert (by_group == by_group[:, :, :1]).all()
    assert groups == 1 or (by_group[:, 0] != by_group[:, 1]).any()


@pytest.mark.parametrize("grouped", [False, True])
def test_a_dropped_channel_is_dropout_before_the_layer(grouped: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=2 if grouped else 1)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1), layer, nn.Flatten(), nn.Linear(4 * SIDE**2, 2)
    )
    samples = Dropout(network, {"1": 0.4}).draw(5, generator(2))
    ratio = samples.weights["1.weight"] / layer.weight.detach()
    scale = ratio[:, ::2, :, 0, 0].flatten(1) if grouped else ratio[:, 0, :, 0, 0]
    inner = network[0](pictures())
    for row in range(5):
        dropped = inner * scale[row][None, :, None, None]
        close(samples.logits(pictures())[row], network[2:](layer(dropped)).detach())


def test_training_reaches_into_containers_and_leaves_batch_norms_averages() -> None:
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Dropout()]
    inner = nn.Sequential(*parts)
    network = nn.Sequential(inner, nn.Flatten(), nn.Linear(108, CLASSES)).train()
    before = copy.deepcopy(network.state_dict())
    images, labels = pictures(count=12), torch.arange(12) % CLASSES
    with torch.no_grad():
        found = train_mean_field(
            network,
            images,
            labels,
            prior_sd=1,
            epochs=30,
            seed=0,
            learning_rate=3e-2,
            stochastic=("0.0", "0.1", "2"),
        )
    assert set(found.scales) == set(found.means)
    assert all(torch.equal(part, before[n]) for n, part in network.state_dict().items())
    assert network.training
    assert inner[3].training
    learned = sampled_probabilities(found.draw(20, generator()), images).mean(0)
    assert float((learned.argmax(1) == labels).float().mean()) > 0.8
    recipe = Recipe("natural", epochs=2, batch=4)
    dropped = train_dropout(network, images, labels, {"0.0": 0.1}, recipe, seed=0)
    assert repr(dropped.network) == repr(network)


# Your own samples
# --------------------------------------------------------------------------------------


def normed(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(108, 3),
    )
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    return network.eval()


def test_your_own_networks_are_a_posterior_with_averages_of_their_own() -> None:
    own = [normed(seed) for seed in range(3)]
    states = [network.state_dict() for network in own]
    expected = torch.stack([network(pictures()) for network in own]).detach()
    for posterior in (as_posterior(own), as_posterior(normed(9), states)):
        close(posterior.samples.logits(pictures()), expected)
        bound = certify(posterior.samples, ball(pictures(), 0.01))
        reached = pgd(
            posterior.samples, ball(pictures(), 0.01), steps=3, generator=generator()
        )
        assert (reached.margin <= bound.margin + 1e-5).all()
        assert len(posterior.draw(7, generator())) == 7
    assert len(as_posterior(own[0]).samples) == 1


class Residual(nn.Module):
    """A block that is added to what goes in."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        return images + self.block(images)


def various(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    early = nn.Sequential(Residual(), nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.5)))
    return nn.Sequential(early, nn.Flatten(), nn.Linear(32, 3))


def test_pooling_dropout_and_residual_sums_are_sampled_and_attacked() -> None:
    own = [various(seed) for seed in range(3)]
    arrays = [
        {name: value.numpy() for name, value in network.state_dict().items()}
        for network in own
    ]
    region = ball(pictures(), 0.3)
    for posterior in (as_posterior(own), as_posterior(various(9), arrays)):
        expected = torch.stack([each.eval()(pictures()) for each in own]).detach()
        close(posterior.samples.logits(pictures()), expected)
        reach = pgd(posterior.samples, region, steps=5, generator=generator())
        assert (reach.distance > 0.01).all()
        with pytest.raises(ArgumentError, match=r"Residual|Tanh|MaxPool2d"):
            certify(posterior.samples, region)


def test_means_and_deviations_from_arrays_are_a_gaussian_posterior() -> None:
    network = normed(0)
    means = {name: p.detach().numpy() for name, p in network.named_parameters()}
    scales = {"4.weight": 0.1 + 0 * means["4.weight"].astype("float64")}
    posterior = as_posterior(network, means=means, scales=scales)
    weights = posterior.draw(4000, generator()).weights["4.weight"]
    assert float(weights.std(0).mean()) == pytest.approx(0.1, rel=0.02)
    for wrong in ({"means": means}, {"scales": scales}):
        with pytest.raises(ArgumentError, match="must be both"):
            as_posterior(network, **wrong)
    with pytest.raises(ArgumentError, match="one network without states"):
        as_posterior([network], means=means, scales=scales)


def test_samples_that_do_not_fit_are_refused() -> None:
    other = copy.deepcopy(normed(0))
    other[2] = nn.Tanh()
    with pytest.raises(ArgumentError, match="of one architecture"):
        as_posterior([normed(0), other])
    with pytest.raises(ArgumentError, match="networks must be at least one"):
        as_posterior([])
    with pytest.raises(ArgumentError, match=r"states must be .* of the network"):
        as_posterior(normed(0), [{"0.weight": torch.zeros(1)}])
    with pytest.raises(ArgumentError, match="states must be None"):
        as_posterior([normed(0)], [normed(0).state_dict()])


# Bounds
# --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(drawn_samples(bounded=True), st.sampled_from([0.0, 0.03, 0.3]))
def test_bounds_contain_random_points_and_those_of_attacks(samples, epsilon) -> None:
    region = ball(pictures(dtype_of(samples)), epsilon)
    propagation = Propagation(samples, Box(region.low[None], region.high[None]))
    forms = torch.eye(CLASSES)
    boxes = [propagation.bound(forms, backward=False), propagation.bound(forms)]
    share = torch.rand(40, *region.images.shape, generator=generator(3)).to(region.low)
    share[:20] = share[:20].round()
    points = region.low + share * (region.high - region.low)
    logits = torch.stack([samples.logits(each) for each in points])
    for box in boxes:
        assert (logits >= box.lower - 1e-5).all()
        assert (logits <= box.upper + 1e-5).all()
    bounds = [certify(samples, region, method=how) for how in ("interval", "linear")]
    reached = pgd(samples, region, steps=4, generator=generator())
    for bound in bounds:
        assert (reached.margin <= bound.margin + 1e-5).all()
        assert (reached.distance <= bound.distance + 1e-5).all()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Tanh(),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.InstanceNorm2d(2),
        Halved(2, 2, 3),
        nn.Flatten(start_dim=2),
    ],
)
def test_layers_without_bounds_are_named_and_attacked_all_the_same(layer) -> None:
    torch.manual_seed(0)
    parts = [nn.Sequential(nn.Identity(), layer), nn.Flatten()]
    with torch.no_grad():
        width = nn.Sequential(*parts)(pictures()).shape[1]
    network = nn.Sequential(*parts, nn.Linear(width, 2))
    samples, region = stack([network, network]), pixel_box(pictures(), 0.1, ((1, 2),))
    for refused in (certify, exact, lambda samples, _: layers(samples)):
        with pytest.raises(ArgumentError, match=type(layer).__name__):
            refused(samples, region)
    reached = attack(samples, ball(pictures(), 0.1), steps=3, step_size=0.05)
    assert (reached.distance > 0).all()


def test_a_network_that_is_no_chain_is_attacked_and_refused_by_name() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2 * SIDE**2, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images.flatten(1)).tanh()

    samples = stack([Whole(), Whole()])
    reached = attack(samples, ball(pictures(), 0.1), steps=2, step_size=0.1)
    assert (reached.distance > 0).all()
    with pytest.raises(ArgumentError, match="Whole"):
        certify(samples, ball(pictures(), 0.1))
