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
from robustbook.data import nyu_predictions
from robustbook.data.phantoms import Settings, generate, texture
from robustbook.data.store import data_root
from robustbook.models.prunable import RESNET20_FILE, published_resnet20
from robustbook.results import Results
from robustbook.studies.mammogram_perturbations import (
    CLAIMS,
    Parameters,
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


def o1_rows(
    lows: dict[str, float], seeds: int = 3, clean: float = 0.8, similar: float = 0.95
) -> Results:
    results = Results()
    results.add("seeds", seeds, leg="mias")
    results.add("clean AUC", clean, (0.7, 0.9), n=50, leg="mias", subgroup="all")
    for name, low in lows.items():
        for level, similarity in ((0.1, similar), (0.2, 0.5)):
            results.add(
                "similarity", similarity, leg="mias", perturbation=name, severity=level
            )
            # The severity that leaves nothing recognisable always hurts: it must not
            # decide.
            loss = (low + 0.02, (low, low + 0.1)) if level == 0.1 else (0.4, (0.3, 0.5))
            results.add(
                "AUC loss",
                *loss,
                n=50,
                leg="mias",
                perturbation=name,
                severity=level,
                subgroup="all",
            )
    return results


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        ((0.1, 0.1, 0.1, 0.1), "reproduced"),
        ((0.1, -0.1, 0.1, 0.1), "partly"),
        ((-0.1,) * 4, "not reproduced"),
    ],
)
def test_o1_looks_at_recognisable_images_alone(
    lows: tuple[float, ...], expected: str
) -> None:
    assert (
        judged("O1-mias", o1_rows(dict(zip(PERTURBATIONS, lows, strict=True))))
        == expected
    )


def test_o1_asks_for_seeds_a_useful_network_and_recognisable_images() -> None:
    lows = dict.fromkeys(PERTURBATIONS, 0.1)
    for results in (
        o1_rows(lows, seeds=2),
        o1_rows(lows, clean=0.55),
        o1_rows(lows, similar=0.8),
        Results(),
    ):
        assert judged("O1-mias", results) == "not tested at this scale"


def test_o1_says_for_how_many_perturbations_natural_images_show_nothing() -> None:
    results = o1_rows(dict.fromkeys(PERTURBATIONS, 0.1))
    assert (
        "natural images were not measured"
        in JUDGES["O1-mias"].verdict(results).evidence
    )
    for name, low in zip(PERTURBATIONS, (0.3, -0.02, -0.01, 0.2), strict=True):
        for level in (0.1, 0.2):
            # At the severity that does not decide natural images always lose.
            bounds = (low, low + 0.1) if level == 0.1 else (0.5, 0.6)
            results.add(
                "natural accuracy loss",
                sum(bounds) / 2,
                bounds,
                n=200,
                over="images",
                perturbation=name,
                severity=level,
            )
    judgement = JUDGES["O1-mias"].verdict(results)
    assert judgement.verdict == "reproduced"  # the rule is about mammograms alone
    assert "(over images)" in judgement.evidence
    assert "For 2 of the 4 (universal, noise)" in judgement.evidence


def test_o1_names_the_unit_of_its_intervals() -> None:
    assert "seeds and exams" in JUDGES["O1-phantoms"].measure
    assert "seeds and women" in JUDGES["O1-mias"].measure


def o2_rows(
    calc: tuple[float, ...],
    soft: tuple[float, ...],
    networks: tuple[str, ...],
    leg: str,
) -> Results:
    """Lower ends of the losses at 0.5, 1, 2 and 4 mm."""
    results = Results()
    results.add("seeds", 5, leg=leg)
    for network in networks:
        for name, lows in (("microcalcification", calc), ("soft tissue", soft)):
            for level, low in zip((0.5, 1.0, 2.0, 4.0), lows, strict=True):
                factors = {"leg": leg, "network": network, "severity": level}
                results.add(
                    "low-pass AUC loss",
                    low + 0.1,
                    (low, low + 0.2),
                    n=9,
                    subgroup=name,
                    training="clean",
                    **factors,
                )
        for level in (0.5, 1.0, 2.0, 4.0):
            results.add(
                "excess loss of microcalcification",
                0.1,
                (0, 0.2),
                n=9,
                leg=leg,
                network=network,
                severity=level,
            )
    return results


