"""Units of any network: found, scored, masked and taken out, on random weights."""

import json

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from robustbook.checks import ArgumentError
from robustbook.measure import published_schedule
from robustbook.measure.graph_importance import graph_gradients, graph_oracle
from robustbook.measure.importance import gate_gradients
from robustbook.measure.published_schedule import Schedule, prune_by_schedule
from robustbook.models.gated import with_gates
from robustbook.models.unit_graph import HeadedAttention, unit_graph
from robustbook.perturb.gradient import cross_entropy
from robustbook.perturb.graph_pruning import (
    gating,
    network_cost,
    switched_off,
    without,
)

SHAPE = (3, 32, 32)


def chain():
    """Batch-norm behind one convolution, a depthwise one, and several inputs a unit
    after flattening.
    """
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 9),
        nn.GELU(),
        nn.Linear(9, 4),
    )


NETWORKS = {
    "chain": chain,
    "residual": lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4),
    "bottleneck": lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4),
    "dense": lambda: DenseNet(4, (2, 2), 8, num_classes=4),
    "mobile": lambda: models.mobilenet_v2(num_classes=4, width_mult=0.25),
    "squeeze": lambda: models.squeezenet1_1(num_classes=4),
    "transformer": lambda: models.VisionTransformer(
        32, 16, 2, 4, 16, 24, num_classes=4
    ),
}


def built(name):
    """A network whose batch-norms have moved from where they start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS[name]()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
            if isinstance(layer, nn.Linear):
                # The head of a transformer starts at zero and would hide everything.
                nn.init.normal_(layer.weight, std=0.2)
    return network.eval()


def data(count=6):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, *SHAPE, generator=generator)
    return images, torch.randint(4, (count,), generator=generator)


@pytest.fixture(scope="module", params=NETWORKS)
def graph(request):
    return unit_graph(built(request.param), SHAPE)


def some(graph, seed=0):
    """About half of the units, at least one a group."""
    generator = torch.Generator().manual_seed(seed)
    alive = torch.rand(graph.units, generator=generator) < 0.6
    for part in graph.split(alive):
        part[0] = True
    return alive


def test_the_graph_answers_as_the_network(graph, request):
    name = request.node.callspec.params["graph"]
    images, _ = data()
    with torch.no_grad():
        torch.testing.assert_close(
            graph.network(images), built(name)(images), rtol=1e-4, atol=1e-5
        )


def test_removed_is_masked_and_costs_less(graph):
    images, _ = data()
    alive = some(graph)
    smaller = without(graph, alive)
    with torch.no_grad(), switched_off(graph, alive) as masked:
        expected = masked(images)
    with torch.no_grad():
        full, found = graph.network(images), smaller(images)
    scale = float(expected.abs().max())
    assert (found - expected).abs().max() <= 1e-5 * scale
    assert (full - expected).abs().max() > 1e-3 * scale
    before, after = (network_cost(each, SHAPE) for each in (graph.network, smaller))
    assert after.parameters < before.parameters
    assert after.multiply_adds < before.multiply_adds


def test_gradients_are_those_of_the_loss_along_each_gate(graph):
    """Central differences of the mean loss in double precision."""
    images, labels = data(3)
    double = unit_graph(graph.network.double(), SHAPE)
    found = graph_gradients(double, images.double(), labels).mean(0)
    graph.network.float()
    for unit in torch.linspace(0, double.units - 1, 7).long().tolist():
        ends = []
        for step in (1e-5, -1e-5):
            gates = torch.ones(double.units, dtype=torch.float64)
            gates[unit] += step
            with torch.no_grad(), gating(double, gates) as network:
                ends.append(cross_entropy(network(images.double()), labels).mean())
        slope = float(ends[0] - ends[1]) / 2e-5
        assert float(found[unit]) == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_every_channel_of_a_chain_is_that_of_its_gates():
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 900, 4)
    ).eval()
    images, labels = data()
    gated = gate_gradients(with_gates(network), images, labels)
    found = graph_gradients(unit_graph(network, SHAPE), images, labels)
    torch.testing.assert_close(found, gated, rtol=1e-4, atol=1e-6)


def test_the_oracle_is_the_loss_of_the_smaller_network():
    graph = unit_graph(built("chain"), SHAPE)
    images, labels = data(8)
    oracle = graph_oracle(
        graph, images, labels, count=5, generator=torch.Generator().manual_seed(0)
    )
    assert len(set(oracle.units.tolist())) == 5
    for place, unit in enumerate(oracle.units.tolist()):
        alive = torch.ones(graph.units, dtype=torch.bool)
        alive[unit] = False
        with torch.no_grad():
            losses = cross_entropy(without(graph, alive)(images), labels)
        torch.testing.assert_close(oracle.losses.without[:, place], losses)
    assert 0 <= oracle.reliability <= 1


def test_twice_the_same_images_are_wholly_reliable():
    graph = unit_graph(built("chain"), SHAPE)
    images, labels = data(4)
    twice = images.repeat_interleave(2, 0), labels.repeat_interleave(2, 0)
    assert graph_oracle(graph, *twice).reliability == pytest.approx(1)


def test_what_cannot_go_is_refused_by_its_layer():
    graph = unit_graph(built("transformer"), SHAPE)
    assert all(
        "mixes" in why or "parameter" in why or "classes" in why
        for why in graph.refused.values()
    )
    heads = [group for group in graph.groups if group.heads]
    assert [group.units for group in heads] == [4, 4]
    assert isinstance(graph.network.get_submodule(heads[0].name), HeadedAttention)
    with pytest.raises(ArgumentError, match="classes"):
        graph.named("heads.head")
    grouped = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    with pytest.raises(ArgumentError, match="grouped convolution"):
        unit_graph(grouped, SHAPE)


def test_the_last_unit_of_a_group_stays():
    graph = unit_graph(built("chain"), SHAPE)
    alive = torch.ones(graph.units, dtype=torch.bool)
    alive[: graph.groups[0].units] = False
    with pytest.raises(ArgumentError, match="a unit of '3' left"):
        without(graph, alive)


def test_multiply_adds_are_counted_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 4)
    )
    cost = network_cost(network, (3, 8, 8))
    assert cost.multiply_adds == 5 * 36 * 27 + 4 * 180
    assert cost.parameters == 5 * 27 + 5 + 4 * 180 + 4


def folder_of_pictures(folder):
    """Dark and bright pictures, two classes, twelve to train on and four to try."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 12), ("val", 4)):
        for shade, name in ((60, "dark"), (190, "bright")):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count // 2):
                noise = torch.randint(-20, 20, (40, 40, 3), generator=generator)
                pixels = (shade + noise).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(place / f"{number}.png")


