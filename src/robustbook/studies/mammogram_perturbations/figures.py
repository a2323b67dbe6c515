"""The chapter's figures: each function draws one Matplotlib figure from measurements
and returns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from robustbook.data.phantoms import SUBGROUPS, VIEWS, Exams
from robustbook.perturb.lowpass import transfer
from robustbook.plots import style
from robustbook.results import Metric, Results
from robustbook.studies.mammogram_perturbations import networks
from robustbook.studies.mammogram_perturbations.measure import perturbed, visibility
from robustbook.studies.mammogram_perturbations.parameters import Parameters

TRAININGS = {
    "clean": ("trained clean", style.BLUE, "o"),
    "filtered": ("trained on filtered images", style.VERMILLION, "D"),
    "blur-augmented": ("blur-augmented", style.GREEN, "^"),
}
LEGS = {
    "phantoms": ("phantoms", style.BLUE, "o"),
    "mias": ("mini-MIAS patches", style.PURPLE, "P"),
    "natural": ("natural images", style.ORANGE, "s"),
}
KINDS = {
    "soft tissue": ("soft tissue", style.OCHRE, "s"),
    "microcalcification": ("microcalcification", style.SKY, "v"),
}
WINDOW = (0.3, 0.85)
"""Grey levels (share of the 12-bit range) that pictures show from black to white."""


def example_exam(exams: Exams) -> int:
    """The first exam with a malignant lesion of each kind, one in either breast, else
    the first with two lesions.
    """
    for number, (labels, kinds) in enumerate(
        zip(exams.labels, exams.subgroups, strict=True)
    ):
        if labels[:, 1].all() and set(kinds) == {1, 2}:
            return number
    return int(np.argmax((exams.subgroups > 0).sum(axis=1)))


def draw_exam(exams: Exams, number: int) -> Figure:
    """The four views of an exam, the outline of each lesion's mask in colour."""
    figure, axes = pyplot.subplots(1, 4, figsize=(style.FIGURE_WIDTH, 2.75))
    height, width = exams.settings.extent
    for ax, view in zip(axes, (1, 0, 3, 2), strict=True):
        _picture(ax, exams.images[number, view] / 4095, (0, width, height, 0))
        kind = SUBGROUPS[exams.subgroups[number, view % 2]]
        if exams.masks[number, view].any():
            ax.contour(
                exams.masks[number, view],
                levels=[0.5],
                colors=[KINDS[kind][1]],
                linewidths=1,
                extent=(0, width, 0, height),
            )
        ax.set_title(f"{VIEWS[view]}\n{kind}", fontsize=9)
    return figure


def _picture(
    ax: Axes,
    image: NDArray[np.floating],
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    ax.imshow(image, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], extent=extent)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def draw_perturbations(exams: Exams, parameters: Parameters) -> Figure:
    """One breast with microcalcifications under the four perturbations (top), and what
    each changed (bottom).
    """
    network = networks.phantom_networks(parameters)[0]
    task = perturbed.task_of(network, parameters)
    wanted = np.argwhere(
        (exams.subgroups[: len(task.images)] == 2)
        & (exams.labels[: len(task.images), :, 1] > 0)
    )
    exam, side = (int(part) for part in wanted[0])
    shown = {"unperturbed": task.images[exam, side].numpy()}
    severities = {
        "adversarial": 0.01,
        "universal": 0.01,
        "noise": 0.01,
        "low-pass": 2.0,
    }
    for name, severity in severities.items():
        shown[name] = perturbed.perturb(task, name, severity, parameters)[
            exam, side
        ].numpy()
    figure, axes = pyplot.subplots(2, 5, figsize=(style.FIGURE_WIDTH, 4.0))
    for column, (name, image) in enumerate(shown.items()):
        _picture(axes[0, column], image)
        label = (
            f"{name}\n{severities[name]:g}{' mm' if name == 'low-pass' else ''}"
            if column
            else f"{name}\n"
        )
        axes[0, column].set_title(label, fontsize=9)
        axes[1, column].set(xticks=[], yticks=[])
        if column:
            axes[1, column].imshow(
                image - shown["unperturbed"], cmap="PuOr", vmin=-0.04, vmax=0.04
            )
            axes[1, column].grid(False)
    axes[1, 0].axis("off")
    axes[1, 0].text(
        0.5, 0.5, "difference\n(range ± 0.04)", ha="center", va="center", fontsize=9
    )
    return figure


