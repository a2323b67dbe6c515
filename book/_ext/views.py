"""Ships what interactive views need (Vega, Vega-Lite, Vega-Embed and the book's own
script, in one file) with the book, and loads it where a reader comes near a view.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FILE = "views.js"
LICENCES = (
    "/* Vega, Vega-Lite and Vega-Embed: BSD 3-Clause, "
    "(c) University of Washington Interactive Data Lab and contributors. */\n"
)

LOADER = """addEventListener("DOMContentLoaded", () => {
  const near = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    near.disconnect();
    const script = document.createElement("script");
    script.src = ADDRESS;
    document.head.append(script);
  }, { rootMargin: "1600px" });
  document.querySelectorAll(".pm-view").forEach((place) => near.observe(place));
});"""


def bundle() -> str:
    """The script: the libraries and the book's own few lines, with no names outside."""
    import vl_convert

    own = (Path(__file__).parent / FILE).read_text(encoding="utf-8")
    code = vl_convert.javascript_bundle(own)
    return f"{LICENCES}(() => {{\n{code}\n}})();\n"


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Let a page with a view load the script; write it where it is the first."""
    if 'class="pm-view"' not in context.get("body", ""):
        return
    if not getattr(app, "has_views", False):
        target = Path(app.outdir) / "_static" / FILE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(bundle(), encoding="utf-8")
        app.has_views = True
    address = json.dumps(context["pathto"](f"_static/{FILE}", resource=True))
    app.add_js_file(None, body=LOADER.replace("ADDRESS", address))


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at every page."""
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
