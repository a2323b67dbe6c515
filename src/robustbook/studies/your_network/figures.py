"""The chapter's figures: each function draws one from the rows, or from what a lens saw
of the reader's images, and writes its caption and alt text.

In the order of the page (`FIGURES`); `hero` stands above everything else. What a lens
did not see is said in a line, with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from robustbook import page
from robustbook.measure.similarity import stretch
from robustbook.page import Kind
from robustbook.plots import style
from robustbook.results import Metric, Results
from robustbook.studies.your_network.claims import percent, saying
from robustbook.studies.your_network.measure.looking import Refused, Seen
from robustbook.studies.your_network.networks import Examined

if TYPE_CHECKING:
    from IPython.display import HTML, Markdown

FIGURES = (
    "attacked",
    "budgets",
    "degraded",
    "severities",
    "doubt",
    "maps",
    "removal-areas",
    "proved",
    "units-gone",
    "layers",
)
"""Names of the numbered figures, in the order of the page."""

MANY = 4
"""So many images stand beside each other."""
ATTACKS = {
    "APGD-CE": (style.BLUE, "o"),
    "then APGD-T": (style.ORANGE, "s"),
    "then Square": (style.VERMILLION, "D"),
}
KINDS = {"low-pass": (style.BLUE, "o"), "noise": (style.VERMILLION, "D")}
MAPS = {
    "RISE": style.BLUE,
    "occlusion": style.ORANGE,
    "gradient": style.GREEN,
    "random": style.GREY,
}


def told(results: Results, seen: Seen | Refused) -> Markdown:
    """What a lens says in a sentence, what it cost and what it remarked; or why it says
    nothing.
    """
    if isinstance(seen, Refused):
        return page.prose(f"**This lens saw nothing:** {seen.reason}.")
    cost = seen.passes.total
    counted = f"It cost {page.number(cost)} passes." if cost else "It cost no passes."
    words = [f"**{saying(results, seen.lens)}**", counted, *seen.remarks]
    return page.prose(" ".join(words))


def of_subject(subject: Examined) -> str:
    """The network and its images in a paragraph, with what was remarked."""
    channels, height, width = subject.data.image_shape
    weights = sum(each.numel() for each in subject.network.parameters())
    first = (
        f"The network `{subject.title}` has {page.number(weights)} weights and "
        f"{subject.classes} classes. It is measured on {len(subject.images)} images "
        f"({subject.data.title}, {height} × {width} pixels, {channels} channels)."
    )
    return " ".join([first, *subject.remarks])


def randomised(results: Results) -> Markdown:
    """How much of the gradient's map is there without the weights."""
    rows = results.select("randomised agreement")
    if not rows:
        return page.prose("")
    last, every = rows
    return page.prose(
        "A map must change when the weights do: with the last layer drawn anew the "
        f"gradient's map still has a rank correlation of {last.value:.2f} with its "
        f"own, with all layers {every.value:.2f}."
    )


def reliability(results: Results) -> Markdown:
    """How far the scores of units can be trusted."""
    rows = {
        str(row.factors["compared"]): row.value
        for row in results.select("importance agreement")
    }
    if not rows:
        return page.prose("")
    removal = rows.get("removal")
    found = (
        "" if removal is None else f", and {removal:.2f} with what removal really does"
    )
    return page.prose(
        f"The scores of two halves of the images have a rank correlation of "
        f"{rows['itself']:.2f}{found}."
    )


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


def _absent(subject: Examined | None, seen: Seen | Refused | None = None) -> Any:
    """A line in the place of a picture, None where there is one."""
    if isinstance(seen, Refused):
        return page.prose("*No picture: the lens saw nothing.*")
    if subject is not None and not subject.data.shareable:
        return page.prose("*Pictures of this data set may not be shown on a page.*")
    return None


def _looked(results: Results, lens: str) -> bool:
    return bool(results.select(f"{lens} passes"))


def _image(ax: Axes, image: Tensor, title: str = "") -> None:
    shown = image.detach().cpu().permute(1, 2, 0).numpy().squeeze()
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _bare(ax, title)


def _map(ax: Axes, values: Tensor, title: str = "") -> None:
    ax.imshow(stretch(values[None].detach().cpu().float())[0].numpy(), cmap="viridis")
    _bare(ax, title)


def _bare(ax: Axes, title: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontweight="normal", loc="center")
    ax.grid(visible=False)


