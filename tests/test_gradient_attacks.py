"""Attacks stay where they must, do what their definitions say, and agree with
torchattacks and foolbox.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attack_networks import generator, random_network, trained
from robustbook.checks import ArgumentError
from robustbook.models.network import (
    Passes,
    accuracy,
    compute_logits,
    count_passes,
    frozen,
)
from robustbook.perturb.ascent import ascend, random_starts
from robustbook.perturb.carlini_wagner import carlini_wagner
from robustbook.perturb.gradient import (
    bim,
    cross_entropy,
    fgsm,
    margin,
    margin_pgd,
    pgd,
)
from robustbook.perturb.square import square_attack

Attack = Callable[[nn.Module, Tensor, Tensor, float], Tensor]

ATTACKS: dict[str, Attack] = {
    "fgsm": lambda m, x, y, e: fgsm(m, x, y, epsilon=e),
    "bim": lambda m, x, y, e: bim(m, x, y, epsilon=e, steps=4, step_size=e / 2),
    "pgd": lambda m, x, y, e: pgd(
        m, x, y, epsilon=e, steps=4, step_size=e / 2, generator=generator()
    ),
    "pgd restarts": lambda m, x, y, e: pgd(
        m,
        x,
        y,
        epsilon=e,
        steps=3,
        step_size=e,
        generator=generator(),
        restarts=3,
        stop_when_fooled=True,
        chunk=5,
    ),
    "margin": lambda m, x, y, e: margin_pgd(
        m, x, y, epsilon=e, steps=4, step_size=e / 2, generator=generator()
    ),
    "square attack": lambda m, x, y, e: square_attack(
        m, x, y, epsilon=e, queries=10, generator=generator()
    ),
}
IN_BALL = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


@IN_BALL
@settings(max_examples=15)
@given(seed=st.integers(0, 50), epsilon=st.floats(0, 1.2), count=st.integers(1, 7))
def test_attacks_stay_in_the_ball_and_in_the_pixel_range(
    attack: Attack, seed: int, epsilon: float, count: int
) -> None:
    images = torch.rand(count, 1, 4, 4, generator=generator(seed)).round(decimals=1)
    labels = torch.randint(4, (count,), generator=generator(seed))
    adversarial = attack(random_network(seed), images, labels, epsilon)
    assert adversarial.shape == images.shape
    assert adversarial.dtype == images.dtype
    assert float((adversarial - images).abs().max()) <= epsilon + 1e-6
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1


@IN_BALL
@pytest.mark.parametrize("training", [True, False])
def test_attacks_leave_mode_gradients_and_inputs_as_they_were(
    attack: Attack, training: bool
) -> None:
    model = random_network(3).train(training)
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[2].weight.grad = torch.ones_like(model[2].weight)
    images, labels = (
        torch.rand(3, 1, 4, 4, generator=generator()),
        torch.tensor([0, 1, 2]),
    )
    before = images.clone()
    attack(model, images, labels, 0.1)
    assert model.training is training
    assert model[0].training is training
    assert not model[1].training
    assert [parameter.requires_grad for parameter in model.parameters()] == [False] + [
        True
    ] * 5
    assert torch.equal(model[2].weight.grad, torch.ones_like(model[2].weight))
    assert all(
        parameter.grad is None
        for name, parameter in model.named_parameters()
        if name != "2.weight"
    )
    assert torch.equal(images, before)
    assert not images.requires_grad


def test_frozen_freezes_and_restores() -> None:
    model = random_network(0).train()
    with frozen(model):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_attack_that_fails_restores_the_model() -> None:
    model = random_network(0).train()
    with pytest.raises(ArgumentError, match="labels must be from 0 to 3"):
        bim(
            model,
            torch.rand(1, 1, 4, 4),
            torch.tensor([9]),
            epsilon=0.1,
            steps=1,
            step_size=0.1,
        )
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_fgsm_of_a_linear_network_moves_against_the_own_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, -2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    images = torch.full((1, 1, 2, 2), 0.5)
    moved = fgsm(model, images, torch.tensor([0]), epsilon=0.25) - images
    assert torch.equal(moved.flatten(), torch.tensor([-0.25, 0.25, -0.25, 0.0]))


def test_margin_and_its_sign() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.5]])
    assert torch.equal(margin(logits, torch.tensor([0, 2])), torch.tensor([-1.0, 0.5]))


def test_each_image_has_its_own_radius() -> None:
    model, images, labels = trained()
    epsilon = torch.linspace(0, 0.2, len(images))
    together = bim(
        model, images, labels, epsilon=epsilon, steps=3, step_size=epsilon / 2
    )
    alone = bim(model, images[-1:], labels[-1:], epsilon=0.2, steps=3, step_size=0.1)
    assert torch.equal(together[0], images[0])
    torch.testing.assert_close(together[-1:], alone)


def test_the_chunk_changes_nothing() -> None:
    model, images, labels = trained("cnn")
    runs = [
        pgd(
            model,
            images,
            labels,
            epsilon=0.1,
            steps=3,
            step_size=0.05,
            generator=generator(),
            chunk=chunk,
        )
        for chunk in (7, 48, 1000)
    ]
    for run in runs[1:]:
        assert float((run - runs[0]).abs().gt(1e-5).float().mean()) < 0.001


def test_more_restarts_never_lower_the_loss_nor_raise_the_accuracy() -> None:
    model, images, labels = trained()

    def attacked(restarts: int) -> tuple[Tensor, Tensor]:
        points = pgd(
            model,
            images,
            labels,
            epsilon=0.07,
            steps=3,
            step_size=0.03,
            generator=generator(4),
            restarts=restarts,
        )
        logits = compute_logits(model, points)
        return logits.argmax(dim=1) != labels, cross_entropy(logits, labels)

    fooled, loss = attacked(1)
    improved = False
    for restarts in (2, 4, 8):
        now_fooled, now_loss = attacked(restarts)
        assert bool((now_fooled >= fooled).all())
        same = now_fooled == fooled
        assert bool((now_loss[same] >= loss[same] - 1e-6).all())
        improved |= bool((now_loss > loss + 1e-4).any())
        fooled, loss = now_fooled, now_loss
    assert improved


@pytest.mark.parametrize("restarts", [1, 3])
def test_stopping_early_fools_every_image_that_the_whole_run_fools(
    restarts: int,
) -> None:
    model, images, labels = trained()
    settings_ = dict(
        epsilon=0.07, steps=10, step_size=0.02, restarts=restarts, chunk=16
    )
    whole = pgd(model, images, labels, **settings_, generator=generator())
    with count_passes(model) as counter:
        early = pgd(
            model,
            images,
            labels,
            **settings_,
            generator=generator(),
            stop_when_fooled=True,
        )
    fooled_whole = compute_logits(model, whole).argmax(dim=1) != labels
    fooled_early = compute_logits(model, early).argmax(dim=1) != labels
    assert 0 < int(fooled_whole.sum()) < len(images)
    assert bool((fooled_early >= fooled_whole).all())
    assert counter.passes.backward < restarts * 10 * len(images)


def test_stopping_early_leaves_an_image_at_the_first_misclassified_point() -> None:
    model, images, labels = trained()
    wrong = (labels + 1) % 10
    starts = random_starts(images, 0.05, generator()).clamp(0, 1)
    early = pgd(
        model,
        images,
        wrong,
        epsilon=0.05,
        steps=5,
        step_size=0.01,
        generator=generator(),
        stop_when_fooled=True,
    )
    torch.testing.assert_close(early, starts)


@settings(max_examples=10)
@given(count=st.integers(1, 9), steps=st.integers(0, 4), restarts=st.integers(1, 3))
def test_pgd_costs_what_it_says(count: int, steps: int, restarts: int) -> None:
    model = random_network(2)
    images, labels = torch.rand(count, 1, 4, 4), torch.zeros(count, dtype=torch.long)
    with count_passes(model) as counter:
        pgd(
            model,
            images,
            labels,
            epsilon=0.1,
            steps=steps,
            step_size=0.1,
            generator=generator(),
            restarts=restarts,
        )
    comparison = count * restarts if restarts > 1 else 0
    assert counter.passes == Passes(
        count * steps * restarts + comparison, count * steps * restarts
    )


def test_an_observer_sees_the_start_every_step_and_the_end() -> None:
    model, images, labels = trained()
    seen: list[Tensor] = []

    def observe(rows: Tensor, points: Tensor, logits: Tensor, values: Tensor) -> None:
        torch.testing.assert_close(
            values, cross_entropy(compute_logits(model, points), labels[rows])
        )
        seen.append(points.clone())

    end = ascend(
        model,
        images,
        labels,
        cross_entropy,
        epsilon=0.1,
        steps=3,
        step_size=0.05,
        observe=observe,
        chunk=100,
    )
    assert len(seen) == 4
    assert torch.equal(seen[0], images)
    assert torch.equal(seen[-1], end)
    assert float((seen[2] - seen[1]).abs().max()) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(epsilon=-0.1),
        dict(step_size=-1.0),
        dict(steps=-1),
        dict(restarts=0),
        dict(epsilon=float("nan")),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    model, images, labels = trained()
    arguments = dict(epsilon=0.1, steps=1, step_size=0.1, restarts=1) | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        pgd(model, images, labels, generator=generator(), **arguments)


def test_images_outside_the_pixel_range_are_refused() -> None:
    model, images, labels = trained()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        fgsm(model, images * 2, labels, epsilon=0.1)


def test_carlini_wagner_finds_the_nearest_point_of_a_linear_boundary() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    model[1].bias.data = torch.tensor([-1.0, 0.0])
    images = torch.full((1, 1, 2, 2), 0.5)
    distance = 0.25 / 6.25**0.5
    found = carlini_wagner(model, images, torch.tensor([0]), steps=300, searches=8)
    assert bool((compute_logits(model, found).argmax(dim=1) != 0).all())
    assert float((found - images).norm()) == pytest.approx(distance, rel=0.03)
    assert float((found - images).norm()) >= distance - 1e-5


def test_carlini_wagner_leaves_what_it_cannot_fool_and_the_model_as_it_was() -> None:
    model = random_network(0).train()
    model[-1].weight.data.zero_()
    model[-1].bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
    images = torch.rand(2, 1, 4, 4, generator=generator())
    found = carlini_wagner(
        model, images, torch.zeros(2, dtype=torch.long), steps=5, searches=2
    )
    assert torch.equal(found, images)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_square_attack_breaks_a_network_whose_gradient_is_masked() -> None:
    model, images, labels = trained()
    masked = nn.Sequential(*model[:-1], nn.Linear(128, 10)).eval()
    masked[-1].weight.data, masked[-1].bias.data = (
        model[-1].weight.data * 1e4,
        model[-1].bias.data * 1e4,
    )
    blind = fgsm(masked, images, labels, epsilon=0.15)
    searched = square_attack(
        masked, images, labels, epsilon=0.15, queries=300, generator=generator()
    )
    assert accuracy(masked, images, labels) == 1
    assert accuracy(masked, searched, labels) < accuracy(masked, blind, labels) - 0.3


def _same_pixels(ours: Tensor, theirs: Tensor) -> bool:
    """Whether they are equal but for pixels whose gradient is zero up to rounding,
    where the sign is anyone's.
    """
    differing = (ours - theirs).abs() > 1e-5
    return float(differing.float().mean()) < 0.002


@pytest.mark.peer
@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_equal_to_torchattacks(architecture: str) -> None:
    import torchattacks

    model, images, labels = trained(architecture)
    assert _same_pixels(
        fgsm(model, images, labels, epsilon=0.06),
        torchattacks.FGSM(model, eps=0.06)(images, labels),
    )
    assert _same_pixels(
        bim(model, images, labels, epsilon=0.06, steps=7, step_size=0.015),
        torchattacks.BIM(model, eps=0.06, alpha=0.015, steps=7)(images, labels),
    )
    torch.manual_seed(5)
    theirs = torchattacks.PGD(model, eps=0.06, alpha=0.015, steps=7)(images, labels)
    ours = pgd(
        model,
        images,
        labels,
        epsilon=0.06,
        steps=7,
        step_size=0.015,
        generator=generator(5),
    )
    assert _same_pixels(ours, theirs)
    assert float((ours - images).abs().max()) > 0.05


@pytest.mark.peer
@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_equal_to_foolbox(architecture: str) -> None:
    import foolbox

    model, images, labels = trained(architecture)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, _ = foolbox.attacks.FGSM()(wrapped, images, labels, epsilons=0.06)
    assert _same_pixels(fgsm(model, images, labels, epsilon=0.06), theirs)
    attack = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.015, steps=7)
    _, theirs, _ = attack(wrapped, images, labels, epsilons=0.06)
    assert _same_pixels(
        bim(model, images, labels, epsilon=0.06, steps=7, step_size=0.015), theirs
    )
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.015, steps=7, random_start=False)
    _, theirs, _ = attack(wrapped, images, labels, epsilons=0.06)
    assert _same_pixels(
        ascend(
            model,
            images,
            labels,
            cross_entropy,
            epsilon=0.06,
            steps=7,
            step_size=0.015,
            starts=images,
        ),
        theirs,
    )


@pytest.mark.peer
def test_carlini_wagner_comes_as_close_as_foolbox_and_closer_than_torchattacks() -> (
    None
):
    import foolbox
    import torchattacks

    model, images, labels = trained()
    images, labels = images[:16], labels[:16]
    ours = carlini_wagner(model, images, labels, steps=100, searches=5)
    assert accuracy(model, ours, labels) == 0
    norm = (ours - images).flatten(1).norm(dim=1)
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=5,
        steps=100,
        initial_const=1e-2,
        stepsize=0.01,
        abort_early=False,
    )
    _, theirs, _ = attack(
        foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"),
        images,
        labels,
        epsilons=None,
    )
    torch.testing.assert_close(
        norm, (theirs - images).flatten(1).norm(dim=1), rtol=0.03, atol=0
    )
    single = torchattacks.CW(model, c=1, steps=100, lr=0.01)(images, labels)
    assert (
        float(norm.mean())
        <= float((single - images).flatten(1).norm(dim=1).mean()) + 1e-4
    )


def test_a_scaled_loss_gives_the_same_steps() -> None:
    model, images, labels = trained()

    def scaled(logits: Tensor, targets: Tensor) -> Tensor:
        return 8 * F.cross_entropy(logits, targets, reduction="none")

    first = ascend(model, images, labels, scaled, epsilon=0.06, steps=3, step_size=0.02)
    assert torch.equal(
        first, bim(model, images, labels, epsilon=0.06, steps=3, step_size=0.02)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [dict(), dict(stride=2, padding=1), dict(stride=3, padding=2, dilation=2)],
)
def test_the_fast_gradient_of_few_channels_is_the_gradient(
    channels: int, options: dict[str, int]
) -> None:
    layer = nn.Conv2d(channels, 5, 4, **options).double()
    model = nn.Sequential(layer, nn.Flatten())
    images = torch.rand(
        2,
        channels,
        11,
        9,
        generator=generator(),
        dtype=torch.float64,
        requires_grad=True,
    )
    weight = torch.randn(
        model(images).shape, generator=generator(), dtype=torch.float64
    )
    (expected,) = torch.autograd.grad(model(images), images, weight)
    with frozen(model):
        assert "forward" in layer.__dict__
        (found,) = torch.autograd.grad(model(images), images, weight)
    assert "forward" not in layer.__dict__
    torch.testing.assert_close(found, expected)


class Standardised(nn.Conv2d):
    """A weight-standardised convolution: a subclass with its own `forward`."""

    def forward(self, images: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(images, weight, self.bias)


def _halved(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    return output / 2


def _dimmed(_layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] / 2,)


def _with_own_forward(layer: nn.Conv2d) -> nn.Conv2d:
    plain = layer.forward
    layer.forward = lambda images: 2 * plain(images)
    return layer


def _hooked(layer: nn.Conv2d, register: str, hook: Callable[..., object]) -> nn.Conv2d:
    getattr(layer, register)(hook)
    return layer


DISGUISES: dict[str, Callable[[nn.Conv2d], nn.Module]] = {
    "plain": lambda layer: layer,
    "own forward": _with_own_forward,
    "forward hook": lambda c: _hooked(c, "register_forward_hook", _halved),
    "pre hook": lambda c: _hooked(c, "register_forward_pre_hook", _dimmed),
    "weight norm": lambda c: nn.utils.parametrizations.weight_norm(c),
    "weight norm by hook": lambda c: nn.utils.weight_norm(c),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("kind", [nn.Conv2d, Standardised])
@pytest.mark.parametrize("disguise", DISGUISES)
@example(
    padding_mode="zeros",
    padding=1,
    stride=1,
    dilation=1,
    groups=1,
    channels=2,
    bias=True,
    activation=nn.ReLU,
    dtype=torch.float32,
)
@example(
    padding_mode="zeros",
    padding=1,
    stride=1,
    dilation=1,
    groups=2,
    channels=2,
    bias=True,
    activation=nn.ReLU,
    dtype=torch.float32,
)
@settings(max_examples=20)
@given(
    padding_mode=st.sampled_from(["zeros", "circular", "reflect", "replicate"]),
    padding=st.sampled_from([0, 1, (2, 1), "same", "valid"]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    channels=st.sampled_from([2, 4, 6]),
    bias=st.booleans(),
    activation=st.sampled_from([nn.ReLU, nn.GELU, nn.Tanh]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_frozen_network_computes_what_the_network_computes(
    padding_mode: str,
    padding: int | tuple[int, int] | str,
    stride: int,
    dilation: int,
    groups: int,
    channels: int,
    bias: bool,
    activation: type[nn.Module],
    dtype: torch.dtype,
    kind: type[nn.Conv2d],
    disguise: str,
) -> None:
    torch.manual_seed(0)
    layer = kind(
        channels,
        4,
        3,
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
        padding_mode=padding_mode,
    )
    model = nn.Sequential(
        DISGUISES[disguise](layer), activation(), nn.Flatten(), nn.LazyLinear(3)
    ).to(dtype)
    images = torch.rand(2, channels, 9, 8, generator=generator()).to(dtype)
    expected, plain = _logits_and_gradient(model, images)
    with frozen(model):
        found, fast = _logits_and_gradient(model, images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(compute_logits(model, images), expected)


def _logits_and_gradient(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone().requires_grad_()
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits.square().sum(), leaf)
    return logits.detach(), gradient


def test_a_float64_image_keeps_its_type_and_its_ball_in_a_float32_network() -> None:
    model, images, labels = trained()
    fine = images.double() * 0.999
    moved = fgsm(model, fine, labels, epsilon=0.1)
    assert moved.dtype == torch.float64
    assert float((moved - fine).abs().max()) <= 0.1 + 1e-15
    double = pgd(
        copy.deepcopy(model).double(),
        fine,
        labels,
        epsilon=0.1,
        steps=3,
        step_size=0.05,
        generator=generator(),
    )
    assert double.dtype == torch.float64


@IN_BALL
def test_attacks_work_where_autograd_is_off_and_on_images_in_a_graph(
    attack: Attack,
) -> None:
    model, images, labels = trained()
    expected = attack(model, images, labels, 0.05)
    with torch.no_grad():
        assert torch.equal(attack(model, images, labels, 0.05), expected)
    found = attack(model, images.clone().requires_grad_(), labels, 0.05)
    assert torch.equal(found, expected)
    assert not found.requires_grad


class Unknown(nn.Module):
    """Makes every logit NaN."""

    def forward(self, logits: Tensor) -> Tensor:
        """`logits` (N, K)."""
        return logits * torch.nan


@IN_BALL
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m, x, y: (m, 255 * x, y), "images"),
        (lambda m, x, y: (m, (255 * x).to(torch.uint8), y), "images"),
        (lambda m, x, y: (m, x * torch.nan, y), "images"),
        (lambda m, x, y: (m, x[0], y), "images"),
        (lambda m, x, y: (m, x, y[:, None]), "labels"),
        (lambda m, x, y: (m, x, F.one_hot(y, 10)), "labels"),
        (lambda m, x, y: (m, x, y + 10), "labels"),
        (lambda m, x, y: (m, x, y.float()), "labels"),
        (lambda m, x, y: (nn.Sequential(m, nn.Linear(10, 1)), x, y), "the output of"),
        (lambda m, x, y: (nn.Sequential(m, Unknown()), x, y), "the output of"),
        (lambda m, x, y: (torch.sum, x, y), "model"),
    ],
)
def test_attacks_refuse_what_is_no_network_image_or_label(
    attack: Attack, change: Callable[..., tuple[nn.Module, Tensor, Tensor]], named: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^{named} "):
        attack(*change(*trained()), 0.05)
    with pytest.raises(ArgumentError, match=r"^epsilon "):
        attack(*trained(), -0.05)
