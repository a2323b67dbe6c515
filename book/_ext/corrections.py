"""`{corrections}`: verdicts whose rule was changed after a result was seen, with the
old rule and verdict, what was wrong, and the verdict that the record has now.
"""

from __future__ import annotations

import html
from collections import Counter
from typing import TYPE_CHECKING, Any

import yaml
from docutils import nodes
from record_pages import RecordDirective, records

from robustbook import page
from robustbook.run.project import REFERENCE, RunId
from robustbook.run.records import ClaimRecord, Record

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Corrections(RecordDirective):
    """One entry a claim of a YAML list: study, claim, old (rule), was (verdict), fault,
    new (claims that took its place).
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """One list of boxes."""
        items = "\n".join(
            self._item(entry) for entry in yaml.safe_load("\n".join(self.content))
        )
        return [self.raw(f'<ul class="pm-scoreboard">\n{items}\n</ul>')]

    def _item(self, entry: dict[str, Any]) -> str:
        run = RunId(entry["study"], REFERENCE)
        record = records(self.env.app, run.study).get(run)
        claims = record.claims if isinstance(record, Record) else []
        judged = [claim for claim in claims if claim.id in entry["new"]]
        now = "".join(self._now(run, claim) for claim in judged)
        facts = [
            ("Rule then", entry["old"]),
            ("Its fault", entry["fault"]),
            *((f"{claim.id} now", claim.rule) for claim in judged),
        ]
        name = html.escape(entry["claim"])
        # A claim can be corrected more than once; addresses on a page are unique.
        anchor = f"{run.study}-{name.lower()}"
        seen = self.env.temp_data.setdefault("corrections", Counter())
        seen[anchor] += 1
        if seen[anchor] > 1:
            anchor += f"-{seen[anchor]}"
        return (
            f'<li class="pm-box" id="{anchor}">'
            f'<p class="pm-statement"><span class="pm-id">{name}</span> '
            f"{page.inline(entry['statement'])}</p>"
            f'<p class="pm-counts"><span>then {page.badge(entry["was"])}</span>'
            f"{now}</p>{page.terms(facts)}</li>"
        )

    def _now(self, run: RunId, claim: ClaimRecord) -> str:
        address, name = self.address(run), html.escape(claim.id)
        place = f"{address}#verdict-{name.lower()}"
        link = f'<a href="{place}">{name}</a>' if address else name
        return f"<span>now {link} {page.badge(claim.verdict)}</span>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("corrections", Corrections)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
