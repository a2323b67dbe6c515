"""The oracles against brute force, and their costs."""

import itertools

import pytest
import torch

from prunable_networks import SHAPES, batch, network
from robustbook.measure import oracle
from robustbook.measure.importance import ImportanceError
from robustbook.models.network import count_passes
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.pruning import all_alive, close, masked


def brute_force(model, images, labels, alive=None):
    columns = []
    for unit in range(model.units):
        kept = all_alive(model) if alive is None else alive.clone()
        kept[unit] = False
        with masked(model, kept), torch.no_grad():
            columns.append(cross_entropy(model(images), labels))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("name", SHAPES)
def test_removal_losses_are_those_of_full_forward_passes(name):
    model, (images, labels) = network(name), batch(name)
    found = oracle.removal_losses(model, images, labels, chunk=5)
    with torch.no_grad():
        torch.testing.assert_close(found.base, cross_entropy(model(images), labels))
    torch.testing.assert_close(
        found.without, brute_force(model, images, labels), rtol=0, atol=2e-5
    )
    expected = (found.base.mean() - found.without.mean(dim=0)).square()
    torch.testing.assert_close(found.importance, expected)


@pytest.mark.parametrize("name", ["lenet3", "preact-resnet"])
def test_units_that_are_gone_stay_gone(name):
    model, (images, labels) = network(name), batch(name)
    alive = torch.rand(model.units, generator=torch.Generator().manual_seed(0)) > 0.4
    close(model, alive)
    found = oracle.removal_losses(model, images, labels)
    close(model, all_alive(model))
    torch.testing.assert_close(
        found.without, brute_force(model, images, labels, alive), rtol=0, atol=2e-5
    )
    torch.testing.assert_close(
        found.importance[~alive], torch.zeros(int((~alive).sum())), rtol=0, atol=1e-9
    )


def test_the_network_is_never_run_whole_for_a_unit():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    with count_passes(model) as counter:
        oracle.removal_losses(model, images, labels)
    assert counter.passes.total == 0


def test_losses_of_some_images():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    chosen = torch.arange(0, 12, 2)
    part = oracle.removal_losses(model, images, labels).part(chosen)
    torch.testing.assert_close(
        part.without,
        oracle.removal_losses(model, images[chosen], labels[chosen]).without,
    )


def test_all_subsets_are_those_of_full_forward_passes():
    model, (images, labels) = network("vgg"), batch("vgg")
    group = model.groups[0]
    losses = oracle.all_subsets(model, images, labels, group, chunk=5)
    assert losses.shape == (16,)
    for code in range(16):
        alive = all_alive(model)
        alive[:4] = torch.tensor([bool(code >> unit & 1) for unit in range(4)])
        with masked(model, alive), torch.no_grad():
            expected = cross_entropy(model(images), labels).mean()
        torch.testing.assert_close(losses[code], expected, rtol=0, atol=1e-5)


def test_the_best_subset_of_every_size():
    losses = torch.rand(64, generator=torch.Generator().manual_seed(0))
    best = oracle.best_by_size(losses)
    for size in range(7):
        codes = [
            sum(1 << unit for unit in chosen)
            for chosen in itertools.combinations(range(6), size)
        ]
        assert best[size] == losses[codes].min()
    assert oracle.kept_units(torch.tensor([5]), 4).tolist() == [[1, 0, 1, 0]]


def test_subsets_that_cannot_be_enumerated_are_refused():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    with pytest.raises(ImportanceError, match="all subsets of 'linear1'"):
        oracle.all_subsets(model, images, labels, model.groups[2])
    with pytest.raises(ImportanceError, match="all subsets of 'conv2'"):
        oracle.all_subsets(model, images, labels, model.groups[1])
