"""Runs: from a text notebook and parameters to a page and its record.

A notebook needs `finish` alone (in `finishing`). The runner behind the command line
reads, in order: `project` (where files lie), `parameters`, `notebook` (the source),
`execute`, `clean`, `records`, `provenance`, `publish`, `status`, `runner` (one whole
run), `same_quantity`, `compare` and `scoreboard`; then the sweeps: `sweep` (the plan),
`side_by_side` (Snakemake runs it), `sweep_table` and `sweep_page`.
"""

from robustbook.run.finishing import finish

__all__ = ["finish"]
