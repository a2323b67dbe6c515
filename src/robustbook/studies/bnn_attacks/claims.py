"""The four claims of Pang et al. (2021), declared with their rules before any result
was known.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own: the paper's are not known. A rule is applied to every data set of
the run; where they disagree the verdict is "partly".
"""

from __future__ import annotations

from collections.abc import Callable

from robustbook.results import Claim, Judgement, Metric, Results, Row, Verdict

ROWS = (
    Row("seeds", "", ""),
    Row("images", "", "dataset title"),
    Row("clean accuracy", "share", "dataset network"),
    Row("accuracy under attack", "share", "attack budget dataset network way"),
    Row("clean accuracy lead", "share", "dataset network over_network"),
    Row("relative spread", "", "dataset layer network"),
    Row("variational bound", "nats per training image", "dataset network seed"),
    Row("balance of deviations", "", "dataset layer network seed"),
    Row("predictive variance", "", "dataset network"),
    Row("mutual information when clean", "nats", "dataset network"),
    Row("lead under attack", "share", "dataset first over_network way"),
    Row("lead under attack, all images", "share", "dataset first over_network way"),
    Row("mean accuracy under interference", "share", "dataset network"),
    Row(
        "accuracy under interference", "share", "dataset interference network severity"
    ),
    Row("lead under interference", "share", "dataset interference over_network"),
    Row("C&W L2 found", "share", "dataset network way"),
    Row("C&W L2 distance", "pixel units", "dataset network way"),
    Row("alarm weight", "", "dataset network seed"),
    Row("AUROC", "", "dataset inputs network score"),
    Row("AUROC lead over max-softmax", "", "dataset inputs"),
    Row("check: EOT less transfer", "share", "budget dataset network"),
    Row("accuracy by samples in the gradient", "share", "dataset samples"),
    Row(
        "check: EOT from a random start less transfer",
        "share",
        "dataset network samples",
    ),
    Row("check: accuracy at a large budget", "share", "dataset"),
    Row("check: AUROC of two sets of clean images", "", "dataset"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

MINIMAL_SEEDS = 3
AHEAD = 0.02
ALARM = 0.6
COLLAPSED = 0.01
"""Mean deviation over mean absolute weight below which a stochastic layer counts as
deterministic.
"""

BNN, CNN, SECOND, PENALISED = "stoch+stoch", "CNN", "second CNN", "L2 CNN"


def _above(metric: Metric, limit: float = 0.0) -> bool:
    """Whether the whole interval lies above the limit."""
    return metric.low is not None and metric.low > limit


def _within(metric: Metric) -> str:
    """A value with its interval, for a sentence."""
    if metric.low is None or metric.high is None:
        return rounded(metric.value)
    return f"{rounded(metric.value)} [{rounded(metric.low)}, {rounded(metric.high)}]"


def rounded(number: float, digits: int = 3) -> str:
    """A number with some digits, without a sign where they are all 0."""
    return f"{round(number, digits) + 0.0:.{digits}f}"


def _over(results: Results, dataset: str) -> str:
    """What the intervals of a sentence are over."""
    images = results.one("images", dataset=dataset).value
    return f" Intervals: 95 % over seeds and {images:.0f} images."


def _by_dataset(
    results: Results, judge: Callable[[Results, str], Judgement]
) -> Judgement:
    """The judgements of all data sets together, each named: what they agree on, else
    "partly".
    """
    seeds = results.one("seeds").value
    if seeds < MINIMAL_SEEDS:
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} seeds; this run has {seeds:.0f}.",
        )
    found = {str(row.factors["dataset"]): row for row in results.select("images")}
    judged = [judge(results, dataset) for dataset in found]
    verdicts = {each.verdict for each in judged} - {"not tested at this scale"}
    verdict: Verdict = "not tested at this scale"
    if verdicts:
        verdict = next(iter(verdicts)) if len(verdicts) == 1 else "partly"
    titles = [str(row.factors["title"]) for row in found.values()]
    sentences = [
        f"{title} ({each.verdict}): {each.evidence}"
        for title, each in zip(titles, judged, strict=True)
    ]
    return Judgement(verdict, " ".join(sentences))


def judge_p1(results: Results) -> Judgement:
    """The BNN beats a second CNN under transfer, and under attacks on itself."""
    return _by_dataset(results, _transfer_and_white_box)


