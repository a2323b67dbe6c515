"""Would the tests notice? `python tests/mutants.py` changes one comparison, one sign or
one constant of the library at a time and runs the tests that name the changed module.

Read `mutants_of` (what is changed), `tests_of` (what is run), then `noticed`. Mutants
that change nothing that a test could see are listed by hand, with the reason, in
`SAME`; they do not count.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "robustbook"
ROOMS = ("measure", "perturb", "bayes", "models", "stats.py", "checks.py")
SLOW_IMPORTS = ("captum.attr", "hypothesis", "pandas", "pydantic", "scipy.stats")
SLOW_IMPORTS += ("sklearn.metrics", "torch", "torchvision")
SECONDS = 120
"""A run of tests that takes longer has noticed an endless loop."""
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.UAdd: ast.USub,
    ast.USub: ast.UAdd,
}
SAME: dict[str, str] = json.loads((ROOT / "tests/mutants_same.json").read_text())
"""Changes that no test can see, by their text as `Mutant.name` writes it, and why."""


@dataclass(frozen=True)
class Mutant:
    """One change: the module, the statement it is in, before and after."""

    module: str
    place: int
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """The change without its place, so that it stays listed when lines move."""
        return f"{self.module}: {self.before} -> {self.after}"


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a module: one a comparison, arithmetic sign and number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = str(path.relative_to(PACKAGE))
    found = []
    for place, node in enumerate(_nodes(tree)):
        before = _statement(tree, node)
        undo = _change(node)
        found.append(Mutant(module, place, node.lineno, before, _statement(tree, node)))
        undo()
    return found


def _nodes(tree: ast.AST) -> list[ast.expr]:
    """What can be changed, in one order: not in annotations nor in texts."""
    quiet = {id(inner) for node in ast.walk(tree) for inner in _annotations(node)}
    return [
        node
        for node in ast.walk(tree)
        if id(node) not in quiet
        and isinstance(node, ast.expr)
        and _change(node, try_=True)
    ]


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("annotation", "returns"):
        if isinstance(noted := getattr(node, field, None), ast.AST):
            yield from ast.walk(noted)
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):
        yield from ast.walk(node)


def _change(node: ast.expr, *, try_: bool = False):  # type: ignore[no-untyped-def]
    """Change a node in place; what is returned changes it back. None if there is
    nothing to change.
    """
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp):
        new = SWAPS.get(type(node.op))
        old = node.op
        if new is None or (isinstance(node, ast.BinOp) and _text(node)):
            return None
        if not try_:
            node.op = new()  # type: ignore[assignment]
        return lambda: setattr(node, "op", old)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        kept = node.ops
        if not try_:
            node.ops = [SWAPS[type(kept[0])](), *kept[1:]]  # type: ignore[list-item]
        return lambda: setattr(node, "ops", kept)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value
        if not try_:
            node.value = value + 1 if isinstance(value, int) else value * 2 or 1.0
        return lambda: setattr(node, "value", value)
    return None


def _text(node: ast.BinOp) -> bool:
    """Whether a sum adds texts or types (`int | None`)."""
    return any(
        isinstance(inner, ast.JoinedStr)
        or (isinstance(inner, ast.Constant) and isinstance(inner.value, str))
        for inner in ast.walk(node)
    )


def _statement(tree: ast.AST, node: ast.AST) -> str:
    """The innermost statement around a node, as one line of code."""
    around = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.stmt) and any(inner is node for inner in ast.walk(each))
    ]
    return ast.unparse(around[-1]).splitlines()[0] if around else ""


def tests_of(module: str) -> list[str]:
    """Files of tests that name a module, those named for it first, slow ones last."""
    name = Path(module).stem
    naming = [
        path
        for path in sorted((ROOT / "tests").glob("test_*.py"))
        if re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
    ]
    naming.sort(key=lambda path: (name not in path.stem, path.stat().st_size))
    return [str(path) for path in naming]


def noticed(mutant: Mutant, folder: Path) -> str:
    """How the tests that name the module noticed: "failed" or "endless"; "" if not.

    `folder` holds a copy of the package that is this run's alone.
    """
    path = folder / "robustbook" / mutant.module
    shutil.copy(PACKAGE / mutant.module, path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    _change(_nodes(tree)[mutant.place])
    path.write_text(ast.unparse(tree), encoding="utf-8")
    try:
        return _run(tests_of(mutant.module), folder)
    finally:
        shutil.copy(PACKAGE / mutant.module, path)


def _run(tests: list[str], folder: Path) -> str:
    """Run tests in a fork of this process, which has imported what takes long."""
    child = os.fork()
    if not child:
        os.setsid()
        _pytest(tests, folder)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "failed" if os.waitstatus_to_exitcode(status) else ""
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "endless"


def _pytest(tests: list[str], folder: Path) -> None:
    """Run pytest on the package in `folder`, silently, and end the process."""
    import pytest

    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    with open(os.devnull, "w") as silence:
        os.dup2(silence.fileno(), 1)
        os.dup2(silence.fileno(), 2)
        chosen = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
        os._exit(int(pytest.main(chosen)))


def chosen(count: int, seed: int, rooms: tuple[str, ...]) -> list[Mutant]:
    """`count` mutants drawn from all rooms, without those that change nothing."""
    paths = [path for room in rooms for path in sorted(_files(PACKAGE / room))]
    every = [mutant for path in paths for mutant in mutants_of(path)]
    different = [mutant for mutant in every if mutant.name not in SAME]
    return random.Random(seed).sample(different, min(count, len(different)))


def _files(path: Path) -> Iterator[Path]:
    return path.rglob("*.py") if path.is_dir() else iter([path])


def main() -> None:
    """Try the mutants and print the survivors; exit 1 if less than nine in ten are
    noticed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rooms", nargs="*", default=ROOMS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    for slow in SLOW_IMPORTS:
        import_module(slow)
    mutants = chosen(asked.count, asked.seed, tuple(asked.rooms))
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(worker) for worker in range(asked.workers)]
        for folder in folders:
            shutil.copytree(PACKAGE, folder / "robustbook")
        found: dict[Mutant, str] = {}

        def work(worker: int) -> None:
            for mutant in mutants[worker :: asked.workers]:
                found[mutant] = noticed(mutant, folders[worker])
                said = found[mutant] or "SURVIVED"
                print(
                    f"{len(found):4} {said:9}{mutant.line:5} {mutant.name}", flush=True
                )

        with ThreadPoolExecutor(asked.workers) as pool:
            list(pool.map(work, range(asked.workers)))
    survivors = [mutant for mutant in mutants if not found[mutant]]
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants were noticed")
    if asked.json:
        asked.json.write_text(
            json.dumps([asdict(each) for each in survivors], indent=1)
        )
    sys.exit(len(survivors) > len(mutants) / 10)


if __name__ == "__main__":
    main()
