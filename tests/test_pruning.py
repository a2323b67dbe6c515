"""Which units go, that a smaller network answers as the masked one does, and what it
costs.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunable_networks import SHAPES, batch, disturbed, network
from robustbook.checks import ArgumentError
from robustbook.models import prunable
from robustbook.models.prunable import build, preact_resnet, published_resnet20
from robustbook.perturb import pruning
from robustbook.perturb.pruning import (
    PruningError,
    all_alive,
    cost,
    lowest,
    masked,
    removed,
)


def random_alive(model, share, seed):
    scores = torch.rand(model.units, generator=torch.Generator().manual_seed(seed))
    return lowest(model, scores, int(share * model.units), all_alive(model))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_removed_network_answers_as_the_masked_one(name, share):
    model, (images, _) = network(name), batch(name)
    alive = random_alive(model, share, seed=3)
    smaller = removed(model, alive)
    with masked(model, alive), torch.no_grad():
        expected = model(images)
    with torch.no_grad():
        assert not torch.allclose(model(images), expected, atol=1e-3)
        torch.testing.assert_close(smaller(images), expected, rtol=0, atol=1e-5)
    assert smaller.units == int(alive.sum())
    by_width = pruning.multiply_adds(
        model, pruning.layer_costs(model, SHAPES[name]), alive
    )
    assert (
        by_width
        == cost(smaller, SHAPES[name]).multiply_adds
        < cost(model, SHAPES[name]).multiply_adds
    )
    assert cost(smaller, SHAPES[name]).parameters < cost(model, SHAPES[name]).parameters


@pytest.mark.parametrize("name", SHAPES)
def test_removing_nothing_changes_nothing_and_twice_is_once(name):
    model, (images, _) = network(name), batch(name)
    with torch.no_grad():
        torch.testing.assert_close(
            removed(model, all_alive(model))(images), model(images), rtol=0, atol=0
        )
        alive = random_alive(model, 0.3, seed=1)
        first = removed(model, alive)
        second = removed(first, random_alive(first, 0.3, seed=2))
        both = alive.clone()
        both[alive.nonzero().squeeze(1)[~random_alive(first, 0.3, seed=2)]] = False
        torch.testing.assert_close(
            second(images), removed(model, both)(images), rtol=0, atol=1e-5
        )


def test_every_convolution_input_belongs_to_a_group_or_a_stream_without_gate():
    model = network("preact-resnet")
    consumers = [name for group in model.groups for name in group.consumers]
    convolutions = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    assert sorted(consumers) == sorted(set(convolutions) - {"stem"})
    assert all(
        model.get_submodule(name) for group in model.groups for name in group.norms
    )
    assert (
        preact_resnet((3, 32, 32), 10, width=64).units
        == 2 * (64 + 128 + 256 + 512) + 64 + 128 + 256 + 512
    )


def test_lenet3_has_the_paper_s_units():
    assert [group.units for group in build("lenet3", (3, 32, 32), 10, 0).groups] == [
        16,
        32,
        120,
        84,
    ]
    assert (
        build("lenet3", (3, 32, 32), 10, 0).get_submodule("linear1").in_features
        == 32 * 5 * 5
    )
    assert (
        build("lenet3", (1, 28, 28), 10, 0).get_submodule("linear1").in_features
        == 32 * 4 * 4
    )


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 240))
def test_lowest_removes_as_many_as_asked_and_never_empties_a_layer(seed, count):
    model = build("lenet3", (1, 8, 8), 10, 0)
    scores = torch.rand(model.units, generator=torch.Generator().manual_seed(seed))
    alive = lowest(model, scores, count, all_alive(model))
    assert int((~alive).sum()) == count
    assert all(part.any() for part in model.split(alive).values())
    group_of = model.group_of_unit()
    for unit in (~alive).nonzero().flatten().tolist():
        # No unit with a lower score stays, but for the last one of its layer.
        lower = alive & (scores < scores[unit])
        assert all(
            int(alive[group_of == group_of[left]].sum()) == 1
            for left in lower.nonzero().flatten()
        )


def test_scores_that_starve_one_layer_leave_it_one_unit():
    model = build("lenet3", (1, 8, 8), 10, 0)
    scores = torch.cat([torch.zeros(16), torch.ones(236)])
    alive = lowest(model, scores, 40, all_alive(model))
    assert int(model.split(alive)["conv1"].sum()) == 1
    assert int((~alive).sum()) == 40


def test_bad_removals_are_named():
    model = build("lenet3", (1, 8, 8), 10, 0)
    scores = torch.rand(252)
    with pytest.raises(
        PruningError, match="253 units are to be removed, but only 248 can be"
    ):
        lowest(model, scores, 253, all_alive(model))
    with pytest.raises(PruningError, match="layer 'classifier' may not be touched"):
        lowest(model, scores, 1, all_alive(model), layers=["classifier"])
    with pytest.raises(PruningError, match="but only 15 can be"):
        lowest(model, scores, 16, all_alive(model), layers=["conv1"])
    scores[20] = torch.nan
    with pytest.raises(ArgumentError, match="got NaN for unit 4 of 'conv2'"):
        lowest(model, scores, 1, all_alive(model))
    with pytest.raises(PruningError, match="'conv1' would lose all its 16 units"):
        removed(model, torch.arange(252) >= 16)


def test_masks_are_taken_off_and_the_original_stays_whole():
    model = network("vgg")
    before = copy.deepcopy(model.state_dict())
    alive = random_alive(model, 0.5, 0)
    with masked(model, alive):
        assert any(gate.values is not None for gate in model.gates())
    with pytest.raises(RuntimeError), masked(model, alive):
        model(torch.zeros(0))
    removed(model, alive)
    assert all(gate.values is None for gate in model.gates())
    assert all(
        torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()
    )


@pytest.mark.peer
@pytest.mark.parametrize("name", SHAPES)
def test_cost_agrees_with_torch_pruning(name):
    import torch_pruning

    model = network(name)
    operations, parameters = torch_pruning.utils.count_ops_and_params(
        model, torch.zeros(1, *SHAPES[name])
    )
    ours = cost(model, SHAPES[name])
    assert ours.parameters == parameters
    # The peer also counts batch-norms, ReLUs, poolings and biases.
    assert ours.multiply_adds <= operations
    assert ours.multiply_adds == counted_layers(torch_pruning, model, SHAPES[name])


def counted_layers(torch_pruning, model, shape):
    """What the peer counts for convolutions and linear layers alone, biases removed."""
    total = 0

    def see(layer, inputs, output):
        nonlocal total
        bare = copy.deepcopy(layer)
        bare.bias = None
        bare._forward_hooks.clear()
        total += torch_pruning.utils.count_ops_and_params(bare, inputs[0])[0]

    handles = [
        m.register_forward_hook(see)
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.peer
@pytest.mark.parametrize("name", ["lenet3", "vgg", "preact-resnet", "resnet20"])
def test_removal_agrees_with_torch_pruning_s_dependency_graph(name):
    import torch_pruning

    model, (images, _) = network(name), batch(name)
    for group in model.groups:
        alive = all_alive(model)
        start = sum(other.units for other in model.groups[: model.groups.index(group)])
        alive[start] = alive[start + 2] = False
        peer = copy.deepcopy(model)
        graph = torch_pruning.DependencyGraph().build_dependency(
            peer, example_inputs=images[:1]
        )
        layer = peer.get_submodule(group.producers[0])
        way = torch_pruning.prune_conv_out_channels
        if isinstance(layer, nn.Linear):
            way = torch_pruning.prune_linear_out_channels
        graph.get_pruning_group(layer, way, idxs=[0, 2]).prune()
        with torch.no_grad():
            torch.testing.assert_close(
                removed(model, alive)(images), peer(images), rtol=0, atol=1e-5
            )


@pytest.mark.data("cifar10")
def test_published_resnet20_classifies_cifar10(data_root):
    from robustbook.data import load
    from robustbook.models.network import accuracy

    if not (data_root / prunable.RESNET20_FILE).is_file():
        pytest.skip("the published ResNet-20 is not in the data root")
    images = load("cifar10", "test", limit=200)
    assert accuracy(published_resnet20(), images.images, images.labels) > 0.7


def test_published_resnet20_says_what_is_wrong_with_its_file(tmp_path, monkeypatch):
    from robustbook.data.store import DataError

    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path))
    with pytest.raises(DataError, match="is not in the data root"):
        published_resnet20()
    path = tmp_path / prunable.RESNET20_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="pinned digest"):
        published_resnet20()


def test_smaller_networks_can_be_trained_further():
    model, (images, labels) = network("preact-resnet"), batch("preact-resnet")
    smaller = disturbed(removed(model, random_alive(model, 0.5, 0)), 1).train()
    nn.functional.cross_entropy(smaller(images), labels).backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())
    assert pruning.cost(smaller, SHAPES["preact-resnet"]).activation_bytes > 0
