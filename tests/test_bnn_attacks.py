"""The study `bnn_attacks`: its rules decide as written, its intervals are right, and
its networks are what they say.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbook.bayes.protocol import Empirical
from robustbook.checks import ArgumentError
from robustbook.measure.uncertainty import auroc
from robustbook.models.training import TrainingDiverged
from robustbook.results import Results
from robustbook.stats import bootstrap_mean
from robustbook.studies.bnn_attacks import CLAIMS, Parameters, exercises, networks, rows
from robustbook.studies.bnn_attacks.claims import BNN, CNN, PENALISED, SECOND, rounded
from robustbook.studies.bnn_attacks.measure import evaluation, quiet

SMALL = Parameters(
    train_images=300,
    epochs=8,
    vi_epochs=8,
    members=2,
    seeds=1,
    images=12,
    samples=3,
    test_samples=6,
    weight_images=10,
    steps=2,
)
JUDGES = {claim.id: claim for claim in CLAIMS}
SETTING = networks.settings(SMALL)[0]


def verdict(
    claim: str, *rows: dict, seeds: int = 3, datasets: tuple[str, ...] = ("mnist",)
) -> str:
    results = Results()
    results.add("seeds", seeds)
    for dataset in datasets:
        results.add("images", 80, dataset=dataset, title=dataset)
    for row in rows:
        results.add(**row)
    return JUDGES[claim].verdict(results).verdict


def row(
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    **factors: object,
) -> dict:
    interval = None if low is None else (low, value + 0.1 if high is None else high)
    return {
        "name": name,
        "value": value,
        "interval": interval,
        "n": 80,
        "dataset": "mnist",
        **factors,
    }


# Rules
# --------------------------------------------------------------------------------------


def lead(
    first: str, second: str, way: str, low: float, high: float | None = None
) -> dict:
    return row(
        "lead under attack",
        low + 0.05,
        low,
        high,
        first=first,
        over_network=second,
        way=way,
    )


def p1_rows(transfer: float, white_box: float) -> list[dict]:
    return [
        lead(BNN, SECOND, "transfer", transfer),
        lead(BNN, SECOND, "EOT", white_box),
        lead(BNN, PENALISED, "transfer", 0.0),
        lead("ensemble", SECOND, "transfer", 0.0),
        lead("weight noise", SECOND, "transfer", 0.0),
        row("check: EOT less transfer", -0.2, network=BNN, budget=1.0),
        row("check: EOT from a random start less transfer", -0.1, network=BNN),
    ]


@pytest.mark.parametrize(
    ("transfer", "white_box", "expected"),
    [
        (0.01, 0.01, "reproduced"),
        (0.01, -0.01, "partly"),
        (-0.01, 0.01, "not reproduced"),
        (-0.01, -0.01, "not reproduced"),
    ],
)
def test_p1_tells_transfer_from_robustness(
    transfer: float, white_box: float, expected: str
) -> None:
    assert verdict("P1", *p1_rows(transfer, white_box)) == expected
    assert (
        verdict("P1", *p1_rows(transfer, white_box), seeds=2)
        == "not tested at this scale"
    )


def test_data_sets_that_disagree_make_it_partly() -> None:
    other = [{**each, "dataset": "cifar10"} for each in p1_rows(-0.1, -0.1)]
    rows = [*p1_rows(0.1, 0.1), *other]
    assert verdict("P1", *rows, datasets=("mnist", "cifar10")) == "partly"
    results = Results()
    results.add("seeds", 3)
    for dataset in ("mnist", "cifar10"):
        results.add("images", 80, dataset=dataset, title=dataset)
    for each in rows:
        results.add(**each)
    evidence = JUDGES["P1"].verdict(results).evidence
    assert "mnist (reproduced): " in evidence
    assert "cifar10 (not reproduced): " in evidence
    assert "over seeds and 80 images" in evidence
    for claim in CLAIMS:
        assert "partly where the data sets disagree" in claim.rule


@pytest.mark.parametrize(
    ("over_cnn", "over_penalised", "expected"),
    [
        (0.01, 0.01, "reproduced"),
        (0.01, -0.01, "partly"),
        (-0.01, 0.01, "not reproduced"),
    ],
)
def test_p2_needs_the_regularised_network_beaten(
    over_cnn: float, over_penalised: float, expected: str
) -> None:
    rows = [
        row(
            "lead under interference",
            low + 0.05,
            low,
            over_network=over,
            interference="all",
        )
        for over, low in ((CNN, over_cnn), (PENALISED, over_penalised), (SECOND, 0.0))
    ]
    assert verdict("P2", *rows) == expected


@pytest.mark.parametrize(
    ("ahead", "averaged", "quiet", "expected"),
    [
        (0.05, 0.70, 0.70, "reproduced"),
        (0.05, 0.55, 0.70, "partly"),
        (0.01, 0.70, 0.70, "partly"),  # ahead, but the interval reaches below 0.02
        (0.05, 0.70, 0.55, "partly"),
        (0.05, 0.70, 0.45, "not reproduced"),
        (-0.09, 0.70, 0.70, "not reproduced"),
    ],
)
def test_p3_must_survive_an_attack_that_knows_the_alarm(
    ahead: float, averaged: float, quiet: float, expected: str
) -> None:
    lows = {"transfer": 0.8, "EOT": averaged, "uncertainty-aware": quiet}
    rows = [
        row("AUROC", low + 0.1, low, network=BNN, score=score, inputs=inputs)
        for inputs, low in lows.items()
        for score in ("mutual information", "entropy")
    ]
    rows.append(
        row("AUROC lead over max-softmax", ahead + 0.05, ahead, inputs="transfer")
    )
    assert verdict("P3", *rows) == expected


def p4_rows(
    over_bnn_high: float,
    over_plain: float,
    over_extractor: float,
    eot: float,
    spread: float,
) -> list[dict]:
    rows = [
        row("relative spread", value, network="det+stoch", layer=str(value))
        for value in (0.0, spread)
    ]
    for way in ("transfer", "EOT"):
        plain = over_plain if way == "transfer" else eot
        rows += [
            lead("det+stoch", BNN, way, -0.2, over_bnn_high),
            lead("det+stoch", SECOND, way, plain),
            lead("det+stoch", "stoch+det", way, over_extractor),
        ]
    return rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((0.1, 0.01, 0.01, 0.01, 0.5), "reproduced"),
        ((0.1, 0.01, 0.01, -0.01, 0.5), "partly"),
        ((0.1, 0.01, -0.01, 0.01, 0.5), "partly"),
        ((-0.01, 0.01, 0.01, 0.01, 0.5), "not reproduced"),
        ((0.1, -0.01, 0.01, 0.01, 0.5), "not reproduced"),
        ((0.1, 0.01, 0.01, 0.01, 0.001), "not tested at this scale"),
    ],
)
def test_p4_compares_the_designs_and_sees_a_collapse(
    rows: tuple[float, ...], expected: str
) -> None:
    assert verdict("P4", *p4_rows(*rows)) == expected


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_without_measurements_nothing_is_decided(claim) -> None:  # type: ignore[no-untyped-def]
    assert claim.verdict(Results()).verdict == "not tested at this scale"
    assert claim.rule
    assert claim.control


# Intervals
# --------------------------------------------------------------------------------------


def test_with_one_seed_the_interval_is_the_bootstrap_over_images() -> None:
    values = np.random.default_rng(3).integers(0, 2, (1, 100)).astype(float)
    found, expected = rows.crossed_mean(values), bootstrap_mean(values[0], seed=1)
    assert found.value == expected.value
    assert found.bounds == pytest.approx(expected.bounds, abs=0.02)


def test_seeds_that_differ_widen_the_interval() -> None:
    same = np.tile(np.arange(60) % 2, (3, 1)).astype(float)
    apart = np.stack([np.zeros(60), np.full(60, 0.5), np.ones(60)])
    assert rows.crossed_mean(apart).low == 0
    assert rows.crossed_mean(apart).high == 1
    assert rows.crossed_mean(same).low > 0.3


def test_a_mask_leaves_images_out() -> None:
    first, second = np.ones((2, 4)), np.array([[0.0, 1, 1, 1], [0, 0, 1, 1]])
    mask = np.array([[0.0, 1, 1, 1], [0, 1, 1, 1]])
    lead_ = rows.paired_lead(first, second, mask)
    assert lead_.value == pytest.approx(1 / 6)
    assert lead_.n == 2  # the outermost level: seeds


def test_networks_that_are_never_both_right_are_not_compared() -> None:
    clean = {("clean", "none", 0.0): np.zeros(3)}
    attacked = {
        (way, "PGD", budget): np.zeros(3)
        for way in (*rows.WAYS, "one sample")
        for budget in rows.BUDGETS
    }
    disturbed = {
        ("interference", name, float(level)): np.ones(3)
        for name in rows.INTERFERENCES
        for level in rows.SEVERITIES
    }
    table = rows.Table(
        [
            evaluation.Measured(
                kind, "digits", seed, clean | attacked | disturbed, lengths=np.ones(3)
            )
            for kind in networks.KINDS
            for seed in range(3)
        ]
    )
    results = Results()
    results.add("seeds", 3)
    results.add("images", 3, dataset="digits", title="Digits")
    rows.record_leads(results, table)
    rows.record_interference(results, table)
    rows.record_lengths(results, table)
    found = {metric.name for metric in results}
    assert found == {
        *("seeds", "images", "lead under attack, all images"),
        *("accuracy under interference", "mean accuracy under interference"),
        "C&W L2 distance",
    }
    for claim in CLAIMS:
        assert claim.verdict(results).verdict == "not tested at this scale"
    titles = {"digits": "Digits"}
    assert "no image is right" in rows.regularised_lead(results, "digits")
    assert "no image is right" in rows.smallest_visible(results, titles)
    assert rows.nearest(results, titles)["found"].isna().all()
    assert rows.disturbances(results, "digits")["the BNN leads by"].isna().all()


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_areas_are_means_over_seeds_and_their_leads_are_differences(seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 6, (4, 2, 9)).astype(float)
    area = rows.crossed_auroc(scores[0], scores[1])
    assert area.value == pytest.approx(
        np.mean([auroc(a, b) for a, b in zip(scores[0], scores[1], strict=True)])
    )
    assert area.low <= area.value + 0.1
    lead_ = rows.crossed_auroc(scores[0], scores[1], (scores[2], scores[3]))
    assert lead_.value == pytest.approx(
        area.value - rows.crossed_auroc(scores[2], scores[3]).value
    )


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.001, "0.00"), (-0.006, "-0.01"), (0.004, "0.00")]
)
def test_nothing_is_shown_as_less_than_nothing(value: float, shown: str) -> None:
    assert rounded(value, 2) == shown


# Exercises
# --------------------------------------------------------------------------------------


def answered(control: str, accuracy: float = 0.5) -> None:
    results = Results()
    for network, value in ((CNN, 0.3), (BNN, 0.6), (control, accuracy)):
        if not results.select("accuracy under attack", network=network):
            results.add(
                **row(
                    "accuracy under attack",
                    value,
                    network=network,
                    way="transfer",
                    attack="PGD",
                    budget=1.0,
                )
            )
    answer = {"way": "transfer", "compared with": CNN, "control": control}
    exercises.check_first_claim(answer, results)


@pytest.mark.parametrize("control", [SECOND, PENALISED, "ensemble", "weight noise"])
def test_a_control_of_the_first_claim_gains_without_inference(control: str) -> None:
    answered(control)
    with pytest.raises(
        AssertionError, match=f"{control} gains nothing over the CNN on mnist"
    ):
        answered(control, 0.3)


@pytest.mark.parametrize(
    "control", [CNN, BNN, "det+stoch", "stoch+det", "Laplace", "MC dropout"]
)
def test_a_posterior_from_inference_is_no_control(control: str) -> None:
    with pytest.raises(AssertionError, match="no posterior from inference"):
        answered(control)


# The weight of the quiet attack
# -------------------------------------------------------------------------------------


def test_the_quietest_weight_that_still_fools_is_chosen() -> None:
    trials = [
        quiet.Trial(2, 0.9, 0.7),
        quiet.Trial(10, 0.88, 0.5),
        quiet.Trial(50, 0.6, 0.1),
    ]
    assert quiet.choose(trials, fooled=0.9) == 10
    assert quiet.choose(trials, fooled=0.6) == 50
    assert (
        quiet.choose(trials, fooled=1.0) == 2
    )  # none fools enough: the one that fools most
    assert quiet.choose(trials[::-1], fooled=0.9) == 10
    with pytest.raises(ValueError, match="at least one"):
        quiet.choose([], 0.5)


def test_the_weight_depends_on_the_training_images_and_the_seed_alone() -> None:
    posterior = networks.fit(BNN, SETTING, SMALL, 0)
    data = networks.images_of("digits", "train", 300).take(12)

    def chosen() -> float:
        return quiet.alarm_weight(
            posterior,
            data.images,
            data.labels,
            epsilon=0.1,
            steps=3,
            step_size=0.05,
            samples=4,
            test_samples=8,
            generator=torch.Generator().manual_seed(1),
        )

    assert chosen() == chosen()
    assert chosen() in quiet.WEIGHTS


def test_lengths_are_those_of_images_that_were_right_and_moved() -> None:
    data = networks.images_of("digits", "test", 6)
    measured = evaluation.Measured(CNN, "digits", 0)
    measured.correct["clean", "none", 0.0] = np.array([1.0, 1, 0, 0, 1, 1])
    judge = evaluation.Judge(
        networks.fit(CNN, SETTING, SMALL, 0), 1, data.labels, measured
    )
    shift = torch.tensor([0.5, 0, 0.5, 0, 0.25, 0])
    moved = data.images.clone()
    moved[:, 0, 0, 0] += shift
    judge.note_lengths(data.images, moved)
    assert measured.lengths is not None
    np.testing.assert_allclose(
        measured.lengths, [0.5, np.nan, np.nan, np.nan, 0.25, np.nan], atol=1e-6
    )


# Networks and measurements
# --------------------------------------------------------------------------------------


def test_every_kind_is_fitted_once_and_read_again() -> None:
    images = networks.images_of("digits", "test", 12).images
    for kind in networks.KINDS:
        first, again = (networks.fit(kind, SETTING, SMALL, 0) for _ in range(2))
        draws = [
            each.draw(3, torch.Generator().manual_seed(1)).logits(images)
            for each in (first, again)
        ]
        assert torch.allclose(draws[0], draws[1], atol=1e-4), kind
        spread = float(draws[0].std(0).max())
        alone = isinstance(first, Empirical) and len(first.samples) == 1
        assert (spread < 1e-5) == alone, kind


def test_nothing_shares_the_start_of_the_attacked_network() -> None:
    attacked = networks.fit(CNN, SETTING, SMALL, 0).architecture
    second = networks.fit(SECOND, SETTING, SMALL, 0).architecture
    ensemble = networks.fit("ensemble", SETTING, SMALL, 0)
    assert not torch.allclose(attacked[0].weight, second[0].weight)
    assert isinstance(ensemble, Empirical)
    for weight in ensemble.samples.weights["0.weight"]:
        assert not torch.allclose(weight, second[0].weight)


def test_posteriors_of_variational_inference_are_diagnosed_and_others_are_not() -> None:
    found = networks.convergence(
        networks.fit("det+stoch", SETTING, SMALL, 0), SETTING, SMALL
    )
    assert found is not None
    assert set(found.balance) == {"5", "7"}
    assert (
        networks.convergence(networks.fit(SECOND, SETTING, SMALL, 0), SETTING, SMALL)
        is None
    )
    without = replace(SETTING, temperature=0.0)
    assert (
        networks.convergence(
            networks.fit("det+stoch", without, SMALL, 0), without, SMALL
        )
        is None
    )


def test_an_unknown_design_is_refused() -> None:
    with pytest.raises(ArgumentError, match="design must be one of det"):
        networks.fit("det+bayes", SETTING, SMALL, 0)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (BNN, r"stoch\+stoch on digits, prior_sd 0.3"),
        (PENALISED, "prior_sd 0.3"),
        (CNN, "natural"),
    ],
)
def test_a_loss_that_stops_being_finite_names_epoch_and_setting_and_keeps_nothing(
    kind: str, setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = networks.images_of("digits", "train", 300)
    monkeypatch.setattr(networks, "_train_set", lambda _: data)
    monkeypatch.setattr(torch, "isfinite", lambda loss: torch.tensor(False))
    monkeypatch.setenv("ROBUSTBOOK_CACHE", str(tmp_path))
    with pytest.raises(TrainingDiverged, match=f" in epoch 1 of .*{setting}"):
        networks.fit(kind, SETTING, SMALL, 0)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_measurements_become_every_row_that_a_rule_needs() -> None:
    pairs = networks.all_pairs(SMALL)
    measured = [evaluation.evaluate(*pair) for pair in pairs]
    for each in measured:
        assert {len(values) for values in each.correct.values()} == {SMALL.images}
    for each in (found for found in measured if found.kind in (SECOND, PENALISED)):
        # The attack starts at the transferred image too, and a network without a
        # posterior is judged as it is attacked.
        assert (
            each.correct["EOT", "PGD", 1.0] <= each.correct["transfer", "PGD", 1.0]
        ).all()
    results = Results()
    rows.record_all(results, measured, {"digits": "Digits"})
    for claim in CLAIMS:
        assert "needs 3 seeds" in claim.verdict(results).evidence
    enough = Results(
        metric.model_copy(update={"value": 3.0}) if metric.name == "seeds" else metric
        for metric in results
    )
    for claim in CLAIMS:
        assert claim.verdict(enough).evidence.startswith("Digits"), claim.verdict(
            enough
        ).evidence
    converged = rows.convergences(results, {"digits": "Digits"})
    assert list(converged["network"]) == [
        rows.NAMES[kind] for kind in networks.VARIATIONAL
    ]
    assert converged["first linear"].notna().tolist() == [True, True, False]
    (alone,) = results.select("check: EOT from a random start less transfer")
    assert alone.n == SMALL.images
    assert len(rows.overview(results, "digits")) == len(networks.KINDS)
    for each in (found for found in measured if found.kind in networks.POSTERIORS):
        assert ("uncertainty-aware", "mutual information") in each.scores
        assert each.alarm_weight in quiet.WEIGHTS
    assert all(("interference", "blur", 5.0) in each.correct for each in measured)
    assert len(rows.disturbances(results, "digits")) == len(networks.KINDS)
    assert rows.nearest(results, {"digits": "Digits"})["found"].notna().all()
    bayesian = next(each for each in measured if each.kind == BNN)
    again = evaluation.evaluate(BNN, SETTING, SMALL, 0)
    assert all(
        np.array_equal(values, bayesian.correct[key])
        for key, values in again.correct.items()
    )
