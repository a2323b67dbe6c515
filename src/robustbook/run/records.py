"""The record of a run, the one source of its numbers: `Record`, its canonical bytes,
`load`, which trusts nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from robustbook import files, studies
from robustbook.errors import DamagedFileError, UserError
from robustbook.results import Metric, Results, Verdict

SCHEMA_VERSION = 1
DIGITS = 10
LARGEST = 200_000_000
"""A record has at most so many bytes."""


class ClaimRecord(BaseModel):
    """A claim as it was declared, with the verdict that its rule gave and the numbers
    behind it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    statement: str
    source: str
    measure: str
    rule: str
    control: str
    published: str | None = None
    verdict: Verdict
    evidence: str
    answer: str = ""


class Provenance(BaseModel):
    """What a run was computed from and on.

    `hash` covers `code` (the notebook's code cells), the parameters, `sources` (one
    hash a module that computes) and `data` (digests by title). Versions, device and
    threads are told but not hashed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hash: str
    code: str
    sources: dict[str, str]
    data: dict[str, str]
    versions: dict[str, str]
    device: str
    threads: int


class Record(BaseModel):
    """Everything a run found: its metric rows and verdicts, and what they were computed
    from.

    `overrides` are the parameters that the run was given, `parameters` all of them.
    `timing` (seconds, bytes) differs from run to run and is left out of every
    comparison. `page_digest` is the SHA-256 of the page beside the record, `digest`
    that of the record itself but for `timing`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    study: str
    run: str
    overrides: dict[str, Any]
    parameters: dict[str, Any]
    metrics: list[Metric]
    claims: list[ClaimRecord]
    provenance: Provenance
    timing: dict[str, float] = {}
    page_digest: str = ""
    digest: str = ""

    def without_timing(self) -> dict[str, Any]:
        """The record's content but for `timing` and the digest over it: equal for two
        runs of the same thing.
        """
        content = json.loads(self.to_bytes())
        return {
            key: value
            for key, value in content.items()
            if key not in ("timing", "digest")
        }

    def to_bytes(self) -> bytes:
        """Canonical JSON with the record's digest filled in: the same content gives the
        same bytes.
        """
        content = self.model_dump(mode="json")
        return canonical({**content, "digest": content_digest(content)})


def rounded(value: Any) -> Any:
    """The same JSON value with floats to 10 significant digits, so that the last bits
    of a sum do not matter.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a record holds finite numbers only, got {value}")
        return float(f"{value:.{DIGITS}g}") + 0.0
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def canonical(value: Any) -> bytes:
    """JSON bytes that depend on the content alone: sorted keys, rounded floats, one
    item a line.
    """
    text = json.dumps(
        rounded(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode()


def sha256(content: bytes) -> str:
    """SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def content_digest(content: dict[str, Any]) -> str:
    """SHA-256 of a record's content without its `digest` and its `timing`, so that
    equal runs have equal digests.
    """
    return sha256(
        canonical(
            {
                key: value
                for key, value in content.items()
                if key not in ("timing", "digest")
            }
        )
    )


def load(path: Path) -> Record:
    """The record in a file.

    Raises UserError where it has another schema version, DamagedFileError where its
    content is not what was written.
    """
    try:
        content = json.loads(files.read(path, LARGEST))
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(path, "it is no readable JSON") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise _damaged(path, "it has no schema version")
    if content["schema_version"] != SCHEMA_VERSION:
        found = content["schema_version"]
        raise UserError(
            f"{path.name} has schema version {found}, this robustbook reads "
            f"{SCHEMA_VERSION}: run it again"
        )
    try:
        fits = content.get("digest") == content_digest(content)
        canonical(content)  # The digest leaves the timing out.
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it holds what no record holds") from error
    if not fits:
        raise _damaged(path, "its content does not fit its digest")
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        raise _damaged(path, "its fields are not those of a record") from error
    if why := _incomplete(record):
        raise _damaged(path, why)
    return record


def _incomplete(record: Record) -> str:
    """What a record lacks or has twice, in words; empty where it is whole."""
    if not record.metrics:
        return "it holds no numbers"
    if not record.claims and _judges(record.study):
        return "it holds no claims"
    try:
        Results(record.metrics)
    except ValueError:
        return "it holds a number twice"
    found = [claim.id for claim in record.claims]
    return "" if len(found) == len(set(found)) else "it holds a claim twice"


def _judges(study: str) -> bool:
    """Whether a study judges claims; one that is not here is taken to."""
    try:
        return bool(studies.get(study).CLAIMS)
    except UserError:
        return True


def _damaged(path: Path, why: str) -> DamagedFileError:
    return DamagedFileError(
        f"record {path.parent.name}/{path.name} is damaged ({why}): run it again"
    )
