"""Write a study that runs: `make` copies `robustbook.skeleton` under another name, with
a notebook.
"""

from __future__ import annotations

import keyword
import pkgutil
import re
import shutil
import tempfile
import textwrap
from pathlib import Path

from robustbook import files, skeleton, studies
from robustbook.errors import UserError
from robustbook.run.project import Project

LONGEST = 24
"""A name has at most so many letters, so that lines which import it stay short."""


def make(
    project: Project, name: str, title: str = "", question: str = "", paper: str = ""
) -> list[Path]:
    """Write the package and the notebook of the study `name`; returns their files.

    `title` heads its page, `question` says in a sentence what it asks, `paper` is a key
    in `book/references.bib`. UserError, and nothing written, where a name is taken or
    not one of a study.
    """
    _check_name(name)
    title = _line(title or name.replace("_", " ").capitalize(), "title", 80)
    question = _line(question or skeleton.__doc__ or "", "question", 200)
    _check_paper(project, paper)
    folder, notebook = Path(studies.__path__[0]) / name, project.notebook(name)
    if not folder.resolve().is_relative_to(project.root):
        raise UserError(
            f"the studies that run here lie outside {project.root}: install the "
            "project there (make .venv/.installed) and use its own command"
        )
    for path in (folder, notebook):
        if path.exists():
            raise UserError(f"{project.relative(path)} is there already")
    source = Path(skeleton.__path__[0])
    text = (source / "notebook.py.txt").read_text(encoding="utf-8")
    for word, said in (("NAME", name), ("TITLE", title)):
        text = text.replace(word, said)
    asked = textwrap.fill(f"*{question}*", 86).replace("\n", "\n# ")
    text = _in_order(text.replace("*QUESTION*", asked))
    try:
        _write(source, folder, name, {"title": title, "asked": question, "key": paper})
        files.write_whole(notebook, text.encode())
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(
            f"cannot write a study ({error.strerror}): nothing was written"
        ) from error
    return [*sorted(folder.iterdir()), notebook]


def _check_name(name: str) -> None:
    if not re.fullmatch(rf"[a-z][a-z0-9_]{{0,{LONGEST - 1}}}", name):
        raise UserError(
            f"a new study's name has at most {LONGEST} lower-case letters, digits and "
            f"'_', the first a letter, got {name[:200]!r}"
        )
    taken = {module.name for module in pkgutil.iter_modules(studies.__path__)}
    if name in taken or keyword.iskeyword(name):
        raise UserError(f"the name {name!r} is taken: choose another")


def _line(text: str, name: str, longest: int) -> str:
    """Text that stands in a source between quotes; UserError where it could not."""
    if len(text) > longest or not text.isprintable() or set(text) & set('"\\'):
        raise UserError(
            f'the {name} is one line of at most {longest} characters without " and \\'
        )
    return " ".join(text.split())


def _check_paper(project: Project, key: str) -> None:
    if not key:
        return
    known = project.root / "book" / "references.bib"
    entries = re.findall(r"^@\w+\{([\w:.-]+),", known.read_text("utf-8"), re.MULTILINE)
    if key not in entries:
        raise UserError(
            f"book/references.bib has no entry {key[:200]!r}: write it first"
        )


def _write(source: Path, folder: Path, name: str, words: dict[str, str]) -> None:
    """Write the package of the study, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as place:
        made = Path(place) / name
        made.mkdir()
        for path in sorted(source.glob("*.py")):
            text = path.read_text(encoding="utf-8")
            if path.name == "__init__.py":
                text = _named(text, **words)
            text = text.replace(skeleton.__name__, f"{studies.__name__}.{name}")
            (made / path.name).write_text(_in_order(text), encoding="utf-8")
        made.rename(folder)


def _named(text: str, *, title: str, asked: str, key: str) -> str:
    """The package's own module with its title, its question and its paper."""
    said = f'"""{asked}"""'
    if len(said) > 88:
        said = textwrap.fill(said.removesuffix('"""'), 88) + '\n"""'
    text = text.replace(f'"""{skeleton.__doc__}"""', said, 1)
    paper = f'PAPER = "{key}"\n' if key else ""
    text = text.replace(
        f'TITLE = "{skeleton.TITLE}"\n', f'TITLE = "{title}"\n{paper}', 1
    )
    return (
        text.replace('"CLAIMS", "ROWS"', '"CLAIMS", "PAPER", "ROWS"') if key else text
    )


def _in_order(text: str) -> str:
    """Imports sorted anew, since the name of the study is part of them."""

    def ordered(found: re.Match[str]) -> str:
        return "".join(sorted(found[0].splitlines(keepends=True)))

    return re.sub(r"(?m)(?:^ *from robustbook[^(\n]*\n)+", ordered, text)
