"""`robustbook new`: what is refused writes nothing, what is written has the shape of a
study. That a new study runs, is tested and renders is tested with the recipes.
"""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robustbook import cli, skeleton, studies
from robustbook.errors import UserError
from robustbook.run import new_study
from robustbook.run.project import Project
from robustbook.studies import protocol

RUFF = Path(sys.executable).with_name("ruff")
OURS = ("--config", 'lint.isort.known-first-party=["robustbook"]')
PROTECTED = ("tiny", "protocol", "shared")


@pytest.fixture
def home(project, monkeypatch):
    """A project whose studies lie in it, two of them with names of modules."""
    folder = project.root / "src" / "robustbook" / "studies"
    shutil.copytree(studies.__path__[0], folder)
    (folder.parent / "__init__.py").touch()
    shutil.copy(Path(__file__).parents[2] / "pyproject.toml", project.root)
    for name in PROTECTED:
        (folder / f"{name}.py").touch()
    (project.root / "book").mkdir()
    (project.root / "book" / "references.bib").write_text("@article{me2020,\n}\n")
    monkeypatch.setattr(studies, "__path__", [str(folder)])
    return project


def texts(project: Project) -> dict[str, str]:
    return {
        str(project.relative(path)): path.read_text(encoding="utf-8")
        for path in project.root.rglob("*")
        if path.is_file() and path.suffix in (".py", ".ipynb")
    }


def test_a_study_has_all_rooms_its_words_and_no_word_of_the_skeleton(home):
    before = texts(home)
    made = new_study.make(home, "edges", "Edges", "Do edges matter?", "me2020")
    written = {home.relative(path): path.read_text() for path in made}
    assert texts(home) == {**before, **written}
    rooms = {path.stem for path in made if path.parent.name == "edges"}
    assert rooms == {*protocol.ROOMS, "__init__"}
    assert len(made) == 9 and home.notebook("edges") in made
    for text in written.values():
        ast.parse(text)
        assert "keleton" not in text
        assert "NAME" not in text and "QUESTION" not in text
    package = written["src/robustbook/studies/edges/__init__.py"]
    assert package.startswith('"""Do edges matter?"""\n')
    assert 'TITLE = "Edges"\nPAPER = "me2020"\n' in package
    assert "# # Edges\n#\n# *Do edges matter?*\n" in written["notebooks/edges.py"]


@pytest.mark.parametrize("name", ["a", "zoo_of_9", "sharpness", "z" * 24])
def test_what_is_written_is_in_the_style_of_the_project(home, name):
    question = "Is what is asked in many words, more than a line, told whole? " * 3
    made = new_study.make(home, name, question=question, paper="me2020")
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [RUFF, *words, "--no-cache", *OURS, *made],
            cwd=home.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(([name], "at most 24 lower-case") for name in ("", "A", "9a", "a-b", "a b")),
        *(([name], "at most 24 lower-case") for name in ("é", "../a", "a.b", "_a")),
        *(([name], "at most 24 lower-case") for name in ("a" * 25, "a\n", "a\0")),
        *(([name], "is taken") for name in (*PROTECTED, "class", "import")),
        (["new", "--title", "a" * 81], "the title is one line"),
        (["new", "--title", '"""\nimport os'], "the title is one line"),
        (["new", "--title", "two\nlines"], "the title is one line"),
        (["new", "--question", "\\"], "the question is one line"),
        (["new", "--paper", "you2020"], "no entry 'you2020'"),
        (["new", "--paper", "[a-z0-9]+"], "has no"),
        (["old"], "notebooks/old.py is there already"),
    ],
)
def test_what_is_refused_writes_nothing(home, capsys, words, said):
    home.notebook("old").write_text("1\n")
    before = sorted(home.root.rglob("*"))
    assert cli.main(["new", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert sorted(home.root.rglob("*")) == before


def test_a_study_is_written_where_it_will_be_found(project):
    with pytest.raises(UserError, match="lie outside"):
        new_study.make(project, "edges")


@pytest.mark.parametrize("broken", ["write_whole", "rename"])
def test_a_study_that_cannot_be_written_leaves_nothing(home, monkeypatch, broken):
    def full(*_):
        raise OSError(28, "No space left on device")

    where = new_study.files if broken == "write_whole" else Path
    monkeypatch.setattr(where, broken, full)
    before = sorted(home.root.rglob("*"))
    with pytest.raises(UserError, match="No space left"):
        new_study.make(home, "edges")
    assert sorted(home.root.rglob("*")) == before


def test_the_skeleton_keeps_the_parameters_of_its_notebook() -> None:
    text = (Path(skeleton.__path__[0]) / "notebook.py.txt").read_text()
    for name, field in skeleton.Parameters.model_fields.items():
        said = text.partition(f"\n{name}: ")[2].partition("\n")[0]
        assert ast.literal_eval(said.partition(" = ")[2]) == field.default
