"""What the book says of runs, from their records alone: study cards, the scoreboard,
parameters, marks on run pages.
"""

from __future__ import annotations

import html
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from sphinx_external_toc.api import Document, FileItem, GlobItem, TocTree

from robustbook import fields, files, page, studies
from robustbook.errors import UserError, escaped, quoted
from robustbook.results import VERDICTS
from robustbook.run import (
    answers,
    clean,
    parameters,
    same_quantity,
    scoreboard,
    status,
)
from robustbook.run.answers import Entry
from robustbook.run.project import REFERENCE, Project, RunId
from robustbook.run.records import LARGEST, ClaimRecord, Record, load

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

RECORD_PAGES = (
    "index",
    "how-to-rerun",
    "scoreboard",
    "corrections",
    "studies/synthesis",
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


class StudyCards(RecordDirective):
    """`{study-cards}`: a card per entry (study, paper, question) of a YAML list, linked
    where it has a page; with `:others:` also of every study that the page does not
    name, in its own words.
    """

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"others": directives.flag}

    def run(self) -> list[nodes.Node]:
        """One list of cards."""
        entries = yaml.safe_load("\n".join(self.content))
        if "others" in self.options:
            text = Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8")
            entries += [
                own_card(study)
                for study in studies.names()
                if f"study: {study}\n" not in text
            ]
        cards = "\n".join(self._card(entry) for entry in entries)
        return [self.raw(f'<ul class="pm-cards">\n{cards}\n</ul>')]

    def _card(self, entry: dict[str, str]) -> str:
        run = RunId(entry["study"], REFERENCE)
        address = self.address(run)
        title = page.inline(studies.get(run.study).TITLE)
        head = f'<a href="{address}">{title}</a>' if address else title
        record = records(self.env.app, run.study).get(run) if address else None
        foot = (
            counts(record.claims, studies.is_own(run.study))
            if isinstance(record, Record)
            else '<span class="pm-source">In preparation</span>'
        )
        return (
            f'<li class="pm-card{"" if address else " pm-coming"}"><p '
            f'class="pm-card-title">{head}</p>'
            "<p "
            f'class="pm-source">{page.inline(entry["paper"])}</p><p>{page.inline(entry["question"])}</p>'
            f'<p class="pm-counts">{foot}</p></li>'
        )


def own_card(study: str) -> dict[str, str]:
    """The card of a study from what its package says."""
    module = studies.get(study)
    paper = getattr(module, "PAPER", "")
    return {
        "study": study,
        "paper": f"Of the paper {paper}" if paper else "Our own question",
        "question": (module.__doc__ or "").partition("\n\n")[0],
    }


def counts(claims: list[ClaimRecord], own: bool = False) -> str:
    """How many claims have each verdict, in the words of questions of our own with
    `own`.
    """
    found = Counter(claim.verdict for claim in claims)
    return " ".join(
        f'<span class="pm-count">{found[name]} × {page.badge(name, own=own)}</span>'
        for name in VERDICTS
        if found[name]
    )


DOWNLOADS = {
    "claims.csv": ("one line a claim (CSV)", answers.to_csv),
    "claims.json": (
        "the same with the numbers that each rule read (JSON)",
        answers.to_json,
    ),
    "claims-rows.csv": (
        "one line a number that a rule read (CSV)",
        answers.rows_csv,
    ),
}
"""Files beside the scoreboard: name, what it holds, and how it is written."""


def summary(board: list[Entry]) -> str:
    """How many claims of papers and how many questions of our own have each verdict,
    and the scoreboard as files.
    """
    papers = [entry for entry in board if entry.paper]
    own = [entry for entry in board if not entry.paper]
    lines = [
        f'<p class="pm-counts">{len(papers)} claims of papers: '
        f"{verdict_counts(papers)}</p>"
    ]
    if own:
        lines.append(
            f'<p class="pm-counts">{len(own)} questions of our own: '
            f"{verdict_counts(own, own=True)}</p>"
        )
    links = "; ".join(
        f'<a href="{name}" download>{words}</a>'
        for name, (words, _) in DOWNLOADS.items()
    )
    return "\n".join([*lines, f"<p>To take along: {links}.</p>"])


def verdict_counts(board: list[Entry], *, own: bool = False) -> str:
    """How many entries have each verdict, those without a run last."""
    verdicts = Counter(entry.verdict for entry in board)
    parts = [
        f'<span class="pm-count">{verdicts[name]} × {page.badge(name, own=own)}</span>'
        for name in VERDICTS
        if verdicts[name]
    ]
    if verdicts[scoreboard.IN_PREPARATION]:
        parts.append(
            f'<span class="pm-source">{verdicts[scoreboard.IN_PREPARATION]} in '
            "preparation</span>"
        )
    return " ".join(parts)


def write_downloads(app: Sphinx, error: Exception | None) -> None:
    """Write the scoreboard's files beside its page."""
    if error is None and app.builder.format == "html":
        board = scoreboard.entries(project(app))
        for name, (_, written) in DOWNLOADS.items():
            (Path(app.outdir) / name).write_text(written(board), encoding="utf-8")


