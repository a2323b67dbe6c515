"""A chapter as a lesson: a notebook that stands alone, with ideas to edit, cells to try
things in, exercises that are graded, and figures of the reference run to compare with.

Read `make` first: it cuts the study's notebook into parts at its headings (`_parts`)
and turns each part into cells. What is taught keeps its code, with the package's
functions inlined; what was measured keeps its text, figures and verdicts; exercises get
the metadata of nbgrader. The student's copy holds no solution.
"""

from __future__ import annotations

import ast
import base64
import builtins
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from html import unescape
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import robustbook
from robustbook import studies
from robustbook.errors import UserError
from robustbook.results import Results
from robustbook.run import clean, inlined, notebook, plain, records
from robustbook.run.project import REFERENCE, Project, RunId

Node = Any
Stage = Literal["taught", "measured", "after", "left out"]

KINDS = {
    "predict": (1, 4, "core"),
    "work out": (1, 5, "core"),
    "explain": (2, 6, "core"),
    "change": (2, 8, "core"),
    "try": (2, 8, "core"),
    "implement": (3, 12, "further"),
}
"""By the first word of an exercise's heading: its points, minutes and level."""
SCALE = 2.2
"""Pixels of a picture for one of the page."""
TRY = "# Try it here."
_CUT = re.compile(r"^(?=#{2,3} |\*\*Try\.\*\*)", re.M)
_STAGES: dict[str, Stage] = {
    "Measured properly": "measured",
    "What held": "left out",
    "What could overturn": "after",
    "Provenance": "left out",
}
_REPLACED = re.compile(
    r"(Open the notebook, replace|Replace) `answer`(,| and)\s+run the cell[.;]\s+"
    r"[Ss]olutions\s+are\s+folded\s+below( each)?\."
)
_SAID = "Write your answer, run the cell, then the one below it."
_LABEL = re.compile(r"\s+")


@dataclass
class Piece:
    """A heading or a "Try" with the text and the code cells that follow it."""

    text: str
    stage: Stage
    cells: list[Node] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """The words of its heading; empty where it has none."""
        found = re.match(r"#+ (.*)", self.text)
        return found[1].strip() if found else ""


@dataclass(frozen=True)
class Chapter:
    """A study's notebook and, where they are there, page and record of its reference
    run.
    """

    project: Project
    study: str

    @cached_property
    def source(self) -> Node:
        """The text notebook."""
        studies.check(self.study)
        return notebook.read(self.project.notebook(self.study))

    @cached_property
    def shown(self) -> dict[str, list[str]]:
        """What the cells of the reference page show as HTML, by their code."""
        path = self.project.page(RunId(self.study, REFERENCE))
        page = clean.read(path).cells if path.is_file() else []
        if not any("pm-short" in str(cell.get("outputs")) for cell in page):
            return {}  # None yet, or one of the shape before this.
        return {
            cell.source: [
                "".join(output.data["text/html"])
                for output in cell.outputs
                if "text/html" in output.get("data", {})
            ]
            for cell in page
            if cell.cell_type == "code"
        }

    @cached_property
    def imports(self) -> dict[str, str]:
        """The import of every name that its cells import."""
        found: dict[str, str] = {}
        for cell in notebook.code_cells(self.source):
            found |= inlined.imports(ast.parse(cell.source))
        return found

    def function(self, expression: ast.expr) -> inlined.Function:
        """What an expression such as `surfaces.line` names."""
        words = ast.unparse(expression).split(".")
        space: dict[str, Any] = {}
        exec(self.imports[words[0]], space)
        value = space[words[0]]
        for word in words[1:]:
            value = getattr(value, word)
        return value


def write(
    project: Project, study: str, folder: Path, *, solutions: bool = False
) -> Path:
    """Make a lesson and write it into a folder."""
    made = clean.to_bytes(make(project, study, solutions=solutions))
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{study}_solutions" if solutions else study
    path = folder / f"{name}.ipynb"
    path.write_bytes(made)
    return path


def ready(project: Project) -> list[str]:
    """The studies whose chapters a lesson can be made from."""
    return [name for name in studies.names() if _in_shape(Chapter(project, name))]


def _in_shape(chapter: Chapter) -> bool:
    heads = {part.heading for part in _parts(chapter.source)}
    return {"See it once", "Measured properly"} <= heads and any(
        cell.metadata.get("exercise") for cell in chapter.source.cells
    )


