"""What `list`, `status` and `claims` say of a study, kept from one command to the next.

`every` gives the `Answer` of each study: the state of every run (`Status`) and every
claim (`Entry`), which `to_csv`, `to_json` and `rows_csv` write. Nothing slow is
imported unless an answer has to be found anew.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import robustbook
from robustbook import files, studies
from robustbook.run.project import QUICK, REFERENCE, Project, RunId

if TYPE_CHECKING:
    from robustbook.run.records import Record

State = Literal["fresh", "prose differs", "stale", "missing", "damaged"]
FIELDS = (
    *("study", "title", "paper", "claim", "statement", "source", "verdict"),
    *("answer", "evidence", "published", "control", "measure", "rule"),
    *("run", "state", "page", "record", "data"),
)
ROW_FIELDS = (
    *("study", "run", "claim", "name", "factors"),
    *("value", "low", "high", "n", "over", "unit"),
)
LARGEST = 200_000_000
"""No file that an answer rests on, and no kept answer, has more bytes."""


@dataclass(frozen=True)
class Status:
    """The state of a run, why it is in it, and its record where that can be read."""

    run: RunId
    state: State
    reasons: tuple[str, ...] = ()
    record: Record | None = None

    def __str__(self) -> str:
        return f"{self.state}: {self.short}" if self.reasons else self.state

    @property
    def short(self) -> str:
        """The first reasons, and how many there are besides."""
        more = len(self.reasons) - 3
        left = (f"{more} changes more",) if more > 1 else self.reasons[3:]
        return "; ".join((*self.reasons[:3], *left))


@dataclass(frozen=True)
class Entry:
    """One claim: as it was declared, and the verdict with the evidence that a run gave
    it.

    A study of our own has no `paper`: its claims are questions, and "reproduced" there
    reads "held". A claim without a run is `in preparation`: its `run` is None and its
    evidence empty, or what damaged its records. `rows` are the metric rows that the
    rule read, by field, where today's rule on the record's rows gives the verdict that
    the record has.
    """

    study: str
    title: str
    paper: str
    claim: str
    statement: str
    source: str
    measure: str
    rule: str
    control: str
    published: str
    verdict: str
    evidence: str = ""
    answer: str = ""
    run: str | None = None
    state: str = ""
    page: str = ""
    record: str = ""
    data: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()

    def line(self) -> dict[str, Any]:
        """The entry as a line of the CSV file, all but its metric rows."""
        texts = {name: getattr(self, name) for name in FIELDS}
        return {**texts, "run": self.run or "", "data": "; ".join(self.data)}


@dataclass(frozen=True)
class Answer:
    """What the commands say of one study; its states are without their records."""

    title: str
    states: tuple[Status, ...]
    claims: tuple[Entry, ...]

    @property
    def damaged(self) -> list[Status]:
        """The runs whose page or record is damaged."""
        return [each for each in self.states if each.state == "damaged"]

    def to_text(self) -> str:
        """The answer as JSON."""
        runs = [(each.run.run, each.state, each.reasons) for each in self.states]
        claims = [asdict(entry) for entry in self.claims]
        return json.dumps({"title": self.title, "runs": runs, "claims": claims})

    @classmethod
    def from_text(cls, study: str, text: str) -> Answer:
        """The answer that `to_text` wrote."""
        content = json.loads(text)
        return cls(
            content["title"],
            tuple(
                Status(RunId(study, run), state, tuple(reasons))
                for run, state, reasons in content["runs"]
            ),
            tuple(
                Entry(**{**entry, **{n: tuple(entry[n]) for n in ("data", "rows")}})
                for entry in content["claims"]
            ),
        )


def all_runs(project: Project, study: str) -> list[RunId]:
    """`reference` and `quick`, whether they exist or not, then the other runs of a
    study that do.
    """
    known = [RunId(study, name) for name in (REFERENCE, QUICK)]
    return known + [run for run in project.runs(study) if run not in known]


def every(project: Project, wanted: Sequence[str] | None = None) -> dict[str, Answer]:
    """The answer of each study, or of those named; UnknownNameError for a name that is
    none.

    An answer is taken from `.robustbook/answers` where it was found from the same
    content of the same files; it is found anew where there is none, or where what is
    kept was changed.
    """
    code = code_digest()
    found = {}
    for study in wanted or studies.names():
        studies.check(study)
        path = project.work / "answers" / f"{study}.json"
        key = _key(project, study, code)
        answer = _kept(path, study, key)
        if answer is None:
            answer = new(project, study)
            if key == _key(project, study, code_digest()):  # Nothing changed meanwhile.
                _keep(path, key, answer.to_text())
        found[study] = answer
    return found


def new(project: Project, study: str) -> Answer:
    """The answer of a study as its files give it now."""
    from robustbook.run import scoreboard, status

    states = list(status.of_study(project, study))
    return Answer(
        studies.get(study).TITLE,
        tuple(Status(each.run, each.state, each.reasons) for each in states),
        tuple(scoreboard.of_study(project, study, states)),
    )


def code_digest() -> str:
    """SHA-256 of all code that finds answers: this package, its studies, and names and
    versions of Python and of what is installed.
    """
    folders = [Path(each) for each in (*robustbook.__path__, *studies.__path__)]
    installed = {
        path.name for entry in sys.path for path in Path(entry).glob("*.dist-info")
    }
    sources = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return _digest([sys.version, *sorted(installed)], sources)


def _key(project: Project, study: str, code: str) -> str:
    """SHA-256 of all that the answer of a study depends on."""
    runs = all_runs(project, study)
    return _digest(
        [code, str(project.root), study],
        [
            project.notebook(study),
            *map(project.parameter_set, project.parameter_sets()),
            *(place(run) for run in runs for place in (project.page, project.record)),
        ],
    )


def _digest(words: Iterable[str], paths: Iterable[Path]) -> str:
    found = hashlib.sha256(json.dumps(list(words)).encode())
    for path in paths:
        try:
            content = hashlib.sha256(files.read(path, LARGEST)).hexdigest()
        except OSError as error:  # Missing, or nothing that can be read.
            content = repr(error)
        found.update(json.dumps([str(path), content]).encode())
    return found.hexdigest()


def _kept(path: Path, study: str, key: str) -> Answer | None:
    """The answer in a file; None unless it is there, for this key, and as written."""
    try:
        digest, _, text = files.read(path, LARGEST).decode().partition("\n")
        if digest == _sealed(key, text):
            return Answer.from_text(study, text)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _keep(path: Path, key: str, text: str) -> None:
    with suppress(OSError):  # A checkout that cannot be written has no kept answers.
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, f"{_sealed(key, text)}\n{text}".encode())


def _sealed(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()


def to_csv(board: Iterable[Entry]) -> str:
    """One line a claim, without the metric rows."""
    return _csv(FIELDS, (entry.line() for entry in board))


def rows_csv(board: Iterable[Entry]) -> str:
    """One line for every metric row that a rule read: value, 95 % interval, n and what
    it is over.
    """
    return _csv(ROW_FIELDS, (_row(entry, row) for entry in board for row in entry.rows))


def _row(entry: Entry, row: dict[str, Any]) -> dict[str, Any]:
    factors = json.dumps(row["factors"], sort_keys=True, ensure_ascii=False)
    where = {"study": entry.study, "run": entry.run, "claim": entry.claim}
    return {**where, **row, "factors": factors}


def _csv(fields: tuple[str, ...], lines: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def to_json(board: Iterable[Entry]) -> str:
    """A list of claims, each with the metric rows that its rule read."""
    content = [
        {**entry.line(), "data": list(entry.data), "rows": list(entry.rows)}
        for entry in board
    ]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
