"""The three claims of Oleszkiewicz et al. (2020), each for every leg that can test it,
declared before any result was known.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own: the paper states none.
"""

from __future__ import annotations

from functools import partial

from robustbook.results import Claim, Judgement, Metric, Results, UnmeasuredError

MINIMAL_SEEDS = 3
RECOGNISABLE = 0.9
"""Structural similarity that a perturbed image keeps at least for it to count as
recognisable.
"""
USEFUL = 0.65
"""Clean AUC below which a network knows too little to be asked."""
LOST_SHARE = 0.5
"""Share of the clean network's loss that re-training leaves, from which on the loss
counts as not restored.
"""
SMALL_LOSS = 0.05
"""A clean network that loses less AUC than this has lost too little to be divided into
parts.
"""
PERTURBATIONS = ("adversarial", "universal", "noise", "low-pass")
LESIONS = ("microcalcification", "soft tissue")
EXACT = {"observer": "hotelling", "later": "12-bit file"}
"""The model observer who is a control: told the lesion, the noise and the filter, and
reading what the networks read.
"""
BLURRED = {"phantoms": (2.0, 4.0), "predictions": (2.0, 4.0)}
"""Cut-off wavelengths (mm) at which O3 is decided: the two strongest that were
published.
"""


def _within(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    return (
        f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]"
        if metric.low is not None
        else f"{metric.value:.3g}"
    )


def _too_few_seeds(results: Results, leg: str) -> Judgement | None:
    seeds = results.one("seeds", leg=leg).value
    if seeds < MINIMAL_SEEDS:
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} seeds; this run has {seeds:.0f}.",
        )
    return None


def judge_o1(results: Results, leg: str) -> Judgement:
    """Every perturbation lowers the AUC at a severity that leaves the image
    recognisable.
    """
    if few := _too_few_seeds(results, leg):
        return few
    clean = results.one("clean AUC", leg=leg, subgroup="all")
    if clean.value < USEFUL:
        return Judgement(
            "not tested at this scale",
            f"The clean AUC is {_within(clean)}, below the {USEFUL} that the rule "
            "asks for.",
        )
    sensitive, said, decided = [], [], []
    for name in PERTURBATIONS:
        drop = _recognisable_drop(results, leg, name)
        if drop is None:
            said.append(f"{name}: no severity leaves the image recognisable")
            continue
        sensitive.append((drop.low or 0) > 0)
        decided.append((name, float(drop.factors["severity"])))
        said.append(f"{name} at {drop.factors['severity']:g}: {_within(drop)}")
    evidence = (
        f"Clean AUC {_within(clean)}. Loss of AUC at the strongest severity with "
        f"SSIM of {RECOGNISABLE} or more: {'; '.join(said)}."
    )
    evidence += _natural_control(results, decided)
    if len(sensitive) < len(PERTURBATIONS):
        return Judgement("not tested at this scale", evidence)
    if all(sensitive):
        return Judgement("reproduced", evidence)
    return Judgement("partly" if any(sensitive) else "not reproduced", evidence)


def _natural_control(results: Results, decided: list[tuple[str, float]]) -> str:
    """What natural images lose at the severities that decided, and for how many of them
    that shows nothing, in words.
    """
    rows = [
        row
        for name, severity in decided
        for row in results.select(
            "natural accuracy loss", perturbation=name, severity=severity
        )
    ]
    if not rows:
        return " Control: natural images were not measured at these severities."
    silent = [str(row.factors["perturbation"]) for row in rows if (row.low or 0) <= 0]
    said = "; ".join(
        f"{row.factors['perturbation']} at {row.factors['severity']:g}: {_within(row)}"
        for row in rows
    )
    found = (
        " Control, loss of accuracy of natural images at the same severities (over "
        f"{rows[0].over}): {said}."
    )
    if not silent:
        return f"{found} Natural images are sensitive to all {len(rows)} as well."
    return (
        f"{found} For {len(silent)} of the {len(rows)} ({', '.join(silent)}) that "
        "interval holds 0: the control shows nothing there, "
        'and the "too" of the claim is not shown for them.'
    )


