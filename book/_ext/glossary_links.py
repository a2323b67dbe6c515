"""Links the first use of each glossary term of a page to the glossary, with its meaning
as a tooltip.

Terms are linked in paragraphs and list items, never in headings, links, code or
formulas. Words that are also everyday words are linked only where the author says so
with `{term}`.
"""

from __future__ import annotations

import functools
import html
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

GLOSSARY = "notation"
EVERYDAY = {
    *("attack", "balance", "bracket", "control", "gate", "importance", "insertion"),
    *("deletion", "margin", "pass", "prior", "projection", "record", "restarts"),
    *("severity", "stale", "temperature"),
}
APART = (
    nodes.reference,
    nodes.literal,
    nodes.title,
    nodes.math,
    nodes.FixedTextElement,
)
PAGES = re.compile(r"(studies|runs)/|how-to-|sweeps$|index$")
"""Pages whose first uses are linked."""


class Term(NamedTuple):
    """Where a term stands in the glossary, and its meaning in plain words."""

    anchor: str
    meaning: str


@functools.cache
def pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of the terms, the longest first, in singular or plural."""
    words = sorted(terms, key=len, reverse=True)
    return re.compile(
        rf"(?<![\w-])({'|'.join(map(re.escape, words))})s?(?![\w-])", re.I
    )


def terms_of(glossary: nodes.document) -> dict[str, Term]:
    """The glossary's terms by their name."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        meaning = " ".join(item.children[-1].astext().split())
        for term in item.findall(nodes.term):
            if term["ids"]:
                found[term.astext()] = Term(term["ids"][0], meaning)
    return found


def named(word: str, terms: dict[str, Term]) -> str | None:
    """The term that a word of the text is, None if it only looks like one: an
    abbreviation has its capitals.
    """
    for form in (word, word.removesuffix("s")):
        for name in terms:
            same = form == name or form == name[:1].upper() + name[1:]
            if same or (form.lower() == name.lower() and name.islower()):
                return name
    return None


def link(word: str, term: Term, address: str) -> nodes.raw:
    """The word as a link whose tooltip a keyboard reaches too."""
    meaning = html.escape(term.meaning)
    text = (
        f'<a class="pm-term" href="{html.escape(address)}#{term.anchor}" '
        f'data-tip="{meaning}" aria-description="{meaning}">{html.escape(word)}</a>'
    )
    return nodes.raw("", text, format="html")


def link_first_uses(doctree: nodes.Node, terms: dict[str, Term], address: str) -> None:
    """Link the first use of each term; a link of the author's counts as the first."""
    by_anchor = {term.anchor: name for name, term in terms.items()}
    done = set()
    for reference in list(doctree.findall(nodes.reference)):
        name = by_anchor.get(reference.get("refuri", "").partition("#")[2])
        if name is not None:
            done.add(name)
            tip = link(reference.astext(), terms[name], address)
            reference.parent.replace(reference, tip)
    wanted = {name: terms[name] for name in terms if name not in EVERYDAY}
    if not wanted:
        return
    for text in list(doctree.findall(nodes.Text)):
        if _is_prose(text):
            parts = _linked(str(text), wanted, done, address)
            if len(parts) > 1:
                text.parent.replace(text, parts)


def _is_prose(text: nodes.Text) -> bool:
    node, inside = text.parent, False
    while node is not None:
        if isinstance(node, (*APART, addnodes.glossary)):
            return False
        inside = inside or isinstance(node, nodes.paragraph)
        node = node.parent
    return inside


def _linked(
    text: str, terms: dict[str, Term], done: set[str], address: str
) -> list[nodes.Node]:
    parts: list[nodes.Node] = []
    end = 0
    for found in pattern(tuple(terms)).finditer(text):
        name = named(found[0], terms)
        if name is None or name in done:
            continue
        done.add(name)
        parts += [nodes.Text(text[end : found.start()])]
        parts += [link(found[0], terms[name], address)]
        end = found.end()
    return [*parts, nodes.Text(text[end:])]


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link a page's first uses before it is written."""
    if app.builder.format != "html" or not PAGES.match(docname):
        return
    terms = terms_of(app.env.get_doctree(GLOSSARY))
    link_first_uses(doctree, terms, app.builder.get_relative_uri(docname, GLOSSARY))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the links after references are resolved."""
    app.connect("doctree-resolved", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