def make(project: Project, study: str, *, solutions: bool = False) -> Node:
    """The lesson of a study: the student's copy, or the instructor's with `solutions`.

    Raises UserError where the chapter has no part "See it once", or an exercise needs
    what only the whole study computes.
    """
    from nbformat.v4 import new_notebook

    chapter = Chapter(project, study)
    if not _in_shape(chapter):
        raise UserError(
            f"{study} is no lesson yet: its chapter needs the headings 'See it once' "
            "and 'Measured properly', and exercises"
        )
    references = plain.References(project.root / "book" / "references.bib")
    writer = _Writer(chapter, references, solutions)
    cells = list(writer.cells())
    at = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    cells[at:at] = writer.plumbing(cells)
    listed = references.cell()
    cells += [listed] if listed else []
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _parts(source: Node) -> list[Piece]:
    """The notebook cut at its headings and its "Try" paragraphs."""
    stage: Stage = "taught"
    parts = [Piece("", stage)]
    for cell in source.cells:
        if cell.cell_type != "markdown":
            parts[-1].cells.append(cell)
            continue
        for text in filter(None, _CUT.split(cell.source)):
            if text.startswith("## "):
                title = text[3:].partition("\n")[0]
                stage = next(
                    (new for head, new in _STAGES.items() if title.startswith(head)),
                    stage,
                )
            if text.startswith(("#", "**Try.**")) or parts[-1].cells:
                parts.append(Piece(text.strip(), stage))
            else:
                parts[-1].text = f"{parts[-1].text}\n\n{text}".strip()
    return parts


