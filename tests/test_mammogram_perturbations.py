"""The study `mammogram_perturbations`: its rules decide as written, its rows mean what
they say, its networks what they are.
"""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbook import exercises, stats
from robustbook.data import mini_mias, nyu_predictions
from robustbook.data.phantoms import Settings, generate, texture
from robustbook.data.store import data_root
from robustbook.models.prunable import RESNET20_FILE, published_resnet20
from robustbook.results import Results
from robustbook.studies.mammogram_perturbations import (
    CLAIMS,
    Parameters,
    claims,
    networks,
)
from robustbook.studies.mammogram_perturbations import exercises as checks
from robustbook.studies.mammogram_perturbations.claims import PERTURBATIONS
from robustbook.studies.mammogram_perturbations.measure import (
    likeness,
    perturbed,
    severity,
    visibility,
)
from robustbook.studies.mammogram_perturbations.measure.over_seeds import mean_auc

SMALL = Parameters(
    height=44,
    train_exams=24,
    test_exams=40,
    epochs=1,
    seeds=2,
    attack_exams=20,
    steps=2,
    universal_epochs=1,
    natural_train_images=100,
    natural_test_images=50,
    natural_epochs=1,
    resamples=50,
)
JUDGES = {claim.id: claim for claim in CLAIMS}


def judged(claim: str, results: Results) -> str:
    return JUDGES[claim].verdict(results).verdict


# Rules
# --------------------------------------------------------------------------------------


LEVELS = {"above": (0.1, 0.2), "below": (-0.2, -0.1), "open": (-0.1, 0.3)}
"""Intervals far above, far below and around every small limit."""


def add(results: Results, name: str, side: str, **factors: object) -> None:
    low, high = LEVELS[side]
    results.add(name, (low + high) / 2, (low, high), n=5, **factors)


def o1_rows(
    sides: tuple[str, ...],
    natural: tuple[str, ...] = ("above",) * 4,
    seeds: int = 3,
    clean: float = 0.8,
    similar: tuple[float, float] = (0.95, 0.95),
) -> Results:
    """Losses on films at 0.1 and 0.2; phantoms are similar to another degree."""
    results = Results()
    results.add("clean AUC", clean, (0.7, 0.9), n=seeds, leg="mias", subgroup="all")
    for name, side, control in zip(PERTURBATIONS, sides, natural, strict=True):
        for level in (0.1, 0.2):
            factors = {"perturbation": name, "severity": level}
            for leg, value in zip(("mias", "phantoms"), similar, strict=True):
                alike = value if level == 0.1 else 0.5
                results.add("similarity", alike, leg=leg, **factors)
            results.add("similarity", 0.1, leg="natural", **factors)
            # What leaves no lesion recognisable always hurts: it must not decide.
            here = {"leg": "mias", "subgroup": "all", **factors}
            add(results, "AUC loss", side if level == 0.1 else "above", **here)
            control = control if level == 0.1 else "above"
            add(results, "natural accuracy loss", control, **factors)
    return results


@pytest.mark.parametrize(
    ("sides", "natural", "expected"),
    [
        (("above",) * 4, ("above",) * 4, "reproduced"),
        (("above",) * 4, ("above", "open", "above", "above"), "partly"),
        (("above", "open", "above", "above"), ("above",) * 4, "partly"),
        (("above", "below", "above", "open"), ("above",) * 4, "mixed"),
        (("below",) * 4, ("above",) * 4, "not reproduced"),
        (("open",) * 4, ("above",) * 4, "inconclusive"),
        (("below", "open", "open", "open"), ("above",) * 4, "inconclusive"),
    ],
)
def test_o1_looks_where_lesions_are_recognisable(
    sides: tuple[str, ...], natural: tuple[str, ...], expected: str
) -> None:
    judgement = JUDGES["O1-mias"].verdict(o1_rows(sides, natural))
    assert judgement.verdict == expected
    assert len(judgement.answer.split()) <= 30
    assert ("Natural images show nothing" in judgement.answer) == (natural[1] == "open")