def _transfer_and_white_box(results: Results, dataset: str) -> Judgement:
    def lead(way: str, over: str = SECOND, first: str = BNN) -> Metric:
        return results.one(
            "lead under attack",
            dataset=dataset,
            first=first,
            over_network=over,
            way=way,
        )

    transfer, white_box = lead("transfer"), lead("EOT")
    penalised, ensemble, noise = (
        lead("transfer", PENALISED),
        lead("transfer", first="ensemble"),
        lead("transfer", first="weight noise"),
    )
    weak = results.one(
        "check: EOT less transfer", dataset=dataset, network=BNN, budget=1.0
    )
    alone = results.one(
        "check: EOT from a random start less transfer", dataset=dataset, network=BNN
    )
    evidence = (
        "under attacks transferred from the CNN the BNN leads a second CNN by "
        f"{_within(transfer)} and the L2-regularised one by {_within(penalised)}; the "
        f"ensemble leads the second CNN by {_within(ensemble)} and weight noise by "
        f"{_within(noise)}. Attacked itself with averaged gradients the BNN leads the "
        f"second CNN by {_within(white_box)}. Check: accuracy under EOT less that "
        f"under transfer is {_within(weak)}, from a random start alone "
        f"{_within(alone)}." + _over(results, dataset)
    )
    if not _above(transfer):
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if _above(white_box) else "partly", evidence)


def judge_p2(results: Results) -> Judgement:
    """The BNN stands interference better than the CNN and than the
    L2-regularised CNN.
    """
    return _by_dataset(results, _interference)


def _interference(results: Results, dataset: str) -> Judgement:
    lead = {
        over: results.one(
            "lead under interference",
            dataset=dataset,
            over_network=over,
            interference="all",
        )
        for over in (CNN, PENALISED, SECOND)
    }
    evidence = (
        "mean accuracy over five kinds of interference at five severities: the BNN "
        f"leads the CNN by {_within(lead[CNN])}, a second CNN by "
        f"{_within(lead[SECOND])}, the L2-regularised CNN by "
        f"{_within(lead[PENALISED])}." + _over(results, dataset)
    )
    if not _above(lead[CNN]):
        return Judgement("not reproduced", evidence)
    return Judgement("reproduced" if _above(lead[PENALISED]) else "partly", evidence)


def judge_p3(results: Results) -> Judgement:
    """Mutual information raises the alarm, and keeps doing so when the attack knows the
    BNN.
    """
    return _by_dataset(results, _alarm)


def _alarm(results: Results, dataset: str) -> Judgement:
    def area(inputs: str, score: str = "mutual information") -> Metric:
        return results.one(
            "AUROC", dataset=dataset, network=BNN, score=score, inputs=inputs
        )

    ahead = results.one(
        "AUROC lead over max-softmax", dataset=dataset, inputs="transfer"
    )
    evidence = (
        f"AUROC of mutual information is {_within(area('transfer'))} for inputs "
        f"crafted on the CNN ({_within(ahead)} ahead of the CNN's max-softmax), "
        f"{_within(area('EOT'))} for inputs crafted on the BNN, and "
        f"{_within(area('uncertainty-aware'))} where the attack also lowers it; "
        f"predictive entropy: {area('transfer', 'entropy').value:.3f}, "
        f"{area('EOT', 'entropy').value:.3f}, "
        f"{area('uncertainty-aware', 'entropy').value:.3f}." + _over(results, dataset)
    )
    if area("uncertainty-aware").value <= ALARM or not ahead.value > AHEAD:
        return Judgement("not reproduced", evidence)
    survives = (
        _above(ahead, AHEAD)
        and _above(area("EOT"), ALARM)
        and _above(area("uncertainty-aware"), ALARM)
    )
    return Judgement("reproduced" if survives else "partly", evidence)


def judge_p4(results: Results) -> Judgement:
    """A stochastic classifier on a deterministic extractor does as well as a network
    that is stochastic throughout.
    """
    return _by_dataset(results, _designs)


