"""The study's statistics on made-up numbers whose answer is known, its rules on made-up
rows, and its exercises.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustbook import exercises
from robustbook.measure import similarity
from robustbook.perturb.baselines import neutrality
from robustbook.results import Results
from robustbook.stats import mean_interval_t
from robustbook.studies import saliency_baselines as study
from robustbook.studies.saliency_baselines import claims, networks
from robustbook.studies.saliency_baselines import exercises as checks
from robustbook.studies.saliency_baselines.measure import (
    controls,
    judging,
    maps,
    settings,
    shift,
    units,
)

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "saliency_baselines.py"
CLAIMS = {claim.id: claim for claim in study.CLAIMS}


def verdict(claim: str, results: Results) -> str:
    return CLAIMS[claim].verdict(results).verdict


def rows(name: str, ends: list[tuple[float, float]], **factors: str) -> Results:
    """Rows `name` with intervals, each of another data set."""
    results = Results()
    for number, (low, high) in enumerate(ends):
        results.add(
            name,
            (low + high) / 2,
            (low, high),
            n=9,
            over="images",
            data=f"set {number}",
            **factors,
        )
    return results


# Statistics
# --------------------------------------------------------------------------------------


def test_maps_with_equal_signal_have_no_gap_and_maps_with_other_signals_have_one() -> (
    None
):
    generator = torch.Generator().manual_seed(0)
    signal = torch.rand(2, 1, 40, 12, 12, generator=generator)
    noise = 0.3 * torch.rand(2, 3, 40, 12, 12, generator=generator)
    # Baselines 0 and 1 share the signal of every image; baseline 2 has another.
    drawn = noise + torch.stack([signal[0], signal[0], signal[1]], dim=0)[None, :, 0]
    between = maps.cross("spearman", drawn[0], drawn[1])
    ceiling = np.einsum("bbn->bn", between)
    first, second, third = maps.pair_gaps(ceiling, between)
    assert abs(first.mean()) < 0.01
    assert min(second.mean(), third.mean()) > 0.5
    peer = similarity.spearman(drawn[0, 1], drawn[1, 2])
    np.testing.assert_allclose(between[1, 2], peer.numpy())


def test_unequal_noise_alone_makes_no_gap() -> None:
    """Two noisy maps of one signal correlate to the geometric mean of their ceilings;
    below the arithmetic one.
    """
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(1, 1, 60, 20, 20, generator=generator)
    noise = torch.randn(2, 2, 60, 20, 20, generator=generator)
    drawn = signal + noise * torch.tensor([0.2, 2.0]).reshape(1, 2, 1, 1, 1)
    between = maps.cross("spearman", drawn[0], drawn[1])
    ceiling = np.einsum("bbn->bn", between)
    assert abs(maps.pair_gaps(ceiling, between).mean()) < 0.02
    assert (ceiling.mean(0) - between[0, 1]).mean() > 0.1


def test_what_predicts_the_gaps_of_other_seeds_explains_them() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=(60, 2)) for _ in range(4)]
    gaps = [0.1 + each @ (0.5, -0.2) for each in columns]
    assert min(float(each[0]) for each in shift.explained(columns, gaps)) > 0.999
    noise = [rng.normal(size=60) for _ in range(4)]
    assert max(float(each[0]) for each in shift.explained(columns, noise)) < 0.2


def test_passes_to_a_level_lie_between_the_counts_around_it() -> None:
    counts, curve = (100, 200, 400), np.array([0.2, 0.4, 0.6])
    assert maps._reached(curve, counts, 0.1) == 100
    assert maps._reached(curve, counts, 0.5) == pytest.approx(200 * 2**0.5)
    assert maps._reached(curve, counts, 0.9) == 400


def test_best_minus_worst_is_unbiased_where_nothing_differs() -> None:
    noise = np.random.default_rng(0).normal(size=(15, 2000))
    assert abs(maps.best_minus_worst(noise).mean()) < 0.1
    noise[3] += 1
    noise[7] -= 1
    assert abs(maps.best_minus_worst(noise).mean() - 2) < 0.15


def test_the_best_of_one_half_of_the_seeds_is_measured_on_the_other() -> None:
    # Every seed has another best row: what is chosen on the even seeds does badly on
    # the odd ones.
    parts = [np.eye(2)[[seed % 2, 1 - seed % 2]].repeat(3, axis=1) for seed in range(4)]
    parts = [part[:, :3] for part in parts]
    assert [found.mean() for found in maps.range_by_seed(parts)] == [-1, -1, -1, -1]
    agreeing = [np.array([[1.0], [0.0]]).repeat(count, axis=1) for count in (3, 4, 5)]
    assert [found.tolist() for found in maps.range_by_seed(agreeing)] == [
        [1.0] * count for count in (3, 4, 5)
    ]


def test_the_jackknife_of_a_mean_is_students_interval_over_seeds() -> None:
    means = np.array([0.19, 0.236, 0.263])
    found = units.jackknife(units.left_out(np.mean, means))
    expected = mean_interval_t(means)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    results = Results()
    units.add_mean(results, "a", [mean + np.linspace(-9, 9, 60) for mean in means])
    units.add_mean(
        results, "cut", [np.array([0.1]), np.array([0.9])], limits=units.SHARE
    )
    assert (results.one("cut").low, results.one("cut").high) == (0, 1)
    units.add_mean(results, "b", [np.arange(5.0)])
    several, single = results.one("a"), results.one("b")
    assert (several.over, several.n, several.low) == (
        units.SEEDS,
        3,
        pytest.approx(expected.low),
    )
    assert (single.over, single.n) == (units.ONE_SEED, 5)
    with pytest.raises(ValueError, match="two independent units"):
        units.jackknife(np.array([1.0, 1.0]))


def test_all_of_sixty_is_not_certain() -> None:
    found = maps._share(np.ones(60))
    assert (found.value, found.high, found.n) == (1, 1, 60)
    assert found.low == pytest.approx(0.025 ** (1 / 60))


def test_diagonal_advantage_sees_the_diagonal_alone() -> None:
    generator = np.random.default_rng(0)
    rows_and_columns = generator.normal(size=(6, 1, 5)) + generator.normal(
        size=(1, 6, 5)
    )
    np.testing.assert_allclose(
        judging.diagonal_advantage(rows_and_columns), 0, atol=1e-12
    )
    matched = rows_and_columns + 0.25 * np.eye(6)[:, :, None]
    np.testing.assert_allclose(judging.diagonal_advantage(matched), 0.25)


def test_rankings_of_equal_baselines_agree_and_reversed_ones_do_not() -> None:
    generator = np.random.default_rng(1)
    first = np.arange(8)[:, None] + generator.normal(size=(8, 60))
    scores = np.stack([first, first + 1e-9, -first], axis=1)
    taus = judging.half_agreement(scores)
    assert abs(taus[0, 0] - taus[0, 1]) < 0.05
    assert taus[0, 0] > 0.9
    assert taus[0, 2] < -0.9


def test_agreement_of_scores_is_spearmans_over_methods() -> None:
    scores = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    np.testing.assert_allclose(judging.agreement(scores, scores), 1)
    np.testing.assert_allclose(judging.agreement(scores, -scores), -1)


def test_rounded_maps_are_close_to_exact_ones_and_not_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "ROUNDED", ("digits",))
    small = study.Parameters(train_images=300, epochs=2, images=3, masks=200, cells=3)
    task = networks.Task(0, "digits", small)
    measured = maps.measure_maps(task)
    assert measured.rounded is not None
    assert measured.rounded.shape == (2,)
    assert 0.95 < measured.rounded.min() <= 1
    made = networks.baseline_images(task)[:1]
    masks = networks.rise_masks(task, 0)
    rounded, exact = (
        maps._scores(task, made, masks, dtype=each)[0]
        for each in (torch.bfloat16, torch.float32)
    )
    assert not torch.equal(rounded, exact)
    results = Results()
    maps.add_networks(results, [measured])
    maps.add_similarity(results, [measured])
    assert results.one("rounding").n == 2
    gap = results.one("baseline gap", measure="spearman", estimator="adjusted")
    assert results.one("network gap", seed=0).value == pytest.approx(gap.value)


# Rules
# --------------------------------------------------------------------------------------


HELD, FAILED, OPEN = (0.2, 0.3), (-0.1, 0.01), (-0.1, 0.3)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([HELD, HELD], "reproduced"),
        ([HELD, OPEN], "inconclusive"),
        ([HELD, FAILED], "mixed"),
        ([FAILED, FAILED], "not reproduced"),
        ([FAILED, OPEN], "inconclusive"),
        ([(0.01, 0.04), (0.01, 0.04)], "not reproduced"),
        ([], "not tested at this scale"),
    ],
)
@pytest.mark.parametrize("claim", ["C4.1", "C4.2"])
def test_gaps_decide_by_the_smallest_that_matters(
    claim: str, ends, expected: str
) -> None:
    assert verdict(claim, gap_rows(claim, ends, [0.95] * len(ends))) == expected


@pytest.mark.parametrize(
    ("ceilings", "expected"),
    [
        ([0.95, 0.95], "reproduced"),
        ([0.95, 0.85], "partly"),
        ([0.85, 0.85], "inconclusive"),
    ],
)
@pytest.mark.parametrize("claim", ["C4.1", "C4.2"])
def test_a_map_that_does_not_repeat_itself_decides_nothing(
    claim: str, ceilings: list[float], expected: str
) -> None:
    assert verdict(claim, gap_rows(claim, [HELD, HELD], ceilings)) == expected


def gap_rows(claim: str, ends, ceilings: list[float]) -> Results:
    results = Results(rows=study.ROWS)
    for number, (pair, ceiling) in enumerate(zip(ends, ceilings, strict=True)):
        title, value = f"set {number}", sum(pair) / 2
        if claim == "C4.2":
            kind = {"data": title, "reading": "near-uniform"}
            results.add("neutral gap", value, pair, n=6, **kind)
            results.add("neutral ceiling", ceiling, **kind)
            results.add("neutral pairs", 15, unit="pairs", **kind)
            continue
        for measure in claims.DECIDING:
            kind = {"data": title, "measure": measure, "estimator": "adjusted"}
            results.add("baseline gap", value, pair, n=6, **kind)
            results.add("ceiling", ceiling, **kind)
    return results


def test_photographs_may_repeat_themselves_less() -> None:
    assert claims.ceiling_limit("MNIST") == 0.9
    assert claims.ceiling_limit(claims.LARGE[0]) == 0.8


def test_two_neutral_pairs_are_too_few() -> None:
    results = gap_rows("C4.2", [HELD], [0.95])
    few = [row for row in results.metrics if row.name != "neutral pairs"]
    results = Results(few, rows=study.ROWS)
    kind = {"data": "set 0", "reading": "near-uniform"}
    results.add("neutral pairs", 2, unit="pairs", **kind)
    assert verdict("C4.2", results) == "inconclusive"


def test_a_diagonal_counts_only_where_random_maps_show_none() -> None:
    for control, expected in ((-0.01, "reproduced"), (0.01, "inconclusive")):
        results = Results()
        results.add("diagonal advantage", 0.2, (0.1, 0.3), data="a", maps="RISE")
        results.add("diagonal advantage", 0.05, (control, 0.1), data="a", maps="random")
        assert verdict("C4.4", results) == expected


def test_settings_need_pairs_that_repeat_themselves() -> None:
    for share, gap, expected in (
        (0.6, HELD, "reproduced"),
        (0.6, FAILED, "not reproduced"),
        (0.4, HELD, "inconclusive"),
    ):
        results = Results(rows=study.ROWS)
        for masks, ends in ((100, OPEN), (200, gap)):
            kind = {"data": "a", "varied": "p", "masks": masks}
            results.add("setting gap", sum(ends) / 2, ends, n=6, **kind)
        results.add("reliable pairs", share, unit="share", data="a", varied="p")
        assert verdict("C4.5", results) == expected
    results.add("reliable pairs", 0.0, unit="share", data="b", varied="p")
    assert verdict("C4.5", results) == "inconclusive"


def test_rankings_and_metrics_need_repetitions_that_agree() -> None:
    for steady, expected in ((0.8, "reproduced"), (0.3, "inconclusive")):
        results = Results(rows=study.ROWS)
        kind = {"data": "a", "metric": "MoRF", "pairs": "all"}
        results.add("ranking gap", 0.25, HELD, n=6, **kind)
        results.add("ranking agreement", steady, kind="within", **kind)
        for name in ("other step sizes", "another draw of noise"):
            results.add("metric agreement", steady, data="a", comparison=name)
        pair = {"data": "a", "comparison": "MoRF and LeRF"}
        results.add("metric gap", 0.25, HELD, n=6, **pair)
        assert verdict("C4.3", results) == expected
        assert verdict("C4.6", results) == expected


@pytest.mark.parametrize(
    ("follows", "twice", "ends", "expected"),
    [
        (0.95, (-0.01, 0.02), (0.06, 0.2), "reproduced"),
        (0.95, (-0.01, 0.02), (0.01, 0.2), "inconclusive"),
        (0.95, (-0.01, 0.02), (-0.01, 0.04), "not reproduced"),
        (0.95, (0.05, 0.2), (0.06, 0.2), "inconclusive"),
        (0.5, (-0.01, 0.02), (0.06, 0.2), "inconclusive"),
    ],
)
def test_recovery_needs_truth_and_a_range(follows, twice, ends, expected: str) -> None:
    results = Results(rows=study.ROWS)
    results.add("follows the patch", follows, n=60, unit="share")
    rows = {"no patch": ends, "all": (0.5, 0.6), "one, two draws": twice}
    for which, each in rows.items():
        kind = {"generator": "RISE", "baselines": which}
        results.add("recovery range", sum(each) / 2, each, n=6, **kind)
    lowest = {"baseline": "black"}
    results.add("lowest recovery above random", 0.3, (0.2, 0.4), **lowest)
    assert verdict("C4.7", results) == expected


def test_distance_must_lead_the_pixels_and_gaps_must_repeat() -> None:
    for lead, steady, ends, expected in (
        (HELD, 0.9, (0.6, 0.8), "reproduced"),
        (OPEN, 0.9, (0.6, 0.8), "partly"),
        (HELD, 0.9, (0.1, 0.4), "not reproduced"),
        (HELD, 0.7, (0.6, 0.8), "inconclusive"),
    ):
        results = Results(rows=study.ROWS)
        results.add("gap reliability", steady, data="a")
        for by, pair in (("distance", ends), ("lead", lead)):
            row = {"data": "a", "by": by}
            results.add("divergence explained", sum(pair) / 2, pair, n=6, **row)
        assert verdict("C4.8", results) == expected


def test_every_claim_says_when_nothing_was_measured() -> None:
    assert {claim.verdict(Results()).verdict for claim in study.CLAIMS} == {
        "not tested at this scale"
    }
    assert [claim.id for claim in study.CLAIMS] == [
        f"C4.{number}" for number in range(1, 9)
    ]


# The whole, small
# --------------------------------------------------------------------------------------


def test_a_small_task_is_measured_and_decides_all_claims_but_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBOOK_CACHE", str(tmp_path))
    names = (
        "black",
        "training mean",
        "blur 5",
        "neutral from grey",
        "neutral from noise",
    )
    monkeypatch.setattr(networks, "ALL_BASELINES", names)
    parameters = {
        "train_images": 400,
        "epochs": 5,
        "images": 4,
        "masks": 64,
        "learned_steps": 5,
        "seeds": 3,
    }
    results = Results(rows=study.ROWS)
    tasks = networks.tasks(**parameters)
    measured = [maps.measure_maps(task) for task in tasks if task.data == "digits"]
    planted = next(task for task in tasks if task.data == "planted")
    measured.append(maps.measure_maps(planted))
    maps.add_networks(results, measured)
    maps.add_passes(results, measured)
    maps.add_similarity(results, measured)
    maps.add_neutral(results, measured)
    maps.add_recovery(results, measured)
    shifts = [shift.measure_shift(one) for one in measured]
    shift.add_shift(results, measured, shifts)
    assert judging.judged_tasks(measured) == measured[:-1]
    judged = [judging.measure_judging(one) for one in measured[:2]]
    assert judged[0].methods.shape == (2, len(judging.METHODS), len(names), 4)
    assert judged[0].road.shape == (2, len(judging.METHODS), 4)
    judging.add_rankings(results, judged)
    judging.add_matrix(results, judged)
    judging.add_disagreement(results, judged)
    work = settings.setting_tasks(tasks, setting_images=3, setting_masks=400)
    settings.add_settings(
        results, [settings.measure_settings(task) for task in work[:2]]
    )
    work = controls.control_tasks(tasks)
    controls.add_controls(
        results, [controls.measure_controls(task) for task in work[:2]]
    )
    for claim in study.CLAIMS:
        assert claim.verdict(results).verdict != "not tested at this scale", claim.id
        answer = claim.verdict(results).answer
        assert 3 < len(answer.split()) <= 30, answer
    # The planted network was trained too briefly to follow its patch.
    assert "is not the truth" in CLAIMS["C4.7"].verdict(results).answer
    grey = networks.baseline_images(measured[0].task)[names.index("neutral from grey")]
    assert (
        neutrality(networks.gather(measured[0].task).model, grey).max() < claims.NEUTRAL
    )
    again = maps.measure_maps(measured[0].task)
    assert torch.equal(again.maps, measured[0].maps)


def test_a_transformer_is_explained_by_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBOOK_CACHE", str(tmp_path))
    monkeypatch.setattr(networks, "FEW_BASELINES", ("training mean", "blur 5"))
    small = {"train_images": 200, "epochs": 1, "masks": 50, "learned_steps": 5}
    tasks = networks.tasks(transformer_images=3, transformer_masks=50, **small)
    task = next(task for task in tasks if task.data == "transformer")
    measured = maps.measure_maps(task)
    assert measured.title == "Shapes, transformer"
    methods = judging.methods_of(task)
    assert ("attention" in methods, "grad-cam" in methods) == (True, False)
    assert judging.method_maps(measured).shape == (13, 3, 24, 24)


def test_quick_defaults_are_those_of_the_notebook() -> None:
    source = NOTEBOOK.read_text(encoding="utf-8")
    for name, value in study.Parameters().model_dump().items():
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        assert f"\n{name}: {type(value).__name__} = {shown}" in source, name


# Exercises
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(exercises.cells(NOTEBOOK)))
def test_stubs_fail_and_solutions_pass(name: str) -> None:
    cell = exercises.cells(NOTEBOOK)[name]
    space = {"exercises": exercises, "checks": checks, "torch": torch}
    for source, correct in ((cell.stub, False), (cell.solution, True)):
        *body, last = source.rstrip().splitlines()
        exec("\n".join(body), space)
        assert eval(last, space).correct is correct


def test_wrong_answers_get_hints() -> None:
    assert "upside down" in exercises.report(checks.check_insertion, 0.3).message
    assert "solve for c" in exercises.report(checks.check_ceiling, 0.8).message
    assert (
        "plain correlation"
        in exercises.report(checks.check_centred, (0.0, 0.0)).message
    )
    assert (
        "by p"
        in exercises.report(
            checks.check_rise,
            lambda scores, masks, p: (scores[:, None, None] * masks).mean(0),
        ).message
    )
