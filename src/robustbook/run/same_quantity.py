"""Where the synthesis chapter and a paper's study measured the same quantity on
networks of one kind: both values.

Read `Match` first, then `comparison`, which looks at published records and at nothing
else.
"""

from __future__ import annotations

from dataclasses import dataclass

from robustbook import page
from robustbook.errors import UserError
from robustbook.results import Factor, Metric, Results
from robustbook.run.project import REFERENCE, Project, RunId
from robustbook.run.records import Record, load

SYNTHESIS = "synthesis"


@dataclass(frozen=True)
class Match:
    """A quantity of the synthesis chapter, `lens` of `kind`, and the row of a paper's
    study that measured it too.
    """

    lens: str
    kind: str
    study: str
    name: str
    factors: dict[str, Factor]


def _of_loss_metric(lens: str, name: str) -> list[Match]:
    trainings = {
        kind: kind.lower()
        for kind in ("natural", "FGSM", "gradient-regularised", "MinMax")
    }
    return [
        Match(
            lens,
            kind,
            "loss_metric",
            name,
            {"dataset": "mnist", "architecture": "cnn", "training": training},
        )
        for kind, training in trainings.items()
    ]


def _of_attacks(network: str, kind: str, way: str) -> Match:
    factors: dict[str, Factor] = {
        "dataset": "mnist",
        "network": network,
        "attack": "PGD",
        "way": way,
        "budget": 1.0,
    }
    return Match(
        "robust accuracy", kind, "bnn_attacks", "accuracy under attack", factors
    )


MATCHES = (
    *_of_loss_metric("psi", "kind: median psi"),
    *_of_loss_metric("robust accuracy", "kind: strong robust accuracy"),
    _of_attacks("stoch+stoch", "mean-field VI", "EOT"),
)
"""At one budget on one data set; the networks of the two studies differ in size,
training images and epochs.
"""


def comparison(project: Project) -> list[dict[str, str]]:
    """One line a quantity that both records hold, at equal budget and data set; none
    without a record of this chapter.
    """
    own = _read(project, SYNTHESIS)
    if own is None:
        return []
    lines = []
    for match in MATCHES:
        other = _read(project, match.study)
        if other is None or not _comparable(own, other):
            continue
        here = Results(own.metrics).select(match.lens, kind=match.kind)
        there = Results(other.metrics).select(match.name, **match.factors)
        if here and len(there) == 1:
            lines.append(_line(match, here, there[0]))
    return lines


def _read(project: Project, study: str) -> Record | None:
    """The reference record of a study, None where it is missing or cannot be read (its
    own page says so).
    """
    path = project.record(RunId(study, REFERENCE))
    try:
        return load(path) if path.exists() else None
    except UserError:
        return None


def _comparable(own: Record, other: Record) -> bool:
    return all(
        own.parameters.get(name) == other.parameters.get(name)
        for name in ("dataset", "epsilon")
    )


def _line(match: Match, here: list[Metric], there: Metric) -> dict[str, str]:
    values = [row.value for row in here]
    seeds = f"[{page.number(min(values), 2)}, {page.number(max(values), 2)}]"
    return {
        "Quantity": match.lens,
        "Network": match.kind,
        "Here (seeds)": f"{page.number(sum(values) / len(values), 2)} {seeds}",
        "There": page.interval(there, 2),
        "Study": f"`{match.study}`",
    }
