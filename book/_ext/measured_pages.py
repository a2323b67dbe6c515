"""What the book says of its own making: data and versions from records, and measured
files as tables.

Measured files are JSON in `book/measured/`, each written by one command: `faults` by
`make faults`, `repeats` by `robustbook check --report`, `workers` by the benchmark of
sweeps.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from docutils import nodes
from record_pages import RecordDirective, records

from robustbook import fetch, page, studies
from robustbook.data import store
from robustbook.plots import style
from robustbook.run.project import QUICK, REFERENCE, RunId
from robustbook.run.records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from sphinx.application import Sphinx

MEASURED_PAGES = ("reproduce", "faults", "sweeps")
"""Pages that show records and measured files; they are read again in every build."""


def known(app: Sphinx) -> list[Record]:
    """Readable records of reference and quick runs, by study."""
    found = [records(app, study) for study in studies.names()]
    return [
        record
        for of_study in found
        for run, record in of_study.items()
        if isinstance(record, Record) and run.run in (REFERENCE, QUICK)
    ]


def measured(app: Sphinx, name: str) -> dict[str, Any]:
    """A measured file, empty where nobody has measured."""
    path = Path(app.srcdir) / "measured" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def folded(title: str, content: str) -> str:
    """Content that a reader opens, below a title."""
    return (
        f'<details class="pm-fold"><summary>{title}</summary>{content}</details>'
        if content
        else ""
    )


def bars(lengths: dict[str, float], *, label: str, log: bool = False) -> Figure:
    """Horizontal bars with their names above them, and their lengths beside."""
    from matplotlib import pyplot

    style.use_style()
    size = (style.FIGURE_WIDTH, 0.8 + 0.5 * len(lengths))
    figure, axes = pyplot.subplots(figsize=size)
    for place, (name, length) in enumerate(reversed(lengths.items())):
        axes.barh(place - 0.16, length, height=0.3, color=style.BLUE)
        told = f"{length:,.0f}" if length >= 1 else f"{length:.1g}"
        axes.annotate(
            told,
            (length, place - 0.16),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
        above = axes.get_yaxis_transform()
        axes.text(0, place + 0.04, name, transform=above, va="bottom")
    most, least = max(lengths.values()), min(lengths.values())
    axes.set(xlabel=label, yticks=[], ylim=(-0.5, len(lengths) - 0.3))
    if log:
        axes.set(xscale="log", xlim=(least / 2, most * 3))
    else:
        axes.set_xlim(0, most * 1.15)
    return figure


class TableDirective(RecordDirective):
    """A directive that shows one table, or says that there is nothing to show."""

    caption = ""
    nothing = "Nothing is measured yet."
    fold = ""  # The title of the fold in which the table stands, if in one.

    @abstractmethod
    def lines(self) -> Iterable[dict[str, Any]]:
        """The table's lines."""

    def picture(self, lines: list[dict[str, Any]]) -> str:
        """What is shown above the table: nothing, if not a figure."""
        return ""

    def run(self) -> list[nodes.Node]:
        """The table, below its figure."""
        lines = list(self.lines())
        if not lines:
            return [nodes.paragraph(text=self.nothing)]
        table = str(page.table(pd.DataFrame(lines), caption=self.caption).data)
        shown = folded(self.fold, table) if self.fold else table
        return [self.raw(f"{self.picture(lines)}\n{shown}")]


def runs_of(found: list[Record]) -> str:
    """The runs of records, by study: `loss_metric (reference, quick)`."""
    studies: dict[str, list[str]] = {}
    for record in found:
        studies.setdefault(record.study, []).append(record.run)
    return ", ".join(f"{study} ({', '.join(runs)})" for study, runs in studies.items())


