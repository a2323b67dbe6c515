"""The pruning study: its rules on rows made by hand, its measurements on small
networks, its exercises.
"""

import ast
import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

import robustbook.exercises
from prunable_networks import batch, network
from robustbook.checks import ArgumentError
from robustbook.data import load
from robustbook.exercises import cells
from robustbook.measure import oracle, pruning_walk, tuned_pruning
from robustbook.measure.importance import (
    curvature_diagonal,
    first_order,
    gate_gradients,
    per_example,
)
from robustbook.measure.pruning_walk import Walk, walk
from robustbook.measure.tuned_pruning import Plan, prune, prune_and_tune
from robustbook.models.gated import with_gates
from robustbook.models.prunable import build, preact_resnet
from robustbook.perturb.budgets import down_to, unit_costs
from robustbook.perturb.pruning import (
    PruningError,
    all_alive,
    cost,
    layer_costs,
    masked,
    multiply_adds,
    removed,
)
from robustbook.results import Results
from robustbook.studies import taylor_pruning as study
from robustbook.studies.taylor_pruning import claims, exercises, networks, rows
from robustbook.studies.taylor_pruning.measure import (
    agreement,
    latency,
    tuning,
    walks,
)

CLAIMS = {claim.id: claim for claim in study.CLAIMS}


def verdict(number, results):
    return CLAIMS[f"C6.{number}"].verdict(results).verdict


def add(results, name, value, width=0.01, over="networks", unit=None, **factors):
    units = {row.name: row.unit for row in study.ROWS}
    results.add(
        name,
        value,
        (value - width, value + width),
        n=5,
        over=over,
        unit=units[name] if unit is None else unit,
        **factors,
    )


def declared():
    return Results(rows=study.ROWS)


LENET = {"network": "lenet3", "scope": "all layers", "truth": "training"}


def agreed(corrected=0.95, lead=0.2, reliable=0.95, width=0.01):
    """Rows of C6.1 on two data sets; `corrected` may be one value a criterion."""
    results = declared()
    values = corrected if isinstance(corrected, tuple) else (corrected,) * 3
    for data in ("one", "two"):
        common = {"data": data, "coefficient": "spearman", **LENET}
        add(results, "reliability", reliable, **common)
        for name, value in zip(claims.AGREEING, values, strict=True):
            add(
                results,
                "corrected correlation",
                value,
                width,
                criterion=name,
                **common,
            )
        for name in claims.RIVALS:
            add(results, "correlation lead", lead, rival=name, **common)
    return results


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "reproduced"),
        ({"lead": 0.02}, "partly"),
        ({"corrected": 0.8}, "not reproduced"),
        ({"corrected": (0.95, 0.8, 0.95)}, "mixed"),
        ({"width": 0.2}, "inconclusive"),
        ({"reliable": 0.705}, "inconclusive"),
    ],
)
def test_agreement_is_asked_of_every_score_and_of_a_reliable_oracle(changes, expected):
    assert verdict(1, agreed(**changes)) == expected
    assert verdict(1, declared()) == "not tested at this scale"


@pytest.mark.parametrize(
    ("normalised", "plain", "units", "expected"),
    [
        (0.2, 0.5, 0.3, "reproduced"),
        (0.01, 0.5, 0.01, "partly"),
        (0.01, 0.01, 0.01, "not reproduced"),
        (0.2, 0.5, 0.01, "mixed"),
        (0.05, 0.5, 0.3, "inconclusive"),
    ],
)
def test_the_norm_by_layer_decides_about_magnitude(normalised, plain, units, expected):
    results = declared()
    for rival, lead in (
        ("weight-norm by layer", normalised),
        ("weight-norm", plain),
    ):
        common = {"data": "one", "coefficient": "spearman", "rival": rival}
        add(results, "correlation lead", lead, **common, **LENET)
        share = units if rival != "weight-norm" else plain
        add(results, "units lead", share, network="lenet3", rival=rival)
    assert verdict(2, results) == expected


