"""The source of functions of the package as code of a notebook: `cell_of` with the
imports that the functions need, so that a reader can edit them.

What refuses wrong arguments is left out: it is no part of an idea.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

Function = Callable[..., Any]


def cell_of(functions: Iterable[Function], more: Iterable[str] = ()) -> str:
    """Code that defines the functions anew, after their imports and `more` of them;
    annotations are not evaluated where the notebook says `from __future__ import
    annotations`.
    """
    functions = tuple(functions)
    sources = {function: without_gate(source_of(function)) for function in functions}
    here = {function.__name__ for function in functions}
    lines = [
        line
        for function, source in sources.items()
        for name in loaded(ast.parse(source))
        if name not in here and not hasattr(builtins, name)
        for line in _import_of(name, function)
    ]
    lines += more
    parts = ["\n".join(merged(lines))] if lines else []
    return "\n\n\n".join([*parts, *sources.values()])


def merged(lines: Iterable[str]) -> list[str]:
    """Imports, one line a module, those of whole modules first."""
    names: dict[str, set[str]] = {}
    for line in lines:
        module, _, name = line.partition(" import ")
        names.setdefault(module, set()).add(name)
    plain = [module for module in names if not names[module] - {""}]
    return sorted(plain) + [
        f"{module} import {', '.join(sorted(names[module]))}"
        for module in sorted(names)
        if module not in plain
    ]


def source_of(function: Function) -> str:
    """The source of a function, flush left."""
    return textwrap.dedent(inspect.getsource(function)).strip()


def without_gate(source: str) -> str:
    """Code without the statements that only pass an argument through
    `robustbook.checks`; what is left of it is called `gate`.
    """
    gone = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and _only_checks(node)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    kept = "\n".join(line for number, line in lines if number not in gone)
    return re.sub(r"\bchecks\.", "gate.", kept)


def _only_checks(node: ast.stmt) -> bool:
    """Whether a statement is `checks.f(x)`, `x = checks.f(x)`, or an `if` around such
    ones alone.
    """
    if isinstance(node, ast.If):
        return not node.orelse and all(map(_only_checks, node.body))
    if not isinstance(node, ast.Expr | ast.Assign) or not _gate_call(node.value):
        return False
    first = ast.unparse(node.value.args[0]) if node.value.args else ""
    return isinstance(node, ast.Expr) or first == ast.unparse(node.targets[0])


def _gate_call(value: ast.expr) -> TypeGuard[ast.Call]:
    return isinstance(value, ast.Call) and ast.unparse(value.func).startswith("checks.")


def loaded(tree: ast.AST) -> Iterator[str]:
    """Names that code reads, those in hints of types left out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            each = value if isinstance(value, list) else [value]
            waiting += [item for item in each if isinstance(item, ast.AST)]


def bound(tree: ast.AST) -> Iterator[str]:
    """Names that code sets, imports, defines or takes as arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def imports(tree: ast.AST) -> dict[str, str]:
    """The import of each name that a module or a cell imports, as a line of its own."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                single = ast.copy_location(_single(node, alias), node)
                found[name] = ast.unparse(single)
    return found


def _single(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    if isinstance(node, ast.Import):
        return ast.Import([alias])
    return ast.ImportFrom(node.module, [alias], node.level)


def _import_of(name: str, function: Function) -> Iterator[str]:
    """The import that gives a global of the function's module; none for its locals."""
    module = inspect.getmodule(function)
    if name == "gate":
        yield "from robustbook import checks as gate"
    if module is None or name not in vars(module):
        return
    top = ast.parse(inspect.getsource(module))
    yield imports(top).get(name, f"from {module.__name__} import {name}")