class Versions(TableDirective):
    """`{versions}`: versions of what the numbers depend on, from the records."""

    caption = "Versions with which the runs were made."

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a set of versions, with the runs that have it."""
        groups: dict[tuple[tuple[str, str], ...], list[Record]] = {}
        for record in known(self.env.app):
            groups.setdefault(
                tuple(sorted(record.provenance.versions.items())), []
            ).append(record)
        for versions, users in groups.items():
            yield {
                "Versions": ", ".join(
                    f"{name} {version}" for name, version in versions
                ),
                "Runs": runs_of(users),
            }


class DataDigests(TableDirective):
    """`{data-digests}`: every data set that a run has recorded, with its digest."""

    caption = (
        "SHA-256 digest of each data set that a run recorded, of its files or of "
        "its pixels."
    )

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a data set and digest."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in known(self.env.app):
            for title, digest in record.provenance.data.items():
                groups.setdefault((title, digest), []).append(record)
        for (title, digest), users in sorted(
            groups.items(), key=lambda group: group[0]
        ):
            yield {"Data": title, "Digest": f"`{digest}`", "Runs": runs_of(users)}


def name_of(title: str) -> str:
    """The name by which the data of this title are fetched, or nothing where they come
    with a package or are not images.
    """
    for name in store.names():
        source = store.sources_of(name)[0]
        if source.title == title:
            return name if source.files else ""
    others = {other.title: name for name, other in fetch.OTHERS.items()}
    return others.get(title, "")


class ReferenceRuns(TableDirective):
    """`{reference-runs}`: what each reference run read, the time and memory that it
    took, and the command that makes it again.
    """

    caption = (
        "Reference runs: the data that each read from files, the minutes and the "
        "memory that it took on the machine that made it, and how to make it again."
    )
    nothing = "No reference run is published."
    fold = "Data, memory and command of each"

    def picture(self, lines: list[dict[str, Any]]) -> str:
        """Minutes of each run."""
        minutes = {line["Study"]: line["Minutes"] for line in lines}
        known = {study: value for study, value in minutes.items() if value == value}
        if not known:
            return ""
        caption = (
            "Minutes of each reference run on two cores, networks that were kept from "
            f"an earlier one reused; {sum(known.values()):.0f} in all."
        )
        alt = ", ".join(f"{study} {value:.0f}" for study, value in known.items())
        figure = bars(known, label="minutes")
        return str(page.figure(figure, alt=f"{alt} minutes.", caption=caption).data)

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a study."""
        for record in known(self.env.app):
            if record.run != REFERENCE:
                continue
            titles = [title.rpartition(", ")[0] for title in record.provenance.data]
            names = dict.fromkeys(filter(None, map(name_of, titles)))
            size = sum(item.size for item in fetch.originals(names))
            yield {
                "Study": record.study,
                "Data": ", ".join(f"`{name}`" for name in names) or "none",
                "MB": size / 1e6,
                "Minutes": record.timing.get("run_seconds", float("nan")) / 60,
                "GB": record.timing.get("peak_memory_bytes", float("nan")) / 1e9,
                "Command": f"`robustbook run {record.study} -r reference --force`",
            }


