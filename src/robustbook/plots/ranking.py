"""Draws comparisons of networks: `forest` (values, intervals) and `brackets` (from
proof to attack).

`forest` and `brackets` take a tidy table as `Results.table` gives it, one line a row of
the figure. Where a column `hue` names the method, rows have its colour and marker of
`plots.style` and the figure gets a legend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robustbook.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

INK = style.INK


def _positions(
    table: pd.DataFrame, label: str, hue: str | None
) -> npt.NDArray[np.float64]:
    """Height of each row: labels from top to bottom, the hues of one label beside each
    other around it.
    """
    labels = list(dict.fromkeys(table[label]))
    hues = list(dict.fromkeys(table[hue])) if hue else [None]
    spread = 0.7 / len(hues)
    offsets = {
        name: (index - (len(hues) - 1) / 2) * spread for index, name in enumerate(hues)
    }
    names = table[hue] if hue else [None] * len(table)
    return np.array(
        [
            labels.index(row) + offsets[name]
            for row, name in zip(table[label], names, strict=True)
        ]
    )


def _finish(
    ax: Axes, table: pd.DataFrame, label: str, hue: str | None, axis_label: str
) -> None:
    labels = list(dict.fromkeys(table[label]))
    ax.set_yticks(range(len(labels)), [str(name) for name in labels])
    ax.set_ylim(len(labels) - 0.45, -0.55)
    ax.grid(False, axis="y")
    for edge in range(1, len(labels) if hue else 0):
        ax.axhline(edge - 0.5, color="#8a8a8a66", linewidth=0.7, zorder=0)
    ax.set_xlabel(axis_label)
    if hue:
        _legend(ax, [str(name) for name in dict.fromkeys(table[hue])])


def _legend(ax: Axes, names: list[str]) -> None:
    """Names of methods with colour and marker, above the axes so that they cover
    nothing.
    """
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            color=style.colour(name),
            marker=style.marker(name),
            label=style.label(name),
        )
        for name in names
    ]
    columns = len(names) if len(names) <= 4 else 3
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        handletextpad=0.2,
        columnspacing=1,
    )


def _looks(table: pd.DataFrame, hue: str | None) -> list[tuple[str, str]]:
    """Colour and marker of each row."""
    if hue is None:
        return [(style.BLUE, "o")] * len(table)
    return [(style.colour(name), style.marker(name)) for name in table[hue]]


def forest(
    ax: Axes,
    table: pd.DataFrame,
    *,
    label: str,
    axis_label: str,
    hue: str | None = None,
) -> None:
    """Draw the columns `value`, `low` and `high` as points with intervals, one row of
    the figure per `label`.

    `axis_label` names the quantity and its unit; rows without an interval (NaN or None)
    get a point alone. Raises KeyError if `hue` names a method that `plots.style` does
    not know.
    """
    rows = zip(
        table["value"],
        table["low"],
        table["high"],
        _positions(table, label, hue),
        _looks(table, hue),
        strict=True,
    )
    for value, low, high, height, (colour, marker) in rows:
        if low is not None and high is not None:
            ax.plot(
                [low, high],
                [height, height],
                color=colour,
                linewidth=2.2,
                solid_capstyle="butt",
            )
        ax.plot(
            value,
            height,
            marker=marker,
            color=colour,
            markeredgecolor=style.GROUND,
            markeredgewidth=0.8,
        )
    _finish(ax, table, label, hue, axis_label)


def brackets(
    ax: Axes,
    table: pd.DataFrame,
    *,
    label: str,
    axis_label: str,
    low: str = "low",
    high: str = "high",
    hue: str | None = None,
) -> None:
    """Draw the columns `low` (sound: proved) and `high` (attained: an attack found it)
    as brackets around the truth.

    The sound end is a wall, the attained end the method's marker. Raises ValueError if
    a low end exceeds its high end.
    """
    if (table[low] > table[high]).any():
        raise ValueError("a bracket's low end lies above its high end")
    rows = zip(
        table[low],
        table[high],
        _positions(table, label, hue),
        _looks(table, hue),
        strict=True,
    )
    for start, end, height, (colour, marker) in rows:
        ax.plot(
            [start, end],
            [height, height],
            color=colour,
            linewidth=5,
            alpha=0.35,
            solid_capstyle="butt",
        )
        ax.plot(
            start, height, marker="|", color=colour, markersize=13, markeredgewidth=2.4
        )
        ax.plot(
            end,
            height,
            marker=marker,
            color=colour,
            markeredgecolor=style.GROUND,
            markeredgewidth=0.8,
        )
    _finish(ax, table, label, hue, axis_label)
