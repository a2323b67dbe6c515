"""The three claims of Oleszkiewicz et al. (2020), each for every leg that can test it, declared before any result was known.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the reproduction's own: the paper states none.
"""

from __future__ import annotations

from functools import partial

from robustbook.results import Claim, Judgement, Metric, Results, UnmeasuredError

MINIMAL_SEEDS = 3
RECOGNISABLE = 0.9
"""Structural similarity that a perturbed image keeps at least for it to count as recognisable."""
USEFUL = 0.65
"""Clean AUC below which a network knows too little to be asked."""
LOST_SHARE = 0.5
"""Share of the clean network's loss that re-training leaves, above which the loss counts as information gone."""
SMALL_LOSS = 0.05
"""A clean network that loses less AUC than this has lost too little to be divided into parts."""
PERTURBATIONS = ("adversarial", "universal", "noise", "low-pass")
BLURRED = {"phantoms": (2.0, 4.0), "predictions": (2.0, 4.0)}
"""Cut-off wavelengths (mm) at which O3 is decided: the two strongest that were published."""


def _within(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    return (
        f"{metric.value:.3g} [{metric.low:.3g}, {metric.high:.3g}]" if metric.low is not None else f"{metric.value:.3g}"
    )


def _too_few_seeds(results: Results, leg: str) -> Judgement | None:
    seeds = results.one("seeds", leg=leg).value
    if seeds < MINIMAL_SEEDS:
        return Judgement("not tested at this scale", f"The rule needs {MINIMAL_SEEDS} seeds; this run has {seeds:.0f}.")
    return None


def judge_o1(results: Results, leg: str) -> Judgement:
    """Every perturbation lowers the AUC at a severity that leaves the image recognisable."""
    if few := _too_few_seeds(results, leg):
        return few
    clean = results.one("clean AUC", leg=leg, subgroup="all")
    if clean.value < USEFUL:
        return Judgement(
            "not tested at this scale", f"The clean AUC is {_within(clean)}, below the {USEFUL} that the rule asks for."
        )
    sensitive, said = [], []
    for name in PERTURBATIONS:
        drop = _recognisable_drop(results, leg, name)
        if drop is None:
            said.append(f"{name}: no severity leaves the image recognisable")
            continue
        sensitive.append((drop.low or 0) > 0)
        said.append(f"{name} at {drop.factors['severity']:g}: {_within(drop)}")
    evidence = f"Clean AUC {_within(clean)}. Loss of AUC at the strongest severity with SSIM of {RECOGNISABLE} or more: {'; '.join(said)}."
    if len(sensitive) < len(PERTURBATIONS):
        return Judgement("not tested at this scale", evidence)
    if all(sensitive):
        return Judgement("reproduced", evidence)
    return Judgement("partly" if any(sensitive) else "not reproduced", evidence)


def _recognisable_drop(results: Results, leg: str, perturbation: str) -> Metric | None:
    """The loss at the strongest severity whose similarity is at least `RECOGNISABLE`, None if there is none."""
    rows = [
        row
        for row in results.select("AUC loss", leg=leg, perturbation=perturbation, subgroup="all")
        if results.one("similarity", leg=leg, perturbation=perturbation, severity=row.factors["severity"]).value
        >= RECOGNISABLE
    ]
    return max(rows, key=lambda row: float(row.factors["severity"])) if rows else None


def judge_o2(results: Results, leg: str, networks: tuple[str, ...]) -> Judgement:
    """Low-pass filtering lowers the AUC of microcalcifications at a milder severity than that of soft tissue lesions."""
    if few := _too_few_seeds(results, leg):
        return few
    holds, said = [], []
    for network in networks:
        broken = {name: _breaking(results, leg, network, name) for name in ("microcalcification", "soft tissue")}
        said.append(
            f"{network}: "
            + ", ".join(
                f"{name} {'at ' + format(value, 'g') + ' mm' if value is not None else 'at none'}"
                for name, value in broken.items()
            )
        )
        calc, soft = broken["microcalcification"], broken["soft tissue"]
        holds.append(calc is not None and (soft is None or calc < soft))
    ahead = [
        row
        for network in networks
        for row in results.select("excess loss of microcalcification", leg=leg, network=network)
    ]
    strongest = max(ahead, key=lambda row: row.value)
    evidence = (
        f"Mildest severity from which on the AUC is down (interval above 0): {'; '.join(said)}. Microcalcifications lose most beyond soft tissue "
        f"at {strongest.factors['severity']:g} mm ({strongest.factors['network']}): {_within(strongest)}."
    )
    if all(holds):
        return Judgement("reproduced", evidence)
    return Judgement("partly" if any(holds) else "not reproduced", evidence)


def _breaking(results: Results, leg: str, network: str, subgroup: str) -> float | None:
    """The mildest severity from which on every loss of the clean network has an interval above 0."""
    rows = results.select("low-pass AUC loss", leg=leg, network=network, subgroup=subgroup, training="clean")
    if not rows:
        raise UnmeasuredError(f"low-pass AUC loss of {network} for {subgroup}")
    mildest = None
    for row in sorted(rows, key=lambda each: -float(each.factors["severity"])):
        if (row.low or 0) <= 0:
            break
        mildest = float(row.factors["severity"])
    return mildest


def judge_o3(results: Results, leg: str, networks: tuple[str, ...], natural: bool) -> Judgement:
    """Re-training on filtered images does not restore the AUC, while it does on natural images."""
    if few := _too_few_seeds(results, leg):
        return few
    gone = {
        subgroup: [
            _is_gone(results, leg, network, subgroup, severity) for network in networks for severity in BLURRED[leg]
        ]
        for subgroup in ("microcalcification", "soft tissue")
    }
    said = [
        f"{network} {subgroup} at {severity:g} mm {_within(_left(results, leg, network, subgroup, severity))} of "
        f"{_loss(results, leg, network, subgroup, severity):.3f}"
        for subgroup in gone
        for network in networks
        for severity in BLURRED[leg]
    ]
    evidence = f"Loss of AUC that is left after re-training: {'; '.join(said)}."
    restored = True
    if natural:
        rows = [results.one("natural accuracy left lost", severity=severity) for severity in BLURRED[leg]]
        restored = all(row.value < LOST_SHARE for row in rows)
        evidence += (
            " Natural images: "
            + "; ".join(
                f"a share of {_within(row)} of the loss is left at {row.factors['severity']:g} mm" for row in rows
            )
            + "."
        )
        invariant = results.one(
            "blur-augmented AUC loss", leg=leg, subgroup="microcalcification", severity=BLURRED[leg][0]
        )
        evidence += (
            f" A blur-augmented network loses {_within(invariant)} on microcalcifications at {BLURRED[leg][0]:g} mm."
        )
        if (invariant.low or 0) <= 0:
            return Judgement("not reproduced", evidence)
    if not all(gone["microcalcification"]):
        return Judgement("partly" if any(gone["microcalcification"]) else "not reproduced", evidence)
    return Judgement("reproduced" if all(gone["soft tissue"]) and restored else "partly", evidence)


def _left(results: Results, leg: str, network: str, subgroup: str, severity: float) -> Metric:
    return results.one(
        "low-pass AUC loss", leg=leg, network=network, subgroup=subgroup, training="filtered", severity=severity
    )


def _loss(results: Results, leg: str, network: str, subgroup: str, severity: float) -> float:
    return results.one(
        "low-pass AUC loss", leg=leg, network=network, subgroup=subgroup, training="clean", severity=severity
    ).value


def _is_gone(results: Results, leg: str, network: str, subgroup: str, severity: float) -> bool:
    """The clean network loses much, and re-training leaves most of that loss, with an interval above 0."""
    left, loss = _left(results, leg, network, subgroup, severity), _loss(results, leg, network, subgroup, severity)
    return loss >= SMALL_LOSS and (left.low or 0) > 0 and left.value >= LOST_SHARE * loss


def _o1(leg: str, title: str, control: str) -> Claim:
    return Claim(
        id=f"O1-{leg}",
        statement=f"Mammogram classifiers, too, are sensitive to the perturbations to which natural-image classifiers are ({title}).",
        source="abstract",
        measure="Loss of AUC under adversarial (PGD), universal, noise and low-pass perturbation, mean over seeds; interval by resampling seeds and "
        "women. Only the low-pass filter is certain to be one of the paper's four; the other three are our reading of its abstract.",
        rule=f"At the strongest severity that keeps a mean structural similarity of {RECOGNISABLE}: reproduced if the interval of every loss lies above 0, "
        f"partly if that of some does. Needs {MINIMAL_SEEDS} seeds and a clean AUC of {USEFUL}.",
        control=control,
        judge=partial(judge_o1, leg=leg),
    )


CLAIMS = (
    _o1(
        "phantoms",
        "phantoms",
        "The same severities on natural images; universal perturbations are measured on exams they were not made from.",
    ),
    _o1(
        "mias",
        "mini-MIAS patches, lesion against normal",
        "The same severities on natural images; folds never share a woman.",
    ),
    Claim(
        id="O2-phantoms",
        statement="Low-pass filtering degrades the visibility of microcalcifications (phantoms).",
        source="abstract",
        measure="AUC of malignant microcalcifications and of malignant soft tissue lesions, each against all breasts that are not malignant, by cut-off.",
        rule="Reproduced if microcalcifications break (loss with an interval above 0, at this and every stronger severity) at a milder severity than soft "
        "tissue does; not reproduced if at the same or a stronger one.",
        control="Visibility without a network: contrast to noise and model observers of the same lesions.",
        judge=partial(judge_o2, leg="phantoms", networks=("four-view",)),
    ),
    Claim(
        id="O2-predictions",
        statement="Low-pass filtering degrades the visibility of microcalcifications (published predictions).",
        source="abstract; data of the follow-up",
        measure="The same two AUCs from the published predictions of two networks, five seeds each.",
        rule="As for the phantoms, for both networks; partly if for one of them.",
        control="The readers' answers, and the networks re-trained on filtered images.",
        judge=partial(judge_o2, leg="predictions", networks=("dmv", "gmic")),
    ),
    Claim(
        id="O3-phantoms",
        statement="So invariance to low-pass filtering is undesirable for mammograms, in contrast to natural images (phantoms).",
        source="abstract",
        measure="What re-training on filtered images leaves of the loss of AUC, at 2 and 4 mm; the same for accuracy on natural images; loss of a "
        "blur-augmented network on microcalcifications.",
        rule=f"Information counts as gone where the clean network loses at least {SMALL_LOSS} and re-training leaves half of that or more, interval above 0. "
        "Reproduced if it is gone for both kinds of lesion at both severities and less than half of the loss is left on natural images; partly "
        "if it is gone for microcalcifications alone, or at one severity; not reproduced otherwise, or if a blur-augmented network loses nothing.",
        control="Soft tissue lesions and natural images, where re-training should restore the AUC; model observers, who need no training.",
        judge=partial(judge_o3, leg="phantoms", networks=("four-view",), natural=True),
    ),
    Claim(
        id="O3-predictions",
        statement="So invariance to low-pass filtering is undesirable for mammograms (published predictions).",
        source="abstract; data of the follow-up",
        measure="The same from the published predictions of networks that were trained on filtered images.",
        rule="As for the phantoms, for both networks, without the natural arm and the blur-augmented network.",
        control="Soft tissue lesions, where re-training should restore the AUC.",
        judge=partial(judge_o3, leg="predictions", networks=("dmv", "gmic"), natural=False),
    ),
)
