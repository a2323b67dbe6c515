"""What all tests share: one thread, a cache of their own, and the reason why tests of
real data are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

import read_book
from robustbook.data import store

# The same examples on every machine, so that a change and nothing else turns a test
# red; with `pytest --hypothesis-profile=search` hypothesis looks for new ones. No time
# limits: a busy machine is no fault.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test reads or writes the user's checkpoints."""
    monkeypatch.setenv("ROBUSTBOOK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def data_root(request: pytest.FixtureRequest) -> Path:
    """The data root with the sets in it that the test's mark `data` names; skips where
    one of them is missing.
    """
    wanted = request.node.get_closest_marker("data").args
    assert wanted, 'say which data the test needs: @pytest.mark.data("mnist")'
    missing = [
        entry.name
        for entry in store.inventory()
        if entry.state == "missing" and entry.name in wanted
    ]
    if missing:
        pytest.skip(
            f"no {', '.join(missing)} under {store.data_root()}: set "
            "ROBUSTBOOK_DATA or `robustbook data get`"
        )
    return store.data_root()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser; skips where none is on PATH."""
    program = next(filter(None, map(shutil.which, read_book.BROWSERS)), None)
    if program is None:
        pytest.skip("no browser on PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        found = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()
