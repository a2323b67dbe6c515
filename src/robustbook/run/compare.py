"""Compare two records of the same run: `differences` lists what does not agree within
tolerances, `outcome` sums it up.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustbook.errors import UserError
from robustbook.files import write_whole
from robustbook.results import Metric
from robustbook.run.records import Record, rounded
from robustbook.workers import core_count

RELATIVE, ABSOLUTE = 0.02, 0.005
"""Default tolerances: two per cent of the larger value, or 0.005 in the metric's unit
where that is more.

Another processor adds in another order, and training carries that on: half a point of
accuracy is allowed. It is a lot for shares of a few per thousand, whose verdicts are
compared all the same; `--atol` sets less.
"""


@dataclass(frozen=True)
class Difference:
    """Something that two records disagree on; an empty side has nothing of that
    name.
    """

    what: str
    committed: str
    now: str


def differences(
    committed: Record,
    now: Record,
    *,
    relative: float = RELATIVE,
    absolute: float = ABSOLUTE,
) -> list[Difference]:
    """Metric rows whose value or interval is outside the tolerances or on one side
    only, or whose `n` differs; verdicts.

    Two numbers agree where |a - b| <= max(relative * max(|a|, |b|), absolute).
    """
    before, after = _by_key(committed.metrics), _by_key(now.metrics)
    found = []
    for key in sorted(before.keys() | after.keys()):
        left, right = before.get(key), after.get(key)
        if left is None or right is None or not _agree(left, right, relative, absolute):
            found.append(Difference(key, shown(left), shown(right)))
    verdicts = {claim.id: claim.verdict for claim in committed.claims}
    changed = {claim.id: claim.verdict for claim in now.claims}
    names = sorted(verdicts.keys() | changed.keys())
    return found + [
        Difference(
            f"verdict {name}", str(verdicts.get(name, "")), str(changed.get(name, ""))
        )
        for name in names
        if verdicts.get(name) != changed.get(name)
    ]


@dataclass(frozen=True)
class Outcome:
    """What a repetition of a run found: how many numbers and verdicts, those outside
    the tolerances, the largest distance.

    `largest` is the largest distance of two values relative to the larger one (to 1
    where both are smaller); of the values with an interval (`intervals`) those `beyond`
    lie outside that of the record. `hash` is that of the record that was repeated, over
    its code, parameters and data.
    """

    study: str
    run: str
    hash: str
    numbers: int
    verdicts: int
    identical: int
    largest: float
    intervals: int
    beyond: int
    threads_before: int
    threads_now: int
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing is outside the tolerances."""
        return not self.differences

    @property
    def other_verdicts(self) -> int:
        """How many of the differences are verdicts."""
        return sum(
            difference.what.startswith("verdict") for difference in self.differences
        )


def outcome(
    before: Record, now: Record, relative: float = RELATIVE, absolute: float = ABSOLUTE
) -> Outcome:
    """Compare the records of a run and of its repetition."""
    left, right = _by_key(before.metrics), _by_key(now.metrics)
    pairs = [(left[key], right[key]) for key in left.keys() & right.keys()]
    distances = [
        abs(one.value - other.value) / max(abs(one.value), abs(other.value), 1.0)
        for one, other in pairs
    ]
    held = [
        one.low <= other.value <= one.high
        for one, other in pairs
        if one.low is not None and one.high is not None
    ]
    return Outcome(
        study=now.study,
        run=now.run,
        hash=before.provenance.hash,
        numbers=len(now.metrics),
        verdicts=len(now.claims),
        identical=sum(
            rounded(one.model_dump()) == rounded(other.model_dump())
            for one, other in pairs
        ),
        largest=max(distances, default=0.0),
        intervals=len(held),
        beyond=held.count(False),
        threads_before=before.provenance.threads,
        threads_now=now.provenance.threads,
        differences=tuple(
            differences(before, now, relative=relative, absolute=absolute)
        ),
    )


def note(
    path: Path, outcomes: Iterable[Outcome], *, fresh: bool, worker_threads: int
) -> None:
    """Add what was found to a JSON file, by study, run, networks and threads; the book
    shows it.

    `fresh` says that every network was trained again, `worker_threads` how many each
    worker had. What was found of other code or parameters of the same run is forgotten.
    """
    networks = "trained again" if fresh else "kept"
    known = noted(path)
    for each in outcomes:
        known = {key: row for key, row in known.items() if not _outdated(row, each)}
        threads = f"{each.threads_now} threads, {worker_threads} in a worker"
        key = f"{each.study} {each.run}, networks {networks}, {threads}"
        numbers = len(each.differences) - each.other_verdicts
        found = {
            "differences": numbers,
            "other_verdicts": each.other_verdicts,
            "networks": networks,
        }
        known[key] = {**asdict(each), **found, "worker_threads": worker_threads}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())


def noted(path: Path) -> dict[str, Any]:
    """What a report holds, nothing if it is new; UserError if the file is no report or
    cannot be read.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as failure:
        raise UserError(f"{path} cannot be read as a report: {failure}") from failure
    if not isinstance(known, dict) or not all(
        isinstance(row, dict) and "run" in row for row in known.values()
    ):
        raise UserError(
            f"{path} holds something else than a report of checks: name another file"
        )
    return known


def _outdated(row: dict[str, Any], now: Outcome) -> bool:
    """Whether a noted row is of the same run as `now` and of another hash."""
    return (row["study"], row["run"]) == (now.study, now.run) and row.get(
        "hash"
    ) != now.hash


@contextmanager
def conditions(threads: int | None, *, fresh: bool) -> Iterator[None]:
    """Repetitions inside have `threads` threads, in workers too; `fresh` ones find no
    network that was trained before.

    With more threads to a worker there are fewer workers, so that no more threads run
    than there are cores.
    """
    given: dict[str, str] = {}
    if threads:
        given |= {
            "OMP_NUM_THREADS": str(threads),
            "ROBUSTBOOK_WORKER_THREADS": str(threads),
        }
        given["ROBUSTBOOK_WORKERS"] = str(max(1, core_count() // threads))
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as empty:
        if fresh:
            given["ROBUSTBOOK_CACHE"] = empty
        os.environ.update(given)
        try:
            yield
        finally:
            for name in given:
                os.environ.pop(name)
            os.environ.update(
                {name: value for name, value in before.items() if name in given}
            )


def _by_key(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {_key(metric): metric for metric in metrics}


def _key(metric: Metric) -> str:
    factors = ", ".join(
        f"{name}={json.dumps(value)}" for name, value in sorted(metric.factors.items())
    )
    return f"{metric.name} ({factors})" if factors else metric.name


def _agree(left: Metric, right: Metric, relative: float, absolute: float) -> bool:
    pairs = ((left.value, right.value), (left.low, right.low), (left.high, right.high))
    return left.n == right.n and all(
        _close(one, other, relative, absolute) for one, other in pairs
    )


def _close(
    one: float | None, other: float | None, relative: float, absolute: float
) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=relative, abs_tol=absolute)


def shown(metric: Metric | None) -> str:
    """A number with its interval and what it is from; empty where there is none."""
    if metric is None:
        return ""
    interval = (
        f" [{metric.low:.4g}, {metric.high:.4g}]"
        if metric.low is not None and metric.high is not None
        else ""
    )
    return f"{metric.value:.4g}{interval}" + (f" (n = {metric.n})" if metric.n else "")