def in_book_order(app: Sphinx) -> list[str]:
    """The studies in the order of the table of contents, others after them."""
    pages = list(app.config.external_site_map)
    places = {page: place for place, page in enumerate(pages)}
    return sorted(
        studies.names(), key=lambda study: places.get(f"studies/{study}", len(pages))
    )


class Scoreboard(RecordDirective):
    """`{scoreboard}`: all claims of all studies with verdict, evidence, the published
    value and the control.
    """

    def run(self) -> list[nodes.Node]:
        """The whole in numbers, the downloads, then one section a study."""
        board = scoreboard.entries(project(self.env.app))
        return [
            self.raw(summary(board)),
            *(self._section(study) for study in in_book_order(self.env.app)),
        ]

    def _section(self, study: str) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(study)], names=[study])
        section += nodes.title(text=studies.get(study).TITLE)
        section += self.raw(self._body(study))
        return section

    def _body(self, study: str) -> str:
        here = project(self.env.app)
        found = records(self.env.app, study)
        problems = [text for text in found.values() if isinstance(text, str)]
        notes = "".join(
            f'<p class="pm-problem">{html.escape(text)}</p>' for text in problems
        )
        board = scoreboard.entries(here, [study])
        first = next((run for run in found if board and run.run == board[0].run), None)
        others = {
            run: record
            for run, record in found.items()
            if isinstance(record, Record) and run != first
        }
        items = "\n".join(self._item(entry, first, others) for entry in board)
        shown = found.get(first) if first else None
        said = (
            '<span class="pm-source">In preparation: the claims are declared, no '
            "run is published.</span>"
        )
        if first and isinstance(shown, Record):
            stale = " (stale)" if board[0].state == "stale" else ""
            said = (
                f"{self._link(first, f'Run: {first.run}')}{stale} "
                f"{counts(shown.claims, studies.is_own(study))}"
            )
        return (
            f'{notes}<p class="pm-counts">{said}</p>\n<ul '
            f'class="pm-scoreboard">\n{items}\n</ul>'
        )

    def _item(
        self, entry: Entry, run: RunId | None, others: dict[RunId, Record]
    ) -> str:
        anchor, own = f"#verdict-{entry.claim.lower()}", not entry.paper
        elsewhere = "".join(
            f' <span class="pm-elsewhere">{self._link(other, other.run, anchor)} '
            f"{page.badge(same.verdict, own=own)}</span>"
            for other, record in others.items()
            for same in record.claims
            if same.id == entry.claim
        )
        name = f'<span class="pm-id">{html.escape(entry.claim)}</span>'
        facts = [
            ("Found", entry.evidence),
            ("Published", entry.published or ("" if own else "no number")),
            ("Rule", entry.rule if run is None else ""),
            ("Control", entry.control),
        ]
        badge = (
            page.badge(entry.verdict, own=own)
            if run
            else '<span class="pm-source">In preparation</span>'
        )
        return (
            f'<li class="pm-box" id="{entry.study}-{html.escape(entry.claim.lower())}">'
            "<p "
            f'class="pm-statement">{self._link(run, name, anchor) if run else name} '
            f"{page.inline(entry.statement)}</p>"
            f'<p class="pm-counts">{badge}{elsewhere}</p>{page.terms(facts)}</li>'
        )

    def _link(self, run: RunId, text: str, anchor: str = "") -> str:
        address = self.address(run)
        return f'<a href="{address}{anchor}">{text}</a>' if address else text


class Parameters(RecordDirective):
    """`{parameters}`: of every study, each parameter with type, default, range,
    reference value and meaning.
    """

    def run(self) -> list[nodes.Node]:
        """One section a study."""
        return [self._section(study) for study in in_book_order(self.env.app)]

    def _section(self, study: str) -> nodes.section:
        import pandas as pd

        reference = records(self.env.app, study).get(RunId(study, REFERENCE))
        values = reference.parameters if isinstance(reference, Record) else {}
        rows = [
            {
                "Parameter": f"`{entry.name}`",
                "Default": f"`{entry.default}`",
                "Reference": f"`{fields.to_text(values[entry.name])}`"
                if entry.name in values
                else "–",
                "Values": ", ".join(part for part in (entry.kind, entry.range) if part),
                "Meaning": entry.help,
            }
            for entry in fields.describe(studies.get(study).Parameters)
        ]
        section = nodes.section(
            ids=[nodes.make_id(f"parameters-{study}")], names=[f"parameters-{study}"]
        )
        section += nodes.title("", "", nodes.literal(text=study))
        table = page.table(pd.DataFrame(rows), caption=f"Parameters of `{study}`")
        section += self.raw(str(table.data))
        return section


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
    app.add_directive("study-cards", StudyCards)
    app.add_directive("scoreboard", Scoreboard)
    app.add_directive("parameters", Parameters)
    app.add_directive("same-quantity", SameQuantity)
    app.connect("config-inited", complete_contents, priority=950)  # After it is read.
    app.connect("config-inited", leave_out_unreadable)
    app.connect("doctree-read", mark_run_page, priority=400)
    app.connect("doctree-read", name_run_page, priority=600)
    app.connect("env-get-outdated", outdated)
    app.connect("build-finished", write_downloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
