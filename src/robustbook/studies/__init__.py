"""The six studies: each holds its `Parameters`, its `CLAIMS` with their rules, and the steps that its notebook narrates."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def names() -> tuple[str, ...]:
    """Names of the studies that this package holds, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def get(name: str) -> ModuleType:
    """The module (or package) of the study `name`; KeyError if there is none."""
    if name not in names():
        raise KeyError(name)
    return import_module(f"{__name__}.{name}")
