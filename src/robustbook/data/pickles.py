"""Pickles of arrays, read without running anything that they name."""

from __future__ import annotations

import io
import pickle
from typing import Any, NoReturn

ALLOWED = {
    (f"numpy.{room}.{module}", name)
    for room in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
"""What a pickled array of plain numbers is made of, as (module, name)."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is no part of an array"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside itself")


def load_arrays(content: bytes, *, encoding: str = "ASCII") -> Any:
    """What a pickle holds if that is numpy arrays of numbers and plain values;
    `encoding` is that of Python 2's texts.

    Raises pickle.UnpicklingError, before anything is run, if it names anything else;
    damaged pickles raise errors of every kind.
    """
    return _ArraysOnly(io.BytesIO(content), encoding=encoding).load()