def test_o1_asks_for_seeds_a_useful_network_and_recognisable_lesions_on_all_legs() -> (
    None
):
    sides = ("above",) * 4
    for results in (
        o1_rows(sides, seeds=2),
        o1_rows(sides, clean=0.55),
        o1_rows(sides, similar=(0.95, 0.8)),
        Results(),
    ):
        assert judged("O1-mias", results) == "not tested at this scale"


def o2_rows(
    sides: tuple[str, ...],
    leg: str,
    *,
    plain: tuple[float, float] = (0.3, 0.6),
    clean: float = 0.8,
) -> Results:
    """Excess at 1, 2 and 4 mm; `plain` is kept of specks and of masses."""
    results = Results()
    for network in claims.NETWORKS[leg]:
        common = {"leg": leg, "network": network}
        for name in claims.LESIONS:
            here = {"subgroup": name, "arm": "clean", "severity": 0.0, **common}
            results.add("score", clean, (clean - 0.1, clean + 0.1), n=5, **here)
        for level, side in zip(claims.COMPARED, sides, strict=True):
            name = "excess loss of microcalcification"
            add(results, name, side, severity=level, **common)
            results.add("excess that could be shown", 0.2, severity=level, **common)
    for name, kept in zip(claims.LESIONS, plain, strict=True):
        results.add("middle frequency", 1.0, (0.9, 1.1), n=9, subgroup=name)
        for level in claims.COMPARED:
            factors = {"subgroup": name, "severity": level, **claims.PLAIN}
            results.add("visibility kept", kept, (kept - 0.1, kept + 0.1), **factors)
    return results


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (("above",) * 3, "reproduced"),
        (("open", "above", "above"), "partly"),
        (("below", "above", "above"), "mixed"),
        (("below",) * 3, "not reproduced"),
        (("open", "open", "below"), "inconclusive"),
    ],
)
def test_o2_is_decided_by_the_paired_difference(
    sides: tuple[str, ...], expected: str
) -> None:
    for leg in ("phantoms", "mias", "predictions"):
        judgement = JUDGES[f"O2-{leg}"].verdict(o2_rows(sides, leg))
        assert judgement.verdict == expected
        assert len(judgement.answer.split()) <= 30


def test_o2_on_phantoms_falls_with_its_control_and_needs_networks_that_see() -> None:
    sides = ("above",) * 3
    other = o2_rows(sides, "phantoms", plain=(0.6, 0.3))
    assert judged("O2-phantoms", other) == "inconclusive"
    against = o2_rows(("below",) * 3, "phantoms", plain=(0.6, 0.3))
    assert judged("O2-phantoms", against) == "not reproduced"
    blind = o2_rows(sides, "mias", clean=0.6)
    assert judged("O2-mias", blind) == "not tested at this scale"


@pytest.mark.parametrize(
    ("gaps", "r_hat", "expected"),
    [
        ((-0.9, -2.0, -2.0), 1.005, "reproduced"),
        ((-0.9, -2.0, -2.0), 1.02, "inconclusive"),
        ((-0.6, -2.0, -2.0), 1.0, "partly"),
        ((0.0, 0.1, 0.0), 1.0, "not reproduced"),
        ((0.0, -2.0, -2.0), 1.0, "mixed"),
    ],
)
def test_readers_are_judged_by_the_gap_of_effects_once_chains_agree(
    gaps: tuple[float, ...], r_hat: float, expected: str
) -> None:
    results = Results()
    for kind in claims.LESIONS:
        results.add("R-hat of effects", r_hat, series="readers", subgroup=kind)
    for level, gap in zip(claims.COMPARED, gaps, strict=True):
        interval = (gap - 0.3, gap + 0.3)
        name = "effect gap of microcalcification"
        results.add(name, gap, interval, n=9, series="readers", severity=level)
    judgement = JUDGES["O2-readers"].verdict(results)
    assert judgement.verdict == expected
    assert len(judgement.answer.split()) <= 30


LASTING = ("above", "above", "above")
RESTORED = ("above", "below", "open")
OPEN = ("open", "above", "above")


