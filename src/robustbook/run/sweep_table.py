"""The tidy table of a sweep: one line for every metric row of every run, as CSV and
Parquet.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robustbook.run.records import Record
from robustbook.run.sweep import SweepPlan

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("name", "value", "low", "high", "n", "over", "unit")


def table(plan: SweepPlan, found: Mapping[str, Record]) -> pd.DataFrame:
    """One line a metric row: the run, `parameter.<name>` of the axes, `repetition`, the
    row, `factor.<name>`.

    The order is that of the plan and of the records, so the same sweep gives the same
    table at any number of workers.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for member in plan.members:
        varied = {
            f"parameter.{axis}": _plain(member.overrides[axis]) for axis in plan.axes
        }
        if plan.seed_field:
            varied[f"parameter.{plan.seed_field}"] = member.overrides[plan.seed_field]
        for metric in found[member.run].metrics:
            row = metric.model_dump()
            factors = {
                f"factor.{name}": value for name, value in row.pop("factors").items()
            }
            lines.append(
                {
                    "run": member.run,
                    **varied,
                    "repetition": member.repetition,
                    **row,
                    **factors,
                }
            )
    frame = pd.DataFrame(lines, dtype=object)
    varied_names = [name for name in frame.columns if name.startswith("parameter.")]
    factor_names = sorted(name for name in frame.columns if name.startswith("factor."))
    frame = frame[["run", *varied_names, "repetition", *COLUMNS, *factor_names]]
    return frame.assign(
        **{
            name: _one_type(frame[name])
            for name in [*varied_names, *factor_names, *COLUMNS[1:5]]
        }
    )


def _plain(value: Any) -> Any:
    """A parameter's value in one cell; lists as the user typed them."""
    from robustbook.fields import to_text

    return to_text(value) if isinstance(value, list) else value


def _one_type(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as numbers, truths or text: as text where its values are of several
    kinds.
    """
    import pandas as pd

    present = [value for value in column if value is not None and value == value]
    if all(isinstance(value, bool) for value in present):
        return column.astype("boolean")
    if all(isinstance(value, int) and not isinstance(value, bool) for value in present):
        return column.astype("Int64")
    if all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in present
    ):
        return pd.to_numeric(column).astype("float64")
    return column.map(
        lambda value: None if value is None or value != value else str(value)
    ).astype("string")


def to_csv(frame: pd.DataFrame) -> bytes:
    """The table as CSV."""
    return frame.to_csv(index=False, lineterminator="\n").encode()


def to_parquet(frame: pd.DataFrame) -> bytes:
    """The table as Parquet, columns with their types."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()