def _recognisable_drop(results: Results, leg: str, perturbation: str) -> Metric | None:
    """The loss at the strongest severity whose similarity is at least `RECOGNISABLE`,
    None if there is none.
    """
    rows = [
        row
        for row in results.select(
            "AUC loss", leg=leg, perturbation=perturbation, subgroup="all"
        )
        if results.one(
            "similarity",
            leg=leg,
            perturbation=perturbation,
            severity=row.factors["severity"],
        ).value
        >= RECOGNISABLE
    ]
    return max(rows, key=lambda row: float(row.factors["severity"])) if rows else None


def judge_o2(results: Results, leg: str, networks: tuple[str, ...]) -> Judgement:
    """Low-pass filtering lowers the AUC of microcalcifications at a milder severity
    than that of soft tissue lesions.
    """
    if few := _too_few_seeds(results, leg):
        return few
    holds, said = [], []
    for network in networks:
        broken = {name: _breaking(results, leg, network, name) for name in LESIONS}
        said.append(
            f"{network}: "
            + ", ".join(
                f"{name} " + ("at none" if value is None else f"at {value:g} mm")
                for name, value in broken.items()
            )
        )
        calc, soft = broken["microcalcification"], broken["soft tissue"]
        holds.append(calc is not None and (soft is None or calc < soft))
    ahead = [
        row
        for network in networks
        for row in results.select(
            "excess loss of microcalcification", leg=leg, network=network
        )
    ]
    strongest = max(ahead, key=lambda row: row.value)
    evidence = (
        "Mildest severity from which on the AUC is down (interval above 0): "
        f"{'; '.join(said)}. Microcalcifications lose most beyond soft tissue "
        f"at {strongest.factors['severity']:g} mm ({strongest.factors['network']}): "
        f"{_within(strongest)}."
    )
    if leg == "phantoms":
        evidence += _where_lesions_lie(results) + _kept_by_observer(results)
    if all(holds):
        return Judgement("reproduced", evidence)
    return Judgement("partly" if any(holds) else "not reproduced", evidence)


def _where_lesions_lie(results: Results) -> str:
    """Which kind of lesion carries the higher frequencies in the phantoms, the likely
    reason of what O2 finds, in words.
    """
    rows = {name: results.select("middle frequency", subgroup=name) for name in LESIONS}
    if not all(rows.values()):
        return ""
    calc, soft = (rows[name][0] for name in LESIONS)
    said = (
        f" Half of what an exact observer can use lies above {_within(soft)} "
        f"cycles/mm for soft tissue (n = {soft.n} {soft.over}) "
        f"and above {_within(calc)} for microcalcifications (n = {calc.n})"
    )
    if soft.value > calc.value:
        return (
            f"{said}: in these phantoms masses carry the higher frequencies, the "
            "opposite of what the claim builds on."
        )
    return (
        f"{said}: microcalcifications carry the higher frequencies, as the claim "
        "has it."
    )


def _kept_by_observer(results: Results) -> str:
    """The control of O2: the share of its detectability that an exact observer keeps of
    either kind of lesion, in words.
    """
    rows = [
        row
        for severity in BLURRED["phantoms"]
        for name in LESIONS
        for row in results.select(
            "visibility kept", subgroup=name, severity=severity, **EXACT
        )
    ]
    if not rows:
        return ""
    said = "; ".join(
        f"{row.factors['subgroup']} at {row.factors['severity']:g} mm {_within(row)}"
        for row in rows
    )
    return (
        f" Control, share of d′ that the exact observer of 12-bit images keeps: {said}."
    )


