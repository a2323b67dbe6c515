"""What the book says of speed beside peer libraries and of growth, from
`book/measured/benchmark.json` (`make benchmark`).
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd
from docutils import nodes
from measured_pages import TableDirective, folded, measured
from record_pages import RecordDirective

from robustbook import page
from robustbook.plots import style

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Found = dict[str, Any]
PEERS = (
    "torchattacks",
    "foolbox",
    "ART",
    "scipy.ndimage",
    "captum",
    "Pyro",
    "torch-pruning",
)
PLAIN = "the plain way"
SHARES = {0.02: "1/50", 0.1: "1/10", 0.25: "1/4", 0.5: "1/2", 1.0: "equal"}
"""Ticks of the axis of ratios."""
GROWTH_SAID = (
    "How many times longer the work takes when its size doubles; on the dotted line "
    "time is in proportion. From a power law through several sizes: median and range "
    "of the turns."
)
RATIOS_SAID = (
    "Our time over a peer library's for the same work: left of the dotted line ours is "
    "faster. A point is one comparison, a red diamond one beyond its limit. “The plain "
    "way” is the same computation by a loop, or by passes through the whole network."
)


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
        tables = folded("Every comparison", _ratio_table(found, machine))
        return [self.raw(f"{_answer(found)}\n{_ratio_figure(found)}\n{tables}")]


def peer_of(name: str) -> str:
    """The library that a comparison names, or the plain way of doing the same.

    >>> peer_of("cnn: PGD-40 / torchattacks"), peer_of("oracle (full passes)")
    ('torchattacks', 'the plain way')
    """
    return next((peer for peer in PEERS if peer in name), PLAIN)


def _ratio_figure(found: list[Found]) -> str:
    """One line a peer, one point a comparison, by the median ratio."""
    from matplotlib import pyplot

    compared = [row for row in found if row["limit"] is not None]
    by_peer: dict[str, list[Found]] = {}
    for row in compared:
        by_peer.setdefault(peer_of(row["name"]), []).append(row)
    peers = sorted(by_peer, key=lambda peer: (peer == PLAIN, -len(by_peer[peer])))
    style.use_style()
    size = (style.FIGURE_WIDTH, 0.9 + 0.36 * len(peers))
    figure, axes = pyplot.subplots(figsize=size)
    for place, peer in enumerate(reversed(peers)):
        for row in by_peer[peer]:
            missed = _missed(row)
            axes.plot(
                row["ratio"],
                place,
                "D" if missed else "o",
                color=style.VERMILLION if missed else style.GREEN,
                markersize=7,
                alpha=0.8,
            )
    axes.axvline(1, color=style.GREY, linewidth=1, linestyle=":")
    axes.set(xscale="log", xlabel="our time over theirs", ylim=(-0.6, len(peers) - 0.4))
    axes.set_yticks(range(len(peers)), list(reversed(peers)))
    axes.set_xticks(list(SHARES), list(SHARES.values()))
    axes.minorticks_off()
    return str(page.figure(figure, alt=_ratio_alt(by_peer), caption=RATIOS_SAID).data)


def _ratio_alt(by_peer: dict[str, list[Found]]) -> str:
    ranges = [
        f"{peer} {min(row['ratio'] for row in rows):.2g} to "
        f"{max(row['ratio'] for row in rows):.2g}"
        for peer, rows in by_peer.items()
    ]
    return f"Our time over a peer's, one point a comparison: {', '.join(ranges)}."


def _answer(found: list[Found]) -> str:
    """The page's answer in two sentences."""
    compared = [row for row in found if row["limit"] is not None]
    faster = sum(row["ratio"] < 1 for row in compared)
    middle = median(row["ratio"] for row in compared)
    missed = sum(map(_missed, compared))
    beyond = (
        f"{missed} miss the limit that was set before (red)."
        if missed
        else "All stay within the limits that were set before."
    )
    return (
        f"<p>In {faster} of {len(compared)} comparisons ours is the faster one; half "
        f"need less than {middle:.0%} of the peer's time. {beyond}</p>"
    )


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
        table = folded("Sizes, seconds and exponents", _growth_table(found))
        return [self.raw(f"{_growth_figure(found)}\n{table}")]


def _growth_figure(found: list[Found]) -> str:
    """One line a piece of work: how many times longer twice the size takes."""
    from matplotlib import pyplot

    style.use_style()
    size = (style.FIGURE_WIDTH, 1.1 + 0.62 * len(found))
    figure, axes = pyplot.subplots(figsize=size)
    for place, row in enumerate(reversed(found)):
        low, middle, high = (2 ** row[end] for end in ("low", "exponent", "high"))
        axes.plot([low, high], [place - 0.15] * 2, color=style.BLUE, linewidth=1.6)
        axes.plot(middle, place - 0.15, "o", color=style.BLUE, markersize=6)
        label = f"{row['name']}: twice the {row['axis']}"
        axes.text(0.95, place + 0.12, label, ha="left", va="bottom")
    axes.axvline(2, color=style.GREY, linewidth=1, linestyle=":")
    axes.set(
        xlabel="times as long",
        xlim=(0.9, 4.6),
        ylim=(-0.7, len(found) - 0.2),
        yticks=[],
    )
    alt = "; ".join(f"{row['name']}: {2 ** row['exponent']:.1f}" for row in found)
    return str(page.figure(figure, alt=f"{alt}.", caption=GROWTH_SAID).data)


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
