"""The study `synthesis`: its correlations are SciPy's, its intervals cover, its lenses
agree with each other, its rules decide.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from torch import nn

from robustbook import exercises, page, studies
from robustbook.measure import rank_agreement
from robustbook.measure.bounds import certified
from robustbook.models.gated import with_gates, without_gates
from robustbook.models.network import compute_logits
from robustbook.perturb import pruning
from robustbook.perturb.gradient import margin_pgd
from robustbook.results import Metric, Results
from robustbook.run import same_quantity
from robustbook.run.project import Project
from robustbook.run.records import load
from robustbook.stats import rank_matrix
from robustbook.studies.synthesis import (
    CLAIMS,
    Parameters,
    claims,
    figures,
    measure,
    networks,
    rows,
)
from robustbook.studies.synthesis import exercises as checks

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "synthesis.py"
JUDGES = {claim.id: claim for claim in CLAIMS}
SMALL = Parameters(
    train_images=300,
    epochs=6,
    vi_epochs=4,
    tune_epochs=1,
    seeds=2,
    accuracy_images=60,
    images=12,
    bound_images=6,
    map_images=4,
    steps=5,
    restarts=1,
    posterior_samples=3,
    resamples=200,
)


# Correlations
# --------------------------------------------------------------------------------------


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_rank_matrix_is_scipys(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 6, size=(14, 4)).astype(float)
    expected = np.array([[spearmanr(a, b).statistic for b in rows.T] for a in rows.T])
    np.testing.assert_allclose(rank_matrix(rows), expected, atol=1e-12)


def test_a_constant_measure_has_no_correlation_and_disturbs_no_other() -> None:
    rows = np.array([[1.0, 5, 3], [1, 2, 1], [1, 4, 2]])
    found = rank_matrix(rows)
    assert np.isnan(found[0]).all()
    assert found[1, 2] == pytest.approx(1)


def test_the_partial_correlation_is_that_of_residuals() -> None:
    rows = np.random.default_rng(1).standard_normal((40, 3)) @ np.array(
        [[1, 0.5, 0.2], [0, 1, 0.7], [0, 0, 1]]
    )
    ranks = rankdata(rows, axis=0)
    design = np.column_stack([np.ones(40), ranks[:, 2]])
    left = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
    found = rank_agreement.partial(rank_matrix(rows), 2)
    assert found[0, 1] == pytest.approx(pearsonr(left[:, 0], left[:, 1]).statistic)
    assert np.isnan(found[2]).all()


def test_two_measures_of_one_quality_have_no_partial_correlation_given_it() -> None:
    generator = np.random.default_rng(3)
    truth = generator.standard_normal(4000)
    rows = np.column_stack(
        [truth, *(truth + generator.standard_normal(4000) for _ in range(2))]
    )
    found = rank_agreement.partial(rank_matrix(rows), 0)
    assert rank_matrix(rows)[1, 2] > 0.4
    assert abs(found[1, 2]) < 0.05


def simulated(generator: np.random.Generator, kinds: int, seeds: int) -> np.ndarray:
    """Two measures that share nothing, but that differ between kinds far more than
    between seeds.
    """
    return generator.standard_normal((kinds, 1, 2)) + 0.2 * generator.standard_normal(
        (kinds, seeds, 2)
    )


def test_intervals_over_kinds_cover_where_intervals_over_networks_do_not() -> None:
    generator, hits, naive = np.random.default_rng(0), 0, 0
    for trial in range(120):
        values = simulated(generator, 12, 4)
        low, high = rank_agreement.agreement(values, seed=trial, resamples=200).bounds()
        hits += low[0, 1] <= 0 <= high[0, 1]
        flat = values.reshape(-1, 2)
        drawn = [
            rank_matrix(flat[generator.integers(48, size=48)])[0, 1] for _ in range(200)
        ]
        naive += np.quantile(drawn, 0.025) <= 0 <= np.quantile(drawn, 0.975)
    assert hits / 120 > 0.85
    assert naive / 120 < 0.75


def test_whole_families_are_drawn_and_counted() -> None:
    values = np.random.default_rng(2).standard_normal((6, 3, 2))
    found = rank_agreement.agreement(
        values, seed=0, resamples=50, families=[0, 0, 0, 1, 2, 2]
    )
    assert found.n == 3
    one = rank_agreement.agreement(values, seed=0, resamples=50)
    np.testing.assert_allclose(found.value, one.value)
    assert one.n == 6


def test_within_kinds_sees_seeds_alone() -> None:
    generator = np.random.default_rng(5)
    noise = generator.standard_normal((12, 6, 1))
    values = 10 * np.arange(12)[:, None, None] + np.concatenate([noise, -noise], axis=2)
    assert rank_agreement.agreement(values, seed=0, resamples=20).value[0, 1] > 0.9
    assert rank_agreement.within_kinds(values, seed=0, resamples=20).value[0, 1] < -0.95


def test_networks_within_kinds_are_drawn_by_family_and_seed() -> None:
    """Three copies of every kind tell nothing new, and neither does a seed whose
    networks are all alike.
    """
    generator = np.random.default_rng(6)
    single = generator.standard_normal((6, 4, 2))
    copies = np.repeat(single, 3, axis=0)
    families = np.repeat(np.arange(6), 3)

    def width(values: np.ndarray, **settings: object) -> float:
        low, high = rank_agreement.within_kinds(
            values, seed=0, resamples=300, **settings
        ).bounds()
        return float(high[0, 1] - low[0, 1])

    assert (
        rank_agreement.within_kinds(copies, seed=0, resamples=20, families=families).n
        == 6
    )
    assert width(copies, families=families) == pytest.approx(width(single), rel=0.1)
    assert width(copies) < 0.8 * width(single)
    by_seed = generator.standard_normal((1, 4, 2)) + 0.01 * generator.standard_normal(
        (60, 4, 2)
    )
    assert width(by_seed) > 0.5


def test_equal_values_of_a_kind_leave_nothing_but_ties() -> None:
    table = np.full((3, 3, 2), 0.1)
    table[0, :, 0] = 1, 2, 3
    found = rank_agreement.within_kinds(table, seed=0, resamples=5)
    assert np.isnan(found.value[0, 1])


def test_seeds_agree_by_families() -> None:
    values = np.random.default_rng(7).standard_normal((6, 3, 2))
    found = rank_agreement.seed_ceiling(
        values, seed=0, resamples=20, families=[0, 0, 0, 1, 2, 2]
    )
    assert found.n == 3
    np.testing.assert_allclose(
        found.value, rank_agreement.seed_ceiling(values, seed=0, resamples=20).value
    )


def test_the_ceiling_is_the_agreement_of_two_seeds() -> None:
    values = np.zeros((5, 2, 2))
    values[:, 0, 0], values[:, 1, 0] = np.arange(5), np.arange(5)
    values[:, 0, 1], values[:, 1, 1] = np.arange(5), -np.arange(5)
    np.testing.assert_allclose(
        rank_agreement.seed_ceiling(values, seed=0, resamples=20).value, [1, -1]
    )


@pytest.mark.parametrize(
    "values",
    [np.zeros((1, 3, 2)), np.zeros((3, 1, 2)), np.full((3, 3, 2), np.nan), np.zeros(4)],
)
def test_tables_without_an_interval_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values must be"):
        rank_agreement.agreement(values, seed=0, resamples=10)


# Gates and pruning
# --------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    return networks.build((1, 8, 8), 10, seed=0)


def test_gates_change_nothing_and_can_be_taken_out() -> None:
    images, plain = torch.rand(5, 1, 8, 8), network()
    gated = with_gates(plain)
    assert [group.units for group in gated.groups] == [8, 16, 64]
    torch.testing.assert_close(gated(images), plain(images))
    torch.testing.assert_close(without_gates(gated)(images), plain(images))


def test_a_relu_needs_layers_on_both_sides() -> None:
    with pytest.raises(ValueError, match="before it"):
        with_gates(nn.Sequential(nn.ReLU(), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="behind it"):
        with_gates(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_share_of_every_layer_is_really_gone_and_only_unimportant_units(
    share: float,
) -> None:
    data, plain = networks.images_of("digits", "train", 100), network()
    smaller = networks.pruned(plain, share, data)
    widths = [
        layer.weight.shape[0]
        for layer in smaller
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    assert widths == [round((1 - share) * units) for units in (8, 16, 64)] + [10]
    scores, gated = networks.taylor_scores(plain, data), with_gates(plain)
    alive = pruning.all_alive(gated)
    for name, part in gated.split(scores).items():
        cut = part.sort().values[round(share * len(part))]
        alive[
            gated.group_of_unit() == [group.name for group in gated.groups].index(name)
        ] = part >= cut
    with pruning.masked(gated, alive):
        torch.testing.assert_close(
            smaller(data.images), gated(data.images), atol=1e-5, rtol=1e-4
        )


def test_the_prunable_share_ends_before_the_first_fall() -> None:
    shares = np.array([0, 0.25, 0.5, 0.75])
    assert measure.prunable_share(shares, np.array([0.9, 0.89, 0.88, 0.5])) == 0.5
    assert measure.prunable_share(shares, np.array([0.9, 0.7, 0.9, 0.9])) == 0
    assert measure.prunable_share(shares, np.array([0.9, 0.95, 0.9, 0.9])) == 0.75
    np.testing.assert_array_equal(
        measure.prunable_share(shares, np.array([[0.9, 0.8, 0, 0], [1, 1, 0, 0]])),
        [0, 0.25],
    )


def test_a_family_is_a_trained_kind_with_what_was_pruned_from_it() -> None:
    assert len(networks.FAMILIES) == len(networks.KINDS)
    assert set(networks.FAMILIES) == set(range(len(networks.TRAINED)))
    assert networks.FAMILIES.count(networks.TRAINED.index(networks.NATURAL)) == 4


# Lenses
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[measure.Measured]:
    """A small zoo of three kinds and two seeds, one of them Bayesian, one pruned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        kinds = (networks.NATURAL, networks.POSTERIOR, "natural, 50% pruned")
        return [
            measure.measure(network, SMALL)
            for network in networks.networks(SMALL, kinds)
        ]


