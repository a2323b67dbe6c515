"""The rows of the study, declared once, and how what a lens saw becomes rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from robustbook.results import Results, Row
from robustbook.studies.your_network.parameters import Lens

if TYPE_CHECKING:
    from robustbook.studies.your_network.measure.looking import Refused, Seen
    from robustbook.studies.your_network.networks import Examined

LENSES = get_args(Lens)

ROWS = (
    Row("clean accuracy", "share"),
    *(Row(f"{lens} passes", "passes") for lens in LENSES),
    *(Row(f"{lens} failed", "", "reason") for lens in LENSES),
    # Attack
    Row("robust accuracy", "share", "attack budget"),
    Row("minimal distance", "pixel units"),
    Row("psi", "1/nats", "end"),
    # Degradation
    Row("degraded accuracy", "share", "kind severity"),
    Row("similarity", "SSIM", "kind severity"),
    Row("universal accuracy", "share", "pattern"),
    # Posterior
    Row("alarm", "AUC", "posterior score"),
    Row("posterior accuracy", "share", "posterior"),
    Row("change of mind", "share", "shown"),
    Row("promised error", "share"),
    # Saliency
    Row("map agreement", "Spearman", "compared"),
    Row("removal", "share", "map curve"),
    Row("randomised agreement", "Spearman", "layers"),
    # Certificate
    Row("certified share", "share", "budget"),
    # Pruning
    Row("importance agreement", "Spearman", "compared"),
    Row("pruned accuracy", "share", "removed"),
    Row("multiply-adds", "share", "removed"),
    Row("accuracy without half", "share", "layer"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""


def record_subject(results: Results, subject: Examined) -> None:
    """Add the network's accuracy on the images as they are."""
    results.add("clean accuracy", subject.accuracy, over="images", unit="share")


def record(results: Results, seen: Seen | Refused) -> None:
    """Add what a lens saw, or why it saw nothing."""
    from robustbook.studies.your_network.measure.looking import Refused

    units = {row.name: row.unit for row in ROWS}
    if isinstance(seen, Refused):
        results.add(f"{seen.lens} failed", 1.0, reason=seen.reason)
        return
    for number in seen.numbers:
        results.add(
            number.name,
            number.value,
            over=number.over,
            unit=units[number.name],
            **number.factors,  # type: ignore[arg-type]
        )
    cost = float(seen.passes.total)
    results.add(f"{seen.lens} passes", cost, unit="passes")
