"""What a study measures and what it claims: metric rows, their collection, and claims
with rules.

Read `Metric` (one tidy row) first, then `Results` (a study's rows), then `Claim` (a
sentence of a paper, with the rule that decides it from the rows alone).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from robustbook.stats import Interval

Factor = str | int | float | bool
Verdict = Literal[
    "reproduced",
    "partly",
    "mixed",
    "not reproduced",
    "inconclusive",
    "not tested at this scale",
]
VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "partly",
    "mixed",
    "not reproduced",
    "inconclusive",
    "not tested at this scale",
)


class UnmeasuredError(KeyError):
    """A rule needs rows that the run did not measure; the message says which."""


class UndeclaredRowError(ValueError):
    """A row is added, asked for or recorded that the study does not declare."""


@dataclass(frozen=True)
class Row:
    """The declaration of a row: its name, its unit and the names of the factors that it
    can vary over, with spaces between them.
    """

    name: str
    unit: str = ""
    factors: str = ""


class Metric(BaseModel):
    """One measured number: `value` with its 95 % interval `[low, high]` where one
    exists.

    `over` says what the interval is over ("seeds", "images", "networks") and `n` how
    many of them; `unit` is the unit ("share", "nats", "1/nats", "passes", "");
    `factors` are the conditions it varies over (network, training, epsilon, ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = Field(default=None, ge=1)
    over: str = ""
    unit: str = ""
    factors: dict[str, Factor] = {}

    @field_validator("value", "low", "high")
    @classmethod
    def _finite(cls, number: float | None) -> float | None:
        if number is not None and not math.isfinite(number):
            raise ValueError(f"a metric must be finite, got {number}")
        return number

    def matches(self, name: str, factors: dict[str, Factor]) -> bool:
        """Whether this row has the given name and all the given factor values."""
        return self.name == name and all(
            self.factors.get(key) == value for key, value in factors.items()
        )


class Results:
    """A study's metric rows, in the order in which they were measured.

    With `rows`, the study's declarations, UndeclaredRowError is raised where a row is
    added or asked for that has another name, unit or factor than one of them. With
    `rerun`, for notebooks, rows that a cell records when it is run again take the place
    of all rows of that name, so that a changed parameter leaves nothing behind.
    """

    def __init__(
        self,
        metrics: Iterable[Metric] = (),
        *,
        rows: Iterable[Row] | None = None,
        rerun: bool = False,
    ) -> None:
        self.rows = None if rows is None else {row.name: row for row in rows}
        self.rerun = rerun
        self.replaced: set[str] = set()
        self._cells: dict[str, int] = {}
        self.metrics: list[Metric] = []
        self._keys: set[tuple[str, frozenset[tuple[str, Factor]]]] = set()
        for metric in metrics:
            self._append(metric)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def add(
        self,
        name: str,
        value: float | Interval,
        interval: tuple[float, float] | None = None,
        *,
        n: int | None = None,
        over: str = "",
        unit: str = "",
        **factors: Factor,
    ) -> Metric:
        """Record one number and return its row; an `Interval` brings its limits and `n`
        with it.

        Raises ValueError if a number is not finite, or if a row with the same name and
        factors exists already.
        """
        if isinstance(value, Interval):
            interval, n, value = value.bounds, value.n, value.value
        low, high = interval if interval is not None else (None, None)
        metric = Metric(
            name=name,
            value=float(value),
            low=low,
            high=high,
            n=n,
            over=over,
            unit=unit,
            factors=dict(factors),
        )
        if self.rerun:
            self._forget_other_cell(name)
        self._append(metric)
        return metric

    def _forget_other_cell(self, name: str) -> None:
        """Drop the rows of this name that another execution of a cell recorded."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        cell = 0 if shell is None else shell.execution_count
        if self._cells.setdefault(name, cell) != cell:
            self._cells[name] = cell
            self.replaced.add(name)
            self.metrics = [row for row in self.metrics if row.name != name]
            self._keys = {key for key in self._keys if key[0] != name}

    def _check(self, name: str, factors: Iterable[str], unit: str | None) -> None:
        if self.rows is None:
            return
        row = self.rows.get(name)
        if row is None:
            raise UndeclaredRowError(f"the study declares no row {name!r}")
        for factor in factors:
            if factor not in row.factors.split():
                raise UndeclaredRowError(f"row {name!r} declares no factor {factor!r}")
        if unit is not None and unit != row.unit:
            raise UndeclaredRowError(
                f"row {name!r} is declared in {row.unit!r}, got {unit!r}"
            )

    def _append(self, metric: Metric) -> None:
        self._check(metric.name, metric.factors, metric.unit)
        key = (metric.name, frozenset(metric.factors.items()))
        if key in self._keys:
            raise ValueError(
                f"metric {metric.name!r} with factors {metric.factors} was recorded "
                "already"
            )
        self._keys.add(key)
        self.metrics.append(metric)

    def select(self, name: str, **factors: Factor) -> list[Metric]:
        """All rows with this name whose factors include the given values."""
        self._check(name, factors, None)
        return [metric for metric in self.metrics if metric.matches(name, factors)]

    def one(self, name: str, **factors: Factor) -> Metric:
        """The single row with this name and these factors; UnmeasuredError if there is
        none, KeyError if several.
        """
        found = self.select(name, **factors)
        if len(found) != 1:
            problem = KeyError if found else UnmeasuredError
            raise problem(
                f"expected one metric {name!r} with {factors}, found {len(found)}"
            )
        return found[0]

    def table(self, name: str | None = None, **factors: Factor) -> pd.DataFrame:
        """Tidy table: one line a row, one column a factor, and name, value, low, high,
        n, over, unit.
        """
        if name is not None:
            self._check(name, factors, None)
        rows = [
            metric
            for metric in self.metrics
            if metric.matches(name or metric.name, factors)
        ]
        return pd.DataFrame(
            [{**row.model_dump(exclude={"factors"}), **row.factors} for row in rows]
        )


@dataclass(frozen=True)
class Judgement:
    """What a rule says of a claim: a verdict, the numbers behind it, and an `answer`.

    The answer is one sentence of at most 30 words with the number that decides and its
    interval, for a reader who has not read the rule; the evidence is for the fold.
    """

    verdict: Verdict
    evidence: str
    answer: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, declared before its result is known.

    `judge` is the rule as code: it sees the metric rows and nothing else; `rule` is the
    same rule in words, and `control` the measurement that could overturn it.
    """

    id: str
    statement: str
    source: str
    measure: str
    rule: str
    control: str
    judge: Callable[[Results], Judgement]
    published: str | None = None

    def verdict(self, results: Results) -> Judgement:
        """The judgement, or "not tested at this scale" where rows that the rule needs
        were not measured.
        """
        try:
            return self.judge(results)
        except UnmeasuredError as missing:
            return Judgement(
                "not tested at this scale",
                f"This run did not measure what the rule needs: {missing.args[0]}.",
            )