@dataclass
class _Writer:
    """Writes the cells of one lesson."""

    chapter: Chapter
    references: plain.References
    solutions: bool
    points: dict[str, int] = field(default_factory=dict)
    _figures: int = 0

    def cells(self) -> Iterator[Node]:
        """All cells but the plumbing and the references."""
        told = False
        for part in _parts(self.chapter.source):
            exercise = any(cell.metadata.get("exercise") for cell in part.cells)
            if exercise:
                yield from self._exercise(part)
            elif part.stage == "taught":
                yield from self._taught(part)
            elif part.stage == "measured":
                if part.heading == "Measured properly":
                    yield self._markdown(self._measured())
                else:
                    yield from self._found(part, bare=False)
            elif part.stage == "after":
                yield from self._found(part, bare=True)
            if not told and part.heading:
                yield from self._in_short()
                told = True
        yield from self._last()

    def plumbing(self, cells: Iterable[Node]) -> Iterator[Node]:
        """A first cell that checks the installation, and one with all that cells of the
        lesson use and cells left out would have made.
        """
        url = _repository(self.chapter.project)
        first = (plain.INSTALL if url else plain.CHECK).format(
            version=robustbook.__version__, url=url
        )
        yield self._code(f"from __future__ import annotations\n\n{first}", hidden=True)
        solved = [
            cell
            for cell in notebook.code_cells(self.chapter.source)
            if notebook.has_tag(cell, "solution")
        ]
        missing = _missing([*cells, *solved])  # An answer needs what a solution does.
        lines = {
            self.chapter.imports[name]
            for name in missing
            if name in self.chapter.imports
        }
        text = "\n".join(["from robustbook import grading", *inlined.merged(lines)])
        if "results" in missing:
            text += "\n\n" + self._results()
        unknown = missing - self.chapter.imports.keys() - {"results", "grading"}
        if unknown:
            raise UserError(
                f"an exercise of {self.chapter.study} needs what only the whole study "
                f"computes: {', '.join(sorted(unknown))}"
            )
        yield self._code(text, hidden=True)

    # What is taught

    def _taught(self, part: Piece) -> Iterator[Node]:
        if part.text.startswith("**Try.**"):
            first, _, rest = part.text.partition("\n\n")
            yield self._markdown(first)
            yield self._code(TRY, tags=["try"])
            if rest:
                yield self._markdown(rest)
        elif part.text:
            yield self._markdown(part.text)
        for cell in part.cells:
            yield from self._editable(cell)

    def _editable(self, cell: Node) -> Iterator[Node]:
        """A code cell, with the functions in the place of `page.source`."""
        tree = ast.parse(cell.source)
        last = tree.body[-1]
        hidden = bool(plain.HIDDEN & set(cell.metadata.get("tags", [])))
        if _calls(last, "page.parameters"):
            return
        if not _calls(last, "page.source"):
            kept = [
                line
                for line in cell.source.splitlines()
                if line.strip() != "page.opening()"
            ]
            yield self._code("\n".join(kept), hidden=hidden)
            return
        functions = [self.chapter.function(each) for each in last.value.args]
        names = {function.__name__ for function in functions}
        given = inlined.imports(tree)
        more = [line for name, line in given.items() if name not in names]
        head = "# The package's own code. Change it, and run what follows."
        yield self._code("\n".join([head, inlined.cell_of(functions, more)]))

    # What was measured

    def _in_short(self) -> Iterator[Node]:
        from bs4 import BeautifulSoup

        shown = [
            html
            for htmls in self.chapter.shown.values()
            for html in htmls
            if "pm-short" in html
        ]
        if not shown:
            return
        box = BeautifulSoup(shown[0], "html.parser")
        text, badges = box.find_all("p", class_=lambda name: name != "pm-box-title")[:2]
        verdicts = " · ".join(
            _text(link) for link in badges.find_all(class_="pm-short-badge")
        )
        yield self._markdown(
            f"## In short\n\n{_text(text)}\n\n{verdicts}", self._pictures(shown[0])
        )

    def _measured(self) -> str:
        record = self._record()
        if record is None:
            return (
                "## Measured properly\n\nThe chapter in the book says how; its "
                "reference run is being made."
            )
        return (
            "## Measured properly\n\nOne example proves nothing. The book's reference "
            "run measured many networks; its figures and verdicts stand here to "
            "compare with. The chapter has the code that computed them, from the "
            f"record `{record.provenance.hash[:12]}`."
        )

    def _found(self, part: Piece, *, bare: bool) -> Iterator[Node]:
        """The text of a part with the figures and verdicts of the reference run; with
        `bare` also a text that has none.
        """
        shown: list[Node] = []
        for cell in part.cells:
            for html in self.chapter.shown.get(cell.source, []):
                if 'class="pm-verdict"' in html and "pm-box" not in html:
                    said = self._verdicts.get(_text(_soup(html).find(class_="pm-id")))
                    shown += [self._markdown(said)] if said else []
                elif 'class="pm-tabular"' in html and "pm-box" not in html:
                    shown.append(self._markdown(_table(_soup(html))))
                elif '<figure class="pm-figure' in html and "pm-view" not in html:
                    shown.append(self._figure(html))
        if not shown and not bare:
            return
        text = part.text.strip()
        if text:
            yield self._markdown(re.sub(r"\n\n[^\n]*:\s*$", "", text))
        yield from shown

    @cached_property
    def _verdicts(self) -> dict[str, str]:
        """Each claim's verdict as a quotation, from the box with all of them."""
        every = [html for htmls in self.chapter.shown.values() for html in htmls]
        boxes = [_soup(html) for html in every if "pm-box pm-verdicts" in html]
        found = {}
        for item in (item for box in boxes for item in box.find_all(class_="pm-claim")):
            name = _text(item.find(class_="pm-id"))
            shown = item.find(class_="pm-verdict")
            badge = _text(shown.find(class_="pm-badge"))
            answer = _text(shown).removeprefix(badge).strip()
            found[name] = f"> **{name} {badge}.** {answer}"
        return found

    def _figure(self, html: str) -> Node:
        caption = _soup(html).find("figcaption")
        said = _text(caption) if caption else ""
        return self._markdown(said, self._pictures(html))

    def _pictures(self, html: str) -> list[tuple[str, str, str, str]]:
        """(name, alt text, media type, base64) of every picture in some HTML."""
        found = []
        for match in re.finditer(r"<svg\b.*?</svg>|<img\b[^>]*>", html, re.S):
            item = match[0]
            self._figures += 1
            alt = re.search(r'(?:aria-label|alt)="([^"]*)"', item)
            source = re.search(r'src="data:([^;]+);base64,([^"]+)"', item)
            media, data = source.groups() if source else ("image/svg+xml", "")
            if media == "image/svg+xml":
                svg = base64.b64decode(data).decode() if data else item
                media, data = "image/png", _png(svg)
            suffix = media.rpartition("/")[2]
            name = f"reference-{self._figures}.{suffix}"
            words = unescape(alt[1]) if alt else ""
            found.append((name, re.sub(r"[\[\]]", "", words), media, data))
        return found

    def _record(self) -> records.Record | None:
        path = self.chapter.project.record(RunId(self.chapter.study, REFERENCE))
        return records.load(path) if path.is_file() else None

    # Exercises

    def _exercise(self, part: Piece) -> Iterator[Node]:
        kind, name = part.heading.lower(), ""
        kind = re.sub(r"^(exercise )?\d+\.\s*", "", kind)
        points, minutes, level = next(
            (told for word, told in KINDS.items() if kind.startswith(word)),
            KINDS["change"],
        )
        head, _, text = part.text.partition("\n")
        much = f"{points} point{'s' if points > 1 else ''}"
        said = f"*{much}, about {minutes} minutes, {level}*"
        yield self._markdown(f"{head}\n\n{said}\n{text}")
        if self._reads_results(part) and not self._rows:
            yield self._markdown("This one needs the reference run, not made yet.")
            return
        stub, solution = (
            next(cell for cell in part.cells if notebook.has_tag(cell, tag))
            for tag in ("exercise", "solution")
        )
        name = stub.metadata["exercise"]
        self.points[name] = points
        variable = f"answer_{len(self.points)}"
        body, check = _divided(stub.source)
        answer = _renamed(body, variable)
        if self.solutions:
            solved, _ = _divided(solution.source)
            hints = "".join(f"# - {hint}\n" for hint in self._hints(check))
            answer += (
                f"\n### BEGIN SOLUTION\n# What wrong answers are told:\n{hints}"
                f"{_renamed(solved, variable)}\n### END SOLUTION"
            )
        call = f'grading.graded("{name}", {check}, {variable}, points={points})'
        of_check = {"grade_id": f"check-{name}", "grade": True, "points": points}
        for cell in part.cells:
            if cell is stub:
                yield self._code(answer, graded={"grade_id": name, "solution": True})
                yield self._code(call, graded=of_check)
            elif cell is not solution and part.stage == "taught":
                yield from self._editable(cell)

    def _hints(self, check: str) -> Iterator[str]:
        """What the assertions of a check say, each in a line."""
        called = re.findall(r"checks\.(\w+)", check)[:1]
        module = self._checks()
        for word in called:
            tree = ast.parse(inlined.source_of(getattr(module, word)))
            for node in ast.walk(tree):
                if isinstance(node, ast.Assert) and node.msg is not None:
                    yield _words(node.msg)

    def _checks(self) -> Any:
        return import_module(f"robustbook.studies.{self.chapter.study}.exercises")

    @staticmethod
    def _reads_results(part: Piece) -> bool:
        trees = [ast.parse(cell.source) for cell in part.cells]
        return any("results" in inlined.loaded(tree) for tree in trees)

    @cached_property
    def _rows(self) -> list[str]:
        """Those rows of the reference run that the checks read, as JSON; none where it
        is missing or older than the study's rows.
        """
        path, study = Path(self._checks().__file__), self.chapter.study
        names = set(re.findall(r'"([^"\n]+)"', path.read_text("utf-8")))
        record = self._record()
        try:
            metrics = Results(
                record.metrics if record else (), rows=studies.get(study).ROWS
            )
        except (UserError, ValueError):
            return []
        return [
            metric.model_dump_json(exclude_none=True)
            for metric in metrics
            if metric.name in names
        ]

    def _results(self) -> str:
        """Code that makes `results` of the rows that the checks read."""
        listed = ",\n".join(f"    {row!r}" for row in self._rows)
        return (
            "from robustbook.results import Metric, Results\n\n"
            f"ROWS = [\n{listed},\n]\n"
            "results = Results(Metric.model_validate_json(row) for row in ROWS)"
        )

    def _last(self) -> Iterator[Node]:
        yield self._markdown(
            "## Your score\n\nRun all checks, write your name, run this cell, and hand "
            "in the line that it shows."
        )
        yield self._code(
            f'student = ""\ngrading.score("{self.chapter.study}", {self.points!r}, '
            "student)"
        )

    # Cells

    def _markdown(
        self, text: str, pictures: Iterable[tuple[str, str, str, str]] = ()
    ) -> Node:
        from nbformat.v4 import new_markdown_cell

        text = plain.plain(_REPLACED.sub(_SAID, text), self.references)
        cell = new_markdown_cell(text)
        shown = list(pictures)
        if shown:
            lines = [f"![{alt}](attachment:{name})" for name, alt, _, _ in shown]
            first = [text] if text.startswith("#") else []
            last = [text] if text and not first else []
            cell.source = "\n\n".join([*first, *lines, *last])
            cell["attachments"] = {
                name: {media: data} for name, _, media, data in shown
            }
        return cell

    def _code(
        self,
        text: str,
        *,
        hidden: bool = False,
        tags: Iterable[str] = (),
        graded: Mapping[str, Any] | None = None,
    ) -> Node:
        from nbformat.v4 import new_code_cell

        metadata: dict[str, Any] = (
            {"jupyter": {"source_hidden": True}} if hidden else {}
        )
        if tags:
            metadata["tags"] = list(tags)
        if graded:
            metadata["nbgrader"] = {
                **{"grade": False, "solution": False, "task": False},
                **{"locked": "points" in graded, "schema_version": 3},
                **graded,
            }
            metadata |= {"editable": False} if "points" in graded else {}
        return new_code_cell(text.strip(), metadata=metadata)


