"""Puts a notebook that runs by itself (see `robustbook.run.plain`) behind the download
button of a study's pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from published import place_of

from robustbook.run import clean, notebook
from robustbook.run.plain import References, standalone
from robustbook.run.project import Project

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def write(app: Sphinx, exception: Exception | None) -> None:
    """Replace what the download button of a study's page gives."""
    if exception is not None or app.builder.format != "html":
        return
    project = Project(Path(app.srcdir).parent)
    references = Path(app.srcdir) / "references.bib"
    place = place_of(app)
    for docname, study in studies_of(app.env.found_docs):
        source = project.notebook(study)
        target = Path(app.outdir) / "_sources" / f"{docname}.ipynb"
        if source.is_file() and target.is_file():
            node = standalone(
                notebook.read(source),
                References(references),
                place.url if place else "",
            )
            target.write_bytes(clean.to_bytes(node))


def studies_of(docnames: Iterable[str]) -> list[tuple[str, str]]:
    """The pages of runs among the book's pages, each with its study."""
    found = []
    for docname in sorted(docnames):
        folder, _, rest = docname.partition("/")
        if folder in ("studies", "runs") and rest:
            found.append((docname, rest.partition("/")[0]))
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the notebooks after the pages."""
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