def test_what_is_certified_withstands_the_attack(
    measured: list[measure.Measured],
) -> None:
    for each in measured:
        for radius in measure.RADII:
            assert (each.certified[radius] <= each.unmoved[radius]).all()
            assert (
                each.attained[measure.RADII[-1]] <= each.bound[measure.RADII[-1]] + 1e-6
            ).all()
        assert (
            each.certified[measure.RADII[0]] >= each.certified[measure.RADII[1]]
        ).all()


def test_certified_accuracy_is_never_above_robust_accuracy_on_the_same_images() -> None:
    model, data = (
        networks.load_point(networks.Network(networks.NATURAL, 0), SMALL),
        networks.images_of("digits", "test", 20),
    )
    proved = certified(model, data.images, data.labels, epsilon=0.03)
    ends = margin_pgd(
        model,
        data.images,
        data.labels,
        epsilon=0.03,
        steps=10,
        step_size=0.01,
        generator=torch.Generator(),
    )
    robust = compute_logits(model, ends).argmax(1) == data.labels
    assert 0 < proved.sum() <= robust.sum()
    assert (proved <= robust).all()


def test_robust_images_are_right_and_lenses_stay_in_their_ranges(
    measured: list[measure.Measured],
) -> None:
    for each in measured:
        assert (each.robust <= each.clean[: SMALL.images]).all()
        assert (
            each.curve[0].tolist() == each.clean.tolist()
            or each.network.kind == networks.POSTERIOR
        )
        assert (np.abs(each.stability) <= 1).all()
        assert each.filtered.shape == (len(measure.WAVELENGTHS), SMALL.accuracy_images)
        assert each.shares[0] == 0
        assert (each.alarm is not None) == (each.network.kind == networks.POSTERIOR)