def o3_rows(
    calc: tuple[tuple[str, ...], ...],
    soft: tuple[tuple[str, ...], ...],
    natural: tuple[tuple[str, ...], ...],
    *,
    leg: str = "phantoms",
    lost: str = "above",
) -> Results:
    """What the three arms leave beyond half at 2 and at 4 mm."""
    results = Results()
    kinds = [
        (leg, network, name, arms)
        for network in claims.NETWORKS[leg]
        for name, arms in zip(claims.LESIONS, (calc, soft), strict=True)
    ]
    for place, network, name, arms in (
        *kinds,
        ("natural", "natural", "all", natural),
    ):
        common = {"leg": place, "network": network, "subgroup": name}
        results.add("score", 0.8, (0.7, 0.9), n=5, arm="clean", severity=0.0, **common)
        for level, sides in zip(claims.BLURRED, arms, strict=True):
            here = {"severity": level, **common}
            add(results, "score loss", lost, arm="clean", **here)
            for arm, side in zip(claims.ARMS, sides, strict=True):
                add(results, "left beyond half", side, arm=arm, **here)
                add(results, "score loss", "above", arm=arm, **here)
    return results


@pytest.mark.parametrize(
    ("calc", "soft", "natural", "expected"),
    [
        ((LASTING,) * 2, (LASTING,) * 2, (RESTORED,) * 2, "reproduced"),
        ((LASTING,) * 2, (RESTORED,) * 2, (RESTORED,) * 2, "partly"),
        ((LASTING,) * 2, (LASTING,) * 2, (OPEN, RESTORED), "partly"),
        ((LASTING,) * 2, (LASTING,) * 2, (LASTING, RESTORED), "mixed"),
        ((RESTORED, LASTING), (LASTING,) * 2, (RESTORED,) * 2, "mixed"),
        ((RESTORED,) * 2, (LASTING,) * 2, (RESTORED,) * 2, "not reproduced"),
        ((LASTING, OPEN), (LASTING,) * 2, (RESTORED,) * 2, "inconclusive"),
    ],
)
def test_o3_asks_whether_any_arm_restores_and_whether_every_arm_fails(
    calc: tuple[tuple[str, ...], ...],
    soft: tuple[tuple[str, ...], ...],
    natural: tuple[tuple[str, ...], ...],
    expected: str,
) -> None:
    for leg in ("phantoms", "mias"):
        results = o3_rows(calc, soft, natural, leg=leg)
        judgement = JUDGES[f"O3-{leg}"].verdict(results)
        assert judgement.verdict == expected
        assert len(judgement.answer.split()) <= 30
        assert "a Wiener filter leaves" in judgement.evidence


def test_o3_on_predictions_has_no_natural_arm_and_small_losses_settle_nothing() -> None:
    lasting, restored = (LASTING,) * 2, (RESTORED,) * 2
    results = o3_rows(lasting, restored, lasting, leg="predictions")
    assert judged("O3-predictions", results) == "partly"
    small = o3_rows(lasting, lasting, restored, lost="open")
    assert judged("O3-phantoms", small) == "inconclusive"


# Rows
# --------------------------------------------------------------------------------------


def test_subtasks_hold_the_malignant_of_one_kind_and_all_that_is_not_malignant() -> (
    None
):
    exams = generate(50, seed=3, settings=Settings(32, 32))
    chosen, positive = perturbed.task_rows(exams, "microcalcification", 50)
    kinds, malignant = exams.subgroups.ravel(), exams.labels[:, :, 1].ravel() > 0
    assert (positive == (malignant & (kinds == 2))).all()
    assert (chosen == ~(malignant & (kinds == 1))).all()
    assert perturbed.task_rows(exams, "all", 50)[0].all()
    assert (
        perturbed.malignant_scores(np.arange(8.0).reshape(2, 4)) == [1, 3, 5, 7]
    ).all()


def curves_of(
    scores: dict[str, dict[float, np.ndarray]], seeds: int = 2
) -> list[severity.Curve]:
    """The same scores for every seed, by arm and severity."""
    found = []
    for seed in range(seeds):
        for training, table in scores.items():
            network = networks.Network(
                "phantoms", training, 0.0, seed, 0, 1, 1, "phantoms", 32, 0.2
            )  # type: ignore[arg-type]
            keyed = {(training, level): row for level, row in table.items()}
            found.append(severity.Curve(network, keyed))
    return found