def draw_losses(results: Results) -> Figure:
    """Loss of AUC (phantoms, mini-MIAS) and of accuracy (natural images) by severity of
    each perturbation.
    """
    figure, axes = pyplot.subplots(2, 2, figsize=(style.FIGURE_WIDTH, 5.2), sharey=True)
    for ax, name in zip(axes.flat, perturbed.STRENGTHS, strict=True):
        for leg, (label, colour, marker) in LEGS.items():
            factors = {"perturbation": name} | (
                {} if leg == "natural" else {"leg": leg, "subgroup": "all"}
            )
            rows = results.select(
                "natural accuracy loss" if leg == "natural" else "AUC loss", **factors
            )
            _curve(ax, rows, label, colour, marker)
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(title=name, xlabel=perturbed.UNITS[name], xscale="log")
        _plain_ticks(ax, perturbed.STRENGTHS[name])
    for ax in axes[:, 0]:
        ax.set_ylabel("loss of AUC or accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _plain_ticks(ax: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    ax.xaxis.set_ticks(list(values), [f"{value:g}" for value in values])
    ax.xaxis.set_minor_locator(NullLocator())


def _cut_off_ticks(ax: Axes) -> None:
    """Ticks at the published cut-offs, the unfiltered image at the left end."""
    _plain_ticks(ax, (0.12, 0.33, 0.67, 1, 2, 4))
    ax.set_xticklabels(["none", "0.33", "0.67", "1", "2", "4"])


def _curve(
    ax: Axes, rows: Sequence[Metric], label: str, colour: str, marker: str
) -> None:
    """Values over severity (0 at the left end, drawn at 0.12) with a band where there
    is an interval.
    """
    if not rows:
        return
    rows = sorted(rows, key=lambda row: float(row.factors["severity"]))
    places = [float(row.factors["severity"]) or 0.12 for row in rows]
    ax.plot(
        places,
        [row.value for row in rows],
        marker=marker,
        color=colour,
        label=label,
        markersize=5,
    )
    if all(row.low is not None for row in rows):
        ax.fill_between(
            places,
            np.array([row.low for row in rows], dtype=float),
            np.array([row.high for row in rows], dtype=float),
            color=colour,
            alpha=0.15,
            linewidth=0,
        )


def draw_severities(results: Results, leg: str, networks: Sequence[str]) -> Figure:
    """AUC by cut-off wavelength, a row per network and a column per subgroup, one line
    per training.
    """
    figure, grid = pyplot.subplots(
        len(networks),
        2,
        figsize=(style.FIGURE_WIDTH, 0.7 + 2.6 * len(networks)),
        sharey=True,
        squeeze=False,
    )
    for row, network in zip(grid, networks, strict=True):
        for ax, subgroup in zip(
            row, ("microcalcification", "soft tissue"), strict=True
        ):
            for training, look in TRAININGS.items():
                rows = results.select(
                    "low-pass AUC",
                    leg=leg,
                    network=network,
                    subgroup=subgroup,
                    training=training,
                )
                _curve(ax, rows, *look)
            ax.axhline(0.5, color=style.INK, linewidth=1, linestyle=":")
            prefix = f"{network.upper()}: " if len(networks) > 1 else ""
            ax.set(
                title=prefix + subgroup, xscale="log", xlabel="cut-off wavelength (mm)"
            )
            _cut_off_ticks(ax)
        row[0].set_ylabel("AUC")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_natural(results: Results) -> Figure:
    """Accuracy of the natural arm by cut-off wavelength, one line per training."""
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.4))
    for training, look in TRAININGS.items():
        _curve(
            ax, results.select("natural low-pass accuracy", training=training), *look
        )
    ax.set(
        xscale="log",
        xlabel="cut-off wavelength (mm of the phantoms, equal in pixels)",
        ylabel="accuracy",
    )
    _cut_off_ticks(ax)
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