@pytest.mark.parametrize(
    ("calc", "soft", "expected"),
    [
        ((-1, 0.1, 0.1, 0.1), (-1, -1, 0.1, 0.1), "reproduced"),
        ((-1, 0.1, 0.1, 0.1), (-1, -1, -1, -1), "reproduced"),
        ((-1, 0.1, 0.1, 0.1), (-1, 0.1, 0.1, 0.1), "not reproduced"),
        ((-1, -1, 0.1, 0.1), (-1, 0.1, 0.1, 0.1), "not reproduced"),
        ((-1, -1, -1, -1), (-1, -1, -1, -1), "not reproduced"),
        # A loss that does not last up to the strongest severity does not count.
        ((0.1, 0.1, -1, -1), (-1, -1, -1, -1), "not reproduced"),
    ],
)
def test_o2_compares_the_mildest_severity_that_breaks(
    calc: tuple[float, ...], soft: tuple[float, ...], expected: str
) -> None:
    assert (
        judged("O2-phantoms", o2_rows(calc, soft, ("four-view",), "phantoms"))
        == expected
    )
    assert (
        judged("O2-predictions", o2_rows(calc, soft, ("dmv", "gmic"), "predictions"))
        == expected
    )


@pytest.mark.parametrize(
    ("soft", "said"), [(1.6, "masses carry the higher"), (1.2, "as the claim has it")]
)
def test_o2_says_which_lesion_carries_the_higher_frequencies(
    soft: float, said: str
) -> None:
    results = o2_rows((0.1,) * 4, (0.1,) * 4, ("four-view",), "phantoms")
    for name, value in (("soft tissue", soft), ("microcalcification", 1.4)):
        results.add(
            "middle frequency",
            value,
            (value - 0.1, value + 0.1),
            n=9,
            over="exams",
            subgroup=name,
        )
    assert said in JUDGES["O2-phantoms"].verdict(results).evidence


def o3_rows(
    left: dict[str, tuple[float, float]],
    *,
    leg: str,
    networks: tuple[str, ...],
    natural: float = 0.2,
    cost: float = 0.1,
) -> Results:
    """What re-training leaves at 2 and 4 mm of a loss of 0.4."""
    results = Results()
    results.add("seeds", 3, leg=leg)
    for network in networks:
        for name, shares in left.items():
            for level, value in zip((2.0, 4.0), shares, strict=True):
                for training, loss in (("clean", 0.4), ("filtered", value)):
                    factors = {
                        "leg": leg,
                        "network": network,
                        "subgroup": name,
                        "severity": level,
                    }
                    interval = (loss - 0.05, loss + 0.05)
                    results.add(
                        "low-pass AUC loss",
                        loss,
                        interval,
                        n=9,
                        training=training,
                        **factors,
                    )
    for level in (2.0, 4.0):
        results.add("natural accuracy left lost", natural, n=3, severity=level)
    kind = {"leg": leg, "subgroup": "microcalcification", "severity": 2.0}
    results.add(
        "blur-augmented AUC loss", cost, (cost - 0.05, cost + 0.05), n=9, **kind
    )
    unfiltered = {**kind, "severity": 0.0}
    results.add(
        "low-pass AUC", 0.77, (0.7, 0.8), n=9, training="blur-augmented", **unfiltered
    )
    return results


DOWN, UP, HALF = (0.35, 0.38), (0.02, 0.03), (0.1, 0.35)


@pytest.mark.parametrize(
    ("calc", "soft", "expected"),
    [
        (DOWN, DOWN, "reproduced"),
        (DOWN, UP, "partly"),
        (HALF, UP, "partly"),
        (UP, UP, "not reproduced"),
        (UP, DOWN, "not reproduced"),
    ],
)
def test_o3_wants_both_kinds_of_lesion_gone(
    calc: tuple, soft: tuple, expected: str
) -> None:
    left = {"microcalcification": calc, "soft tissue": soft}
    assert (
        judged("O3-phantoms", o3_rows(left, leg="phantoms", networks=("four-view",)))
        == expected
    )
    assert (
        judged(
            "O3-predictions", o3_rows(left, leg="predictions", networks=("dmv", "gmic"))
        )
        == expected
    )


def test_o3_falls_when_invariance_costs_nothing_or_natural_images_do_not_recover() -> (
    None
):
    left = {"microcalcification": DOWN, "soft tissue": DOWN}
    free = o3_rows(left, leg="phantoms", networks=("four-view",), cost=0.01)
    assert judged("O3-phantoms", free) == "not reproduced"
    alike = o3_rows(left, leg="phantoms", networks=("four-view",), natural=0.9)
    assert (
        judged("O3-phantoms", alike) == "not reproduced"
    )  # the first half alone is neither of the two ways to "partly"
    for kind in (UP, HALF):
        one = o3_rows(
            {**left, "soft tissue": kind},
            leg="phantoms",
            networks=("four-view",),
            natural=0.9,
        )
        assert judged("O3-phantoms", one) == "partly"