def test_a_perfect_network_that_goes_blind_loses_half_and_arms_restore_it() -> None:
    exams = generate(60, seed=1, settings=Settings(32, 32))
    truth, blind = exams.labels[:, :, 1].ravel().astype(float), np.zeros(120)
    levels = (0.0, *networks.SEVERITIES)
    scores = {
        "clean": {level: truth if level < 1 else blind for level in levels},
        "restored": {level: truth for level in networks.SEVERITIES},
        "filtered": {2.0: truth, 4.0: blind},
        "blur-augmented": {level: truth if level < 4 else blind for level in levels},
    }
    results = Results()
    severity.record_phantoms(results, curves_of(scores), exams, SMALL)
    kind = {"leg": "phantoms", "subgroup": "soft tissue"}

    def of(name: str, arm: str, level: float) -> float:
        return results.one(name, arm=arm, severity=level, **kind).value

    assert of("score", "clean", 0.0) == 1
    assert of("score loss", "clean", 1.0) == 0.5
    assert of("score restored", "restored", 2.0) == 0.5
    assert of("left beyond half", "restored", 2.0) == -0.25
    assert of("left beyond half", "filtered", 4.0) == 0.25
    assert of("left beyond half", "filtered", 2.0) == -0.25
    assert results.one("blur-augmented loss", severity=4.0, **kind).value == 0.5
    assert results.one("blur-augmented loss", severity=2.0, **kind).value == 0
    seeds = results.select("AUC of one seed", severity=0.0, **kind)
    assert [row.value for row in seeds] == [1, 1]
    assert results.one("excess loss of microcalcification", severity=1.0).value == 0


def test_an_auc_below_one_half_says_which_breasts_look_worse() -> None:
    exams = generate(80, seed=1, settings=Settings(32, 32))
    # A network that sees masses alone: breasts with masses score 1, all others 0.
    scores = (exams.subgroups == 1).ravel().astype(float)
    levels = dict.fromkeys((0.0, *networks.SEVERITIES), scores)
    results = Results()
    severity.record_phantoms(results, curves_of({"clean": levels}), exams, SMALL)
    kind = {"subgroup": "microcalcification", "severity": 0.0}
    whole = results.one("score", **kind).value
    bare = results.one("AUC against a part", against="no lesion", **kind).value
    benign = results.one("AUC against a part", against="benign lesions", **kind).value
    assert benign < whole < bare == 0.5


def test_intervals_count_trainings_and_exams_and_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(200) < 60
    scores = positive + rng.normal(size=(3, 200)) + np.array([[0], [1], [2]])
    (rows,) = stats.draw(200, seed=0, resamples=400, positive=positive)
    found = mean_auc(positive, scores, rows)
    assert found.value == pytest.approx(
        np.mean([stats.auc(positive, row) for row in scores])
    )
    nothing = (found - found).interval()
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    half = found.interval().high - found.value
    assert half == pytest.approx(4.303 * found.error, rel=1e-3)  # t, two degrees
    exams_alone = found.resamples.var(ddof=1)
    assert found.error**2 == pytest.approx(exams_alone + found.seeds.var(ddof=1) / 3)


def test_folds_of_films_are_put_together_on_one_scale(monkeypatch) -> None:
    women = np.arange(30)
    read = mini_mias.Patches(
        np.zeros((30, 1, 1), np.uint8),
        (women % 3 == 0).astype(np.int64),
        np.where(women % 3 == 0, "CALC", "NORM"),
        women,
    )
    monkeypatch.setattr(networks, "patches", lambda: (read, torch.zeros(30, 1, 4, 4)))
    folds, curves = mini_mias.fold_of(women), []
    for fold in range(3):
        held = np.flatnonzero(folds == fold).astype(float)
        network = networks.Network(
            "mias", "clean", 0.0, 0, fold, 0, 1, "mini-mias", 64, 0.2
        )
        # Folds whose logits have another scale and shift.
        scores = {("clean", 0.0): 10**fold * held - fold}
        curves.append(severity.Curve(network, scores))
    (whole,) = severity.merged(curves)
    for fold in range(3):
        part = whole.scores["clean", 0.0][folds == fold]
        assert (part.mean(), part.std()) == pytest.approx((0, 1), abs=1e-9)
        assert (np.diff(part) > 0).all()


