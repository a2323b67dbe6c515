"""The page of a sweep: how its numbers and verdicts change with the parameters.
`publish_all` writes page and tables.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbook import studies
from robustbook.errors import UnknownNameError
from robustbook.fields import to_text
from robustbook.files import write_whole
from robustbook.results import VERDICTS
from robustbook.run import scoreboard, sweep_table
from robustbook.run.project import REFERENCE, Project, RunId
from robustbook.run.records import Record, sha256
from robustbook.run.sweep import SweepPlan

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PANELS, SERIES = 6, 6
"""At most so many metrics in the figure, and so many series in each of its panels; the
table has all.
"""


def files(project: Project, plan: SweepPlan) -> dict[str, Path]:
    """Page and tables of a sweep in the book, by what they are."""
    folder = project.root / "book" / "runs" / plan.study
    return {
        kind: folder / f"sweep-{plan.name}.{kind}" for kind in ("csv", "parquet", "md")
    }


def publish_all(
    project: Project,
    plan: SweepPlan,
    found: Mapping[str, Record],
    metrics: Sequence[str] = (),
) -> Path:
    """Write the tables and, last, the page that shows them; each appears whole. Returns
    the page's path.

    Raises UnknownNameError where no run has a metric of a name in `metrics`.
    """
    frame = sweep_table.table(plan, found)
    for name in metrics:
        if name not in set(frame["name"]):
            raise UnknownNameError("metric", name, sorted(set(frame["name"])))
    tables = {
        "csv": sweep_table.to_csv(frame),
        "parquet": sweep_table.to_parquet(frame),
    }
    text = render(project, plan, found, frame, metrics, sha256(tables["csv"]))
    paths = files(project, plan)
    paths["md"].parent.mkdir(parents=True, exist_ok=True)
    for kind, content in {**tables, "md": text.encode()}.items():
        write_whole(paths[kind], content)
    return paths["md"]


def render(
    project: Project,
    plan: SweepPlan,
    found: Mapping[str, Record],
    frame: pd.DataFrame,
    metrics: Sequence[str],
    digest: str,
) -> str:
    """The page as MyST Markdown."""
    module = studies.get(plan.study)
    reference = project.page(RunId(plan.study, REFERENCE)).exists()
    study = (
        f"[{module.TITLE}](../../studies/{plan.study}.ipynb)"
        if reference
        else module.TITLE
    )
    parts = [
        f"# Sweep: {plan.name}",
        f"The study *{study}* at {_axes_in_words(plan)}: {len(plan.members)} runs. "
        f"{_given(plan)}",
        "## Numbers",
        _shown(figure(plan, chosen(plan, found, frame, metrics))),
        "## Verdicts",
        _shown(_verdicts(plan, found)),
        "## The table",
        _about_table(plan, frame, digest),
    ]
    return "\n\n".join(parts) + "\n"


def _shown(text: str) -> str:
    return f'<div class="cell_output docutils container">\n{text}\n</div>'


def _axes_in_words(plan: SweepPlan) -> str:
    parts = [
        f"`{axis}` = {', '.join(f'`{to_text(value)}`' for value in values)}"
        for axis, values in plan.axes.items()
    ]
    if plan.seeds > 1:
        parts.append(
            f"{plan.seeds} repetitions with seeds of their own (`{plan.seed_field}`)"
        )
    return " and ".join(parts)


def _given(plan: SweepPlan) -> str:
    varied = {*plan.axes, plan.seed_field}
    fixed = {
        name: value
        for name, value in plan.members[0].overrides.items()
        if name not in varied
    }
    said = ", ".join(f"`{name}` = `{to_text(value)}`" for name, value in fixed.items())
    return f"All were given {said}." if said else "All else has the defaults."


# Figure
# --------------------------------------------------------------------------------------


def chosen(
    plan: SweepPlan,
    found: Mapping[str, Record],
    frame: pd.DataFrame,
    metrics: Sequence[str],
) -> pd.DataFrame:
    """Rows to draw, with their `series`: of the named metrics, else those that the
    claims' rules read.

    Panels and series are cut to `PANELS` and `SERIES` in the order in which rules read
    them; `attrs["left out"]` counts the series that are not drawn.
    """
    factors = [name for name in frame.columns if name.startswith("factor.")]
    factors = [
        name for name in factors if name.removeprefix("factor.") not in plan.axes
    ]
    keys = (
        frame[["name", *factors]]
        .astype("object")
        .where(frame[["name", *factors]].notna(), None)
    )
    rows = frame.assign(
        key=[tuple(values) for values in keys.itertuples(index=False, name=None)]
    )
    wanted = [name for name in dict.fromkeys(metrics)] or list(
        dict.fromkeys(_names_read(plan, found))
    )
    wanted = (
        wanted[: len(metrics) or PANELS] or list(dict.fromkeys(frame["name"]))[:PANELS]
    )
    kept, dropped = [], 0
    for name in wanted:
        of_name = rows[rows["name"] == name]
        order = list(dict.fromkeys(of_name["key"]))
        dropped += max(0, len(order) - SERIES)
        kept.append(_with_series(of_name, order[:SERIES], factors))
    import pandas as pd

    drawn = pd.concat(kept, ignore_index=True)
    drawn.attrs["left out"] = dropped
    return drawn


def _names_read(plan: SweepPlan, found: Mapping[str, Record]) -> list[str]:
    """Names of the metrics that the rules read, those with an interval first."""
    record = found[plan.members[0].run]
    read = [
        row
        for claim in studies.get(plan.study).CLAIMS
        for row in scoreboard.rows_read(claim, record)
    ]
    return [row.name for row in sorted(read, key=lambda row: row.low is None)]


def _with_series(
    rows: pd.DataFrame, keys: list[tuple[Any, ...]], factors: list[str]
) -> pd.DataFrame:
    """The rows of these keys, each series named by the factors in which they differ."""
    differ = [
        index
        for index in range(len(factors))
        if len({key[index + 1] for key in keys}) > 1
    ]
    names = {
        key: ", ".join(
            f"{factors[index].removeprefix('factor.')} {key[index + 1]}"
            for index in differ
            if key[index + 1] is not None
        )
        or "all"
        for key in keys
    }
    kept = rows[rows["key"].isin(keys)]
    return kept.assign(series=[names[key] for key in kept["key"]])


def horizontal(plan: SweepPlan) -> str:
    """The column along the figure's horizontal axis: the first parameter of numbers,
    else the first, else the seed.
    """
    numeric = [
        axis
        for axis, values in plan.axes.items()
        if not any(isinstance(v, str | bool | list) for v in values)
    ]
    axis = next(iter([*numeric, *plan.axes]), plan.seed_field)
    return f"parameter.{axis}"


def figure(plan: SweepPlan, drawn: pd.DataFrame) -> str:
    """HTML of the figure: one panel a metric, bands over repetitions."""
    import matplotlib as mpl
    from matplotlib import pyplot

    from robustbook import page
    from robustbook.plots import style

    mpl.use("agg")
    style.use_style()
    names = list(dict.fromkeys(drawn["name"]))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    fig, axes = pyplot.subplots(
        rows, columns, figsize=(style.FIGURE_WIDTH, 3.1 * rows), squeeze=False
    )
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        draw(ax, plan, drawn[drawn["name"] == name])
    return str(
        page.figure(fig, alt=_alt(plan, names), caption=caption(plan, drawn)).data
    )


def draw(ax: Axes, plan: SweepPlan, rows: pd.DataFrame) -> None:
    """One metric against the horizontal parameter, a line a series, with a 95 % band of
    the mean over repetitions.
    """
    import seaborn as sns
    from scipy import stats

    across = horizontal(plan)
    others = [
        f"parameter.{axis}" for axis in plan.axes if f"parameter.{axis}" != across
    ]
    labels = rows["series"].str.cat(
        [f"{name[10:]} " + rows[name].astype(str) for name in others], sep=", "
    )
    data = rows.assign(series=labels, value=rows["value"].astype(float))
    numeric = data[across].dtype.kind in "iuf"
    data[across] = data[across].astype(float if numeric else str)
    band = (
        ("se", float(stats.t.ppf(0.975, plan.seeds - 1)))
        if plan.seeds > 1 and plan.axes
        else None
    )
    options = {
        "data": data,
        "x": across,
        "y": "value",
        "hue": "series",
        "errorbar": band,
        "ax": ax,
    }
    if numeric:
        sns.lineplot(**options, style="series", markers=True, dashes=False)
    else:
        sns.pointplot(**options, linestyle="none", dodge=0.3)
    unit = rows["unit"].iloc[0]
    ax.set(
        title=_wrapped(rows["name"].iloc[0]),
        xlabel=across.removeprefix("parameter."),
        ylabel=unit or "value",
    )
    ax.legend(title="", fontsize=7)
    legend = ax.get_legend()
    if legend is not None and (labels == "all").all():
        legend.remove()


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 34))


def caption(plan: SweepPlan, drawn: pd.DataFrame) -> str:
    """What the first series of each panel does, what the bands are, and how much is not
    drawn.
    """
    across = horizontal(plan)
    said = []
    for name in list(dict.fromkeys(drawn["name"]))[:3]:
        rows = drawn[drawn["name"] == name]
        first = rows[rows["series"] == rows["series"].iloc[0]]
        means = first.groupby(across, sort=False)["value"].mean()
        series = (
            "" if rows["series"].iloc[0] == "all" else f" ({rows['series'].iloc[0]})"
        )
        said.append(
            f"{name}{series}: {means.iloc[0]:.3g} at {means.index[0]}, "
            f"{means.iloc[-1]:.3g} at {means.index[-1]}"
        )
    band = " One repetition a point, so no band: `--seeds` gives more."
    if plan.seeds > 1:
        band = (
            f" Bands: 95 % interval of the mean over {plan.seeds} repetitions "
            "(Student's t)."
            if plan.axes
            else ""
        )
    left = (
        f" {drawn.attrs['left out']} more series are in the table."
        if drawn.attrs["left out"]
        else ""
    )
    return (
        f"Against `{across.removeprefix('parameter.')}`: {'; '.join(said)}.{band}{left}"
    )


def _alt(plan: SweepPlan, names: list[str]) -> str:
    return (
        f"Panels of {', '.join(names)} against "
        f"{horizontal(plan).removeprefix('parameter.')}"
    )


# Verdicts and table
# --------------------------------------------------------------------------------------


def _verdicts(plan: SweepPlan, found: Mapping[str, Record]) -> str:
    """How many repetitions gave each verdict, for every combination of the axes."""
    import pandas as pd

    from robustbook import page

    claims = list(
        dict.fromkeys(claim.id for record in found.values() for claim in record.claims)
    )
    lines: dict[tuple[str, ...], dict[str, Counter[str]]] = {}
    for member in plan.members:
        where = tuple(to_text(member.overrides[axis]) for axis in plan.axes)
        counts = lines.setdefault(where, {claim: Counter() for claim in claims})
        for claim in found[member.run].claims:
            counts[claim.id][claim.verdict] += 1
    table = pd.DataFrame(
        {
            **dict(zip((f"`{axis}`" for axis in plan.axes), where, strict=True)),
            **{c: _counted(n) for c, n in row.items()},
        }
        for where, row in lines.items()
    )
    repeated = (
        f"Verdicts by claim; counts are repetitions, of {plan.seeds}."
        if plan.seeds > 1
        else "Verdicts by claim."
    )
    return str(page.table(table, caption=repeated).data)


def _counted(counts: Counter[str]) -> str:
    if sum(counts.values()) == 1:
        return next(iter(counts))
    return ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])


def _about_table(plan: SweepPlan, frame: pd.DataFrame, digest: str) -> str:
    names = {kind: f"sweep-{plan.name}.{kind}" for kind in ("csv", "parquet")}
    files_ = (
        f"{{download}}`CSV <{names['csv']}>` and {{download}}`Parquet "
        f"<{names['parquet']}>`"
    )
    columns = ", ".join(f"`{html.escape(name)}`" for name in frame.columns)
    return (
        f"Every metric row of every run, {len(frame)} lines: {files_} (SHA-256 of the "
        f"CSV file: `{digest[:12]}`). Columns: {columns}. `low` and `high` are the 95 "
        "% interval that the run itself gives, over `n` of `over`; `parameter.` "
        "columns are what the sweep varied, `factor.` columns the conditions inside a "
        "run."
    )
