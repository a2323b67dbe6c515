"""The figures: each function draws one from the rows and writes its caption and alt
text.
"""

from __future__ import annotations

from IPython.display import HTML
from matplotlib import pyplot

from robustbook import page
from robustbook.plots import style
from robustbook.results import Results


def accuracies(results: Results) -> HTML:
    """Accuracy by what was done to the images, with intervals over seeds."""
    rows = results.select("accuracy")
    shown = [str(row.factors["shown"]) for row in rows]
    values = [row.value for row in rows]
    errors = [
        [row.value - (row.low or 0.0) for row in rows],
        [(row.high or 0.0) - row.value for row in rows],
    ]
    figure, axes = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3))
    axes.bar(shown, values, yerr=errors, color=style.BLUE, ecolor=style.INK)
    axes.set(xlabel="done to the images", ylabel="accuracy (share)", ylim=(0, 1.05))
    told = ", ".join(f"{row.factors['shown']} {row.value:.2f}" for row in rows)
    return page.figure(
        figure,
        alt=f"Bars of accuracy: {told}.",
        caption="Accuracy on images as they are, with noise, and attacked.",
    )
