"""The chapter's figures: each function draws one from measurements, and writes its
caption and alt text from the rows.

In the order of the page (`FIGURES`); `hero` and `in_short` stand above everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from robustbook import page
from robustbook.data.exam_files import OwnView
from robustbook.data.phantoms import SUBGROUPS, VIEWS, WHITE, Exams
from robustbook.models.network import compute_logits
from robustbook.page import Kind
from robustbook.plots import interactive, style
from robustbook.results import Metric, Results
from robustbook.studies.mammogram_perturbations import claims, networks
from robustbook.studies.mammogram_perturbations.measure import (
    own_exam,
    perturbed,
    readers,
    visibility,
)
from robustbook.studies.mammogram_perturbations.networks import Network
from robustbook.studies.mammogram_perturbations.parameters import Parameters, by_name

Array = NDArray[np.float64]
FIGURES = (
    "one-lesion",
    "exam",
    "perturbations",
    "losses",
    "severities",
    "explore",
    "below-half",
    "spectra",
    "published",
    "effects",
    "regions",
    "natural-images",
)
"""Names of the numbered figures, in the order of the page."""

ARMS = {
    "clean": ("trained clean", style.BLUE, "o"),
    "restored": ("clean, after a Wiener filter", style.PURPLE, "P"),
    "filtered": ("trained at the severity", style.VERMILLION, "D"),
    "blur-augmented": ("trained with blur", style.GREEN, "^"),
}
LEGS = {
    "phantoms": ("phantoms", style.BLUE, "o"),
    "mias": ("films", style.PURPLE, "P"),
    "natural": ("natural images", style.ORANGE, "s"),
}
KINDS = {
    "soft tissue": ("masses", style.OCHRE, "s"),
    "microcalcification": ("specks", style.SKY, "v"),
}
WINDOW = (0.3, 0.85)
"""Grey levels (share of the 12-bit range) that pictures show from black to white."""
SHOWN = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Severities (mm) that a reader can choose."""
UNFILTERED = 0.12
"""Where an axis of severities puts the unfiltered image."""


def _shown(
    figure: Figure, name: str, *, alt: str, caption: str, kind: Kind = "plot"
) -> HTML:
    return page.figure(
        figure,
        alt=alt,
        caption=caption,
        kind=kind,
        name=name,
        number=FIGURES.index(name) + 1,
    )


def _picture(ax: Axes, image: NDArray[np.floating] | Tensor) -> None:
    ax.imshow(np.asarray(image), cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1])
    ax.set_axis_off()


def _said(row: Metric, digits: int = 2) -> str:
    return page.interval(row, digits)


