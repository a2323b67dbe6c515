"""The study `bnn_verification`: its rules decide as written, its steps measure what
they say, its exercises are fair.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from robustbook import exercises
from robustbook.bayes import hmc
from robustbook.data import gtsrb
from robustbook.data import signs as drawn_signs
from robustbook.results import Results
from robustbook.studies import shared
from robustbook.studies.bnn_verification import CLAIMS, Parameters, networks
from robustbook.studies.bnn_verification import exercises as checks
from robustbook.studies.bnn_verification.measure import (
    balls,
    boxes,
    fits,
    guarantees,
    proofs,
)

ROOT = Path(__file__).parents[1]
JUDGES = {claim.id: claim for claim in CLAIMS}
SMALL = Parameters(
    two_hidden=8,
    ten_hidden=8,
    ten_train_images=100,
    warmup=15,
    draws=10,
    leapfrog=5,
    vi_epochs=20,
    epochs=10,
    samples=10,
    images=3,
    ten_images=4,
    steps=4,
    restarts=1,
    runs=200,
    reference_samples=1000,
    sign_samples=4,
    sign_train_images=40,
    sign_epochs=5,
    sign_vi_epochs=5,
    sign_warmup=10,
    sign_draws=6,
    sign_leapfrog=3,
    weight_images=100,
    replicates=50,
)
SETTINGS = {name: getattr(SMALL, name) for name in Parameters.model_fields}


def results_of(*rows: dict) -> Results:
    results = Results()
    for row in rows:
        results.add(**row)
    return results


def row(
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    n: int = 5,
    **factors,
) -> dict:
    interval = None if low is None else (low, high)
    return {"name": name, "value": value, "interval": interval, "n": n, **factors}


def verdict(claim: str, *rows: dict) -> str:
    return JUDGES[claim].verdict(results_of(*rows)).verdict


# Rules
# --------------------------------------------------------------------------------------


def guarantee_rows(
    simulated: float, bound: float, high: float, declared: float = 0.001
) -> list[dict]:
    pair = {"rule": "Massart", "pair": "published"}
    return [
        row("promised failure", 0.075, pair="published"),
        row("simulated failure", 0.0, 0.0, 0.01, p=0.1, **pair),
        row("simulated failure", simulated, simulated, simulated, p=0.5, **pair),
        row("worst failure", bound, **pair),
        row("failure on a posterior", high / 2, 0.0, high, rule="Massart"),
        row("declared robust", declared, eta=0.25, of="p above eta", **pair),
        row(
            "wrongly declared robust on a posterior",
            0.0,
            0.0,
            0.02,
            rule="Massart",
            eta=0.5,
        ),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.01, 0.02, 0.03), "reproduced"),
        ((0.01, 0.02, 0.09), "inconclusive"),
        ((0.08, 0.02, 0.03), "not reproduced"),
        ((0.01, 0.08, 0.03), "not reproduced"),
        ((0.01, 0.02, 0.03, 0.08), "not reproduced"),
    ],
)
def test_the_guarantee_is_judged_by_all_that_it_promises(values, expected):
    assert verdict("C5.1", *guarantee_rows(*values)) == expected


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        ((94, 232), "reproduced"),
        ((94, 285), "partly"),
        ((285, 292), "not reproduced"),
    ],
)
def test_massart_is_judged_where_p_is_small_or_large(outer, expected):
    rows = [
        row("mean samples", value, rule="Massart", pair="published", p=p)
        for p, value in zip((0.05, 0.9), outer, strict=True)
    ]
    rows += [
        row("mean samples", value, rule=rule, pair="published", p=0.5)
        for rule, value in (("Massart", 292), ("Chernoff", 292), ("exact binomial", 9))
    ]
    assert verdict("C5.2", *rows) == expected


@pytest.mark.parametrize(
    ("violations", "low", "undecided", "expected"),
    [
        (0, 0.1, 0.0, "reproduced"),
        (0, 0.0, 0.0, "inconclusive"),
        (0, -0.3, 0.0, "not reproduced"),
        (0, 0.1, 0.02, "inconclusive"),
        (1, 0.1, 0.0, "not reproduced"),
    ],
)
def test_one_exact_violation_of_the_order_refutes(violations, low, undecided, expected):
    rise = "rise of the violation probability over the budgets"
    rows = [
        row("violations of monotonicity", violations, oracle="exact"),
        row("violations of monotonicity", 4, oracle="FGSM"),
        row(rise, low + 0.1, low, low + 0.2),
        row("undecided by exact search", undecided, delta=1e-4),
    ]
    assert verdict("C5.3", *rows) == expected


def method_rows(
    lows,
    scaled=None,
    gap: float = 0.0,
    r_hat: float = 1.01,
    n: int = 5,
    rival: float = 0.5,
):
    """Rows of C5.4 with a lower end for each of both methods and of both tasks."""
    rows = []
    for task in ("1 against 7", "ten classes"):
        rows.append(row("worst R-hat", r_hat, task=task, quantity="predictions"))
        for name, low in zip(("HMC", "mean-field VI"), lows, strict=True):
            same = {"posterior": name, "task": task, "rival": "same accuracy"}
            both = {**same, "rival": "same accuracy and logits"}
            rows.append(row("accuracy difference", gap, gap - 0.01, gap + 0.01, **same))
            for problem, start, key in (
                ({"problem": 2}, low, same),
                ({"problem": 1, "delta": 0.25}, low, same),
                (
                    {"problem": 1, "delta": 0.25},
                    low if scaled is None else scaled,
                    both,
                ),
            ):
                name_of = "robustness difference"
                rows.append(
                    row(name_of, start + 0.1, start, start + 0.2, n, **key, **problem)
                )
                leaves = rival if problem["problem"] == 2 else 0.5
                rows.append(row("robustness of the rival", leaves, **key, **problem))
    return rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (method_rows((0.1, 0.1)), "reproduced"),
        (method_rows((0.1, -0.5)), "mixed"),
        (method_rows((0.1, 0.1), scaled=-0.5), "mixed"),
        (method_rows((0.1, 0.0)), "partly"),
        (method_rows((0.1, 0.1), gap=0.1), "inconclusive"),
        (method_rows((-0.5, -0.5), gap=0.1), "inconclusive"),
        (method_rows((-0.5, -0.5), r_hat=1.5), "inconclusive"),
        (method_rows((-0.5, -0.5)), "not reproduced"),
        (method_rows((0.0, 0.0)), "inconclusive"),
        (method_rows((-0.5, -0.5), rival=0.97), "not reproduced"),
        (method_rows((-0.5, 0.1), rival=0.97), "mixed"),
        (method_rows((0.1, 0.1), scaled=0.1, rival=0.97), "reproduced"),
        (method_rows((0.1, 0.1), n=2), "not tested at this scale"),
    ],
)
def test_methods_are_judged_at_matched_accuracy_and_logits(rows, expected):
    assert verdict("C5.4", *rows) == expected


@pytest.mark.parametrize(
    ("high", "within", "agreement", "expected"),
    [
        (-0.4, -0.5, 0.9, "reproduced"),
        (-0.4, 0.5, 0.9, "partly"),
        (-0.2, -0.5, 0.9, "inconclusive"),
        (0.9, -0.5, 0.9, "not reproduced"),
        (-0.4, -0.5, 0.5, "inconclusive"),
        (0.9, -0.9, 0.9, "mixed"),
    ],
)
def test_the_trade_off_needs_an_interval_that_decides(
    high, within, agreement, expected
):
    name = "rank correlation of accuracy and robustness"
    rows = [
        row(name, high - 0.2, high - 0.4, high, family="all"),
        row(name, within, within - 0.3, within + 0.3, family="MC dropout"),
        row("posteriors left out of the sweep", 2),
    ]
    rows += [
        row("agreement of two seeds in the sweep", agreement, of=of)
        for of in ("accuracy", "robustness")
    ]
    assert verdict("C5.5", *rows) == expected


@pytest.mark.parametrize(
    ("lows", "beyond", "expected"),
    [
        ((0.1, 0.1), 0, "reproduced"),
        ((0.1, 0.1), 1, "inconclusive"),
        ((0.1, -0.3), 0, "mixed"),
        ((0.1, 0.0), 0, "inconclusive"),
        ((-0.3, -0.3), 0, "not reproduced"),
    ],
)
def test_fgsm_is_judged_on_both_problems(lows, beyond, expected):
    name = "share of violations overlooked"
    rows = [
        row(name, low + 0.1, low, low + 0.2, oracle="FGSM", problem=q)
        for q, low in zip((1, 2), lows, strict=True)
    ]
    rows += [
        row(name, 0, 0, 0, oracle=oracle, problem=q)
        for oracle in ("PGD", "corners")
        for q in (1, 2)
    ]
    rows += [
        row("attacks beyond the exact bound", beyond),
        row("undecided by exact search", 0.0, delta=1e-4),
    ]
    assert verdict("C5.6", *rows) == expected


@pytest.mark.parametrize("claim", JUDGES)
def test_a_claim_without_its_rows_is_not_tested(claim):
    assert verdict(claim) == "not tested at this scale"


# Steps
# --------------------------------------------------------------------------------------


def test_ones_and_sevens_have_two_labels_and_five_pixels_inside():
    task = networks.two_classes(SMALL)
    assert task.test.class_names == ("1", "7")
    assert set(task.train.labels.tolist()) == {0, 1}
    for side in (8, 14):
        pixels = boxes.box_pixels(side)
        assert len(set(pixels)) == 5
        assert all(0 <= value < side for pixel in pixels for value in pixel)
    assert boxes.box_pixels(14) == [(5, column) for column in range(5, 10)]


def test_a_folded_network_has_the_difference_of_both_logits():
    task = networks.two_classes(SMALL)
    trained = task.trainable(3)
    logits = trained(task.test.images)
    torch.testing.assert_close(
        task.folded(trained)(task.test.images), logits[:, 1:] - logits[:, :1]
    )


@pytest.mark.parametrize("method", networks.METHODS[1:])
def test_every_method_learns_ones_and_sevens(method):
    task = networks.two_classes(SMALL)
    posterior = networks.fit(
        method, task, SMALL.model_copy(update={"epochs": 60, "vi_epochs": 150}), 0
    )
    samples = posterior.draw(20, torch.Generator().manual_seed(0))
    assert networks.accuracy(samples, task, SMALL).predictive > 0.9


def test_measured_boxes_are_in_order_and_recorded_once():
    measured = [
        boxes.measure((name, seed, SMALL)) for name in boxes.NAMES for seed in (0, 1)
    ]
    results = Results()
    boxes.record_grid(results, measured)
    boxes.record_oracles(results, measured)
    boxes.record_means(results, measured)
    boxes.record_searches(results, measured)
    boxes.compare(results, measured)
    assert results.one("violations of monotonicity", oracle="exact").value == 0
    assert results.one("attacks beyond the exact bound").value == 0
    for undecided in results.select("undecided by exact search"):
        assert undecided.value <= 0.01
    assert sum(row.value for row in results.select("mean brackets broken")) == 0
    for each in measured:
        for epsilon in boxes.EPSILONS:
            low, high = each.low[epsilon].distance, each.high[epsilon].distance
            assert (low <= high).all()
            for reached in each.attacks.values():
                assert (reached[epsilon].distance <= high + 1e-5).all()
    flips = [
        results.select(
            "violation probability", posterior=name, problem=2, epsilon=0.75
        )[0].value
        for name in (f"{kind}HMC" for kind in (networks.ACCURATE, networks.ALIKE))
    ]
    assert flips[0] == pytest.approx(flips[1])  # no decision depends on the scale
    difference = results.one(
        "robustness difference",
        posterior="HMC",
        task="1 against 7",
        rival="published rate",
        problem=2,
    )
    means = [
        np.mean([boxes.violated(each, None, boxes.EPSILONS) for each in found])
        for found in (boxes.by_name(measured)[n] for n in ("MC dropout", "HMC"))
    ]
    assert difference.value == pytest.approx(means[0] - means[1])


def test_dropout_is_matched_in_accuracy_and_in_the_size_of_its_logits():
    longer = SMALL.model_copy(update={"epochs": 40, "vi_epochs": 60})
    task = networks.two_classes(longer)
    aim = networks.samples_of("mean-field VI", task, longer, 0, 40)
    same = networks.samples_of(f"{networks.ACCURATE}mean-field VI", task, longer, 0, 40)
    alike = networks.samples_of(f"{networks.ALIKE}mean-field VI", task, longer, 0, 40)
    reached = [
        networks.accuracy(each, task, longer).sample for each in (aim, same, alike)
    ]
    assert reached[1] == reached[2]
    assert abs(reached[0] - reached[1]) < 0.1
    sizes = [networks.size_of_logits(each, task) for each in (aim, alike)]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-4)


def test_corners_are_all_corners():
    task = networks.two_classes(SMALL)
    samples = networks.samples_of("MC dropout", task, SMALL, 0, 3)
    region = boxes.region_of(task, SMALL, 0.3)
    found = boxes.corners(samples, region)
    rng = torch.Generator().manual_seed(0)
    for _ in range(60):
        coin = torch.rand(region.images.shape, generator=rng) < 0.5
        points = torch.where(coin, region.low, region.high)
        at = boxes.answer(samples.logits(region.images))
        assert (at.reach(samples.logits(points)).margin <= found.margin + 1e-6).all()


def test_rules_stop_early_on_a_posterior():
    results = Results()
    boxes.stop_early(results, **SETTINGS)
    chernoff = results.one("oracle calls", rule="Chernoff")
    assert chernoff.value == 292 * chernoff.n
    for rule in ("exact binomial", "Massart", "betting", "group-sequential"):
        assert results.one("oracle calls", rule=rule).value <= chernoff.value
    for found in results.select("violations found"):
        assert round(found.value * found.n) == pytest.approx(found.value * found.n)
        assert found.low <= found.value <= found.high


def test_a_trace_closes_in_on_its_reference():
    found = boxes.trace(**SETTINGS)
    assert len(found.outcomes) == 292
    assert abs(found.outcomes.mean() - found.reference) < 0.075


def test_the_nearest_share_is_taken_and_no_image_twice():
    shares = np.array([[0.0, 0.5, 0.9], [0.06, 0.52, 1.0]])
    assert guarantees.nearest(shares, (0.5, 0.51, 0.05)) == [(0, 1), (0, 2), (1, 0)]


def test_all_rules_see_the_same_simulated_runs():
    results, rules = Results(), guarantees.pairs(SMALL)["published"]
    twins = {name: rules["Chernoff"] for name in ("one", "two")}
    counts = guarantees._misses(twins, 0.5, 3000, np.random.default_rng(0))
    assert counts["one"] == counts["two"] > 0
    guarantees.record_simulations(results, **SETTINGS)
    assert len(results.select("simulated failure", pair="tight")) == len(rules) * len(
        guarantees.SIMULATED
    )


def test_a_kept_posterior_is_the_one_that_was_fitted(monkeypatch):
    task, length = networks.two_classes(SMALL), networks.Budget(2, 6, 4, 3)
    first = networks.fit_hmc(task, SMALL, length, 0)
    fitted = {
        method: networks.fit(method, task, SMALL, 0) for method in networks.METHODS[1:]
    }
    monkeypatch.setattr(shared, "train_mean_field", None)
    for name in ("train_dropout", "train_ensemble", "_chains"):
        monkeypatch.setattr(networks, name, None)
    pairs = [(first.posterior, networks.fit_hmc(task, SMALL, length, 0).posterior)]
    pairs += [
        (found, networks.fit(method, task, SMALL, 0))
        for method, found in fitted.items()
    ]
    for one, two in pairs:
        draws = [
            each.draw(3, torch.Generator().manual_seed(1)).logits(task.test.images[:5])
            for each in (one, two)
        ]
        assert torch.equal(*draws)
    with pytest.raises(TypeError):
        networks.fit("ensemble", task, SMALL, 1)


def test_variational_deviations_reach_the_optimum_whatever_the_prior():
    task = networks.two_classes(SMALL)
    longer = SMALL.model_copy(update={"vi_epochs": 150})
    for prior_sd in (0.3, 3.0):
        posterior = networks.fit("mean-field VI", task, longer, 0, prior_sd=prior_sd)
        found = networks.convergence(posterior, task, longer, prior_sd=prior_sd)
        assert found.uninformed == pytest.approx(1, abs=0.05)
        assert found.balance["1"] == pytest.approx(1, abs=0.2)
    assert (
        networks.convergence(networks.fit("ensemble", task, SMALL, 0), task, SMALL)
        is None
    )


def test_brackets_hold_on_ten_classes():
    task = networks.ten_classes(SMALL)
    measured = [
        balls.measure(
            name,
            0,
            networks.samples_of(name, task, SMALL, 0, 6),
            task,
            SMALL,
            balls.BRACKETS,
        )
        for name in ("mean-field VI", "MC dropout")
    ]
    results = Results()
    balls.record_brackets(results, {"ten classes": measured})
    broken, attacked = (
        results.select("brackets broken"),
        results.select("violation bracket", end="attacked"),
    )
    assert len(broken) == 2 * len(balls.BRACKETS)
    assert len(attacked) == 2 * 2 * len(balls.BRACKETS)
    assert sum(found.value for found in broken) == 0
    broken = results.select("mean brackets broken, whole images")
    assert sum(row.value for row in broken) == 0
    for low in attacked:
        high = results.one("violation bracket", **{**low.factors, "end": "certified"})
        assert low.value <= high.value
        assert (low.low or 0) <= low.value


def test_streams_of_a_posterior_keep_the_promise():
    results = Results()
    # Chernoff's rule gives 20 blocks of 292 samples, 160 runs. Rules fail in at most 5
    # % of runs, mostly in far fewer.
    longer = SMALL.model_copy(update={"reference_samples": 20 * 292})
    settings = {**SETTINGS, "reference_samples": 20 * 292}
    streams = guarantees.posterior_streams(**settings)
    guarantees.record_posterior(results, streams, **settings)
    assert streams.outcomes.shape == (len(guarantees.TARGETS), longer.reference_samples)
    rules, failures = (
        guarantees.pairs(SMALL)["published"],
        results.select("failure on a posterior"),
    )
    assert [found.factors["rule"] for found in failures] == list(rules)
    for found in failures:
        assert (found.n, found.over) == (
            20 * 292 // rules[found.factors["rule"]].horizon,
            "blocks of samples",
        )
        assert found.value <= SMALL.gamma
    inside = (streams.references > 0.01) & (streams.references < 0.99)
    assert inside.sum() >= len(guarantees.TARGETS) - 2
    halves = streams.outcomes.mean(axis=1) - streams.references
    assert np.abs(halves).max() < 0.05


def test_runs_on_the_same_samples_do_not_count_as_independent():
    rng, images = np.random.default_rng(0), 8
    outcomes = np.repeat(rng.random((1, 30 * 292)) < 0.5, images, axis=0)
    alone, together = Results(), Results()
    for results, streams in ((alone, outcomes[:1]), (together, outcomes)):
        guarantees.record_posterior(
            results,
            guarantees.Streams(streams, np.full(len(streams), 0.55)),
            **SETTINGS,
        )
    for rule in guarantees.pairs(SMALL)["published"]:
        one, copies = (
            each.one("failure on a posterior", rule=rule) for each in (alone, together)
        )
        assert (one.value, one.low, one.high, one.n) == (
            copies.value,
            copies.low,
            copies.high,
            copies.n,
        )


def test_the_sweep_varies_priors_temperatures_and_rates():
    found = {
        (setting.method, name)
        for setting in balls.sweep_settings()
        for name, _ in setting.changes
    }
    assert {
        ("HMC", "prior_sd"),
        ("mean-field VI", "temperature"),
        ("MC dropout", "rate"),
    } <= found
    points = [
        balls.Point(setting, (0.5 + i / 100,) * 2, (1 - i / 100,) * 2)
        for i, setting in enumerate(balls.sweep_settings())
    ]
    results = Results()

    def mixing(worst):
        found = hmc.Diagnosis(worst, 1.0, 5.0, 9.0)
        return networks.Mixing({"predictions": found}, 25, 0.7, 0.1)

    points[0] = replace(points[0], mixing=mixing(1.05))
    points[1] = replace(points[1], mixing=mixing(1.3))
    points[2] = replace(points[2], accuracy=(0.1, 0.1))
    balls.record_sweep(results, points)
    assert results.one("posteriors left out of the sweep").value == 2
    rho = results.one("rank correlation of accuracy and robustness", family="all")
    assert (rho.value, rho.n) == (pytest.approx(-1), len(points) - 2)
    for row_ in results.select("agreement of two seeds in the sweep"):
        assert row_.value == pytest.approx(1)


def test_chains_on_signs_are_measured():
    found = [balls._sign((name, SMALL)) for name in ("HMC", "MC dropout")]
    results = Results()
    balls.record_brackets(results, {"signs": found})
    fits.record_fits(results, **SETTINGS)
    fits.record_accuracies(results, {"signs": found})
    ends = results.select("violation bracket", task="signs")
    assert len(ends) == 2 * 2 * 2 * len(balls.SIGN_BRACKETS)
    worst = results.one("worst R-hat", task="signs", quantity="predictions")
    assert worst.value >= 1
    assert results.one("chains", task="signs").value == SMALL.sign_chains
    assert {
        row.factors["quantity"]
        for row in results.select("worst R-hat", task="1 against 7")
    } == {"predictions", "weights", "log density"}
    assert len(results.select("accuracy", task="signs")) == 4


def test_proofs_stay_below_samples_and_ranks_are_recorded():
    results = Results()
    proofs.record_weight_boxes(results, **SETTINGS)
    proofs.record_calibration(results, **SETTINGS)
    assert sum(r.value for r in results.select("proved beyond the sampled")) == 0
    assert len(results.select("p-value of uniform ranks")) == 6


# Data
# --------------------------------------------------------------------------------------


def test_drawn_signs_are_the_same_every_time_and_tell_apart():
    one, two = (drawn_signs._read((), "train") for _ in range(2))
    assert one.digest == two.digest
    assert torch.equal(one.images, two.images)
    assert one.labels.bincount().tolist() == [300, 300]
    assert one.digest != drawn_signs._read((), "test").digest
    background = np.array([0.5, 0.5, 0.5])
    round_sign, triangle = (
        drawn_signs.draw(drawn_signs.Sign(kind, 9.5, 9.5, 8.0, 0.0, background))
        for kind in (False, True)
    )
    np.testing.assert_allclose(round_sign[0, 0], background)
    np.testing.assert_allclose(round_sign[10, 3], [0.75, 0.1, 0.12])
    np.testing.assert_allclose(triangle[2, 3], background)


def test_validation_tracks_share_no_frame_with_training():
    tracks = np.repeat(np.arange(75), 30)
    kept = gtsrb.validation(tracks)
    assert not set(tracks[kept]) & set(tracks[~kept])
    assert kept.mean() == pytest.approx(0.2)


@pytest.mark.data("gtsrb")
def test_gtsrb_has_its_counts(data_root):
    from robustbook.data import load

    counts = {
        split: load("gtsrb", split).labels.bincount().tolist()
        for split in ("train", "validation", "test")
    }
    assert counts == {
        "train": [1800, 1200],
        "validation": [450, 300],
        "test": [750, 480],
    }
    assert load("gtsrb", "test").image_shape == (3, 28, 28)


# Notebook
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"theta": 0.0},
        {"gamma": 1.5},
        {"seeds": 2},
        {"dataset": "cifar10"},
        {"unknown": 1},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Parameters(**wrong)


def test_the_parameters_cell_says_what_the_parameters_are():
    names: dict = {}
    text = (ROOT / "notebooks" / "bnn_verification.py").read_text()
    cell = text.split('# %% tags=["parameters"]\n')[1].split("\n# %%")[0]
    exec(cell, names)
    values = {name: value for name, value in names.items() if not name.startswith("__")}
    assert values == Parameters().model_dump()


def test_stubs_fail_and_solutions_pass():
    found = exercises.cells(ROOT / "notebooks" / "bnn_verification.py")
    assert len(found) >= 4
    from robustbook.measure import sequential

    for name, exercise in found.items():
        for source, correct in ((exercise.stub, False), (exercise.solution, True)):
            space = {
                "exercises": exercises,
                "checks": checks,
                "torch": torch,
                "sequential": sequential,
            }
            body, last = source.rsplit("exercises.report", 1)
            exec(body, space)
            outcome = eval("exercises.report" + last, space)
            assert outcome.correct is correct, (name, outcome.message)
            if not correct:
                assert "stopped with" not in outcome.message


def test_wrong_answers_get_hints():
    drawn_apart = lambda samples, count, generator: type(samples)(  # noqa: E731
        samples.architecture,
        {
            name: tensor[torch.randint(2, (count,), generator=generator)]
            for name, tensor in samples.weights.items()
        },
    )
    assert (
        "one index for all weights"
        in exercises.report(checks.check_joint, drawn_apart).message
    )

    def biases_apart(samples, count, generator):
        first, second = (
            torch.randint(2, (count,), generator=generator) for _ in range(2)
        )
        return type(samples)(
            samples.architecture,
            {
                name: each[second if "bias" in name else first]
                for name, each in samples.weights.items()
            },
        )

    assert (
        "one index for all weights"
        in exercises.report(checks.check_joint, biases_apart).message
    )
    assert not exercises.report(
        checks.check_interval_margin, lambda w, a, b: w @ b
    ).correct
    assert not exercises.report(
        checks.check_ends, {"attack": "lower", "certificate": "lower"}
    ).correct
    assert not exercises.report(checks.check_halved_width, 4.0).correct


def test_the_paper_s_sizes_are_accepted_as_they_are_printed():
    text = (ROOT / "book" / "how-to-rerun.md").read_text("utf-8")
    block = text.split("```yaml\n# paper.yml\n")[1].split("```")[0]
    given = yaml.safe_load(block)["bnn_verification"]
    found = Parameters(**given)
    assert found.ten_train_images == 60000
    assert {name: getattr(found, name) for name in given} == given