def _grid(rows: int, columns: int) -> tuple[Figure, Any]:
    side = style.FIGURE_WIDTH / columns
    return pyplot.subplots(
        rows, columns, figsize=(style.FIGURE_WIDTH, rows * (side + 0.2)), squeeze=False
    )


def _line(
    ax: Axes, rows: Sequence[Metric], places: Sequence[float], look: Any, label: str
) -> None:
    """Points with their intervals, joined."""
    colour, marker = look
    values = [row.value for row in rows]
    low = [row.value if row.low is None else row.low for row in rows]
    high = [row.value if row.high is None else row.high for row in rows]
    ax.plot(places, values, color=colour, marker=marker, label=label)
    ax.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _legend(ax: Axes, columns: int) -> None:
    ax.legend(ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.24))


def _name(subject: Examined, label: Tensor | int) -> str:
    name = subject.name_of(label)
    return name if len(name) < 14 else f"{name[:12]}…"


# Above everything else
# --------------------------------------------------------------------------------------


def hero(results: Results) -> HTML:
    """Every accuracy on the page in one picture: what each perturbation leaves."""
    clean = results.one("clean accuracy")
    bars = [("as they are", clean, style.INK)]
    if _looked(results, "attack"):
        bars += [
            (f"attack {row.factors['budget']:.2g}", row, style.VERMILLION)
            for row in results.select("robust accuracy", attack="then Square")
        ]
    if _looked(results, "degradation"):
        for kind, colour in (("noise", style.BLUE), ("low-pass", style.SKY)):
            rows = results.select("degraded accuracy", kind=kind)
            for row in (rows[len(rows) // 2], rows[-1]):
                bars.append((f"{kind} {row.factors['severity']:.2g}", row, colour))
        pattern = results.one("universal accuracy", pattern="learnt")
        bars.append(("one pattern", pattern, style.PURPLE))
    if _looked(results, "pruning"):
        rows = results.select("pruned accuracy")
        for row in rows[3:5]:
            gone = percent(float(row.factors["removed"]))
            bars.append((f"{gone} of units gone", row, style.GREEN))
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.9 + 0.24 * len(bars)))
    for place, (_, row, colour) in enumerate(bars):
        low, high = row.low or 0.0, 1.0 if row.high is None else row.high
        ax.plot([low, high], [place, place], color=colour, linewidth=2)
        ax.plot(row.value, place, "o", color=colour)
    ax.axvline(clean.value, color=style.INK, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.02), xlabel="share of images that get their right class")
    said = ", ".join(f"{name} {percent(row.value)}" for name, row, _ in bars)
    return page.figure(
        figure,
        alt=f"Points with intervals: {said}.",
        caption="What is left of the accuracy, with 95 % intervals over images.",
        name="hero",
    )


# Attack
# --------------------------------------------------------------------------------------


def attacked(subject: Examined, seen: Seen | Refused) -> Any:
    """Images, what the attack changed, and the network's answers before and after."""
    if (absent := _absent(subject, seen)) is not None or isinstance(seen, Refused):
        return absent
    changed = seen.pictures["attacked"]
    moved = (changed - subject.images).flatten(1).abs().amax(1) > 0
    places = moved.nonzero().squeeze(1)[:MANY].tolist()
    if not places:
        return page.prose("*No attack changed an answer.*")
    answers = subject.network(changed[places]).argmax(1)
    figure, axes = _grid(3, MANY)
    for ax in axes.flat:
        ax.axis("off")
    for column, place in enumerate(places):
        change = changed[place] - subject.images[place]
        _image(
            axes[0, column],
            subject.images[place],
            _name(subject, subject.answers[place]),
        )
        _image(axes[1, column], change / (2 * change.abs().max()) + 0.5)
        _image(axes[2, column], changed[place], _name(subject, answers[column]))
        for ax in axes[:, column]:
            ax.axis("on")
    return _shown(
        figure,
        "attacked",
        alt="Three rows of pictures: images, the changes made larger, attacked images.",
        caption="Your images with the network's answer, the smallest change that was "
        "found to fool it (made larger), and the answer after it.",
        kind="picture",
    )


