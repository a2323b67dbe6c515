"""The paper's claims with their rules: each verdict is computed from the metric rows
alone.

Read the constants first (smallest effects and limits of reliability), then `Comparison`
and `_decided` (how several comparisons make a verdict), then the rules in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robustbook.results import (
    Claim,
    Judgement,
    Metric,
    Results,
    UnmeasuredError,
    Verdict,
)

NEUTRAL = 0.05
"""A baseline counts as neutral for a network below this KL from the uniform
distribution, as a share of log K.
"""
GAP = 0.05
"""Smallest gap in correlation or similarity that matters: a twentieth of the scale."""
CEILING, LARGE_CEILING = 0.9, 0.8
"""How far two draws of masks must agree; for photographs, whose passes are dear, the
second.
"""
LARGE = ("ImageNet photographs (59)",)
TAU_GAP, TAU_CEILING = 0.1, 0.5
"""Smallest gap in Kendall's tau: every twentieth pair of methods changes places; and
how far two halves of the images must agree.
"""
ADVANTAGE = 0.05
"""Smallest advantage of the same baseline, in probability."""
METRIC_GAP, METRIC_CEILING = 0.1, 0.7
RECOVERY = 0.05
FOLLOWS = 0.9
EXPLAINED = 0.5
"""The shift explains the divergence if it predicts half of its variance or more."""
GAP_RELIABILITY = 0.8
DECIDING = ("spearman", "ssim")
MEASURES = {"spearman": "Spearman", "ssim": "SSIM"}
SHORT = {
    "ImageNet photographs (59)": "photographs",
    "CIFAR-10 (JPEG copy)": "CIFAR-10",
    "Shapes (drawn)": "shapes",
    "Shapes, transformer": "shapes with a transformer",
    "Shapes with a planted patch (drawn)": "planted patches",
    "Digits 8x8 (scikit-learn)": "digits",
}


def short(title: object) -> str:
    """A data set's title in a sentence."""
    return SHORT.get(str(title), str(title))


@dataclass(frozen=True)
class Comparison:
    """One comparison of a rule: its row, the least that matters, whether it can be
    trusted, and its name.
    """

    row: Metric
    limit: float
    reliable: bool
    name: str

    @property
    def side(self) -> str:
        """Where the interval lies: "above" the limit, "below" it, "open", or
        "unreliable".
        """
        if not self.reliable:
            return "unreliable"
        low = self.row.value if self.row.low is None else self.row.low
        high = self.row.value if self.row.high is None else self.row.high
        return "above" if low > self.limit else "below" if high < self.limit else "open"


def _decided(comparisons: Sequence[Comparison]) -> Verdict:
    """All above the limit: reproduced; all that are reliable, and at least half of all:
    partly; some above and some below: mixed; all that are reliable below: not
    reproduced; else inconclusive.
    """
    sides = [each.side for each in comparisons]
    steady = {side for side in sides if side != "unreliable"}
    if set(sides) == {"above"}:
        return "reproduced"
    if {"above", "below"} <= steady:
        return "mixed"
    if steady == {"above"} and 2 * sides.count("above") >= len(sides):
        return "partly"
    if steady == {"below"} and 2 * sides.count("below") >= len(sides):
        return "not reproduced"
    return "inconclusive"


DECIDED = (
    "reproduced if the interval of every comparison lies above it; partly if that of "
    "every reliable one does, and these are half or more; mixed if some lie above and "
    "some below; not reproduced if those of all reliable ones lie below; else "
    "inconclusive"
)