def test_the_leg_of_films_goes_from_patches_to_rows(monkeypatch) -> None:
    random = np.random.default_rng(0)
    lesion = np.arange(48) % 3 == 0
    pixels = random.integers(80, 120, (48, 128, 128)).astype(np.uint8)
    pixels[lesion, 54:74, 54:74] += 100
    read = mini_mias.Patches(
        pixels,
        lesion.astype(np.int64),
        np.where(lesion, np.where(np.arange(48) % 2 == 0, "CALC", "CIRC"), "NORM"),
        np.arange(48) // 2,
    )
    images = torch.from_numpy(pixels[:, None, 48:80, 48:80] / np.float32(255))
    monkeypatch.setattr(networks, "patches", lambda: (read, images))
    monkeypatch.setattr(networks, "ROUNDS", 1)
    small = Parameters(
        **{**vars(SMALL), "seeds": 1, "mini_mias_epochs": 8, "resamples": 50}
    )
    films = networks.patch_networks(small)
    results = Results()
    measured = [perturbed.measure(one, small) for one in films if one.severity == 0]
    perturbed.record_patches(results, measured, small)
    curves = [severity.measure(each, small) for each in films]
    severity.record_films(results, curves, small)
    clean = results.one("clean AUC", leg="mias", subgroup="all")
    assert clean.value > 0.9  # a bright square in the middle is hard to miss
    assert len(results.select("AUC loss", leg="mias", perturbation="low-pass")) == 5
    for subgroup in severity.FILM_KINDS:
        (score,) = results.select(
            "score", leg="mias", arm="clean", severity=0.0, subgroup=subgroup
        )
        assert score.value > 0.9


def test_every_perturbation_stays_within_its_severity_and_in_range() -> None:
    network = networks.phantom_networks(SMALL)[0]
    task = perturbed.task_of(network, SMALL)
    clean = task.images
    for name, levels in perturbed.STRENGTHS.items():
        images = perturbed.perturb(task, name, levels[-1], SMALL)
        assert images.shape == clean.shape
        assert images.min() >= 0 and images.max() <= 1
        if name in ("adversarial", "universal"):
            assert (images - clean).abs().max() <= levels[-1] + 1e-6
    universal = perturbed.perturb(task, "universal", 0.005, SMALL) - clean
    inside = ((clean > 0.02) & (clean < 0.98)).all(dim=0)
    assert universal[:, inside].std(dim=0).max() < 1e-6
    attacked = perturbed.perturb(task, "adversarial", 0.01, SMALL)
    with torch.no_grad():
        before, after = (
            perturbed.malignant_loss(task.model(each), task.targets).mean()
            for each in (clean, attacked)
        )
    assert after > before


def test_similarity_is_one_for_equal_images_and_falls_with_noise() -> None:
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones_like(images, dtype=torch.bool)
    values = [
        perturbed.mean_similarity(images, images + level * noise, everywhere)
        for level in (0, 0.05, 0.2)
    ]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]
    left = torch.zeros_like(everywhere)
    left[..., :16] = True
    half = torch.where(left, images, images + 0.2 * noise)
    apart = left.clone()
    apart[..., 8:16] = False  # the window reaches over the edge
    assert perturbed.mean_similarity(images, half, apart) == pytest.approx(1)
    assert perturbed.mean_similarity(images, half, ~left) < 0.95


