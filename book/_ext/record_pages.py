"""What the book says of runs, from their records alone: study cards, the scoreboard,
parameters, marks on run pages.
"""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx_external_toc.api import Document, FileItem, GlobItem, TocTree

from robustbook import fields, files, page, studies
from robustbook.errors import UserError, escaped, quoted
from robustbook.run import (
    clean,
    parameters,
    same_quantity,
    status,
)
from robustbook.run.project import REFERENCE, Project, RunId
from robustbook.run.records import LARGEST, Record, load

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

RECORD_PAGES = (
    "index",
    "how-to-rerun",
    "scoreboard",
    "corrections",
)
"""Pages that show records; they are read again in every build."""


def project(app: Sphinx) -> Project:
    """The project whose book is being built."""
    return Project(Path(app.srcdir).parent)


def page_name(app: Sphinx, run: RunId) -> str:
    """Sphinx's name of a run's page."""
    return project(app).page(run).relative_to(app.srcdir).with_suffix("").as_posix()


def records(app: Sphinx, study: str) -> dict[RunId, Record | str]:
    """Each published run of a study with its record, or with the reason why it cannot
    be read.
    """
    found: dict[RunId, Record | str] = {}
    for run in project(app).runs(study):
        try:
            found[run] = load(project(app).record(run))
        except UserError as error:
            found[run] = str(error)
    return found


class RecordDirective(SphinxDirective):
    """What the directives below share: raw HTML, and links to pages that exist."""

    def raw(self, text: str) -> nodes.raw:
        """The HTML as a node."""
        return nodes.raw("", text, format="html")

    def address(self, run: RunId) -> str | None:
        """Relative address of a run's page, None if it is not in the book."""
        name = page_name(self.env.app, run)
        return (
            self.env.app.builder.get_relative_uri(self.env.docname, name)
            if name in self.env.found_docs
            else None
        )


def in_book_order(app: Sphinx) -> list[str]:
    """The studies in the order of the table of contents, others after them."""
    pages = list(app.config.external_site_map)
    places = {page: place for place, page in enumerate(pages)}
    return sorted(
        studies.names(), key=lambda study: places.get(f"studies/{study}", len(pages))
    )


def with_claims(app: Sphinx) -> list[str]:
    """The studies that judge claims, in the order of the book."""
    return [study for study in in_book_order(app) if studies.get(study).CLAIMS]


class Parameters(RecordDirective):
    """`{parameters}`: one table of every parameter of every study, with default,
    reference value, range and meaning; a reader may search it.
    """

    def run(self) -> list[nodes.Node]:
        """The search and the table."""
        import pandas as pd

        rows = [
            row for study in in_book_order(self.env.app) for row in self._rows(study)
        ]
        caption = f"The {len(rows)} parameters of all studies"
        table = str(page.table(pd.DataFrame(rows), caption=caption).data)
        table = table.replace('class="pm-table"', 'class="pm-table" id="parameters"', 1)
        table = table.replace('class="pm-scroll"', 'class="pm-scroll pm-long"', 1)
        search = (
            '<form class="pm-choosers" data-table="parameters" hidden><label>Search '
            '<input type="search" name="words" placeholder="epsilon"></label> '
            "<output></output></form>"
        )
        return [self.raw(f"{search}\n{table}")]

    def _rows(self, study: str) -> list[dict[str, str]]:
        reference = records(self.env.app, study).get(RunId(study, REFERENCE))
        values = reference.parameters if isinstance(reference, Record) else {}
        return [
            {
                "Parameter": f"`{entry.name}`",
                "Study": f"`{study}`",
                "Default": f"`{entry.default}`",
                "Reference": f"`{fields.to_text(values[entry.name])}`"
                if entry.name in values
                else "–",
                "Values": ", ".join(part for part in (entry.kind, entry.range) if part),
                "Meaning": entry.help,
            }
            for entry in fields.describe(studies.get(study).Parameters)
        ]


class SameQuantity(RecordDirective):
    """`{same-quantity}`: what the synthesis chapter and another study's record say of
    the same quantity.
    """

    def run(self) -> list[nodes.Node]:
        """One table, or a sentence where no two published records can be compared."""
        import pandas as pd

        lines = same_quantity.comparison(project(self.env.app))
        if not lines:
            return [
                self.raw(
                    "<p>No two published reference records hold the same quantity "
                    "at the same budget.</p>"
                )
            ]
        caption = (
            "Reference records side by side, read when the book is rendered: means "
            "over seeds."
        )
        return [self.raw(str(page.table(pd.DataFrame(lines), caption=caption).data))]


# Table of contents
# --------------------------------------------------------------------------------------


