"""Reads the package's docstrings as the plain text with `code` marks that they are, and
lists the modules of a room.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_CODE = re.compile(r"(`[^`]+`)")
_SPECIAL = re.compile(r"([*|\\]|_(?=\W|$))")


def as_rst(lines: list[str]) -> list[str]:
    """The same docstring as reStructuredText: single backticks become literals, other
    marks stand for themselves.

    Indented blocks after a line that ends in `::` are left as they are.
    """
    converted: list[str] = []
    text: list[str] = []
    block_indent = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        in_block = block_indent is not None and (
            not line.strip() or indent > block_indent
        )
        if in_block:
            converted += [*_marked(text), line]
            text = []
            continue
        text.append(line)
        block_indent = indent if line.rstrip().endswith("::") else None
    return converted + _marked(text)


def _marked(lines: list[str]) -> list[str]:
    """Running text with its marks converted; a code mark may span two lines."""
    parts = _CODE.split("\n".join(lines).replace("``", "`"))
    marked = (
        f"\0`{part}`\0" if _CODE.fullmatch(part) else _SPECIAL.sub(r"\\\1", part)
        for part in parts
    )
    # A literal needs white space or its escape on both sides.
    text = re.sub(r"(^|(?<=\s))\0|\0(?=\s|$)", "", "".join(marked)).replace("\0", "\\ ")
    return text.split("\n") if lines else []


def convert(
    app: Sphinx, what: str, name: str, item: object, options: Any, lines: list[str]
) -> None:
    """Convert docstrings of this package; those of other packages that it inherits are
    dropped.
    """
    module = getattr(item, "__module__", None) or name
    lines[:] = as_rst(lines) if str(module).startswith("robustbook") else lines[:1]


def fields_only(
    app: Sphinx, what: str, name: str, item: Any, *rest: Any
) -> tuple[str, None] | None:
    """Show a pydantic model's signature as the names of its fields: their types and
    limits fill half a page.
    """
    fields = getattr(item, "model_fields", None) if what == "class" else None
    return (f"({', '.join(fields)})", None) if fields else None


class Room(SphinxDirective):
    """`{room} measure`: the docstring of a package and the documented members of each
    of its modules.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse one `automodule` a module, in a section of its own if the room has
        several.
        """
        package = importlib.import_module(f"robustbook.{self.arguments[0]}")
        modules = list(
            pkgutil.walk_packages(
                getattr(package, "__path__", []), f"{package.__name__}."
            )
        )
        found: list[nodes.Node] = self._automodule(
            package.__name__, members=not modules
        )
        for module in modules:
            inside = module.name.removeprefix(f"{package.__name__}.")
            section = nodes.section(
                ids=[nodes.make_id(module.name)], names=[module.name]
            )
            section += nodes.title(text=inside.replace(".", ": ").replace("_", " "))
            section += self._automodule(module.name, members=not module.ispkg)
            found.append(section)
        return found

    def _automodule(self, name: str, *, members: bool) -> list[nodes.Node]:
        text = [
            f".. automodule:: {name}",
            *(["   :members:", "   :exclude-members: model_config"] if members else []),
        ]
        return _parse_rst(self, text)


def _parse_rst(directive: SphinxDirective, text: list[str]) -> list[nodes.Node]:
    holder = nodes.container()
    source = ["```{eval-rst}", *text, "```"]
    directive.state.nested_parse(
        StringList(source, "room"), directive.content_offset, holder
    )
    return list(holder.children)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the conversion, which comes before napoleon's."""
    app.add_directive("room", Room)
    app.connect("autodoc-process-signature", fields_only)
    app.connect("autodoc-process-docstring", convert, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