def _breaking(results: Results, leg: str, network: str, subgroup: str) -> float | None:
    """The mildest severity from which on every loss of the clean network has an
    interval above 0.
    """
    rows = results.select(
        "low-pass AUC loss",
        leg=leg,
        network=network,
        subgroup=subgroup,
        training="clean",
    )
    if not rows:
        raise UnmeasuredError(f"low-pass AUC loss of {network} for {subgroup}")
    mildest = None
    for row in sorted(rows, key=lambda each: -float(each.factors["severity"])):
        if (row.low or 0) <= 0:
            break
        mildest = float(row.factors["severity"])
    return mildest


def judge_o3(
    results: Results, leg: str, networks: tuple[str, ...], natural: bool
) -> Judgement:
    """Re-training on filtered images does not restore the AUC, while it does on natural
    images.
    """
    if few := _too_few_seeds(results, leg):
        return few
    lasting = {
        subgroup: {
            network: [
                _is_lasting(results, leg, network, subgroup, severity)
                for severity in BLURRED[leg]
            ]
            for network in networks
        }
        for subgroup in LESIONS
    }
    said = [
        f"{network} {subgroup} at {severity:g} mm "
        f"{_within(_left(results, leg, network, subgroup, severity))} of "
        f"{_loss(results, leg, network, subgroup, severity):.3f}"
        for subgroup in LESIONS
        for network in networks
        for severity in BLURRED[leg]
    ]
    evidence = f"Loss of AUC that is left after re-training: {'; '.join(said)}."
    first = all(all(found) for each in lasting.values() for found in each.values())
    part = all(any(found) for found in lasting["microcalcification"].values())
    halves = _first_half(
        lasting, leg, "holds" if first else "holds in part" if part else "does not hold"
    )
    second, costly = True, True
    if natural:
        rows = [
            results.one("natural accuracy left lost", severity=severity)
            for severity in BLURRED[leg]
        ]
        restored = [row.value < LOST_SHARE for row in rows]
        second = all(restored)
        shares = "; ".join(
            f"{_within(row)} at {row.factors['severity']:g} mm" for row in rows
        )
        evidence += f" Natural images, share of the loss that is left: {shares}."
        costly, blurred = _cost_of_invariance(results, leg)
        evidence += blurred + _still_seen(results, leg)
        holds = "holds" if second else "does not hold"
        halves += (
            " Second half, the contrast: natural images are restored "
            f"{_at(restored, leg)}; it {holds}."
        )
    evidence += halves
    if not costly:
        return Judgement("not reproduced", evidence)
    if first:
        return Judgement("reproduced" if second else "not reproduced", evidence)
    return Judgement("partly" if part else "not reproduced", evidence)


def _first_half(lasting: dict[str, dict[str, list[bool]]], leg: str, holds: str) -> str:
    """At which severities a kind of lesion is not restored for any network, and whether
    the first half holds, in words.
    """
    said = ", ".join(
        f"{subgroup} "
        f"{_at([all(each) for each in zip(*found.values(), strict=True)], leg)}"
        for subgroup, found in lasting.items()
    )
    return f" First half of the claim, mammograms: not restored are {said}; it {holds}."


def _at(found: list[bool], leg: str) -> str:
    """The severities at which something was found, in words."""
    levels = [
        f"{severity:g}"
        for severity, one in zip(BLURRED[leg], found, strict=True)
        if one
    ]
    return f"at {' and '.join(levels)} mm" if levels else "at none"


def _cost_of_invariance(results: Results, leg: str) -> tuple[bool, str]:
    """Whether blur costs a blur-augmented network anything on microcalcifications,
    measured from its own unfiltered AUC.
    """
    kind = {"leg": leg, "subgroup": "microcalcification"}
    lost = results.one("blur-augmented AUC loss", severity=BLURRED[leg][0], **kind)
    own = results.one("low-pass AUC", training="blur-augmented", severity=0.0, **kind)
    said = (
        " A blur-augmented network, whose unfiltered AUC on microcalcifications is "
        f"{_within(own)}, loses {_within(lost)} of it at {BLURRED[leg][0]:g} mm."
    )
    return (lost.low or 0) > 0, said


