"""Puts chapters before the API in the results of a search, and tells runs apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

SCORER = Path(__file__).with_suffix(".js")


def use_scorer(app: Sphinx, config: Config) -> None:
    """Give the search its scorer."""
    config.html_search_scorer = str(SCORER)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the event."""
    app.connect("config-inited", use_scorer)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