@pytest.mark.parametrize(
    ("spearman", "pearson", "gain", "control", "expected"),
    [
        (0.1, 0.1, 0.0, 0.2, "reproduced"),
        (0.1, -0.2, 0.0, 0.2, "mixed"),
        (-0.2, -0.2, -0.2, 0.2, "not reproduced"),
        (0.1, 0.1, -0.05, 0.2, "inconclusive"),
        (0.1, 0.1, 0.0, 0.01, "inconclusive"),
    ],
)
def test_layers_are_judged_by_both_coefficients(
    spearman, pearson, gain, control, expected
):
    results = declared()
    for coefficient, gap in (("spearman", spearman), ("pearson", pearson)):
        factors = {"coefficient": coefficient, "criterion": "taylor-fo"}
        add(results, "layer gap", gap, data="one", network="lenet3", **factors)
    for rival, lead in (
        ("taylor-fo by layer", gain),
        ("weight-norm", 0.3),
        ("weight-norm by layer", 0.3 - control),
    ):
        add(results, "units lead", lead, network="lenet3", rival=rival)
    assert verdict(3, results) == expected


@pytest.mark.parametrize(
    ("ratio", "lead", "greedy", "expected"),
    [
        (0.97, 0.2, 1.0, "reproduced"),
        (0.7, 0.2, 1.0, "partly"),
        (0.7, 0.01, 1.0, "not reproduced"),
        (0.97, 0.05, 1.0, "inconclusive"),
        (0.97, 0.2, 1.5, "inconclusive"),
    ],
)
def test_tracking_the_oracle(ratio, lead, greedy, expected):
    results = declared()
    common = {"network": "lenet3"}
    add(results, "units over the oracle's", ratio, criterion="taylor-fo", **common)
    for rival in claims.RIVALS:
        add(results, "units lead", lead, rival=rival, **common)
    for way, loss in (("greedy oracle", greedy), ("best subset", 1.0)):
        add(results, "subset loss", loss, way=way, removed=8)
    assert verdict(4, results) == expected


@pytest.mark.parametrize(
    ("leads", "reliable", "expected"),
    [
        ((0.2, 0.2, 0.2), 0.9, "reproduced"),
        ((0.2, 0.0, 0.2), 0.9, "mixed"),
        ((0.0, 0.0, 0.0), 0.9, "not reproduced"),
        ((0.2, 0.03, 0.2), 0.9, "inconclusive"),
        ((0.2, 0.2, 0.2), 0.5, "inconclusive"),
    ],
)
def test_the_place_must_lead_every_other_place(leads, reliable, expected):
    results = declared()
    common = {"network": "resnet18", "scope": "inner units", "truth": "training"}
    for coefficient in claims.COEFFICIENTS:
        shared = {"data": "one", "coefficient": coefficient, **common}
        add(results, "reliability", reliable, **shared)
        for place, lead in zip(claims.PLACES, leads, strict=True):
            add(results, "correlation lead", lead, rival=place, **shared)
    assert verdict(5, results) == expected


@pytest.mark.parametrize(
    ("values", "reliable", "expected"),
    [
        ((0.99, 0.99), (0.9, 0.9), "reproduced"),
        ((0.8, 0.8), (0.9, 0.9), "not reproduced"),
        ((0.99, 0.8), (0.9, 0.9), "mixed"),
        ((0.99, 0.8), (0.9, 0.3), "reproduced"),
        ((0.8, 0.8), (0.3, 0.3), "inconclusive"),
    ],
)
def test_modern_networks_count_where_their_oracle_is_reliable(
    values, reliable, expected
):
    results = declared()
    for name, value, trusted in zip(
        ("resnet18", "resnet20"), values, reliable, strict=True
    ):
        common = {"network": name, "data": "one", "coefficient": "spearman"}
        common |= {"scope": "all layers", "truth": "training"}
        over = "units" if name == "resnet20" else "networks"
        factors = {"over": over, "criterion": "taylor-fo", **common}
        add(results, "corrected correlation", value, **factors)
        add(results, "reliability", trusted, over=over, **common)
    judged = CLAIMS["C6.6"].verdict(results)
    assert judged.verdict == expected
    assert "Student's t over 5 networks" in judged.evidence
    assert "bootstrap over 5 units of one network" in judged.evidence


