"""The pruning study: its rules on rows made by hand, its measurements on small
networks, its exercises.
"""

import ast
import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

import robustbook.exercises
from prunable_networks import batch, network
from robustbook.data import load
from robustbook.exercises import cells
from robustbook.measure import oracle
from robustbook.measure.importance import (
    curvature_diagonal,
    first_order,
    gate_gradients,
    per_example,
)
from robustbook.models.gated import with_gates
from robustbook.models.prunable import build
from robustbook.perturb.pruning import all_alive, cost, masked
from robustbook.results import Results
from robustbook.stats import correlation, rank_correlation
from robustbook.studies import taylor_pruning as study
from robustbook.studies.taylor_pruning import (
    exercises,
    figures,
)
from robustbook.studies.taylor_pruning.claims import AGREEING, PLACEMENTS, RIVALS
from robustbook.studies.taylor_pruning.measure import (
    agreement,
    curves,
    latency,
    removal,
    tuning,
)
from robustbook.studies.taylor_pruning.measure.tuning import Plan, prune_and_tune
from robustbook.studies.taylor_pruning.networks import Task

CLAIMS = {claim.id: claim for claim in study.CLAIMS}


def verdict(number, results):
    return CLAIMS[f"C6.{number}"].verdict(results).verdict


def correlation_rows(values, network="lenet3", scope="all layers", width=0.01):
    results = Results()
    for coefficient in ("pearson", "spearman"):
        for name, value in values.items():
            results.add(
                "correlation",
                value,
                (value - width, value + width),
                n=4,
                over="networks",
                network=network,
                data="digits",
                scope=scope,
                coefficient=coefficient,
                criterion=name,
            )
    return results


def test_agreement_needs_disjoint_intervals_above_every_rival():
    good = {**dict.fromkeys(AGREEING, 0.9), **dict.fromkeys(RIVALS, 0.3)}
    assert verdict(1, correlation_rows(good)) == "reproduced"
    assert verdict(1, correlation_rows(good, width=0.4)) == "not reproduced"
    assert verdict(1, correlation_rows({**good, "obd": 0.95})) == "partly"
    assert (
        verdict(1, correlation_rows({**good, "obd": 0.95, "weight-norm": 0.95}))
        == "not reproduced"
    )
    assert verdict(1, Results()) == "not tested at this scale"


def lead_row(results, name, value, width, **factors):
    results.add(
        name, value, (value - width, value + width), n=4, over="networks", **factors
    )


@pytest.mark.parametrize(
    ("plain", "by_layer", "expected"),
    [(0.2, 0.2, "reproduced"), (0.2, 0.05, "partly"), (0.05, -0.3, "not reproduced")],
)
def test_magnitude_rule(plain, by_layer, expected):
    results = Results()
    common = {"network": "lenet3", "data": "digits", "coefficient": "spearman"}
    lead_row(results, "correlation lead", plain, 0.1, rival="weight-norm", **common)
    lead_row(
        results,
        "correlation lead",
        by_layer,
        0.1,
        rival="weight-norm by layer",
        **common,
    )
    assert verdict(2, results) == expected


@pytest.mark.parametrize(
    ("gap", "gain", "expected"),
    [
        (0.1, 0.2, "reproduced"),
        (0.1, -0.2, "partly"),
        (-0.1, 0.0, "partly"),
        (-0.1, -0.2, "not reproduced"),
    ],
)
def test_layers_rule(gap, gain, expected):
    results = Results()
    common = {"network": "lenet3", "data": "digits", "coefficient": "spearman"}
    lead_row(results, "layer gap", gap, 0.05, criterion="taylor-fo", **common)
    lead_row(results, "layer gap", 0.0, 0.05, criterion="weight-norm", **common)
    lead_row(results, "area lead", gain, 0.05, rival="taylor-fo by layer")
    assert verdict(3, results) == expected


@pytest.mark.parametrize(
    ("ratio", "norm", "expected"),
    [(1.0, 0.2, "reproduced"), (1.09, 0.2, "partly"), (1.0, 0.01, "not reproduced")],
)
def test_tracking_rule(ratio, norm, expected):
    results = Results()
    lead_row(results, "area ratio", ratio, 0.05, criterion="taylor-fo")
    lead_row(results, "area ratio", 0.9, 0.05, criterion="taylor-fo-fg")
    lead_row(results, "area lead", norm, 0.05, rival="weight-norm")
    lead_row(results, "area lead", 0.5, 0.05, rival="random")
    assert verdict(4, results) == expected


