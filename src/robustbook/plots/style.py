"""The one look of all figures: a seaborn theme, and a colour, a marker and a label for
every method that a page names.

Read `METHODS` first (who has which colour), then `use_style`, then the three look-ups
`colour`, `marker` and `label`. The colours are those of Okabe and Ito (2008), which
colour-blind readers can tell apart; every colour comes with a marker of its own, so
that no figure rests on colour alone; some are darker here, so that all are readable on
a light and on a dark page.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from robustbook.page import GROUND as GROUND
from robustbook.page import INK as INK

FIGURE_WIDTH = 5.25
"""Width of a page-wide figure in inches. A phone of 390 pixels shows it 342 pixels
wide, so that text of 10 points comes out at 9 pixels.
"""

SMALLEST = 10
"""The smallest text of a figure, in points."""

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#C98500", "#009E73", "#D55E00"
PURPLE, SKY, OCHRE, GREY = "#C56FA0", "#3D98D3", "#8C6010", "#7A7A7A"
"""Data colours, each readable on a white and on a dark ground."""


@dataclass(frozen=True)
class Look:
    """How one method is drawn and named."""

    label: str
    colour: str
    marker: str


METHODS: dict[str, Look] = {
    # trainings
    "natural": Look("natural", BLUE, "o"),
    "fgsm": Look("FGSM", ORANGE, "s"),
    "gradient-regularised": Look("gradient-regularised", GREEN, "^"),
    "minmax": Look("MinMax (PGD-7)", VERMILLION, "D"),
    "distilled": Look("distilled", PURPLE, "P"),
    "scaled": Look("scaled last layer", GREY, "X"),
    # posteriors
    "deterministic": Look("deterministic", BLUE, "o"),
    "mean-field vi": Look("mean-field VI", VERMILLION, "D"),
    "mc dropout": Look("MC dropout", ORANGE, "s"),
    "ensemble": Look("deep ensemble", GREEN, "^"),
    "laplace": Look("last-layer Laplace", PURPLE, "P"),
    "hmc": Look("HMC", SKY, "v"),
    "weight noise": Look("weight noise", GREY, "X"),
    # pruning criteria
    "oracle": Look("oracle", BLUE, "o"),
    "taylor-fo": Look("Taylor, first order", VERMILLION, "D"),
    "taylor-fo-fg": Look("Taylor, first order, per example", ORANGE, "s"),
    "taylor-so": Look("Taylor, second order", GREEN, "^"),
    "obd": Look("optimal brain damage", PURPLE, "P"),
    "weight-norm": Look("weight norm", SKY, "v"),
    "bn-scale": Look("batch-norm scale", OCHRE, "<"),
    # saliency generators
    "rise": Look("RISE", BLUE, "o"),
    "occlusion": Look("occlusion", ORANGE, "s"),
    "gradient": Look("gradient", GREEN, "^"),
    "integrated gradients": Look("integrated gradients", VERMILLION, "D"),
    "gradient x input": Look("gradient × input", PURPLE, "P"),
    "grad-cam": Look("Grad-CAM", SKY, "v"),
    "edges": Look("edge map", INK, ">"),
    # the control of every ranking
    "random": Look("random", GREY, "X"),
}


def look(name: str) -> Look:
    """How `name` is drawn; case, underscores and blanks at the ends do not matter.

    Raises KeyError that suggests the nearest name if the method is unknown.
    """
    key = " ".join(name.lower().replace("_", " ").split())
    for candidate in (key, key.replace(" ", "-")):
        if candidate in METHODS:
            return METHODS[candidate]
    near = difflib.get_close_matches(key, METHODS, n=1)
    raise KeyError(
        f"no method is called {name!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
    )


def colour(name: str) -> str:
    """The colour of a method, the same in all studies."""
    return look(name).colour


def marker(name: str) -> str:
    """The Matplotlib marker of a method, the same in all studies."""
    return look(name).marker


def label(name: str) -> str:
    """The method's name as legends and axes write it."""
    return look(name).label


_RC: dict[Any, Any] = {
    "figure.figsize": (FIGURE_WIDTH, 3.2),
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": SMALLEST,
    "axes.titlesize": 10.5,
    "axes.labelsize": SMALLEST,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.16,
    "grid.linewidth": 0.7,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": SMALLEST,
    "legend.title_fontsize": SMALLEST,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "axes.titlepad": 5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
}


def use_style() -> None:
    """Set the book's theme for every figure that is drawn from here on."""
    import matplotlib as mpl
    import seaborn as sns

    cycle = [BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, OCHRE, GREY]
    sns.set_theme(context="notebook", style="ticks", palette=cycle)
    mpl.rcParams.update(_RC)
