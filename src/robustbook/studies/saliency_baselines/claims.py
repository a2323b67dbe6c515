"""The paper's claims with their rules: each verdict is computed from the metric rows
alone.

Rows that rules read: `baseline gap` and `neutral gap` (ceiling minus similarity between
baselines), `ranking gap` (repeated minus between), `diagonal advantage`, `plateau gap`
(and `plateau` of equal settings, its control), `metric gap`, and `recovery range`.
"""

from __future__ import annotations

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
PLATEAU_MARGIN = 0.01
RECOVERY_MARGIN = 0.05
FOLLOWS = 0.9
PAIR_KINDS = {"all": "all pairs of baselines", "neutral": "the one neutral pair"}
UNIT = (
    "over seeds, each with its own images, masks and, where it is trained here, "
    "network; over images of one seed where there is one"
)
DECIDING = ("spearman", "ssim")


def _shown(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"


def _low(metric: Metric) -> float:
    return metric.value if metric.low is None else metric.low


def _rows(results: Results, name: str, **factors: str) -> list[Metric]:
    found = results.select(name, **factors)
    if not found:
        raise UnmeasuredError(f"{name} {factors}")
    return found


def _graded(held: int, of: int) -> Verdict:
    """All, at least half, or fewer of the comparisons."""
    return (
        "reproduced" if held == of else "partly" if 2 * held >= of else "not reproduced"
    )


def _above_zero(rows: list[Metric], margin: float = 0.0) -> int:
    return sum(_low(row) > margin for row in rows)


def _listed(rows: list[Metric], *factors: str) -> str:
    return ", ".join(
        f"{' '.join(str(row.factors[name]) for name in factors)} {_shown(row)}"
        for row in rows
    )


def _units(rows: list[Metric]) -> str:
    """What the rows' intervals are over, in a sentence."""
    groups: dict[tuple[str, int | None], list[str]] = {}
    for row in rows:
        titles = groups.setdefault((row.over, row.n), [])
        if row.factors["data"] not in titles:
            titles.append(str(row.factors["data"]))
    named = [
        f"{n} {over} ({', '.join(titles)})" for (over, n), titles in groups.items()
    ]
    return f"Intervals are over {'; '.join(named)}."


def _judge_gap(results: Results, name: str, ceiling: str) -> Judgement:
    rows = [
        row for measure in DECIDING for row in results.select(name, measure=measure)
    ]
    if not rows:
        raise UnmeasuredError(name)
    held = _above_zero(rows)
    return Judgement(
        _graded(held, len(rows)),
        f"In {held} of {len(rows)} comparisons the similarity lies below the ceiling "
        f"with its interval. {ceiling}: {_listed(rows, 'data', 'measure')}. "
        f"{_units(rows)}",
    )


def judge_maps(results: Results) -> Judgement:
    """C4.1: maps of two baselines, from other masks, are less alike than maps of one
    baseline from other masks.
    """
    return _judge_gap(results, "baseline gap", "Ceiling minus similarity")


def judge_neutral(results: Results) -> Judgement:
    """C4.2: the same for pairs of baselines that both count as neutral."""
    found = _judge_gap(
        results, "neutral gap", "Ceiling minus similarity of neutral pairs"
    )
    pairs: dict[str, list[Metric]] = {}
    for row in results.select("neutral pair"):
        pairs.setdefault(str(row.factors["data"]), []).append(row)
    counted = ", ".join(f"{title} {len(rows)}" for title, rows in pairs.items())
    single = [title for title, rows in pairs.items() if len(rows) == 1]
    same = (
        len(
            {
                (row.factors["first"], row.factors["second"])
                for title in single
                for row in pairs[title]
            }
        )
        == 1
    )
    rests = (
        " So the result rests on one "
        f"pair{' (the same)' if same and len(single) > 1 else ''} on "
        f"{', '.join(single)}."
    )
    return Judgement(
        found.verdict,
        f"{found.evidence} Pairs of baselines that are both neutral for some image: "
        f"{counted}.{rests if single else ''}",
    )


def judge_ranking(results: Results) -> Judgement:
    """C4.3: rankings under two baselines agree less than rankings under one, each on
    two bootstrap samples of the images.
    """
    rows = _rows(results, "ranking gap")
    held = _above_zero(rows)
    flips = _rows(results, "best method flips", pairs="all")
    kinds = {
        kind: results.select("ranking gap", pairs=kind) for kind in ("all", "neutral")
    }
    split = ", ".join(
        f"{_above_zero(found)} of {len(found)} with {PAIR_KINDS[kind]}"
        for kind, found in kinds.items()
        if found
    )
    return Judgement(
        _graded(held, len(rows)),
        f"In {held} of {len(rows)} comparisons Kendall's tau between baselines lies "
        f"below that of repeated samples: {split}. Difference: "
        f"{_listed(rows, 'data', 'metric', 'pairs')}. The best method differs in this "
        f"share of pairs of baselines: {_listed(flips, 'data', 'metric')}.",
    )


def judge_diagonal(results: Results) -> Judgement:
    """C4.4: the diagonal of generator by metric baseline is above what row and column
    give, and random maps show none.
    """
    rows = _rows(results, "diagonal advantage", maps="RISE")
    controls = {
        row.factors["data"]: row
        for row in _rows(results, "diagonal advantage", maps="random")
    }
    calibrated = {data: _low(row) <= 0 for data, row in controls.items()}
    held = sum(_low(row) > 0 and calibrated[row.factors["data"]] for row in rows)
    return Judgement(
        _graded(held, len(rows)),
        f"Advantage of the same baseline: {_listed(rows, 'data')}; of random maps: "
        f"{_listed(list(controls.values()), 'data')}. {_units(rows)}",
    )


def judge_settings(results: Results) -> Judgement:
    """C4.5: the fitted plateau of the similarity of two settings lies below that of one
    setting with other masks.
    """
    rows = _rows(results, "plateau gap")
    held = _above_zero(rows, PLATEAU_MARGIN)
    widest, narrowest = (
        choose(rows, key=lambda row: row.value) for choose in (max, min)
    )
    controls = _rows(results, "plateau", kind="equal")
    failed = failed_controls(results)
    corrected = results.select("corrected similarity of settings")
    below = sum(row.high is not None and row.high < 1 for row in corrected)
    lowest, highest = (choose(row.value for row in controls) for choose in (min, max))
    control = (
        f"The control fails: in {len(failed)} of {len(controls)} settings the plateau "
        f"of equal settings, which should be 1, lies below {1 - PLATEAU_MARGIN:g} with "
        "its interval, so the fitted plateau is not what is left without noise"
        if failed
        else (
            "The control holds: no plateau of equal settings lies below "
            f"{1 - PLATEAU_MARGIN:g} with its interval"
        )
    )
    return Judgement(
        _graded(held, len(rows)),
        f"In {held} of {len(rows)} pairs of settings the plateau lies more than "
        f"{PLATEAU_MARGIN} below the one of equal settings, interval included. Widest "
        f"gap: {_listed([widest], 'data', 'pair')}; narrowest: "
        f"{_listed([narrowest], 'data', 'pair')}. {control} (values {lowest:.3f} to "
        f"{highest:.3f}). Without a fit: at the largest N the similarity over the "
        f"root of both ceilings lies below 1, interval included, in {below} of "
        f"{len(corrected)} pairs. {_units(rows)}",
    )


def failed_controls(results: Results) -> list[Metric]:
    """Plateaus of equal settings that lie below 1 by more than the margin, with their
    interval.
    """
    rows = results.select("plateau", kind="equal")
    return [
        row
        for row in rows
        if (row.value if row.high is None else row.high) < 1 - PLATEAU_MARGIN
    ]


def judge_metrics(results: Results) -> Judgement:
    """C4.6: two metrics agree less on the methods of an image than a metric agrees with
    itself when repeated.
    """
    rows = _rows(results, "metric gap")
    held = _above_zero(rows)
    return Judgement(
        _graded(held, len(rows)),
        f"In {held} of {len(rows)} comparisons the agreement lies below that of the "
        "weaker repetition, interval included. Repetition minus agreement: "
        f"{_listed(rows, 'data', 'comparison')}. {_units(rows)}",
    )


def judge_recovery(results: Results) -> Judgement:
    """C4.7: the best baseline recovers the planted patch better than the worst, both
    chosen on other images.
    """
    follows = results.one("follows the patch")
    if follows.value < FOLLOWS:
        return Judgement(
            "not tested at this scale",
            f"Only {_shown(follows)} of predictions follow a swapped patch, so the "
            "truth is not what was planted.",
        )
    spread = results.one("recovery range", generator="RISE")
    clear = _low(spread) > 0
    verdict: Verdict = (
        "reproduced"
        if clear and spread.value >= RECOVERY_MARGIN
        else "partly"
        if clear
        else "not reproduced"
    )
    occluded = results.one("recovery range", generator="occlusion")
    control = results.one("recovery range", generator="RISE, one baseline twice")
    without = results.one("recovery range without another image", generator="RISE")
    lowest = results.one("lowest recovery above random")
    finds = (
        "Every baseline finds the patch"
        if _low(lowest) > 0
        else "Not every baseline clearly finds the patch"
    )
    return Judgement(
        verdict,
        f"Overlap with the patch, best minus worst baseline: RISE {_shown(spread)}, "
        f"occlusion {_shown(occluded)}; RISE without the baseline another image, "
        f"which shows a patch itself: {_shown(without)}. One baseline, better minus "
        f"worse of two draws of masks: {_shown(control)}. {finds}: the worst, "
        f"{lowest.factors['baseline']}, lies {_shown(lowest)} above random maps. "
        f"{_shown(follows)} of {follows.n} predictions follow a swapped patch. "
        f"Intervals of overlaps are over {spread.n} {spread.over}.",
    )


CLAIMS = (
    Claim(
        id="C4.1",
        statement="The baseline image changes the saliency map.",
        source="abstract",
        measure=(
            "Spearman's correlation, SSIM and overlap of top pixels of RISE maps "
            "from two baselines, one image and network, other masks (and, reported, "
            "the same masks)."
        ),
        rule=(
            "Reproduced if ceiling minus similarity has its whole 95 % interval "
            f"({UNIT}) above 0 for Spearman and SSIM on all data; partly if in at "
            "least half of them."
        ),
        control="The ceiling: one baseline, other masks, equal N.",
        judge=judge_maps,
    ),
    Claim(
        id="C4.2",
        statement="This holds even for baselines that are neutral to the network.",
        source="abstract",
        measure=(
            "The same for pairs of baselines whose class distribution both are "
            f"within {NEUTRAL} log K (Kullback-Leibler) of the uniform one; some "
            "are optimised for it."
        ),
        rule="As C4.1, over neutral pairs.",
        control=(
            "The ceiling of those pairs, and how the gap depends on neutrality over "
            "all pairs."
        ),
        judge=judge_neutral,
    ),
    Claim(
        id="C4.3",
        statement=(
            "The baseline changes the evaluation: which saliency method a removal "
            "metric ranks first."
        ),
        source="abstract",
        measure=(
            "Rankings of fixed maps by mean MoRF or LeRF area under two metric "
            "baselines; Kendall's tau between the rankings on two bootstrap samples "
            "of the images, mean over pairs of baselines. The neutral pair is one: "
            "the two optimised baselines."
        ),
        rule=(
            "Reproduced if tau within a baseline minus tau between baselines has "
            "its interval above 0 for both metrics, all pairs and the neutral pair, "
            "all data on which maps are judged (neither photographs nor planted "
            "patches); partly if in at least half."
        ),
        control="Re-ranking by one baseline on two bootstrap samples of the images.",
        judge=judge_ranking,
    ),
    Claim(
        id="C4.4",
        statement=(
            "A map made with a baseline does best when it is judged with the same "
            "baseline."
        ),
        source="not in the abstract; a corollary",
        measure=(
            "Matrix of LeRF minus MoRF area, generator by metric baseline; the "
            "diagonal after means of rows and columns are taken off."
        ),
        rule=(
            "Reproduced if the diagonal's advantage has its interval (over seeds) "
            "above 0 on all data on which maps are judged (neither photographs nor "
            "planted patches) while that of random maps does not; partly if in at "
            "least half."
        ),
        control=(
            "Random maps, one draw a label: they have no baseline. (A map without "
            "labels, such as a gradient, gives exactly 0.)"
        ),
        judge=judge_diagonal,
    ),
    Claim(
        id="C4.5",
        statement="Hyper-parameters of RISE make maps diverge.",
        source="abstract",
        measure=(
            "Spearman's correlation r of maps of two settings (p, s) from other "
            "masks against N, fitted by r = plateau / (1 + c / N)."
        ),
        rule=(
            "Reproduced if in all pairs of settings the plateau lies more than "
            f"{PLATEAU_MARGIN} (interval over seeds included) below that of equal "
            "settings; partly in at least half."
        ),
        control=(
            "The same fit for one setting with other masks, whose plateau is 1 if "
            "the noise is Monte-Carlo noise alone."
        ),
        judge=judge_settings,
    ),
    Claim(
        id="C4.6",
        statement="Metrics of saliency maps disagree with each other.",
        source="abstract",
        measure=(
            "Spearman's correlation over methods, per image, of MoRF with LeRF, and "
            "of deletion with insertion as RISE defines them (training mean and "
            "blur 5 as baselines)."
        ),
        rule=(
            "Reproduced if the weaker repetition's agreement minus theirs has its "
            "interval (over seeds) above 0 in both comparisons on all data on which "
            "maps are judged (neither photographs nor planted patches); partly if "
            "in at least half."
        ),
        control=(
            "Repetitions: the same metric with other step sizes (a single pixel "
            "only on grey images, for its cost), and with another draw of a noise "
            "baseline."
        ),
        judge=judge_metrics,
    ),
    Claim(
        id="C4.7",
        statement=(
            "Perturbation maps lack robustness: how well they find what decides the "
            "class depends on the baseline."
        ),
        source="abstract, with a positive control of ours",
        measure=(
            "Intersection over union of a map's largest pixels with a planted patch "
            "that alone decides the class, per baseline."
        ),
        rule=(
            "Reproduced if best minus worst baseline, chosen on one half of the "
            "images (whole seeds) and measured on the other, is at least "
            f"{RECOVERY_MARGIN} with its interval (over seeds) above 0; partly if "
            "only above 0."
        ),
        control=(
            "Random and occlusion maps; one baseline with two draws of masks, "
            f"better minus worse; at least {FOLLOWS:.0%} of predictions must follow "
            "a swapped patch."
        ),
        judge=judge_recovery,
    ),
)
