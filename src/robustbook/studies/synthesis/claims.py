"""Our own six questions to the zoo, declared with their rules before the run that
decides them.

No paper states them: they have no published value, and limits are this book's. Each
`judge_...` sees the metric rows of a run and nothing else. Read `ROWS` and the limits
below it first, then `unreliable` and `side` (how rows meet a limit), then the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from robustbook.results import (
    Claim,
    Judgement,
    Metric,
    Results,
    Row,
    UnmeasuredError,
    Verdict,
)

ROBUST, BLACK_BOX, PSI, SOUND, CERTIFIED = (
    "robust accuracy",
    "black-box accuracy",
    "psi",
    "sound psi",
    "certified share",
)
STABILITY, LOW_PASS, PRUNABLE, CLEAN = (
    "saliency stability",
    "low-pass loss",
    "prunable share",
    "clean accuracy",
)
ONE_STEP, HALF_PSI = "one-step accuracy", "psi at half budget"
LENSES = (
    ROBUST,
    BLACK_BOX,
    PSI,
    SOUND,
    CERTIFIED,
    STABILITY,
    LOW_PASS,
    PRUNABLE,
    CLEAN,
)
"""The measures of a network; clean accuracy is no lens but the control of all."""
MEASURES = (*LENSES, ONE_STEP, HALF_PSI)
"""With the cheap rival of psi, and psi by attack at the radius of the sound one."""

UNITS = {
    PSI: "1/nats",
    SOUND: "1/nats",
    HALF_PSI: "1/nats",
    STABILITY: "Spearman's rho",
}
"""Units of the measures that are no shares."""

EVERY, WITHIN = "all networks", "within kinds"
PAIR = "first second"
PRUNING = "kind parent share order"
ROWS = (
    Row("networks", "", "count"),
    *(Row(name, UNITS.get(name, "share"), "kind seed") for name in MEASURES),
    Row("images that break a bracket", "", "kind seed"),
    Row("evidence lower bound", "nats per image", "kind seed"),
    Row("balance of deviations", "", "kind layer seed"),
    # How well a measure repeats itself
    Row("reliability", "", "lens scope"),
    Row("agreement of two seeds", "", "lens"),
    # How alike two measures rank networks
    Row("rank correlation", "", PAIR),
    Row("rank correlation on other images", "", PAIR),
    Row("within-kind rank correlation", "", PAIR),
    Row("partial rank correlation", "", f"{PAIR} given"),
    Row("rank correlation without one family", "", f"{PAIR} end family"),
    Row("lead over one step", "", PAIR),
    # What pruning changes
    Row("psi after pruning over before", "ratio", PRUNING),
    Row("accuracy lost by pruning", "share", PRUNING),
    Row("robust accuracy lost by pruning", "share", PRUNING),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

ALIKE = 0.5
"""The smallest rank correlation that matters: with it, two of three pairs of networks
are put in the right order by the other measure.
"""
RELIABLE = 0.7
SEEDS_AGREE = 0.5
MINIMAL_SEEDS = 3
PSI_UNCHANGED = 1.25
"""psi counts as unchanged while its ratio lies in [1 / 1.25, 1.25]."""
ACCURACY_KEPT = 0.02
"""Loss of clean accuracy (share) up to which accuracy counts as kept, here and for the
share of prunable units.
"""
ROBUSTNESS_KEPT = 0.05

OWN = "our own question"


def low(metric: Metric) -> float:
    """The lower end of a row's interval, its value where it has none."""
    return metric.value if metric.low is None else metric.low


def high(metric: Metric) -> float:
    """The upper end of a row's interval, its value where it has none."""
    return metric.value if metric.high is None else metric.high


def said(metric: Metric, scale: float = 1, digits: int = 2) -> str:
    """A value with its interval, for a sentence."""
    value, start, end = (
        f"{scale * each:.{digits}f}"
        for each in (metric.value, low(metric), high(metric))
    )
    return f"{value} ({start} to {end})".replace("-", "−")


def side(metric: Metric, limit: float = ALIKE, sign: int = 1) -> str:
    """Where the interval lies, turned round with `sign` -1: "above" the limit, "below"
    it, or "open".
    """
    start, end = sorted((sign * low(metric), sign * high(metric)))
    return "above" if start > limit else "below" if end < limit else "open"