def test_o3_names_both_halves_and_the_unfiltered_auc_of_the_blurred_network() -> None:
    left = {"microcalcification": DOWN, "soft tissue": (0.1, 0.35)}
    evidence = (
        JUDGES["O3-phantoms"]
        .verdict(o3_rows(left, leg="phantoms", networks=("four-view",)))
        .evidence
    )
    assert (
        "not restored are microcalcification at 2 and 4 mm, soft tissue at 4 mm; it "
        "holds in part" in evidence
    )
    assert "natural images are restored at 2 and 4 mm; it holds" in evidence
    assert (
        "unfiltered AUC on microcalcifications is 0.77 [0.7, 0.8], loses 0.1"
        in evidence
    )


@pytest.mark.parametrize(("seen", "gone"), [(0.99996, False), (0.62, True)])
def test_o3_says_what_an_exact_observer_still_sees(seen: float, gone: bool) -> None:
    results = o3_rows(
        {"microcalcification": DOWN, "soft tissue": DOWN},
        leg="phantoms",
        networks=("four-view",),
    )
    exact = {"observer": "hotelling", "later": "12-bit file"}
    for name in ("microcalcification", "soft tissue"):
        for level in (2.0, 4.0):
            factors = {"subgroup": name, "severity": level}
            results.add(
                "observer AUC",
                seen,
                (seen, seen),
                n=30,
                over="exams",
                **exact,
                **factors,
            )
            results.add(
                "detectability", 5.0, (4.9, 5.1), n=30, over="exams", **exact, **factors
            )
            results.add(
                "low-pass AUC",
                0.6,
                (0.55, 0.65),
                n=9,
                leg="phantoms",
                training="filtered",
                **factors,
            )
    judgement = JUDGES["O3-phantoms"].verdict(results)
    assert judgement.verdict == "reproduced"
    assert ("not gone from the image" in judgement.evidence) is not gone
    assert ("AUC above 0.999" if not gone else "AUC 0.620") in judgement.evidence


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
    exams: object, scores: dict[str, dict[float, np.ndarray]]
) -> list[severity.Curve]:
    found = []
    for training, table in scores.items():
        for seed in (0, 1):
            network = networks.Network(
                "phantoms", training, 0.0, seed, 0, 1, 1, "phantoms", 32, 0.2
            )  # type: ignore[arg-type]
            regions = {("inside", 1.0): table[0.0]} if training == "clean" else {}
            found.append(severity.Curve(network, table, regions))
    return found


def test_a_perfect_network_that_goes_blind_loses_half_and_retraining_restores_it() -> (
    None
):
    exams = generate(60, seed=1, settings=Settings(32, 32))
    truth, blind = exams.labels[:, :, 1].ravel().astype(float), np.zeros(120)
    levels = (0.0, *networks.SEVERITIES)
    scores = {
        "clean": {level: truth if level < 1 else blind for level in levels},
        "filtered": {2.0: truth, 4.0: blind},
        "blur-augmented": {level: truth if level < 4 else blind for level in levels}
        | {0.33: 1 - truth},
    }
    results = Results()
    severity.record_severities(results, curves_of(exams, scores), exams, SMALL)
    kind = {"leg": "phantoms", "subgroup": "soft tissue"}
    assert (
        results.one("low-pass AUC loss", training="clean", severity=1.0, **kind).value
        == 0.5
    )
    assert results.one("brittleness", severity=2.0, **kind).value == 0.5
    assert (
        results.one(
            "low-pass AUC loss", training="filtered", severity=4.0, **kind
        ).value
        == 0.5
    )
    assert results.one("blur-augmented AUC loss", severity=2.0, **kind).value == 0
    assert results.one("blur-augmented AUC loss", severity=4.0, **kind).value == 0.5
    assert [
        row.value for row in results.select("AUC of one seed", severity=0.0, **kind)
    ] == [1, 1]
    assert [
        row.value for row in results.select("KS of one seed", severity=4.0, **kind)
    ] == [0, 0]
    assert (
        results.one("region AUC loss", where="inside", severity=1.0, **kind).value == 0
    )
    assert results.one("excess loss of microcalcification", severity=1.0).value == 0


