"""The studies, six of papers and one of our own.

Each has the same rooms, read in this order: `parameters`, `networks`, `measure`,
`rows`, `claims`, `figures`, `exercises` (see `protocol`).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

from robustbook.errors import UnknownNameError


def names() -> tuple[str, ...]:
    """Names of the studies that this package holds, in alphabetical order."""
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules(__path__)
            if module.name not in ("protocol", "shared")
        )
    )


def check(name: str) -> None:
    """UnknownNameError, with the nearest name, unless there is a study `name`."""
    if name not in names():
        raise UnknownNameError("study", name, names())


def is_own(name: str) -> bool:
    """Whether the study `name` asks questions of our own: it names no `PAPER` that it
    reproduces.
    """
    return not getattr(get(name), "PAPER", "")


def get(name: str) -> ModuleType:
    """The module (or package) of the study `name`; UnknownNameError, with the nearest
    name, where there is none.
    """
    check(name)
    return import_module(f"{__name__}.{name}")
