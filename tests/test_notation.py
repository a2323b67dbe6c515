"""A symbol stands for one thing in the whole book; the page *Notation* says which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "notebooks").glob("*.py"), *(ROOT / "book").glob("*.md")])
NOTATION = ROOT / "book" / "notation.md"

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)
_MATH = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$]+?)\$", re.S)
_WORD = re.compile(r"\\(?:text|mathrm|operatorname|begin|end|tag)\*?\{[^}]*\}")
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu "
    "xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi "
    "Sigma Upsilon Phi Psi Omega"
).replace(" ", "|")
_SYMBOL = re.compile(
    r"\\(?:hat|bar|tilde|mathcal|mathbb)\s*\{?\s*[A-Za-z]\}?"
    rf"|\\(?:{_GREEK})(?![A-Za-z])|\\[A-Za-z]+|d'|[A-Za-z]"
)
_OTHER = re.compile(r"\\(?!(?:hat|bar|tilde|mathcal|mathbb)\b)[A-Za-z]+")


def symbols(text: str) -> Iterator[str]:
    """The symbols in the math of a text in Markdown, as often as they stand there."""
    text = _CODE.sub("", text)
    for found in _MATH.finditer(text):
        math = _WORD.sub(" ", found[1] or found[2])
        math = re.sub(r"_\{KL\}", "", math)
        for symbol in _SYMBOL.findall(math):
            command = _OTHER.fullmatch(symbol)
            if command and not re.fullmatch(rf"\\(?:{_GREEK})", symbol):
                continue
            yield re.sub(r"[{}\s]", "", symbol)


def defined() -> Counter[str]:
    """How many rows of the table begin with each symbol."""
    table = NOTATION.read_text(encoding="utf-8").split("## Glossary")[0]
    rows = re.findall(r"^\| (\$.*?\$) \|", table, re.M)
    heads = [re.sub(r"\(.*?\)\$", "$", row) for row in rows]
    return Counter(name for head in heads for name in set(symbols(head)))


def text_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = jupytext.read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_symbols_are_found_in_math_and_nowhere_else() -> None:
    text = (
        r"The `$a$` of $\hat p_{i}\le\theta$ costs \$5. $$\mathcal{L}(x) = d' \log 2$$"
    )
    wanted = [r"\hatp", "i", r"\theta", r"\mathcalL", "x", "d'"]
    assert list(symbols(text)) == wanted


def test_no_symbol_has_two_meanings() -> None:
    assert [name for name, times in defined().items() if times > 1] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_symbol_is_in_the_notation(path) -> None:
    assert sorted(set(symbols(text_of(path))) - {r"\pi"} - defined().keys()) == []
