"""How two pieces of work are timed against each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Median seconds of two pieces of work that took turns, and the median of the ratios of the turns."""

    name: str
    ours: float
    theirs: float
    ratio: float
    limit: float

    def __str__(self) -> str:
        verdict = "within" if self.ratio <= self.limit else "ABOVE"
        return f"{self.name:<58} {self.ours:8.3f} s {self.theirs:8.3f} s {self.ratio:6.2f} x  {verdict} {self.limit}"


def seconds(work: Work) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, ours: Work, theirs: Work, *, limit: float, repeats: int) -> Comparison:
    """Run both once to warm up, then in turn `repeats` times; what disturbs the machine then disturbs both."""
    ours()
    theirs()
    turns = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return Comparison(
        name,
        statistics.median(turn[0] for turn in turns),
        statistics.median(turn[1] for turn in turns),
        statistics.median(turn[0] / turn[1] for turn in turns),
        limit,
    )


def fastest(choices: dict[int, Work]) -> int:
    """The key of the work that takes least time in the better of two calls."""
    best = {key: min(seconds(work), seconds(work)) for key, work in choices.items()}
    return min(best, key=best.__getitem__)
