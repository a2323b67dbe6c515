"""What an interval is over: seeds, each with a network, images and masks of its own.

The images of a seed share its network and its two draws of masks, so they are no
independent witnesses: a value is the mean of the seeds' own means, and its interval is
Student's over seeds. Read `left_out` and `jackknife` first (they take any statistic of
the seeds' means), then `add_mean`, which records a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustbook.results import Results
from robustbook.stats import Interval, bootstrap_mean

Numbers = NDArray[np.float64]
SEEDS = "seeds"
CORRELATION, DIFFERENCE, SHARE = (-1.0, 1.0), (-2.0, 2.0), (0.0, 1.0)
"""Limits of a correlation, of a difference of two, and of a share."""
ONE_SEED = "images of one seed"
"""Where there is one seed, images are drawn: such an interval says nothing of another
network or other masks.
"""


def left_out(statistic: Callable[..., Any], *columns: Numbers) -> Numbers:
    """`statistic` of all units of the `columns` (k, ...), then without each of them: (1
    + k, ...).
    """
    without = [
        statistic(*(np.delete(column, unit, axis=0) for column in columns))
        for unit in range(len(columns[0]))
    ]
    return np.asarray([statistic(*columns), *without], dtype=np.float64)


def jackknife(draws: Numbers) -> Interval:
    """Value and 95 % interval of a statistic from `left_out` (1 + k,): the jackknife's
    error, Student's t.

    For a mean of k values it is the usual t interval.

    Raises ValueError if there are fewer than two units.
    """
    count = len(draws) - 1
    if count < 2:
        raise ValueError(
            f"an interval needs at least two independent units, got {count}"
        )
    error = np.sqrt((count - 1) / count * ((draws[1:] - draws[1:].mean()) ** 2).sum())
    half = stats.t.ppf(0.975, count - 1) * error
    return Interval(
        float(draws[0]), float(draws[0] - half), float(draws[0] + half), count
    )


def within(found: Interval, low: float, high: float) -> Interval:
    """The interval, cut to what the number can be."""
    return Interval(found.value, max(found.low, low), min(found.high, high), found.n)


def add_mean(
    results: Results,
    name: str,
    parts: Sequence[Numbers],
    *,
    limits: tuple[float, float] = CORRELATION,
    unit: str = "",
    **factors: Any,
) -> None:
    """Record the mean of `parts`, one array of images a seed, with its interval over
    seeds, or over images of one.

    The interval is cut to `limits`, between which the number must lie.
    """
    if len(parts) > 1:
        found = jackknife(left_out(np.mean, np.array([part.mean() for part in parts])))
        results.add(name, within(found, *limits), over=SEEDS, unit=unit, **factors)
    else:
        results.add(
            name, bootstrap_mean(parts[0], seed=0), over=ONE_SEED, unit=unit, **factors
        )
