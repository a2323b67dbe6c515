"""Gives the theme's own parts the names that a screen reader needs."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_FOLD = re.compile(
    r"(?P<link><a\b[^>]*>(?P<title>(?:(?!</a>).)*)</a>\s*<details[^>]*>\s*)<summary>",
    re.DOTALL,
)
_EMPTY = re.compile(
    r"<details[^>]*>\s*<summary>(?:(?!</details>|<li).)*</details>", re.DOTALL
)
_TAG = re.compile(r"<[^>]+>")


def named_folds(navigation: str) -> str:
    """The navigation's HTML without empty folds and with a name for each other: that of
    the page above it.
    """

    def name(found: re.Match[str]) -> str:
        title = " ".join(html.unescape(_TAG.sub("", found["title"])).split())
        label = html.escape(f"Pages below {title}")
        return f'{found["link"]}<summary aria-label="{label}">'

    return _FOLD.sub(name, _EMPTY.sub("", navigation))


def name_navigation(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Have the theme write its navigation with named folds."""
    write: Callable[..., Any] | None = context.get("generate_toctree_html")
    if write is not None:
        context["generate_toctree_html"] = lambda *args, **options: named_folds(
            str(write(*args, **options))
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Wrap what the theme puts into the context of a page."""
    app.connect("html-page-context", name_navigation, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