def draw_spectra(exams: Exams) -> Figure:
    """Power of texture, of quantum noise and of both kinds of lesion by frequency, and
    what the filters let through.
    """
    side, settings = visibility.SIDE, exams.settings
    frequency = visibility.frequencies(side, settings.pitch)
    edges = np.arange(0.5, side // 2 + 1) / (side * settings.pitch)
    middle = (edges[1:] + edges[:-1]) / 2
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 4.0))
    ax.plot(
        middle,
        radial(visibility.noise_power(settings), frequency, edges),
        color=style.GREY,
        label="texture and noise",
    )
    for kind, (label, colour, marker) in KINDS.items():
        lesions = visibility.lesion_patches(exams, kind, malignant=True)
        power = np.mean(
            [
                np.abs(np.fft.fft2(each - each.mean(), norm="ortho")) ** 2
                for each in lesions
            ],
            axis=0,
        )
        ax.plot(
            middle,
            radial(power, frequency, edges),
            color=colour,
            marker=marker,
            markersize=4,
            label=label,
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="frequency (cycles/mm)",
        ylabel="power (grey levels²)",
    )
    _plain_ticks(ax, (0.2, 0.5, 1, 2))
    low = ax.get_ylim()[0]
    other = ax.twinx()
    for severity, line in ((0.5, ":"), (1.0, "-."), (2.0, "--"), (4.0, "-")):
        other.plot(
            middle,
            transfer(middle, severity),
            color=style.INK,
            linewidth=1,
            linestyle=line,
            label=f"filter {severity:g} mm",
        )
    other.set(ylabel="share let through", ylim=(0, 1.05))
    other.grid(False)
    ax.set_ylim(bottom=low)
    handles = [
        *ax.get_legend_handles_labels()[0],
        *other.get_legend_handles_labels()[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def radial(
    power: NDArray[np.floating],
    frequency: NDArray[np.floating],
    edges: NDArray[np.floating],
) -> NDArray[np.floating]:
    """Mean of `power` over rings of `frequency` between consecutive `edges`."""
    ring = np.digitize(frequency.ravel(), edges)
    sums = np.bincount(ring, power.ravel(), minlength=len(edges) + 1)
    return (sums / np.maximum(np.bincount(ring, minlength=len(edges) + 1), 1))[
        1 : len(edges)
    ]


def draw_visibility(results: Results) -> Figure:
    """Loss of AUC of clean and re-trained networks against the detectability that an
    exact observer of 12 bits loses.
    """
    figure, axes = pyplot.subplots(
        1, 2, figsize=(style.FIGURE_WIDTH, 3.6), sharey=True, sharex=True
    )
    for ax, (kind, _) in zip(axes, KINDS.items(), strict=True):
        for training in ("clean", "filtered"):
            _, colour, marker = TRAININGS[training]
            for row in results.select(
                "low-pass AUC loss", leg="phantoms", subgroup=kind, training=training
            ):
                severity = float(row.factors["severity"])
                kept = results.one(
                    "visibility kept",
                    subgroup=kind,
                    observer="hotelling",
                    later="12-bit file",
                    severity=severity,
                )
                spread = [[row.value - (row.low or 0)], [(row.high or 0) - row.value]]
                ax.errorbar(
                    1 - kept.value,
                    row.value,
                    yerr=spread,
                    color=colour,
                    marker=marker,
                    markersize=5,
                )
                if (
                    training == "clean" and severity > 0.5
                ):  # milder ones lie on top of each other
                    ax.annotate(
                        f"{severity:g}",
                        (1 - kept.value, row.value),
                        xytext=(4, 4),
                        textcoords="offset points",
                        fontsize=8,
                    )
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(title=kind, xlabel="detectability lost (share of d′)")
    axes[0].set_ylabel("loss of AUC")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=label)
        for label, colour, marker in (TRAININGS[name] for name in ("clean", "filtered"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def draw_regions(results: Results) -> Figure:
    """Loss of AUC when only the lesion's region, only its surroundings, or everything
    is filtered (phantoms).
    """
    looks = {
        "inside": (style.VERMILLION, "D"),
        "outside": (style.GREEN, "^"),
        "everywhere": (style.BLUE, "o"),
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.3), sharey=True)
    for ax, kind in zip(axes, KINDS, strict=True):
        for where, (colour, marker) in looks.items():
            rows = (
                [
                    row
                    for row in results.select(
                        "low-pass AUC loss",
                        leg="phantoms",
                        subgroup=kind,
                        training="clean",
                    )
                    if float(row.factors["severity"]) >= 1
                ]
                if where == "everywhere"
                else results.select("region AUC loss", subgroup=kind, where=where)
            )
            _curve(ax, rows, where, colour, marker)
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(title=kind, xscale="log", xlabel="cut-off wavelength (mm)")
        _plain_ticks(ax, (1, 2, 4))
    axes[0].set_ylabel("loss of AUC")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_region_ks(results: Results) -> Figure:
    """KS of the published predictions when the readers' regions, their outside, or
    everything is filtered.
    """
    looks = {
        "interior": (style.VERMILLION, "D"),
        "exterior": (style.GREEN, "^"),
        "entire": (style.BLUE, "o"),
    }
    figure, grid = pyplot.subplots(2, 2, figsize=(style.FIGURE_WIDTH, 5.4), sharey=True)
    for row, network in zip(grid, ("dmv", "gmic"), strict=True):
        for ax, kind in zip(row, ("microcalcification", "soft tissue"), strict=True):
            for where, (colour, marker) in looks.items():
                rows = results.select(
                    "region KS", network=network, subgroup=kind, where=where
                )
                _curve(ax, rows, where, colour, marker)
            ax.set(
                title=f"{network.upper()}: {kind}",
                xscale="log",
                xlabel="cut-off wavelength (mm)",
            )
            _cut_off_ticks(ax)
        row[0].set_ylabel("KS statistic")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure
