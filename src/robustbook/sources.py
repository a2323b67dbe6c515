"""What computes, and one hash of what its source code means.

`ROOMS` is the one list of what can change a number: records, checkpoints and the
Snakefile read it. `digest` hashes a source by its syntax tree, so that comments,
docstrings, type hints that nothing reads, and layout do not count; `closure` follows
imports and hashes every module that computes.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "robustbook"
STUDIES = f"{PACKAGE}.studies"
ROOMS = (
    *("data", "models", "bayes", "perturb", "measure", "studies"),
    *("checks", "draws", "results", "stats", "workers"),
)
"""Folders and modules of the package that compute. How runs, pages and plots are made
changes no number.
"""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# The context and the flags follow from the place, or say nothing; type comments and the
# prefix u are notes.
_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


@cache
def digest(source: str, *, cell: bool = False) -> str:
    """SHA-256 of what a source means, the same on every version of Python.

    In a notebook's `cell` the value of the last line counts, for it is shown. What
    Python cannot parse (a cell with a magic) is hashed as the text it is.
    """
    content = hashlib.sha256()
    try:
        tree = _parsed(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        content.update(b"text\n" + source.encode(errors="surrogatepass"))
        return content.hexdigest()
    shown = cell and bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
    content.update(b"tree\n")
    for token in _tokens(tree, shown=shown):
        content.update(token.encode() + b"\n")
    if shown and _ends_in_semicolon(source):
        content.update(b";\n")
    return content.hexdigest()


def _parsed(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _tokens(tree: ast.Module, *, shown: bool) -> Iterator[str]:
    """The tree as words and brackets; empty fields are left out, since which of them
    exist depends on the version of Python.
    """
    kept = tree.body[-1] if shown else None
    waiting: list[tuple[Any, bool]] = [(tree, False)]
    while waiting:
        item, in_function = waiting.pop()
        if isinstance(item, ast.JoinedStr):
            item = _joined(item)
        if isinstance(item, ast.Constant):
            yield _constant(item.value)
        elif isinstance(item, ast.AST):
            if in_function and isinstance(item, ast.AnnAssign):
                item = _without_annotation(item)
            inside = not isinstance(item, ast.ClassDef) and (
                in_function or isinstance(item, _FUNCTIONS)
            )
            yield type(item).__name__ + "("
            waiting.append((")", False))
            for name, value in reversed(_fields(item)):
                waiting += [(value, inside), (f"{name}=", False)]
        elif isinstance(item, list):
            yield "["
            waiting.append(("]", False))
            waiting += [
                (each, in_function)
                for each in reversed(item)
                if each is kept or not _does_nothing(each)
            ]
        else:
            yield str(item)


def _fields(node: ast.AST) -> list[tuple[str, Any]]:
    """The fields of a node that say something, by name.

    Hints of a function's arguments and result are notes unless a decorator could read
    them; those of a class make its fields.
    """
    if isinstance(node, _FUNCTIONS) and not node.decorator_list:
        node.returns = None
        arguments = node.args
        for each in (
            *(*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs),
            *(one for one in (arguments.vararg, arguments.kwarg) if one),
        ):
            each.annotation = None
    found = [
        (name, value)
        for name, value in ast.iter_fields(node)
        if name not in _LEFT_OUT and value is not None
    ]
    return sorted(
        (name, value)
        for name, value in found
        if not isinstance(value, list)
        or any(each is None or not _does_nothing(each) for each in value)
    )


def _does_nothing(node: Any) -> bool:
    """Whether it is a statement that only stands there: a docstring, `...`, `pass`."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _without_annotation(node: ast.AnnAssign) -> ast.AST:
    """A function never evaluates the hints of its variables."""
    if node.value is not None:
        return ast.Assign(targets=[node.target], value=node.value)
    nothing = ast.Constant(None)
    return ast.AnnAssign(node.target, nothing, simple=node.simple)


