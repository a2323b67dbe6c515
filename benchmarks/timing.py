"""How work is timed against a peer's, against a limit, and against its own size.

Read `Comparison`, `Measurement` and `Growth` (the three kinds of row), then `compare`
and `growth`, then `run`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Ours against a peer's: median seconds of `turns` turns, and the median, least and
    largest ratio of a turn.

    The range of n independent turns covers the true median ratio with probability 1 -
    2^(1 - n). Without a `limit` the row only tells what is possible. `agreement` says
    how far the answers agree, or why there is nothing to compare.
    """

    name: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    turns: int
    limit: float | None
    agreement: str = ""

    def __str__(self) -> str:
        verdict = "" if self.limit is None else f"{_verdict(self.ratio, self.limit)}"
        agreement = f"  ({self.agreement})" if self.agreement else ""
        return (
            f"{self.name:<58} {self.ours:8.3f} s {self.theirs:8.3f} s "
            f"{self.ratio:6.2f} x [{self.low:.2f}, {self.high:.2f}]  "
            f"{verdict}{agreement}"
        )


@dataclass(frozen=True)
class Measurement:
    """One figure that has a limit but no peer."""

    name: str
    value: float
    unit: str
    limit: float

    def __str__(self) -> str:
        return (
            f"{self.name:<58} {self.value:8.3g} {self.unit}  "
            f"{_verdict(self.value, self.limit)}"
        )


@dataclass(frozen=True)
class Growth:
    """Median seconds over `sizes` of what `axis` names, and the exponent of the power
    law through them.

    `low` and `high` are the least and largest exponent of a turn; every turn runs all
    sizes.
    """

    name: str
    axis: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float
    low: float
    high: float
    turns: int

    def __str__(self) -> str:
        span = f"{self.sizes[0]:,} to {self.sizes[-1]:,} {self.axis}"
        return (
            f"{self.name:<40} {span:<28} {self.seconds[0]:.3f} to "
            f"{self.seconds[-1]:.3f} s, exponent {self.exponent:.2f} "
            f"[{self.low:.2f}, {self.high:.2f}]"
        )


Row = Comparison | Measurement | Growth
Rows = Callable[[int], Iterable[Row]]
"""Makes a study's rows, given how many turns every measurement takes."""


def _verdict(value: float, limit: float) -> str:
    return f"{'within' if value <= limit else 'ABOVE'} {limit:g}"


def seconds(work: Work) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    name: str,
    ours: Work,
    theirs: Work,
    *,
    limit: float | None,
    repeats: int,
    agreement: str = "",
) -> Comparison:
    """Run both once to warm up, then in turn `repeats` times; what disturbs the machine
    then disturbs both.
    """
    ours()
    theirs()
    turns = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    ratios = [mine / peer for mine, peer in turns]
    return Comparison(
        name,
        statistics.median(mine for mine, _ in turns),
        statistics.median(peer for _, peer in turns),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        repeats,
        limit,
        agreement,
    )


def growth(name: str, axis: str, works: Mapping[int, Work], *, repeats: int) -> Growth:
    """Time work by size: every turn runs all sizes and gives one exponent by least
    squares of the logarithms.
    """
    for work in works.values():
        work()
    turns = [[seconds(work) for work in works.values()] for _ in range(repeats)]
    exponents = [exponent(tuple(works), turn) for turn in turns]
    return Growth(
        name,
        axis,
        tuple(works),
        tuple(statistics.median(column) for column in zip(*turns, strict=True)),
        statistics.median(exponents),
        min(exponents),
        max(exponents),
        repeats,
    )


def exponent(sizes: Sequence[float], spent: Sequence[float]) -> float:
    """Slope of log seconds over log size: 1 is time in proportion."""
    return statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(each) for each in spent]
    ).slope


def fastest(choices: dict[int, Work]) -> int:
    """The key of the work that takes least time, after one call to warm up."""
    next(iter(choices.values()))()
    best = {key: seconds(work) for key, work in choices.items()}
    return min(best, key=best.__getitem__)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> str:
    """The largest difference of two answers in words."""
    return f"largest difference {float((ours - theirs).abs().max()):.1e}"


def run(studies: dict[str, Rows], words: Sequence[str] | None = None) -> None:
    """Measure the studies on one thread, print every row, and write them all where
    `--json` says.
    """
    parser = argparse.ArgumentParser(
        description="Time this book's code against peer libraries; one row a line."
    )
    parser.add_argument(
        "studies",
        nargs="*",
        metavar="STUDY",
        help="what to measure, by default everything",
    )
    parser.add_argument(
        "--repeats", type=int, default=6, help="turns of every measurement (default 6)"
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(words)
    if unknown := set(options.studies) - set(studies):
        parser.error(
            f"no benchmark of {', '.join(sorted(unknown))}; there are "
            f"{', '.join(studies)}"
        )
    if options.repeats < 2:
        parser.error(f"at least two turns are needed, got {options.repeats}")
    torch.set_num_threads(1)
    machine = {
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load before": round(os.getloadavg()[0], 2),
    }
    print(
        f"one thread, {', '.join(f'{name} {value}' for name, value in machine.items())}"
    )
    found = [
        {"study": study, "kind": type(row).__name__.lower(), **asdict(row)}
        for study in options.studies or studies
        for row in _shown(study, studies[study], options.repeats)
    ]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": machine, "rows": found}, indent=1) + "\n",
            encoding="utf-8",
        )


def _shown(study: str, rows: Rows, repeats: int) -> Iterable[Row]:
    """The rows of a study, each printed as soon as it is there."""
    print(f"\n{study}", flush=True)
    torch.manual_seed(0)
    for row in rows(repeats):
        print(row, flush=True)
        yield row