def test_a_network_is_read_back_from_the_cache_and_blurring_is_part_of_its_name() -> (
    None
):
    clean, filtered = (each for each in networks.phantom_networks(SMALL)[:4:2])
    images = torch.rand(2, 4, 44, 33, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        networks.load_network(each)(images) for each in (clean, clean, filtered)
    )
    assert filtered.training == "filtered"
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_microcalcifications_lose_more_visibility_than_masses_to_what_comes_later() -> (
    None
):
    exams = generate(80, seed=2)
    results = Results()
    visibility.record_visibility(results, exams, severities=(2.0, 4.0))

    def kept(kind: str, observer: str, later: str, level: float) -> float:
        return results.one(
            "visibility kept",
            subgroup=kind,
            observer=observer,
            later=later,
            severity=level,
        ).value

    for later in visibility.LATER_NOISE:
        assert kept("microcalcification", "hotelling", later, 4.0) < kept(
            "soft tissue", "hotelling", later, 4.0
        )
        assert (
            kept("soft tissue", "hotelling", later, 4.0)
            < kept("soft tissue", "hotelling", later, 2.0)
            < 1
        )
    assert kept("soft tissue", "hotelling", "8-bit display", 4.0) < kept(
        "soft tissue", "hotelling", "12-bit file", 4.0
    )
    power = visibility.noise_power(Settings())
    signal = visibility.lesion_patches(exams, "microcalcification", malignant=True)[0]
    exact = [
        visibility.of_lesion(signal, power, level, 0.2, 0.0, "hotelling")
        for level in (0.0, 4.0)
    ]
    assert exact[0] == pytest.approx(exact[1], rel=1e-6)


def test_views_and_lesions_of_one_exam_are_drawn_together() -> None:
    assert visibility.by_exam(
        [[1.0, 3.0, 5.0], [0.0, 0.0, 6.0]], [7, 7, 2]
    ).tolist() == [[5, 2], [6, 0]]
    exams = generate(80, seed=2)
    results = Results()
    visibility.record_visibility(results, exams, severities=(4.0,))
    for name in (
        "detectability",
        "visibility kept",
        "contrast to noise",
        "observer AUC",
        "middle frequency",
    ):
        for row in results.select(name, subgroup="soft tissue"):
            wanted = (exams.subgroups == 1) & (exams.labels[:, :, 1] > 0)
            assert row.over == "exams"
            assert row.n is not None
            assert row.n <= wanted.any(axis=1).sum()
    row = results.one(
        "observer AUC", subgroup="soft tissue", later="12-bit file", severity=4.0
    )
    assert 0.99 < row.value < 1


def test_no_lesion_is_in_both_halves_of_the_channelised_observer() -> None:
    exams = generate(80, seed=2)
    numbered = np.broadcast_to(
        np.arange(80.0)[:, None, None, None], exams.images.shape
    ).copy()
    numbered[..., ::2, :] += (
        0.5  # patches lose their mean: tell exams apart by the height of their stripes
    )
    numbered[..., ::2, :] *= np.arange(1, 81)[:, None, None, None]
    present, _ = visibility._present_and_absent(numbered, exams, "soft tissue")
    tall = np.round(np.ptp(present, axis=(1, 2)), 6)
    assert len(tall) > 20
    assert not set(tall[::2]) & set(tall[1::2])


def test_noise_power_is_that_of_drawn_patches() -> None:
    """Texture and noise of the middle of healthy breasts, against the spectrum that
    observers are told.
    """
    exams = generate(150, seed=8)
    side = 16
    patches = np.stack(
        [view[24:40, 8:24] for view in exams.images[exams.subgroups[:, 0] == 0][:, 0]]
    ).astype(float)
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    window /= np.sqrt((window**2).mean())
    centred = (patches - patches.mean(axis=(1, 2), keepdims=True)) * window
    found = (np.abs(np.fft.fft2(centred, norm="ortho")) ** 2).mean(axis=0)
    expected = visibility.noise_power(Settings(), side)
    frequency = visibility.frequencies(side, 0.2)
    used = frequency > 0.8
    assert np.median(found[used] / expected[used]) == pytest.approx(1, abs=0.4)


# Natural arm
# --------------------------------------------------------------------------------------


