"""Scores against finite differences, closed forms, the batch-norm identity and
a peer.
"""

import pytest
import torch
from torch import nn

from prunable_networks import SHAPES, batch, network
from robustbook.checks import ArgumentError
from robustbook.measure import importance
from robustbook.measure.importance import (
    CRITERIA,
    Evidence,
    ImportanceError,
    gate_gradients,
    gated,
    score,
)
from robustbook.models.prunable import Gate, Group, Prunable
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.pruning import all_alive, masked


def mean_loss(model, images, labels, gates):
    with gated(model, gates), torch.no_grad():
        return cross_entropy(model(images), labels).mean()


def finite_differences(model, images, labels, unit, step):
    up, down = (
        torch.ones(model.units, dtype=images.dtype),
        torch.ones(model.units, dtype=images.dtype),
    )
    up[unit] += step
    down[unit] -= step
    middle = mean_loss(
        model, images, labels, torch.ones(model.units, dtype=images.dtype)
    )
    above, below = (
        mean_loss(model, images, labels, up),
        mean_loss(model, images, labels, down),
    )
    return (above - below) / (2 * step), (above - 2 * middle + below) / step**2


def double(name):
    images, labels = batch(name)
    return network(name).double(), images.double(), labels


@pytest.mark.parametrize("name", SHAPES)
def test_gate_gradient_is_the_finite_difference_of_the_loss(name):
    model, images, labels = double(name)
    gradient = gate_gradients(model, images, labels, chunk=5).mean(dim=0)
    for unit in range(0, model.units, max(1, model.units // 12)):
        expected, _ = finite_differences(model, images, labels, unit, 1e-6)
        torch.testing.assert_close(gradient[unit], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["lenet3", "vgg", "resnet20"])
def test_curvature_is_the_second_difference_of_the_loss(name):
    model, images, labels = double(name)
    diagonal = importance.curvature_diagonal(model, images, labels, chunk=5)
    for unit in range(0, model.units, max(1, model.units // 12)):
        _, expected = finite_differences(model, images, labels, unit, 1e-5)
        torch.testing.assert_close(diagonal[unit], expected, rtol=1e-2, atol=2e-5)


def test_curvature_row_and_diagonal_are_those_of_the_full_hessian():
    model, (images, labels) = network("lenet3"), batch("lenet3")

    def loss_of(gates):
        with gated(model, gates):
            return cross_entropy(model(images), labels).mean()

    hessian = torch.autograd.functional.hessian(loss_of, torch.ones(model.units))
    close = {"rtol": 1e-3, "atol": 1e-6}
    torch.testing.assert_close(
        importance.curvature_row(model, images, labels, chunk=5),
        hessian.sum(dim=1),
        **close,
    )
    torch.testing.assert_close(
        importance.curvature_diagonal(model, images, labels),
        hessian.diagonal(),
        **close,
    )
    unit = torch.eye(model.units)[17]
    product = importance.hessian_vector_product(model, images, labels, unit)
    torch.testing.assert_close(product, hessian[17], **close)


def linear_network(units=5, outputs=3):
    torch.manual_seed(0)
    children = {
        "flatten": nn.Flatten(),
        "hidden": nn.Linear(4, units),
        "gate": Gate(units),
        "classifier": nn.Linear(units, outputs),
    }
    return Prunable(
        children, [Group("hidden", "gate", units, ("hidden",), (), ("classifier",))]
    )


def squared_loss(logits, labels):
    return (logits - nn.functional.one_hot(labels, logits.shape[1])).square().sum(dim=1)


def linear_loss(logits, labels):
    return logits.gather(1, labels[:, None]).squeeze(1)


def change_without(model, inputs, labels, loss):
    changes = []
    for unit in range(model.units):
        alive = all_alive(model)
        alive[unit] = False
        with torch.no_grad():
            full = loss(model(inputs), labels).mean()
            with masked(model, alive):
                changes.append((full - loss(model(inputs), labels).mean()).square())
    return torch.stack(changes)


def test_first_order_is_exact_for_a_linear_loss_and_second_order_for_a_quadratic_one():
    model, inputs, labels = (
        linear_network(),
        torch.rand(30, 1, 2, 2),
        torch.randint(3, (30,)),
    )
    seen = Evidence(
        model, inputs, labels, batch=30, generator=torch.Generator(), loss=linear_loss
    )
    torch.testing.assert_close(
        score("taylor-fo", seen), change_without(model, inputs, labels, linear_loss)
    )
    seen = Evidence(
        model, inputs, labels, batch=30, generator=torch.Generator(), loss=squared_loss
    )
    exact = change_without(model, inputs, labels, squared_loss)
    torch.testing.assert_close(score("taylor-so", seen), exact, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(score("taylor-fo", seen), exact, rtol=1e-2)
    # The published formula's full row is another number, although it is exact for
    # removing all units.
    assert not torch.allclose(score("taylor-so row", seen), exact, rtol=1e-2)


@pytest.mark.parametrize("name", ["vgg", "preact-resnet", "resnet20"])
def test_batch_norm_identity_gives_the_gate_s_gradient(name):
    model, (images, labels) = network(name), batch(name)
    gradient = gate_gradients(model, images, labels)
    terms = importance.norm_terms(model, images, labels, batch=4)
    torch.testing.assert_close(
        terms, gradient.unflatten(0, (3, 4)).mean(dim=1), rtol=0, atol=1e-6
    )
    assert all(
        parameter.grad is None and parameter.requires_grad
        for parameter in model.parameters()
    )


def test_weight_sums_give_the_gate_s_gradient_in_a_relu_network():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    terms = importance.weight_terms(model, images, labels, batch=12)
    gradient = gate_gradients(model, images, labels).mean(dim=0, keepdim=True)
    torch.testing.assert_close(terms.sums, gradient, rtol=0, atol=1e-6)


def test_a_gate_before_batch_norm_in_training_mode_has_no_gradient():
    model, (images, labels) = network("vgg"), batch("vgg")
    model.train()
    nn.functional.cross_entropy(model(images), labels).backward()
    weight = model.get_submodule("conv2").weight
    in_training = (weight * weight.grad).flatten(1).sum(1).abs().max()
    sums = importance.weight_terms(model.eval(), images, labels, batch=12).sums
    assert in_training < 0.1 * model.split(sums)["conv2"].abs().max()


def test_mini_batches_are_squared_before_they_are_averaged():
    gradients = torch.tensor([[1.0], [-1.0], [3.0], [1.0], [9.0]])
    assert importance.first_order(gradients, batch=2).item() == pytest.approx(
        (0 + 4) / 2
    )
    assert importance.first_order(gradients).item() == pytest.approx(2.6**2)
    assert (
        importance.first_order(gradients, batch=1).item()
        == importance.per_example(gradients).item()
    )
    assert importance.taylor_output(
        gradients, torch.tensor([5.0])
    ).item() == pytest.approx(3 / 5)


def test_taylor_output_is_activation_times_gradient():
    model, (images, labels) = network("vgg"), batch("vgg")
    kept = []
    handle = model.get_submodule("gate1").register_forward_hook(
        lambda gate, inputs, output: kept.append(output)
    )
    loss = cross_entropy(model(images), labels).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, kept[0])
    expected = (kept[0] * gradient).flatten(2).mean(dim=2).abs().mean(dim=0)
    seen = Evidence(model, images, labels, batch=12, generator=torch.Generator())
    torch.testing.assert_close(
        model.split(score("taylor output", seen))["conv1"], expected.detach()
    )


def test_normalising_by_layer_gives_every_layer_length_one():
    model = network("lenet3")
    parts = model.split(
        importance.normalised_by_layer(model, torch.rand(model.units) + 0.1)
    ).values()
    assert all(part.norm().item() == pytest.approx(1, abs=1e-5) for part in parts)
    assert (
        importance.normalised_by_layer(model, torch.zeros(model.units)).isfinite().all()
    )


def test_all_criteria_give_one_finite_score_a_unit():
    model, (images, labels) = network("preact-resnet"), batch("preact-resnet")
    seen = Evidence(
        model, images, labels, batch=6, generator=torch.Generator().manual_seed(0)
    )
    scores = {name: score(name, seen) for name in CRITERIA}
    assert all(values.shape == (model.units,) for values in scores.values())
    torch.testing.assert_close(
        scores["bn taylor"], scores["taylor-fo"], rtol=1e-3, atol=1e-9
    )


def test_what_cannot_be_scored_is_named():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    seen = Evidence(model, images, labels, batch=6, generator=torch.Generator())
    with pytest.raises(
        ImportanceError,
        match="batch-norm scale needs a batch-norm behind every unit, and 'conv1'",
    ):
        score("bn-scale", seen)
    with pytest.raises(
        ImportanceError, match="batch-norm form of the Taylor score needs"
    ):
        score("bn taylor", seen)
    with pytest.raises(ArgumentError, match=r"criterion must be .* got taylor$"):
        score("taylor", seen)
    model.get_submodule("linear1").weight.data[7] = torch.nan
    with pytest.raises(ArgumentError, match="the output of model must be finite"):
        score("taylor-fo", seen)
    with pytest.raises(
        ImportanceError, match="weight-norm of unit 7 of 'linear1' is nan"
    ):
        score("weight-norm", seen)


@pytest.mark.peer
def test_weight_scores_agree_with_torch_pruning():
    """The peer's Taylor score of a filter is |sum of w g|; its magnitude score is the
    squared norm.
    """
    import torch_pruning

    model, (images, labels) = network("vgg"), batch("vgg")
    cross_entropy(model(images), labels).mean().backward()
    graph = torch_pruning.DependencyGraph().build_dependency(
        model, example_inputs=images[:1]
    )
    layer = model.get_submodule("conv3")
    group = graph.get_pruning_group(
        layer,
        torch_pruning.prune_conv_out_channels,
        idxs=list(range(layer.out_channels)),
    )
    only_layer = [
        torch_pruning.importance.GroupMagnitudeImportance(
            p=2, group_reduction="first", normalizer=None, target_types=[nn.Conv2d]
        )(group)
    ]
    ours = model.split(importance.weight_norm(model))["conv3"]
    torch.testing.assert_close(only_layer[0], ours, rtol=1e-5, atol=1e-7)
    taylor = torch_pruning.importance.GroupTaylorImportance(
        multivariable=True,
        group_reduction="first",
        normalizer=None,
        target_types=[nn.Conv2d],
    )(group)
    sums = importance.weight_terms(model, images, labels, batch=12).sums[0]
    torch.testing.assert_close(
        taylor, model.split(sums)["conv3"].abs(), rtol=1e-4, atol=1e-7
    )
