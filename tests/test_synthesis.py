"""The study `synthesis`: its correlations are SciPy's, its intervals cover, its lenses
agree with each other, its rules decide.
"""

from __future__ import annotations

import ast
from functools import partial
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
from robustbook.bayes.mean_field import Convergence
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
    ROWS,
    Parameters,
    claims,
    figures,
    networks,
    rows,
)
from robustbook.studies.synthesis import exercises as checks
from robustbook.studies.synthesis.measure import lenses, tables

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "synthesis.py"
JUDGES = {claim.id: claim for claim in CLAIMS}
TRAINING = {
    "dataset": "digits",
    "epsilon": 0.1,
    "train_images": 300,
    "epochs": 6,
    "vi_epochs": 4,
    "tune_epochs": 1,
    "prior_sd": 0.3,
}
SIZE = {
    "epsilon": 0.1,
    "accuracy_images": 60,
    "images": 12,
    "bound_images": 6,
    "map_images": 4,
    "steps": 5,
    "restarts": 1,
    "queries": 10,
    "posterior_samples": 3,
    "bound_samples": 2,
}
SMALL = lenses.LensSettings(**SIZE)


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


def twice(values: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    """Halves (2, 2, K, S, L) of measures with noise of their own on every half."""
    shape = (2, 2, *values.shape)
    return values + noise * np.random.default_rng(seed).standard_normal(shape)


def test_within_kinds_sees_seeds_alone() -> None:
    generator = np.random.default_rng(5)
    own = generator.standard_normal((12, 6, 1))
    values = 10 * np.arange(12)[:, None, None] + np.concatenate([own, -own], axis=2)
    halves = twice(values, 0.0)
    settings = {"seed": 0, "resamples": 20}
    across = rank_agreement.across_halves(halves, **settings)
    inside = rank_agreement.across_halves(halves, within=True, **settings)
    assert across.value[0, 1] > 0.9
    assert inside.value[0, 1] < -0.95


def test_noise_that_two_measures_share_on_one_half_is_no_agreement() -> None:
    """The same noise in both measures of a half makes them agree there, and not where
    they look at other images.
    """
    generator = np.random.default_rng(8)
    shared = generator.standard_normal((2, 2, 15, 4, 1))
    own = generator.standard_normal((2, 2, 15, 4, 2))
    halves = 3 * shared + 0.1 * own
    one_half = rank_matrix(halves[0, 0].reshape(-1, 2))
    assert one_half[0, 1] > 0.9
    found = rank_agreement.across_halves(halves, seed=0, resamples=20).value
    assert abs(found[0, 1]) < 0.3
    assert np.abs(np.diagonal(found)).max() < 0.3


def test_correlations_of_halves_are_scipys_mean_over_both_orders() -> None:
    halves = np.random.default_rng(9).standard_normal((3, 2, 5, 3, 2))
    flat = halves.reshape(3, 2, -1, 2)
    expected = np.mean(
        [
            spearmanr(flat[cut, side, :, 0], flat[cut, 1 - side, :, 1]).statistic
            for cut in range(3)
            for side in (0, 1)
        ]
    )
    found = rank_agreement.across_halves(halves, seed=0, resamples=5)
    assert found.value[0, 1] == pytest.approx(expected)
    np.testing.assert_allclose(found.value, found.value.T)


def test_the_reliability_of_all_images_follows_from_that_of_halves() -> None:
    """Spearman and Brown, against measures of a known reliability."""
    truth = np.random.default_rng(10).standard_normal((400, 2, 1))
    found = rank_agreement.across_halves(twice(truth, 1.0), seed=0, resamples=5)
    whole = rank_agreement.whole_from_half(found.value)
    assert found.value[0, 0] == pytest.approx(0.48, abs=0.08)
    assert whole[0, 0] == pytest.approx(2 / 3, abs=0.08)
    assert rank_agreement.whole_from_half(np.array([-0.5, 0.0, 1.0])).tolist() == [
        0,
        0,
        1,
    ]


def test_networks_within_kinds_are_drawn_by_family_and_seed() -> None:
    """Three copies of every kind tell nothing new, and neither does a seed whose
    networks are all alike.
    """
    generator = np.random.default_rng(6)
    single = twice(generator.standard_normal((6, 4, 2)), 0.3)
    copies = np.repeat(single, 3, axis=2)
    families = np.repeat(np.arange(6), 3)

    def drawn(halves: np.ndarray, **settings: object):
        return rank_agreement.across_halves(
            halves, within=True, seed=0, resamples=300, **settings
        )

    def width(halves: np.ndarray, **settings: object) -> float:
        low, high = drawn(halves, **settings).bounds()
        return float(high[0, 1] - low[0, 1])

    assert drawn(copies, families=families).n == 6
    assert width(copies, families=families) == pytest.approx(width(single), rel=0.1)
    assert width(copies) < 0.8 * width(single)
    by_seed = generator.standard_normal((1, 4, 2)) + 0.01 * generator.standard_normal(
        (60, 4, 2)
    )
    assert width(twice(by_seed, 0.0)) > 0.5


def test_equal_values_of_a_kind_leave_nothing_but_ties() -> None:
    table = np.full((3, 3, 2), 0.1)
    table[0, :, 0] = 1, 2, 3
    found = rank_agreement.across_halves(
        twice(table, 0.0), within=True, seed=0, resamples=5
    )
    assert np.isnan(found.value[0, 1])


def test_one_family_is_left_out_with_all_of_its_kinds() -> None:
    values = np.random.default_rng(11).standard_normal((5, 3, 2))
    names = ["b", "a", "b", "c", "a"]
    found = rank_agreement.without_one(values, names)
    for place, name in enumerate(("b", "a", "c")):
        left = values[[each != name for each in names]].reshape(-1, 2)
        expected = spearmanr(left[:, 0], left[:, 1]).statistic
        assert found[place, 0, 1] == pytest.approx(expected)


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
    cut = partial(lenses.prunable_share, np.array([0, 0.25, 0.5, 0.75]), loss=0.02)
    assert cut(np.array([0.9, 0.89, 0.88, 0.5])) == 0.5
    assert cut(np.array([0.9, 0.7, 0.9, 0.9])) == 0
    assert cut(np.array([0.9, 0.95, 0.9, 0.9])) == 0.75
    np.testing.assert_array_equal(
        cut(np.array([[0.9, 0.8, 0, 0], [1, 1, 0, 0]])),
        [0, 0.25],
    )


def test_units_go_at_random_where_the_kind_says_so() -> None:
    data, plain = networks.images_of("digits", "train", 100), network()
    by_score, by_luck = (
        networks.pruned(plain, 0.5, data, scores)
        for scores in (None, torch.rand(88, generator=torch.Generator().manual_seed(1)))
    )
    assert [len(part) for part in by_score.parameters()] == [
        len(part) for part in by_luck.parameters()
    ]
    assert not torch.equal(by_score[0].weight, by_luck[0].weight)


def test_a_family_is_a_way_of_training_with_what_was_pruned_from_it() -> None:
    families = [networks.family_of(kind) for kind in networks.KINDS]
    assert set(families) == set(networks.FAMILIES)
    assert families.count(networks.NATURAL) == 4
    grouped = [kind for group in networks.GROUPS.values() for kind in group]
    assert tuple(grouped) == networks.FAMILIES


@pytest.mark.parametrize(
    "kind", ["noisy images", "blurred images", "shifted images", "covered images"]
)
def test_about_half_of_the_images_are_changed(kind: str) -> None:
    made = networks.training_images(networks.Network(0, kind, **TRAINING))
    plain = networks.images_of("digits", "train", 300)
    changed = (made.images != plain.images).flatten(1).any(1).float().mean()
    # One shift in nine moves nothing.
    assert 0.35 < changed < 0.65
    assert torch.equal(made.labels, plain.labels)
    again = networks.training_images(networks.Network(0, kind, **TRAINING))
    assert torch.equal(made.images, again.images)
    other = networks.training_images(networks.Network(1, kind, **TRAINING))
    assert not torch.equal(made.images, other.images)


def test_a_fifth_of_the_labels_is_drawn_anew_and_few_images_are_few() -> None:
    wrong = networks.training_images(networks.Network(0, "wrong labels", **TRAINING))
    plain = networks.images_of("digits", "train", 300)
    assert 0.1 < (wrong.labels != plain.labels).float().mean() < 0.26
    assert torch.equal(wrong.images, plain.images)
    few = networks.Network(0, networks.FEW, **TRAINING)
    assert len(networks.training_images(few)) == 50
    # As many steps as the others.
    assert networks.recipe_of(few).epochs == 36


# Lenses
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[lenses.LensMeasurements]:
    """A small zoo of three kinds and two seeds, one of them Bayesian, one pruned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))
        kinds = (networks.NATURAL, networks.POSTERIOR, "natural, 50% pruned")
        zoo = networks.zoo(seeds=2, first_seed=0, kinds=kinds, **TRAINING)
        return [lenses.measure(network, SMALL) for network in zoo]


def test_what_is_certified_withstands_the_attack(
    measured: list[lenses.LensMeasurements],
) -> None:
    for each in measured:
        assert (each.certified <= each.unmoved).all()
        assert (each.attained <= each.bound + 1e-6).all()


def test_certified_accuracy_is_never_above_robust_accuracy_on_the_same_images() -> None:
    network = networks.Network(0, networks.NATURAL, **TRAINING)
    model, data = (
        networks.load_point(network),
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
    measured: list[lenses.LensMeasurements],
) -> None:
    for each in measured:
        clean = each.clean[: SMALL.images]
        assert (each.robust <= each.black_box).all()
        assert (each.black_box <= clean).all()
        assert (each.one_step <= clean).all() or each.network.kind == networks.POSTERIOR
        assert (
            each.curve[0].tolist() == each.clean.tolist()
            or each.network.kind == networks.POSTERIOR
        )
        assert (np.abs(each.stability) <= 1).all()
        assert each.filtered.shape == (len(lenses.WAVELENGTHS), SMALL.accuracy_images)
        assert each.shares[0] == 0


def test_a_posteriors_prediction_is_the_same_at_every_call() -> None:
    network = networks.Network(0, networks.POSTERIOR, **TRAINING)
    seen = lenses.subject(network, SMALL)
    images = networks.images_of("digits", "test", 10).images
    torch.testing.assert_close(seen.model(images), seen.model(images))
    assert len(seen.members) == SMALL.bound_samples


def test_a_network_that_ignores_its_input_has_no_map_to_compare() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(model[1].weight)
    assert lenses.stability(model, torch.rand(2, 1, 8, 8)).tolist() == [0, 0]


def test_halves_share_no_image_and_are_the_same_for_all_networks(
    measured: list[lenses.LensMeasurements],
) -> None:
    """Of a measure that is a mean over an even number of images, halves average to
    the whole.
    """
    whole, halves = tables.table(measured), tables.halves(measured, count=3)
    assert halves.shape == (3, 2, 3, 2, len(claims.MEASURES))
    for lens in (claims.ROBUST, claims.STABILITY, claims.LOW_PASS, claims.CLEAN):
        place = claims.MEASURES.index(lens)
        np.testing.assert_allclose(
            halves[..., place].mean(axis=1), np.stack([whole[..., place]] * 3)
        )
    assert not np.array_equal(halves[0], halves[1])


def test_rows_hold_every_network_and_measure(
    measured: list[lenses.LensMeasurements],
) -> None:
    results = Results(rows=ROWS)
    rows.record_networks(results, measured)
    found = {row.factors["count"]: row.value for row in results.select("networks")}
    assert found == {"kinds": 3, "families": 2, "seeds": 2}
    for name in claims.MEASURES:
        assert len(results.select(name)) == len(measured)
    row = results.one(claims.ROBUST, kind=networks.NATURAL, seed=1)
    assert row.value == measured[1].robust.mean()
    broken = results.select("images that break a bracket")
    assert len(broken) == len(measured)
    assert sum(each.value for each in broken) == 0
    assert {row.factors["kind"] for row in results.select("balance of deviations")} == {
        networks.POSTERIOR
    }


@pytest.fixture(scope="module")
def invented() -> Results:
    """Rows of a whole zoo whose measures all follow one quality of a kind."""
    with pytest.MonkeyPatch.context() as patch:
        generator = np.random.default_rng(4)
        zoo = networks.zoo(seeds=3, first_seed=0, **TRAINING)
        quality = dict(
            zip(networks.KINDS, generator.permutation(len(networks.KINDS)), strict=True)
        )

        def values(each: lenses.LensMeasurements, chosen=np.arange) -> dict[str, float]:
            own = np.random.default_rng(
                [each.network.seed, quality[each.network.kind], chosen is np.arange]
            )
            noise = own.standard_normal(len(claims.MEASURES))
            signs = [-1 if n == claims.LOW_PASS else 1 for n in claims.MEASURES]
            found = np.array(signs) * (quality[each.network.kind] + noise)
            return dict(zip(claims.MEASURES, found, strict=True))

        patch.setattr(tables, "lens_values", values)
        blank = np.ones(4)
        measured = [
            lenses.LensMeasurements(
                each,
                clean=blank,
                robust=blank,
                kl=1 + 0.1 * generator.random(4),
                bound=2 * blank,
                attained=blank,
                certified=0 * blank,
                unmoved=blank,
                convergence=Convergence(0.0, {"0": 1.0}, None)
                if each.kind == networks.POSTERIOR
                else None,
            )
            for each in [*zoo, *networks.controls(seeds=3, first_seed=0, **TRAINING)]
        ]
        results = Results(rows=ROWS)
        rows.record_networks(results, measured[: len(zoo)])
        rows.record_correlations(
            results, measured[: len(zoo)], halvings=2, resamples=200
        )
        rows.record_pruning(results, measured[: len(zoo)], measured[len(zoo) :])
    return results


def test_correlations_are_recorded_over_families_and_seeds(invented: Results) -> None:
    row = claims.pair(invented, "rank correlation", claims.LOW_PASS, claims.ROBUST)
    across, up = (
        [each.value for each in invented.select(name)]
        for name in (claims.ROBUST, claims.LOW_PASS)
    )
    assert row.value == pytest.approx(spearmanr(across, up).statistic)
    assert row.low < row.value < row.high < 0
    assert (row.n, row.over) == (len(networks.FAMILIES), "families and seeds")
    pairs = len(claims.MEASURES) * (len(claims.MEASURES) - 1) // 2
    assert len(invented.select("rank correlation")) == pairs
    assert len(invented.select("within-kind rank correlation")) == pairs
    lowest = claims.pair(
        invented,
        "rank correlation without one family",
        claims.PSI,
        claims.BLACK_BOX,
        end="lowest",
    )
    assert lowest.factors["family"] in networks.FAMILIES
    found = rows.matrix(invented, claims.LENSES)
    np.testing.assert_array_equal(found, found.swapaxes(0, 1))
    place = [claims.LENSES.index(each) for each in (claims.ROBUST, claims.LOW_PASS)]
    assert found[*place, 0] == row.value


def test_every_figure_is_drawn_from_rows_alone(invented: Results) -> None:
    drawn = (
        figures.hero,
        figures.zoo,
        figures.explore,
        figures.reliability,
        figures.psi_ties,
        figures.proofs,
        figures.ties,
        figures.pruning,
    )
    for draw in drawn:
        assert "nan" not in draw(invented).data.split("<figcaption>")[1]
    assert "way" in figures.influence(invented)
    assert len(figures.in_short(invented)) == 3


def test_psi_ratios_are_exact_for_a_known_factor() -> None:
    generator = np.random.default_rng(0)
    zoo = networks.zoo(seeds=3, first_seed=0, kinds=[networks.NATURAL], **TRAINING)
    before = [
        lenses.LensMeasurements(each, np.ones(1), kl=generator.uniform(0.1, 1, 40))
        for each in zoo
    ]
    after = [
        lenses.LensMeasurements(each.network, each.clean, kl=each.kl / 2)
        for each in before
    ]
    found = rows.psi_ratio(after, before)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    assert found.n == 3


# Rules
# --------------------------------------------------------------------------------------

Ends = tuple[float, float, float]
ALIKE: Ends = (0.8, 0.6, 0.95)
ABOVE: Ends = (0.4, 0.1, 0.7)
OPEN: Ends = (0.1, -0.4, 0.6)
NONE: Ends = (0.0, -0.3, 0.3)
AGAINST: Ends = (-0.8, -0.95, -0.6)


def turned(ends: Ends, sign: int) -> Ends:
    return ends if sign > 0 else (-ends[0], -ends[2], -ends[1])


def evidence(
    plain: dict[tuple[str, str], Ends],
    *,
    given: Ends = ABOVE,
    inside: Ends = ABOVE,
    other: Ends = ALIKE,
    without: float = 0.7,
    lead: Ends = NONE,
    reliable: float = 0.9,
    agree: float = 0.8,
    seeds: int = 3,
    sign: int = 1,
) -> Results:
    """Rows of the pairs in `plain`, with controls that are the same for all."""
    results = Results(rows=ROWS)
    results.add("networks", seeds, count="seeds")
    for measure in claims.MEASURES:
        for scope in (claims.EVERY, claims.WITHIN):
            ends = (reliable - 0.1, reliable + 0.05)
            results.add("reliability", reliable, ends, lens=measure, scope=scope)
        results.add("agreement of two seeds", agree, (0, 1), lens=measure)
    for names, ends in plain.items():
        first, second = sorted(names, key=claims.MEASURES.index)
        who = {"first": first, "second": second}
        for name, found in (
            ("rank correlation", ends),
            ("rank correlation on other images", other),
            ("within-kind rank correlation", inside),
        ):
            results.add(name, found[0], found[1:], n=16, **who)
        for measure in (claims.CLEAN, claims.HALF_PSI):
            left = turned(given, sign)
            name = "partial rank correlation"
            results.add(name, left[0], left[1:], n=16, given=measure, **who)
        for end in ("lowest", "highest"):
            results.add(
                "rank correlation without one family",
                sign * without,
                end=end,
                family="FGSM",
                **who,
            )
    for second in (claims.BLACK_BOX, claims.CERTIFIED):
        results.add(
            "lead over one step", lead[0], lead[1:], first=claims.PSI, second=second
        )
    return results


def verdict(claim: str, results: Results) -> str:
    judgement = JUDGES[claim].verdict(results)
    assert len(judgement.answer.split()) <= 30
    return judgement.verdict


def of_psi(square: Ends, proved: Ends) -> dict[tuple[str, str], Ends]:
    return {
        (claims.PSI, claims.BLACK_BOX): square,
        (claims.PSI, claims.CERTIFIED): proved,
    }


@pytest.mark.parametrize(
    ("square", "proved", "controls", "expected"),
    [
        (ALIKE, ALIKE, {}, "reproduced"),
        (ALIKE, ALIKE, {"inside": OPEN}, "partly"),
        (ALIKE, ALIKE, {"given": OPEN}, "partly"),
        (ALIKE, ALIKE, {"without": 0.4}, "partly"),
        (ALIKE, ALIKE, {"lead": (-0.2, -0.3, -0.1)}, "partly"),
        (ALIKE, ABOVE, {}, "inconclusive"),
        (ALIKE, NONE, {}, "mixed"),
        (NONE, AGAINST, {}, "not reproduced"),
        (ALIKE, ALIKE, {"reliable": 0.75}, "inconclusive"),
        (ALIKE, ALIKE, {"seeds": 2}, "not tested at this scale"),
    ],
)
def test_s1_asks_random_search_and_proofs(square, proved, controls, expected) -> None:
    assert verdict("S1", evidence(of_psi(square, proved), **controls)) == expected


@pytest.mark.parametrize(
    ("plain", "controls", "expected"),
    [
        (ALIKE, {}, "reproduced"),
        (ALIKE, {"given": OPEN}, "partly"),
        (ALIKE, {"other": ABOVE}, "partly"),
        (ALIKE, {"without": 0.4}, "partly"),
        (OPEN, {}, "inconclusive"),
        (NONE, {}, "not reproduced"),
        (ALIKE, {"reliable": 0.75}, "inconclusive"),
    ],
)
def test_s2_asks_what_is_left_beside_attacks(plain, controls, expected) -> None:
    pair = {(claims.SOUND, claims.CERTIFIED): plain}
    assert verdict("S2", evidence(pair, **controls)) == expected


TIES = {
    "S3": (claims.STABILITY, 1),
    "S4": (claims.LOW_PASS, -1),
    "S5": (claims.PRUNABLE, 1),
}


def of_lens(claim: str, plain: Ends, proved: Ends, **controls: object) -> Results:
    lens, sign = TIES[claim]
    pairs = {
        (claims.ROBUST, lens): turned(plain, sign),
        (claims.CERTIFIED, lens): turned(proved, sign),
    }
    return evidence(pairs, sign=sign, **controls)


@pytest.mark.parametrize("claim", ["S3", "S4"])
@pytest.mark.parametrize(
    ("plain", "controls", "expected"),
    [
        (ALIKE, {}, "reproduced"),
        (ALIKE, {"given": OPEN}, "partly"),
        (ALIKE, {"without": 0.4}, "partly"),
        (ABOVE, {}, "partly"),
        (OPEN, {}, "inconclusive"),
        (NONE, {}, "not reproduced"),
        (AGAINST, {}, "not reproduced"),
        (NONE, {"reliable": 0.75}, "inconclusive"),
        (NONE, {"agree": 0.4}, "inconclusive"),
        (ALIKE, {"reliable": 0.75}, "inconclusive"),
    ],
)
def test_s3_and_s4_mirror_each_other(claim, plain, controls, expected) -> None:
    assert verdict(claim, of_lens(claim, plain, ABOVE, **controls)) == expected


@pytest.mark.parametrize(
    ("plain", "proved", "controls", "expected"),
    [
        (NONE, NONE, {}, "reproduced"),
        (NONE, (0.2, 0.05, 0.4), {}, "partly"),
        (NONE, OPEN, {}, "inconclusive"),
        (ALIKE, OPEN, {}, "not reproduced"),
        (AGAINST, OPEN, {}, "not reproduced"),
        (ALIKE, NONE, {}, "mixed"),
        (NONE, NONE, {"reliable": 0.75}, "inconclusive"),
        (NONE, NONE, {"agree": 0.4}, "inconclusive"),
    ],
)
def test_s5_tells_nothing_apart_from_cannot_tell(
    plain, proved, controls, expected
) -> None:
    assert verdict("S5", of_lens("S5", plain, proved, **controls)) == expected


@pytest.mark.parametrize("ends", [OPEN, (0.2, -0.2, 0.55), (-0.1, -0.7, 0.5)])
def test_where_pruning_is_not_settled_maps_and_filters_are_not_either(ends) -> None:
    """One standard: an interval that leaves S5 open leaves S3 and S4 open."""
    assert verdict("S5", of_lens("S5", ends, ends)) == "inconclusive"
    if ends[2] >= claims.ALIKE:
        for claim in ("S3", "S4"):
            assert verdict(claim, of_lens(claim, ends, ends)) == "inconclusive"


@pytest.mark.parametrize(
    ("ratios", "robust", "expected"),
    [
        ([(1.0, 0.9, 1.1, 0.01), (0.3, 0.2, 0.4, 0.2)], 0.01, "reproduced"),
        ([(1.0, 0.9, 1.1, 0.01)], 0.08, "partly"),
        ([(0.6, 0.5, 0.7, 0.01), (1.0, 0.9, 1.1, 0.0)], 0.01, "mixed"),
        ([(0.6, 0.5, 0.7, 0.01)], 0.01, "not reproduced"),
        ([(0.9, 0.7, 1.1, 0.01)], 0.01, "inconclusive"),
        ([(0.6, 0.5, 0.7, 0.1)], 0.01, "inconclusive"),
    ],
)
def test_s6_looks_at_ratios_that_keep_accuracy(ratios, robust, expected) -> None:
    results = Results(rows=ROWS)
    results.add("networks", 3, count="seeds")
    for place, (value, low, high, loss) in enumerate(ratios):
        who = {"kind": str(place), "order": "Taylor"}
        name = "psi after pruning over before"
        results.add(name, value, (low, high), n=3, unit="ratio", **who)
        for name, lost in (
            ("accuracy lost by pruning", loss),
            ("robust accuracy lost by pruning", robust),
        ):
            results.add(name, lost, (lost - 0.02, lost), unit="share", **who)
    assert verdict("S6", results) == expected


def test_without_rows_nothing_is_judged() -> None:
    assert {claim.verdict(Results()).verdict for claim in CLAIMS} == {
        "not tested at this scale"
    }


# The page
# --------------------------------------------------------------------------------------


def test_it_is_a_study_of_our_own_and_says_so() -> None:
    own = [name for name in studies.names() if studies.is_own(name)]
    assert own == ["synthesis", "your_network"]
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