def _still_seen(results: Results, leg: str) -> str:
    """The control by model observers: what one who knows the lesion still sees in the
    images that the networks read, in words.
    """
    pairs = [
        (
            row,
            results.one("detectability", subgroup=name, severity=severity, **EXACT),
            _left_auc(results, leg, row),
        )
        for name in LESIONS
        for severity in BLURRED[leg]
        for row in results.select(
            "observer AUC", subgroup=name, severity=severity, **EXACT
        )
    ]
    if not pairs:
        return ""
    said = "; ".join(
        f"{row.factors['subgroup']} at {row.factors['severity']:g} mm "
        f"{_within(index)} (AUC {_near_one(row.value)}, re-trained networks "
        f"{read.value:.3f})"
        for row, index, read in pairs
    )
    told = (
        " Control, d′ of an observer who is told the lesion and its place, on the "
        f"same 12-bit images (n = {pairs[0][0].n} and {pairs[-1][0].n} "
        f"{pairs[0][0].over}): {said}."
    )
    if all(row.value > (read.high or read.value) for row, _, read in pairs):
        return (
            f"{told} Its task is easier: one lesion that it knows, there or not, where "
            "networks have to search and to tell malignant from benign. But a lesion "
            "that it sees is not gone from the image: what re-training does not "
            "restore is what these networks do not find."
        )
    return told


def _left_auc(results: Results, leg: str, row: Metric) -> Metric:
    """AUC of the networks that were trained again, where an observer's `row` was
    measured.
    """
    where = {name: row.factors[name] for name in ("subgroup", "severity")}
    return results.one("low-pass AUC", leg=leg, training="filtered", **where)


def _near_one(value: float) -> str:
    """An AUC to three digits, without rounding it up to 1."""
    return f"{value:.3f}" if value < 0.9995 else "above 0.999"


def _left(
    results: Results, leg: str, network: str, subgroup: str, severity: float
) -> Metric:
    return results.one(
        "low-pass AUC loss",
        leg=leg,
        network=network,
        subgroup=subgroup,
        training="filtered",
        severity=severity,
    )


def _loss(
    results: Results, leg: str, network: str, subgroup: str, severity: float
) -> float:
    return results.one(
        "low-pass AUC loss",
        leg=leg,
        network=network,
        subgroup=subgroup,
        training="clean",
        severity=severity,
    ).value


def _is_lasting(
    results: Results, leg: str, network: str, subgroup: str, severity: float
) -> bool:
    """The clean network loses much, and re-training leaves most of that loss, with an
    interval above 0.
    """
    left, loss = (
        _left(results, leg, network, subgroup, severity),
        _loss(results, leg, network, subgroup, severity),
    )
    return (
        loss >= SMALL_LOSS and (left.low or 0) > 0 and left.value >= LOST_SHARE * loss
    )


def _o1(leg: str, title: str, units: str, control: str) -> Claim:
    return Claim(
        id=f"O1-{leg}",
        statement=(
            "Mammogram classifiers, too, are sensitive to the perturbations to "
            f"which natural-image classifiers are ({title})."
        ),
        source="abstract",
        measure="Loss of AUC under adversarial (PGD), universal, noise and low-pass "
        "perturbation, mean over seeds; interval by resampling seeds and "
        f"{units}. Only the low-pass filter is certain to be one of the paper's "
        "four; the other three are our reading of its abstract.",
        rule="At the strongest severity that keeps a mean structural similarity of "
        f"{RECOGNISABLE}: reproduced if the interval of every loss lies above 0, "
        f"partly if that of some does. Needs {MINIMAL_SEEDS} seeds and a clean "
        f"AUC of {USEFUL}. The control is printed beside the verdict and does not "
        "enter it: where natural images lose nothing at that severity, the "
        "comparison with them is not shown.",
        control=control,
        judge=partial(judge_o1, leg=leg),
    )