def test_a_posteriors_prediction_is_the_same_at_every_call() -> None:
    seen = measure.subject(networks.Network(networks.POSTERIOR, 0), SMALL)
    images = networks.images_of("digits", "test", 10).images
    torch.testing.assert_close(seen.model(images), seen.model(images))
    assert len(seen.members) == SMALL.bound_samples


def test_a_network_that_ignores_its_input_has_no_map_to_compare() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(model[1].weight)
    assert measure.stability(model, torch.rand(2, 1, 8, 8)).tolist() == [0, 0]


def test_rows_hold_every_network_and_lens(measured: list[measure.Measured]) -> None:
    results = Results()
    rows.record_networks(results, measured, SMALL)
    kinds, values = rows.table(results)
    assert values.shape == (3, 2, len(claims.LENSES))
    assert kinds == [networks.NATURAL, networks.POSTERIOR, "natural, 50% pruned"]
    row = results.one(claims.ROBUST, kind=networks.NATURAL, seed=1)
    assert (
        values[0, 1, claims.LENSES.index(claims.ROBUST)]
        == row.value
        == measured[1].robust.mean()
    )
    broken = results.select("images that break a bracket")
    assert len(broken) == len(measured)
    assert sum(each.value for each in broken) == 0
    assert {row.factors["kind"] for row in results.select("balance of deviations")} == {
        networks.POSTERIOR
    }
    for lens in claims.LENSES:
        for each in results.select(lens):
            assert each.low <= each.value <= each.high