def test_what_natural_images_lose_has_an_interval_over_images_and_trainings() -> None:
    right = {
        ("clean", 0.0): 0.9,
        ("clean", 2.0): 0.3,
        ("filtered", 2.0): 0.75,
        ("restored", 2.0): 0.9,
    }
    curves = []
    for (arm, level), share in right.items():
        for seed in range(3):
            network = networks.Network(
                "natural", "clean", level, seed, 0, 1, 1, "digits", 0, 0.2
            )
            row = (np.arange(100) < round(100 * share) - seed).astype(float)
            curves.append(severity.Curve(network, {(arm, level): row}))
    results = Results()
    severity.record_natural(results, curves, SMALL)
    kind = {"leg": "natural", "severity": 2.0}
    lost = results.one("score loss", arm="clean", **kind)
    assert lost.value == pytest.approx(0.6)
    assert lost.low is not None and lost.low < 0.5
    assert (lost.n, lost.over) == (3, "seeds and images")
    left = results.one("left beyond half", arm="filtered", **kind)
    assert left.value == pytest.approx(0.15 - 0.3)
    assert results.one("score restored", arm="restored", **kind).value == (
        pytest.approx(0.6)
    )


def test_names_of_checkpoints_leave_out_what_the_leg_implies() -> None:
    assert all(
        "architecture" not in each.identity for each in networks.phantom_networks(SMALL)
    )
    wide = SMALL.model_copy(
        update={
            "natural_network": "resnet20",
            "natural_dataset": "cifar10",
            "natural_retrained": 3,
        }
    )
    wide_ones = networks.natural_networks(wide)
    assert {each.identity["architecture"] for each in wide_ones} == {"resnet20"}
    assert sorted(
        {each.severity for each in wide_ones if each.training == "filtered"}
    ) == [1.0, 2.0, 4.0]
    assert len(wide_ones) == 5 * wide.seeds
    six = SMALL.model_copy(update={"retrained_severities": 6})
    assert {*networks.retrained(six), 3.0} == set(networks.SEVERITIES)


def test_the_published_network_asks_for_its_own_data() -> None:
    with pytest.raises(ValueError, match="CIFAR-10"):
        Parameters(natural_network="resnet20")


@pytest.mark.data
def test_the_published_network_reads_the_copy_and_trains_on() -> None:
    few = Parameters(
        natural_network="resnet20",
        natural_dataset="cifar10",
        natural_train_images=100,
        natural_test_images=100,
        natural_epochs=1,
    )
    if not (data_root() / RESNET20_FILE).is_file():
        pytest.skip(f"no {RESNET20_FILE} under ROBUSTBOOK_DATA")
    results = Results()
    severity.record_published(results, few)
    published = results.one("published network's accuracy")
    assert 0.65 < published.value < 0.97
    network = networks.natural_networks(few)[0]
    curve = severity.measure(network, few)
    assert (
        curve.scores["clean", 0.0].mean() > 0.4
    )  # two steps on; from nothing they would leave it at 0.1
    assert not torch.equal(
        networks.load_network(network).conv1.weight,  # type: ignore[union-attr]
        published_resnet20().conv1.weight,  # type: ignore[union-attr]
    )


# Likeness
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_the_slope_of_drawn_texture_is_found_again(exponent: float) -> None:
    drawn = np.concatenate(
        [
            texture(np.random.default_rng(seed), Settings(160, 160, exponent=exponent))
            for seed in range(20)
        ]
    )
    pieces = drawn[:, 60:100, 60:100].astype(float)
    found = likeness.slope_interval(
        likeness.spectra(pieces), np.arange(80) // 4, 0.2, "fine", 50
    )
    # A window of finite length lets coarse structure leak into fine one: the steeper,
    # the more.
    assert found.value == pytest.approx(-exponent, abs=0.15)
    assert found.low <= found.value <= found.high
    assert found.n == 20


def test_grain_is_what_five_pixels_do_not_share() -> None:
    smooth = np.tile(np.linspace(0, 1, 40)[:, None], (3, 1, 40))
    noise = np.random.default_rng(0).normal(scale=0.1, size=smooth.shape)
    assert likeness.grain(smooth)[0] < 0.02
    assert likeness.grain(smooth + noise)[0] == pytest.approx(
        0.1 * np.sqrt(24 / 25), rel=0.1
    )


