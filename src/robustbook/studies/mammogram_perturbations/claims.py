"""The three claims of Oleszkiewicz et al. (2020), each for every leg that can test it,
declared with their rules before the run that decides them.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own: the paper states none. Read `side` and `weighed` (how intervals meet
a limit), then the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from robustbook.results import (
    Claim,
    Judgement,
    Metric,
    Results,
    UnmeasuredError,
    Verdict,
)

MINIMAL_SEEDS = 3
RECOGNISABLE = 0.9
"""Structural similarity inside the lesions that a perturbed image keeps at least for it
to count as recognisable.
"""
SMALLEST_DROP = 0.02
"""Loss of AUC under a perturbation that matters."""
USEFUL = 0.65
"""Clean AUC below which a network knows too little to be asked."""
LOST_SHARE = 0.5
"""Share of the clean network's loss that an arm leaves, from which on the loss counts
as not restored.
"""
SMALL_LOSS = 0.05
"""A loss of AUC, or a difference of two, below this is too small to matter."""
SMALLEST_GAP = 0.5
"""Difference of two effects (logits) that matters: odds that fall by two fifths."""
R_HAT = 1.01
PERTURBATIONS = ("adversarial", "universal", "noise", "low-pass")
LESIONS = ("microcalcification", "soft tissue")
EXACT = {"observer": "hotelling", "later": "12-bit file"}
"""The model observer who is told the lesion, the noise and the filter."""
PLAIN = {"observer": "non-prewhitening", "later": "8-bit display"}
"""The model observer who cannot undo correlations, of images on a display."""
BLURRED = (2.0, 4.0)
"""Cut-off wavelengths (mm) at which O3 is decided: the two strongest published."""
COMPARED = (1.0, 2.0, 4.0)
"""Cut-off wavelengths (mm) at which O2 is decided."""
ARMS = {
    "restored": "a Wiener filter",
    "filtered": "re-training",
    "blur-augmented": "training with blur",
}
LEGS = {
    "phantoms": "phantoms",
    "mias": "mini-MIAS films",
    "predictions": "published predictions",
}
NETWORKS = {
    "phantoms": ("four-view",),
    "mias": ("patch",),
    "predictions": ("dmv", "gmic"),
}
Side = Literal["above", "below", "open"]


def side(metric: Metric, limit: float) -> Side:
    """Where the interval lies: above the limit, below it, or on both sides."""
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return "above" if low > limit else "below" if high < limit else "open"


def weighed(sides: Sequence[Side]) -> Verdict:
    """What several intervals say together of a claim that each of them should lie
    above.
    """
    if set(sides) == {"above"}:
        return "reproduced"
    if set(sides) == {"below"}:
        return "not reproduced"
    if {"above", "below"} <= set(sides):
        return "mixed"
    return "partly" if "above" in sides else "inconclusive"


def _within(metric: Metric) -> str:
    """A value with its interval, for the evidence."""
    if metric.low is None:
        return f"{metric.value:.3g}"
    return f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"


def _said(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    return f"{metric.value:.2f} ({metric.low or 0:.2f} to {metric.high or 0:.2f})"


def _unfit(clean: Sequence[Metric]) -> Judgement | None:
    """Why a leg cannot be asked: few trainings, or networks that know too little."""
    seeds = min(row.n or 0 for row in clean)
    if seeds < MINIMAL_SEEDS:
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} trainings; this run has {seeds}.",
            f"This needs {MINIMAL_SEEDS} trainings of each network.",
        )
    worst = min(clean, key=lambda row: row.value)
    if worst.value < USEFUL:
        return Judgement(
            "not tested at this scale",
            f"The unfiltered AUC is {_within(worst)}, below {USEFUL}.",
            f"The networks know too little: their AUC is {_said(worst)}.",
        )
    return None


# O1
# --------------------------------------------------------------------------------------


def judge_o1(results: Results, leg: str) -> Judgement:
    """Every perturbation lowers the AUC at the strongest severity that leaves lesions
    recognisable, as it lowers the accuracy on natural images.
    """
    clean = results.one("clean AUC", leg=leg, subgroup="all")
    if unfit := _unfit([clean]):
        return unfit
    found = {name: decisive(results, name) for name in PERTURBATIONS}
    missing = [name for name, severity in found.items() if severity is None]
    if missing:
        said = f"No severity of {', '.join(missing)} leaves lesions recognisable."
        return Judgement("not tested at this scale", said, said)
    common = {"subgroup": "all", "leg": leg}
    drops = [
        results.one("AUC loss", perturbation=name, severity=severity or 0, **common)
        for name, severity in found.items()
    ]
    control = [
        results.one("natural accuracy loss", perturbation=name, severity=severity or 0)
        for name, severity in found.items()
    ]
    sides = [side(row, SMALLEST_DROP) for row in drops]
    verdict = weighed(sides)
    silent = [
        str(row.factors["perturbation"]) for row in control if side(row, 0) != "above"
    ]
    if verdict == "reproduced" and silent:
        verdict = "partly"
    listed = "; ".join(
        f"{row.factors['perturbation']} at {row.factors['severity']:g}: "
        f"{_within(row)}, natural images {_within(other)}"
        for row, other in zip(drops, control, strict=True)
    )
    evidence = (
        f"Clean AUC {_within(clean)}. Loss at the strongest severity with a structural "
        f"similarity of {RECOGNISABLE} inside lesions, on every mammogram leg: "
        f"{listed}. The smallest loss that matters is {SMALLEST_DROP}."
    )
    return Judgement(verdict, evidence, _answer_o1(drops, sides, silent))


def decisive(results: Results, perturbation: str) -> float | None:
    """The strongest severity at which lesions stay recognisable on every mammogram leg
    of the run, the same for all arms; None if there is none.
    """
    rows = [
        row
        for row in results.select("similarity", perturbation=perturbation)
        if row.factors["leg"] != "natural"
    ]
    severities = {float(row.factors["severity"]) for row in rows}
    alike = [
        severity
        for severity in severities
        if all(
            row.value >= RECOGNISABLE
            for row in rows
            if row.factors["severity"] == severity
        )
    ]
    return max(alike, default=None)


def _answer_o1(drops: list[Metric], sides: list[Side], silent: list[str]) -> str:
    count = sides.count("above")
    least = min(drops, key=lambda row: row.value)
    answer = (
        f"{count} of four perturbations cost AUC while lesions stay recognisable; the "
        f"least, {least.factors['perturbation']}, costs {_said(least)}."
    )
    if count == len(sides) and silent:
        return f"{answer} Natural images show nothing under {', '.join(silent)}."
    return answer


# O2
# --------------------------------------------------------------------------------------


def judge_o2(results: Results, leg: str) -> Judgement:
    """Microcalcifications lose more AUC to the filter than soft tissue lesions do."""
    clean = [
        results.one(
            "score", leg=leg, network=network, subgroup=name, arm="clean", severity=0.0
        )
        for network in NETWORKS[leg]
        for name in LESIONS
    ]
    if unfit := _unfit(clean):
        return unfit
    rows = [
        results.one(
            "excess loss of microcalcification",
            leg=leg,
            network=network,
            severity=severity,
        )
        for network in NETWORKS[leg]
        for severity in COMPARED
    ]
    verdict = weighed([side(row, SMALL_LOSS) for row in rows])
    listed = "; ".join(
        f"{row.factors['network']} at {row.factors['severity']:g} mm {_within(row)}"
        for row in rows
    )
    shown = [
        row.value
        for row in results.select("excess that could be shown", leg=leg)
        if row.factors["severity"] in COMPARED
    ]
    evidence = (
        "Loss of AUC of microcalcifications less that of soft tissue lesions: "
        f"{listed}. The smallest that matters is {SMALL_LOSS}; an excess of "
        f"{max(shown):.2f} would be found four times in five."
    )
    largest = max(rows, key=lambda row: row.value)
    least = min(rows, key=lambda row: row.value)
    answer = (
        f"At {largest.factors['severity']:g} mm microcalcifications lose "
        f"{_said(largest)} more AUC than soft tissue lesions, at "
        f"{least.factors['severity']:g} mm {_said(least)}."
    )
    if leg == "phantoms":
        passed, said = _seen_without_a_network(results)
        evidence += said
        if verdict in ("reproduced", "partly") and not passed:
            verdict = "inconclusive"
            answer += " An observer without a network disagrees."
    return Judgement(verdict, evidence, answer)


def _seen_without_a_network(results: Results) -> tuple[bool, str]:
    """Whether the observer who cannot undo correlations keeps less of the visibility of
    microcalcifications than of masses at every severity, and what observers keep.
    """
    kept = {
        (name, severity): results.one(
            "visibility kept", subgroup=name, severity=severity, **PLAIN
        )
        for name in LESIONS
        for severity in COMPARED
    }
    passed = all(
        kept[LESIONS[0], severity].value < kept[LESIONS[1], severity].value
        for severity in COMPARED
    )
    said = "; ".join(
        f"{name} at {severity:g} mm {_within(row)}"
        for (name, severity), row in kept.items()
    )
    middles = "; ".join(
        f"{name} {_within(results.one('middle frequency', subgroup=name))}"
        for name in LESIONS
    )
    return passed, (
        " Control, share of d′ that the non-prewhitening observer of a display keeps: "
        f"{said}. Half of what an exact observer can use lies above (cycles/mm): "
        f"{middles}."
    )


def judge_readers(results: Results) -> Judgement:
    """Readers lose confidence in microcalcifications, more than in soft tissue."""
    series = "readers"
    rows = [
        results.one(
            "effect gap of microcalcification", series=series, severity=severity
        )
        for severity in COMPARED
    ]
    worst = max(row.value for row in results.select("R-hat of effects", series=series))
    networks = "; ".join(
        f"{row.factors['series']} at {row.factors['severity']:g} mm {_within(row)}"
        for row in results.select("effect gap of microcalcification")
        if row.factors["severity"] in COMPARED and row.factors["series"] != series
    )
    listed = "; ".join(f"{row.factors['severity']:g} mm {_within(row)}" for row in rows)
    evidence = (
        "Effect of the severity on the logit of a reader's yes, microcalcifications "
        f"less soft tissue (95 % credible intervals): {listed}. The smallest that "
        f"matters is {SMALLEST_GAP} downwards. Worst R-hat {worst:.3f}. The same for "
        f"networks: {networks}."
    )
    if worst > R_HAT:
        return Judgement(
            "inconclusive", evidence, f"The chains disagree (R-hat {worst:.3f})."
        )
    turned = {"above": "below", "below": "above", "open": "open"}
    sides: list[Side] = [turned[side(row, -SMALLEST_GAP)] for row in rows]  # type: ignore[misc]
    strongest = min(rows, key=lambda row: row.value)
    return Judgement(
        weighed(sides),
        evidence,
        f"At {strongest.factors['severity']:g} mm ten readers' logit of malignant "
        f"falls by {-strongest.value:.1f} ({-(strongest.high or 0):.1f} to "
        f"{-(strongest.low or 0):.1f}) more for microcalcifications than for soft "
        "tissue.",
    )


# O3
# --------------------------------------------------------------------------------------

Fate = Literal["lasting", "restored", "open", "small"]


def fate(
    results: Results, leg: str, network: str, subgroup: str, severity: float
) -> Fate:
    """What becomes of a loss: restored if one arm leaves less than half of it, lasting
    if every arm leaves more, small if there is none worth restoring.
    """
    common = {"leg": leg, "network": network, "subgroup": subgroup}
    lost = results.one("score loss", arm="clean", severity=severity, **common)
    if side(lost, SMALL_LOSS) != "above":
        return "small"
    rows = results.select("left beyond half", severity=severity, **common)
    if not rows:
        raise UnmeasuredError(f"left beyond half of {subgroup} at {severity:g} mm")
    sides = [side(row, 0) for row in rows]
    if "below" in sides:
        return "restored"
    return "lasting" if set(sides) == {"above"} else "open"


def judge_o3(results: Results, leg: str, natural: bool) -> Judgement:
    """Neither a filter nor training restores the AUC of microcalcifications, while one
    of them restores accuracy on natural images.
    """
    clean = [
        results.one(
            "score",
            leg=leg,
            network=network,
            subgroup=LESIONS[0],
            arm="clean",
            severity=0.0,
        )
        for network in NETWORKS[leg]
    ]
    if unfit := _unfit(clean):
        return unfit
    fates = {
        name: [
            fate(results, leg, network, name, severity)
            for network in NETWORKS[leg]
            for severity in BLURRED
        ]
        for name in LESIONS
    }
    others = (
        [fate(results, "natural", "natural", "all", severity) for severity in BLURRED]
        if natural
        else []
    )
    evidence = _restorations(results, leg) + (
        _restorations(results, "natural") if natural else ""
    )
    listed = "; ".join(f"{name} {', '.join(each)}" for name, each in fates.items())
    evidence += f" What became of the losses: {listed}"
    evidence += f"; natural images {', '.join(others)}." if natural else "."
    verdict = _verdict_o3(fates, others)
    return Judgement(verdict, evidence, _answer_o3(results, leg, fates, others))


def _verdict_o3(fates: dict[str, list[Fate]], others: list[Fate]) -> Verdict:
    calc, soft = (set(fates[name]) for name in LESIONS)
    if {"lasting", "restored"} <= calc:
        return "mixed"
    if calc == {"restored"}:
        return "not reproduced"
    if calc != {"lasting"}:
        return "inconclusive"
    if "lasting" in others:
        return "mixed"
    if soft == {"lasting"} and set(others) <= {"restored"}:
        return "reproduced"
    return "partly"


def _restorations(results: Results, leg: str) -> str:
    """Loss of the clean network and what each arm leaves of it, in words."""
    said = []
    for row in results.select("score loss", leg=leg, arm="clean"):
        kind = {name: row.factors[name] for name in ("network", "subgroup", "severity")}
        if kind["severity"] not in BLURRED or (
            kind["subgroup"] == "all" and leg != "natural"
        ):
            continue
        arms = [
            f"{ARMS[str(each.factors['arm'])]} leaves {_within(each)}"
            for each in results.select("score loss", leg=leg, **kind)
            if each.factors["arm"] in ARMS
        ]
        said.append(
            f"{kind['network']}, {kind['subgroup']} at {kind['severity']:g} mm loses "
            f"{_within(row)}, {', '.join(arms)}"
        )
    return f" {'; '.join(said)}."


def _answer_o3(
    results: Results, leg: str, fates: dict[str, list[Fate]], others: list[Fate]
) -> str:
    network, severity = NETWORKS[leg][-1], BLURRED[-1]
    common: dict[str, Any] = {
        "leg": leg,
        "network": network,
        "subgroup": LESIONS[0],
        "severity": severity,
    }
    lost = results.one("score loss", arm="clean", **common)
    left = [
        row
        for row in results.select("score loss", **common)
        if row.factors["arm"] in ARMS
    ]
    best = min(left, key=lambda row: row.value)
    words = {"lasting": "not restored", "restored": "restored"}
    soft = words.get(fates[LESIONS[1]][-1], "left open")
    answer = (
        f"At {severity:g} mm microcalcifications lose {lost.value:.2f} AUC; "
        f"{ARMS[str(best.factors['arm'])]} leaves {_said(best)}. Soft tissue: {soft}"
    )
    if others:
        return f"{answer}; natural images: {words.get(others[-1], 'left open')}."
    return f"{answer}."


# Declarations
# --------------------------------------------------------------------------------------


def _o1(leg: str, units: str) -> Claim:
    return Claim(
        id=f"O1-{leg}",
        statement=(
            "Mammogram classifiers, too, are sensitive to the perturbations to "
            f"which natural-image classifiers are ({LEGS[leg]})."
        ),
        source="abstract",
        measure="Loss of AUC under adversarial (PGD), universal, noise and low-pass "
        f"perturbation; intervals over trainings (Student's t) and {units}. Only the "
        "low-pass filter is certain to be one of the paper's four; the other three "
        "are our reading of its abstract.",
        rule="At the strongest severity at which the structural similarity inside "
        f"lesions is {RECOGNISABLE} or more on every mammogram leg: reproduced if "
        f"every loss lies above {SMALLEST_DROP} and natural images lose accuracy at "
        "each of these severities, partly if they do not or some losses are open, "
        "mixed if some lie above, some below; not reproduced if all lie below. Needs "
        f"{MINIMAL_SEEDS} trainings and a clean AUC of {USEFUL}.",
        control="The same severities on natural images; universal perturbations are "
        "measured on images they were not made from.",
        judge=partial(judge_o1, leg=leg),
    )


def _o2(leg: str, control: str) -> Claim:
    return Claim(
        id=f"O2-{leg}",
        statement=(
            "Low-pass filtering degrades the visibility of microcalcifications "
            f"({LEGS[leg]})."
        ),
        source="abstract"
        if leg != "predictions"
        else "abstract; data of the follow-up",
        measure=(
            "Loss of AUC of microcalcifications less that of soft tissue lesions, in "
            "the same trainings and cases, at 1, 2 and 4 mm."
        ),
        rule=f"Reproduced if every difference lies above {SMALL_LOSS}, partly if some "
        "do and the rest is open, mixed if some lie above and some below, not "
        "reproduced if all lie below, inconclusive otherwise or if the control fails. "
        f"Needs {MINIMAL_SEEDS} trainings and an unfiltered AUC of {USEFUL} for both "
        "kinds of lesion.",
        control=control,
        judge=partial(judge_o2, leg=leg),
    )


def _o3(leg: str, natural: bool) -> Claim:
    return Claim(
        id=f"O3-{leg}",
        statement=(
            "So invariance to low-pass filtering is undesirable for mammograms"
            f"{', in contrast to natural images' if natural else ''} ({LEGS[leg]})."
        ),
        source="abstract" if natural else "abstract; data of the follow-up",
        measure="What is left of the loss of AUC at 2 and 4 mm after "
        + ", after ".join(ARMS.values() if natural else ["re-training"])
        + ("; the same of accuracy on natural images." if natural else "."),
        rule=f"Losses above {SMALL_LOSS} count. A loss is restored where one of these "
        "leaves less than half of it, lasting where each leaves more (intervals). "
        "Reproduced if all losses of both kinds of lesion are lasting and natural "
        "images are restored; partly if microcalcifications alone are lasting, or "
        "natural images are left open; mixed if losses of microcalcifications are "
        "lasting and restored, or natural images lasting; not reproduced if "
        "microcalcifications are restored at both.",
        control="Soft tissue lesions"
        + (" and natural images" if natural else "")
        + ", which re-training should restore"
        + (
            "; a Wiener filter before the clean network, which needs no training: what "
            "it brings back was never gone."
            if natural
            else ". A filter cannot be tried on predictions."
        ),
        judge=partial(judge_o3, leg=leg, natural=natural),
    )


CLAIMS = (
    _o1("phantoms", "exams"),
    _o1("mias", "women"),
    _o2(
        "phantoms",
        "Visibility without a network: the non-prewhitening observer keeps less of "
        "microcalcifications than of masses at each severity.",
    ),
    _o2("mias", "The excess that so few cases could have shown."),
    _o2("predictions", "The readers' answers (O2-readers)."),
    Claim(
        id="O2-readers",
        statement=(
            "Low-pass filtering degrades the visibility of microcalcifications "
            "(ten radiologists)."
        ),
        source="abstract; data and model of the follow-up",
        measure="Cumulative effect of severity on the logit of a reader's yes, in the "
        "follow-up's hierarchical model fitted by Hamiltonian Monte Carlo: "
        "microcalcifications less soft tissue lesions, at 1, 2 and 4 mm.",
        rule=f"Reproduced if all three lie below -{SMALLEST_GAP} (95 % credible "
        "intervals), partly, mixed and not reproduced as for O2-phantoms; inconclusive "
        f"if R-hat of an effect exceeds {R_HAT}.",
        control="R-hat; the same effects of networks; simulated readers with known "
        "effects (a test of the package).",
        judge=judge_readers,
    ),
    _o3("phantoms", natural=True),
    _o3("mias", natural=True),
    _o3("predictions", natural=False),
)
