"""The study's statistics on made-up numbers whose answer is known, its rules on made-up
rows, and its exercises.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustbook import exercises
from robustbook.perturb.baselines import neutrality
from robustbook.results import Results
from robustbook.stats import mean_interval_t
from robustbook.studies import saliency_baselines as study
from robustbook.studies.saliency_baselines import claims, networks
from robustbook.studies.saliency_baselines import exercises as checks
from robustbook.studies.saliency_baselines.measure import judging, maps, settings, units

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


def test_plateau_and_noise_are_found_again() -> None:
    counts = np.array([100, 200, 400, 800, 1600])
    for plateau, noise in ((1.0, 300.0), (0.6, 50.0), (-0.2, 1000.0)):
        found, spread = settings.fit_plateau(plateau / (1 + noise / counts), counts)
        assert abs(found - plateau) < 0.02
        assert abs(spread / noise - 1) < 0.05
    steep, _ = settings.fit_plateau(counts / 3000, counts)
    assert steep <= 1


def test_maps_with_equal_signal_have_no_gap_and_maps_with_other_signals_have_one() -> (
    None
):
    generator = torch.Generator().manual_seed(0)
    signal = torch.rand(2, 1, 40, 12, 12, generator=generator)
    noise = 0.3 * torch.rand(2, 3, 40, 12, 12, generator=generator)
    # Baselines 0 and 1 share the signal of every image; baseline 2 has another.
    drawn = noise + torch.stack([signal[0], signal[0], signal[1]], dim=0)[None, :, 0]
    ceiling, between, same = maps.compare(drawn)
    assert ceiling.shape == (3, 3, 40)
    gap = (ceiling[0, 0] + ceiling[0, 1]) / 2 - between[0, 0, 1]
    assert abs(gap.mean()) < 0.01
    other = (ceiling[0, 0] + ceiling[0, 2]) / 2 - between[0, 0, 2]
    assert other.mean() > 0.5
    np.testing.assert_allclose(between, between.swapaxes(1, 2))
    np.testing.assert_allclose(same[:, 0, 0], 1)


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
    taus = judging.resampled_agreement(scores, 200).mean(0)
    assert abs(taus[0, 0] - taus[0, 1]) < 0.05
    assert taus[0, 0] > 0.9
    assert taus[0, 2] < -0.9


def test_agreement_of_scores_is_spearmans_over_methods() -> None:
    scores = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    np.testing.assert_allclose(judging.agreement(scores, scores), 1)
    np.testing.assert_allclose(judging.agreement(scores, -scores), -1)


def test_a_ratio_of_means_is_not_defined_where_the_second_is_zero() -> None:
    assert maps._ratio(np.array([1.0, 3.0]), np.array([4.0, 4.0])) == 0.5
    assert np.isnan(maps._ratio(np.zeros(2), np.zeros(2)))


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
    rounded, exact = (
        maps._rise(task, made, 0, each) for each in (torch.bfloat16, torch.float32)
    )
    assert not torch.equal(rounded, exact)
    results = Results()
    maps.add_networks(results, [measured])
    maps.add_similarity(results, [measured])
    assert results.one("rounding").n == 2
    gap = results.one("baseline gap", measure="spearman")
    assert results.one("network gap", seed=0).value == pytest.approx(gap.value)


# Rules
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([(0.1, 0.2), (0.05, 0.3)], "reproduced"),
        ([(0.1, 0.2), (-0.05, 0.3)], "partly"),
        ([(-0.1, 0.2), (-0.05, 0.3)], "not reproduced"),
        ([], "not tested at this scale"),
    ],
)
@pytest.mark.parametrize(
    ("claim", "name"), [("C4.1", "baseline gap"), ("C4.2", "neutral gap")]
)
def test_gaps_decide_by_their_lower_ends(
    claim: str, name: str, ends, expected: str
) -> None:
    assert verdict(claim, rows(name, ends, measure="spearman")) == expected


def test_top_pixels_decide_nothing() -> None:
    assert (
        verdict("C4.1", rows("baseline gap", [(0.1, 0.2)], measure="top pixels"))
        == "not tested at this scale"
    )


def test_a_diagonal_counts_only_where_random_maps_show_none() -> None:
    for control, expected in ((-0.01, "reproduced"), (0.01, "not reproduced")):
        results = Results()
        results.add("diagonal advantage", 0.2, (0.1, 0.3), data="a", maps="RISE")
        results.add("diagonal advantage", 0.05, (control, 0.1), data="a", maps="random")
        assert verdict("C4.4", results) == expected


def settings_rows(gap: float, equal: float) -> Results:
    results = rows("plateau gap", [(gap, 0.3)], pair="a / b")
    for setting in ("a", "b"):
        results.add(
            "plateau",
            equal - 0.05,
            (equal - 0.1, equal),
            data="set 0",
            pair=setting,
            kind="equal",
        )
    results.add(
        "corrected similarity of settings", 0.8, (0.7, 0.9), data="set 0", pair="a / b"
    )
    return results


def test_plateaus_must_differ_by_more_than_the_margin() -> None:
    for low, expected in ((0.02, "reproduced"), (0.005, "not reproduced")):
        assert verdict("C4.5", settings_rows(low, 1.0)) == expected
    assert (
        verdict("C4.5", rows("plateau gap", [(0.02, 0.3)], pair="a / b"))
        == "not tested at this scale"
    )


def test_a_plateau_of_equal_settings_below_one_is_told_with_the_verdict() -> None:
    for equal, failed, told in (
        (1.0, 0, "The control holds"),
        (0.9, 2, "The control fails: in 2 of 2"),
    ):
        results = settings_rows(0.02, equal)
        assert len(claims.failed_controls(results)) == failed
        found = CLAIMS["C4.5"].verdict(results)
        assert told in found.evidence
        assert "in 1 of 1 pairs" in found.evidence


def test_the_evidence_of_rankings_tells_the_neutral_pair_apart() -> None:
    results = Results()
    for pairs, low in (("all", 0.1), ("neutral", -0.1)):
        results.add(
            "ranking gap", 0.2, (low, 0.3), data="a", metric="MoRF", pairs=pairs
        )
    results.add("best method flips", 0.5, data="a", metric="MoRF", pairs="all")
    found = CLAIMS["C4.3"].verdict(results)
    assert found.verdict == "partly"
    assert (
        "1 of 1 with all pairs of baselines, 0 of 1 with the one neutral pair"
        in found.evidence
    )


@pytest.mark.parametrize(
    ("follows", "ends", "expected"),
    [
        (0.95, (0.06, 0.2), "reproduced"),
        (0.95, (0.01, 0.05), "partly"),
        (0.95, (-0.01, 0.2), "not reproduced"),
        (0.5, (0.06, 0.2), "not tested at this scale"),
    ],
)
def test_recovery_needs_truth_and_a_range(
    follows: float, ends: tuple[float, float], expected: str
) -> None:
    results = Results()
    results.add("follows the patch", follows)
    for generator in ("RISE", "occlusion", "RISE, one baseline twice"):
        results.add("recovery range", sum(ends) / 2, ends, generator=generator)
    results.add("recovery range without another image", 0.05, ends, generator="RISE")
    results.add(
        "lowest recovery above random",
        0.3,
        (0.2, 0.4),
        generator="RISE",
        baseline="another image",
    )
    assert verdict("C4.7", results) == expected


def test_every_claim_says_when_nothing_was_measured() -> None:
    assert {claim.verdict(Results()).verdict for claim in study.CLAIMS} == {
        "not tested at this scale"
    }
    assert [claim.id for claim in study.CLAIMS] == [
        f"C4.{number}" for number in range(1, 8)
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
    parameters = study.Parameters(
        train_images=400,
        epochs=5,
        images=3,
        masks=50,
        setting_images=3,
        setting_masks=200,
        learned_steps=5,
        seeds=2,
    )
    results = Results()
    measured = [
        maps.measure_maps(task) for task in networks.tasks(parameters) if task.seed == 0
    ]
    assert [one.task.data for one in measured] == ["digits", "shapes", "planted"]
    maps.add_networks(results, measured)
    maps.add_similarity(results, measured)
    maps.add_neutral(results, measured)
    maps.add_recovery(results, measured)
    judged = [judging.measure_judging(measured[0])]
    assert judged[0].methods.shape == (2, len(judging.METHODS), len(names), 3)
    judging.add_rankings(results, judged)
    judging.add_matrix(results, judged)
    judging.add_disagreement(results, judged)
    settings.add_settings(
        results, [settings.measure_settings(settings.setting_tasks(parameters)[0])]
    )
    for claim in study.CLAIMS[:-1]:
        assert claim.verdict(results).verdict != "not tested at this scale", claim.id
    # The planted network was trained too briefly to follow its patch.
    assert verdict("C4.7", results) == "not tested at this scale"
    grey = networks.baseline_images(measured[0].task)[names.index("neutral from grey")]
    assert (
        neutrality(networks.gather(measured[0].task).model, grey).max() < claims.NEUTRAL
    )
    again = maps.measure_maps(measured[0].task)
    assert torch.equal(again.maps, measured[0].maps)


def test_networks_that_follow_the_patch_decide_the_last_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBOOK_CACHE", str(tmp_path))
    monkeypatch.setattr(
        networks, "ALL_BASELINES", ("black", "training mean", "another image")
    )
    parameters = study.Parameters(
        train_images=1500, epochs=10, images=4, masks=50, seeds=2
    )
    results = Results()
    maps.add_recovery(
        results,
        [
            maps.measure_maps(task)
            for task in networks.tasks(parameters)
            if task.data == "planted"
        ],
    )
    assert results.one("follows the patch").value >= claims.FOLLOWS
    assert results.one("recovery range", generator="RISE").over == units.SEEDS
    assert verdict("C4.7", results) != "not tested at this scale"


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