@pytest.mark.parametrize(
    ("second", "damage", "expected"),
    [
        (0.01, 0.2, "reproduced"),
        (-0.3, 0.2, "partly"),
        (-0.3, -0.1, "not reproduced"),
        (-0.05, 0.0, "inconclusive"),
    ],
)
def test_second_order_has_two_parts(second, damage, expected):
    results = declared()
    for rival, lead in (("taylor-so", second), ("obd", damage)):
        common = {"data": "one", "coefficient": "spearman", "rival": rival}
        add(results, "correlation lead", lead, 0.02, **common, **LENET)
        add(results, "units lead", lead, 0.02, network="lenet3", rival=rival)
    assert verdict(7, results) == expected


@pytest.mark.parametrize(
    ("short", "long", "full", "expected"),
    [
        (0.1, 0.1, 0.9, "reproduced"),
        (0.1, -0.1, 0.9, "mixed"),
        (-0.1, -0.02, 0.9, "not reproduced"),
        (0.1, -0.02, 0.9, "mixed"),
        (0.1, 0.015, 0.9, "inconclusive"),
        (0.1, 0.1, 0.6, "inconclusive"),
    ],
)
def test_tuned_networks_are_judged_at_every_length(short, long, full, expected):
    results = declared()
    add(results, "accuracy before pruning", full, data="one")
    for way, rival in claims.COMPARED:
        for length, lead in ((50, short), (200, long)):
            factors = {"way": way, "rival": rival, "length": length}
            add(results, "tuned lead", lead, **factors)
    assert verdict(8, results) == verdict(9, results) == expected


def test_answers_are_sentences_of_thirty_words():
    lead = declared()
    add(lead, "accuracy before pruning", 0.9, data="one")
    for way, rival in claims.COMPARED:
        for length in (50, 200):
            factors = {"way": way, "rival": rival, "length": length}
            add(lead, "tuned lead", -0.1, **factors)
    for number, results in ((1, agreed()), (8, lead), (9, lead)):
        answer = CLAIMS[f"C6.{number}"].verdict(results).answer
        assert answer.endswith(".") and len(answer.split()) <= 30
    assert "−10.0 (−11.0 to −9.0)" in CLAIMS["C6.8"].verdict(lead).answer


# Measurements
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ROBUSTBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield networks.Network(0, "lenet3", "digits", 320, 2)
    patch.undo()


def test_correlations_are_those_of_scipy_on_the_scale_of_a_change(lenet):
    measured = agreement.agreement_of(
        lenet, criteria=agreement.WITHOUT_NORM, batches=2, oracle_images=64
    )
    truth = measured.truths["training"].together
    for coefficient, peer in (("spearman", spearmanr), ("pearson", pearsonr)):
        for scope in ("all layers", "conv2"):
            found = agreement.correlations(measured, coefficient, scope)
            chosen = measured.chosen(scope)
            for name, values in measured.scores.items():
                expected = peer(values[chosen], truth[chosen]).statistic
                assert found[name] == pytest.approx(expected, abs=1e-5)
    within = agreement.correlations(measured, "spearman", "within layers")
    by_layer = [
        agreement.correlations(measured, "spearman", layer)["taylor-so"]
        for layer in measured.layers
    ]
    assert within["taylor-so"] == pytest.approx(sum(by_layer) / 4)


def test_what_is_kept_of_an_agreement_is_what_was_measured(lenet):
    settings = {"criteria": ("taylor-fo", "random"), "batches": 2, "oracle_images": 64}
    first, again = (agreement.agreement_of(lenet, **settings) for _ in range(2))
    assert (
        first.layers
        == again.layers
        == {
            "conv1": 16,
            "conv2": 32,
            "linear1": 120,
            "linear2": 84,
        }
    )
    assert (first.accuracy, first.loss) == (again.accuracy, again.loss)
    assert list(first.scores) == list(again.scores) == ["taylor-fo", "random"]
    assert list(first.batches) == [1, 4, 16, 64]
    for one, other in (
        (first.scores["taylor-fo"], again.scores["taylor-fo"]),
        (first.truths["unseen"].halves[1], again.truths["unseen"].halves[1]),
        (first.batches[16], again.batches[16]),
    ):
        assert torch.equal(one, other)


