"""The study `loss_metric`: its rules decide as written, its summaries are right, and its networks are what they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustbook.measure.surfaces import best_threshold_error
from robustbook.perturb.network import compute_logits
from robustbook.results import Results
from robustbook.studies.loss_metric import CLAIMS, Parameters, controls, evaluation, landscape, summaries, zoo

ROOT = Path(__file__).parents[1]
SMALL = Parameters(
    train_images=200,
    epochs=6,
    seeds=2,
    images=12,
    bound_images=2,
    clever_images=1,
    steps=6,
    restarts=2,
    strong_steps=8,
    queries=20,
    grid=9,
    slices=2,
)
JUDGES = {claim.id: claim for claim in CLAIMS}


def results_of(*rows: dict[str, object]) -> Results:
    results = Results()
    for row in rows:
        results.add(**row)  # type: ignore[arg-type]
    return results


def verdict(claim: str, *rows: dict[str, object]) -> str:
    return JUDGES[claim].verdict(results_of(*rows)).verdict


def row(
    name: str, value: float, low: float | None = None, high: float | None = None, n: int = 12, **factors: object
) -> dict:
    interval = None if low is None else (low, high)
    return {"name": name, "value": value, "interval": interval, "n": n, **factors}


# Rules --------------------------------------------------------------------------------------------------------------


def y1_rows(agreement: float, error: float, low: float, share: float, control: float) -> list[dict]:
    return [
        row("decision surface agreement", agreement, classes="all"),
        row("smallest cross-entropy threshold error", error, low, error, classes="all"),
        row("planes where cross-entropy errs", share, classes="all"),
        row("smallest cross-entropy threshold error", control, classes="two"),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 0.02, 0.01, 0.8, 0.0), "reproduced"),
        ((1.0, 0.02, 0.01, 0.4, 0.0), "partly"),
        ((1.0, 0.0, 0.0, 0.0, 0.0), "not reproduced"),
        ((0.99, 0.02, 0.01, 0.8, 0.0), "not reproduced"),
        ((1.0, 0.02, 0.01, 0.8, 0.01), "not reproduced"),
    ],
)
def test_y1_needs_a_hidden_boundary_and_a_clean_control(values: tuple[float, ...], expected: str) -> None:
    assert verdict("Y1", *y1_rows(*values)) == expected


@pytest.mark.parametrize(
    ("distances", "slopes", "seeds", "expected"),
    [
        (3, 3, 3, "reproduced"),
        (3, 2, 3, "partly"),
        (2, 3, 3, "not reproduced"),
        (2, 2, 2, "not tested at this scale"),
    ],
)
def test_y2_needs_every_one_of_three_seeds(distances: int, slopes: int, seeds: int, expected: str) -> None:
    rows = [row("seeds where boundary distances are ordered", distances, n=seeds)]
    rows += [
        row("seeds where slopes are ordered", slopes, n=seeds, logits=logits, direction="adversarial")
        for logits in ("normalised", "plain")
    ]
    assert verdict("Y2", *rows) == expected


@pytest.mark.parametrize(
    ("rho", "low", "gain", "gain_low", "expected"),
    [
        (0.9, 0.7, 0.5, 0.1, "reproduced"),
        (0.75, 0.5, 0.5, 0.1, "partly"),
        (0.9, 0.7, 0.5, -0.1, "partly"),
        (0.9, -0.1, 0.5, 0.1, "not reproduced"),
        (0.9, 0.7, -0.01, -0.2, "not reproduced"),
    ],
)
def test_y3_takes_the_worse_reference(rho: float, low: float, gain: float, gain_low: float, expected: str) -> None:
    rows = []
    for reference, value in (("strong robust accuracy", rho), ("minimal distance", 0.95)):
        rows.append(row("rank agreement", value, low, 1.0, measure="median psi", reference=reference))
        rows.append(row("rank agreement", 0.8, 0.1, 1.0, measure="1 / mean adversarial CE", reference=reference))
        rows.append(row("rank agreement gain", gain, gain_low, 1.0, over_measure="clean accuracy", reference=reference))
    assert verdict("Y3", *rows) == expected


@pytest.mark.parametrize(
    ("gain", "low", "null_low", "expected"),
    [
        (0.2, 0.1, 0.05, "reproduced"),
        (0.2, 0.1, -0.1, "partly"),
        (0.2, -0.1, 0.1, "partly"),
        (0.0, -0.1, 0.1, "not reproduced"),
    ],
)
def test_y4_must_beat_accuracy_and_the_null(gain: float, low: float, null_low: float, expected: str) -> None:
    rows = [
        row("rank stability", 0.5, 0.4, 0.6, measure=name)
        for name in ("median psi", "robust accuracy", "1 / mean adversarial CE")
    ]
    rows.append(row("rank stability gain", gain, low, 1.0, over_measure="robust accuracy"))
    rows.append(row("rank stability gain", 0.2, null_low, 1.0, over_measure="1 / mean adversarial CE"))
    assert verdict("Y4", *rows) == expected


@pytest.mark.parametrize(
    ("change", "ratio", "expected"), [(1e-9, 50, "reproduced"), (1e-9, 2, "partly"), (1e-3, 50, "not reproduced")]
)
def test_y5_needs_invariance_and_a_control_that_moves(change: float, ratio: float, expected: str) -> None:
    name = "largest relative change of psi under scaling"
    rows = [row(name, change, logits="normalised", precision=precision) for precision in ("double", "single")]
    rows.append(row("ratio of median psi between scales", ratio, logits="plain"))
    assert verdict("Y5", *rows) == expected


@pytest.mark.parametrize(
    ("difference", "high", "expected"),
    [(-5, -1, "reproduced"), (-5, 3, "partly"), (0, 3, "not reproduced"), (1, 3, "not reproduced")],
)
def test_y6_counts_passes(difference: float, high: float, expected: str) -> None:
    rows = [row("passes to rank quality", 10, measure=name, never=84) for name in ("median psi", "robust accuracy")]
    rows.append(row("difference of passes to rank quality", difference, -9, high))
    assert verdict("Y6", *rows) == expected


@pytest.mark.parametrize(
    ("fall", "level", "ratio_low", "masked", "expected"),
    [
        (0.0, 0.99, 0.9, 0.3, "reproduced"),
        (0.0, 0.90, 0.9, 0.3, "partly"),
        (0.1, 0.99, 0.9, 0.3, "not reproduced"),
        (0.0, 0.99, 1.5, 0.3, "not reproduced"),
        (0.0, 0.99, 1.5, 0.9, "reproduced"),  # psi called it robust, and it was
    ],
)
def test_y7_fails_when_a_masked_network_fools_psi(
    fall: float, level: float, ratio_low: float, masked: float, expected: str
) -> None:
    rows = [
        row("largest fall of the divergence with more search", fall),
        row("psi at long over usual ascent", level, usual=20, long=100),
        row("psi attained over its sound lower bound", 8.0, 7.0, 9.0, budget=1.0),
        row("psi of masked over natural", 2.0, ratio_low, 3.0, network="distilled"),
        row("robust accuracy without gradients", masked, network="distilled"),
        row("robust accuracy without gradients", 0.3, network="natural"),
    ]
    assert verdict("Y7", *rows) == expected


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_without_measurements_nothing_is_decided(claim) -> None:  # type: ignore[no-untyped-def]
    assert claim.verdict(Results()).verdict == "not tested at this scale"
    assert claim.rule
    assert claim.control


# Summaries ----------------------------------------------------------------------------------------------------------

TABLES = st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=2, max_size=4)


@settings(deadline=None, max_examples=60)
@given(TABLES)
def test_kendalls_tau_is_that_of_scipy(table: list[list[int]]) -> None:
    scores = np.array(table, dtype=float)
    for first in range(len(scores)):
        for second in range(len(scores)):
            constant = np.ptp(scores[first]) == 0 or np.ptp(scores[second]) == 0
            tau = 0.0 if constant else kendalltau(scores[first], scores[second]).statistic
            assert summaries.kendall_table(scores)[first, second] == pytest.approx(tau, abs=1e-12)


def test_boundary_distance_of_a_straight_line() -> None:
    positions = np.linspace(0, 4 * 0.1, landscape.LINE_POINTS)
    profiles = np.stack([1 - positions / 0.123, np.full_like(positions, 2.0), positions - 1])
    assert landscape.boundary_distance(profiles, 0.1) == pytest.approx([0.123, 0.4, 0.0])
    assert landscape.mean_slope(profiles, 0.1) == pytest.approx([1 / 0.123, 0.0, 1.0])


def test_psi_of_no_change_is_finite() -> None:
    assert summaries.psi_of(np.array([0.0, 0.5])).tolist() == [1 / summaries.SMALLEST_KL, 2.0]


# Networks and measurements ------------------------------------------------------------------------------------------


def test_zoo_is_every_combination_once() -> None:
    networks = zoo.zoo(SMALL)
    assert len(networks) == len(set(networks)) == 3 * 4 * 2
    assert zoo.colour_zoo(SMALL) == []
    assert len(zoo.colour_zoo(Parameters(colour_dataset="cifar10", seeds=2))) == 2 * 2 * 2


def test_two_class_data_is_renumbered() -> None:
    pair = zoo.images_of("digits", "test", None, (3, 8))
    whole = zoo.images_of("digits", "test", None)
    assert pair.class_names == ("3", "8")
    assert pair.labels.bincount().tolist() == [(whole.labels == 3).sum(), (whole.labels == 8).sum()]
    assert torch.equal(pair.images[pair.labels == 1], whole.images[whole.labels == 8])


def test_scaled_network_predicts_the_same() -> None:
    network = zoo.main_network(SMALL, "mlp", "natural", 0)
    images, _ = evaluation.test_images(network, SMALL)
    plain = compute_logits(zoo.load_network(network), images)
    large = compute_logits(zoo.load_network(zoo.scaled(network, 100.0)), images)
    assert torch.allclose(large, 100 * plain, rtol=1e-5)


def test_plane_of_two_classes_is_separated_by_cross_entropy() -> None:
    found = landscape.slice_of(zoo.two_class_networks(SMALL)[0], 0, SMALL)
    assert found.decision_agreement == 1
    assert found.threshold_error == 0
    assert best_threshold_error(np.array([0.0, 1.0, 2.0]), np.array([True, False, True])) == pytest.approx(1 / 3)


def test_attack_path_starts_at_the_image_and_climbs_along_alpha() -> None:
    path = landscape.attack_path(zoo.main_network(SMALL, "mlp", "natural", 0), 0, SMALL)
    assert path[0] == pytest.approx([0, 0], abs=1e-6)
    assert path[1, 0] > 0


def test_evaluation_keeps_its_promises() -> None:
    network = zoo.main_network(SMALL, "cnn", "natural", 0)
    measured = evaluation.evaluate(network, SMALL)
    assert {len(values) for values in measured.correct.values()} == {SMALL.images}
    assert (measured.strong <= measured.clean).all()
    assert (measured.distance[measured.clean == 0] == 0).all()
    for method in ("ibp", "crown"):
        for budget in evaluation.BOUND_BUDGETS:
            assert (
                measured.bound[method, budget] >= measured.attained(budget)[: SMALL.bound_images] * (1 - 1e-5)
            ).all()
    steps = evaluation.Settings(SMALL.steps, SMALL.strong_steps).step_counts
    for fewer, more in pairwise(steps):
        assert (measured.kl[f"{more} steps", 1.0] >= measured.kl[f"{fewer} steps", 1.0]).all()
    again = evaluation.evaluate(network, SMALL)
    assert np.array_equal(again.kl["6 steps", 1.0], measured.kl["6 steps", 1.0])


def test_scaling_leaves_psi_alone_and_moves_the_plain_one() -> None:
    results = Results()
    controls.record_scaling(results, SMALL)
    assert results.one("largest relative change of psi under scaling", precision="double").value < 1e-8
    assert JUDGES["Y5"].verdict(results).verdict in ("reproduced", "partly")
