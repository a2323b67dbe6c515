"""Runs: from a text notebook and parameters to a page and its record.

A notebook needs `finish` alone (in `finishing`). The runner behind the command line
reads, in order: `project` (where files lie), `parameters`, `notebook` (the source),
`execute`, `clean`, `records`, `provenance`, `publish`, `status`, `runner` (one whole
run), `same_quantity`, `compare`, `scoreboard` and `answers`; then the sweeps: `sweep`
(the plan), `side_by_side` (Snakemake runs it), `sweep_table` and `sweep_page`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustbook.run.finishing import finish

__all__ = ["finish"]


def __getattr__(name: str) -> Any:
    """`finish` is imported when a notebook asks for it: it needs pandas and pydantic,
    which short commands do without.
    """
    if name != "finish":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from robustbook.run.finishing import finish

    return finish