def attack(results: Results) -> Any:
    """Accuracy against the budget after one, two and three attacks."""
    if not _looked(results, "attack"):
        return _absent(None, Refused("attack", ""))
    clean = results.one("clean accuracy")
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    for name, look in ATTACKS.items():
        rows = [clean, *results.select("robust accuracy", attack=name)]
        places = [float(row.factors.get("budget", 0)) for row in rows]
        _line(ax, rows, places, look, name)
    ax.set(xlabel="budget (pixel units)", ylabel="accuracy (share)", ylim=(0, 1.03))
    _legend(ax, 3)
    last = results.select("robust accuracy", attack="then Square")[-1]
    first = results.select("robust accuracy", attack="then APGD-T")[-1]
    hidden = first.value - last.value
    finding = (
        f"Square, which sees no gradient, takes another {percent(hidden)}: gradients "
        "are masked."
        if hidden > 0.05
        else "What gradients leave, the attack without gradients leaves too."
    )
    return _shown(
        figure,
        "budgets",
        alt=f"Accuracy falls from {percent(clean.value)} to {percent(last.value)}.",
        caption=f"Accuracy under attacks one after the other. {finding}",
    )


# Degradation
# --------------------------------------------------------------------------------------


def degraded(subject: Examined, seen: Seen | Refused) -> Any:
    """One image at every severity."""
    if (absent := _absent(subject, seen)) is not None or isinstance(seen, Refused):
        return absent
    names = list(seen.pictures)
    figure, axes = _grid(2, len(names) // 2)
    for ax, name in zip(axes.flat, names, strict=True):
        _image(ax, seen.pictures[name][0], name.replace(" ", "\n"))
    return _shown(
        figure,
        "degraded",
        alt="Two rows of one image: blurred more and more, with more and more noise.",
        caption="One of your images at each severity: the filter's cut-off in pixels, "
        "the noise's deviation in pixel units.",
        kind="picture",
    )


def degradation(results: Results) -> Any:
    """Accuracy against similarity for both kinds."""
    if not _looked(results, "degradation"):
        return _absent(None, Refused("degradation", ""))
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.2))
    for kind, look in KINDS.items():
        rows = results.select("degraded accuracy", kind=kind)
        alike = [row.value for row in results.select("similarity", kind=kind)]
        _line(ax, rows, alike, look, kind)
    ax.invert_xaxis()
    ax.set(
        xlabel="similarity to the image (SSIM)",
        ylabel="accuracy (share)",
        ylim=(0, 1.03),
    )
    _legend(ax, 2)
    learnt, random = (
        results.one("universal accuracy", pattern=name) for name in ("learnt", "random")
    )
    return _shown(
        figure,
        "severities",
        alt="Two falling curves of accuracy, low-pass and noise.",
        caption="Accuracy as images become less like themselves. One pattern for all "
        f"images leaves {percent(learnt.value)}, a random one {percent(random.value)}.",
    )


# Posterior
# --------------------------------------------------------------------------------------


def doubt(subject: Examined, seen: Seen | Refused) -> Any:
    """The images of which the posterior is surest and least sure."""
    if (absent := _absent(subject, seen)) is not None or isinstance(seen, Refused):
        return absent
    (scores, *_), pictures = seen.pictures["doubt"].values(), seen.pictures
    order = scores.argsort()
    figure, axes = _grid(2, MANY)
    for row, places in enumerate((order[:MANY], order[-MANY:])):
        for ax, place in zip(axes[row], places.tolist(), strict=False):
            label = _name(subject, pictures["labels"][place])
            _image(ax, pictures["images"][place], f"{label}\n{scores[place]:.2g}")
    return _shown(
        figure,
        "doubt",
        alt="Two rows of images with their doubt: the smallest above the largest.",
        caption="Where networks of the posterior agree (above) and where they do not, "
        "with the mutual information of answer and weights in nats.",
        kind="picture",
    )


# Saliency
# --------------------------------------------------------------------------------------


def maps(subject: Examined, seen: Seen | Refused) -> Any:
    """Images beside their maps."""
    if (absent := _absent(subject, seen)) is not None or isinstance(seen, Refused):
        return absent
    names = list(seen.pictures)
    count = min(MANY - 1, len(seen.pictures[names[0]]))
    figure, axes = _grid(count, 1 + len(names))
    for row in range(count):
        answer = _name(subject, subject.answers[row])
        _image(axes[row, 0], subject.images[row], answer)
        for ax, name in zip(axes[row, 1:], names, strict=True):
            _map(ax, seen.pictures[name][row], name if not row else "")
    return _shown(
        figure,
        "maps",
        alt="Images, each beside its maps by RISE, occlusion and gradient.",
        caption="Where the answer above each image comes from; bright is important.",
        kind="picture",
    )