def test_scores_and_truth_share_no_image(lenet, monkeypatch):
    seen = {}

    def watched(model, criteria, scored, truths, **settings):
        seen["scored"] = scored[0]
        seen.update({name: images for name, (images, _) in truths.items()})
        raise StopIteration

    monkeypatch.setattr(agreement, "measured", watched)
    with pytest.raises(StopIteration):
        agreement.agreement_of(lenet, criteria=(), batches=2, oracle_images=65)
    training = lenet.training.images
    assert torch.equal(seen["scored"], training[:128])
    assert torch.equal(seen["training"], training[128:193])
    assert torch.equal(seen["unseen"], lenet.test.images[:65])


def test_scores_are_put_on_one_scale():
    squares = torch.tensor([4.0, 9.0])
    rooted = agreement.comparable("taylor-fo", squares)
    torch.testing.assert_close(rooted, squares.sqrt())
    signed = torch.tensor([-4.0, 9.0])
    torch.testing.assert_close(agreement.comparable("obd", signed), signed.abs())
    torch.testing.assert_close(agreement.comparable("random", squares), squares)


def agreement_with(first, second):
    truth = agreement.Truth((first, second), (first + second) / 2)
    scores = {"taylor-fo": first, "obd": second}
    layers, truths = {"conv1": len(first)}, {"training": truth, "unseen": truth}
    return agreement.Agreement(0.9, 0.1, layers, scores, truths, {})


def test_reliability_is_that_of_the_whole_and_correlations_are_corrected_by_it():
    """Noise of known size: the truth of each half is signal plus as much noise, so
    halves correlate at 1/2 and the whole has reliability 2/3.
    """
    generator = torch.Generator().manual_seed(0)
    signal, one, other = torch.randn(3, 200_000, generator=generator)
    made = agreement_with(signal + one, signal + other)
    assert agreement.reliability(made, "pearson") == pytest.approx(2 / 3, abs=0.01)
    perfect = replace(made, scores={"taylor-fo": signal})
    seen = agreement.correlations(perfect, "pearson")["taylor-fo"]
    assert seen == pytest.approx((2 / 3) ** 0.5, abs=0.01)
    corrected = rows._corrected(seen, agreement.reliability(made, "pearson"))
    assert corrected == pytest.approx(1, abs=0.01)
    opposed = agreement_with(signal, -signal)
    assert agreement.reliability(opposed, "pearson") == 0


def test_leads_are_paired_over_networks():
    results, line = declared(), torch.arange(6.0)
    swapped = line[[1, 0, 2, 3, 4, 5]]
    made = [agreement_with(line, swapped), agreement_with(line, line.flip(0))]
    group = [networks.Network(seed, "lenet3", "digits", 320, 2) for seed in (0, 1)]
    rows.record_agreements(results, [(group, made)], [])
    common = {"coefficient": "spearman", "rival": "obd", **LENET}
    expected = [
        agreement.correlations(one, "spearman")["taylor-fo"]
        - agreement.correlations(one, "spearman")["obd"]
        for one in made
    ]
    row = results.one("correlation lead", **common)
    assert row.value == pytest.approx(sum(expected) / 2)
    assert row.over == "networks" and row.n == 2


def test_a_walk_is_read_where_it_meets_the_limit():
    steep = Walk((0, 10, 20), (0.4, 0.6, 1.4))
    assert steep.reaches(1.0) == pytest.approx(15)
    assert steep.reaches(0.4) == 0
    assert Walk((0, 10), (0.4, 0.5)).reaches(1.0) == 10


class Enough(Exception):
    """Two steps were seen."""


