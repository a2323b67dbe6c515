"""No import runs upward through the rooms of the package, in functions neither."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import robustbook
from robustbook import sources

PACKAGE = Path(robustbook.__file__).parent
SHARED = "checks draws errors files progress sources stats"
MAY = {
    "errors": "",
    "files": "",
    "progress": "",
    "sources": "",
    "fields": "",
    "exercises": "",
    "grading": "exercises",
    "checks": "errors",
    "draws": "checks",
    "stats": "checks",
    "results": "stats",
    "worker_base": "results",
    "workers": "errors progress worker_base",
    "page": "fields results",
    "plots": "checks page stats",
    "data": SHARED,
    "models": f"{SHARED} data",
    "bayes": f"{SHARED} data models",
    "perturb": f"{SHARED} data models bayes",
    "measure": f"{SHARED} data models bayes perturb",
    "studies": (
        f"{SHARED} data models bayes perturb measure results workers plots page "
        "exercises"
    ),
    "skeleton": (
        f"{SHARED} data models bayes perturb measure results workers plots page "
        "exercises studies"
    ),
    "run": f"skeleton {SHARED} data studies results fields workers plots page",
    "fetch": "data errors files models",
    "cli": "data errors fetch fields grading run studies workers",
    "__main__": "cli",
}
"""What each room, or module beside the rooms, may import; `run` knows studies by name
and no more of what they compute with.
"""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def upward(path: Path, source: str) -> list[str]:
    """The rooms that the source of a module imports and must not."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    names = sources.imports(source, ".".join([sources.PACKAGE, *here[:-1]]))
    found = {name.split(".")[1] for name in names if name.startswith("robustbook.")}
    return sorted((found & MAY.keys()) - {room(path)} - set(MAY[room(path)].split()))


def test_the_rooms_are_these_and_lie_above_one_another() -> None:
    assert {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} == MAY.keys()
    graph = {name: set(others.split()) for name, others in MAY.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == MAY.keys()


def test_the_page_lists_rooms_from_the_lowest_to_the_highest() -> None:
    page = Path(__file__).parents[1] / "book" / "how-this-book-is-made.md"
    listed = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.M)
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - set(
        listed
    ) == {"plots", "skeleton"}
    for place, name in enumerate(listed):
        assert not set(MAY[name].split()) & set(listed[place:])


@pytest.mark.parametrize("name", MAY)
def test_no_import_runs_upward(name: str) -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.name == "__init__.py":
            continue
        if room(path) == name:
            assert upward(path, path.read_text()) == [], path


@pytest.mark.parametrize(
    "line",
    [
        "from robustbook import run",
        "from robustbook.run import finish",
        "from robustbook.run.project import find as data",
        "import robustbook.run.status as status",
        "from ..run import finish",
        "from .. import data, run",
        "def f():\n    from robustbook import run",
        "class A:\n    def f(self):\n        import math, robustbook.run",
        "if TYPE_CHECKING:\n    from robustbook.run import status",
    ],
)
def test_an_import_upward_is_found(line: str) -> None:
    assert upward(PACKAGE / "measure" / "sub.py", line) == ["run"]
    assert upward(PACKAGE / "run" / "sub.py", line) == []
