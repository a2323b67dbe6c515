"""What computes, and that its hash says what changed in meaning: comments, docstrings,
hints and layout do not.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import robustbook
from robustbook import sources
from robustbook.data import store
from robustbook.sources import digest

PACKAGE = Path(robustbook.__file__).parent
SOURCE = '''"""What it is."""

from __future__ import annotations

import math  # for the root


@dataclass(frozen=True)
class Root(Base, size=2):
    """A root."""

    name: str = "a" "b"
    """Its name."""
    order: int

    @property
    def text(self) -> str:
        return f"{self.name!r:>{self.order}} is" f" {1 + 2j:} {{}} {self.order=}"


async def root(x: float, /, *rest: int, deep: bool = True, **more: str) -> float:
    """The root."""
    # of x
    found: list[float] = []
    text = """# kept"""
    for each in rest:
        pass
    else:
        ...
    match x:
        case {"a": [1, *others], **left} | Root(name=None):
            found += [not -x @ 3, 0xFF, 1e-3, 1_000, b"\\0", None, ..., True]
        case _:
            del x[1:2, ::3], (lambda y=1, *, z: y)(2).a
    try:
        async with a as b, c:
            found[0] = [(yield i) async for i in x if i if not j]
    except* (ValueError, TypeError) as error:
        raise error from None
    finally:
        global other
    return math.sqrt(x) if (y := 3) < x <= 4 else {**more, "é": {1, *rest}}  # é
'''
EXPECTED = "c1b4c03795c032ea89891fb864858d57a92b3da748a95db04a4bc23cfc1407f3"


def changed(old: str, new: str) -> str:
    assert old in SOURCE
    return SOURCE.replace(old, new)


def test_the_hash_is_the_same_on_every_python():
    ast.parse(SOURCE)
    assert digest(SOURCE) == EXPECTED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of x", "# return 2"),
        ("The root.", "The\n    square root."),
        ('"""Its name."""', ""),
        ("\n\n\n", "\n\n\n\n# more\n\n"),
        ("    return math", "        \n    return math"),
        ('"a" "b"', "(\n        'ab'\n    )"),
        ('"""# kept"""', "(u'# ' r'kept')"),
        (' is" f"', " is"),
        ("+ 2j:}", "+ 2j}"),
        (
            "(ValueError, TypeError)",
            "(\n        ValueError,\n        TypeError,\n    )",
        ),
        ("0xFF, 1e-3, 1_000", "255, .001, 1000"),
        ("math.sqrt(x)", "(math.sqrt)((x))"),
        ("        pass\n", '        "nothing"\n        pass\n'),
        ("    else:\n        ...\n", ""),
        ("x: float", "x: int"),
        ("*rest: int", "*rest"),
        (") -> float:", ") -> int:"),
        ("found: list[float] =", "found ="),
    ],
)
def test_comments_docstrings_hints_and_layout_change_no_hash(old, new):
    assert digest(changed(old, new)) == digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sqrt", "cbrt"),
        ("# kept", "# not kept"),
        ("order: int", "order: float"),
        ("-> str", "-> Text"),
        ('"a" "b"', '"a" + "b"'),
        ('"a" "b"', 'b"ab"'),
        ("deep: bool = True", "deep: bool = 1"),
        ("1_000", "1_000.0"),
        ("self.name!r", "self.name!s"),
        (":>{", ":<{"),
        ("{{}}", "{{ }}"),
        ("not -x", "not +x"),
        ("< x <=", "<= x <"),
        ("        pass\n", "        break\n"),
        ("del x[1:2", "del x[1:3"),
        ("x: float, /,", "x: float,"),
        ("(frozen=True)", "(frozen=False)"),
        ("@property\n", "@cached\n"),
        ("if i if not j", "if i and not j"),
        ("async for", "for"),
        ('"é"', '"e"'),
    ],
)
def test_what_computes_changes_the_hash(old, new):
    assert digest(changed(old, new)) != digest(SOURCE)


def test_statements_in_another_block_are_another_meaning():
    assert digest("if a:\n  b\n  c") != digest("if a:\n  b\nc")
    assert digest("if a:\n  b\nelse:\n  c") != digest("if a:\n  b\nif c:\n  c")


@given(st.text() | st.binary() | st.integers() | st.floats() | st.booleans())
def test_a_constant_counts_and_its_spelling_does_not(value):
    assert digest(f"x = {value!r}") == digest(f"x = (\n{value!r}\n)  # x")
    assert digest(f"x = {value!r}") != digest(f"x = [{value!r}]")
    if isinstance(value, int):
        assert digest(f"x = {value!r}") != digest(f"x = {value + 1!r}")


@pytest.mark.parametrize("name", ["stats", "results", "checks", "perturb/gradient"])
def test_a_module_written_anew_by_python_has_the_same_hash(name):
    """`ast.unparse` keeps the tree and changes every quote, bracket and line."""
    source = (PACKAGE / f"{name}.py").read_text()
    again = ast.unparse(ast.parse(source))
    assert again != source
    assert digest(again) == digest(source)


def test_cells_show_the_value_of_their_last_line():
    assert digest("x\n'a'", cell=True) != digest("x\n'b'", cell=True)
    assert digest("x\n'a'", cell=True) != digest("x", cell=True)
    assert digest("x", cell=True) != digest("x;  # quiet", cell=True)
    assert digest("'a'\nx", cell=True) == digest("# a\n(x)", cell=True)
    assert digest("x = 1;", cell=True) == digest("x = 1", cell=True)


def test_what_is_no_python_is_hashed_as_it_stands():
    assert digest("%a\n'  # b", cell=True) != digest("%a\n'  # c", cell=True)
    assert digest("!ls") != digest("!pwd")
    assert digest("x = '\\ud800'") != digest("x = '\\ud801'")
    assert digest("(" * 5000) != digest("(" * 5001)
    assert digest("x = 0x" + "f" * 9000) != digest("x = 0x" + "e" * 9000)


def test_a_hash_asks_for_nothing_beyond_python():
    """Every command reads it, and it decides before anything slow is imported."""
    code = (
        "import sys; import robustbook.sources; "
        "print(sorted({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


def test_every_room_that_computes_is_there_and_every_data_set_is_known_by_name():
    names = {path.stem for path in PACKAGE.iterdir() if path.stem[0] != "_"}
    others = {
        *("cli", "errors", "exercises", "fetch", "fields", "files", "page", "plots"),
        *("progress", "skeleton", "grading", "py"),  # `py.typed` is a mark
    }
    assert set(sources.ROOMS) == names - others - {"run", "sources", "worker_base"}
    declared = {
        name
        for path in (PACKAGE / "data").glob("*.py")
        for name in sources._data_sets(path.read_text())
    }
    assert declared == set(store.names())
