"""How one looks through a lens: what it will cost, what it saw, or why it saw nothing.

Read `Lens` (what each module of a lens has), `Seen` and `Refused` first, then
`LensPlan`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor

from robustbook.errors import UserError, shortened
from robustbook.models.network import Passes, count_passes, frozen
from robustbook.stats import Interval
from robustbook.studies.your_network.networks import Examined

WARM_IMAGES = 16
NOTHING = Passes()
Factors = Mapping[str, str | float]


@dataclass(frozen=True)
class Number:
    """One measured number: the name of its row, the value (an `Interval` says what it
    is uncertain by), and what it varies over.
    """

    name: str
    value: float | Interval
    over: str = ""
    factors: Factors = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What a lens saw: numbers, pictures by name, remarks for the page, and the passes
    that it took.
    """

    lens: str
    numbers: tuple[Number, ...]
    pictures: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    passes: Passes = NOTHING


@dataclass(frozen=True)
class Refused:
    """A lens that saw nothing, and why."""

    lens: str
    reason: str


class Lens(Protocol):
    """What the module of a lens has."""

    NAME: str

    def passes(self, subject: Examined, **settings: Any) -> int:
        """At most so many forward and backward passes of one image."""

    def look(self, subject: Examined, **settings: Any) -> Seen:
        """Measure; UserError in one line where it cannot be done."""


@dataclass(frozen=True, eq=False)
class LensPlan:
    """The lenses that are looked through, each with its settings, and what each costs
    at most.
    """

    subject: Examined
    lenses: Mapping[str, Lens]
    settings: Mapping[str, Mapping[str, Any]]
    chosen: Sequence[str]

    @property
    def costs(self) -> dict[str, int]:
        """Passes of one image at most, by lens."""
        return {
            name: self.lenses[name].passes(self.subject, **self.settings[name])
            for name in self.lenses
            if name in self.chosen
        }

    def table(self) -> pd.DataFrame:
        """Lens and passes, one line a lens."""
        return pd.DataFrame(
            {"Lens": list(self.costs), "Passes at most": list(self.costs.values())}
        )

    def seconds(self) -> float:
        """Seconds that all lenses take at most, by the time of a few passes."""
        return sum(self.costs.values()) * seconds_a_pass(self.subject)

    def tell(self) -> None:
        """Say on standard error how long it will take, which no page keeps."""
        told = f"at most {duration(self.seconds())} for {len(self.costs)} lenses"
        print(f"\r{told}", file=sys.stderr, flush=True)

    def look(self, name: str) -> Seen | Refused:
        """Look through a lens; a failure is told by its reason and stops no other.

        Where memory runs out, half as many images are computed together.
        """
        if name not in self.chosen:
            return Refused(name, "it was not chosen")
        subject = self.subject
        while True:
            try:
                with count_passes(subject.network) as counter:
                    seen = self.lenses[name].look(subject, **self.settings[name])
                return replace(seen, passes=counter.passes + seen.passes)
            except KeyboardInterrupt:
                raise
            except Exception as error:
                if not out_of_memory(error) or subject.chunk == 1:
                    return Refused(name, told(error))
            subject = subject.in_chunks_of(subject.chunk // 2)


def told(error: Exception) -> str:
    """Why a lens failed, in one line."""
    if isinstance(error, UserError):
        return shortened(str(error))
    first = str(error).strip().partition("\n")[0]
    return shortened(f"{type(error).__name__}: {first}")


def out_of_memory(error: Exception) -> bool:
    """Whether a computation failed since the memory of its device is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def seconds_a_pass(subject: Examined) -> float:
    """Seconds of one pass of one image, forward or backward, after a first look."""
    count = min(WARM_IMAGES, subject.chunk, len(subject.images))
    with frozen(subject.network), torch.enable_grad():
        taken = []
        for _ in range(2):  # The first one also sets up what is used again.
            start = time.perf_counter()
            leaf = subject.images[:count].clone().requires_grad_()
            logits: Tensor = subject.network(leaf)
            (gradient,) = torch.autograd.grad(logits.sum(), leaf)
            float(gradient.sum())  # Waits for a graphics card.
            taken.append(time.perf_counter() - start)
    return min(taken) / (2 * count)


def duration(seconds: float) -> str:
    """A time for the eye: seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