def _joined(node: ast.JoinedStr) -> ast.AST:
    """An f-string with pieces of text that stand side by side in one; plain text where
    there is nothing else.
    """
    pieces: list[Any] = []
    for each in node.values:
        text: Any = each.value if isinstance(each, ast.Constant) else None
        if text is None:
            pieces.append(each)
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        else:
            pieces.append(text)
    parts = [
        ast.Constant(each) if isinstance(each, str) else _formatted(each)
        for each in pieces
        if each != ""
    ]
    if not parts:
        return ast.Constant("")
    if len(parts) == 1 and isinstance(parts[0], ast.Constant):
        return parts[0]
    return ast.JoinedStr(values=parts)


def _formatted(node: Any) -> Any:
    """A value in an f-string, an empty format left out."""
    if getattr(node, "format_spec", None) is not None and not node.format_spec.values:
        node.format_spec = None
    return node


def _constant(value: Any) -> str:
    """A constant with its type; whole numbers in base 16, which has no limit of
    digits.
    """
    shown = hex(value) if type(value) is int else ascii(value)
    return f"{type(value).__name__} {shown}"


def _ends_in_semicolon(source: str) -> bool:
    """Whether IPython keeps the value of a cell's last line to itself."""
    words = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in _LAYOUT
    ]
    return words[-1:] == [";"]


def computes(name: str) -> bool:
    """Whether a module of this name lies in a room that computes."""
    parts = name.split(".")
    return len(parts) > 1 and parts[0] == PACKAGE and parts[1] in ROOMS


def closure(start: Iterable[str], studies: Sequence[str] = ()) -> dict[str, str]:
    """Digest of every computing module among `start` and what they import, by path in
    the package.

    `studies` are the folders of the studies where they are not the package's own. A
    study that names a data set in quotes reaches the module that declares it, as `load`
    will.
    """
    found: dict[str, str] = {}
    waiting = list(start)
    while waiting:
        for name, path in _files(waiting.pop(), studies):
            key = _key(name, path)
            if key in found or not computes(name):
                continue
            source = path.read_text(encoding="utf-8")
            found[key] = digest(source)
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += imports(source, package)
            if key.startswith("studies/"):
                waiting += data_modules(source)
    return dict(sorted(found.items()))


def data_modules(source: str) -> list[str]:
    """The modules that declare the data sets which a source names in quotes."""
    declared = {
        name: f"{PACKAGE}.data.{path.stem}"
        for folder in _folders()
        for path in sorted((folder / "data").glob("*.py"))
        for name in _data_sets(path.read_text(encoding="utf-8"))
    }
    return sorted({declared[text] for text in _texts(source) & declared.keys()})


@cache
def _data_sets(source: str) -> tuple[str, ...]:
    """The names in `SOURCES`, the dictionary in which a module of the data room
    declares what it can load.
    """
    return tuple(
        str(key.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Dict)
        and [ast.unparse(target) for target in statement.targets] == ["SOURCES"]
        for key in statement.value.keys
        if isinstance(key, ast.Constant)
    )


@cache
def _texts(source: str) -> frozenset[str]:
    return frozenset(
        node.value
        for node in _nodes(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@cache
def imports(source: str, package: str) -> tuple[str, ...]:
    """Absolute names of all modules, or names in them, that some source imports, in
    functions too; none where Python cannot parse it.
    """
    found: list[str] = []
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _nodes(source: str) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(_parsed(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return


def _absolute(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    parents = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def _folders() -> list[Path]:
    import robustbook

    return [Path(entry) for entry in robustbook.__path__]


def _files(name: str, studies: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The module's file and those of the packages around it, as (name, path); names
    that are no modules give fewer, those of other packages none.
    """
    parts, folders = name.split("."), _folders()
    if parts[0] != PACKAGE:
        return
    for depth in range(2, len(parts) + 1):
        part, here = parts[depth - 1], ".".join(parts[:depth])
        inside = [folder / part for folder in folders]
        if here == STUDIES:
            folders = [Path(folder) for folder in studies] or inside
            continue
        inits = [each / "__init__.py" for each in inside]
        modules = [each.with_suffix(".py") for each in inside]
        path = next((each for each in (*inits, *modules) if each.is_file()), None)
        if path is None:
            return
        yield here, path
        if path in modules:
            return
        folders = [path.parent]


def _key(name: str, path: Path) -> str:
    inside = "/".join(name.split(".")[1:])
    return f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py"