def _designs(results: Results, dataset: str) -> Judgement:
    def lead(way: str, over: str) -> Metric:
        return results.one(
            "lead under attack",
            dataset=dataset,
            first="det+stoch",
            over_network=over,
            way=way,
        )

    spreads = results.select("relative spread", dataset=dataset, network="det+stoch")
    spread = min((row.value for row in spreads if row.value > 0), default=0.0)
    sentences, holds = [], {}
    for way in ("transfer", "EOT"):
        against = {over: lead(way, over) for over in (BNN, "stoch+det", SECOND)}
        holds[way] = [
            (against[BNN].high or 0) >= 0,
            _above(against[SECOND]),
            _above(against["stoch+det"]),
        ]
        sentences.append(
            f"under {way} det+stoch leads stoch+stoch by {_within(against[BNN])}, "
            f"stoch+det by {_within(against['stoch+det'])}, det+det by "
            f"{_within(against[SECOND])}"
        )
    evidence = (
        "; ".join(sentences)
        + (
            ". Smallest mean deviation over mean weight of its stochastic layers: "
            f"{spread:.2f}."
        )
        + _over(results, dataset)
    )
    if spread < COLLAPSED:
        return Judgement(
            "not tested at this scale",
            "The posterior of det+stoch collapsed; " + evidence,
        )
    if not all(holds["transfer"][:2]):
        return Judgement("not reproduced", evidence)
    return Judgement(
        "reproduced" if all(holds["transfer"] + holds["EOT"]) else "partly", evidence
    )


CLAIMS = (
    Claim(
        id="P1",
        statement="A Bayesian network is significantly more robust, without "
        "adversarial training, to attacks generated against a deterministic "
        "network.",
        source="abstract",
        measure="Accuracy under PGD, mean over budgets of a quarter, half and all of "
        "epsilon, on images that both networks get right when "
        "clean: BNN (mean-field, all layers stochastic) less a second CNN, under "
        "attacks crafted on the CNN (transfer) and under attacks on "
        "each network itself (gradient averaged over the posterior, EOT).",
        rule="Reproduced if both intervals lie above 0; partly if only the one under "
        "transfer does (a statement about transfer, not about "
        "robustness); not reproduced if that one holds 0 or lies below. Needs 3 "
        "seeds. Each data set is judged by itself; partly where the data sets "
        "disagree.",
        control="A CNN of another seed, an L2-regularised CNN, MC dropout, a deep "
        "ensemble, last-layer Laplace and weight noise under the "
        "same attacks; EOT must not be weaker than transfer.",
        judge=judge_p1,
    ),
    Claim(
        id="P2",
        statement=(
            "A Bayesian network is more robust to input perturbation (signal "
            "interference)."
        ),
        source="abstract",
        measure="Mean accuracy over five kinds of interference at five severities, on "
        "images that both networks get right when clean: BNN "
        "less the CNN and less the L2-regularised CNN.",
        rule="Reproduced if both intervals lie above 0; partly if only the one against "
        "the CNN does; not reproduced if that one holds 0 or lies below. Needs 3 "
        "seeds. Each data set is judged by itself; partly where the data sets "
        "disagree.",
        control=(
            "The CNN with an L2 penalty from the same prior (regularisation without "
            "a posterior), and the second CNN."
        ),
        judge=judge_p2,
    ),
    Claim(
        id="P3",
        statement="The posterior can act as an early warning of malicious activity.",
        source="abstract",
        measure="AUROC of mutual information, clean against attacked inputs at "
        "epsilon: crafted on the CNN, crafted on the BNN (EOT), and by an "
        "attack that also lowers mutual information.",
        rule="Reproduced if mutual information leads the CNN's max-softmax by more "
        "than 0.02 for transferred attacks and its AUROC for the other "
        "two is above 0.6, intervals included; not reproduced if it is at most 0.6 "
        "for the uncertainty-aware attack or does not lead by 0.02; "
        "partly otherwise. Needs 3 seeds. Each data set is judged by itself; partly "
        "where the data sets disagree.",
        control=(
            "The CNN's max-softmax, predictive entropy, variation ratio and vote "
            "disagreement, and the alarms of the other posteriors."
        ),
        judge=judge_p3,
    ),
    Claim(
        id="P4",
        statement=(
            "A stochastic classifier after a deterministic feature extractor is enough."
        ),
        source="abstract",
        measure=(
            "The four designs (extractor + classifier) of one network under "
            "transfer and under EOT, as in P1."
        ),
        rule="Reproduced if under both det+stoch is not below stoch+stoch beyond the "
        "interval and leads stoch+det and det+det with intervals "
        "above 0; not reproduced if under transfer it is below stoch+stoch or does "
        "not lead det+det; partly otherwise. Needs 3 seeds. Each "
        "data set is judged by itself, one with a collapsed posterior is left out; "
        "partly where the data sets disagree.",
        control=(
            "Mean deviation over mean weight and predictive variance: a collapsed "
            "posterior is a deterministic network and is not judged."
        ),
        judge=judge_p4,
    ),
)