def complete_contents(app: Sphinx, config: Config) -> None:
    """Give every study a place in the table of contents: one that `_toc.yml` does not
    name stands after the others, and the runs of one without a reference page stand in
    its place.
    """
    site = config.external_site_map
    (chapters,) = (tree for tree in site.root.subtrees if tree.caption == "The studies")
    for study in studies.names():
        name, runs = f"studies/{study}", GlobItem(f"runs/{study}/*")
        there = Path(app.srcdir, f"{name}.ipynb").exists()
        if name not in site:
            chapters.items.append(FileItem(name) if there else runs)
            if there:
                site[name] = Document(name, [TocTree([runs])])
        elif not there:
            del site[name]
            for tree in site.root.subtrees:
                tree.items = [runs if item == name else item for item in tree.items]


# Run pages
# --------------------------------------------------------------------------------------


def run_of(app: Sphinx, docname: str) -> RunId | None:
    """The run that a page shows, None for the book's other pages."""
    folder, _, rest = docname.partition("/")
    if folder == "studies" and "/" not in rest:
        return RunId(rest, REFERENCE)
    study, _, name = rest.partition("/")
    return (
        RunId(study, name)
        if folder == "runs" and name and not name.startswith("sweep-")
        else None
    )


def leave_out_unreadable(app: Sphinx, config: Config) -> None:
    """Name pages of runs that cannot be read and build the book without them."""
    for path in sorted((Path(app.srcdir) / "runs").rglob("*")):
        where = path.relative_to(app.srcdir).as_posix()
        if path.suffix in (".ipynb", ".md") and (why := unreadable(path)):
            config.exclude_patterns.append(where)
            print(f"warning: {quoted(where)} is left out: {why}", file=sys.stderr)


def unreadable(path: Path) -> str:
    """Why a page of a run cannot be part of the book, empty where it can."""
    try:
        studies.check(RunId(path.parent.name, path.stem).study)
        if path.suffix == ".ipynb":
            clean.read(path)
        else:
            files.read(path, LARGEST).decode()
    except (UserError, OSError, UnicodeDecodeError) as error:
        return escaped(str(error))
    return ""


def mark_run_page(app: Sphinx, doctree: nodes.document) -> None:
    """Say below a run's title which run it is, and whether its sources changed since;
    name solutions as such.
    """
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell.get("classes", []) and "prompt_show" in cell:
            cell["prompt_show"], cell["prompt_hide"] = (
                "Show the solution",
                "Hide the solution",
            )
    run = run_of(app, app.env.docname)
    title = next(iter(doctree.findall(nodes.title)), None)
    if run is None or title is None:
        return
    notes = [] if run.run == REFERENCE else [_which_run(app, run)]
    state = status.of(project(app), run)
    if state.state in ("stale", "damaged"):
        notes.append(
            f'<p class="pm-run"><strong>This page is {state.state}</strong>: '
            f"{html.escape(state.short)}.</p>"
        )
    title.parent.insert(1, nodes.raw("", "\n".join(notes), format="html"))


def _which_run(app: Sphinx, run: RunId) -> str:
    record = records(app, run.study).get(run)
    overrides = record.overrides if isinstance(record, Record) else {}
    try:
        given, problem = (
            parameters.parsed(studies.get(run.study).Parameters, overrides),
            "",
        )
    except UserError as error:
        given, problem = {}, html.escape(f"Its parameters cannot be: {error}.")
    changed = ", ".join(
        f"<code>{html.escape(f'{name} = {json.dumps(value)}')}</code>"
        for name, value in given.items()
    )
    name = page_name(app, RunId(run.study, REFERENCE))
    link = "reference run"
    if name in app.env.found_docs:
        link = (
            "<a "
            f'href="{app.builder.get_relative_uri(app.env.docname, name)}">{link}</a>'
        )
    said = f"It was given {changed}." if changed else "It has the default parameters."
    return (
        f'<p class="pm-run">This is the run <strong>{run.run}</strong>, not the '
        f"{link}. {problem or said}</p>"
    )


def name_run_page(app: Sphinx, doctree: nodes.document) -> None:
    """List a page of another run in the table of contents under the name of its run."""
    docname = app.env.docname
    run = run_of(app, docname)
    if run is None or run.run == REFERENCE:
        return
    name = f"Run: {run.run}"
    app.env.titles[docname] = nodes.title(text=name)
    entry = next(iter(app.env.tocs[docname].findall(nodes.reference)), None)
    if entry is not None:
        entry.clear()
        entry += nodes.Text(name)


def outdated(app: Sphinx, *changes: Any) -> list[str]:
    """Pages that show records are read again: a record may have changed."""
    return [name for name in RECORD_PAGES if name in app.env.found_docs]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and the marks on run pages."""
    app.add_directive("parameters", Parameters)
    app.add_directive("same-quantity", SameQuantity)
    app.connect("config-inited", complete_contents, priority=950)  # After it is read.
    app.connect("config-inited", leave_out_unreadable)
    app.connect("doctree-read", mark_run_page, priority=400)
    app.connect("doctree-read", name_run_page, priority=600)
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
