"""Runs: from a text notebook and parameters to a page and its record.

A notebook needs `finish` and `Record` alone. The runner behind the command line reads, in order: `project` (where files
lie), `parameters`, `notebook` (the source), `execute`, `clean`, `records`, `provenance`, `publish`, `status`, `runner`
(one whole run) and `compare`.
"""

from robustbook.run.finishing import finish
from robustbook.run.records import ClaimRecord, Provenance, Record

__all__ = ["ClaimRecord", "Provenance", "Record", "finish"]