def test_the_greedy_oracle_takes_the_unit_that_changes_the_loss_least(monkeypatch):
    model, (images, labels) = network("lenet3"), batch("lenet3")
    losses = oracle.removal_losses(model, images, labels)
    taken, lowest = [], pruning_walk.lowest

    def watched(model, scores, count, alive):
        taken.append(scores.clone())
        if len(taken) == 2:
            raise Enough
        return lowest(model, scores, count, alive)

    monkeypatch.setattr(pruning_walk, "lowest", watched)
    settings = {"step": 1, "until": 100.0, "generator": torch.Generator()}
    with pytest.raises(Enough):
        walk(model, images, labels, "oracle", **settings)
    torch.testing.assert_close(taken[0], losses.importance)
    gone = int(losses.importance.argmin())
    alive = all_alive(model)
    alive[gone] = False
    again = oracle.removal_losses(removed(model, alive), images, labels).importance
    assert taken[1][gone] == 0
    torch.testing.assert_close(taken[1][alive], again)


def test_a_walk_loses_what_the_masked_network_loses_and_stops_at_its_limit():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    settings = {"step": 20, "generator": torch.Generator().manual_seed(0)}
    found = walk(model, images, labels, "weight-norm", until=100.0, **settings)
    assert found.removed == tuple(range(0, 241, 20))
    with torch.no_grad():
        full = nn.functional.cross_entropy(model(images), labels)
    assert found.losses[0] == pytest.approx(float(full), abs=1e-5)
    limit = max(found.losses) * 0.999
    short = walk(model, images, labels, "weight-norm", until=limit, **settings)
    assert short.losses[-1] >= limit > max(short.losses[:-1])
    fixed = walk(model, images, labels, "oracle, scores fixed", until=100.0, **settings)
    assert (
        fixed.losses
        != walk(model, images, labels, "oracle", until=100.0, **settings).losses
    )


def test_the_walk_that_measures_again_takes_the_lowest_score_of_what_is_left():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    group = model.groups[1]
    order = walks.rescored_order(model, images, labels, group)
    assert sorted(order) == list(range(32))
    alive = all_alive(model)
    for unit in order[:5]:
        with masked(model, alive):
            gradients = gate_gradients(model, images, labels)
        scores = first_order(gradients, min(64, len(images)))[16:48]
        assert scores[unit] == scores[alive[16:48]].min()
        alive[16 + unit] = False


def test_no_way_through_the_subsets_beats_the_best_one(lenet):
    found = walks.subsets_of(lenet, images=8)
    best = found["best subset"]
    assert len(best) == 17
    for losses in found.values():
        assert losses[0] == pytest.approx(best[0])
        assert losses[-1] == pytest.approx(best[-1])
        pairs = zip(losses, best, strict=True)
        assert all(loss >= least - 1e-6 for loss, least in pairs)


def test_greedy_order_takes_the_smallest_change_each_time():
    losses = torch.rand(16, generator=torch.Generator().manual_seed(1))
    order = walks.greedy_order(losses, 4)
    assert sorted(order) == [0, 1, 2, 3]
    code = 15
    for unit in order:
        change = {
            u: abs(float(losses[code] - losses[code & ~(1 << u)]))
            for u in range(4)
            if code >> u & 1
        }
        assert change[unit] == min(change.values())
        code &= ~(1 << unit)
    assert walks.losses_along(losses, order)[-1] == pytest.approx(float(losses[0]))


def test_units_are_counted_by_network_and_limit(lenet, monkeypatch):
    results = declared()
    made = [
        {
            "oracle": Walk((0, 10), (0.0, 1.0)),
            "taylor-fo": Walk((0, 10), (0.0, 2.0)),
            "random": Walk((0, 10), (0.0, 4.0)),
        },
        {"oracle": Walk((0, 10), (0.0, 1.0)), "taylor-fo": Walk((0, 10), (0.0, 1.0))},
    ]
    made[1]["random"] = Walk((0, 10), (0.0, 2.0))
    rows.record_walks(results, [([lenet], made, 1.0)])
    of = {"network": "lenet3"}
    assert results.one("units removed", criterion="taylor-fo", **of).value == 7.5
    ratio = results.one("units over the oracle's", criterion="taylor-fo", **of)
    assert ratio.value == 0.75
    lead = results.one("units lead", rival="random", **of)
    assert lead.value == pytest.approx((2.5 + 5) / 2 / 252)


