"""The rows of the study, declared once, and how measured numbers become rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustbook.results import Results, Row
from robustbook.stats import mean_interval_t

ROWS = (
    Row("accuracy", "share", "shown"),
    Row("attack beyond noise", "share"),
)
"""Every row that the study measures: name, unit and the factors that it varies over."""


def record(results: Results, measured: Sequence[Mapping[str, float]]) -> None:
    """Add the mean over the networks with its interval, one row a way to show images,
    and the difference that decides the claim.
    """
    for shown in measured[0]:
        values = mean_interval_t([each[shown] for each in measured])
        results.add("accuracy", values, over="seeds", unit="share", shown=shown)
    lost = mean_interval_t([each["noise"] - each["attack"] for each in measured])
    results.add("attack beyond noise", lost, over="seeds", unit="share")
