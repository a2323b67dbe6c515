"""Fast paths against the plain computation, over drawn layers: windows, folded copies,
gates, the removal oracle and curvature.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustbook.checks import ArgumentError
from robustbook.measure import importance, oracle, saliency
from robustbook.measure.importance import gated
from robustbook.measure.windowed_occlusion import windowed_occlusion
from robustbook.models.folded import fold, unroll
from robustbook.models.gated import with_gates
from robustbook.models.prunable import Gate, Group, Prunable, Standardise
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.pruning import all_alive, lowest, masked, removed

SIDE = 16
MODES = st.sampled_from(["zeros", "reflect", "replicate", "circular"])
ACTIVATIONS = st.sampled_from([nn.ReLU, nn.GELU, nn.Tanh, nn.LeakyReLU])


@st.composite
def convolutions(draw, inputs: int, outputs: int, grouped: bool = True) -> nn.Conv2d:
    groups = inputs if grouped and outputs % inputs == 0 and draw(st.booleans()) else 1
    return nn.Conv2d(
        inputs,
        outputs,
        draw(st.sampled_from([1, 2, 3])),
        stride=draw(st.sampled_from([1, 2])),
        padding=draw(st.sampled_from([0, 1])),
        dilation=draw(st.sampled_from([1, 2])),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(MODES),
    )


@st.composite
def networks(draw) -> tuple[nn.Sequential, torch.dtype]:
    torch.manual_seed(draw(st.integers(0, 1000)))
    norm = draw(st.sampled_from([nn.BatchNorm2d, nn.InstanceNorm2d, nn.Identity]))
    pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
    early = [draw(convolutions(3, 6)), norm(6), draw(ACTIVATIONS)()]
    early.append(pool(2, stride=1, padding=1))
    late = [draw(convolutions(6, 4)), draw(ACTIVATIONS)(), nn.Dropout()]
    end = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4)]
    layers = [nn.Sequential(*early), *late] if draw(st.booleans()) else [*early, *late]
    model = nn.Sequential(*layers, *end)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return model.to(dtype), dtype


def pictures(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, SIDE, SIDE, generator=generator).to(dtype)


@settings(max_examples=40, deadline=None)
@given(networks(), st.booleans())
def test_windows_folded_and_unrolled_copies_are_the_network(drawn, hook) -> None:
    model, dtype = drawn
    images, targets = pictures(dtype), torch.tensor([1, 3])
    if hook:
        convolution = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        convolution.register_forward_hook(lambda *call: call[-1] * 2)
    modes = [layer.training for layer in model.modules()]
    request = {"window": 3, "stride": 2, "chunk": 5}
    black = torch.zeros_like(images)
    with torch.no_grad():
        plain = saliency.occlusion(model, images, targets, black, **request)
        found = windowed_occlusion(model, images, targets, black, **request)
        assert modes == [layer.training for layer in model.modules()]
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
        expected = model.eval()(images)
        for copied in (fold(model), unroll(fold(model), images)):
            torch.testing.assert_close(copied(images), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_gates_removal_and_the_oracle_are_full_passes(data) -> None:
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    norm = data.draw(st.sampled_from([nn.BatchNorm2d, nn.Identity]))
    plain = nn.Sequential(
        nn.Sequential(data.draw(convolutions(3, 5, False)), norm(5), nn.ReLU()),
        nn.MaxPool2d(2, stride=1),
        data.draw(convolutions(5, 4, False)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    ).eval()
    images, labels = pictures(torch.float32), torch.tensor([0, 2])
    model = with_gates(plain)
    assert [group.units for group in model.groups] == [5, 4, 6]
    found = oracle.removal_losses(model.eval(), images, labels)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))
        for unit in range(model.units):
            alive = all_alive(model)
            alive[unit] = False
            with masked(model, alive):
                expected = cross_entropy(model(images), labels)
            torch.testing.assert_close(found.without[:, unit], expected)
            smaller = removed(model, alive)
            torch.testing.assert_close(cross_entropy(smaller(images), labels), expected)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_the_oracle_knows_padding_modes(mode: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 3, 3, padding=1, padding_mode=mode)
    children = {
        "first": nn.Conv2d(3, 4, 3),
        "gate": Gate(4),
        "second": layer,
        "mean": nn.AdaptiveAvgPool2d(2),
        "flatten": nn.Flatten(),
        "last": nn.Linear(12, 3),
    }
    group = Group("first", "gate", 4, ("first",), (), ("second",))
    model = Prunable(children, [group]).eval()
    images, labels = pictures(torch.float32), torch.tensor([0, 2])
    subsets = oracle.all_subsets(model, images, labels, group)
    for code in range(16):
        kept = oracle.kept_units(torch.tensor([code]), 4)[0]
        with gated(model, kept), torch.no_grad():
            expected = cross_entropy(model(images), labels).mean()
        torch.testing.assert_close(subsets[code], expected)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh, nn.LeakyReLU])
def test_curvature_is_the_hessians_diagonal_with_any_activation(activation) -> None:
    torch.manual_seed(0)
    children = {
        "standardise": Standardise([0.0], [1 / 3]),
        "flatten": nn.Flatten(),
        "first": nn.Linear(6, 5),
        "gate": Gate(5),
        "second": nn.Linear(5, 7),
        "active": activation(),
        "last": nn.Linear(7, 3),
    }
    model = Prunable(children, [Group("first", "gate", 5, ("first",), (), ("second",))])
    images, labels = torch.rand(8, 1, 2, 3), torch.arange(8) % 3

    def loss_of(gates: Tensor) -> Tensor:
        with gated(model, gates):
            return cross_entropy(model(images), labels).mean()

    hessian = torch.autograd.functional.hessian(loss_of, torch.ones(5))
    found = importance.curvature_diagonal(model, images, labels, chunk=3)
    torch.testing.assert_close(found, hessian.diagonal(), rtol=1e-4, atol=1e-6)


class Standardised(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / 2


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ((nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)), "layer 0"),
        ((nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2)), "layer 2"),
        ((nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), "2"),
        ((nn.Conv2d(3, 4, 3), nn.ReLU(), Standardised(4, 2, 1)), "layer 2"),
        ((nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(8, 2)), "layer 2"),
        ((nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), "with a ReLU"),
    ],
)
def test_layers_whose_units_cannot_be_gated_are_named(layers, named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        with_gates(nn.Sequential(*layers))


@pytest.mark.parametrize("count", [-1, 2.5, True])
def test_a_count_of_units_is_a_whole_number(count) -> None:
    model = with_gates(nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2)))
    with pytest.raises(ArgumentError, match="count must be a whole number, at least 0"):
        lowest(model, torch.rand(16), count, all_alive(model))
