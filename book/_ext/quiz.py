"""`{quiz}`: questions with answers that unfold into why they are right or wrong; no
script, so that it works offline and from the keyboard.
"""

from __future__ import annotations

import hashlib
import html
from typing import TYPE_CHECKING, Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from robustbook import page

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Quiz(SphinxDirective):
    """A YAML list of questions: `ask`, the `right` answer, `because`, and `wrong`, a
    mapping of wrong answers to what is wrong with them.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """One list of questions."""
        items = "\n".join(
            _question(entry) for entry in yaml.safe_load("\n".join(self.content))
        )
        shown = f'<ol class="pm-quiz">\n{items}\n</ol>'
        return [nodes.raw("", shown, format="html")]


def answers(entry: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """(answer, whether it is right, why) in an order that says nothing."""
    found = [(entry["right"], True, entry["because"])]
    found += [(text, False, why) for text, why in entry["wrong"].items()]
    return sorted(found, key=lambda item: hashlib.sha256(item[0].encode()).digest())


def _question(entry: dict[str, Any]) -> str:
    listed = "\n".join(
        f'<details class="pm-fold"><summary>{page.inline(text)}</summary>'
        f"<p><strong>{'Right' if right else 'No'}.</strong> {page.inline(why)}</p>"
        "</details>"
        for text, right, why in answers(entry)
    )
    ask = page.inline(entry["ask"])
    label = html.escape(" ".join(entry["ask"].split()))
    return f'<li><p>{ask}</p><div role="group" aria-label="{label}">{listed}</div></li>'


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("quiz", Quiz)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