def _repository(project: Project) -> str:
    """The address of the book's public repository; empty where it has none."""
    import yaml

    text = (project.root / "_config.yml").read_text("utf-8")
    url = ((yaml.safe_load(text) or {}).get("repository") or {}).get("url") or ""
    return str(url).rstrip("/").removesuffix(".git")


def _missing(cells: Iterable[Node]) -> set[str]:
    """Names that code cells read and none of them makes."""
    trees = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
    made = {name for tree in trees for name in inlined.bound(tree)}
    read = {name for tree in trees for name in inlined.loaded(tree)}
    return {name for name in read - made if not hasattr(builtins, name)}


def _calls(statement: ast.stmt, name: str) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func) == name
    )


def _divided(source: str) -> tuple[str, str]:
    """The body of an exercise's cell, and the check that its last line reports."""
    last = ast.parse(source).body[-1]
    lines = source.splitlines()[: last.lineno - 1]
    assert isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)
    return "\n".join(lines).strip(), ast.unparse(last.value.args[0])


def _renamed(source: str, variable: str) -> str:
    """Code with another name for the variable `answer`."""
    lines = source.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        if token.type == tokenize.NAME and token.string == "answer":
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + variable + line[column + len("answer") :]
    return "".join(lines)


def _words(message: ast.expr) -> str:
    """A message as one line; what an f-string fills in is an ellipsis."""
    if isinstance(message, ast.Constant):
        text = str(message.value)
    elif isinstance(message, ast.JoinedStr):
        text = "".join(
            str(each.value) if isinstance(each, ast.Constant) else "..."
            for each in message.values
        )
    else:
        text = ast.unparse(message)
    return " ".join(text.split())