def pair(results: Results, name: str, one: str, other: str, **factors: str) -> Metric:
    """The row of two measures, whichever of them stands first."""
    first, second = sorted((one, other), key=MEASURES.index)
    return results.one(name, first=first, second=second, **factors)


def _too_few(results: Results) -> Judgement | None:
    """The verdict of a run with fewer seeds than the rules need."""
    seeds = results.one("networks", count="seeds").value
    if seeds >= MINIMAL_SEEDS:
        return None
    return Judgement(
        "not tested at this scale",
        f"The rule needs {MINIMAL_SEEDS} seeds; this run has {seeds:.0f}.",
        f"Needs {MINIMAL_SEEDS} trainings of every kind; this run has {seeds:.0f}.",
    )


def unreliable(
    results: Results, lenses: Iterable[str], *, seeds: Iterable[str] = ()
) -> str:
    """What is too unreliable for a verdict, in a sentence, or nothing.

    The halves of the images must agree on each of `lenses`, two seeds on each of
    `seeds`.
    """
    for lens in lenses:
        row = results.one("reliability", lens=lens, scope=EVERY)
        if low(row) < RELIABLE:
            return (
                f"Two halves of the images do not agree well enough on {lens}: "
                f"reliability {said(row)}, and all of it must lie above {RELIABLE}."
            )
    for lens in seeds:
        row = results.one("agreement of two seeds", lens=lens)
        if row.value < SEEDS_AGREE:
            return (
                f"Two trainings of one kind do not agree on {lens}: {said(row)}, "
                f"where {SEEDS_AGREE} is needed."
            )
    return ""


def _evidence(results: Results, one: str, other: str, given: str) -> str:
    """All that is known of a pair: the correlation, its controls, reliabilities."""
    plain = pair(results, "rank correlation", one, other)
    parts = {
        f"given {given}": pair(
            results, "partial rank correlation", one, other, given=given
        ),
        "on disjoint images": pair(
            results, "rank correlation on other images", one, other
        ),
        "among networks of one kind, on disjoint images": pair(
            results, "within-kind rank correlation", one, other
        ),
    }
    without = [
        pair(results, "rank correlation without one family", one, other, end=end)
        for end in ("lowest", "highest")
    ]
    reliable = "; ".join(
        f"{lens} {said(results.one('reliability', lens=lens, scope=EVERY))}, within "
        f"kinds {said(results.one('reliability', lens=lens, scope=WITHIN))}, two seeds "
        f"{said(results.one('agreement of two seeds', lens=lens))}"
        for lens in (one, other)
    )
    return (
        f"Spearman's rho of {one} and {other}: {said(plain)}; "
        + "; ".join(f"{name} {said(row)}" for name, row in parts.items())
        + "; with one family left out between "
        + " and ".join(
            f"{row.value:.2f} ({row.factors['family']})" for row in without
        ).replace("-", "−")
        + f". Reliability: {reliable}. Intervals draw {plain.n} families and "
        f"{results.one('networks', count='seeds').value:.0f} seeds."
    )


def _controlled(
    results: Results, one: str, other: str, given: str, sign: int = 1
) -> bool:
    """Whether a tie is left at equal `given`, and no single family makes it."""
    left = pair(results, "partial rank correlation", one, other, given=given)
    rows = [
        pair(results, "rank correlation without one family", one, other, end=end)
        for end in ("lowest", "highest")
    ]
    alone = min(sign * row.value for row in rows)
    return side(left, 0, sign) == "above" and alone > ALIKE


def _inconclusive(evidence: str, why: str) -> Judgement:
    return Judgement("inconclusive", f"{why} {evidence}", why)


def judge_s1(results: Results) -> Judgement:
    """Psi ranks networks as an attack without gradients and as certificates do, also
    within kinds, and no worse than accuracy under one step.
    """
    if few := _too_few(results):
        return few
    references = (BLACK_BOX, CERTIFIED)
    rows = [pair(results, "rank correlation", PSI, name) for name in references]
    inside = [
        pair(results, "within-kind rank correlation", PSI, name) for name in references
    ]
    leads = [
        results.one("lead over one step", first=PSI, second=name) for name in references
    ]
    evidence = " ".join(
        _evidence(results, PSI, name, CLEAN)
        + f" psi's correlation less that of {ONE_STEP}: {said(lead)}."
        for name, lead in zip(references, leads, strict=True)
    )
    if why := unreliable(results, (PSI, *references)):
        return _inconclusive(evidence, why)
    sides = {side(row) for row in rows}
    held = (
        all(_controlled(results, PSI, name, CLEAN) for name in references)
        and {side(row, 0) for row in inside} == {"above"}
        and all(high(lead) >= 0 for lead in leads)
    )
    answer = (
        f"psi and Square's accuracy: ρ {said(rows[0])}; psi and certified share: "
        f"{said(rows[1])}. Within one kind {inside[0].value:.2f} and "
        f"{inside[1].value:.2f}."
    ).replace("-", "−")
    return Judgement(_across(sides, held), evidence, answer)


