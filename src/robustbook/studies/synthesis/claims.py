"""Our own six questions to the zoo, declared with their rules before any result was
known.

No paper states them: they have no published value, and thresholds are this book's. Each
`judge_...` sees the metric rows of a run and nothing else.
"""

from __future__ import annotations

from robustbook.results import Claim, Judgement, Metric, Results, Row, UnmeasuredError

ROWS = (
    Row("networks", "", "count"),
    Row("robust accuracy", "share", "kind seed"),
    Row("psi", "1/nats", "kind seed"),
    Row("sound psi", "1/nats", "kind seed"),
    Row("certified share", "share", "kind seed"),
    Row("saliency stability", "Spearman's rho", "kind seed"),
    Row("low-pass loss", "share", "kind seed"),
    Row("prunable share", "share", "kind seed"),
    Row("clean accuracy", "share", "kind seed"),
    Row("decisions certified", "share", "kind radius seed"),
    Row("decisions unmoved by PGD", "share", "kind radius seed"),
    Row("psi, proved end", "1/nats", "kind radius seed"),
    Row("psi, attained end", "1/nats", "kind radius seed"),
    Row("images that break a bracket", "", "kind seed"),
    Row("alarm under attack", "AUROC", "kind seed"),
    Row("evidence lower bound", "nats per image", "kind seed"),
    Row("balance of deviations", "", "kind layer seed"),
    Row("rank correlation", "", "first second"),
    Row("rank correlation over families", "", "first second"),
    Row("within-kind rank correlation", "", "first second"),
    Row("partial rank correlation", "", "first given second"),
    Row("rank correlation without the Bayesian kind", "", "first second"),
    Row("partial rank correlation without the Bayesian kind", "", "first given second"),
    Row("agreement of two seeds", "", "lens"),
    Row("psi after pruning over before", "ratio", "kind parent share"),
    Row("accuracy lost by pruning", "share", "kind parent share"),
    Row("largest psi ratio between seeds", "ratio", ""),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

STRONG = 0.5
"""A rank correlation beyond which we call two measures alike."""
MINIMAL_SEEDS = 3
PSI_UNCHANGED = 1.25
"""psi counts as unchanged while its ratio lies in [1 / 1.25, 1.25]."""
ACCURACY_KEPT = 0.02
"""Loss of clean accuracy (share) up to which accuracy counts as kept, here and for the
share of prunable units.
"""

ROBUST, PSI, SOUND, CERTIFIED = "robust accuracy", "psi", "sound psi", "certified share"
STABILITY, LOW_PASS, PRUNABLE, CLEAN = (
    "saliency stability",
    "low-pass loss",
    "prunable share",
    "clean accuracy",
)
LENSES = (ROBUST, PSI, SOUND, CERTIFIED, STABILITY, LOW_PASS, PRUNABLE, CLEAN)
"""The measures of a network; clean accuracy is no lens but the control of all."""

OWN = "our own question"


def within(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    return f"{_number(metric.value)} [{_number(metric.low)}, {_number(metric.high)}]"


def _number(value: float | None) -> str:
    """Two decimals with a true minus; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _too_few(results: Results) -> Judgement | None:
    """The verdict of a run with fewer seeds than the rules need."""
    seeds = results.one("networks", count="seeds").value
    if seeds >= MINIMAL_SEEDS:
        return None
    return Judgement(
        "not tested at this scale",
        f"The rule needs {MINIMAL_SEEDS} seeds; this run has {seeds:.0f}.",
    )


def _pair(results: Results, first: str, second: str) -> Metric:
    return results.one("rank correlation", first=first, second=second)


def _partial(results: Results, first: str, second: str, given: str) -> Metric:
    return results.one(
        "partial rank correlation", first=first, second=second, given=given
    )


def _evidence(results: Results, first: str, second: str, given: str) -> str:
    """Both correlations in words, with what else is known of the pair."""
    plain, partial = (
        _pair(results, first, second),
        _partial(results, first, second, given),
    )
    families = results.one("rank correlation over families", first=first, second=second)
    inside = results.one("within-kind rank correlation", first=first, second=second)
    return (
        f"Spearman's rho of {first} and {second} is {within(plain)} over {plain.n} "
        f"kinds and their seeds; given {given} it is {within(partial)}. Drawing the "
        f"{families.n} families instead of kinds: [{_number(families.low)}, "
        f"{_number(families.high)}]; among networks of one kind, drawing {inside.n} "
        f"families and seeds: {within(inside)}."
    )


def _alike(
    results: Results,
    first: str,
    second: str,
    given: str,
    *,
    sign: int = 1,
    certain: bool = False,
) -> Judgement:
    """Whether two measures rank networks alike (`sign` -1: the other way round), also
    at equal `given`.

    With `certain` the whole interval must lie beyond the threshold, otherwise its value
    must and the interval lie beyond 0.
    """
    if few := _too_few(results):
        return few
    evidence = _evidence(results, first, second, given)
    plain, partial = (
        _pair(results, first, second),
        _partial(results, first, second, given),
    )
    near = min(sign * (plain.low or 0), sign * (plain.high or 0))
    left = min(sign * (partial.low or 0), sign * (partial.high or 0))
    if near <= 0:
        return Judgement("not reproduced", evidence)
    strong = (near if certain else sign * plain.value) > STRONG
    return Judgement("reproduced" if strong and left > 0 else "partly", evidence)


def judge_s1(results: Results) -> Judgement:
    """Psi ranks networks as robust accuracy does, also among networks of equal clean
    accuracy.
    """
    return _alike(results, ROBUST, PSI, CLEAN, certain=True)


def judge_s2(results: Results) -> Judgement:
    """What bounds prove of the decision and of the divergence agrees, beyond what an
    attack tells.
    """
    return _alike(results, SOUND, CERTIFIED, ROBUST, certain=True)


def judge_s3(results: Results) -> Judgement:
    """Maps that depend less on the baseline go with robustness."""
    return _alike(results, ROBUST, STABILITY, CLEAN)


def judge_s4(results: Results) -> Judgement:
    """Losing accuracy to a low-pass filter goes against robustness."""
    return _alike(results, ROBUST, LOW_PASS, CLEAN, sign=-1)


def judge_s5(results: Results) -> Judgement:
    """The share of prunable units tells nothing about robustness, although it is a
    property that seeds share.
    """
    if few := _too_few(results):
        return few
    plain = _pair(results, ROBUST, PRUNABLE)
    ceiling = results.one("agreement of two seeds", lens=PRUNABLE)
    evidence = _evidence(results, ROBUST, PRUNABLE, CLEAN) + (
        f" Two seeds agree on the share with rho {within(ceiling)} (drawing "
        f"{ceiling.n} families)."
    )
    low, high = plain.low or 0, plain.high or 0
    if low > 0 or high < 0:
        return Judgement("not reproduced", evidence)
    if max(-low, high) > STRONG or ceiling.value < STRONG:
        return Judgement("not tested at this scale", evidence)
    return Judgement("reproduced", evidence)


def judge_s6(results: Results) -> Judgement:
    """As long as a pruned network keeps its accuracy, it keeps its psi."""
    if few := _too_few(results):
        return few
    ratios = results.select("psi after pruning over before")
    losses = {
        row.factors["kind"]: results.one(
            "accuracy lost by pruning", kind=row.factors["kind"]
        )
        for row in ratios
    }
    if not ratios:
        raise UnmeasuredError("expected rows 'psi after pruning over before', found 0")
    kept = [row for row in ratios if losses[row.factors["kind"]].value <= ACCURACY_KEPT]
    between = results.one("largest psi ratio between seeds")
    evidence = (
        "psi after pruning over before (accuracy lost): "
        + "; ".join(
            f"{row.factors['kind']} {within(row)} "
            f"({losses[row.factors['kind']].value:.1%})"
            for row in ratios
        )
        + (
            ". Two seeds of one natural training differ up to "
            f"{between.value:.2f}-fold. Over {ratios[0].n} seeds and the images."
        )
    )
    if not kept:
        return Judgement("not tested at this scale", evidence)
    if all(
        (row.low or 0) >= 1 / PSI_UNCHANGED and (row.high or 0) <= PSI_UNCHANGED
        for row in kept
    ):
        return Judgement("reproduced", evidence)
    changed = [
        row
        for row in kept
        if (row.low or 0) > PSI_UNCHANGED or (row.high or 0) < 1 / PSI_UNCHANGED
    ]
    beyond_seeds = [
        row for row in changed if max(row.value, 1 / row.value) > between.value
    ]
    return Judgement("not reproduced" if beyond_seeds else "partly", evidence)


_OVER = "interval by drawing kinds of network and seeds"

CLAIMS = (
    Claim(
        id="S1",
        statement="psi ranks networks as robust accuracy does.",
        source=OWN,
        measure=(
            "Spearman's rho over all networks of median psi (attained end) and "
            f"robust accuracy under PGD with restarts; {_OVER}."
        ),
        rule="Held if the interval lies above 0.5 and that of the partial "
        "correlation given clean accuracy above 0; did not hold if the "
        "interval reaches 0; partly otherwise. Needs 3 seeds.",
        control="The partial rank correlation given clean accuracy; the same with "
        "whole families (a network and what was pruned from it) drawn; "
        "networks of one kind, which differ in their seed alone.",
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
        rule="Held if the interval lies above 0.5 and that of the partial "
        "correlation given robust accuracy above 0; did not hold if the "
        "interval reaches 0; partly otherwise. Needs 3 seeds.",
        control=(
            "The partial rank correlation given robust accuracy: do the two agree "
            "beyond what an attack tells of either?"
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
        rule="Held if rho is above 0.5, its interval above 0, and that of the "
        "partial correlation given clean accuracy above 0; did not "
        "hold if the interval reaches 0; partly otherwise. Needs 3 seeds.",
        control=(
            "The partial rank correlation given clean accuracy, families drawn, and "
            "networks of one kind."
        ),
        judge=judge_s3,
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
        rule="Held if rho is below -0.5, its interval below 0, and that of the "
        "partial correlation given clean accuracy below 0; did not "
        "hold if the interval reaches 0; partly otherwise. Needs 3 seeds.",
        control=(
            "The partial rank correlation given clean accuracy, families drawn, and "
            "networks of one kind."
        ),
        judge=judge_s4,
    ),
    Claim(
        id="S5",
        statement="How many units can be removed tells nothing about robustness.",
        source=OWN,
        measure="Spearman's rho over all networks of robust accuracy and the share of "
        "units that can go, in order of their Taylor importance, at a loss of "
        f"at most 2 points of accuracy; {_OVER}.",
        rule="Held if the interval holds 0 and stays within 0.5 of it; did not hold if "
        "it does not hold 0; not tested at this scale if it reaches farther than "
        "0.5, or if two seeds agree on the share with rho below 0.5. Needs 3 "
        "seeds.",
        control=(
            "The agreement of two seeds on the prunable share: where two seeds "
            "disagree, a missing correlation may be their noise."
        ),
        judge=judge_s5,
    ),
    Claim(
        id="S6",
        statement="Pruning leaves psi as it is until accuracy falls.",
        source=OWN,
        measure="Median psi of each pruned and tuned network over that of the same "
        "network tuned as long without pruning, geometric mean "
        "over seeds; interval by drawing seeds and images.",
        rule="Held if at every ratio that keeps accuracy (loses at most 2 points) "
        "the interval stays within a factor of 1.25; did not hold "
        "if at one of them it lies beyond that factor, and beyond what two seeds "
        "differ; partly otherwise. Needs 3 seeds.",
        control=(
            "The network tuned without pruning as the one that is compared with, "
            "and psi's ratio between two seeds of natural training."
        ),
        judge=judge_s6,
    ),
)
