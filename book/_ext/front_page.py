"""The front page: what was perturbed and measured, a card a study with its picture and
its answer, all verdicts at a glance.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from record_pages import RecordDirective, project, records, with_claims
from scoreboard_page import counts, plain
from sphinx.application import Sphinx

from robustbook import page, studies
from robustbook.errors import UserError
from robustbook.results import VERDICTS, Verdict
from robustbook.run import clean, scoreboard
from robustbook.run.answers import Entry
from robustbook.run.project import REFERENCE, RunId
from robustbook.run.records import Record

IN_SHORT = 'class="pm-box pm-short"'
HERO = re.compile(
    r'<figure[^>]* id="figure-hero">\s*(<svg.*?</svg>|<img[^>]*>)', re.DOTALL
)
SENTENCE = re.compile(r"(.*?(?<!e\.g)(?<!vs)[.?!])(?=\s|$)", re.DOTALL)


@dataclass(frozen=True)
class InShort:
    """What a chapter's box *In short* says first, and the picture in it; HTML."""

    answer: str = ""
    picture: str = ""


def in_short(path: Path) -> InShort:
    """The first sentence and the picture of a published page; empty where it has
    none.
    """
    try:
        cells = clean.read(path).cells
    except UserError:
        return InShort()
    for cell in cells:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/html", ""))
            if IN_SHORT in text and "</p>\n<p>" in text:
                _, _, said = text.partition("</p>\n<p>")
                sentence = SENTENCE.match(said.partition("</p>")[0])
                picture = HERO.search(text)
                return InShort(
                    sentence[1] if sentence else "", picture[1] if picture else ""
                )
    return InShort()


class Idea(RecordDirective):
    """`{idea}`: the picture of the whole book, in the page's own colours."""

    def run(self) -> list[nodes.Node]:
        """The drawing as part of the page."""
        path = Path(self.env.app.srcdir) / "_static" / "idea.svg"
        self.env.note_dependency(str(path))
        drawing = path.read_text(encoding="utf-8").replace(
            "@media (prefers-color-scheme: dark) { .idea { color: #e4e8ec } }", ""
        )
        drawing = drawing.replace("color: #1f2933", "color: var(--pm-ink)")
        return [self.raw(f'<figure class="pm-idea">\n{drawing}</figure>')]


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
        here = project(self.env.app)
        short = in_short(here.page(run)) if address else InShort()
        picture = f'<div class="pm-card-picture">{short.picture}</div>'
        answer = f'<p class="pm-answer">{short.answer}</p>'
        return (
            f'<li class="pm-card{"" if address else " pm-coming"}">'
            f'{picture if short.picture else ""}<p class="pm-card-title">{head}</p>'
            f'<p class="pm-source">{page.inline(entry["paper"])}</p>'
            f"<p>{page.inline(entry['question'])}</p>{answer if short.answer else ''}"
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


class VerdictMatrix(RecordDirective):
    """`{verdict-matrix}`: all verdicts at a glance, a row a study; a click leads to the
    claim on the scoreboard.
    """

    def run(self) -> list[nodes.Node]:
        """One table, and what its signs mean."""
        rows = "\n".join(self._row(study) for study in with_claims(self.env.app))
        return [
            self.raw(
                '<table class="pm-matrix"><caption>All claims. '
                "Each leads to what was measured.</caption>\n"
                '<thead class="pm-unseen"><tr><th scope="col">Study</th>'
                '<th scope="col">Claims</th></tr></thead>\n'
                f"<tbody>\n{rows}\n</tbody></table>"
            )
        ]

    def _row(self, study: str) -> str:
        board = scoreboard.entries(project(self.env.app), [study])
        address = self.address(RunId(study, REFERENCE))
        title = page.inline(studies.get(study).TITLE)
        head = f'<a href="{address}">{title}</a>' if address else title
        cells = "\n".join(self._cell(entry) for entry in board)
        return f'<tr><th scope="row">{head}</th>\n<td>{cells}</td></tr>'

    def _cell(self, entry: Entry) -> str:
        here = self.env.app.builder.get_relative_uri(self.env.docname, "scoreboard")
        sign, style, words = sign_of(entry)
        target = f"{here}#{entry.study}-{html.escape(entry.claim.lower())}"
        return (
            f'<a class="pm-cell {style}" href="{target}" '
            f'title="{html.escape(plain(entry.statement))}"><b>{entry.claim}</b> '
            f'<span aria-hidden="true">{sign}</span><br>{words}</a>'
        )


def sign_of(entry: Entry) -> tuple[str, str, str]:
    """Sign, CSS class and short words of a claim's verdict."""
    known: dict[str, Verdict] = {name: name for name in VERDICTS}
    verdict = known.get(entry.verdict)
    if verdict is None:
        return "…", "pm-not-tested", "in preparation"
    sign, style = page.BADGES[verdict]
    words = verdict if entry.paper else page.OWN_WORDS[verdict]
    return sign, style, words.removesuffix(" at this scale")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("idea", Idea)
    app.add_directive("study-cards", StudyCards)
    app.add_directive("verdict-matrix", VerdictMatrix)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
