"""The study `loss_metric`: its rules decide as written, its summaries are right, and
its networks are what they say.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from robustbook import exercises
from robustbook.measure.surfaces import best_threshold_error
from robustbook.models.network import compute_logits
from robustbook.results import Results
from robustbook.stats import kendall
from robustbook.studies.loss_metric import CLAIMS, Parameters, networks, rows
from robustbook.studies.loss_metric import exercises as checks
from robustbook.studies.loss_metric.measure import controls, evaluation, landscape

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
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    n: int = 12,
    **factors: object,
) -> dict:
    interval = None if low is None else (low, high)
    return {"name": name, "value": value, "interval": interval, "n": n, **factors}


# Rules
# --------------------------------------------------------------------------------------


def y1_rows(
    agreement: float, error: float, low: float, share: float, control: float
) -> list[dict]:
    return [
        row("decision surface agreement", agreement, classes="all"),
        row(
            "smallest cross-entropy threshold error",
            error,
            low,
            error,
            classes="all",
            networks=12,
            images=5,
        ),
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
def test_y1_needs_a_hidden_boundary_and_a_clean_control(
    values: tuple[float, ...], expected: str
) -> None:
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
def test_y2_needs_every_one_of_three_seeds(
    distances: int, slopes: int, seeds: int, expected: str
) -> None:
    name = "seeds where boundary distances are ordered"
    rows = [
        row(name, distances, n=seeds, direction="adversarial"),
        row(name, 0, n=seeds, direction="random"),
    ]
    rows += [
        row(
            "seeds where slopes are ordered",
            value,
            n=seeds,
            logits=logits,
            direction=direction,
        )
        for direction, value in (("adversarial", slopes), ("random", 1))
        for logits in ("normalised", "plain")
    ]
    assert verdict("Y2", *rows) == expected
    if seeds == 3:
        evidence = JUDGES["Y2"].verdict(results_of(*rows)).evidence
        assert (
            "direction of the same length distances are ordered in 0, slopes in 1"
            in evidence
        )


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
def test_y3_takes_the_worse_reference(
    rho: float, low: float, gain: float, gain_low: float, expected: str
) -> None:
    rows = []
    for reference, value in (
        ("strong robust accuracy", rho),
        ("minimal distance", 0.95),
    ):
        rows.append(
            row(
                "rank agreement",
                value,
                low,
                1.0,
                measure="median psi",
                reference=reference,
            )
        )
        rows.append(
            row(
                "rank agreement gain",
                gain,
                gain_low,
                1.0,
                over_measure="clean accuracy",
                reference=reference,
            )
        )
        null = {"over_measure": "1 / mean adversarial CE", "reference": reference}
        rows.append(row("rank agreement gain", -0.01, -0.06, 0.04, **null))
    assert verdict("Y3", *rows) == expected
    assert (
        "-0.01 [-0.06, 0.04] (the second cannot be told from 0)"
        in JUDGES["Y3"].verdict(results_of(*rows)).evidence
    )


@pytest.mark.parametrize(
    ("gain", "low", "null_low", "expected"),
    [
        (0.2, 0.1, 0.05, "reproduced"),
        (0.2, 0.1, -0.1, "partly"),
        (0.2, -0.1, 0.1, "partly"),
        (0.0, -0.1, 0.1, "not reproduced"),
    ],
)
def test_y4_must_beat_accuracy_and_the_null(
    gain: float, low: float, null_low: float, expected: str
) -> None:
    rows = [
        row("rank stability", 0.5, 0.4, 0.6, measure=name, settings=12)
        for name in ("median psi", "robust accuracy", "1 / mean adversarial CE")
    ]
    rows.append(
        row("rank stability gain", gain, low, 1.0, over_measure="robust accuracy")
    )
    rows.append(
        row(
            "rank stability gain",
            0.2,
            null_low,
            1.0,
            over_measure="1 / mean adversarial CE",
        )
    )
    assert verdict("Y4", *rows) == expected


@pytest.mark.parametrize(
    ("change", "ratio", "expected"),
    [(1e-9, 50, "reproduced"), (1e-9, 2, "partly"), (1e-3, 50, "not reproduced")],
)
def test_y5_needs_invariance_and_a_control_that_moves(
    change: float, ratio: float, expected: str
) -> None:
    name = "largest relative change of psi under scaling"
    rows = [
        row(name, change, logits="normalised", precision=precision)
        for precision in ("double", "single")
    ]
    rows.append(row("ratio of median psi between scales", ratio, logits="plain"))
    assert verdict("Y5", *rows) == expected


@pytest.mark.parametrize(
    ("difference", "high", "expected"),
    [
        (-5, -1, "reproduced"),
        (-5, 3, "partly"),
        (0, 3, "not reproduced"),
        (1, 3, "not reproduced"),
    ],
)
def test_y6_counts_passes(difference: float, high: float, expected: str) -> None:
    rows = [
        row("passes to rank quality", 10, measure=name, never=84)
        for name in ("median psi", "robust accuracy")
    ]
    rows.append(row("difference of passes to rank quality", difference, -9, high))
    assert verdict("Y6", *rows) == expected


def test_y6_says_when_the_cheapest_setting_decides() -> None:
    def rows(needed: float) -> list[dict]:
        found = [row("difference of passes to rank quality", 1, 1, 1)]
        for name, passes in (("median psi", 4), ("robust accuracy", 3)):
            found.append(
                row("passes to rank quality", passes * needed, measure=name, never=84)
            )
            found += [
                row(
                    "rank agreement at cost",
                    0.98,
                    measure=name,
                    steps=times,
                    passes=times * passes,
                )
                for times in (1, 2)
            ]
        return found

    def evidence(needed: float) -> str:
        return JUDGES["Y6"].verdict(results_of(*rows(needed))).evidence

    assert "cheapest setting tried (1 step: rho 0.98 and 0.98)" in evidence(1)
    assert "cheapest" not in evidence(2)


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
        row(
            "psi attained over its sound lower bound",
            8.0,
            7.0,
            9.0,
            budget=1.0,
            images=10,
        ),
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


# Summaries
# --------------------------------------------------------------------------------------

TABLES = st.lists(
    st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=2, max_size=4
)


@settings(max_examples=60)
@given(TABLES)
def test_kendalls_tau_is_that_of_scipy(table: list[list[int]]) -> None:
    scores = np.array(table, dtype=float)
    for first in range(len(scores)):
        for second in range(len(scores)):
            constant = np.ptp(scores[first]) == 0 or np.ptp(scores[second]) == 0
            tau = (
                0.0 if constant else kendalltau(scores[first], scores[second]).statistic
            )
            assert kendall(scores)[first, second] == pytest.approx(tau, abs=1e-12)


def test_parts_of_the_settings_are_every_pair_once() -> None:
    parts = rows.stability_parts(12)
    assert {name: int(pairs.sum()) for name, pairs in parts.items()} == {
        "within 0.5 ε": 6,
        "within 1 ε": 6,
        "within 2 ε": 6,
        "across budgets": 48,
    }
    assert sum(pairs.astype(int) for pairs in parts.values()).max() == 1  # type: ignore[union-attr]


def test_an_interval_over_two_ways_is_as_wide_as_its_fewer_units_ask() -> None:
    """Three images that differ and thirty networks that do not: sixty planes are three
    witnesses, not ninety.
    """
    by_image = np.tile([0.0, 1.0, 5.0], 30)
    networks, images = np.repeat(np.arange(30), 3), np.tile(np.arange(3), 30)
    found = rows.over_two_ways(by_image, networks.tolist(), images.tolist())
    assert found.n == 30  # the outermost level: networks
    assert found.value == pytest.approx(2)
    assert found.low == 0
    assert found.high == 5
    constant = rows.over_two_ways(np.ones(90), networks.tolist(), images.tolist())
    assert constant.bounds == pytest.approx((1, 1))


def test_boundary_distance_of_a_straight_line() -> None:
    positions = np.linspace(0, 4 * 0.1, landscape.LINE_POINTS)
    profiles = np.stack(
        [1 - positions / 0.123, np.full_like(positions, 2.0), positions - 1]
    )
    assert landscape.boundary_distance(profiles, 0.1) == pytest.approx(
        [0.123, 0.4, 0.0]
    )
    assert landscape.mean_slope(profiles, 0.1) == pytest.approx([1 / 0.123, 0.0, 1.0])


def test_psi_of_no_change_is_finite() -> None:
    assert rows.psi_of(np.array([0.0, 0.5])).tolist() == [
        1 / rows.SMALLEST_KL,
        2.0,
    ]


# Networks and measurements
# --------------------------------------------------------------------------------------


def test_zoo_is_every_combination_once() -> None:
    zoo = networks.zoo(SMALL)
    assert len(zoo) == len(set(zoo)) == 3 * 4 * 2
    assert networks.colour_zoo(SMALL) == []
    assert (
        len(networks.colour_zoo(Parameters(colour_dataset="cifar10", seeds=2)))
        == 2 * 2 * 2
    )


def test_two_class_data_is_renumbered() -> None:
    pair = networks.images_of("digits", "test", None, (3, 8))
    whole = networks.images_of("digits", "test", None)
    assert pair.class_names == ("3", "8")
    assert pair.labels.bincount().tolist() == [
        (whole.labels == 3).sum(),
        (whole.labels == 8).sum(),
    ]
    assert torch.equal(pair.images[pair.labels == 1], whole.images[whole.labels == 8])


def test_scaled_network_predicts_the_same() -> None:
    network = networks.main_network(SMALL, "mlp", "natural", 0)
    images, _ = evaluation.test_images(network, SMALL)
    plain = compute_logits(networks.load_network(network), images)
    large = compute_logits(
        networks.load_network(networks.scaled(network, 100.0)), images
    )
    assert torch.allclose(large, 100 * plain, rtol=1e-5)


def test_plane_of_two_classes_is_separated_by_cross_entropy() -> None:
    found = landscape.slice_of(networks.two_class_networks(SMALL)[0], 0, SMALL)
    assert found.decision_agreement == 1
    assert found.threshold_error == 0
    assert best_threshold_error(
        np.array([0.0, 1.0, 2.0]), np.array([True, False, True])
    ) == pytest.approx(1 / 3)


def test_only_a_cut_plane_stays_inside_the_range_of_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = networks.main_network(SMALL, "mlp", "natural", 0)
    seen: list[torch.Tensor] = []

    def remember(
        model: torch.nn.Module, images: torch.Tensor, **rest: int
    ) -> torch.Tensor:
        seen.append(images)
        return compute_logits(model, images)

    monkeypatch.setattr("robustbook.measure.surfaces.compute_logits", remember)
    landscape.slice_of(network, 0, SMALL)
    flat = torch.cat(seen)
    assert flat.max() > 1 + landscape.REACH * SMALL.epsilon
    seen.clear()
    landscape.slice_of(network, 0, SMALL, clip=True)
    assert torch.cat(seen).min() >= 0
    assert torch.cat(seen).max() <= 1


def test_attack_path_starts_at_the_image_and_climbs_along_alpha() -> None:
    path = landscape.attack_path(
        networks.main_network(SMALL, "mlp", "natural", 0), 0, SMALL
    )
    assert path[0] == pytest.approx([0, 0], abs=1e-6)
    assert path[1, 0] > 0


def test_evaluation_keeps_its_promises() -> None:
    network = networks.main_network(SMALL, "cnn", "natural", 0)
    measured = evaluation.evaluate(network, SMALL)
    assert (
        len(measured.clean_whole)
        == len(networks.images_of("digits", "test", None))
        > 10 * SMALL.images
    )
    assert {len(values) for values in measured.correct.values()} == {SMALL.images}
    assert (measured.strong <= measured.clean).all()
    assert (measured.distance[measured.clean == 0] == 0).all()
    for method in ("ibp", "crown"):
        for budget in evaluation.BOUND_BUDGETS:
            assert (
                measured.bound[method, budget]
                >= measured.attained(budget)[: SMALL.bound_images] * (1 - 1e-5)
            ).all()
    steps = evaluation.Settings(SMALL.steps, SMALL.strong_steps).step_counts
    for fewer, more in pairwise(steps):
        assert (
            measured.kl[f"{more} steps", 1.0] >= measured.kl[f"{fewer} steps", 1.0]
        ).all()
    again = evaluation.evaluate(network, SMALL)
    assert np.array_equal(again.kl["6 steps", 1.0], measured.kl["6 steps", 1.0])


def test_psi_and_its_rivals_are_compared_over_the_same_settings() -> None:
    measured = [
        evaluation.evaluate(networks.main_network(SMALL, "mlp", training, 0), SMALL)
        for training in ("natural", "minmax")
    ]
    chosen = evaluation.Settings(SMALL.steps, SMALL.strong_steps)
    tables = rows.setting_scores(measured, chosen)
    assert {table.shape for table in tables.values()} == {
        (3 * len(chosen.step_counts), 2)
    }
    assert len(rows.other_step_sizes(measured, chosen)) == len(
        evaluation.OTHER_PSI_STEPS
    )
    results = Results()
    rows.record_second_zoo(results, measured, SMALL)
    assert {row.n for row in results.select("second zoo: rank agreement")} == {2}
    assert results.one(
        "second zoo: seeds where distance to S = 0 is ordered"
    ).value in (0, 1)


def test_scaling_leaves_psi_alone_and_moves_the_plain_one() -> None:
    results = Results()
    controls.record_scaling(results, SMALL)
    assert (
        results.one(
            "largest relative change of psi under scaling", precision="double"
        ).value
        < 1e-8
    )
    assert JUDGES["Y5"].verdict(results).verdict in ("reproduced", "partly")


# Exercises
# --------------------------------------------------------------------------------------


def test_stubs_fail_and_solutions_pass() -> None:
    found = exercises.cells(ROOT / "notebooks" / "loss_metric.py")
    assert len(found) >= 4
    # One space for all, as in the notebook: a later solution uses what an earlier one
    # imports.
    space = {"exercises": exercises, "checks": checks, "torch": torch}
    for name, exercise in found.items():
        for source, correct in ((exercise.stub, False), (exercise.solution, True)):
            body, last = source.rsplit("exercises.report", 1)
            exec(body, space)
            outcome = eval("exercises.report" + last, space)
            assert outcome.correct is correct, (name, outcome.message)
            assert correct or "stopped with" not in outcome.message


def test_no_hint_to_an_untouched_stub_gives_the_answer_away() -> None:
    hint = exercises.report(checks.check_invariance, None).message
    assert "'scale', 'square'" in hint
    assert "shift" not in hint


def test_wrong_answers_get_hints() -> None:
    assert (
        "divergence of one nat" in exercises.report(checks.check_full_swap, 1.0).message
    )
    assert (
        "Squaring"
        in exercises.report(checks.check_invariance, {"scale", "square"}).message
    )
    assert "far smaller" in exercises.report(checks.check_zero_start, 0.5).message
    unmoved = exercises.report(
        checks.check_divergence_ascent,
        lambda model, images, epsilon, steps, generator: images,
    )
    assert "random point" in unmoved.message
    loose = exercises.report(
        checks.check_interval_linear,
        lambda layer, low, high: (torch.full((1, 3), -9.0), torch.full((1, 3), 9.0)),
    )
    assert "loose" in loose.message
