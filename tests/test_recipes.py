"""The recipes of `book/how-this-book-is-made.md`, done in a copy of the project: what
they write is in style, what they run succeeds, and the new study renders.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

import robustbook

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PAGE = ROOT / "book" / "how-this-book-is-made.md"
STUDY = "noise_or_attack"
BLOCK = re.compile(r"^```(bash|python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WRITTEN = re.compile(r"^Files (?:written|changed|written or changed) by hand: (\d)")


@dataclass(frozen=True)
class Recipe:
    """A section of the page: its title, the number of files that it promises, and its
    blocks of code as (language, text).
    """

    title: str
    files: int
    blocks: list[tuple[str, str]]


def recipes() -> list[Recipe]:
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    found = []
    for section in sections:
        title, _, text = section.partition("\n")
        if said := WRITTEN.match(text.strip()):
            found.append(Recipe(title, int(said[1]), BLOCK.findall(text)))
    return found


def named(text: str) -> tuple[str, str]:
    """The path in the first line of a block, and the rest."""
    first, _, rest = text.partition("\n")
    return first.removeprefix("# "), rest


def apply(diff: str, path: Path) -> None:
    """Change one place of a file as a diff without line numbers says."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path.name} has no single place for:\n{old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def run(root: Path, line: str) -> str:
    """Run a line as it stands on the page, with the copy's package."""
    words = re.sub(r"^\.venv/bin/robustbook", ".venv/bin/python -m robustbook", line)
    words = re.sub(r"^\.venv/bin", str(BIN), words)
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "ROBUSTBOOK_CACHE": str(root / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-c", words], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project without its pages of runs."""
    root = tmp_path_factory.mktemp("project")
    package = Path(robustbook.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "_build", "runs", "studies")
    shutil.copytree(package, root / "src" / "robustbook")
    shutil.copytree(ROOT / "book", root / "book", ignore=ignored)
    for name in ("notebooks", "tests"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("_config.yml", "_toc.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return root


@pytest.fixture(scope="module")
def done(copy: Path) -> tuple[Path, dict[str, str]]:
    """The copy after all recipes, and what every command said; the tests that they name
    are run at the end, in one process.
    """
    said, tests, chosen = {}, [], []
    for recipe in recipes():
        touched = set()
        for language, text in recipe.blocks:
            if language == "bash":
                for line in text.splitlines():
                    if line.startswith(".venv/bin/pytest"):
                        _, *paths, _, words = shlex.split(line)
                        tests, chosen = [*tests, *paths], [*chosen, words]
                    else:
                        said[line] = run(copy, line)
                continue
            name, body = named(text)
            touched.add(name)
            if language == "diff":
                apply(body, copy / name)
            else:
                assert not (copy / name).exists(), name
                (copy / name).write_text(body, encoding="utf-8")
        assert len(touched) == recipe.files, recipe.title
        for words in ("check --no-cache", "format --no-cache --check"):
            python = [name for name in sorted(touched) if name.endswith(".py")]
            run(copy, f".venv/bin/ruff {words} {' '.join(python)}")
    words = shlex.quote(" or ".join(chosen))
    said["tests"] = run(copy, f".venv/bin/pytest {' '.join(tests)} -k {words}")
    return copy, said


def test_there_is_a_recipe_for_everything() -> None:
    assert [recipe.title for recipe in recipes()] == [
        *("Add a study", "Add an attack", "Add a measure"),
        *("Add a claim", "Add a data set"),
    ]


@pytest.mark.slow
def test_the_recipes_work(done: tuple[Path, dict[str, str]]) -> None:
    _, said = done
    (status,) = [text for line, text in said.items() if line.endswith("status")]
    assert f"{STUDY} quick: stale" in status
    assert f"{STUDY} dataset-bars: fresh" in status
    assert int(re.search(r"(\d+) passed", said["tests"])[1]) >= 12


FRONT = "# Front\n\n```{study-cards}\n:others:\n[]\n```\n"
BOARD = "# Scoreboard\n\n```{scoreboard}\n```\n"
CONTENTS = {
    "format": "jb-book",
    "root": "index",
    "parts": [
        {
            "caption": "The studies",
            "chapters": [{"file": "scoreboard"}, {"file": "notation"}],
        }
    ],
}


@pytest.mark.slow
def test_a_new_study_renders(done: tuple[Path, dict[str, str]]) -> None:
    root, _ = done
    book = root / "book"
    for path in book.glob("*.md"):
        path.unlink()
    for part in ("api", "teach"):
        shutil.rmtree(book / part)
    (book / "index.md").write_text(FRONT)
    (book / "scoreboard.md").write_text(BOARD)
    (book / "notation.md").write_text(
        "# Notation\n\n```{glossary}\nterm\n  words\n```\n"
    )
    (root / "_toc.yml").write_text(yaml.safe_dump(CONTENTS))
    build = ".venv/bin/jupyter-book build book --path-output book --config _config.yml"
    run(root, f'{build} --toc "$PWD/_toc.yml" -W -n --keep-going --all -q')
    html = book / "_build" / "html"
    tree = BeautifulSoup((html / "index.html").read_text(), "html.parser")
    cards = [card.text for card in tree.select(".pm-card")]
    (card,) = [text for text in cards if "Noise or attack" in text]
    assert "Does an attack cost more accuracy than noise?" in card
    assert "In preparation" in card
    links = [link["href"] for link in tree.select("nav.bd-links a")]
    assert f"runs/{STUDY}/quick.html" in links
    assert f"runs/{STUDY}/dataset-bars.html" in links
    board = BeautifulSoup((html / "scoreboard.html").read_text(), "html.parser")
    assert board.find(id=f"{STUDY}-a1")
    page = html / "runs" / STUDY / "dataset-bars.html"
    tree = BeautifulSoup(page.read_text(), "html.parser")
    assert tree.select_one("article h1").text.startswith("Noise or attack")
    assert tree.select_one("#verdict-a2")
    assert tree.select("figure.pm-figure svg[aria-label]")