# Budgets and tuning
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet3", "preact-resnet"])
def test_a_unit_costs_what_its_removal_saves(name):
    model = build(name, (1, 8, 8), 10, 0)
    layers, alive = layer_costs(model, (1, 8, 8)), all_alive(model)
    alive[[1, 30]] = False
    costs = unit_costs(model, layers, alive)
    assert costs[1] == costs[30] == 0
    full = cost(removed(model, alive), (1, 8, 8)).multiply_adds
    for unit in (0, 20, 40, model.units - 1):
        without = alive.clone()
        without[unit] = False
        left = cost(removed(model, without), (1, 8, 8)).multiply_adds
        assert costs[unit] == full - left


def test_down_to_a_goal_removes_as_few_of_the_lowest_as_it_can():
    model = build("lenet3", (1, 8, 8), 10, 0)
    layers, alive = layer_costs(model, (1, 8, 8)), all_alive(model)
    scores = torch.rand(252, generator=torch.Generator().manual_seed(0))
    full = multiply_adds(model, layers, alive)
    left = down_to(model, scores, full / 2, layers, alive)
    assert multiply_adds(model, layers, left) <= full / 2
    last = scores.masked_fill(left, -1).argmax()
    back = left.clone()
    back[last] = True
    assert multiply_adds(model, layers, back) > full / 2
    assert scores[~left].max() < scores[left].min()
    only = down_to(model, scores, 0.99 * full, layers, alive, among=("linear2",))
    gone = {name: int((~part).sum()) for name, part in model.split(only).items()}
    assert gone["linear2"] and not (gone["conv1"] + gone["conv2"] + gone["linear1"])
    with pytest.raises(PruningError, match="cannot be reached"):
        down_to(model, scores, 0.1 * full, layers, alive, among=("linear2",))


def plan(**changes):
    return replace(Plan(0.5, 2, 2, (6, 8)), **changes)


@pytest.mark.parametrize("criterion", tuned_pruning.CRITERIA)
def test_pruning_to_a_budget_keeps_to_it_and_to_its_groups(criterion):
    model, data = preact_resnet((1, 8, 8), 10, 4, (1, 1)), load("digits", "train")
    data = data.take(200)
    inner = tuple(g.name for g in model.groups if not g.name.startswith("stream"))
    chosen = plan(criterion=criterion, groups=inner, budget=0.7)
    test = load("digits", "test").take(50)
    found = prune_and_tune(model, data, test, chosen, torch.Generator().manual_seed(0))
    assert 0.5 < found.multiply_adds <= 0.7
    parts = model.split(found.alive).items()
    assert all(part.all() for name, part in parts if name.startswith("stream"))
    assert list(found.accuracies) == [6, 8]


def test_scores_gather_since_the_last_removal_and_weigh_the_price(monkeypatch):
    """Without a step of the weights the score is the mean-batch gradient, squared, and
    summed over the batches of a removal.
    """
    model = build("lenet3", (1, 8, 8), 10, 0)
    data = load("digits", "train").take(128)
    seen = []

    def watched(network, scores, goal, layers, alive, *, among):
        seen.append((scores.clone(), goal, alive.clone()))
        return down_to(network, scores, goal, layers, alive, among=among)

    monkeypatch.setattr(tuned_pruning, "down_to", watched)
    order = torch.arange(128).reshape(2, 64).repeat(2, 1)
    still = plan(learning_rate=1e-12)
    layers = layer_costs(model, data.image_shape)
    full = multiply_adds(model, layers, all_alive(model))
    alive = prune(copy.deepcopy(model), data, still, order, torch.Generator())
    gradients = gate_gradients(model, data.images, data.labels)
    expected = 2 * first_order(gradients, 64)
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-3, atol=1e-9)
    assert [goal / full for _, goal, _ in seen] == pytest.approx([0.75, 0.5])
    assert (seen[1][0][~seen[1][2]] == 0).all() and not alive.all()
    seen.clear()
    priced = plan(learning_rate=1e-12, criterion="per multiply-add")
    prune(copy.deepcopy(model), data, priced, order, torch.Generator())
    costs = unit_costs(model, layers, all_alive(model))
    torch.testing.assert_close(seen[0][0], expected / costs, rtol=1e-3, atol=1e-15)