def test_correlations_are_recorded_for_every_pair_and_set() -> None:
    generator, results = np.random.default_rng(4), Results()
    for kind in networks.KINDS:
        quality = generator.standard_normal()
        for seed in range(2):
            for lens in claims.LENSES:
                sign = -1 if lens == claims.LOW_PASS else 1
                results.add(
                    lens,
                    sign * quality + 0.3 * generator.standard_normal(),
                    kind=kind,
                    seed=seed,
                )
    rows.record_correlations(results, SMALL)
    _, values = rows.table(results)
    places = [claims.LENSES.index(lens) for lens in (claims.ROBUST, claims.LOW_PASS)]
    row = results.one("rank correlation", first=claims.ROBUST, second=claims.LOW_PASS)
    assert row.value == pytest.approx(
        spearmanr(*(values[:, :, place].ravel() for place in places)).statistic
    )
    assert row.low < row.value < row.high < 0
    assert (row.n, row.over) == (len(networks.KINDS), "kinds and seeds")
    assert results.one("rank correlation over families", **row.factors).n == len(
        networks.TRAINED
    )
    inside = results.one("within-kind rank correlation", **row.factors)
    assert (inside.n, inside.over) == (len(networks.TRAINED), "families and seeds")
    without = results.one(rows.WITHOUT_POSTERIOR, **row.factors)
    kept = [
        place for place, kind in enumerate(networks.KINDS) if kind != networks.POSTERIOR
    ]
    expected = spearmanr(
        *(values[kept][:, :, place].ravel() for place in places)
    ).statistic
    assert (without.value, without.n) == (
        pytest.approx(expected),
        len(networks.KINDS) - 1,
    )
    found = rows.matrix(results)
    np.testing.assert_array_equal(found, found.swapaxes(0, 1))
    assert len(figures.sensitivity_table(results)) == 5
    assert rows.strongest(results)[0].value != 0


def test_psi_ratios_are_exact_for_a_known_factor() -> None:
    before = np.random.default_rng(0).uniform(0.1, 1, (3, 40))
    found = rows.psi_ratio(before / 2, before, resamples=100)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    assert rows.mean_difference(before + 0.1, before, 100).value == pytest.approx(0.1)


# Rules
# --------------------------------------------------------------------------------------


def pair_rows(
    first: str,
    second: str,
    given: str,
    plain: tuple[float, float, float],
    partial: tuple[float, float, float],
    seeds: int = 3,
) -> Results:
    results = Results()
    results.add("networks", seeds, count="seeds")
    pair = {"first": first, "second": second}
    names = (
        "rank correlation",
        "rank correlation over families",
        "within-kind rank correlation",
    )
    for name in names:
        results.add(name, plain[0], plain[1:], n=12, **pair)
    results.add(
        "partial rank correlation", partial[0], partial[1:], n=12, given=given, **pair
    )
    return results


PAIRS = {
    "S1": (claims.ROBUST, claims.PSI, claims.CLEAN),
    "S2": (claims.SOUND, claims.CERTIFIED, claims.ROBUST),
    "S3": (claims.ROBUST, claims.STABILITY, claims.CLEAN),
    "S4": (claims.ROBUST, claims.LOW_PASS, claims.CLEAN),
}


@pytest.mark.parametrize("claim", ["S1", "S2"])
@pytest.mark.parametrize(
    ("plain", "partial", "seeds", "expected"),
    [
        ((0.9, 0.6, 1), (0.5, 0.1, 0.8), 3, "reproduced"),
        ((0.9, 0.4, 1), (0.5, 0.1, 0.8), 3, "partly"),
        ((0.9, 0.6, 1), (0.5, -0.1, 0.8), 3, "partly"),
        ((0.9, -0.1, 1), (0.5, 0.1, 0.8), 3, "not reproduced"),
        ((-0.9, -1, -0.6), (-0.5, -0.8, -0.1), 3, "not reproduced"),
        ((0.9, 0.6, 1), (0.5, 0.1, 0.8), 2, "not tested at this scale"),
    ],
)
def test_s1_and_s2_need_the_whole_interval(
    claim, plain, partial, seeds, expected
) -> None:
    assert (
        JUDGES[claim].verdict(pair_rows(*PAIRS[claim], plain, partial, seeds)).verdict
        == expected
    )


