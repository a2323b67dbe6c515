"""What the book says of speed beside peer libraries and of growth, from
`book/measured/benchmark.json` (`make benchmark`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from docutils import nodes
from measured_pages import TableDirective, measured
from record_pages import RecordDirective

from robustbook import page
from robustbook.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sphinx.application import Sphinx

Found = dict[str, Any]


def rows(app: Sphinx, kind: str) -> list[Found]:
    """The measured rows of one kind: comparison, measurement or growth."""
    return [
        row for row in measured(app, "benchmark").get("rows", []) if row["kind"] == kind
    ]


def coverage(turns: int) -> float:
    """Probability that the range of `turns` independent values covers their
    distribution's median.
    """
    return 1 - 2.0 ** (1 - turns)


class Ratios(RecordDirective):
    """`{speed-ratios}`: ours over each peer's time, with intervals and limits, as a
    figure and a table.
    """

    def run(self) -> list[nodes.Node]:
        """Both, or a note if nobody has measured."""
        found = rows(self.env.app, "comparison")
        if not found:
            return [nodes.paragraph(text="Nothing is measured yet.")]
        machine = measured(self.env.app, "benchmark")["machine"]
        return [self.raw(f"{_ratio_figure(found)}\n{_ratio_table(found, machine)}")]


def _ratio_figure(found: list[Found]) -> str:
    """One line a comparison: the median ratio, its interval, and its limit."""
    from matplotlib import pyplot

    style.use_style()
    figure, axes = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.8 + 0.3 * len(found)))
    for place, row in enumerate(reversed(found)):
        colour = (
            style.GREY
            if row["limit"] is None
            else style.VERMILLION
            if _missed(row)
            else style.GREEN
        )
        axes.plot([row["low"], row["high"]], [place] * 2, color=colour, linewidth=1.6)
        axes.plot(row["ratio"], place, "o", color=colour, markersize=5)
        if row["limit"] is not None:
            axes.plot(
                row["limit"],
                place,
                "|",
                color=style.GREY,
                markersize=11,
                markeredgewidth=1.6,
            )
    axes.axvline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(
        range(len(found)), [row["name"] for row in reversed(found)], fontsize=8
    )
    axes.set(xscale="log", xlabel="our time over theirs", ylim=(-0.8, len(found) - 0.2))
    limited = [row for row in found if row["limit"] is not None]
    caption = (
        f"Our time over theirs: {sum(not _missed(row) for row in limited)} of "
        f"{len(limited)} comparisons stay within the limit set before (grey mark), the "
        "others are red; a point left of the dotted line is faster than the peer. "
        "Grey points have no limit: they show what is possible. Points are medians "
        "over turns in which both sides ran one after the other, lines the range of "
        "the turns."
    )
    alt = (
        "Ratios of our time to a peer's, one line a comparison, with the range of "
        "the turns and the limit."
    )
    return str(page.figure(figure, alt=alt, caption=caption).data)


def _missed(row: Found) -> bool:
    return row["limit"] is not None and row["ratio"] > row["limit"]


def _ratio_table(found: list[Found], machine: Found) -> str:
    lines = [
        {
            "ours / theirs": row["name"],
            "ours (s)": row["ours"],
            "theirs (s)": row["theirs"],
            "ratio": row["ratio"],
            "range": f"{row['low']:.2f}–{row['high']:.2f}",
            "turns": row["turns"],
            "limit": row["limit"],
        }
        for row in found
    ]
    most = max(row["turns"] for row in found)
    caption = (
        f"The same inputs, one thread, on a machine with {machine['cores']} cores "
        f"(load before: {machine['load before']:g}). The range of n turns covers the "
        f"median ratio with probability 1 - 2^(1 - n), {coverage(most):.1%} for {most}."
    )
    agreements = [
        {"ours / theirs": row["name"], "the answers": row["agreement"]}
        for row in found
        if row["agreement"]
    ]
    return (
        f"{page.table(pd.DataFrame(lines), caption=caption).data}\n"
        + page.table(
            pd.DataFrame(agreements), caption="How far the answers agree."
        ).data
    )


class Limits(TableDirective):
    """`{speed-limits}`: figures with a limit but no peer."""

    caption = "Figures that have a limit and no peer."

    def lines(self) -> list[Found]:
        """One line a figure."""
        return [
            {
                "What": row["name"],
                "Measured": row["value"],
                "Unit": row["unit"],
                "Limit": row["limit"],
            }
            for row in rows(self.env.app, "measurement")
        ]


class GrowthCurves(RecordDirective):
    """`{growth}`: seconds over images, samples, masks, units and pixels, with fitted
    exponents.
    """

    def run(self) -> list[nodes.Node]:
        """Figure and table, or a note if nobody has measured."""
        found = rows(self.env.app, "growth")
        if not found:
            return [nodes.paragraph(text="Nothing is measured yet.")]
        return [self.raw(f"{_growth_figure(found)}\n{_growth_table(found)}")]


def _growth_figure(found: list[Found]) -> str:
    from matplotlib import pyplot

    style.use_style()
    figure, axes = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.2))
    for row in found:
        _draw_growth(axes, row)
    ends = max(row["sizes"][-1] / row["sizes"][0] for row in found)
    axes.plot([1, ends], [1, ends], color=style.GREY, linestyle=":", linewidth=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="size over the smallest",
        ylabel="time over the smallest's",
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2, fontsize=8)
    steep = max(found, key=lambda row: row["exponent"])
    caption = (
        "Time over size, both relative to the smallest; the dotted line is "
        f"proportion. The steepest is {steep['name']} over {steep['axis']} with an "
        f"exponent of {steep['exponent']:.2f}."
    )
    alt = (
        "Time against size on logarithmic axes, one line for each measured piece of "
        "work."
    )
    return str(page.figure(figure, alt=alt, caption=caption).data)


def _draw_growth(axes: Axes, row: Found) -> None:
    sizes = [size / row["sizes"][0] for size in row["sizes"]]
    times = [each / row["seconds"][0] for each in row["seconds"]]
    axes.plot(
        sizes,
        times,
        "o-",
        markersize=4,
        linewidth=1.3,
        label=f"{row['name']} ({row['axis']})",
    )


def _growth_table(found: list[Found]) -> str:
    lines = [
        {
            "what": row["name"],
            "over": row["axis"],
            "sizes": f"{row['sizes'][0]:,} to {row['sizes'][-1]:,}",
            "seconds": f"{row['seconds'][0]:.3g} to {row['seconds'][-1]:.3g}",
            "exponent": row["exponent"],
            "range": f"{row['low']:.2f}–{row['high']:.2f}",
        }
        for row in found
    ]
    caption = (
        "Exponents of the power law through the sizes, by least squares of the "
        "logarithms in every turn: median and range."
    )
    return str(page.table(pd.DataFrame(lines), caption=caption).data)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives; `measured_speed` reads the page again in every build."""
    for name, directive in {
        "speed-ratios": Ratios,
        "speed-limits": Limits,
        "growth": GrowthCurves,
    }.items():
        app.add_directive(name, directive)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
