"""The study `bnn_verification`: its rules decide as written, its steps measure what
they say, its exercises are fair.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from robustbook import exercises
from robustbook.bayes import hmc
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.data import gtsrb
from robustbook.data import signs as drawn_signs
from robustbook.results import Results
from robustbook.studies import shared
from robustbook.studies.bnn_verification import CLAIMS, Parameters, networks
from robustbook.studies.bnn_verification import exercises as checks
from robustbook.studies.bnn_verification.measure import balls, boxes, guarantees

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
    sign_train_images=60,
    sign_epochs=5,
    sign_vi_epochs=5,
    sign_hmc_images=8,
    sign_warmup=15,
    sign_draws=4,
    sign_leapfrog=3,
)


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


def guarantee_rows(simulated: float, bound: float, high: float) -> list[dict]:
    return [
        row("promised failure", 0.075, pair="published"),
        row(
            "simulated failure", 0.0, 0.0, 0.01, rule="Massart", pair="published", p=0.1
        ),
        row(
            "simulated failure",
            simulated,
            0.0,
            0.2,
            rule="Massart",
            pair="published",
            p=0.5,
        ),
        row("worst failure", bound, rule="Massart", pair="published"),
        row("failure on a posterior", high / 2, 0.0, high, rule="Massart"),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.01, 0.02, 0.03), "reproduced"),
        ((0.01, 0.02, 0.09), "partly"),
        ((0.08, 0.02, 0.03), "not reproduced"),
        ((0.01, 0.08, 0.03), "not reproduced"),
    ],
)
def test_the_guarantee_is_judged_by_simulation_bound_and_posterior(values, expected):
    assert verdict("C5.1", *guarantee_rows(*values)) == expected


@pytest.mark.parametrize(
    ("outer", "expected"),
    [((94, 232), "reproduced"), ((94, 292), "partly"), ((292, 292), "not reproduced")],
)
def test_massart_is_judged_where_p_is_small_or_large(outer, expected):
    rows = [
        row("mean samples", value, rule="Massart", pair="published", p=p)
        for p, value in zip((0.05, 0.9), outer, strict=True)
    ]
    rows += [
        row("mean samples", 292, rule=rule, pair="published", p=0.5)
        for rule in ("Massart", "Chernoff")
    ]
    assert verdict("C5.2", *rows) == expected


@pytest.mark.parametrize(
    ("violations", "low", "expected"),
    [(0, 0.1, "reproduced"), (0, -0.1, "partly"), (1, 0.1, "not reproduced")],
)
def test_one_exact_violation_of_the_order_refutes(violations, low, expected):
    rows = [
        row("violations of monotonicity", violations, oracle="exact"),
        row("violations of monotonicity", 4, oracle="FGSM"),
        row("rise of the violation probability over the budgets", 0.2, low, 0.3),
    ]
    assert verdict("C5.3", *rows) == expected


def method_rows(
    lows: tuple[float, float],
    right: float = 0.1,
    gap: float = 0.01,
    r_hat: float = 1.05,
    n: int = 5,
) -> list[dict]:
    rows = [row("worst R-hat", r_hat, task="ten classes", quantity="predictions")]
    for name, low in zip(("HMC", "mean-field VI"), lows, strict=True):
        rows.append(
            row(
                "robustness difference", low + 0.1, low, low + 0.2, n=32, posterior=name
            )
        )
        rows.append(
            row(
                "robustness difference of right answers",
                right + 0.1,
                right,
                right + 0.2,
                n=32,
                posterior=name,
            )
        )
        rows.append(
            row("accuracy difference", gap, gap - 0.01, gap + 0.01, n=n, posterior=name)
        )
    return rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (method_rows((0.1, 0.1)), "reproduced"),
        (method_rows((0.1, -0.1)), "partly"),
        (method_rows((0.1, 0.1), gap=0.1), "partly"),
        (method_rows((0.1, 0.1), right=-0.2), "partly"),
        (method_rows((0.1, 0.1), r_hat=1.5), "partly"),
        (method_rows((-0.1, -0.1)), "not reproduced"),
        (method_rows((0.1, 0.1), n=2), "not tested at this scale"),
    ],
)
def test_methods_are_judged_at_matched_accuracy_and_with_mixed_chains(rows, expected):
    assert verdict("C5.4", *rows) == expected


@pytest.mark.parametrize(
    ("high", "within", "expected"),
    [(-0.1, -0.5, "reproduced"), (-0.1, 0.5, "partly"), (0.1, -0.5, "not reproduced")],
)
def test_the_trade_off_must_hold_overall_and_within_families(high, within, expected):
    name = "rank correlation of accuracy and robustness"
    rows = [
        row(name, high - 0.2, high - 0.4, high, family="all"),
        row(name, within, -1, 1, family="MC dropout"),
    ]
    assert verdict("C5.5", *rows) == expected


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        ((0.1, 0.1), "reproduced"),
        ((0.1, 0.0), "partly"),
        ((0.0, 0.0), "not reproduced"),
    ],
)
def test_fgsm_is_judged_on_both_problems(lows, expected):
    rows = [
        row("exact minus FGSM", low + 0.1, low, 1, problem=q)
        for q, low in zip((1, 2), lows, strict=True)
    ]
    rows += [row("exact minus PGD", 0, 0, 0, problem=q) for q in (1, 2)]
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
        boxes.measure((method, SMALL))
        for method in ("HMC", "mean-field VI", "MC dropout", "deterministic")
    ]
    results = Results()
    boxes.record_grid(results, measured)
    boxes.record_oracles(results, measured)
    boxes.record_fits(results, measured)
    assert results.one("violations of monotonicity", oracle="exact").value == 0
    assert results.one("attacks beyond the exact bound").value == 0
    assert results.one("widest gap of exact bounds").value <= boxes.TOLERANCE + 1e-9
    assert {
        row.factors["quantity"]
        for row in results.select("worst R-hat", task="1 against 7")
    } == {
        "predictions",
        "weights",
        "log density",
    }
    assert [row.value for row in results.select("evidence lower bound")] == [
        measured[1].convergence.bound
    ]
    assert [each.convergence is not None for each in measured] == [
        False,
        True,
        False,
        False,
    ]
    for each in measured:
        for epsilon in boxes.EPSILONS:
            low, high = (
                each.exact_low[epsilon].distance,
                each.exact_high[epsilon].distance,
            )
            assert (low <= high).all()
            assert (each.fgsm[epsilon].distance <= high + 1e-5).all()


def test_rules_stop_early_on_a_posterior():
    results = Results()
    boxes.stop_early(results, SMALL)
    chernoff = results.one("oracle calls", rule="Chernoff")
    assert chernoff.value == 292 * chernoff.n
    for rule in ("Massart", "betting", "group-sequential"):
        assert results.one("oracle calls", rule=rule).value <= chernoff.value
    values = [
        results.one("estimate", rule="Chernoff", image=image).value
        for image in range(len(boxes.TARGETS))
    ]
    assert (
        max(
            abs(value - target)
            for value, target in zip(values, boxes.TARGETS, strict=True)
        )
        < 0.25
    )


def test_the_nearest_share_is_taken_and_no_image_twice():
    shares = np.array([[0.0, 0.5, 0.9], [0.06, 0.52, 1.0]])
    assert guarantees.nearest(shares, (0.5, 0.51, 0.05)) == [(0, 1), (0, 2), (1, 0)]


def test_all_rules_see_the_same_simulated_runs():
    results, rules = Results(), guarantees.pairs(SMALL)["published"]
    twins = {name: rules["Chernoff"] for name in ("one", "two")}
    counts = guarantees._misses(twins, 0.5, 3000, np.random.default_rng(0))
    assert counts["one"] == counts["two"] > 0
    guarantees.record_simulations(results, SMALL)
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


def test_hmc_on_signs_sees_its_few_images_and_its_r_hat_is_that_of_arviz():
    import arviz

    task = networks.signs(SMALL)
    assert len(networks.sampled_images(task, SMALL)) == 8
    found = networks.fit_hmc(task, SMALL, networks.budget(task, SMALL, 2), 0)
    images = task.test.take(networks.DIAGNOSED, SMALL.first_seed).images
    draws = np.stack(
        [
            sampled_probabilities(chain.samples, images)[..., 1].double()
            for chain in found.by_chain
        ]
    )
    moving = draws[:, :, draws.std(axis=(0, 1)) > 1e-12]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = arviz.rhat(
            arviz.convert_to_dataset({"value": moving}), method="rank"
        )["value"].to_numpy()
    expected = np.nan_to_num(expected, nan=hmc.R_HAT_LIMIT).clip(max=hmc.R_HAT_LIMIT)
    assert found.mixing is not None
    assert found.mixing.diagnoses["predictions"].median_r_hat == pytest.approx(
        np.median(expected), rel=1e-3
    )


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


def test_crossed_intervals_draw_images_and_seeds():
    kept = np.array([[0.0, 1.0, 0.5, 0.5], [0.2, 0.8, 0.6, 0.4]])
    whole = balls.Shares(kept, np.ones_like(kept))
    alone = balls.crossed([whole])
    assert alone.value == pytest.approx(0.5)
    assert 0 <= alone.low < 0.3 < 0.7 < alone.high <= 1
    assert alone.n == 2  # the outermost level: seeds
    shifted = balls.crossed([balls.Shares(kept + 0.1, whole.counted), whole])
    assert shifted.bounds == pytest.approx((0.1, 0.1))
    half = balls.Shares(kept / 2, whole.counted / 2)
    assert balls.crossed([half]) == alone
    assert balls.crossed([balls.Shares(kept * 0, kept * 0)]).bounds == (0, 0)


def test_brackets_hold_and_differences_are_over_images_and_seeds():
    task = networks.ten_classes(SMALL)
    measured = [
        balls.measure(
            method, seed, networks.fit(method, task, SMALL, seed), task, SMALL
        )
        for method in ("mean-field VI", "MC dropout")
        for seed in (0, 1, 2)
    ]
    results = Results()
    balls.record_comparison(results, measured)
    balls.record_brackets(results, measured, "ten classes")
    broken, attacked = (
        results.select("brackets broken"),
        results.select("violation bracket", end="attacked"),
    )
    assert len(broken) == 2 * len(balls.BRACKETS)
    assert len(attacked) == 2 * 2 * len(balls.BRACKETS)
    assert sum(found.value for found in broken) == 0
    for low in attacked:
        high = results.one("violation bracket", **{**low.factors, "end": "certified"})
        assert low.value <= high.value
        assert (low.low or 0) <= low.value
    difference = results.one("robustness difference", posterior="mean-field VI")
    means = [
        results.one("robustness", posterior=name).value
        for name in ("mean-field VI", "MC dropout")
    ]
    assert difference.value == pytest.approx(means[0] - means[1])
    assert (difference.n, difference.over) == (3, "images and seeds")
    assert results.one("accuracy difference", posterior="mean-field VI").n == 3
    assert all(row.low >= 0 and row.high <= 1 for row in results.select("robustness"))


def test_streams_of_a_posterior_keep_the_promise():
    results = Results()
    # Chernoff's rule gives 20 blocks of 292 samples, 160 runs. Rules fail in at most 5
    # % of runs, mostly in far fewer.
    longer = SMALL.model_copy(update={"reference_samples": 20 * 292})
    streams = guarantees.posterior_streams(longer)
    guarantees.record_posterior(results, streams, longer)
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
            results, guarantees.Streams(streams, np.full(len(streams), 0.55)), SMALL
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
        for setting in balls.settings()
        for name, _ in setting.changes
    }
    assert {
        ("HMC", "prior_sd"),
        ("mean-field VI", "temperature"),
        ("MC dropout", "rate"),
    } <= found
    points = [
        balls.Point(setting, 0.5 + index / 100, 1 - index / 100)
        for index, setting in enumerate(balls.settings())
    ]
    results = Results()
    mixing = networks.Mixing(
        {"predictions": hmc.Diagnosis(1.3, 1.1, 5.0, 9.0)}, 25, 0.7, 0.1
    )
    points[0] = replace(points[0], mixing=mixing)
    balls.record_sweep(results, points)
    assert (
        results.one("worst R-hat in the sweep", setting=points[0].setting.text).value
        == 1.3
    )
    assert results.one(
        "rank correlation of accuracy and robustness", family="all"
    ).value == pytest.approx(-1)


def test_signs_are_measured_too():
    found = balls._sign(("MC dropout", SMALL))
    results = Results()
    balls.record_signs(results, [found])
    assert len(results.select("violation bracket", task="signs")) == 5 * len(
        balls.SIGN_BRACKETS
    )


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