def test_tuned_network_is_the_masked_one_made_small():
    model, data = network("lenet3"), load("digits", "train").take(200)
    test = load("digits", "test").take(100)
    still = plan(learning_rate=1e-12, lengths=(5,))
    found = prune_and_tune(model, data, test, still, torch.Generator().manual_seed(0))
    with masked(model, found.alive), torch.no_grad():
        right = (model(test.images).argmax(1) == test.labels).float().mean()
    assert found.accuracies[5] == pytest.approx(float(right))
    assert all(gate.values is None for gate in model.gates())


@pytest.fixture(scope="module")
def small(lenet):
    return networks.Network(0, "small resnet", "digits", 128, 1)


def test_all_ways_end_at_one_cost_and_the_full_network_is_tuned_as_long(small):
    tuned = tuning.tuned_by_all(small, budget=0.4, removals=2, lengths=(8, 10))
    assert list(tuned) == list(tuning.WAYS)
    assert tuned[claims.FULL].multiply_adds == 1
    pruned = {way: each for way, each in tuned.items() if way != claims.FULL}
    # One channel of a stream is a large part of so small a network.
    assert all(0.3 < each.multiply_adds <= 0.4 for each in pruned.values())
    assert all(list(each.accuracies) == [8, 10] for each in tuned.values())
    results = declared()
    rows.record_tuned(results, [tuned, tuned], [small, small])
    rival = {"way": claims.ITERATIVE, "rival": claims.ONE_SHOT, "length": 10}
    expected = (
        tuned[claims.ITERATIVE].accuracies[10] - tuned[claims.ONE_SHOT].accuracies[10]
    )
    assert results.one("tuned lead", **rival).value == pytest.approx(expected)
    kept = results.one("streams kept", way=claims.INNER).value
    assert kept == 1 > results.one("streams kept", way=claims.RANDOM).value
    measured = latency.measured_costs([small], [tuned])
    assert set(measured) == {
        f"{name} small resnet: {way}"
        for name in ("latency", "memory")
        for way in tuning.WAYS
    }


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("budget", 1.5),
        ("removals", 0),
        ("batches", 0),
        ("lengths", (0, 8)),
        ("criterion", "taylor"),
        ("learning_rate", -1.0),
    ],
)
def test_a_plan_refuses_what_it_cannot_do(name, wrong):
    with pytest.raises(ArgumentError, match=name):
        plan(**{name: wrong})


def test_ways_see_the_same_mini_batches(small):
    plans = tuning.ways_of(
        networks.untrained(small), budget=0.4, removals=2, lengths=(8, 16)
    )
    assert {each.lengths for each in plans.values()} == {(8, 16)}
    assert plans[claims.ONE_SHOT].removals == 1
    assert plans[claims.ITERATIVE].removals * plans[claims.ITERATIVE].batches == 4
    assert all("stream" not in " ".join(plans[way].groups) for way in (claims.INNER,))


def test_removal_is_checked_and_a_wrong_network_is_seen(lenet, small, monkeypatch):
    results = declared()
    monkeypatch.setattr(rows, "map_in_workers", lambda of, all_: list(map(of, all_)))
    rows.record_removal(results, [lenet, small])
    assert {row.value for row in results.select("removal agrees")} == {1}
    monkeypatch.setattr(rows, "removed", lambda model, alive: model)
    assert rows.removal_difference(lenet) > rows.TOLERANCE


def test_stages_keep_to_their_shares(lenet):
    stages = walks.stages_of(
        lenet, criteria=("weight-norm", "random"), shares=(0.0, 0.5), images=64
    )
    assert [int((~stage.alive).sum()) for stage in stages] == [0, 126, 0, 126]
    assert stages[0].multiply_adds == 1 > stages[1].multiply_adds
    for before, after in pairwise(stages):
        assert before.criterion != after.criterion or before.share < after.share