# Exercises
# --------------------------------------------------------------------------------------

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "mammogram_perturbations.py"


@pytest.mark.parametrize("name", list(exercises.cells(NOTEBOOK)))
def test_stubs_fail_and_solutions_pass(name: str) -> None:
    cell = exercises.cells(NOTEBOOK)[name]
    space = {
        "exercises": exercises,
        "checks": checks,
        "visibility": visibility,
        "torch": torch,
    }
    for source, correct in ((cell.stub, False), (cell.solution, True)):
        *body, last = ast.parse(source).body
        exec(compile(ast.Module(body, []), name, "exec"), space)
        assert isinstance(last, ast.Expr)
        assert (
            eval(compile(ast.Expression(last.value), name, "eval"), space).correct
            is correct
        )


def test_wrong_answers_get_hints() -> None:
    assert "wavelength itself" in exercises.report(checks.check_width, 10.0).message
    assert (
        "by as much without the filter"
        in exercises.report(checks.check_hides, {"noise before", "rounding"}).message
    )
    assert "Two things" in exercises.report(checks.check_hides, {"rounding"}).message
    assert (
        "nothing added later" in exercises.report(checks.check_later_noise, 0.8).message
    )
    assert (
        "same shape"
        in exercises.report(checks.check_low_pass, lambda images, *_: images[0]).message
    )
    assert "ties" in exercises.report(checks.check_auc, _without_ties).message.lower()


def _without_ties(positive: np.ndarray, scores: np.ndarray) -> float:
    return float((scores[positive][:, None] > scores[~positive][None]).mean())


# Published predictions
# --------------------------------------------------------------------------------------

CHANGES = {
    ("dmv", "microcalcifications", 0.33): (-0.043, -0.080, -0.010),
    ("dmv", "microcalcifications", 0.5): (-0.125, -0.211, -0.053),
    ("dmv", "microcalcifications", 1.0): (-0.428, -0.533, -0.335),
    ("dmv", "soft_tissue_lesions", 0.33): (0.000, -0.028, 0.032),
    ("dmv", "soft_tissue_lesions", 0.5): (-0.016, -0.056, 0.027),
    ("dmv", "soft_tissue_lesions", 1.0): (-0.141, -0.239, -0.046),
    ("dmv", "soft_tissue_lesions", 4.0): (-0.279, -0.384, -0.171),
    ("gmic", "microcalcifications", 0.5): (-0.065, -0.135, -0.009),
    ("gmic", "microcalcifications", 1.0): (-0.373, -0.477, -0.264),
    ("gmic", "soft_tissue_lesions", 1.0): (-0.009, -0.073, 0.061),
    ("gmic", "soft_tissue_lesions", 4.0): (-0.103, -0.202, 0.014),
}
"""Change of the AUC of five clean networks' mean answer, and its interval over breasts,
worked out independently.
"""


@pytest.fixture(scope="module")
def predictions() -> nyu_predictions.Predictions:
    if not nyu_predictions.present():
        pytest.skip(
            "no published predictions under ROBUSTBOOK_DATA "
            "(nyukat/perception_comparison, folder data)"
        )
    return nyu_predictions.load_predictions()


@pytest.mark.data
@pytest.mark.parametrize("key", CHANGES)
def test_published_losses_agree_with_the_notes(
    predictions: nyu_predictions.Predictions, key: tuple[str, str, float]
) -> None:
    network, subgroup, level = key
    chosen, positive = predictions.task(subgroup)
    ensemble = predictions.networks[network, "unperturbed"].mean(axis=0)[:, chosen]
    (exams,) = stats.draw(
        predictions.exams[chosen], seed=0, resamples=500, positive=positive[chosen]
    )
    place = nyu_predictions.SEVERITIES.index(level)
    clean, blurred = (
        stats.crossed(partial(stats.auc, positive[chosen], ensemble[row]), exams)
        for row in (0, place)
    )
    found, (value, low, high) = (blurred - clean).interval(), CHANGES[key]
    assert found.value == pytest.approx(value, abs=0.002)
    assert found.bounds == pytest.approx((low, high), abs=0.035)
