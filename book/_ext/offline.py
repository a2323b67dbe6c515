"""Makes the pages work without a network: ships MathJax with the book and drops every
script that lies elsewhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MATHJAX = "tex-svg-full.js"
"""The component that draws with paths of its own: it needs no font files, which some
browsers refuse to local pages.
"""


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy MathJax and its licence from the environment to the book's static files."""
    import mathjax

    if exception is not None or app.builder.format != "html":
        return
    package = Path(mathjax.__file__).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    for source in (package / "es5" / MATHJAX, package / "LICENSE"):
        shutil.copyfile(source, target / source.name)


def _is_local(asset: Any) -> bool:
    """Whether a script comes with the book and is used: the live-code button and its
    remote library are not.
    """
    name = str(getattr(asset, "filename", asset) or "")
    body = str(getattr(asset, "attributes", {}).get("body", ""))
    return "//" not in name and "thebe" not in name and "THEBE_JS_URL" not in body


def drop_remote_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Keep only the scripts and style sheets that lie in the book itself."""
    for key in ("script_files", "css_files"):
        context[key] = [asset for asset in context.get(key, []) if _is_local(asset)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect both steps; math may stand in outputs, which Sphinx does not see, so
    every page has MathJax.
    """
    app.set_html_assets_policy("always")
    app.connect("html-page-context", drop_remote_scripts, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