def removal(results: Results) -> Any:
    """How much of the answer removal leaves, map by map."""
    if not _looked(results, "saliency"):
        return _absent(None, Refused("saliency", ""))
    curves = ("deletion", "ROAD", "insertion")
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.0))
    for place, (name, colour) in enumerate(MAPS.items()):
        for group, curve in enumerate(curves):
            row = results.one("removal", map=name, curve=curve)
            here = group + 0.18 * (place - 1.5)
            ax.plot([here, here], [row.low or 0, row.high or 0], color=colour)
            ax.plot(here, row.value, "o", color=colour, label=None if group else name)
    ax.set_xticks(
        range(len(curves)),
        ["deletion\n(low is good)", "ROAD\n(low)", "insertion\n(high)"],
    )
    ax.set(ylabel="mean probability", ylim=(0, 1.03))
    _legend(ax, 4)
    best = min(
        (name for name in MAPS if name != "random"),
        key=lambda name: results.one("removal", map=name, curve="ROAD").value,
    )
    return _shown(
        figure,
        "removal-areas",
        alt="Mean probabilities with intervals for four maps and three ways to remove.",
        caption=f"What removal of the most important pixels leaves of the answer. By "
        f"ROAD, which needs no cover, the {best} map is the sharpest.",
    )


# Certificate
# --------------------------------------------------------------------------------------


def certificate(results: Results) -> Any:
    """The certified share against the budget, below what attacks leave."""
    if not _looked(results, "certificate"):
        return _absent(None, Refused("certificate", ""))
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.0))
    rows = results.select("certified share")
    budgets = [float(row.factors["budget"]) for row in rows]
    _line(ax, rows, budgets, (style.GREEN, "^"), "proved")
    if _looked(results, "attack"):
        left = results.select("robust accuracy", attack="then Square")
        places = [float(row.factors["budget"]) for row in left]
        _line(ax, left, places, (style.VERMILLION, "D"), "not broken by attacks")
    ax.set(xscale="log", xlabel="budget (pixel units)", ylabel="share", ylim=(0, 1.03))
    _legend(ax, 2)
    return _shown(
        figure,
        "proved",
        alt="The proved share falls with the budget, below what attacks leave.",
        caption="The truth lies between what is proved and what no attack has broken.",
    )


# Pruning
# --------------------------------------------------------------------------------------


def pruning(results: Results) -> Any:
    """Accuracy against multiply-adds when the least important units go at once."""
    if not _looked(results, "pruning"):
        return _absent(None, Refused("pruning", ""))
    rows = results.select("pruned accuracy")
    costs = [row.value for row in results.select("multiply-adds")]
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 3.0))
    _line(ax, rows, costs, (style.VERMILLION, "D"), "least important first")
    for row, cost in zip(rows, costs, strict=True):
        gone = percent(float(row.factors["removed"]))
        ax.annotate(gone, (cost, row.value), (0, 7), textcoords="offset points")
    ax.invert_xaxis()
    ax.set(
        xlabel="multiply-adds (share of the whole)",
        ylabel="accuracy (share)",
        ylim=(0, 1.12),
    )
    return _shown(
        figure,
        "units-gone",
        alt="Accuracy against multiply-adds, a point for each share of units removed.",
        caption="What is left when the least important units go at once, without "
        "tuning; each point says which share of the units is gone.",
    )


def layers(results: Results) -> Any:
    """Accuracy when one layer loses half of its units."""
    if not _looked(results, "pruning"):
        return _absent(None, Refused("pruning", ""))
    rows = results.select("accuracy without half")
    clean = results.one("pruned accuracy", removed=0.0).value
    figure, ax = pyplot.subplots(figsize=(style.FIGURE_WIDTH, 0.9 + 0.22 * len(rows)))
    for place, row in enumerate(rows):
        colour = style.GREEN if row.value >= clean - 0.01 else style.VERMILLION
        low, high = row.low or 0.0, 1.0 if row.high is None else row.high
        ax.plot([low, high], [place, place], color=colour)
        ax.plot(row.value, place, "o", color=colour)
    ax.axvline(clean, color=style.INK, linewidth=0.8, linestyle=":")
    names = [str(row.factors["layer"]) for row in rows]
    short = [name if len(name) < 24 else f"…{name[-22:]}" for name in names]
    ax.set_yticks(range(len(rows)), short)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.02), xlabel="accuracy (share)")
    wide = sum(row.value >= clean - 0.01 for row in rows)
    return _shown(
        figure,
        "layers",
        alt=f"Accuracy without half of each of {len(rows)} layers.",
        caption=f"Accuracy when one layer loses the lower half of its units: {wide} of "
        f"{len(rows)} layers (green) do not need it.",
    )