@pytest.mark.parametrize(
    ("wins", "best", "expected"),
    [(1, 0.9, "reproduced"), (0.5, 0.9, "partly"), (0.5, 0.1, "not reproduced")],
)
def test_placement_rule(wins, best, expected):
    values = {**dict.fromkeys(PLACEMENTS, 0.4), "taylor-fo": best}
    results = correlation_rows(values, network="preact-resnet", scope="inner units")
    for coefficient in ("pearson", "spearman"):
        results.add("placement wins", wins, n=4, coefficient=coefficient)
    assert verdict(5, results) == expected


def test_modern_rule_looks_at_residual_networks_only():
    assert (
        verdict(6, correlation_rows({"taylor-fo": 0.99})) == "not tested at this scale"
    )
    for value, expected in (
        (0.99, "reproduced"),
        (0.93, "partly"),
        (0.5, "not reproduced"),
    ):
        assert (
            verdict(6, correlation_rows({"taylor-fo": value}, network="resnet20"))
            == expected
        )
    assert (
        verdict(6, correlation_rows({"taylor-fo": 0.99}, network="vgg"))
        == "not tested at this scale"
    )


@pytest.mark.parametrize(
    ("second", "damage", "expected"),
    [
        (0.01, 0.2, "reproduced"),
        (0.3, 0.2, "partly"),
        (-0.3, -0.1, "not reproduced"),
        (0.02, 0.0, "partly"),
    ],
)
def test_second_order_rule(second, damage, expected):
    results = Results()
    common = {"network": "lenet3", "data": "digits", "coefficient": "spearman"}
    lead_row(results, "correlation lead", second, 0.02, rival="taylor-so", **common)
    lead_row(results, "correlation lead", damage, 0.02, rival="obd", **common)
    assert verdict(7, results) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1, "reproduced"), (0.01, "partly"), (-0.1, "not reproduced")],
)
def test_accuracy_rules(value, expected):
    results = Results()
    for name, rivals in (
        ("tuned", ("one-shot", "from scratch", "momentum 0.9")),
        ("stream", ("inner units only", "random, streams too")),
    ):
        for rival in rivals:
            lead_row(results, f"{name} lead", value, 0.05, rival=rival)
    assert verdict(8, results) == verdict(9, results) == expected


def test_evidence_says_what_each_interval_is_over():
    """A bootstrap over the units of one network is not taken for an interval over
    networks.
    """
    results = correlation_rows({"taylor-fo": 0.7}, network="preact-resnet")
    results.add(
        "correlation",
        0.6,
        (0.2, 0.9),
        n=336,
        over="units",
        network="resnet20",
        data="digits",
        scope="all layers",
        coefficient="pearson",
        criterion="taylor-fo",
    )
    evidence = CLAIMS["C6.6"].verdict(results).evidence
    assert (
        "preact-resnet 0.700 [0.690, 0.710] (Student's t over 4 networks)" in evidence
    )
    assert (
        "resnet20 0.600 [0.200, 0.900] (bootstrap over 336 units of one network)"
        in evidence
    )


def small_task(seed=0):
    images = load("digits", "train").take(200), load("digits", "test").take(50)
    parameters = study.Parameters(
        train_images=200,
        epochs=2,
        score_images=64,
        curve_images=32,
        subset_images=8,
        tune_batches=12,
        batches_per_step=2,
        residual_images=100,
        residual_epochs=1,
        residual_scores=32,
        curve_units=36,
        sanity_masks=5,
    )
    return Task(seed, *images, parameters)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ROBUSTBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield small_task()
    patch.undo()


def test_correlations_are_those_of_scipy_and_a_constant_tells_nothing(task):
    measured = agreement.measure_lenet3(task)
    for coefficient, peer in (("spearman", spearmanr), ("pearson", pearsonr)):
        found = agreement.correlations(measured, coefficient, "conv2")
        for name, values in measured.scores.items():
            expected = peer(
                values[16:48].double().numpy(), measured.oracle[16:48].double().numpy()
            ).statistic
            assert found[name] == pytest.approx(expected, abs=1e-9)
    assert rank_correlation(torch.ones(5), torch.arange(5.0)) == 0
    assert correlation(torch.ones(5), torch.arange(5.0)) == 0
    within = agreement.correlations(measured, "pearson", "within layers")
    layers = [
        agreement.correlations(measured, "pearson", layer)["taylor-fo"]
        for layer in measured.layers
    ]
    assert within["taylor-fo"] == pytest.approx(sum(layers) / 4)
    results = Results()
    agreement.add_correlations(
        results,
        [measured, agreement.measure_lenet3(small_task(1))],
        network="lenet3",
        data="digits",
    )
    assert all(
        -1 <= row.low <= row.value <= row.high <= 1
        for row in results.select("correlation")
    )
    lead = results.one("correlation lead", coefficient="pearson", rival="random")
    pair = [
        results.one(
            "correlation", coefficient="pearson", scope="all layers", criterion=n
        )
        for n in ("taylor-fo", "random")
    ]
    assert lead.value == pytest.approx(pair[0].value - pair[1].value)


def test_inner_units_leave_streams_out(task):
    measured = agreement.measure_preact_resnet(task)
    assert int(measured.chosen("inner units").sum()) == 240
    assert int(measured.chosen("all layers").sum()) == 360


def test_curves_start_at_the_full_network_and_areas_are_their_means(task):
    found = curves.measure_curves(task)
    assert found.removed == [0, 9, 18, 27, 36]
    assert len({losses[0] for losses in found.losses.values()}) == 1
    results = Results()
    curves.add_curves(results, [found] * 3)
    area = results.one("area", criterion="random").value
    assert area == pytest.approx(sum(found.losses["random"]) / 5)
    assert results.one("area lead", rival="random").value == pytest.approx(
        area - results.one("area", criterion="taylor-fo").value
    )


def test_first_step_of_the_oracle_is_the_unit_whose_removal_changes_the_loss_least():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    full = curves.mean_loss(model, images, labels, all_alive(model))
    changes = []
    for unit in range(model.units):
        alive = all_alive(model)
        alive[unit] = False
        changes.append(abs(curves.mean_loss(model, images, labels, alive) - full))
    _, after = curves.pruning_path(
        model, images, labels, "oracle", 1, 1, torch.Generator()
    )
    assert changes[int((~after).nonzero())] <= min(changes) + 1e-6


def test_the_walk_that_measures_again_takes_the_lowest_score_of_what_is_left():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    group = model.groups[1]
    walk = curves.rescored_walk(model, images, labels, group)
    assert sorted(walk) == list(range(32))
    alive = all_alive(model)
    for unit in walk[:5]:
        with masked(model, alive):
            scores = gate_gradients(model, images, labels).mean(dim=0).square()[16:48]
        assert scores[unit] == scores[alive[16:48]].min()
        alive[16 + unit] = False


def test_each_step_of_a_path_removes_living_units_only():
    model, (images, labels) = network("lenet3"), batch("lenet3")
    path = curves.pruning_path(
        model, images, labels, "oracle", 4, 10, torch.Generator()
    )
    assert [int((~alive).sum()) for alive in path] == [0, 10, 20, 30, 40]
    assert all(bool((before | ~after).all()) for before, after in pairwise(path))


def test_no_way_through_the_subsets_beats_the_best_one(task):
    found = curves.measure_subsets(task)
    best = found["best subset"]
    assert len(best) == 17
    for losses in found.values():
        assert losses[0] == pytest.approx(best[0])
        assert losses[-1] == pytest.approx(best[-1])
        assert all(
            loss >= least - 1e-6 for loss, least in zip(losses, best, strict=True)
        )


def test_greedy_walk_takes_the_smallest_change_each_time():
    losses = torch.rand(16, generator=torch.Generator().manual_seed(1))
    walk = curves.greedy_walk(losses, 4)
    assert sorted(walk) == [0, 1, 2, 3]
    code = 15
    for unit in walk:
        change = {
            u: abs(float(losses[code] - losses[code & ~(1 << u)]))
            for u in range(4)
            if code >> u & 1
        }
        assert change[unit] == min(change.values())
        code &= ~(1 << unit)
    assert curves.losses_along(losses, walk)[-1] == pytest.approx(float(losses[0]))


@pytest.mark.parametrize("one_shot", [False, True])
def test_pruning_with_tuning_removes_what_was_asked(one_shot):
    model, data = network("lenet3"), load("digits", "train").take(200)
    plan = Plan(batches=12, batches_per_step=2, units=100, one_shot=one_shot)
    smaller, alive = prune_and_tune(model, data, plan, torch.Generator().manual_seed(0))
    assert smaller.units == int(alive.sum()) == 152
    assert not smaller.training
    assert all(gate.values is None for gate in [*model.gates(), *smaller.gates()])


def test_pruning_to_a_budget_keeps_to_it_and_to_its_layers():
    model, data = (
        build("preact-resnet", (1, 8, 8), 10, 0),
        load("digits", "train").take(100),
    )
    inner = tuple(
        group.name for group in model.groups if not group.name.startswith("stream")
    )
    plan = Plan(batches=6, batches_per_step=1, budget=0.5, layers=inner)
    smaller, alive = prune_and_tune(model, data, plan, torch.Generator().manual_seed(0))
    share = (
        cost(smaller, data.image_shape).multiply_adds
        / cost(model, data.image_shape).multiply_adds
    )
    assert 0.45 < share <= 0.5
    assert all(
        part.all()
        for name, part in model.split(alive).items()
        if name.startswith("stream")
    )


def test_tuned_network_is_the_masked_one_made_small():
    """The network that comes back computes what its gates computed while it was
    tuned.
    """
    model, data = network("lenet3"), load("digits", "train").take(200)
    still = Plan(batches=6, batches_per_step=1, units=60, learning_rate=0.0)
    smaller, alive = prune_and_tune(
        model, data, still, torch.Generator().manual_seed(0)
    )
    with masked(model, alive), torch.no_grad():
        torch.testing.assert_close(
            smaller(data.images), model(data.images), rtol=0, atol=1e-5
        )


def test_pruning_and_tuning_see_the_images_that_the_network_was_trained_on(
    task, monkeypatch
):
    """The task holds 200 images; LeNet3 trained on 200 of them, the networks with
    batch-norm on 100.
    """
    seen = []

    def watched(model, data, plan, generator):
        seen.append(data.images)
        return prune_and_tune(model, data, plan, generator)

    monkeypatch.setattr(tuning, "prune_and_tune", watched)
    for measure, count in (
        (tuning.measure_tuning, 200),
        (tuning.measure_sanity, 200),
        (tuning.measure_streams, 100),
        (tuning.measure_vgg_pruning, 100),
    ):
        measure(task)
        assert all(torch.equal(images, task.training.images[:count]) for images in seen)
        seen.clear()


def test_every_way_of_tuning_ends_at_the_same_size(task):
    found = tuning.measure_tuning(task)
    assert {int(one.alive.sum()) for one in found.values()} == {
        252 - task.parameters.tuned_units
    }
    before, after = tuning.measure_sanity(task)
    assert len(before) == len(after) == 5
    assert all(0 <= value <= 1 for value in after)


def test_vgg_has_every_criterion_and_the_batch_norm_form_is_the_gate_s_score(task):
    measured = agreement.measure_normed(("vgg", task))
    assert sum(measured.layers.values()) == 112
    assert set(agreement.CRITERIA) < set(measured.scores)
    torch.testing.assert_close(
        measured.scores["bn taylor"], measured.scores["taylor-fo"], rtol=1e-3, atol=1e-9
    )


def test_vgg_is_pruned_to_its_budgets(task):
    found = tuning.measure_vgg_pruning(task)
    full = found["full"].cost.multiply_adds
    for way, one in found.items():
        budget = tuning.VGG_BUDGETS.get(way.split(",")[0], 1)
        # One unit fewer is at most a tenth of so small a network.
        assert budget - 0.1 < one.cost.multiply_adds / full <= budget
    results = Results()
    tuning.add_vgg(results, [found] * 3)
    assert results.one("vgg lead", budget="half").value == pytest.approx(
        found["half, Taylor"].accuracy - found["half, random"].accuracy
    )


def test_removal_is_checked_and_a_wrong_network_is_seen(task, monkeypatch):
    works = [(name, task) for name in ("lenet3", "vgg", "preact-resnet")]
    differences = [removal.check_removal(work) for work in works]
    assert max(differences) <= removal.TOLERANCE
    monkeypatch.setattr(removal, "removed", lambda model, alive: model)
    results = Results()
    removal.add_removal(
        results, works, [*differences[:2], removal.check_removal(works[2])]
    )
    assert [results.one("removal agrees", network=name).value for name, _ in works] == [
        1,
        1,
        0,
    ]


def test_measured_memory_holds_the_largest_layer_and_not_all_layers():
    model = (
        build("vgg", (3, 32, 32), 10, 0).eval().to(memory_format=torch.channels_last)
    )
    largest = latency.BATCH * cost(model, (3, 32, 32)).activation_bytes
    assert largest <= latency.peak_bytes(model, (3, 32, 32)) < 1.5 * largest


def test_costs_are_measured_for_every_way(task):
    found = {
        "full": tuning.Tuned(torch.ones(112).bool(), 1.0, None),
        "less": tuning.Tuned(torch.arange(112) % 2 == 0, 1.0, None),
    }
    measured = latency.measured_costs("vgg", [task], [found])
    assert list(measured) == [
        f"{name} vgg: {way}" for name in ("latency", "memory") for way in found
    ]
    assert min(measured.values()) > 0
    assert measured["memory vgg: less"] < measured["memory vgg: full"]


def test_the_drawn_network_shows_which_units_stayed():
    alive = torch.arange(48) % 3 == 0
    figure = figures.draw_removed({"conv1": 16, "conv2": 32}, {"iterative": alive})
    (ax,) = figure.axes
    filled = [
        bool(colour[3])
        for squares in ax.collections
        for colour in squares.get_facecolors()
    ]
    assert filled == alive.tolist()
    assert {text.get_text().splitlines()[-1] for text in ax.texts} == {
        "6 of 16",
        "10 of 32",
    }


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


def test_every_grade_of_exercise_is_there():
    titles = [
        line for line in NOTEBOOK.read_text().splitlines() if line.startswith("# ### ")
    ]
    assert all(
        any(grade in line for line in titles)
        for grade in ("Predict", "Change", "Implement")
    )