def _soup(html: str) -> Any:
    from bs4 import BeautifulSoup

    return BeautifulSoup(html, "html.parser")


def _table(shown: Any) -> str:
    """A table of the page as Markdown, its caption below it."""
    rows = [
        [_text(cell).replace("|", "/") for cell in row.find_all(["th", "td"])]
        for row in shown.find_all("tr")
    ]
    rows.insert(1, ["---"] * len(rows[0]))
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{lines}\n\n{_text(shown.find('figcaption'))}"


def _text(element: Any) -> str:
    """The words of some HTML as Markdown: emphasis, code and math stay."""
    for tag, sign in (("em", "*"), ("strong", "**"), ("b", "**"), ("code", "`")):
        for each in element.find_all(tag):
            each.replace_with(f"{sign}{each.get_text()}{sign}")
    words = _LABEL.sub(" ", element.get_text()).strip()
    return re.sub(r"\\\((.+?)\\\)", r"$\1$", words)


@cache
def _png(svg: str) -> str:
    """A picture of an SVG on white, in base64: JupyterLab shows no SVG in a text."""
    import vl_convert
    from PIL import Image

    svg = re.sub(r"var\(--pm-ground, #fff\)", "#fff", svg)
    drawn = Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=SCALE)))
    ground = Image.new("RGBA", drawn.size, "white")
    ground.alpha_composite(drawn.convert("RGBA"))
    written = io.BytesIO()
    ground.convert("RGB").quantize(256).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode("ascii")