class DataSources(TableDirective):
    """`{data-sources}`: what can be fetched, from whom, and under which licence."""

    caption = (
        "What `robustbook data get` fetches. Sets that are made of the same archives "
        "name their size each."
    )

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a set or network."""
        for entry in fetch.inventory():
            if holding := fetch.HOLDINGS.get(entry.name):
                size = sum(item.size for item in fetch.originals({entry.name}))
                yield {
                    "Name": f"`{entry.name}`",
                    "MB": size / 1e6 if size else float("nan"),
                    "From": holding.origin,
                    "Licence": entry.licence,
                }


class Repeats(TableDirective):
    """`{repeats}`: what repetitions of runs found, from `measured/repeats.json`; only
    of runs that are still the same.
    """

    caption = (
        "Runs made again and compared with their records, with the networks that were "
        "kept or with networks trained again. Threads: of the repetition's notebook "
        "and of each of its workers; workers of the first run had one. Farthest: the "
        "largest distance relative to the larger value, or to 1 below it. The interval "
        "is that of the record."
    )
    nothing = "No repetition of the present runs is measured."

    def current(self, found: dict[str, Any]) -> bool:
        """Whether the run's record has the code, parameters and data of the one that
        was repeated.
        """
        record = records(self.env.app, found["study"]).get(
            RunId(found["study"], found["run"])
        )
        return isinstance(record, Record) and record.provenance.hash == found.get(
            "hash"
        )

    def run(self) -> list[nodes.Node]:
        """The table, and below it which runs changed since they were repeated."""
        rows = measured(self.env.app, "repeats").values()
        old = sorted(
            {
                f"{found['study']} {found['run']}"
                for found in rows
                if not self.current(found)
            }
        )
        said = (
            "Not shown, since the run is another one now or is not here: "
            f"{', '.join(old)}."
        )
        return [*super().run(), *([nodes.paragraph(text=said)] if old else [])]

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a repetition."""
        for found in filter(self.current, measured(self.env.app, "repeats").values()):
            yield {
                "Run": f"{found['study']} {found['run']}",
                "Networks": found["networks"],
                "Threads": f"{found['threads_now']} + {found['worker_threads']}",
                "Identical": f"{found['identical']} of {found['numbers']}",
                "Farthest": found["largest"],
                "Beyond tolerance": str(found["differences"]),
                "Beyond interval": f"{found['beyond']} of {found['intervals']}",
                "Other verdicts": f"{found['other_verdicts']} of {found['verdicts']}",
            }


class Faults(TableDirective):
    """`{faults}`: counts of the fault tests, from `measured/faults.json`."""

    caption = (
        "Faults made and faults that ended as they should, counted by `make faults`."
    )

    fold = "What was seen of each kind"

    def picture(self, lines: list[dict[str, Any]]) -> str:
        """How often each kind of fault was made."""
        made = {line["Fault"]: float(line["Made"]) for line in lines}
        held = sum(line["Held"] for line in lines)
        caption = (
            f"How often each fault was made on purpose. {held:,} of "
            f"{sum(made.values()):,.0f} ended as they should."
        )
        alt = ", ".join(f"{fault} {count:.0f}" for fault, count in made.items())
        figure = bars(made, label="times made (logarithmic)", log=True)
        return str(page.figure(figure, alt=f"{alt}.", caption=caption).data)

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a kind of fault."""
        for fault, found in measured(self.env.app, "faults").items():
            yield {
                "Fault": fault,
                "Made": found["made"],
                "Held": found["held"],
                "What was seen": found["told"],
            }


class Workers(TableDirective):
    """`{workers}`: how much faster a sweep is with more workers, from
    `measured/workers.json`.
    """

    caption = (
        "Wall-clock seconds of one sweep of six short runs, trained networks not "
        "cached; medians of the repetitions."
    )

    def lines(self) -> Iterable[dict[str, Any]]:
        """One line a number of workers."""
        found = measured(self.env.app, "workers")
        seconds = {
            int(workers): sorted(times)
            for workers, times in found.get("seconds", {}).items()
        }
        for workers, times in sorted(seconds.items()):
            middle = pd.Series(times).median()
            alone = pd.Series(seconds[1]).median()
            yield {
                "Workers": workers,
                "Seconds": middle,
                "Repetitions": len(times),
                "Times one worker": alone / middle,
                "Cores": found["cores"],
            }


def outdated(app: Sphinx, *changes: Any) -> list[str]:
    """Pages that show records or measured files are read again."""
    return [name for name in MEASURED_PAGES if name in app.env.found_docs]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    named = {
        **{"versions": Versions, "data-digests": DataDigests},
        **{"reference-runs": ReferenceRuns, "data-sources": DataSources},
        **{"repeats": Repeats, "faults": Faults, "workers": Workers},
    }
    for name, directive in named.items():
        app.add_directive(name, directive)
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