def _shown(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def _said(metric: Metric) -> str:
    """A value with its interval, in a sentence."""
    if metric.low is None or metric.high is None:
        return f"{metric.value:.2f}"
    return f"{metric.value:.2f} ({metric.low:.2f} to {metric.high:.2f})"


def _rows(results: Results, name: str, **factors: str) -> list[Metric]:
    found = results.select(name, **factors)
    if not found:
        raise UnmeasuredError(f"{name} {factors}")
    return found


def _evidence(comparisons: Sequence[Comparison], controls: str = "") -> str:
    sides = [each.side for each in comparisons]
    counts = ", ".join(
        f"{sides.count(side)} {side}"
        for side in ("above", "open", "below", "unreliable")
        if side in sides
    )
    listed = "; ".join(
        f"{each.name} {_shown(each.row)} ({each.side})" for each in comparisons
    )
    over = comparisons[0].row
    return (
        f"Smallest that matters: {comparisons[0].limit:g}. Of {len(sides)} "
        f"comparisons: {counts}. {listed}. Intervals over seeds ({over.n} where not "
        f"said otherwise). {controls}".strip()
    )


def _answered(
    comparisons: Sequence[Comparison], verdict: Verdict, sentence: dict[str, str]
) -> str:
    """The sentence of a verdict, with the comparison that decides it: the smallest
    where all lie above, the largest where none does.
    """
    steady = [each for each in comparisons if each.reliable] or list(comparisons)
    lowest, highest = (
        choose(steady, key=lambda each: each.row.value) for choose in (min, max)
    )
    texts = {
        "low": f"{_said(lowest.row)} ({lowest.name})",
        "high": f"{_said(highest.row)} ({highest.name})",
        "above": str(sum(each.side == "above" for each in comparisons)),
        "all": str(len(comparisons)),
    }
    return sentence.get(verdict, sentence["else"]).format(**texts)


def ceiling_limit(title: object) -> float:
    """How far two draws of masks must agree on a data set."""
    return LARGE_CEILING if title in LARGE else CEILING


def _ceilings(rows: Sequence[Metric]) -> str:
    listed = "; ".join(
        f"{short(row.factors['data'])} {_shown(row)}"
        + ("" if row.value >= ceiling_limit(row.factors["data"]) else " (too low)")
        for row in rows
    )
    return f"Ceilings: {listed}."


def judge_maps(results: Results) -> Judgement:
    """C4.1: maps of two baselines are less alike than maps of one baseline from other
    masks.
    """
    comparisons = []
    for measure in DECIDING:
        kind = {"measure": measure, "estimator": "adjusted"}
        for row in _rows(results, "baseline gap", **kind):
            title = str(row.factors["data"])
            ceiling = results.one(
                "ceiling", data=title, measure="spearman", estimator="adjusted"
            )
            reliable = ceiling.value >= ceiling_limit(title)
            name = f"{short(title)}, {MEASURES[measure]}"
            comparisons.append(Comparison(row, GAP, reliable, name))
    verdict = _decided(comparisons)
    ceilings = _rows(results, "ceiling", estimator="adjusted", measure="spearman")
    plain = results.select("baseline gap", estimator="plain", measure="spearman")
    rival = results.select("retraining gap")
    controls = (
        f"{_ceilings(ceilings)} Plain RISE would show the gap as "
        + "; ".join(f"{short(row.factors['data'])} {_shown(row)}" for row in plain)
        + ". Another training seed makes a gap of "
        + "; ".join(f"{short(row.factors['data'])} {_shown(row)}" for row in rival)
        + "."
    )
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "Another baseline lowers the agreement of two maps below "
            "what chance alone does, everywhere; least by {low}.",
            "not reproduced": "Another baseline hardly lowers the agreement of two "
            "maps: at most by {high}.",
            "else": "In {above} of {all} comparisons another baseline clearly lowers "
            "the agreement of two maps; least by {low}.",
        },
    )
    return Judgement(verdict, _evidence(comparisons, controls), answer)