def test_the_published_schedule_runs_on_a_folder_of_pictures(
    tmp_path, monkeypatch, capsys
):
    folder_of_pictures(tmp_path)
    small = lambda name, num_classes: ResNet(  # noqa: E731
        BasicBlock, [1, 1, 1, 1], num_classes=num_classes
    )
    monkeypatch.setattr(models, "get_model", small)
    weights = tmp_path / "weights.pt"
    torch.save(small("resnet34", 2).state_dict(), weights)
    published_schedule.main(
        [
            *("--data", str(tmp_path), "--model", "resnet101", "--side", "32"),
            *("--weights", str(weights), "--batch", "6", "--batches", "8"),
            *("--interval", "2", "--step", "50", "--units", "150"),
        ]
    )
    printed = json.loads(capsys.readouterr().out)
    found = printed["measured"]
    assert found["units_removed"] == 150
    assert 0 < found["parameters_left"] < 1 and 0 < found["adds_left"] < 1
    assert 0 <= found["after"] <= 1
    assert printed["published"]["adds"] == 0.6


def test_a_schedule_goes_down_to_a_share_of_the_multiply_adds():
    graph = unit_graph(built("chain"), SHAPE)
    images, labels = data(12)
    schedule = Schedule(0, 12, step=2, interval=2, batch=6, learning_rate=1e-3)
    smaller, alive = prune_by_schedule(
        graph,
        images,
        labels,
        schedule,
        generator=torch.Generator().manual_seed(0),
        adds_left=0.7,
    )
    full = network_cost(graph.network, SHAPE).multiply_adds
    left = network_cost(smaller, SHAPE).multiply_adds
    assert left <= 0.7 * full
    assert int((~alive).sum()) % 2 == 0
    assert not smaller.training
