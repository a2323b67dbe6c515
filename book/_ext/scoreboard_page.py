"""The scoreboard: every claim with its verdict and what decided it, and the same as
files.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from record_pages import RecordDirective, project, records, with_claims
from sphinx.application import Sphinx

from robustbook import page, studies
from robustbook.results import VERDICTS
from robustbook.run import answers, scoreboard
from robustbook.run.answers import Entry
from robustbook.run.project import RunId
from robustbook.run.records import ClaimRecord, Record


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


def plain(markdown: str) -> str:
    """One line of Markdown as text."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.inline(markdown)))


def _chooser(name: str, options: list[tuple[str, str]]) -> str:
    listed = "".join(
        f'<option value="{html.escape(value)}">{html.escape(words)}</option>'
        for value, words in options
    )
    return (
        f'<label>{name.capitalize()} <select name="{name}">'
        f'<option value="">all</option>{listed}</select></label>'
    )


class Scoreboard(RecordDirective):
    """`{scoreboard}`: all claims of all studies with verdict, evidence, the published
    value and the control.
    """

    def run(self) -> list[nodes.Node]:
        """The whole in numbers, the downloads, then one section a study."""
        board = scoreboard.entries(project(self.env.app))
        return [
            self.raw(summary(board) + self._choosers(board)),
            *(self._section(study) for study in with_claims(self.env.app)),
        ]

    def _choosers(self, board: list[Entry]) -> str:
        """Two lists to choose from; they stay hidden where scripts do not run."""
        found = {entry.verdict for entry in board}
        verdicts = [(name, name) for name in VERDICTS if name in found]
        names = [
            (study, plain(studies.get(study).TITLE))
            for study in with_claims(self.env.app)
        ]
        return (
            '<form class="pm-choosers" hidden>'
            f"{_chooser('verdict', verdicts)} {_chooser('study', names)} "
            "<output></output></form>"
        )

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
        answer = f"<p>{page.inline(entry.answer)}</p>" if entry.answer else ""
        return (
            f'<li class="pm-box" id="{entry.study}-{html.escape(entry.claim.lower())}" '
            f'data-study="{entry.study}" data-verdict="{html.escape(entry.verdict)}">'
            f'<p class="pm-statement">{self._link(run, name, anchor) if run else name} '
            f"{page.inline(entry.statement)}</p>"
            f'<p class="pm-counts">{badge}{elsewhere}</p>{answer}'
            '<details class="pm-fold"><summary>What was found, and what could have '
            f"overturned it</summary>{page.terms(facts)}</details></li>"
        )

    def _link(self, run: RunId, text: str, anchor: str = "") -> str:
        address = self.address(run)
        return f'<a href="{address}{anchor}">{text}</a>' if address else text


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and write the files at the end of a build."""
    app.add_directive("scoreboard", Scoreboard)
    app.connect("build-finished", write_downloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
