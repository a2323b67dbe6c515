"""Pickles: arrays are read as NumPy reads them, and nothing else is called or built."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbook.data.pickles import load_arrays

ARRAYS = {
    "numbers": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "big endian": np.arange(3, dtype=">i2"),
    "texts": np.array(["a", "bc"]),
    "bytes": np.array([b"a", b"bc"]),
    "flags": np.array([True, False]),
    "nothing": np.zeros((0, 3), dtype=np.float32),
    "one": np.array(1.5),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_as_they_were_written(name: str, protocol: int) -> None:
    content = {"x": [ARRAYS[name], 3], "y": (ARRAYS[name], "text", None)}
    found = load_arrays(pickle.dumps(content, protocol=protocol))
    for array in (found["x"][0], found["y"][0]):
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype
    assert found["x"][1] == 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_single_numbers_are_read(protocol: int) -> None:
    found = load_arrays(pickle.dumps([np.float32(2.5), np.int64(7)], protocol=protocol))
    assert found == [2.5, 7]


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *given: Any, state: Any = None) -> None:
        self.call = (function, given) if state is None else (function, given, state)

    def __reduce__(self) -> Any:
        return self.call


def hostile() -> dict[str, bytes]:
    reconstruct = np.zeros(1).__reduce__()[0]
    array = reconstruct, np.ndarray, (0,), b"b"
    double = np.dtype("f8")
    return {
        "a command": pickle.dumps(Call(os.system, "true")),
        "a builtin": pickle.dumps(Call(eval, "1")),
        "objects": pickle.dumps(np.array([{}, None], dtype=object)),
        "a type of objects": pickle.dumps(
            Call(*array, state=(1, (1,), np.dtype("O"), 0, [1]))
        ),
        "fields": pickle.dumps(np.zeros(2, dtype=[("a", "f8")])),
        "too few bytes": pickle.dumps(
            Call(*array, state=(1, (10**6,), double, False, b""))
        ),
        "a negative size": pickle.dumps(
            Call(*array, state=(1, (-1,), double, False, b""))
        ),
        "no tuple": pickle.dumps(Call(*array, state=[1])),
        "a state of its own": pickle.dumps(Call(*array, state={"shape": (3,)})),
        "a name alone": pickle.dumps(np.ndarray),
        "changed function": b"\x80\x02cnumpy\ndtype\nN}X\x04\x00\x00\x00nameNs\x86b.",
        "persistent": b"\x80\x02K\x01Q.",
        "a memo far away": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        "many bytes": b"\x80\x05\x96" + (2**60).to_bytes(8, "little") + b".",
        "extension": b"\x80\x02\x82\x01.",
        "truncated": pickle.dumps(np.zeros(100))[:200],
        "empty": b"",
        "deep": pickle.dumps([[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]),
    }


@pytest.mark.parametrize(
    "name", [name for name in hostile() if name != "a memo far away"]
)
def test_everything_else_is_refused(name: str) -> None:
    with pytest.raises(pickle.UnpicklingError):
        load_arrays(hostile()[name])


def test_a_memo_far_away_takes_no_memory() -> None:
    assert load_arrays(hostile()["a memo far away"]) == 1


def test_lists_that_stand_in_many_places_are_read_once() -> None:
    value: list[Any] = [np.zeros(1)]
    for _ in range(18):
        value = [value] * 10
    found = load_arrays(pickle.dumps(value))
    assert len(found) == 10
    assert found[0] is found[9]


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(ARRAYS)),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
)
def test_damage_is_refused_or_gives_plain_values(
    name: str, protocol: int, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(pickle.dumps([ARRAYS[name], 3], protocol=protocol))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        found = load_arrays(bytes(content))
    except pickle.UnpicklingError:
        return
    assert is_plain(found)


def is_plain(value: Any) -> bool:
    """Whether a value is numbers, texts, arrays of them, or containers of such."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufcSU"
    if isinstance(value, list | tuple | set | frozenset):
        return all(is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(is_plain(item) for pair in value.items() for item in pair)
    plain = bool | int | float | str | bytes | bytearray | np.generic
    return value is None or isinstance(value, plain)


def test_crafted_pickles_do_not_end_the_process() -> None:
    """In a process of its own, since a fault of the interpreter would end this one."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_pickles as t\n"
        "for content in t.hostile().values():\n"
        "    try: t.load_arrays(content)\n"
        "    except t.pickle.UnpicklingError: pass\n"
        "print('alive')"
    )
    here = os.path.dirname(__file__)
    ran = subprocess.run(
        [sys.executable, "-c", script, here], capture_output=True, text=True
    )
    assert ran.stdout == "alive\n", ran.stderr


def test_the_hostile_pickles_are_what_they_say() -> None:
    """Python's own unpickler would read or run most of them."""
    for name in ("objects", "fields", "a name alone"):
        assert list(pickletools.genops(hostile()[name]))
        pickle.loads(hostile()[name])