def _across(sides: set[str], held: bool) -> Verdict:
    """All above the limit (with its controls, or without), all below, some here and
    some there, or not settled.
    """
    if sides == {"above"}:
        return "reproduced" if held else "partly"
    if sides == {"below"}:
        return "not reproduced"
    return "mixed" if {"above", "below"} <= sides else "inconclusive"


def judge_s2(results: Results) -> Judgement:
    """What bounds prove of the decision and of the divergence agrees, on other images
    too, and beyond what an attack at the same radius tells.
    """
    if few := _too_few(results):
        return few
    row = pair(results, "rank correlation", SOUND, CERTIFIED)
    other = pair(results, "rank correlation on other images", SOUND, CERTIFIED)
    evidence = _evidence(results, SOUND, CERTIFIED, HALF_PSI)
    if why := unreliable(results, (SOUND, CERTIFIED, HALF_PSI)):
        return _inconclusive(evidence, why)
    held = _controlled(results, SOUND, CERTIFIED, HALF_PSI) and side(other) == "above"
    left = pair(results, "partial rank correlation", SOUND, CERTIFIED, given=HALF_PSI)
    answer = (
        f"The two proofs rank networks with ρ {said(row)}; among networks of equal psi "
        f"by attack, {said(left)}."
    )
    return Judgement(_across({side(row)}, held), evidence, answer)


def _tie(lens: str, sign: int) -> Callable[[Results], Judgement]:
    """The rule of S3 and S4: networks with more (`sign` 1) or less of a lens are more
    robust.
    """

    def judge(results: Results) -> Judgement:
        if few := _too_few(results):
            return few
        row = pair(results, "rank correlation", ROBUST, lens)
        proved = pair(results, "rank correlation", CERTIFIED, lens)
        evidence = (
            _evidence(results, ROBUST, lens, CLEAN)
            + f" With certified share instead: {said(proved)}."
        )
        if why := unreliable(results, (ROBUST, lens), seeds=(lens,)):
            return _inconclusive(evidence, why)
        answer = _answered(row, lens)
        if side(row, ALIKE, sign) == "above":
            held = (
                _controlled(results, ROBUST, lens, CLEAN, sign)
                and side(proved, 0, sign) == "above"
            )
            return Judgement("reproduced" if held else "partly", evidence, answer)
        if side(row, 0, sign) == "above":
            return Judgement("partly", evidence, answer)
        below = side(row, ALIKE, sign) == "below"
        return Judgement(
            "not reproduced" if below else "inconclusive", evidence, answer
        )

    return judge


def _answered(row: Metric, lens: str) -> str:
    return (
        f"ρ of {lens} with robust accuracy is {said(row)} over {row.n} ways of "
        f"training; {ALIKE:g} either way would matter."
    )


def judge_s5(results: Results) -> Judgement:
    """The share of prunable units tells nothing about robustness, attacked or proved,
    although it is a property that repeats itself.
    """
    if few := _too_few(results):
        return few
    rows = [
        pair(results, "rank correlation", name, PRUNABLE)
        for name in (ROBUST, CERTIFIED)
    ]
    evidence = (
        _evidence(results, ROBUST, PRUNABLE, CLEAN)
        + f" With certified share instead: {said(rows[1])}."
    )
    if why := unreliable(results, (ROBUST, CERTIFIED, PRUNABLE), seeds=(PRUNABLE,)):
        return _inconclusive(evidence, why)
    answer = _answered(rows[0], PRUNABLE)
    beyond = [row for row in rows if "above" in (side(row), side(row, sign=-1))]
    inside = [row for row in rows if side(row) == side(row, sign=-1) == "below"]
    apart = [row for row in rows if "above" in (side(row, 0), side(row, 0, -1))]
    if len(inside) == len(rows):
        return Judgement("partly" if apart else "reproduced", evidence, answer)
    if beyond:
        return Judgement("mixed" if inside else "not reproduced", evidence, answer)
    return Judgement("inconclusive", evidence, answer)


