"""Makes the pages work without a network and keeps them light: ships MathJax with the
book, loads it where a page has formulas, and drops every script that lies elsewhere or
is not needed.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MATHJAX = "tex-svg-full.js"
"""The component that draws with paths of its own: it needs no font files, which some
browsers refuse to local pages.
"""

FORMULA = re.compile(r'class="[^"]*\bmath\b|\\\(|\\\[|\$\$')
"""What tells that a page has formulas: Sphinx's own, or those of an output."""

ICON_SCRIPT = re.compile(r"\s*<script[^>]*/fontawesome\.js[^>]*></script>")
"""Draws the theme's icons a second time, in 1.5 MB: its style sheet draws them too."""

IMPORT = re.compile(r"""@import\s+(?:url\()?["']?[./]*basic\.css["']?\)?\s*;""")


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


def drop_icon_script(app: Sphinx, exception: Exception | None) -> None:
    """Take the script that draws icons out of the pages."""
    if exception is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        shorter = ICON_SCRIPT.sub("", text)
        if shorter != text:
            path.write_text(shorter, encoding="utf-8")


def fill_import(app: Sphinx, exception: Exception | None) -> None:
    """Write the style sheet that the theme's first one imports into it: a tool that
    follows the import from the page's own address finds nothing there.
    """
    static = Path(app.outdir) / "_static"
    theme = static / "styles" / "theme.css"
    if exception is not None or app.builder.format != "html" or not theme.exists():
        return
    basic = (static / "basic.css").read_text(encoding="utf-8")
    basic = re.sub(r"url\((?!data:)", "url(../", basic)
    text = theme.read_text(encoding="utf-8")
    filled = IMPORT.sub(lambda _: basic, text)
    theme.write_text(filled, encoding="utf-8")


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
    """Keep only the scripts and style sheets that lie in the book itself, and MathJax
    only for formulas.
    """
    for key in ("script_files", "css_files"):
        context[key] = [asset for asset in context.get(key, []) if _is_local(asset)]
    words = f"{context.get('title', '')} {context.get('body', '')}"
    if not FORMULA.search(words):
        context["script_files"] = [
            asset for asset in context["script_files"] if not _is_mathjax(asset)
        ]


def _is_mathjax(asset: Any) -> bool:
    name = str(getattr(asset, "filename", asset) or "")
    body = str(getattr(asset, "attributes", {}).get("body", ""))
    return "mathjax" in name or "window.MathJax" in body


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the steps; math may stand in outputs, which Sphinx does not see, so every
    page gets MathJax before it is dropped again where no formula is found.
    """
    app.set_html_assets_policy("always")
    app.connect("html-page-context", drop_remote_scripts, priority=900)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_icon_script)
    app.connect("build-finished", fill_import)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
