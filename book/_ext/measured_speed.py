"""What the book says of measured seconds and bytes, from the timing of records: they
differ from run to run, so that no study's page holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from record_pages import RecordDirective, records

from robustbook import page, studies
from robustbook.plots import style
from robustbook.results import Metric
from robustbook.run.project import QUICK, REFERENCE, RunId
from robustbook.run.records import Record
from robustbook.studies.taylor_pruning.claims import FULL
from robustbook.studies.taylor_pruning.figures import TUNED_LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sphinx.application import Sphinx

SPEED_PAGE = "speed"
PRUNED = {"small resnet": ("Residual network", "tuned", TUNED_LOOKS)}
"""Networks of the pruning study: their titles, the first word of their rows, and how
ways of pruning are drawn.
"""


def published(app: Sphinx, study: str) -> tuple[RunId, Record] | None:
    """The reference run of a study, or else its first run that can be read."""
    found = {
        run: record
        for run, record in records(app, study).items()
        if isinstance(record, Record)
    }
    run = RunId(study, REFERENCE)
    return (run, found[run]) if run in found else next(iter(found.items()), None)


def timed_runs(
    found: dict[RunId, Record | str], study: str
) -> list[tuple[RunId, Record]]:
    """Those of a study's reference and quick run whose records can be read and have
    their times.
    """
    runs = [
        (RunId(study, name), found.get(RunId(study, name)))
        for name in (REFERENCE, QUICK)
    ]
    return [
        (run, record)
        for run, record in runs
        if isinstance(record, Record)
        and {"run_seconds", "peak_memory_bytes"} <= set(record.timing)
    ]


def measured(record: Record, quantity: str, network: str) -> dict[str, float]:
    """Values by way of pruning of the timing's entries `<quantity> <network>:
    <way>`.
    """
    start = f"{quantity} {network}: "
    return {
        name.removeprefix(start): value
        for name, value in record.timing.items()
        if name.startswith(start)
    }


def rows(record: Record, name: str) -> dict[str, Metric]:
    """Rows of one name by way of pruning, those of the longest tuning."""
    return {str(row.factors["way"]): row for row in record.metrics if row.name == name}


class RunTimes(RecordDirective):
    """`{run-times}`: minutes and peak memory of the reference and the quick run of
    every study.
    """

    def run(self) -> list[nodes.Node]:
        """One table, or a note if no run is published."""
        import pandas as pd

        found = [
            timed
            for study in studies.names()
            for timed in timed_runs(records(self.env.app, study), study)
        ]
        lines = [
            {
                "study": run.study,
                "run": run.run,
                "minutes": record.timing["run_seconds"] / 60,
                "peak memory (GB)": record.timing["peak_memory_bytes"] / 1e9,
            }
            for run, record in found
        ]
        if not lines:
            return [self.raw("<p>No run with its times is published.</p>")]
        caption = (
            "How long the reference and the quick runs took on the machine that made "
            "them, other work beside them included; networks that an earlier run had "
            "trained were reused. The memory is that of all processes of a run "
            "together (the command, the notebook's and its workers'), looked at every "
            "few seconds; what several share counts once."
        )
        return [self.raw(str(page.table(pd.DataFrame(lines), caption=caption).data))]


class PrunedSpeed(RecordDirective):
    """`{pruned-speed}`: accuracy against milliseconds of the pruned networks, and
    measured beside counted cost.
    """

    def run(self) -> list[nodes.Node]:
        """A figure and a table a network, or a note if the study has no such timing."""
        shown = published(self.env.app, "taylor_pruning")
        networks = [
            name for name in PRUNED if shown and measured(shown[1], "latency", name)
        ]
        if shown is None or not networks:
            return [
                self.raw(
                    "<p>No run of the pruning study with its times is published.</p>"
                )
            ]
        record = shown[1]
        parts = [
            _figure(record, networks),
            *(_table(record, network) for network in networks),
        ]
        return [self.raw("\n".join(parts))]


def _figure(record: Record, networks: list[str]) -> str:
    """Accuracy against milliseconds, one panel a network."""
    from matplotlib import pyplot

    style.use_style()
    figure, axes = pyplot.subplots(
        1, len(networks), figsize=(style.FIGURE_WIDTH, 4.3), sharey=True, squeeze=False
    )
    for ax, network in zip(axes[0], networks, strict=True):
        _draw(ax, record, network)
    axes[0][0].set_ylabel("test accuracy")
    return str(
        page.figure(
            figure,
            alt=(
                "Test accuracy against measured milliseconds of a batch, of the full "
                "network and of every way of pruning."
            ),
            caption="; ".join(_finding(record, network) for network in networks)
            + ". Forward pass of 64 images on one thread: medians of seven alternating "
            "runs, mean over networks; accuracy with 95 % intervals over networks.",
        ).data
    )


def _draw(ax: Axes, record: Record, network: str) -> None:
    title, prefix, looks = PRUNED[network]
    accuracy, latency = (
        rows(record, f"{prefix} accuracy"),
        measured(record, "latency", network),
    )
    for way, (colour, marker) in looks.items():
        if way not in latency:
            continue
        row, seconds = accuracy[way], latency[way]
        low, high = (row.value if end is None else end for end in (row.low, row.high))
        ax.plot([1000 * seconds] * 2, [low, high], color=colour, linewidth=1.4)
        ax.plot(
            1000 * seconds,
            row.value,
            marker,
            color=colour,
            label=way,
            markersize=9 if way == FULL else 6,
        )
    ax.set(
        title=title,
        xlabel="milliseconds of 64 images",
        xlim=(0, 1100 * max(latency.values())),
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=9)


def _finding(record: Record, network: str) -> str:
    """The shortest time of each network beside the full one's."""
    title, prefix, _ = PRUNED[network]
    latency, adds = (
        measured(record, "latency", network),
        rows(record, f"{prefix} multiply-adds"),
    )
    way = min(latency, key=latency.__getitem__)
    return (
        f"{title}: the fastest ({way}) needs {latency[way] / latency[FULL]:.0%} of "
        f"the full network's time at {adds[way].value / adds[FULL].value:.0%} of its "
        "multiply-adds"
    )


def _table(record: Record, network: str) -> str:
    import pandas as pd

    title, prefix, looks = PRUNED[network]
    accuracy, adds, counted = (
        rows(record, f"{prefix} {name}")
        for name in ("accuracy", "multiply-adds", "memory")
    )
    latency, memory = (
        measured(record, quantity, network) for quantity in ("latency", "memory")
    )
    lines = [
        {
            "way": way,
            "accuracy": accuracy[way].value,
            "M adds": adds[way].value / 1e6,
            "ms": 1000 * latency[way],
            "ms / full": latency[way] / latency[FULL],
            "MB": memory[way] / 1e6,
            "MB, counted": 64 * counted[way].value / 1e6,
        }
        for way in looks
        if way in latency
    ]
    caption = (
        f"{title}: test accuracy, millions of multiply-adds an image, measured "
        "milliseconds of 64 images (and their share of the full network's), and "
        "memory. The memory measured is the most that Torch's allocator held during "
        "the forward pass, weights and images left out; counted is the largest sum of "
        "a layer's input and output."
    )
    return str(page.table(pd.DataFrame(lines), caption=caption).data)


def outdated(app: Sphinx, *changes: Any) -> list[str]:
    """The page is read again in every build: a record may have changed."""
    return [name for name in (SPEED_PAGE,) if name in app.env.found_docs]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("run-times", RunTimes)
    app.add_directive("pruned-speed", PrunedSpeed)
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