def test_measured_memory_holds_the_largest_layer_and_not_all_layers():
    model = build("vgg", (3, 32, 32), 10, 0).eval()
    model = model.to(memory_format=torch.channels_last)
    largest = latency.BATCH * cost(model, (3, 32, 32)).activation_bytes
    assert largest <= latency.peak_bytes(model, (3, 32, 32)) < 1.5 * largest


def test_oracle_on_a_masked_network_gives_dead_units_no_importance():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    alive = all_alive(model)
    alive[:8] = False
    with masked(model, alive):
        assert oracle.removal_losses(model, images, labels).importance[:8].max() < 1e-10


def test_exercises_reject_what_is_wrong_and_say_why():
    with pytest.raises(AssertionError, match="sum of squares"):
        exercises.check_two_units(18)
    both = {"taylor-fo-fg", "obd"}
    for wrong, hint in (
        ("obd", "two sets"),
        (({"taylor"}, set()), "may hold"),
        (({"taylor-fo whole set", *both}, set()), "mean gradient is zero"),
        (({"obd"}, set()), "squared first"),
        (({"taylor-fo-fg"}, set()), "need not be"),
        ((both, {"taylor-fo-fg"}), "p - y"),
        ((both, {"obd"}), "1 for one class"),
    ):
        with pytest.raises(AssertionError, match=hint):
            exercises.check_minimum(wrong)
    with pytest.raises(AssertionError, match="doubling a filter"):
        exercises.check_training_mode(0.9)
    for wrong in (0.0, 0.1, 0.015):
        with pytest.raises(AssertionError, match="how much"):
            exercises.check_training_mode(wrong)
    with pytest.raises(AssertionError, match="square it"):
        exercises.check_first_order(
            lambda *problem: gate_gradients(*problem).mean(dim=0).abs()
        )
    with pytest.raises(AssertionError, match="subtract"):
        exercises.check_oracle(
            lambda model, images, labels, units: torch.ones(len(units))
        )


def head_fitted_to(labels, images):
    """A small gated network at the minimum of the mean loss in the weights of its last
    layer.
    """
    torch.manual_seed(0)
    network, images = (
        nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3)
        ).double(),
        images.double(),
    )
    optimiser = torch.optim.LBFGS(
        network[3].parameters(),
        max_iter=2000,
        tolerance_grad=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(network(images), labels)
        value.backward()
        return value

    optimiser.step(loss)
    return with_gates(network.float())


def test_the_answer_about_minima_holds_for_the_chapter_s_scores():
    """Where the mean gradient is zero per-example scores and curvature are not; where p
    = y none of them is left.
    """
    generator = torch.Generator().manual_seed(0)
    images, labels = (
        torch.rand(90, 1, 8, 8, generator=generator),
        torch.randint(3, (90,), generator=generator),
    )

    def scores(model, labels):
        gradients = gate_gradients(model, images, labels)
        every = (
            first_order(gradients),
            per_example(gradients),
            curvature_diagonal(model, images, labels) / 2,
        )
        return [float(one.abs().max()) for one in every]

    minimum = head_fitted_to(labels, images)
    whole, single, damage = scores(minimum, labels)
    assert whole < 1e-10
    assert min(single, damage) > 1e-4
    sure = copy.deepcopy(minimum)
    sure.get_submodule(
        "layer3"
    ).weight.data *= 1e9  # probability 1 for one class; let that be the label
    assert max(scores(sure, sure(images).argmax(1))) < 1e-10


NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "taylor_pruning.py"


@pytest.mark.parametrize(("name", "exercise"), cells(NOTEBOOK).items())
def test_solutions_pass_their_checks_and_stubs_do_not(name, exercise):
    for source, solved in ((exercise.stub, False), (exercise.solution, True)):
        names = {"torch": torch, "exercises": robustbook.exercises, "checks": exercises}
        *statements, last = ast.parse(source).body
        exec(compile(ast.Module(statements, []), name, "exec"), names)
        assert (
            eval(compile(ast.Expression(last.value), name, "eval"), names).correct
            is solved
        )
