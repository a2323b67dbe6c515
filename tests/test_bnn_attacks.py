"""The study `bnn_attacks`: its rules decide as written, its intervals are right, and
its networks are what they say.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from robustbook.bayes.mean_field import MeanField
from robustbook.bayes.protocol import Empirical
from robustbook.results import Results
from robustbook.studies.bnn_attacks import (
    CLAIMS,
    ROWS,
    STATEMENTS,
    exercises,
    networks,
    rows,
)
from robustbook.studies.bnn_attacks.claims import (
    BNN,
    CNN,
    CONTROL,
    PENALISED,
    SPLIT,
    rounded,
)
from robustbook.studies.bnn_attacks.measure import evaluation, series

JUDGES = {claim.id: claim for claim in (*CLAIMS, *STATEMENTS)}
(SMALL,) = networks.bench(
    "digits",
    epsilon=0.1,
    train_images=200,
    epochs=4,
    temperature=0.1,
    prior_sd=0.3,
    images=8,
    seeds=2,
    first_seed=0,
    chain_epochs=8,
)
EFFORT = {"steps": 2, "samples": 2, "test_samples": 4, "pixel_images": 1}


# Rules
# --------------------------------------------------------------------------------------


def row(name, value, half=0.01, *, dataset="mnist", **factors):
    return {
        "name": name,
        "value": value,
        "interval": (value - half, value + half),
        "n": 5,
        "dataset": dataset,
        **factors,
    }


def judged(claim, *given, seeds=5, datasets=("mnist",), network=BNN, kept=(0.6, 0.4)):
    results = Results()
    results.add("seeds", seeds)
    for dataset in datasets:
        results.add("images", 80, dataset=dataset, title=dataset)
        results.add("Bayesian network", 1, dataset=dataset, network=network)
        for way, share in zip(("transfer", "EOT"), kept, strict=True):
            where = {"network": CONTROL, "attack": "PGD", "way": way}
            for budget, more in ((0.5, 0.02), (1.0, -0.02)):
                at = {"budget": budget, "dataset": dataset, **where}
                results.add("accuracy under attack", share + more, **at)
    for each in given:
        results.add(**each)
    return JUDGES[claim].verdict(results)


def controls(clean=0.0, drop=0.0, left=0.0, **more):
    return [
        row("clean accuracy lead", clean, network=BNN, over_network=CONTROL, **more),
        row("drop with twice the effort", drop, network=BNN, effort="steps", **more),
        row("accuracy at a large budget", left, network=BNN, **more),
    ]


def lead(value, way, first=BNN, over=CONTROL, half=0.01, **more):
    factors = {"first": first, "over_network": over, "way": way}
    return row("lead under attack", value, half, **factors, **more)


def p1_rows(transfer, own, half=0.01, **more):
    return [
        lead(transfer, "transfer", half=half, **more),
        lead(own, "EOT", half=half, **more),
        lead(0.0, "transfer", over=PENALISED, **more),
    ]


@pytest.mark.parametrize(
    ("transfer", "own", "half", "expected"),
    [
        (0.2, 0.2, 0.01, "reproduced"),
        (0.2, 0.0, 0.01, "partly"),
        (0.2, 0.1, 0.01, "partly"),
        (0.05, 0.2, 0.01, "not reproduced"),
        (-0.2, -0.2, 0.01, "not reproduced"),
        (0.1, 0.2, 0.05, "inconclusive"),
    ],
)
def test_p1_tells_transfer_from_robustness(transfer, own, half, expected):
    found = judged("P1", *p1_rows(transfer, own, half), *controls())
    assert found.verdict == expected
    few = judged("P1", *p1_rows(transfer, own, half), *controls(), seeds=2)
    assert few.verdict == "not tested at this scale"


@pytest.mark.parametrize(
    "broken", [{"clean": -0.08}, {"clean": 0.08}, {"drop": 0.08}, {"left": 0.2}]
)
@pytest.mark.parametrize("claim", ["P1", "P4", "T2"])
def test_a_control_that_fails_decides_nothing(claim, broken):
    given = [
        *p1_rows(0.3, 0.3),
        *p4_rows(0.0, 0.3),
        *controls(**broken),
    ]
    assert judged(claim, *given).verdict == "inconclusive"
    fine = judged(claim, *given[:-3], *controls())
    assert fine.verdict != "inconclusive"


@pytest.mark.parametrize(
    ("kept", "said"),
    [((0.04, 0.04), "too few"), ((0.6, 0.02), "too few"), ((0.92, 0.5), "no room")],
)
@pytest.mark.parametrize("claim", ["P1", "P4", "T1", "T2", "T3"])
def test_an_attack_that_leaves_nothing_or_everything_decides_nothing(claim, kept, said):
    given = [
        *p1_rows(0.0, 0.0),
        *p4_rows(0.0, 0.0),
        row("averaged gradient over a sample's", 0.2),
        row("failed attacks where gradients cancel, less elsewhere", 0.1),
        row("lead lost to the strong attack", 0.0),
        *controls(),
    ]
    assert judged(claim, *given).verdict != "inconclusive"
    found = judged(claim, *given, kept=kept)
    assert found.verdict == "inconclusive"
    assert said in found.answer


@pytest.mark.parametrize(
    ("second", "expected"),
    [(0.3, "reproduced"), (0.0, "mixed"), (None, "mixed")],
)
def test_data_sets_that_disagree_are_mixed(second, expected):
    half = 0.2 if second is None else 0.01
    value = 0.1 if second is None else second
    other = {"dataset": "gtsrb"}
    found = judged(
        "P1",
        *p1_rows(0.3, 0.3),
        *controls(),
        *p1_rows(value, value, half, **other),
        *controls(**other),
        datasets=("mnist", "gtsrb"),
    )
    assert found.verdict == expected
    assert "MNIST (reproduced): " in found.evidence
    assert "traffic signs" in found.evidence


@pytest.mark.parametrize(
    ("over_control", "over_penalised", "half", "expected"),
    [
        (0.05, 0.05, 0.01, "reproduced"),
        (0.05, 0.0, 0.01, "partly"),
        (0.0, 0.05, 0.01, "not reproduced"),
        (0.02, 0.05, 0.01, "inconclusive"),
    ],
)
def test_p2_needs_the_regularised_network_beaten(
    over_control, over_penalised, half, expected
):
    values = {CONTROL: over_control, PENALISED: over_penalised, CNN: 0.0}
    given = [
        row(
            "lead under interference",
            value,
            half,
            over_network=over,
            interference="all",
        )
        for over, value in values.items()
    ]
    assert judged("P2", *given).verdict == expected


def p3_rows(transfer, ahead, eot, quiet, matching, fooled=1.0, two_sided=0.5):
    areas = {"transfer": transfer, "EOT": eot, "quiet": quiet, "matching": matching}
    scores = {"mutual information": areas, "two-sided": dict.fromkeys(areas, two_sided)}
    given = [
        row("AUROC", value, network=BNN, score=score, inputs=inputs)
        for score, values in scores.items()
        for inputs, value in values.items()
    ]
    given.append(row("AUROC lead over max-softmax", ahead, inputs="transfer"))
    return given + [
        row("fooled beside the averaged attack", fooled, inputs=inputs)
        for inputs in ("quiet", "matching")
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0.8, 0.1, 0.8, 0.8, 0.8), "reproduced"),
        ((0.8, 0.1, 0.8, 0.8, 0.5), "partly"),
        ((0.8, 0.1, 0.8, 0.3, 0.8), "partly"),
        # An alarm for too little sees who keeps it too low.
        ((0.8, 0.1, 0.8, 0.3, 0.8, 1.0, 0.7), "reproduced"),
        ((0.8, 0.0, 0.8, 0.8, 0.8), "not reproduced"),
        ((0.5, 0.1, 0.8, 0.8, 0.8), "not reproduced"),
        # Who avoids the alarm and fools nobody says nothing of it.
        ((0.8, 0.1, 0.8, 0.8, 0.8, 0.5), "inconclusive"),
        ((0.8, 0.1, 0.8, 0.8, 0.6), "inconclusive"),
    ],
)
def test_p3_must_survive_attackers_who_know_the_alarm(given, expected):
    assert judged("P3", *p3_rows(*given)).verdict == expected


def p4_rows(beside_whole, over_control, spread=0.5):
    given = [
        row("relative spread", value, network=SPLIT, layer=str(value))
        for value in (0.0, spread)
    ]
    for way in ("transfer", "EOT"):
        given.append(lead(beside_whole, way, first=SPLIT, over=BNN))
        given.append(lead(over_control, way, first=SPLIT))
    return given


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0.0, 0.2), "reproduced"),
        ((-0.2, 0.2), "not reproduced"),
        ((0.0, 0.0), "not reproduced"),
        ((-0.1, 0.2), "inconclusive"),
        ((0.0, 0.2, 0.001), "inconclusive"),
    ],
)
def test_p4_compares_the_designs_and_sees_a_collapse(given, expected):
    assert judged("P4", *p4_rows(*given), *controls()).verdict == expected


def test_p4_is_asked_where_both_parts_are_trained():
    found = judged("P4", *p4_rows(0.0, 0.2), *controls(), network=SPLIT)
    assert found.verdict == "not tested at this scale"


@pytest.mark.parametrize(
    ("ratio", "more", "expected"),
    [
        (0.2, 0.1, "reproduced"),
        (0.9, 0.1, "not reproduced"),
        (0.2, -0.1, "not reproduced"),
        (0.2, 0.0, "inconclusive"),
    ],
)
def test_gradients_that_cancel_must_also_fail(ratio, more, expected):
    given = [
        row("averaged gradient over a sample's", ratio),
        row("failed attacks where gradients cancel, less elsewhere", more),
    ]
    assert judged("T1", *given).verdict == expected


@pytest.mark.parametrize(
    ("lost", "expected"), [(0.1, "reproduced"), (0.0, "not reproduced")]
)
def test_what_the_strong_attack_takes(lost, expected):
    given = [row("lead lost to the strong attack", lost)]
    assert judged("T3", *given).verdict == expected


@pytest.mark.parametrize("claim", [*CLAIMS, *STATEMENTS], ids=lambda claim: claim.id)
def test_without_measurements_nothing_is_decided(claim):
    assert claim.verdict(Results()).verdict == "not tested at this scale"
    assert claim.rule
    assert claim.control


# Intervals
# --------------------------------------------------------------------------------------


def test_intervals_are_student_s_over_repetitions():
    values = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    found = rows.mean(values)
    low, high = stats.t.interval(0.95, 2, 0.5, stats.sem([0.5, 1.0, 0.0]))
    assert found.value == 0.5
    assert found.bounds == pytest.approx((low, high))
    assert rows.over_repetitions([0.3]).bounds == (0.3, 0.3)


def test_a_mask_leaves_images_out():
    gaps = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    mask = np.array([[0.0, 1, 1, 1], [0, 1, 1, 0]])
    found = rows.paired(gaps, mask)
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert rows.paired(gaps, np.zeros((2, 4))) is None


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.001, "0.00"), (-0.006, "-0.01"), (0.004, "0.00")]
)
def test_nothing_is_shown_as_less_than_nothing(value, shown):
    assert rounded(value, 2) == shown


# Networks
# --------------------------------------------------------------------------------------


def test_repetitions_share_no_image():
    parts = [SMALL.repetition(0)[0], SMALL.repetition(1)[0], SMALL.reference()[0]]
    flat = torch.cat(parts).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 3 * SMALL.images


def test_the_control_differs_from_the_bayesian_network_in_the_posterior_alone(
    monkeypatch,
):
    """Same start, and every setting of the training the same."""
    calls = []

    def noted(estimator, network, images, labels, **settings):
        calls.append((network[0].weight.detach().clone(), settings))
        return MeanField(network, dict(network.named_parameters()), {})

    monkeypatch.setattr(networks, "train_by", noted)
    monkeypatch.setattr(networks, "kept", lambda _spec, make, code: make())
    for kind in (CONTROL, BNN):
        networks.fit(networks.Network(SMALL, kind, 0))
    (start, control), (other, bayesian) = calls
    assert torch.equal(start, other)
    assert control.pop("stochastic") == ()
    assert set(bayesian.pop("stochastic")) == {"0", "2", "5", "7"}
    assert control == bayesian


def test_every_kind_is_fitted_once_and_read_again():
    images = SMALL.repetition(0)[0]
    for kind in networks.KINDS:
        network = networks.Network(SMALL, kind, 0)
        draws = [
            networks.fit(network)
            .draw(3, torch.Generator().manual_seed(1))
            .logits(images)
            for _ in range(2)
        ]
        assert torch.allclose(draws[0], draws[1], atol=1e-4), kind
        spread = float((draws[0] - draws[0][:1]).abs().max())
        alone = kind in (CNN, CONTROL, PENALISED, "ensemble")
        assert (spread < 1e-5) == alone, kind


def test_an_ensemble_has_the_controls_of_other_repetitions():
    ensemble = networks.fit(networks.Network(SMALL, "ensemble", 0))
    other = networks.fit(networks.Network(SMALL, CONTROL, 1))
    assert isinstance(ensemble, Empirical)
    assert len(ensemble.samples) == SMALL.seeds - 1
    weight = ensemble.samples.weights["0.weight"]
    assert torch.allclose(weight, other.samples.weights["0.weight"])


# Measurements
# --------------------------------------------------------------------------------------


def test_equal_gradients_keep_their_length_and_opposite_ones_lose_it():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    images, labels = torch.rand(3, 1, 8, 8), torch.zeros(3, dtype=torch.long)
    means = {name: each.detach() for name, each in network.named_parameters()}
    source = torch.Generator().manual_seed(0)

    def ratio(scale):
        scales = {"1.weight": torch.full((2, 64), scale)}
        posterior = MeanField(network, means, scales)
        return evaluation.norm_ratio(posterior, images, labels, source)

    assert ratio(1e-6) == pytest.approx(1.0, abs=1e-3)
    assert ratio(50.0).max() < 0.4


def test_measurements_become_every_row_that_a_rule_needs():
    everything = networks.all_networks([SMALL])
    measured = [
        evaluation.evaluate(each, evaluation.Effort(**EFFORT)) for each in everything
    ]
    results = Results(rows=ROWS)
    rows.record_setting(results, measured)
    rows.record_attacks(results, measured)
    rows.record_posteriors(results, measured)
    rows.record_effort(results, measured)
    rows.record_interference(results, measured)
    rows.record_alarms(results, measured)
    rows.record_theory(results, measured)
    effort = evaluation.Effort(**EFFORT, full=False)
    swept = [evaluation.evaluate(each, effort) for each in networks.swept(SMALL, 1)]
    rows.record_sweep(results, measured, swept)
    assert len(results.select("sweep: clean accuracy")) == len(networks.SWEEP)
    enough = Results(
        metric.model_copy(update={"value": 3.0}) if metric.name == "seeds" else metric
        for metric in results
    )
    for claim in (*CLAIMS, *STATEMENTS):
        assert "needs 3" in claim.verdict(results).evidence.lower(), claim.id
        assert "digits" in claim.verdict(enough).evidence, claim.id
        assert len(claim.verdict(enough).answer.split()) <= 30, claim.id
    assert len(rows.overview(results)) == len(networks.KINDS)
    assert len(rows.estimators(results, (BNN, *networks.ESTIMATED))) == 3
    assert "points" in rows.visible(results)
    assert "worst pixel" in rows.pixels(results)
    first = next(each for each in measured if each.network.kind == CONTROL)
    # A network of one sample is attacked where the transferred image is a start.
    own, other = (first.correct[way, "PGD", 1.0] for way in ("EOT", "transfer"))
    assert (own <= other).all()


def test_one_image_is_shown_under_every_budget_and_way():
    shown = series.shown(SMALL, kinds=(CONTROL, SPLIT), steps=2, samples=2)
    assert len(shown) == 2 * len(series.WAYS) * len(series.BUDGETS)
    still = [each.image for each in shown if each.budget == 0]
    assert all(np.array_equal(each, still[0]) for each in still)
    assert all(each.information >= 0 for each in shown)


# Exercises
# --------------------------------------------------------------------------------------


def answered(control, accuracy=0.5):
    results = Results()
    for network, value in ((CNN, 0.3), (BNN, 0.6), (control, accuracy)):
        if not results.select("accuracy under attack", network=network):
            results.add(
                "accuracy under attack",
                value,
                dataset="mnist",
                network=network,
                way="transfer",
                attack="PGD",
                budget=1.0,
            )
    answer = {"way": "transfer", "compared with": CNN, "control": control}
    exercises.check_first_claim(answer, results)


@pytest.mark.parametrize("control", [CONTROL, PENALISED, "ensemble", "weight noise"])
def test_a_control_of_the_first_claim_gains_without_inference(control):
    answered(control)
    with pytest.raises(AssertionError, match="gains nothing over the CNN on mnist"):
        answered(control, 0.3)


@pytest.mark.parametrize("control", [CNN, BNN, SPLIT, "stoch+det", "Laplace", "SWAG"])
def test_a_posterior_from_inference_is_no_control(control):
    with pytest.raises(AssertionError, match="no posterior from inference"):
        answered(control)