def _legend(figure: Figure, ax: Axes, columns: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


# Above everything else
# --------------------------------------------------------------------------------------


def in_short(results: Results) -> list[str]:
    """What the chapter found, in three or four sentences."""
    found = {claim.id: claim.verdict(results) for claim in claims.CLAIMS}
    said = [
        "A low-pass filter hides specks of calcium before it hides masses, so a "
        "network that ignores the filter would ignore the specks: that is the claim."
    ]
    for name in ("O2-readers", "O2-phantoms", "O3-phantoms", "O3-predictions"):
        judgement = found[name]
        if judgement.verdict != "not tested at this scale" and len(said) < 4:
            said.append(judgement.answer)
    if len(said) == 1:
        said.append("This run is too small to judge it; it shows how it is measured.")
    return said


def hero(exams: Exams, network: Network) -> HTML:
    """A cluster of specks at four severities, and what the network says of each."""
    number, side = _with_specks(exams)
    figure, axes = pyplot.subplots(1, 4, figsize=(style.FIGURE_WIDTH, 2.1))
    for ax, severity in zip(axes, (0.0, 1.0, 2.0, 4.0), strict=True):
        image, chance = _read(exams, number, side, network, severity)
        _picture(ax, image)
        name = f"{severity:g} mm" if severity else "unfiltered"
        ax.set_title(f"{name}\n{chance:.0%}", fontsize=10)
    return page.figure(
        figure,
        kind="picture",
        alt="A breast with a cluster of bright specks, unfiltered and filtered at 1, 2 "
        "and 4 mm; below each severity the chance of cancer that a network sees.",
        caption="A malignant cluster of specks under a filter of growing wavelength, "
        "and the chance of cancer that the network gives it.",
    )


def _with_specks(exams: Exams) -> tuple[int, int]:
    """The exam and side of a malignant cluster whose specks stand out most."""
    wanted = np.argwhere((exams.subgroups == 2) & (exams.labels[:, :, 1] > 0))
    peaks = [exams.signals[exam, side].max() for exam, side in wanted]
    exam, side = wanted[int(np.argmax(peaks))]
    return int(exam), int(side)


def _read(
    exams: Exams, number: int, side: int, network: Network, severity: float
) -> tuple[Tensor, float]:
    """A view of the filtered exam, and the network's chance that its breast holds
    cancer.
    """
    from robustbook.data.phantoms import unit_images

    images = unit_images(exams.images[number : number + 1])
    shown = networks.filtered(images, severity, network.pitch)
    logits = compute_logits(networks.load_network(network), shown)
    return shown[0, side], float(logits[0, 2 * side + 1].sigmoid())


# See it once
# --------------------------------------------------------------------------------------


def one_lesion(before: Tensor, after: Tensor, *, severity: float) -> HTML:
    """A view, the filtered view, and their difference."""
    figure, axes = pyplot.subplots(1, 3, figsize=(4.6, 2.2))
    _picture(axes[0], before)
    _picture(axes[1], after)
    axes[2].imshow(np.asarray(before - after), cmap="PuOr", vmin=-0.08, vmax=0.08)
    axes[2].set_axis_off()
    for ax, title in zip(axes, ("before", "after", "taken away"), strict=True):
        ax.set_title(title)
    largest = float((before - after).abs().max())
    return _shown(
        figure,
        "one-lesion",
        kind="picture",
        alt="A breast with specks, the same after a low-pass filter, and what the "
        "filter took away: the specks, thin strands and the skin line.",
        caption=f"A filter of {severity:g} mm takes specks, strands and the skin line "
        f"(up to {largest:.2f} of the grey range), and leaves what is broad.",
    )


# Data and perturbations
# --------------------------------------------------------------------------------------


def exam(exams: Exams) -> HTML:
    """The four views of an exam with lesions, their outlines in colour."""
    number = _example(exams)
    figure, axes = pyplot.subplots(1, 4, figsize=(style.FIGURE_WIDTH, 2.3))
    for ax, view in zip(axes, (1, 0, 3, 2), strict=True):
        _picture(ax, exams.images[number, view] / WHITE)
        kind = SUBGROUPS[exams.subgroups[number, view % 2]]
        mask = exams.masks[number, view]
        if mask.any():
            ax.contour(mask, levels=[0.5], colors=[KINDS[kind][1]], linewidths=1)
        ax.set_title(VIEWS[view])
    sides = "; ".join(
        f"{side} {SUBGROUPS[exams.subgroups[number, place]]}"
        + (", malignant" if exams.labels[number, place, 1] else "")
        for place, side in enumerate(("left", "right"))
    )
    return _shown(
        figure,
        "exam",
        kind="picture",
        alt="Four grey views of an exam, right and left breast from above and "
        "obliquely; coloured lines outline the drawn lesions.",
        caption=f"Four views of one drawn exam: {sides}. We drew the lesions, so their "
        "outlines are known.",
    )


def _example(exams: Exams) -> int:
    """The first exam with a malignant lesion of each kind, else the first with two
    lesions.
    """
    for number, (labels, kinds) in enumerate(
        zip(exams.labels, exams.subgroups, strict=True)
    ):
        if labels[:, 1].all() and set(kinds) == {1, 2}:
            return number
    return int(np.argmax((exams.subgroups > 0).sum(axis=1)))


@by_name
def perturbations(exams: Exams, network: Network, parameters: Parameters) -> HTML:
    """One breast with specks under the four perturbations (top), and what each changed
    (bottom).
    """
    task = perturbed.task_of(network, parameters)
    few = len(task.images)
    kinds = (exams.subgroups[:few] == 2) & (exams.labels[:few, :, 1] > 0)
    number, side = (int(part) for part in np.argwhere(kinds)[0])
    severities = {
        "adversarial": 0.01,
        "universal": 0.01,
        "noise": 0.01,
        "low-pass": 2.0,
    }
    before = task.images[number, side]
    figure, axes = pyplot.subplots(2, 4, figsize=(style.FIGURE_WIDTH, 3.9))
    for column, (name, severity) in zip(axes.T, severities.items(), strict=True):
        after = perturbed.perturb(task, name, severity, parameters)[number, side]
        _picture(column[0], after)
        unit = " mm" if name == "low-pass" else ""
        column[0].set_title(f"{name}\n{severity:g}{unit}", fontsize=10)
        change = np.asarray(after - before)
        column[1].imshow(change, cmap="PuOr", vmin=-0.04, vmax=0.04)
        column[1].set_axis_off()
    return _shown(
        figure,
        "perturbations",
        kind="picture",
        alt="A breast with specks under an attack, a universal pattern, noise and a "
        "low-pass filter, above pictures of what each changed.",
        caption="Attack, pattern and noise change every pixel by about 0.01; the "
        "filter changes edges and specks. Below: the change.",
    )


def losses(results: Results) -> HTML:
    """Loss of AUC (phantoms, films) and of accuracy (natural images) by severity of
    each perturbation, the deciding severity marked.
    """
    figure, axes = pyplot.subplots(2, 2, figsize=(style.FIGURE_WIDTH, 5.4), sharey=True)
    decided = []
    for ax, name in zip(axes.flat, perturbed.STRENGTHS, strict=True):
        for leg, look in LEGS.items():
            factors: dict[str, Any] = {"perturbation": name}
            row = "natural accuracy loss"
            if leg != "natural":
                row, factors = "AUC loss", {**factors, "leg": leg, "subgroup": "all"}
            _curve(ax, results.select(row, **factors), *look)
        severity = claims.decisive(results, name)
        if severity is not None:
            ax.axvline(severity, color=style.GREY, linewidth=1, linestyle="--")
            decided.append(f"{name} {severity:g}")
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set(title=name, xlabel=perturbed.UNITS[name], xscale="log")
        strengths = perturbed.STRENGTHS[name]
        _ticks(ax, strengths if name != "low-pass" else strengths[1:])
    for ax in axes[:, 0]:
        ax.set_ylabel("loss")
    _legend(figure, axes[0, 0], 3)
    return _shown(
        figure,
        "losses",
        alt="Four panels, one per perturbation: loss of AUC or accuracy against "
        "severity, one line per leg.",
        caption="Loss of AUC (of accuracy on natural images). Dashed: the strongest "
        f"severity that leaves lesions recognisable ({', '.join(decided) or 'none'}). "
        "Bands: 95 % over trainings and cases.",
    )


def _ticks(ax: Axes, values: Sequence[float], labels: Sequence[str] = ()) -> None:
    from matplotlib.ticker import NullLocator

    ax.xaxis.set_ticks(list(values), list(labels) or [f"{value:g}" for value in values])
    ax.xaxis.set_minor_locator(NullLocator())


def _cut_off_ticks(ax: Axes) -> None:
    """Ticks at cut-offs, the unfiltered image at the left end."""
    ax.set(xscale="log", xlabel="cut-off (mm)")
    _ticks(ax, (UNFILTERED, 0.5, 1, 2, 4), ("none", "0.5", "1", "2", "4"))


def _curve(
    ax: Axes, rows: Sequence[Metric], label: str, colour: str, marker: str
) -> None:
    """Values over severity (0 at the left end) with a band where there is an
    interval.
    """
    if not rows:
        return
    rows = sorted(rows, key=lambda row: float(row.factors["severity"]))
    places = [float(row.factors["severity"]) or UNFILTERED for row in rows]
    values = [row.value for row in rows]
    ax.plot(places, values, marker=marker, color=colour, label=label, markersize=5)
    if all(row.low is not None for row in rows):
        low, high = (
            np.array([getattr(row, end) for row in rows], dtype=float)
            for end in ("low", "high")
        )
        ax.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


# Low-pass filtering
# --------------------------------------------------------------------------------------


def severities(results: Results) -> HTML:
    """AUC by cut-off on phantoms, and on films where they were measured."""
    legs = [leg for leg in ("phantoms", "mias") if results.select("score", leg=leg)]
    figure = _two_kinds(results, legs)
    common = {"leg": "phantoms", "severity": 4.0}
    said = "; ".join(
        f"{KINDS[kind][0]} {_left(results, kind, **common)}" for kind in claims.LESIONS
    )
    return _shown(
        figure,
        "severities",
        alt="AUC against cut-off wavelength for specks and masses, one line for the "
        "clean network, for the restoring filter and for each training.",
        caption=f"AUC by cut-off. Lost at 4 mm on phantoms: {said}. "
        "Bands: 95 % over trainings and cases.",
    )


def _left(results: Results, kind: str, **common: Any) -> str:
    """The clean network's loss and what is left of it, in words."""
    rows = {
        str(row.factors["arm"]): row
        for row in results.select("score loss", subgroup=kind, **common)
    }
    said = [f"{rows['clean'].value:.2f}"]
    words = {"restored": "Wiener", "filtered": "re-trained", "blur-augmented": "blur"}
    said += [
        f"{word} {rows[arm].value:.2f}" for arm, word in words.items() if arm in rows
    ]
    return ", ".join(said)


def _two_kinds(results: Results, legs: Sequence[str]) -> Figure:
    figure, grid = pyplot.subplots(
        len(legs),
        2,
        figsize=(style.FIGURE_WIDTH, 0.9 + 2.4 * len(legs)),
        sharey=True,
        squeeze=False,
    )
    for row, leg in zip(grid, legs, strict=True):
        for ax, kind in zip(row, claims.LESIONS, strict=True):
            for arm, look in ARMS.items():
                found = results.select("score", leg=leg, subgroup=kind, arm=arm)
                _curve(ax, found, *look)
            ax.axhline(0.5, color=style.INK, linewidth=1, linestyle=":")
            ax.set_title(f"{LEGS[leg][0]}: {KINDS[kind][0]}")
            _cut_off_ticks(ax)
        row[0].set_ylabel("AUC")
    _legend(figure, grid[0, 0], 2)
    return figure


def explore(results: Results, exams: Exams, network: Network) -> interactive.View:
    """A breast at a severity that the reader chooses, with the AUC of both kinds of
    lesion and the visibility that two observers give them.
    """
    import altair as alt

    number, side = _with_specks(exams)
    seen, bars = [], []
    for severity in SHOWN:
        image, chance = _read(exams, number, side, network, severity)
        grey = np.clip((image.numpy() - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
        text = f"network: {chance:.0%} malignant"
        picture = interactive.image_uri(grey)
        seen.append({"severity": severity, "image": picture, "text": text})
        bars += [
            {
                "severity": severity,
                "what": what,
                "lesion": KINDS[kind][0],
                "value": value,
            }
            for kind in claims.LESIONS
            for what, value in _measured_at(results, kind, severity).items()
        ]
    slider = interactive.slider("severity", SHOWN, label="Cut-off (mm)", start=0.0)
    here = interactive.chosen(slider)
    one = alt.Chart(pd.DataFrame(seen), width=180).transform_filter(here)
    breast = interactive.pictures(one, "image", size=180)
    words = one.properties(height=24).mark_text(fontSize=13).encode(text="text:N")
    columns = (
        alt.Chart(pd.DataFrame(bars), width=200, height=200)
        .transform_filter(here)
        .mark_bar()
        .encode(
            y=alt.Y("what:N", title=None, sort=list(_measured_names())),
            yOffset="lesion:N",
            x=alt.X("value:Q", title=None).scale(domain=[0, 1]),
            color=alt.Color("lesion:N", title=None).legend(orient="bottom"),
        )
    )
    return interactive.show(
        alt.hconcat(alt.vconcat(breast, words), columns).add_params(slider),
        fallback=_still(exams, network, number, side),
        name="explore",
        number=FIGURES.index("explore") + 1,
        alt="A breast with specks at a cut-off that the reader chooses, beside the AUC "
        "of networks and the share of visibility that observers keep, for specks and "
        "masses.",
        caption="Move the cut-off. The clean network's AUC, and the share of d′ that "
        "an observer keeps who can undo the filter (exact) and one who cannot (plain).",
    )


def _measured_names() -> tuple[str, ...]:
    return ("AUC, clean network", "d′ kept, exact", "d′ kept, plain")


def _measured_at(results: Results, kind: str, severity: float) -> dict[str, float]:
    auc, exact, plain = _measured_names()
    at: dict[str, Any] = {"subgroup": kind, "severity": severity}
    return {
        auc: results.one("score", leg="phantoms", arm="clean", **at).value,
        exact: results.one("visibility kept", **claims.EXACT, **at).value,
        plain: results.one("visibility kept", **claims.PLAIN, **at).value,
    }


def _still(exams: Exams, network: Network, number: int, side: int) -> Figure:
    """The same as a picture, at three severities."""
    figure, axes = pyplot.subplots(1, 3, figsize=(4.4, 2.1))
    for ax, severity in zip(axes, (0.0, 2.0, 4.0), strict=True):
        image, chance = _read(exams, number, side, network, severity)
        _picture(ax, image)
        ax.set_title(f"{severity:g} mm: {chance:.0%}")
    return figure


def below_half(results: Results) -> HTML:
    """AUC of specks against two parts of the other breasts, by cut-off, clean
    networks.
    """
    legs = [
        (leg, network)
        for leg, network in (("phantoms", "four-view"), ("predictions", "gmic"))
        if results.select("AUC against a part", leg=leg)
    ]
    looks = [(style.BLUE, "o"), (style.VERMILLION, "D")]
    figure, axes = pyplot.subplots(
        1, len(legs), figsize=(style.FIGURE_WIDTH, 3.1), sharey=True, squeeze=False
    )
    lowest: list[Metric] = []
    for ax, (leg, network) in zip(axes[0], legs, strict=True):
        rows = results.select(
            "AUC against a part",
            leg=leg,
            network=network,
            subgroup="microcalcification",
        )
        names = dict.fromkeys(str(row.factors["against"]) for row in rows)
        for name, look in zip(names, looks, strict=True):
            part = [row for row in rows if row.factors["against"] == name]
            label = "against no lesion" if "benign" not in name else "against benign"
            _curve(ax, part, label, *look)
        ax.axhline(0.5, color=style.INK, linewidth=1, linestyle=":")
        ax.set_title("phantoms" if leg == "phantoms" else network.upper())
        _cut_off_ticks(ax)
        lowest.append(min(rows, key=lambda row: row.value))
    axes[0, 0].set_ylabel("AUC of specks")
    _legend(figure, axes[0, 0], 2)
    least = min(lowest, key=lambda row: row.value)
    where = (
        "the breasts that look worse hold benign lesions"
        if "benign" in str(least.factors["against"])
        else "even breasts without a lesion look worse"
    )
    sure = (
        "and lies below it" if (least.high or 1) < 0.5 else "but its interval holds it"
    )
    return _shown(
        figure,
        "below-half",
        alt="AUC of specks against breasts without a lesion and against benign "
        "lesions, by cut-off wavelength.",
        caption=f"Where an AUC falls below one half: the lowest is {_said(least)}, "
        f"{sure}; {where}.",
    )


def spectra(exams: Exams) -> HTML:
    """Power of texture with noise, of both kinds of lesion, and of rounding, on one
    axis.
    """
    side, settings = visibility.SIDE, exams.settings
    frequency = visibility.frequencies(side, settings.pitch)
    edges = np.arange(0.5, side // 2 + 1) / (side * settings.pitch)
    middle = (edges[1:] + edges[:-1]) / 2
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.6))
    noise = radial(visibility.noise_power(settings), frequency, edges)
    ax.plot(middle, noise, color=style.GREY, label="texture and noise")
    for kind, (label, colour, marker) in KINDS.items():
        patches = visibility.lesion_patches(exams, kind, malignant=True)
        waves = [np.fft.fft2(each - each.mean(), norm="ortho") for each in patches]
        power = radial(np.mean(np.abs(waves) ** 2, axis=0), frequency, edges)
        ax.plot(middle, power, marker, ls="-", color=colour, ms=4, label=label)
    rounding = np.full_like(middle, visibility.LATER_NOISE["8-bit display"])
    label = "rounding to 8 bits"
    ax.plot(middle, rounding, color=style.VERMILLION, linestyle="--", label=label)
    ax.set(xscale="log", yscale="log", xlabel="frequency (cycles/mm)", ylabel="power")
    _ticks(ax, (0.2, 0.5, 1, 2))
    _legend(figure, ax, 2)
    return _shown(
        figure,
        "spectra",
        alt="Power against frequency of texture with noise, of masses, of specks and "
        "of rounding.",
        caption="Specks keep their power at high frequencies, where texture and masses "
        "have little. A filter lowers all three lines alike; what comes after it "
        "(rounding) stays.",
    )


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


# Published predictions
# --------------------------------------------------------------------------------------


def published(results: Results) -> HTML | None:
    """AUC of the published networks by cut-off, both trainings; None where they were
    left out.
    """
    if not results.select("score", leg="predictions"):
        return None
    figure, grid = pyplot.subplots(2, 2, figsize=(style.FIGURE_WIDTH, 5.4), sharey=True)
    for row, network in zip(grid, claims.NETWORKS["predictions"], strict=True):
        for ax, kind in zip(row, claims.LESIONS, strict=True):
            for arm in ("clean", "filtered"):
                factors = {"network": network, "subgroup": kind, "arm": arm}
                rows = results.select("score", leg="predictions", **factors)
                _curve(ax, rows, *ARMS[arm])
            ax.axhline(0.5, color=style.INK, linewidth=1, linestyle=":")
            ax.set_title(f"{network.upper()}: {KINDS[kind][0]}")
            _cut_off_ticks(ax)
        row[0].set_ylabel("AUC")
    _legend(figure, grid[0, 0], 2)
    at = {"leg": "predictions", "network": "dmv", "severity": 4.0}
    said = "; ".join(
        f"{KINDS[kind][0]} {_left(results, kind, **at)}" for kind in claims.LESIONS
    )
    return _shown(
        figure,
        "published",
        alt="AUC against cut-off wavelength for the networks DMV and GMIC, specks and "
        "masses, both trainings.",
        caption=f"Published predictions. DMV loses at 4 mm: {said}. Bands: 95 % over "
        "seeds and exams.",
    )


def effects(results: Results) -> HTML | None:
    """Effect of the severity on the logit of an answer, readers and GMIC, with what the
    figures of the follow-up say; None where they were left out.
    """
    if not results.select("effect of severity"):
        return None
    looks = [(style.BLUE, "o"), (style.VERMILLION, "D"), (style.GREEN, "^")]
    labels = ("radiologists", "GMIC", "GMIC, trained filtered")
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.6), sharey=True)
    for ax, kind in zip(axes, claims.LESIONS, strict=True):
        for series, label, look in zip(readers.SERIES, labels, looks, strict=True):
            rows = results.select(
                "effect of severity", series=series, subgroup=kind, fit="chains"
            )
            _curve(ax, rows, label, *look)
            places = [float(row.factors["severity"]) for row in rows]
            read = readers.PUBLISHED_EFFECTS[series, kind]
            ax.plot(places, read, "x", color=look[0], markersize=6)
        ax.axhline(0, color=style.INK, linewidth=1)
        ax.set_title(KINDS[kind][0])
        ax.set(xscale="log", xlabel="cut-off (mm)")
        _ticks(ax, (0.2, 0.5, 1, 2, 4))
    axes[0].set_ylabel("change of the logit")
    _legend(figure, axes[0], 2)
    gap = results.one(
        "effect gap of microcalcification", series="readers", severity=2.0
    )
    return _shown(
        figure,
        "effects",
        alt="Change of the logit of a malignant answer by cut-off wavelength, for "
        "radiologists, GMIC and GMIC trained on filtered images; specks and masses.",
        caption="Radiologists lose confidence in specks, not in masses (difference at "
        f"2 mm {_said(gap)} logits). Crosses: read off the follow-up's figure. Bands: "
        "95 % credible.",
    )


