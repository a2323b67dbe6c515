"""The four claims of Pang et al. (2021), and three statements of theory, declared with
their rules before the run that decides them.

Each `judge_...` sees the metric rows of a run and nothing else. Thresholds are the
reproduction's own: the paper's are not known. Read `ROWS` (what is measured), then
`_side` (how an interval meets a limit), `_control` (what must hold before anything is
decided), then the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustbook.results import Claim, Judgement, Metric, Results, Row, Verdict

ROWS = (
    Row("seeds", "", ""),
    Row("images", "", "dataset title"),
    Row("Bayesian network", "", "dataset network"),
    Row("temperature", "", "dataset"),
    # Every network
    Row("clean accuracy", "share", "dataset network"),
    Row("clean accuracy lead", "share", "dataset network over_network"),
    Row("accuracy under attack", "share", "attack budget dataset network way"),
    Row("lead under attack", "share", "dataset first over_network way"),
    Row("relative spread", "", "dataset layer network"),
    Row("variational bound", "nats per training image", "dataset network seed"),
    Row("balance of deviations", "", "dataset layer network seed"),
    Row("divergence from the prior", "nats per training image", "dataset network"),
    # How strong the attack is
    Row("accuracy by effort", "share", "dataset network samples steps"),
    Row("drop with twice the effort", "share", "dataset effort network"),
    Row("accuracy at a large budget", "share", "dataset network"),
    # P2
    Row("mean accuracy under interference", "share", "dataset network"),
    Row(
        "accuracy under interference", "share", "dataset interference network severity"
    ),
    Row("lead under interference", "share", "dataset interference over_network"),
    # P3
    Row("AUROC", "", "dataset inputs network score"),
    Row("AUROC lead over max-softmax", "", "dataset inputs"),
    Row("fooled beside the averaged attack", "share", "dataset inputs"),
    # The sweep
    Row("sweep: lead under attack", "share", "dataset prior_sd temperature way"),
    Row("sweep: clean accuracy", "share", "dataset prior_sd temperature"),
    # Theory
    Row("averaged gradient over a sample's", "", "dataset"),
    Row("failed attacks where gradients cancel, less elsewhere", "share", "dataset"),
    Row("lead lost to the strong attack", "share", "dataset"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""

MINIMAL_SEEDS = 3
LEAD = 0.1
"""The smallest lead under attack that matters: one attacked image in ten."""
INTERFERENCE = 0.02
"""The smallest lead under interference that matters: one image in fifty, over kinds and
severities that take far more.
"""
ALARM_LEAD, ALARM = 0.02, 0.6
"""The smallest lead of an alarm's AUROC over max-softmax, and the smallest AUROC of an
alarm.
"""
MATCHED = 0.05
"""Clean accuracies that differ by more are not matched."""
CONVERGED = 0.05
"""An attack is too weak if twice the effort takes more accuracy than this, half of the
smallest lead that matters.
"""
LEFT = 0.1
"""What an attack may leave at a large budget, where no image should survive."""
FEWEST = 0.05
"""An attack that leaves fewer of the control's answers leaves nothing to compare; one
that leaves more than 1 less `LEAD` leaves no room for a lead.
"""
FOOLED = 0.8
"""An attacker who avoids the alarm must fool this share of what the averaged attack
fools, else an alarm that survives says nothing of him.
"""
COLLAPSED = 0.01
"""Mean deviation over mean absolute weight below which a stochastic layer counts as
deterministic.
"""
CANCELLING = 0.5
"""Below this the averaged gradient has lost half of its length, or more."""

BNN, CNN, CONTROL, PENALISED = "stoch+stoch", "CNN", "matched control", "L2 CNN"
SPLIT = "det+stoch"
NAMES = {
    "mnist": "MNIST",
    "gtsrb": "traffic signs",
    "cifar10": "photographs",
    "cifar10-jpeg": "photographs",
}


def _side(metric: Metric, limit: float) -> str:
    """Where the interval lies: "above" the limit, "below" it, or "open"."""
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return "above" if low > limit else "below" if high < limit else "open"


def _within(metric: Metric) -> str:
    """A value with its interval, for the evidence."""
    if metric.low is None or metric.high is None:
        return rounded(metric.value)
    return f"{rounded(metric.value)} [{rounded(metric.low)}, {rounded(metric.high)}]"


def rounded(number: float, digits: int = 3) -> str:
    """A number with some digits, without a sign where they are all 0."""
    return f"{round(number, digits) + 0.0:.{digits}f}"


def points(metric: Metric) -> str:
    """A lead in percentage points with its interval, for a sentence."""
    value, low, high = (
        rounded(100 * number, 0)
        for number in (metric.value, metric.low or 0, metric.high or 0)
    )
    return f"{value} points ({low} to {high})".replace("-", "−")


def name(dataset: str) -> str:
    """A data set in a sentence."""
    return NAMES.get(dataset, dataset)


def datasets(results: Results) -> list[str]:
    """The data sets of the run, the main one first."""
    return [str(row.factors["dataset"]) for row in results.select("images")]


def bayesian(results: Results, dataset: str) -> str:
    """Which network is the Bayesian one on a data set."""
    return str(results.one("Bayesian network", dataset=dataset).factors["network"])


def lead(results: Results, dataset: str, first: str, over: str, way: str) -> Metric:
    """The lead of one network over another under attack, on images that both get right
    when clean.
    """
    return results.one(
        "lead under attack", dataset=dataset, first=first, over_network=over, way=way
    )


def _over(results: Results, dataset: str) -> str:
    """What the intervals of a sentence are over."""
    images = results.one("images", dataset=dataset).value
    seeds = results.one("seeds").value
    return (
        f" Intervals: 95 %, Student's t over {seeds:.0f} repetitions, each with "
        f"trainings and {images:.0f} images of its own."
    )


def _control(results: Results, dataset: str) -> str:
    """Which control fails on a data set, or nothing."""
    network = bayesian(results, dataset)
    gap = results.one(
        "clean accuracy lead", dataset=dataset, network=network, over_network=CONTROL
    )
    if abs(gap.value) > MATCHED:
        return f"clean accuracies differ by {points(gap)}"
    for row in results.select("drop with twice the effort", dataset=dataset):
        if row.value > CONVERGED:
            return (
                f"twice the {row.factors['effort']} take another {points(row)} from "
                f"{row.factors['network']}"
            )
    for row in results.select("accuracy at a large budget", dataset=dataset):
        if row.value > LEFT:
            return f"the attack leaves {row.value:.0%} at a large budget"
    return _room(results, dataset)


def _room(results: Results, dataset: str) -> str:
    """Why no lead could show on a data set, or nothing: what the attacks leave of the
    control's answers, mean over budgets.
    """
    for way in ("transfer", "EOT"):
        rows = results.select(
            "accuracy under attack",
            dataset=dataset,
            network=CONTROL,
            attack="PGD",
            way=way,
        )
        left = sum(row.value for row in rows) / len(rows)
        if left < FEWEST:
            return f"attacks leave {left:.0%} of the control's answers, too few to lead"
        if left > 1 - LEAD:
            return f"attacks leave {left:.0%} of the control's answers, no room to lead"
    return ""


Found = tuple[Verdict, str, str]
"""Verdict, evidence and answer on one data set."""


def _by_dataset(
    results: Results,
    judge: Callable[[Results, str], Found],
    among: Callable[[Results, str], bool] = lambda _results, _dataset: True,
) -> Judgement:
    """The findings of all data sets together: what they agree on, "mixed" where some
    hold and others do not, what is decided where others are inconclusive.
    """
    seeds = results.one("seeds").value
    if seeds < MINIMAL_SEEDS:
        return Judgement(
            "not tested at this scale",
            f"The rule needs {MINIMAL_SEEDS} repetitions; this run has {seeds:.0f}.",
            f"This needs {MINIMAL_SEEDS} repetitions.",
        )
    found = {
        dataset: judge(results, dataset)
        for dataset in datasets(results)
        if among(results, dataset)
    }
    if not found:
        return Judgement(
            "not tested at this scale",
            "No network of this run is what the rule asks about.",
            "This run has no network that the claim is about.",
        )
    evidence = " ".join(
        f"{name(dataset)} ({verdict}): {text}{_over(results, dataset)}"
        for dataset, (verdict, text, _) in found.items()
    )
    verdict = _together({dataset: each[0] for dataset, each in found.items()})
    return Judgement(verdict, evidence, _answer(verdict, found))


def _together(verdicts: Mapping[str, Verdict]) -> Verdict:
    decided = set(verdicts.values()) - {"inconclusive"}
    if not decided:
        return "inconclusive"
    if len(decided) > 1:
        return "mixed"
    # What is open on one data set cannot make a claim held on all.
    left = decided.pop()
    return (
        "mixed"
        if left == "reproduced" and "inconclusive" in verdicts.values()
        else left
    )


def _answer(verdict: Verdict, found: Mapping[str, Found]) -> str:
    """The sentence of the first data set with the verdict, and where it is another."""
    dataset, sentence = next(
        ((name, each[2]) for name, each in found.items() if each[0] == verdict),
        next((name, each[2]) for name, each in found.items()),
    )
    others = [
        f"{each[0]} on {name(other)}"
        for other, each in found.items()
        if other != dataset and each[0] != found[dataset][0]
    ]
    more = f" ({', '.join(others)})" if others else ""
    return f"On {name(dataset)}, {sentence}{more}."


def judge_p1(results: Results) -> Judgement:
    """The BNN beats its matched control under transfer, and under attacks on itself."""
    return _by_dataset(results, _transfer_and_white_box)


def _transfer_and_white_box(results: Results, dataset: str) -> Found:
    network = bayesian(results, dataset)
    leads = {
        way: lead(results, dataset, network, CONTROL, way)
        for way in ("transfer", "EOT")
    }
    penalised = lead(results, dataset, network, PENALISED, "transfer")
    others = ", ".join(
        f"{row.factors['first']} {_within(row)}"
        for row in results.select(
            "lead under attack", dataset=dataset, over_network=CONTROL, way="transfer"
        )
        if row.factors["first"] != network
    )
    failed = _control(results, dataset)
    evidence = (
        f"the Bayesian network ({network}) leads its matched control by "
        f"{_within(leads['transfer'])} under attacks made on the CNN, by "
        f"{_within(leads['EOT'])} attacked itself; it leads the L2 network by "
        f"{_within(penalised)} under the former. Leads of others: {others}. Controls: "
        f"{failed or 'none failed'}."
    )
    if failed:
        return "inconclusive", evidence, failed
    transfer, own = (_side(leads[way], LEAD) for way in ("transfer", "EOT"))
    if transfer == "below":
        return (
            "not reproduced",
            evidence,
            f"the Bayesian network's lead is {points(leads['transfer'])} over a "
            "network trained alike without a posterior",
        )
    if transfer == "open":
        return (
            "inconclusive",
            evidence,
            f"the lead over a matched network stays open: {points(leads['transfer'])}",
        )
    if own == "above":
        return (
            "reproduced",
            evidence,
            f"the lead is {points(leads['EOT'])} even where the attacker knows the "
            "posterior",
        )
    return (
        "partly",
        evidence,
        f"the lead under transferred attacks is {points(leads['transfer'])}; attacked "
        f"itself it is {points(leads['EOT'])}",
    )


def judge_p2(results: Results) -> Judgement:
    """The BNN stands interference better than its matched control and than the
    L2-regularised network.
    """
    return _by_dataset(results, _interference)


def _interference(results: Results, dataset: str) -> Found:
    leads = {
        over: results.one(
            "lead under interference",
            dataset=dataset,
            over_network=over,
            interference="all",
        )
        for over in (CONTROL, PENALISED, CNN)
    }
    evidence = (
        "mean accuracy over five kinds of interference at five severities: the "
        f"Bayesian network leads its matched control by {_within(leads[CONTROL])}, the "
        f"L2 network by {_within(leads[PENALISED])}, the CNN by "
        f"{_within(leads[CNN])}."
    )
    main, penalised = (
        _side(leads[over], INTERFERENCE) for over in (CONTROL, PENALISED)
    )
    said = points(leads[CONTROL])
    if main == "below":
        return "not reproduced", evidence, f"the lead under interference is {said}"
    if main == "open":
        return (
            "inconclusive",
            evidence,
            f"the lead under interference stays open: {said}",
        )
    if penalised == "above":
        return (
            "reproduced",
            evidence,
            f"the lead is {said}, and {points(leads[PENALISED])} over plain "
            "regularisation",
        )
    return (
        "partly",
        evidence,
        f"the lead is {said}, but only {points(leads[PENALISED])} over plain "
        "regularisation",
    )


def judge_p3(results: Results) -> Judgement:
    """Mutual information raises the alarm, and keeps doing so when the attacker knows
    what it usually is.
    """
    return _by_dataset(results, _alarm)


def _alarm(results: Results, dataset: str) -> Found:
    network = bayesian(results, dataset)

    def area(inputs: str, score: str = "mutual information") -> Metric:
        return results.one(
            "AUROC", dataset=dataset, network=network, score=score, inputs=inputs
        )

    ahead = results.one(
        "AUROC lead over max-softmax", dataset=dataset, inputs="transfer"
    )
    fooled = {
        inputs: results.one(
            "fooled beside the averaged attack", dataset=dataset, inputs=inputs
        )
        for inputs in ("quiet", "matching")
    }
    # Whoever raises the alarm may watch for too much or for both.
    best = {
        inputs: max(
            (area(inputs, score) for score in ("mutual information", "two-sided")),
            key=lambda row: row.value,
        )
        for inputs in ("EOT", "quiet", "matching")
    }
    listed = "; ".join(
        f"{inputs} {_within(area(inputs))}, two-sided "
        f"{_within(area(inputs, 'two-sided'))}"
        for inputs in ("transfer", "EOT", "quiet", "matching")
    )
    evidence = (
        f"AUROC of mutual information, clean against attacked: {listed}. Lead over the "
        f"CNN's max-softmax under transfer: {_within(ahead)}. Of what the averaged "
        f"attack fools, the quiet one fools {_within(fooled['quiet'])}, the matching "
        f"one {_within(fooled['matching'])}."
    )
    first, usual = _side(ahead, ALARM_LEAD), _side(area("transfer"), ALARM)
    sides = [_side(each, ALARM) for each in best.values()]
    matched = best["matching"]
    said = f"{rounded(matched.value, 2)} ({_span(matched)})"
    if first == "below" or usual == "below":
        return (
            "not reproduced",
            evidence,
            "the alarm is no better than the confidence of the attacked network: AUROC "
            f"{rounded(ahead.value, 2)} ({_span(ahead)}) ahead",
        )
    if set(sides) == {"above"}:
        if fooled["matching"].value < FOOLED or fooled["quiet"].value < FOOLED:
            return (
                "inconclusive",
                evidence,
                "the attacker who avoids the alarm hardly fools the network",
            )
        if {first, usual} == {"above"}:
            return (
                "reproduced",
                evidence,
                f"the alarm survives an attacker who matches it: AUROC {said}",
            )
    if {first, usual} == {"above"} and "below" in sides:
        return (
            "partly",
            evidence,
            f"the alarm sees transferred attacks, but not who knows it: AUROC {said}",
        )
    return "inconclusive", evidence, f"how well the alarm sees stays open: AUROC {said}"


def _span(metric: Metric) -> str:
    low, high = (rounded(each or 0, 2) for each in (metric.low, metric.high))
    return f"{low} to {high}".replace("-", "−")


def judge_p4(results: Results) -> Judgement:
    """A stochastic classifier on a deterministic extractor does as well as a network
    that is stochastic throughout, and better than one that is not stochastic.
    """
    return _by_dataset(
        results,
        _designs,
        lambda results, dataset: bayesian(results, dataset) == BNN,
    )


def _designs(results: Results, dataset: str) -> Found:
    ways = ("transfer", "EOT")
    whole = {way: lead(results, dataset, SPLIT, BNN, way) for way in ways}
    gain = {way: lead(results, dataset, SPLIT, CONTROL, way) for way in ways}
    spreads = results.select("relative spread", dataset=dataset, network=SPLIT)
    spread = min((row.value for row in spreads if row.value > 0), default=0.0)
    listed = "; ".join(
        f"under {way} det+stoch leads stoch+stoch by {_within(whole[way])}, the "
        f"matched det+det by {_within(gain[way])}"
        for way in ways
    )
    failed = _control(results, dataset)
    if spread < COLLAPSED:
        failed = "the posterior of det+stoch collapsed"
    evidence = (
        f"{listed}. Smallest mean deviation over mean weight of its stochastic layers: "
        f"{spread:.2f}. Controls: {failed or 'none failed'}."
    )
    if failed:
        return "inconclusive", evidence, failed
    sides = {way: _side(whole[way], -LEAD) for way in ways}
    over = _side(gain["transfer"], LEAD)
    if over == "below":
        return (
            "not reproduced",
            evidence,
            "a stochastic classifier gains nothing that matters: "
            f"{points(gain['transfer'])} over the matched network",
        )
    if "below" in sides.values():
        worst = min(whole.values(), key=lambda row: row.value)
        return (
            "not reproduced",
            evidence,
            f"a stochastic classifier is not enough: {points(worst)} beside the "
            "network that is stochastic throughout",
        )
    if set(sides.values()) == {"above"} and over == "above":
        return (
            "reproduced",
            evidence,
            f"a stochastic classifier is enough: {points(gain['transfer'])} over the "
            "matched network",
        )
    return (
        "inconclusive",
        evidence,
        f"what a stochastic classifier gains stays open: {points(gain['transfer'])}",
    )


# Theory
# --------------------------------------------------------------------------------------


def judge_t1(results: Results) -> Judgement:
    """Averaged gradients vanish, and attacks fail where they do."""
    return _by_dataset(results, _vanishing)


def _vanishing(results: Results, dataset: str) -> Found:
    ratio = results.one("averaged gradient over a sample's", dataset=dataset)
    more = results.one(
        "failed attacks where gradients cancel, less elsewhere", dataset=dataset
    )
    evidence = (
        "the averaged gradient has "
        f"{_within(ratio)} of the mean length of a sample's; where it has less than "
        f"the median image's, attacks fail more often by {_within(more)}."
    )
    if failed := _room(results, dataset):
        return "inconclusive", evidence, failed
    said = f"averaging leaves {ratio.value:.0%} of a gradient's length"
    small, fails = _side(ratio, CANCELLING), _side(more, 0.0)
    if small == "below" and fails == "above":
        return "reproduced", evidence, f"{said}, and attacks fail where it leaves less"
    if small == "above" or fails == "below":
        return "not reproduced", evidence, f"{said}, and attacks do not fail for it"
    return "inconclusive", evidence, f"{said}; whether attacks fail for it stays open"


def judge_t2(results: Results) -> Judgement:
    """The lead under transfer does not survive attacks on the network itself."""
    return _by_dataset(results, _susceptible)


def _susceptible(results: Results, dataset: str) -> Found:
    own = lead(results, dataset, bayesian(results, dataset), CONTROL, "EOT")
    failed = _control(results, dataset)
    evidence = f"attacked itself the Bayesian network leads by {_within(own)}."
    said = f"attacked itself it leads its matched network by {points(own)}"
    side = _side(own, LEAD)
    if side == "below" and not failed:
        return "reproduced", evidence, said
    if side == "above" and not failed:
        return "not reproduced", evidence, said
    return "inconclusive", evidence, failed or said


def judge_t3(results: Results) -> Judgement:
    """What a weak attack leaves of a lead, a strong one takes."""
    return _by_dataset(results, _adapted)


def _adapted(results: Results, dataset: str) -> Found:
    lost = results.one("lead lost to the strong attack", dataset=dataset)
    evidence = (
        "from the attack on one sample at a time to the averaged one the lead over the "
        f"matched control falls by {_within(lost)}."
    )
    if failed := _room(results, dataset):
        return "inconclusive", evidence, failed
    said = f"the strong attack takes {points(lost)} from the lead"
    side = _side(lost, 0.0)
    if side == "above":
        return "reproduced", evidence, said
    if side == "below" or _side(lost, LEAD) == "below":
        return "not reproduced", evidence, said
    return "inconclusive", evidence, said


REPETITIONS = (
    f"Needs {MINIMAL_SEEDS} repetitions. Each data set is judged by itself; mixed "
    "where they disagree."
)
CONTROLS = (
    f"Inconclusive where a control fails: clean accuracies more than {MATCHED} apart; "
    f"twice the steps or samples take more than {CONVERGED} from the network or its "
    f"control; more than {LEFT} is left at eight times the budget; the attack leaves "
    f"less than {FEWEST} of the control's answers (nothing to compare) or more than "
    f"{1 - LEAD} (no room for a lead)."
)

CLAIMS = (
    Claim(
        id="P1",
        statement="A Bayesian network is significantly more robust, without "
        "adversarial training, to attacks generated against a deterministic "
        "network.",
        source="abstract",
        measure="Accuracy under attack, mean over half and all of epsilon (on "
        "photographs all of it), on images that both networks get right when clean: "
        "the Bayesian network less a network trained by the same optimiser, schedule "
        "and epochs from the same start without a posterior; attacks made on a CNN of "
        "another seed (transfer) and on each network itself (averaged margin, adaptive "
        "momentum, three starts).",
        rule=f"Reproduced if both leads lie above {LEAD}; partly if the one under "
        "transfer does and the other does not (a statement about transfer); not "
        f"reproduced if the lead under transfer lies below {LEAD}; else inconclusive. "
        f"{CONTROLS} {REPETITIONS}",
        control="The matched network, inside the rule; an L2-regularised network, MC "
        "dropout, an ensemble, last-layer Laplace, SWAG, cyclic stochastic-gradient "
        "MCMC, weight noise, and the network by two other gradient estimators beside "
        "it; temperature and prior swept.",
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
        "images that both networks get right when clean: the Bayesian network less its "
        "matched control, and less the L2-regularised network.",
        rule=f"Reproduced if both leads lie above {INTERFERENCE}; partly if only the "
        f"one over the control does; not reproduced if that one lies below "
        f"{INTERFERENCE}; else inconclusive. {REPETITIONS}",
        control="The matched network, and an L2 penalty from the same prior "
        "(regularisation without a posterior).",
        judge=judge_p2,
    ),
    Claim(
        id="P3",
        statement="The posterior can act as an early warning of malicious activity.",
        source="abstract, a remark that the paper does not measure",
        measure="AUROC of mutual information, clean against attacked images at "
        "epsilon: attacked on the CNN, on the Bayesian network, by an attacker who "
        "keeps it low, and by one who gives it the distribution of other clean images. "
        "The alarm may watch for too much, or for what is unusual either way.",
        rule=f"Not reproduced if under transfer it leads the CNN's max-softmax by less "
        f"than {ALARM_LEAD} or is below {ALARM}; reproduced if it leads by more, and "
        f"the better of both alarms is above {ALARM} against every other attacker, "
        "each of whom fools four fifths of what the averaged attack does; partly if it "
        f"leads, and against one of them it is below {ALARM}; else inconclusive. "
        f"{REPETITIONS}",
        control="The CNN's max-softmax as the plain alarm; the share that attackers "
        "who avoid the alarm still fool.",
        judge=judge_p3,
    ),
    Claim(
        id="P4",
        statement=(
            "A stochastic classifier after a deterministic feature extractor is enough."
        ),
        source="abstract",
        measure="The four designs (extractor + classifier) of one network, trained "
        "alike, as in P1, where both parts are trained.",
        rule=f"Reproduced if under transfer and attacked itself det+stoch is not "
        f"{LEAD} below stoch+stoch, and under transfer {LEAD} above the matched "
        f"det+det; not reproduced if it is that much below the former, or gains less "
        f"than {LEAD} over the latter; else inconclusive. {CONTROLS} {REPETITIONS}",
        control="The matched det+det, inside the rule; a posterior whose mean "
        f"deviation is below {COLLAPSED} of its mean weight is not judged.",
        judge=judge_p4,
    ),
)

STATEMENTS = (
    Claim(
        id="T1",
        statement="If gradients cancel over the posterior (Carbone et al. 2020), the "
        "averaged gradient is short, and attacks fail where it is.",
        source="theory, in the limit of much data",
        measure="Length of the loss gradient averaged over 50 samples, over the mean "
        "length of a sample's; share of failed attacks on images below the median of "
        "it, less that above.",
        rule=f"Holds if the ratio lies below {CANCELLING} and the difference above 0; "
        f"does not if the ratio lies above {CANCELLING} or the difference below 0. "
        f"{REPETITIONS}",
        control="The ratio of independent gradients is 0.14, of equal ones 1.",
        judge=judge_t1,
    ),
    Claim(
        id="T2",
        statement="If Bayesian networks are as susceptible as others (Feng et al. "
        "2024), no lead is left where they are attacked themselves.",
        source="later work",
        measure="The lead over the matched control under the averaged attack, as in "
        "P1.",
        rule=f"Holds if it lies below {LEAD}, does not if it lies above. {CONTROLS} "
        f"{REPETITIONS}",
        control="Those of P1.",
        judge=judge_t2,
    ),
    Claim(
        id="T3",
        statement="If leads come from attacks that do not fit (Zimmermann 2019), an "
        "attack on the averaged prediction takes more of the lead than one on single "
        "samples.",
        source="later work",
        measure="The lead under ten steps that follow one sample at a time, less that "
        "under the averaged attack.",
        rule=f"Holds if it lies above 0, does not if it lies below {LEAD} or 0; "
        f"needs {MINIMAL_SEEDS} repetitions.",
        control="Both networks are attacked by both attacks.",
        judge=judge_t3,
    ),
)