@pytest.mark.parametrize(("claim", "sign"), [("S3", 1), ("S4", -1)])
@pytest.mark.parametrize(
    ("plain", "partial", "expected"),
    [
        ((0.6, 0.1, 0.9), (0.5, 0.1, 0.8), "reproduced"),
        ((0.4, 0.1, 0.9), (0.5, 0.1, 0.8), "partly"),
        ((0.6, 0.1, 0.9), (0.5, -0.1, 0.8), "partly"),
        ((0.6, -0.1, 0.9), (0.5, 0.1, 0.8), "not reproduced"),
        ((-0.6, -0.9, -0.1), (-0.5, -0.8, -0.1), "not reproduced"),
    ],
)
def test_s3_and_s4_mirror_each_other(claim, sign, plain, partial, expected) -> None:
    turned = [
        tuple(sorted(sign * value for value in part[1:])) for part in (plain, partial)
    ]
    rows = pair_rows(
        *PAIRS[claim], (sign * plain[0], *turned[0]), (sign * partial[0], *turned[1])
    )
    assert JUDGES[claim].verdict(rows).verdict == expected


@pytest.mark.parametrize(
    ("plain", "ceiling", "expected"),
    [
        ((0.1, -0.3, 0.4), 0.8, "reproduced"),
        ((0.1, -0.3, 0.7), 0.8, "not tested at this scale"),
        ((0.1, -0.3, 0.4), 0.3, "not tested at this scale"),
        ((0.4, 0.1, 0.7), 0.8, "not reproduced"),
        ((-0.4, -0.7, -0.1), 0.3, "not reproduced"),
    ],
)
def test_s5_tells_nothing_apart_from_cannot_tell(plain, ceiling, expected) -> None:
    rows = pair_rows(
        claims.ROBUST, claims.PRUNABLE, claims.CLEAN, plain, (0, -0.1, 0.1)
    )
    rows.add("agreement of two seeds", ceiling, (0, 1), lens=claims.PRUNABLE)
    assert JUDGES["S5"].verdict(rows).verdict == expected


@pytest.mark.parametrize(
    ("ratios", "between", "expected"),
    [
        ([(1.0, 0.9, 1.1, 0.01), (0.3, 0.2, 0.4, 0.2)], 1.1, "reproduced"),
        ([(0.6, 0.5, 0.7, 0.01), (1.0, 0.9, 1.1, 0.0)], 1.1, "not reproduced"),
        ([(0.6, 0.5, 0.7, 0.01)], 2.0, "partly"),
        ([(0.9, 0.7, 1.1, 0.01)], 1.1, "partly"),
        ([(0.6, 0.5, 0.7, 0.1)], 1.1, "not tested at this scale"),
    ],
)
def test_s6_looks_at_ratios_that_keep_accuracy(ratios, between, expected) -> None:
    results = Results()
    results.add("networks", 3, count="seeds")
    results.add("largest psi ratio between seeds", between)
    for place, (value, low, high, loss) in enumerate(ratios):
        results.add(
            "psi after pruning over before", value, (low, high), kind=str(place)
        )
        results.add("accuracy lost by pruning", loss, kind=str(place))
    assert JUDGES["S6"].verdict(results).verdict == expected


def test_without_rows_nothing_is_judged() -> None:
    assert {claim.verdict(Results()).verdict for claim in CLAIMS} == {
        "not tested at this scale"
    }


# The page
# --------------------------------------------------------------------------------------


def test_it_is_the_only_study_of_our_own_and_says_so() -> None:
    assert [name for name in studies.names() if studies.is_own(name)] == ["synthesis"]
    assert all(claim.published is None for claim in CLAIMS)
    shown = page.claims_box(CLAIMS, own=True).data
    assert "What we ask" in shown
    assert "paper" not in shown.split("<ol>")[0]
    assert "held" in page.badge("reproduced", own=True)
    assert "reproduced</span>" in page.badge("reproduced")


