"""A study's notebook outside the book: quick settings, no outputs, plain Markdown, and
a first cell that says what to install.

Read `standalone` first; `plain` is how Markdown of the book becomes Markdown that any
notebook program shows.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import robustbook

Node = Any
PACKAGE = Path(robustbook.__file__).parent
HIDDEN = {"remove-input", "remove-cell", "hide-input", "hide-cell"}
CHECK = """\
from importlib.util import find_spec

if find_spec("robustbook") is None:
    raise SystemExit("Install the book's package first: pip install -e FOLDER, where \
FOLDER is a copy of its project (version {version} made this notebook).")
"""
INSTALL = """\
from importlib.util import find_spec

if find_spec("robustbook") is None:  # Version {version} made this notebook.
    %pip install --quiet "robustbook @ git+{url}"
"""
KEPT_LINK = ("http://", "https://", "#")

_FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ ]?(?P<argument>.*)\n"
    r"(?P<body>(?:.*\n)*?)(?P=fence)[ ]*$",
    re.MULTILINE,
)
_OPTION = re.compile(r"^:(?P<name>[\w-]+):[ ]*(?P<value>.*)\n?", re.MULTILINE)
_ROLE = re.compile(r"\{(?P<name>[\w:-]+)\}`(?P<text>[^`]+)`")
_NAMED = re.compile(r"^(?P<text>[^<]*?)\s*<(?P<target>[^>]+)>$", re.DOTALL)
_LABEL = re.compile(r"^\([\w:.-]+\)=[ ]*\n", re.MULTILINE)
_EQUATION = re.compile(r"\$\$[ ]*\([\w:.-]+\)")
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_VERBATIM = re.compile(r"(^```.*?^```[ ]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


class References:
    """The works that a notebook cites, out of a BibTeX file."""

    def __init__(self, path: Path) -> None:
        from pybtex.database import parse_file

        self.path = path
        self.cited: list[str] = []
        self._entries = parse_file(str(path)).entries

    def cite(self, keys: str, *, in_text: bool) -> str:
        """`Yu et al. (2019)` in a sentence, otherwise `(Yu et al. 2019; Ross 2018)`."""
        names = [key.strip() for key in keys.split(",")]
        self.cited += [name for name in names if name not in self.cited]
        parts = [self._who(name) for name in names]
        if in_text:
            return " and ".join(f"{who} ({year})" for who, year in parts)
        return f"({'; '.join(f'{who} {year}' for who, year in parts)})"

    def _who(self, key: str) -> tuple[str, str]:
        from pybtex.richtext import Text

        entry = self._entries[key]
        names = [" ".join(one.last_names) for one in entry.persons["author"]]
        who = names[0] if len(names) == 1 else f"{names[0]} et al."
        who = " and ".join(names) if len(names) == 2 else who
        return str(Text.from_latex(who)), entry.fields["year"]

    def cell(self) -> Node | None:
        """A cell that lists what was cited; None where nothing was."""
        from nbformat.v4 import new_markdown_cell
        from pybtex import PybtexEngine

        if not self.cited:
            return None
        listed = PybtexEngine().format_from_files(
            [str(self.path)],
            style="plain",
            citations=self.cited,
            output_backend="markdown",
        )
        return new_markdown_cell(f"## References\n\n{listed.strip()}")


def standalone(node: Node, references: References, url: str = "") -> Node:
    """A study's notebook for a reader who has the package and not the book; with the
    `url` of its repository, for one who has neither.
    """
    from nbformat.v4 import new_code_cell, new_notebook

    first = INSTALL if url else CHECK
    check = new_code_cell(first.format(version=robustbook.__version__, url=url))
    cells = [_cell(cell, references) for cell in node.cells]
    listed = references.cell()
    cells = [cells[0], check, *cells[1:], *([listed] if listed else [])]
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _cell(cell: Node, references: References) -> Node:
    from nbformat.v4 import new_code_cell, new_markdown_cell

    if cell.cell_type != "code":
        return new_markdown_cell(plain(cell.source, references))
    tags = cell.metadata.get("tags", [])
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if HIDDEN & set(tags):
        metadata["jupyter"] = {"source_hidden": True}
    return new_code_cell(cell.source, metadata=metadata)


def plain(text: str, references: References) -> str:
    """Markdown of the book without its directives, roles and labels; links to other
    pages become their text.
    """
    text = _FENCE.sub(_directive, text + "\n").rstrip("\n")
    text = _EQUATION.sub("$$", _LABEL.sub("", text))
    text = _ROLE.sub(lambda found: _role(found, references), text)
    # What stands in code stays as it is.
    parts = _VERBATIM.split(text)
    parts[::2] = [_LINK.sub(_link, part) for part in parts[::2]]
    return "".join(parts)


def _directive(found: re.Match[str]) -> str:
    name, argument = found["name"], found["argument"].strip()
    options = {one["name"]: one["value"] for one in _OPTION.finditer(found["body"])}
    body = _OPTION.sub("", found["body"]).strip("\n")
    if name == "literalinclude":
        return f"```python\n{_included(argument, options)}\n```"
    if name == "math":
        return f"$$\n{body}\n$$"
    if not body:
        return f"*(See the page of the book: {name.replace('-', ' ')}.)*"
    title = argument if name == "admonition" else name.capitalize()
    return textwrap.indent(f"**{title}.** {body}", "> ", lambda _: True)


def _included(argument: str, options: dict[str, str]) -> str:
    """The source of a function or class of the package, or of a whole module."""
    path = PACKAGE / argument.partition("/robustbook/")[2]
    source = path.read_text(encoding="utf-8")
    wanted = options.get("pyobject")
    if not wanted:
        return source.strip("\n")
    scope: Any = ast.parse(source)
    for part in wanted.split("."):
        scope = next(one for one in scope.body if getattr(one, "name", "") == part)
    lines = source.splitlines()[scope.lineno - 1 : scope.end_lineno]
    return textwrap.dedent("\n".join(lines))


def _role(found: re.Match[str], references: References) -> str:
    name, text = found["name"], found["text"]
    if name.startswith("cite"):
        return references.cite(text, in_text=name.endswith(":t"))
    if name == "math":
        return f"${text}$"
    if name == "eq":
        return "above"
    named = _NAMED.match(text)
    return named["text"] if named else text.rpartition("/")[2].replace("-", " ")


def _link(found: re.Match[str]) -> str:
    return found[0] if found["target"].startswith(KEPT_LINK) else found["text"]