def regions(results: Results) -> HTML | None:
    """KS of GMIC when readers' regions, their outside, or everything is filtered; None
    where the predictions were left out.
    """
    if not results.select("region KS"):
        return None
    looks = {
        "interior": (style.VERMILLION, "D"),
        "exterior": (style.GREEN, "^"),
        "entire": (style.BLUE, "o"),
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(style.FIGURE_WIDTH, 3.3), sharey=True)
    for ax, kind in zip(axes, claims.LESIONS, strict=True):
        for where, look in looks.items():
            rows = results.select(
                "region KS", network="gmic", subgroup=kind, where=where
            )
            _curve(ax, rows, where, *look)
        ax.set_title(KINDS[kind][0])
        _cut_off_ticks(ax)
    axes[0].set_ylabel("KS of GMIC")
    _legend(figure, axes[0], 3)
    return _shown(
        figure,
        "regions",
        alt="KS statistic of GMIC when readers' regions, their outside, or all is "
        "filtered, for specks and masses.",
        caption="For specks the inside of the readers' regions matters more, for "
        "masses the outside. Means over readers and seeds, without intervals.",
    )


def natural(results: Results, *, title: str) -> HTML:
    """Accuracy of the natural arm by cut-off, one line an arm."""
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    for arm, look in ARMS.items():
        _curve(ax, results.select("score", leg="natural", arm=arm), *look)
    ax.set_ylabel("accuracy")
    _cut_off_ticks(ax)
    _legend(figure, ax, 2)
    severity = max(
        (
            float(row.factors["severity"])
            for row in results.select("score", leg="natural", arm="filtered")
        ),
        default=4.0,
    )
    left = _left(results, "all", leg="natural", severity=severity)
    return _shown(
        figure,
        "natural-images",
        alt="Accuracy against cut-off wavelength on natural images, one line an arm.",
        caption=f"{title}, cut-offs equal in pixels. Lost at {severity:g} mm: {left}.",
    )


# A reader's own exam
# --------------------------------------------------------------------------------------


def own_views(views: Sequence[OwnView]) -> HTML:
    """The four views of a reader's exam, unfiltered and at 1, 2 and 4 mm."""
    figure, grid = pyplot.subplots(4, 4, figsize=(style.FIGURE_WIDTH, 7.0))
    for column, view in zip(grid.T, views, strict=True):
        step = max(1, min(view.image.shape) // 400)  # what a page can show
        for ax, severity in zip(column, (0.0, 1.0, 2.0, 4.0), strict=True):
            shown = view.image
            if severity:
                filtered = own_exam.perturbed_view(view, "low-pass", severity)
                shown = filtered[0, 0].numpy()
            ax.imshow(shown[::step, ::step], cmap="gray")
            ax.set_axis_off()
            name = f"{severity:g} mm" if severity else view.name
            ax.set_title(name, fontsize=10)
    return page.figure(
        figure,
        kind="picture",
        alt="The four views of the given exam, unfiltered and filtered.",
        caption="Your exam under the low-pass filter, cut-offs in millimetres.",
    )