def judge_neutral(results: Results) -> Judgement:
    """C4.2: the same for pairs of baselines that both are neutral, in both readings."""
    comparisons = []
    for row in _rows(results, "neutral gap"):
        title, reading = str(row.factors["data"]), str(row.factors["reading"])
        count = results.one("neutral pairs", data=title, reading=reading).value
        ceiling = results.one("neutral ceiling", data=title, reading=reading)
        reliable = ceiling.value >= ceiling_limit(title) and count >= 3
        name = f"{short(title)}, {reading}"
        comparisons.append(Comparison(row, GAP, reliable, name))
    verdict = _decided(comparisons)
    pairs = "; ".join(
        f"{short(row.factors['data'])}, {row.factors['reading']}: {row.value:.0f}"
        for row in results.select("neutral pairs")
    )
    ceilings = "; ".join(
        f"{short(row.factors['data'])}, {row.factors['reading']}: {_shown(row)}"
        for row in results.select("neutral ceiling")
    )
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "Neutral baselines change the map as well, whichever way "
            "neutral is read; least by {low}.",
            "not reproduced": "Neutral baselines hardly change the map: at most by "
            "{high}.",
            "else": "In {above} of {all} comparisons two neutral baselines clearly "
            "change the map; least by {low}.",
        },
    )
    controls = f"Pairs: {pairs}. Ceilings of these pairs: {ceilings}."
    return Judgement(verdict, _evidence(comparisons, controls), answer)


def judge_ranking(results: Results) -> Judgement:
    """C4.3: rankings of methods under two baselines agree less than rankings under one,
    each on two halves of the images.
    """
    comparisons = []
    for row in _rows(results, "ranking gap"):
        kind = {name: row.factors[name] for name in ("data", "metric", "pairs")}
        steady = results.one("ranking agreement", kind="within", **kind)
        which = "neutral pairs" if kind["pairs"] == "neutral" else "all pairs"
        name = f"{short(kind['data'])}, {kind['metric']}, {which}"
        reliable = steady.value >= TAU_CEILING
        comparisons.append(Comparison(row, TAU_GAP, reliable, name))
    verdict = _decided(comparisons)
    repeated = "; ".join(
        f"{short(row.factors['data'])}, {row.factors['metric']}, "
        f"{row.factors['pairs']}: {_shown(row)}"
        for row in results.select("ranking agreement", kind="within")
    )
    best = "; ".join(
        f"{short(row.factors['data'])}, {row.factors['metric']}, "
        f"{row.factors['pairs']}: {row.value:.0%}"
        for row in results.select("best method differs")
    )
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "The baseline of the metric reorders the methods, neutral "
            "ones too; agreement of rankings falls least by {low}.",
            "not reproduced": "The baseline of the metric hardly reorders the "
            "methods: at most by {high} in Kendall's τ.",
            "else": "In {above} of {all} comparisons the metric's baseline clearly "
            "reorders the methods; most by {high} in Kendall's τ.",
        },
    )
    controls = (
        f"Agreement within one baseline: {repeated}. The best method differs in this "
        f"share of pairs: {best}."
    )
    return Judgement(verdict, _evidence(comparisons, controls), answer)


def judge_diagonal(results: Results) -> Judgement:
    """C4.4: the diagonal of generator by metric baseline is above what row and column
    give, and random maps show none.
    """
    controls = {
        row.factors["data"]: row
        for row in _rows(results, "diagonal advantage", maps="random")
    }
    comparisons = []
    for row in _rows(results, "diagonal advantage", maps="RISE"):
        control = controls[row.factors["data"]]
        low = control.value if control.low is None else control.low
        name = short(row.factors["data"])
        comparisons.append(Comparison(row, ADVANTAGE, low <= 0, name))
    verdict = _decided(comparisons)
    listed = "; ".join(f"{short(data)} {_shown(row)}" for data, row in controls.items())
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "Judged with its own baseline a map gains, in area between "
            "the two curves, at least {low}.",
            "not reproduced": "Judged with its own baseline a map gains next to "
            "nothing: at most {high}.",
            "else": "On {above} of {all} data sets a map clearly gains when it is "
            "judged with its own baseline; most by {high}.",
        },
    )
    return Judgement(verdict, _evidence(comparisons, f"Random maps: {listed}."), answer)


def judge_settings(results: Results) -> Judgement:
    """C4.5: maps of two settings are less alike than maps of one setting from other
    masks, with as many masks as it takes for both to repeat themselves.
    """
    comparisons = []
    shares = {
        (row.factors["data"], row.factors["varied"]): row.value
        for row in _rows(results, "reliable pairs")
    }
    for (title, varied), share in shares.items():
        rows = results.select("setting gap", data=title, varied=varied)
        if rows:
            row = max(rows, key=lambda each: float(each.factors["masks"]))
            name = f"{short(title)}, {varied}"
            comparisons.append(Comparison(row, GAP, share >= 0.5, name))
    if len(comparisons) < len(shares):
        return Judgement(
            "inconclusive",
            "For a data set and a setting no pair repeats itself to "
            f"{CEILING:g} from other masks.",
            "With so few masks the maps of one setting do not repeat themselves.",
        )
    verdict = _decided(comparisons)
    steady = ", ".join(
        f"{short(title)}, {varied}: {share:.0%}"
        for (title, varied), share in shares.items()
    )
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "Other settings of RISE give other maps, beyond all noise; "
            "least for {low}.",
            "not reproduced": "Once the noise is gone, other settings of RISE change "
            "the map by {high} at most.",
            "else": "Beyond noise, {above} of {all} ways to vary a setting clearly "
            "change the map; most {high}.",
        },
    )
    return Judgement(
        verdict, _evidence(comparisons, f"Reliable pairs: {steady}."), answer
    )


def judge_metrics(results: Results) -> Judgement:
    """C4.6: MoRF and LeRF agree less on the methods of an image than a metric agrees
    with itself when repeated.
    """
    comparisons = []
    for row in _rows(results, "metric gap", comparison="MoRF and LeRF"):
        title = str(row.factors["data"])
        steady = min(
            results.one("metric agreement", data=title, comparison=kind).value
            for kind in ("other step sizes", "another draw of noise")
        )
        reliable = steady >= METRIC_CEILING
        comparisons.append(Comparison(row, METRIC_GAP, reliable, short(title)))
    verdict = _decided(comparisons)
    others = "; ".join(
        f"{short(row.factors['data'])}, {row.factors['comparison']}: {_shown(row)}"
        for row in results.select("metric agreement")
    )
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "MoRF and LeRF order the methods of an image differently, "
            "well beyond what a repeated metric does; least by {low}.",
            "not reproduced": "MoRF and LeRF order the methods of an image about as "
            "one metric repeated does: at most {high} apart.",
            "else": "On {above} of {all} data sets MoRF and LeRF clearly disagree "
            "beyond a repeated metric; most by {high}.",
        },
    )
    return Judgement(verdict, _evidence(comparisons, f"Agreement: {others}."), answer)


def judge_recovery(results: Results) -> Judgement:
    """C4.7: among baselines that show no patch, the best recovers the planted patch
    better than the worst, both chosen on other images.
    """
    follows = results.one("follows the patch")
    spread = results.one("recovery range", generator="RISE", baselines="no patch")
    chance = results.one("recovery range", generator="RISE", baselines="one, two draws")
    lowest = results.one("lowest recovery above random")
    every = {
        (row.factors["generator"], row.factors["baselines"]): row
        for row in results.select("recovery range")
    }
    listed = "; ".join(
        f"{generator}, {which}: {_shown(row)}"
        for (generator, which), row in every.items()
    )
    finds = (lowest.value if lowest.low is None else lowest.low) > 0
    evidence = (
        f"Best minus worst, in intersection over union: {listed}. Smallest that "
        f"matters: {RECOVERY:g}. The worst baseline, {lowest.factors['baseline']}, "
        f"lies {_shown(lowest)} above random maps. {_shown(follows)} of {follows.n} "
        f"predictions follow a swapped patch. Intervals over {spread.n} {spread.over}."
    )
    if follows.value < FOLLOWS:
        return Judgement(
            "inconclusive",
            evidence,
            f"Only {_said(follows)} of the predictions follow the patch: what was "
            "planted is not the truth.",
        )
    repeats = chance.value if chance.high is None else chance.high
    reliable = chance.value < RECOVERY and repeats < 2 * RECOVERY
    comparison = Comparison(spread, RECOVERY, reliable, "RISE")
    verdict = _decided([comparison])
    every_one = "Every baseline finds the patch" if finds else "Not every one finds it"
    answer = {
        "reproduced": f"{every_one}, but the best overlaps it by {_said(spread)} more "
        "than the worst.",
        "not reproduced": f"{every_one}, and about equally well: best less worst is "
        f"{_said(spread)}.",
    }.get(
        verdict,
        f"{every_one}; how far the baselines differ stays open: best less worst is "
        f"{_said(spread)}.",
    )
    return Judgement(verdict, evidence, answer)


def judge_shift(results: Results) -> Judgement:
    """C4.8: distance from the data predicts half of the differences in divergence, and
    more of them than the difference of pixels does.
    """
    comparisons, leads = [], []
    for row in _rows(results, "divergence explained", by="distance"):
        title = str(row.factors["data"])
        steady = results.one("gap reliability", data=title).value >= GAP_RELIABILITY
        comparisons.append(Comparison(row, EXPLAINED, steady, short(title)))
        lead = results.one("divergence explained", by="lead", data=title)
        leads.append(Comparison(lead, 0.0, steady, short(title)))
    verdict = _decided(comparisons)
    if verdict == "reproduced" and {each.side for each in leads} != {"above"}:
        verdict = "partly"
    more = {
        name: "; ".join(
            f"{short(row.factors['data'])} {_shown(row)}"
            for row in results.select(name, **factors)
        )
        for name, factors in (
            ("gap reliability", {}),
            ("gap at no distance", {}),
            ("divergence explained", {"by": "pixels"}),
        )
    }
    evidence = _evidence(
        comparisons,
        f"Predicted by the pixels alone: {more['divergence explained']}. Lead: "
        + "; ".join(f"{each.name} {_shown(each.row)}" for each in leads)
        + f". Reliability of the gaps: {more['gap reliability']}. Gap predicted where "
        f"occluded images are as near as unseen ones: {more['gap at no distance']}.",
    )
    answer = _answered(
        comparisons,
        verdict,
        {
            "reproduced": "Distance from the data predicts how far two maps diverge: "
            "of its variance at least {low}.",
            "partly": "Distance from the data predicts at least {low} of the "
            "divergence's variance, but leads the pixels' difference not everywhere.",
            "not reproduced": "Distance from the data does not predict how far two "
            "maps diverge: at most {high} of its variance.",
            "else": "On {above} of {all} data sets distance from the data clearly "
            "predicts half of the divergence; at best {high}.",
        },
    )
    return Judgement(verdict, evidence, answer)


def _claim(
    number: int,
    statement: str,
    judge: Callable[[Results], Judgement],
    *,
    source: str = "abstract",
    measure: str,
    rule: str,
    control: str,
) -> Claim:
    return Claim(
        id=f"C4.{number}",
        statement=statement,
        source=source,
        measure=measure,
        rule=rule,
        control=control,
        judge=judge,
    )


MAPS = (
    f"The ceiling, one baseline with other masks, must be {CEILING:g} or more "
    f"({LARGE_CEILING:g} on photographs)"
)
CLAIMS = (
    _claim(
        1,
        "The baseline image changes the saliency map.",
        judge_maps,
        measure=(
            "Ceiling minus similarity of RISE maps of two baselines from other masks, "
            "by Spearman's correlation and SSIM; the ceiling of a pair is the "
            "geometric mean of its two. Maps are centred and adjusted."
        ),
        rule=f"The smallest gap that matters is {GAP:g}; {DECIDED}.",
        control=(
            f"{MAPS}; else a comparison is unreliable. Beside it: plain RISE, and the "
            "gap that another training seed makes."
        ),
    ),
    _claim(
        2,
        "This holds even for baselines that are neutral to the network.",
        judge_neutral,
        measure=(
            "The same gap (Spearman) over pairs of baselines that both are neutral: "
            f"an answer within {NEUTRAL:g} log K of uniform, or a probability of the "
            "class explained of at most 1.05 / K. Several are drawn and optimised."
        ),
        rule=f"The smallest gap that matters is {GAP:g}; {DECIDED}.",
        control=f"{MAPS}, for these pairs, and there must be three pairs or more.",
    ),
    _claim(
        3,
        "The baseline changes the evaluation: which saliency method a removal metric "
        "ranks first.",
        judge_ranking,
        measure=(
            "Rankings of thirteen fixed maps by mean area of MoRF or LeRF on two "
            "halves of a seed's images: Kendall's tau within one metric baseline minus "
            "between two, over all pairs and over pairs of neutral ones."
        ),
        rule=f"The smallest gap that matters is {TAU_GAP:g}; {DECIDED}.",
        control=(
            f"Two halves under one baseline must agree to {TAU_CEILING:g} or more; "
            "else a comparison is unreliable."
        ),
    ),
    _claim(
        4,
        "A map made with a baseline does best when it is judged with the same "
        "baseline.",
        judge_diagonal,
        source="not in the abstract; a corollary",
        measure=(
            "Matrix of LeRF minus MoRF area, baseline of the generator by baseline of "
            "the metric; the diagonal after means of rows and columns are taken off."
        ),
        rule=f"The smallest advantage that matters is {ADVANTAGE:g}; {DECIDED}.",
        control=(
            "Random maps, which have no baseline: where their advantage lies above 0 "
            "with its interval, a comparison is unreliable."
        ),
    ),
    _claim(
        5,
        "Hyper-parameters of RISE make maps diverge.",
        judge_settings,
        measure=(
            "Ceiling minus similarity (Spearman) of maps of two settings from other "
            "masks at the largest N, mean over pairs that differ in p, or in s."
        ),
        rule=f"The smallest gap that matters is {GAP:g}; {DECIDED}.",
        control=(
            "Only pairs count of which both settings repeat themselves to "
            f"{CEILING:g} or more; if these are fewer than half, a comparison is "
            "unreliable. Beside it: the gap against N."
        ),
    ),
    _claim(
        6,
        "Metrics of saliency maps disagree with each other.",
        judge_metrics,
        measure=(
            "Spearman's correlation over methods, per image, of MoRF with LeRF under "
            "one baseline, below that of the weaker of two repetitions of a metric. "
            "Beside it: the same by ROAD, and RISE's deletion with insertion."
        ),
        rule=f"The smallest gap that matters is {METRIC_GAP:g}; {DECIDED}.",
        control=(
            "Repetitions (other step sizes, another draw of a noise baseline) must "
            f"agree to {METRIC_CEILING:g} or more; else a comparison is unreliable."
        ),
    ),
    _claim(
        7,
        "Perturbation maps lack robustness: how well they find what decides the class "
        "depends on the baseline.",
        judge_recovery,
        source="abstract, with a positive control of ours",
        measure=(
            "Intersection over union of a map's largest pixels with a planted patch "
            "that alone decides the class: best minus worst baseline, chosen on one "
            "half of the seeds and measured on the other. Baselines that show a patch "
            "themselves (another image, or optimised from one) are left out."
        ),
        rule=f"The smallest range that matters is {RECOVERY:g}; {DECIDED}.",
        control=(
            f"At least {FOLLOWS:.0%} of predictions must follow a swapped patch, and "
            "two draws of masks of one baseline must differ by less than the smallest "
            "range (else unreliable). Beside it: random and occlusion maps."
        ),
    ),
    _claim(
        8,
        "How far occluded images lie off the data explains how far maps of two "
        "baselines diverge.",
        judge_shift,
        source="a question of ours",
        measure=(
            "Share of the variance of the gap over pairs of baselines that is "
            "predicted, for a seed from the others, by the sum and the difference of "
            "both baselines' distances from the data in front of the last layer."
        ),
        rule=(
            f"The smallest share that matters is {EXPLAINED:g}; {DECIDED}. Where it "
            "does not lead the root mean square difference of the pixels everywhere, "
            "partly at most."
        ),
        control=(
            "The gaps of two pairs of draws must correlate to "
            f"{GAP_RELIABILITY:g} or more over pairs; else unreliable."
        ),
    ),
)