def kept_accuracy(results: Results, order: str = "Taylor") -> list[Metric]:
    """Ratios of psi of the pruned kinds that kept their accuracy."""
    ratios = results.select("psi after pruning over before", order=order)
    if not ratios:
        raise UnmeasuredError("psi after pruning over before")
    return [
        row
        for row in ratios
        if high(results.one("accuracy lost by pruning", kind=row.factors["kind"]))
        <= ACCURACY_KEPT
    ]


def judge_s6(results: Results) -> Judgement:
    """As long as a pruned network keeps its accuracy, it keeps its psi and its robust
    accuracy.
    """
    if few := _too_few(results):
        return few
    kept = kept_accuracy(results)
    ratios = results.select("psi after pruning over before")
    evidence = (
        "psi after pruning over before (clean accuracy lost; robust accuracy lost): "
        + "; ".join(_lost(results, row) for row in ratios)
        + f". Student's t over {ratios[0].n} seeds, each network against its own "
        "parent tuned as long."
    )
    if not kept:
        why = (
            "No pruned kind kept its accuracy: the interval of what it lost must end "
            f"at {100 * ACCURACY_KEPT:.0f} points."
        )
        return _inconclusive(evidence, why)
    sides = [_changed(row) for row in kept]
    worst = max(kept, key=lambda row: max(row.value, 1 / row.value))
    answer = (
        f"{sides.count('same')} of {len(kept)} pruned kinds that keep their accuracy "
        f"also keep psi; furthest off: {worst.factors['kind']}, {said(worst)} times."
    )
    losses = [
        results.one("robust accuracy lost by pruning", kind=row.factors["kind"])
        for row in kept
    ]
    if set(sides) == {"same"}:
        held = all(high(row) <= ROBUSTNESS_KEPT for row in losses)
        return Judgement("reproduced" if held else "partly", evidence, answer)
    if "changed" in sides:
        verdict: Verdict = "mixed" if "same" in sides else "not reproduced"
        return Judgement(verdict, evidence, answer)
    return Judgement("inconclusive", evidence, answer)


def _changed(row: Metric) -> str:
    """Whether a ratio of psi is within the limit, beyond it, or not settled."""
    if low(row) >= 1 / PSI_UNCHANGED and high(row) <= PSI_UNCHANGED:
        return "same"
    beyond = low(row) > PSI_UNCHANGED or high(row) < 1 / PSI_UNCHANGED
    return "changed" if beyond else "open"


def _lost(results: Results, row: Metric) -> str:
    kind = row.factors["kind"]
    clean, robust = (
        said(results.one(name, kind=kind), 100, 1)
        for name in ("accuracy lost by pruning", "robust accuracy lost by pruning")
    )
    return f"{kind} {said(row)} ({clean} points; {robust} points)"


_OVER = (
    "intervals draw families (a way of training with what was pruned from it) and seeds"
)
_RELIABILITY = (
    f"inconclusive if a measure's reliability from two halves of the images does not "
    f"lie above {RELIABLE} with its whole interval"
)
_CONTROLS = (
    "the partial correlation given {given} is above 0, and the correlation stays "
    f"beyond {ALIKE:g} whichever family is left out"
)


def _rule(sign: str) -> str:
    """The rule of S3 and S4 in words; `sign` is "above" or "below"."""
    limit = f"{ALIKE:g}" if sign == "above" else f"−{ALIKE:g}"
    other = "below" if sign == "above" else "above"
    return (
        f"Held if the interval lies {sign} {limit}, "
        + _CONTROLS.format(given=CLEAN).replace("is above 0", f"is {sign} 0")
        + f", and the interval with certified share lies {sign} 0; partly if it lies "
        f"{sign} 0 alone; did not hold if it lies {other} {limit} and not {sign} 0; "
        f"otherwise inconclusive. Also {_RELIABILITY}, or two seeds agree on it by "
        f"less than {SEEDS_AGREE}: the rule of S5, turned round. Needs 3 seeds."
    )