CLAIMS = (
    _o1(
        "phantoms",
        "phantoms",
        "exams",
        "The same severities on natural images; universal perturbations are "
        "measured on exams they were not made from.",
    ),
    _o1(
        "mias",
        "mini-MIAS patches, lesion against normal",
        "women",
        "The same severities on natural images; folds never share a woman.",
    ),
    Claim(
        id="O2-phantoms",
        statement=(
            "Low-pass filtering degrades the visibility of microcalcifications "
            "(phantoms)."
        ),
        source="abstract",
        measure=(
            "AUC of malignant microcalcifications and of malignant soft tissue "
            "lesions, each against all breasts that are not malignant, by cut-off."
        ),
        rule="Reproduced if microcalcifications break (loss with an interval above "
        "0, at this and every stronger severity) at a milder severity than soft "
        "tissue does; not reproduced if at the same or a stronger one.",
        control=(
            "Visibility without a network: contrast to noise and model observers of "
            "the same lesions."
        ),
        judge=partial(judge_o2, leg="phantoms", networks=("four-view",)),
    ),
    Claim(
        id="O2-predictions",
        statement=(
            "Low-pass filtering degrades the visibility of microcalcifications "
            "(published predictions)."
        ),
        source="abstract; data of the follow-up",
        measure=(
            "The same two AUCs from the published predictions of two networks, five "
            "seeds each."
        ),
        rule="As for the phantoms, for both networks; partly if for one of them.",
        control="The readers' answers, and the networks re-trained on filtered images.",
        judge=partial(judge_o2, leg="predictions", networks=("dmv", "gmic")),
    ),
    Claim(
        id="O3-phantoms",
        statement=(
            "So invariance to low-pass filtering is undesirable for mammograms, in "
            "contrast to natural images (phantoms)."
        ),
        source="abstract",
        measure="What re-training on filtered images leaves of the loss of AUC, at 2 "
        "and 4 mm; the same for accuracy on natural images; loss of a "
        "blur-augmented network on microcalcifications at 2 mm, from its own "
        "unfiltered AUC.",
        rule="A loss is not restored where the clean network loses at least "
        f"{SMALL_LOSS} and re-training leaves half of that or more, interval "
        "above 0. First half of the claim (mammograms): not restored for both "
        "kinds of lesion at both severities. Second half (contrast): less than "
        "half of the loss is left on natural images at both severities. "
        "Reproduced if both halves hold; partly if the loss is not restored for "
        "microcalcifications alone, or for them at one severity, whatever "
        "natural images do; not reproduced otherwise (also if the first half "
        "holds and the second does not), or if a blur-augmented network loses "
        "nothing. Where soft tissue is restored, as the control expects, the "
        "best verdict is partly: the claim then holds for microcalcifications "
        "and not for mammograms as a whole.",
        control=(
            "Soft tissue lesions and natural images, where re-training should "
            "restore the AUC; model observers, who need no training, and say "
            "whether what is not restored is still there."
        ),
        judge=partial(judge_o3, leg="phantoms", networks=("four-view",), natural=True),
    ),
    Claim(
        id="O3-predictions",
        statement=(
            "So invariance to low-pass filtering is undesirable for mammograms "
            "(published predictions)."
        ),
        source="abstract; data of the follow-up",
        measure=(
            "The same from the published predictions of networks that were trained "
            "on filtered images."
        ),
        rule=(
            "As for the phantoms, for both networks, without the natural arm (the "
            "second half of the claim) and the blur-augmented network."
        ),
        control="Soft tissue lesions, where re-training should restore the AUC.",
        judge=partial(
            judge_o3, leg="predictions", networks=("dmv", "gmic"), natural=False
        ),
    ),
)