def test_blur_costs_a_blurred_network_what_it_loses_from_its_own_unfiltered_auc() -> (
    None
):
    exams = generate(60, seed=1, settings=Settings(32, 32))
    truth, levels = (
        exams.labels[:, :, 1].ravel().astype(float),
        (0.0, *networks.SEVERITIES),
    )
    scores = {
        "clean": dict.fromkeys(levels, truth),
        "blur-augmented": dict.fromkeys(levels, np.zeros(120)),
    }
    results = Results()
    severity.record_severities(results, curves_of(exams, scores), exams, SMALL)
    # Blind with and without a filter: the filter costs it nothing.
    assert {row.value for row in results.select("blur-augmented AUC loss")} == {0}


def test_breasts_without_a_lesion_have_the_region_of_one_on_the_same_side() -> None:
    exams = generate(60, seed=1, settings=Settings(64, 48))
    found = severity.with_regions(exams)
    assert (found == severity.with_regions(exams)).all()
    lesions = exams.subgroups > 0
    for exam in range(60):
        for side in (0, 1):
            views = [side, side + 2]
            if lesions[exam, side]:
                assert (found[exam, views] == exams.masks[exam, views]).all()
            else:
                same = (found[exam, views] == exams.masks[:, views]).all(
                    axis=(1, 2, 3)
                ) & lesions[:, side]
                assert same.any()
                assert found[exam, views].any()


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
    values = [
        perturbed.mean_similarity(images, images + level * noise)
        for level in (0, 0.05, 0.2)
    ]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]


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


def natural_curves(right: dict[tuple[str, float], list[float]]) -> list[severity.Curve]:
    """Curves of one seed a list entry, each network right on that share of 100
    images.
    """
    found = []
    for (training, level), shares in right.items():
        for seed, share in enumerate(shares):
            network = networks.Network(
                "natural", training, 0.0, seed, 0, 1, 1, "digits", 0, 0.2
            )  # type: ignore[arg-type]
            found.append(
                severity.Curve(
                    network,
                    {level: (np.arange(100) < round(100 * share)).astype(float)},
                    {},
                )
            )
    return found


def test_share_of_the_natural_loss_has_an_interval_over_images() -> None:
    curves = natural_curves(
        {
            ("clean", 0.0): [0.9],
            ("clean", 2.0): [0.3],
            ("filtered", 2.0): [0.75],
            ("blur-augmented", 0.0): [0.9],
        }
    )
    results = Results()
    severity.record_natural(results, curves, SMALL)
    share = results.one("natural accuracy left lost", severity=2.0)
    assert share.value == pytest.approx(0.25)
    assert share.low is not None and share.high is not None
    assert 0.1 < share.low < share.value < share.high < 0.5
    assert (share.n, share.over) == (100, "images")
    assert results.one(
        "natural low-pass accuracy loss", training="clean", severity=2.0
    ).value == pytest.approx(0.6)
    assert results.one("natural accuracy").value == pytest.approx(0.9)


@pytest.mark.parametrize("blurred", [0.9, 0.86, 0.95, 0.895])
def test_a_natural_loss_that_is_next_to_nothing_is_not_shared_out(
    blurred: float,
) -> None:
    curves = natural_curves(
        {("clean", 0.0): [0.9], ("clean", 0.5): [blurred], ("filtered", 0.5): [0.8]}
    )
    results = Results()
    severity.record_natural(results, curves, SMALL)
    assert not results.select("natural accuracy left lost")
    assert results.one(
        "natural low-pass accuracy loss", training="filtered", severity=0.5
    ).value == pytest.approx(0.1)


def test_intervals_of_the_natural_arm_draw_images_and_seeds() -> None:
    (images,) = stats.draw(400, seed=0, resamples=SMALL.resamples)
    assert images.counts.shape == (SMALL.resamples, 400)
    assert (images.counts.sum(axis=1) == 400).all()
    right = (np.arange(400) < 300).astype(float)
    alone = perturbed.mean_accuracy(right[None], images).interval()
    assert alone.value == pytest.approx(0.75)
    assert (alone.high - alone.low) / 2 == pytest.approx(
        1.96 * np.sqrt(0.75 * 0.25 / 400), rel=0.4
    )
    assert alone.n == 400
    unlike = np.stack([right, 1 - right])
    both = perturbed.mean_accuracy(unlike, images).interval()
    assert both.high - both.low > 3 * (alone.high - alone.low)
    assert both.n == 2
    assert perturbed.over_images(2) == "seeds and images"


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
    assert networks.retrained(six) == networks.SEVERITIES


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
        curve.scores[0.0].mean() > 0.4
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