CLAIMS = (
    Claim(
        id="S1",
        statement="psi ranks networks as robustness does, without its own kind of "
        "attack: against random search and against proofs.",
        source=OWN,
        measure=(
            "Spearman's rho over all networks of median psi with accuracy under Square "
            f"attack, which sees no gradient, and with the certified share; {_OVER}."
        ),
        rule=(
            f"Held if both intervals lie above {ALIKE:g}, "
            + _CONTROLS.format(given=CLEAN)
            + ", psi is not behind accuracy under one FGSM step, and among networks "
            "of one kind, on disjoint images, both correlations lie above 0; partly if "
            f"both lie above {ALIKE:g} but a control fails; did not hold if both lie "
            f"below {ALIKE:g}; held on some if one does; otherwise inconclusive. Also "
            f"{_RELIABILITY}. Needs 3 seeds."
        ),
        control="Networks of one kind differ in their seed alone. One FGSM step is "
        "the cheap rival. Leaving out a family shows whether it alone makes the tie.",
        judge=judge_s1,
    ),
    Claim(
        id="S2",
        statement=(
            "What bounds prove of the decision (certified share) and of the "
            "divergence (sound end of psi) agrees."
        ),
        source=OWN,
        measure=(
            "Spearman's rho over all networks of the certified share and of psi's "
            f"sound lower end; {_OVER}."
        ),
        rule=(
            f"Held if the interval lies above {ALIKE:g}, also with one measure on one "
            "half of the images and the other on the other half, "
            + _CONTROLS.format(given="psi by attack at the same radius")
            + f"; partly if a control fails; did not hold if it lies below {ALIKE:g}; "
            f"otherwise inconclusive. Also {_RELIABILITY}. Needs 3 seeds."
        ),
        control=(
            "An attack at the radius of the proofs: do the two agree beyond what an "
            "attack tells of either? Disjoint images, so that no noise is common."
        ),
        judge=judge_s2,
    ),
    Claim(
        id="S3",
        statement=(
            "Networks whose saliency maps depend less on the baseline are more robust."
        ),
        source=OWN,
        measure="Spearman's rho over all networks of the stability of occlusion maps "
        f"over five baselines and robust accuracy; {_OVER}.",
        rule=_rule("above"),
        control=(
            "Clean accuracy as the cheap rival, certified share in the place of "
            "attacks, one family left out, and reliability."
        ),
        judge=_tie(STABILITY, 1),
    ),
    Claim(
        id="S4",
        statement="Networks that lose more accuracy to a low-pass filter are "
        "less robust.",
        source=OWN,
        measure=(
            "Spearman's rho over all networks of the mean accuracy lost at four "
            f"cut-offs and robust accuracy; {_OVER}."
        ),
        rule=_rule("below"),
        control=(
            "Clean accuracy as the cheap rival, certified share in the place of "
            "attacks, one family left out, and reliability."
        ),
        judge=_tie(LOW_PASS, -1),
    ),
    Claim(
        id="S5",
        statement="How many units can be removed tells nothing about robustness.",
        source=OWN,
        measure="Spearman's rho over all networks of robust accuracy and the share of "
        "units that can go, in order of their Taylor importance, at a loss of "
        f"at most 2 points of accuracy; the same with certified share; {_OVER}.",
        rule=f"Held if both intervals lie within {ALIKE:g} of 0 and hold 0; partly if "
        f"they lie within {ALIKE:g} without 0; did not hold if one lies beyond "
        f"{ALIKE:g} (on some if the other lies within); otherwise inconclusive. Also "
        f"{_RELIABILITY}, or two seeds agree on the share by less than {SEEDS_AGREE}. "
        "Needs 3 seeds.",
        control=(
            "Reliability: where a measure does not repeat itself, a missing "
            "correlation may be its noise."
        ),
        judge=judge_s5,
    ),
    Claim(
        id="S6",
        statement="Pruning leaves psi as it is until accuracy falls.",
        source=OWN,
        measure="Median psi of each pruned and tuned network over that of the same "
        "network tuned as long without pruning: geometric mean over seeds, Student's "
        "t. The same for units taken out at random.",
        rule="Of the kinds whose lost accuracy has an interval that ends at 2 points: "
        f"held if every ratio lies within a factor of {PSI_UNCHANGED} and none loses "
        f"more than {100 * ROBUSTNESS_KEPT:.0f} points of robust accuracy with its "
        "interval; partly if only psi is kept; did not hold if ratios lie beyond that "
        "factor and none within; held on some if both occur; otherwise inconclusive. "
        "Needs 3 seeds.",
        control=(
            "The network tuned without pruning as the one that is compared with, "
            "removal at random as the cheap rival, and robust accuracy beside psi."
        ),
        judge=judge_s6,
    ),
)
