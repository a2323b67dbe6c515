"""Pickles of arrays, read without running anything that they name.

Read `load_arrays` first. The machine is Python's own unpickler written in Python, with
fewer instructions: a name stands for one of the few functions of `_CALLS`, which make
arrays of numbers and check what they are given; nothing else can be called or built.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

DEEPEST = 20
"""Containers may hold each other so deep."""
KINDS = "biufcSU"
"""Kinds of numbers and texts that an array may hold; objects are none of them."""
MOST_BYTES = 2**31
"""One array has at most so many bytes."""
_REFUSED = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
_Unpickler: Any = pickle._Unpickler


class _Name:
    """What a pickle names: one of the functions that make arrays, or their type."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _DType:
    """A type of numbers on its way; its byte order follows in a BUILD."""

    __slots__ = ("value",)

    def __init__(self, text: object, *_: object) -> None:
        value = np.dtype(_plain(text, str))
        if value.kind not in KINDS or value.hasobject or value.fields:
            raise pickle.UnpicklingError(f"it holds {value}, which are no numbers")
        self.value = value

    def build(self, state: Any) -> None:
        """Take the byte order; the rest of the state is for types of other kinds."""
        order = _plain(state, tuple)[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has the byte order {order!r}")
        self.value = self.value.newbyteorder(order)


class _Array:
    """An array on its way; its shape, type and content follow in a BUILD."""

    __slots__ = ("value",)

    def __init__(self, kind: object, *_: object) -> None:
        if not isinstance(kind, _Name) or kind.name != "ndarray":
            raise pickle.UnpicklingError("it reconstructs what is no array")
        self.value: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:
        """Make the array of its bytes."""
        _, shape, dtype, fortran, raw = _plain(state, tuple)
        if isinstance(raw, str):  # Python 2 wrote bytes as text.
            raw = raw.encode("latin1")
        self.value = _of_bytes(raw, dtype, shape, "F" if fortran else "C")


def _plain(value: object, kind: type) -> Any:
    if type(value) is not kind:
        raise pickle.UnpicklingError(f"it has {type(value).__name__} in a wrong place")
    return value


def _of_bytes(
    raw: object, dtype: object, shape: object, order: object
) -> np.ndarray[Any, Any]:
    """The array of this type and shape that some bytes hold, all of them."""
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("it has an array without bytes or type")
    sizes = [shape] if type(shape) is int else _plain(shape, tuple)
    if len(sizes) > 8 or not all(type(size) is int and size >= 0 for size in sizes):
        raise pickle.UnpicklingError(f"it has an array of shape {shape}")
    if math.prod(sizes) * dtype.value.itemsize != len(raw) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it has an array that does not fit its bytes")
    found = np.frombuffer(bytes(raw), dtype.value, math.prod(sizes))
    return found.reshape(sizes, order=order).copy()


def _scalar(dtype: object, raw: object) -> Any:
    return _of_bytes(raw, dtype, (), "C")[()]


def _encode(text: object, encoding: object) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return bytes(_plain(text, str).encode("latin1"))


def _no_bytes(*given: object) -> bytes:
    if given:
        raise pickle.UnpicklingError("it makes bytes of something")
    return b""


_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": _Array,
    "scalar": _scalar,
    "_frombuffer": _of_bytes,
    "dtype": _DType,
    "encode": _encode,
    "bytes": _no_bytes,
}
ALLOWED = {
    (f"numpy.{room}.{module}", name)
    for room in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
} | {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("__builtin__", "bytes"),
}
"""What a pickled array of plain numbers is made of, as (module, name)."""


class _ArraysOnly(_Unpickler):
    """Python's unpickler without the instructions that make or change any object."""

    dispatch: ClassVar[dict[int, Any]] = {
        code: act
        for code, act in _Unpickler.dispatch.items()
        if code not in [getattr(pickle, name)[0] for name in _REFUSED]
    }

    def find_class(self, module: str, name: str) -> _Name:
        """A name that may be called; all others are refused."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is no part of an array"
            )
        return _Name(name)

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse what lies outside the pickle."""
        raise pickle.UnpicklingError("it refers to something outside itself")

    def load_reduce(self) -> None:
        """Call one of the functions that make arrays."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or name.name not in _CALLS:
            raise pickle.UnpicklingError("it calls what is no function of arrays")
        self.stack.append(_CALLS[name.name](*_plain(arguments, tuple)))

    def load_build(self) -> None:
        """Finish an array or a type of numbers, and nothing else."""
        state, unfinished = self.stack.pop(), self.stack[-1]
        if not isinstance(unfinished, _Array | _DType):
            raise pickle.UnpicklingError("it changes what is no array")
        unfinished.build(state)

    def load_bytearray8(self) -> None:
        """Read bytes that may be changed, no more than there are."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > MOST_BYTES:
            raise pickle.UnpicklingError(f"it asks for {size:,} bytes")
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build


def load_arrays(content: bytes, *, encoding: str = "ASCII") -> Any:
    """What a pickle holds if that is numpy arrays of numbers and plain values;
    `encoding` is that of Python 2's texts.

    Raises pickle.UnpicklingError, with nothing run, if it names or does anything else,
    or is damaged.
    """
    try:
        found = _ArraysOnly(io.BytesIO(content), encoding=encoding).load()
        return _finished(found, {})
    except pickle.UnpicklingError:
        raise
    except Exception as failure:  # Damaged pickles raise errors of every kind.
        what = type(failure).__name__
        raise pickle.UnpicklingError(f"it is damaged ({what})") from failure


def _finished(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """Plain containers with arrays where unfinished ones stood; one that stands in many
    places is finished once.
    """
    if depth > DEEPEST:
        raise pickle.UnpicklingError("it is nested too deep")
    if isinstance(value, _Name | _DType):
        raise pickle.UnpicklingError("it holds something other than arrays")
    if isinstance(value, _Array):
        return value.value
    if not isinstance(value, list | tuple | dict):
        return value
    if id(value) not in seen:
        items = value.values() if isinstance(value, dict) else value
        found = [_finished(item, seen, depth + 1) for item in items]
        whole = (
            dict(zip(value, found, strict=True)) if isinstance(value, dict) else found
        )
        seen[id(value)] = tuple(found) if isinstance(value, tuple) else whole
    return seen[id(value)]
