"""A network of one's own under six lenses: each number is right where it can be worked
out, a lens that fails stops no other, and nothing of the reader's is executed but the
function that they named.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustbook.data import ImageSet
from robustbook.errors import UserError
from robustbook.results import Results
from robustbook.stats import Interval
from robustbook.studies.your_network import ROWS, claims, figures, networks, rows
from robustbook.studies.your_network.measure import (
    attack,
    certificate,
    degradation,
    lenses,
    posterior,
    pruning,
    saliency,
)
from robustbook.studies.your_network.measure.looking import (
    LensPlan,
    Number,
    Refused,
    Seen,
)

SMALL = {
    **{"epsilon": 0.1, "steps": 3, "queries": 3, "samples": 4, "explained": 2},
    **{"masks": 10, "certified": 4, "units": 3},
}


def subject_of(network: nn.Module, images: torch.Tensor, labels: torch.Tensor):
    """A network beside images, as `networks.load` gives them."""
    classes = network(images[:1]).shape[1]
    data = ImageSet(
        name="own",
        title="Own images",
        split="all",
        images=images,
        labels=labels,
        class_names=tuple(str(each) for each in range(classes)),
        digest="0" * 64,
        licence="own",
        shareable=True,
    )
    whole = nn.Sequential(network).eval()
    with torch.no_grad():
        logits = whole(images)
    return networks.Examined(
        title="own",
        network=whole,
        data=data,
        images=images,
        labels=labels,
        logits=logits,
        training=None,
        seed=0,
        chunk=16,
        remarks=(),
        digests={},
    )


def linear(scale: float = 1.0) -> nn.Sequential:
    """Class 1 where the mean of 8 x 8 pixels is above a half."""
    layer = nn.Linear(64, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 64) * scale / 64)
        layer.bias.copy_(torch.tensor([0.5, -0.5]) * scale)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture
def plain() -> networks.Examined:
    """Sixteen flat images, 0.1 to 0.4 away from the boundary, all right."""
    away = torch.linspace(0.12, 0.42, 16) * torch.tensor([1.0, -1.0]).repeat(8)
    images = (0.5 + away)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    return subject_of(linear(scale=20.0), images, (away > 0).long())


def of(seen: Seen, name: str) -> list[Number]:
    return [number for number in seen.numbers if number.name == name]


# Looking ------------------------------------------------------------------------------


def plan_of(subject, chosen=("one", "two"), **looks) -> LensPlan:
    made = {
        name: SimpleNamespace(NAME=name, passes=lambda subject: 10, look=look)
        for name, look in looks.items()
    }
    return LensPlan(subject, made, {key: {} for key in made}, chosen)


@torch.no_grad()
def seeing(subject) -> Seen:
    subject.network(subject.images)
    return Seen("two", (Number("clean accuracy", 1.0),))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("no bound for GELU"), "no bound for GELU"),
        (ZeroDivisionError("by zero\nand more"), "ZeroDivisionError: by zero"),
        (NotImplementedError(), "NotImplementedError: "),
    ],
)
def test_a_lens_that_fails_is_told_and_stops_no_other(plain, error, reason) -> None:
    def failing(subject):
        raise error

    plan = plan_of(plain, one=failing, two=seeing)
    assert plan.look("one") == Refused("one", reason)
    assert isinstance(plan.look("two"), Seen)


def test_passes_are_counted_and_those_not_chosen_are_said(plain) -> None:
    plan = plan_of(plain, chosen=("two",), one=seeing, two=seeing)
    assert plan.look("two").passes.total == len(plain.images)
    assert plan.look("one") == Refused("one", "it was not chosen")
    assert plan.costs == {"two": 10}


def test_where_memory_runs_out_the_chunk_is_halved(plain) -> None:
    chunks = []

    def greedy(subject):
        chunks.append(subject.chunk)
        if subject.chunk > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return seeing(subject)

    assert isinstance(plan_of(plain, two=greedy).look("two"), Seen)
    assert chunks == [16, 8, 4]

    def full(subject):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    assert "allocate" in plan_of(plain, two=full).look("two").reason


def test_every_lens_is_planned_and_its_passes_are_not_exceeded(plain) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    subject = subject_of(network, plain.images, plain.labels)
    plan = lenses.plan(subject, lenses=["all"], **SMALL)
    assert set(plan.costs) == set(claims.SAYINGS)
    for name, cost in plan.costs.items():
        seen = plan.look(name)
        assert isinstance(seen, Seen), seen
        assert seen.passes.total <= cost, name


# The lenses ---------------------------------------------------------------------------


def test_attacks_leave_what_a_linear_network_leaves(plain) -> None:
    """An image falls where the budget reaches its distance to the boundary."""
    seen = attack.look(plain, budgets=(0.15, 0.25), steps=30, queries=5)
    away = (plain.images[:, 0, 0, 0] - 0.5).abs()
    for budget in (0.15, 0.25):
        (left,) = [
            number.value.value
            for number in of(seen, "robust accuracy")
            if number.factors == {"attack": "then Square", "budget": budget}
        ]
        assert left == pytest.approx(float((away > budget).float().mean()))
    (distance,) = of(seen, "minimal distance")
    step = 0.5 / 2**attack.BISECTIONS
    assert distance.value.value == pytest.approx(float(away.median()), abs=2 * step)
    most, least = (number.value.value for number in of(seen, "psi"))
    assert least <= most
    changed = (seen.pictures["attacked"] - plain.images).abs().amax((1, 2, 3))
    assert float(changed.max()) <= 0.25 + 1e-6


def test_a_certificate_holds_as_far_as_a_linear_network_does(plain) -> None:
    seen = certificate.look(plain, budget=0.4, certified=16)
    away = (plain.images[:, 0, 0, 0] - 0.5).abs()
    for number in seen.numbers:
        held = float((away > number.factors["budget"]).float().mean())
        assert number.value.value == pytest.approx(held)


def test_a_certificate_is_refused_by_the_layer(plain) -> None:
    network = nn.Sequential(linear(), nn.Softplus())
    plan = lenses.plan(
        subject_of(network, plain.images, plain.labels), lenses=["all"], **SMALL
    )
    assert "Softplus" in plan.look("certificate").reason


def test_images_are_degraded_more_and_more(plain) -> None:
    torch.manual_seed(0)
    subject = subject_of(linear(), torch.rand(8, 1, 8, 8), torch.zeros(8).long())
    for kind in ("low-pass", "noise"):
        alike = [
            sum(degradation.similarity(subject.images, images))
            for which, _, images in degradation.degraded(subject)
            if which == kind
        ]
        assert alike == sorted(alike, reverse=True)
    assert degradation.similarity(subject.images, subject.images) == [1.0] * 8


def test_a_pattern_is_judged_on_images_that_it_was_not_made_from(plain) -> None:
    bright = plain.labels == 1
    subject = subject_of(linear(20.0), plain.images[bright], plain.labels[bright])
    seen = degradation.look(subject, budget=0.3)
    learnt, random = (number.value for number in of(seen, "universal accuracy"))
    assert learnt.n == 4
    # All pixels down turns the class over; random signs cancel.
    assert learnt.value < random.value == 1.0


def test_an_alarm_has_two_sides() -> None:
    clean = torch.linspace(0.4, 0.6, 21)
    for attacked in (clean + 1, clean - 1, torch.cat([clean[:10] - 1, clean[10:] + 1])):
        assert posterior.alarm(clean, attacked).value == 1.0
    assert posterior.alarm(clean, clean).value == pytest.approx(0.5)


def test_the_last_layer_is_found_with_what_enters_it(plain) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    subject = subject_of(network, plain.images, plain.labels)
    found = posterior.last_layer(subject, plain.images)
    assert found.layer is network[3]
    assert torch.allclose(found.layer(found.features), subject.logits)
    mixed = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten(), nn.Softplus())
    with pytest.raises(UserError, match="the last one is the Conv2d"):
        posterior.last_layer(
            subject_of(mixed, plain.images, plain.labels), plain.images
        )


def test_a_posterior_given_much_agrees_with_the_network(plain) -> None:
    """Drawn networks answer as the mean where the classes lie far apart."""
    images, labels = plain.images.repeat(20, 1, 1, 1), plain.labels.repeat(20)
    drawn = posterior.laplace(plain, images, labels, plain.images)
    probabilities = drawn(200, 0)
    assert probabilities.shape == (200, 16, 2)
    far = (plain.images[:, 0, 0, 0] - 0.5).abs() > 0.3
    right = probabilities.argmax(2) == plain.labels
    assert float(right[:, far].float().mean()) > 0.95
    assert torch.equal(drawn(5, 3), drawn(5, 3))


def test_dropout_is_on_for_drawing_and_off_again(plain) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
    subject = subject_of(network, plain.images, plain.labels)
    drawn = posterior.with_dropout(subject, plain.images)(3, 0)
    assert not torch.equal(drawn[0], drawn[1])
    assert not network[1].training
    assert torch.equal(subject.network(plain.images), subject.logits)
    assert posterior.dropouts(linear()) == []


def test_the_least_important_go_first_and_no_layer_goes_whole() -> None:
    graph = SimpleNamespace(
        groups=[SimpleNamespace(units=4), SimpleNamespace(units=10)],
        split=lambda values: list(values.split([4, 10])),
    )
    scores = torch.tensor([*[0.1, 0.2, 0.3, 0.4], *range(1, 11)]).float()
    alive = pruning.lowest_gone(graph, scores, 0.5)
    assert alive.tolist() == [*[False] * 3, True, *[False] * 4, *[True] * 6]
    assert pruning.lowest_gone(graph, scores, 1.0).sum() == 2
    assert torch.equal(scores[:4], torch.tensor([0.1, 0.2, 0.3, 0.4]))


def test_a_unit_that_does_nothing_goes_for_nothing(plain) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), linear()[1])
    network[3] = nn.Linear(8, 2)
    with torch.no_grad():
        network[3].weight[:, 3] = 0
    subject = subject_of(network, plain.images, plain.labels)
    seen = pruning.look(subject, units=8)
    accuracies = [number.value.value for number in of(seen, "pruned accuracy")]
    assert accuracies[0] == accuracies[1]  # A tenth of eight units is the one.
    costs = [number.value for number in of(seen, "multiply-adds")]
    assert costs[0] == 1.0 and costs == sorted(costs, reverse=True)


def test_maps_are_those_of_the_answer(plain) -> None:
    """Where one pixel decides, its map has it, and its removal ends the answer."""
    layer = nn.Linear(64, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1, 27], layer.bias[1] = 8.0, -5.0
        layer.bias[0] = 0.0
    images = torch.full((4, 1, 8, 8), 0.4)
    images[:, 0, 3, 3] = 1.0
    subject = subject_of(
        nn.Sequential(nn.Flatten(), layer), images, torch.ones(4).long()
    )
    seen = saliency.look(subject, explained=4, masks=400)
    for name, maps in seen.pictures.items():
        top = maps.flatten(1).argmax(1)
        near = (top // 8 - 3).abs() + (top % 8 - 3).abs()
        assert int(near.max()) <= 2, name
    removal = {
        (n.factors["map"], n.factors["curve"]): n.value.value
        for n in of(seen, "removal")
    }
    assert removal["gradient", "deletion"] < removal["random", "deletion"]
    assert removal["gradient", "ROAD"] < removal["random", "ROAD"]


# Loading ------------------------------------------------------------------------------


def test_labels_beyond_the_classes_are_said_in_a_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
    )
    monkeypatch.setenv("ROBUSTBOOK_FROM", str(tmp_path))
    with pytest.raises(UserError, match="label 9 is beyond the 4 classes"):
        networks.load("mine.py:build", data="digits", images=20)


def test_an_accuracy_at_chance_is_remarked(plain) -> None:
    wrong = subject_of(linear(), plain.images, 1 - plain.labels)
    assert "do labels and classes match?" in networks._by_chance(wrong)[0]
    assert networks._by_chance(plain) == []


def test_a_network_of_the_book_is_known_by_name() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet20'"):
        networks.load("book:resnet21", data="digits", images=20)
    with pytest.raises(UserError, match="trained on a data set of this book"):
        networks._of_the_book(networks.Origin("book", "", "cnn"), "folder:x", 1, 0)


def test_halves_have_the_same_classes(plain) -> None:
    """Where classes take turns every other image would be of one class."""
    one, other = plain.halves
    assert plain.labels[one].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert torch.equal(plain.labels[one], plain.labels[other])
    assert sorted([*one.tolist(), *other.tolist()]) == list(range(16))


# The page -----------------------------------------------------------------------------


def test_a_page_of_lenses_that_saw_nothing_is_a_page(plain) -> None:
    results = Results(rows=ROWS)
    rows.record_subject(results, plain)
    for name in claims.SAYINGS:
        rows.record(results, Refused(name, "no layer fits"))
        told = figures.told(results, Refused(name, "no layer fits"))
        assert "no layer fits" in told.data
    assert len(claims.in_short(results)) == 1
    assert "100 %" in claims.in_short(results)[0]
    shown = [figures.attack, figures.degradation, figures.removal]
    shown += [figures.certificate, figures.pruning, figures.layers]
    for draw in shown:
        assert "saw nothing" in draw(results).data
    assert "as they are" in figures.hero(results).data


def test_pictures_that_may_not_be_shown_are_not(plain) -> None:
    secret = replace(plain, data=replace(plain.data, shareable=False))
    seen = attack.look(secret, budgets=(0.25,), steps=3, queries=3)
    for draw in (figures.attacked, figures.degraded, figures.doubt, figures.maps):
        assert "may not be shown" in draw(secret, seen).data


def test_a_share_has_its_interval_in_a_sentence() -> None:
    results = Results(rows=ROWS)
    row = results.add("clean accuracy", Interval(0.5, 0.25, 0.75, 8), unit="share")
    assert claims.between(row) == "50 % [25, 75]"


def test_the_parameters_of_a_run_are_those_of_its_plan() -> None:
    from robustbook.studies.your_network import Parameters

    values = Parameters(images=10, lenses=["attack"]).model_dump()
    assert json.dumps(values)
    plan = lenses.plan_of({**values, "epochs": 1, "steps": 2})
    assert list(plan.costs) == ["attack"]
    assert plan.seconds() > 0