def test_same_quantities_are_read_from_both_records(tmp_path: Path) -> None:
    folder = tmp_path / "book" / "studies"
    folder.mkdir(parents=True)
    other = load(ROOT / "book" / "studies" / "loss_metric.json")
    own = other.model_copy(
        update={
            "study": "synthesis",
            "claims": load(ROOT / "book" / "studies" / "synthesis.json").claims,
            "metrics": [
                Metric(
                    name="psi", value=value, factors={"kind": "natural", "seed": value}
                )
                for value in (4, 6)
            ],
        }
    )
    project = Project(tmp_path)
    assert same_quantity.comparison(project) == []
    (folder / "loss_metric.json").write_bytes(other.to_bytes())
    (folder / "synthesis.json").write_bytes(own.to_bytes())
    (line,) = same_quantity.comparison(project)
    (there,) = Results(other.metrics).select(
        "kind: median psi", dataset="mnist", architecture="cnn", training="natural"
    )
    assert line["Here (seeds)"] == "5.0 [4.0, 6.0]"
    assert line["There"] == page.interval(there, 2)
    smaller = own.model_copy(update={"parameters": {**own.parameters, "epsilon": 0.2}})
    (folder / "synthesis.json").write_bytes(smaller.to_bytes())
    assert same_quantity.comparison(project) == []


def test_every_same_quantity_is_a_row_of_a_committed_record() -> None:
    for match in same_quantity.MATCHES:
        record = load(ROOT / "book" / "studies" / f"{match.study}.json")
        assert len(Results(record.metrics).select(match.name, **match.factors)) == 1, (
            match
        )
        assert match.lens in claims.LENSES
        assert match.kind in networks.KINDS


@pytest.mark.parametrize("name", ["quick", "reference"])
def test_parameter_sets_are_valid(name: str) -> None:
    chosen = yaml.safe_load((ROOT / "notebooks" / "runs" / f"{name}.yml").read_text())[
        "synthesis"
    ]
    assert chosen.items() <= Parameters(**chosen).model_dump(mode="json").items()


def test_every_kind_has_a_look_of_its_own() -> None:
    assert set(figures.LOOKS) == set(networks.KINDS)
    drawn = {
        (look.colour, look.marker, kind in networks.PRUNED)
        for kind, look in figures.LOOKS.items()
    }
    assert len(drawn) == len(networks.KINDS)


@pytest.mark.parametrize(("name", "exercise"), exercises.cells(NOTEBOOK).items())
def test_solutions_pass_their_checks_and_stubs_do_not(
    name: str, exercise: exercises.Exercise
) -> None:
    for source, solved in ((exercise.stub, False), (exercise.solution, True)):
        names = {"np": np, "exercises": exercises, "checks": checks}
        *statements, last = ast.parse(source).body
        exec(compile(ast.Module(statements, []), name, "exec"), names)
        assert isinstance(last, ast.Expr)
        assert (
            eval(compile(ast.Expression(last.value), name, "eval"), names).correct
            is solved
        )


def drawn_over(kinds: bool, seeds: bool):
    """An interval that draws only some of what should be drawn; single networks if
    neither.
    """

    def interval(values: np.ndarray, resamples: int) -> tuple[float, float]:
        generator, found = np.random.default_rng(1), []
        for _ in range(resamples):
            rows, columns = (
                generator.integers(count, size=count) if drawn else np.arange(count)
                for count, drawn in zip(values.shape[:2], (kinds, seeds), strict=True)
            )
            part = values[rows][:, columns].reshape(-1, 2)
            if not kinds and not seeds:
                part = part[generator.integers(len(part), size=len(part))]
            found.append(spearmanr(part[:, 0], part[:, 1]).statistic)
        return tuple(np.quantile(found, [0.025, 0.975]))

    return interval


def test_an_interval_must_draw_kinds_and_seeds() -> None:
    assert exercises.report(
        checks.check_interval, drawn_over(kinds=True, seeds=True)
    ).correct
    for kinds, seeds in ((True, False), (False, True), (False, False)):
        with pytest.raises(AssertionError, match="did you draw"):
            checks.check_interval(drawn_over(kinds=kinds, seeds=seeds))
    with pytest.raises(AssertionError, match="must lie inside"):
        checks.check_interval(lambda values, resamples: (0.0, 0.01))


def test_the_ceiling_of_the_exercise_is_what_noise_leaves() -> None:
    values = checks.noisy_measures(1.0, kinds=400, seeds=4)
    between = np.corrcoef(values[:, 0, 0], values[:, 1, 0])[0, 1]
    across = np.corrcoef(values[:, 0, 0], values[:, 0, 1])[0, 1]
    assert across == pytest.approx(between, abs=0.1)
