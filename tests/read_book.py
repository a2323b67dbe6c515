"""Reads the built book in a real browser and tells what a reader meets and what breaks.

    python tests/read_book.py book/_build/html [page ...]

Pages in `HELD` and `CHAPTERS` have to stay within `LIMITS`; all others are reported.
Ends with status 1 if a page that is held misses a limit, and with 0 and the reason
where no browser is found.
"""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

HELD = (
    *("index", "notation", "how-to-read", "how-to-rerun", "scoreboard", "corrections"),
    *("how-this-book-is-made", "speed", "reproduce", "faults"),
)
"""Pages that are held to the limits of every page."""

CHAPTERS = (
    *("studies/loss_metric", "studies/saliency_baselines", "studies/taylor_pruning"),
    "studies/bnn_verification",
    "studies/synthesis",
)
"""Chapters in their final shape, which are held to the limits of chapters as well."""

LIMITS = {
    "overflow": 0,
    "errors": 0,
    "outside": 0,
    "dead links": 0,
    "axe": 0,
    "megabytes": 3.0,
}
"""Largest value on every page that is held."""

CHAPTER_LIMITS = {
    "words": 3000,
    "figure": 1.0,
    "verdict": 1.0,
    "cut": 0,
    "double ids": 0,
}
"""Largest value in a chapter; figure and verdict are the screens where the first stand.
"""

QUERY = "gradient"
"""What is searched for: chapters and the API have it."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

VIEW = """async (screen) => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  const article = document.querySelector('article') ?? document.body;
  const folded = (node) => {
    const fold = node.closest('details:not([open])');
    return fold && !node.closest('summary');
  };
  const visible = (node) => !folded(node) && node.getClientRects().length > 0;
  const place = (selector) => {
    const first = [...article.querySelectorAll(selector)]
      .find((node) => visible(node) && node.getBoundingClientRect().height > 12);
    return first ? (first.getBoundingClientRect().top + scrollY) / screen : null;
  };
  const apart = 'pre, table, svg, script, style, mjx-container, .math, .headerlink';
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (visible(parent) && !parent.closest(apart)) texts.push(walker.currentNode.data);
  }
  return {
    text: texts.join(' '),
    figure: place(
      'figure :is(img, canvas), :is(figure, .pm-live) > svg, .cell_output img'),
    verdict: place('.pm-badge'),
    ids: [...document.querySelectorAll('[id]')].map((node) => node.id),
    links: [...document.querySelectorAll('a[href]')].map((node) => node.href),
  };
}"""

PHONE_VIEW = """() => {
  const room = (node) => {
    let width = innerWidth;
    for (let up = node.parentElement; up; up = up.parentElement)
      if (getComputedStyle(up).overflowX !== 'visible' && up !== document.body)
        width = Math.min(width, up.clientWidth || width);
    return width;
  };
  const drawn = 'figure img, :is(figure, .pm-live) > svg';
  const figures = [...document.querySelectorAll(drawn)];
  const cut = figures.map((node) => node.getBoundingClientRect().width - room(node));
  return {
    overflow: Math.max(0, document.documentElement.scrollWidth - innerWidth),
    cut: Math.max(0, ...cut.map(Math.round)),
  };
}"""

AXE = """async () => (await axe.run(document)).violations
  .filter((found) => ['serious', 'critical'].includes(found.impact))
  .flatMap((found) => found.nodes.map((node) => `${found.id}: ${node.target}`))"""


def words(text: str) -> int:
    """How many words a text has; numbers and signs are none."""
    return len(re.findall(r"[^\W\d_][\w'’-]*", text))


def dead_links(links: list[str], base: str, folder: Path) -> list[str]:
    """Links into the book that lead to no file, or to no place on its page."""
    return [
        link.removeprefix(base)
        for link in sorted(set(links))
        if link.startswith(base) and not _leads(link.removeprefix(base), folder)
    ]


def _leads(link: str, folder: Path) -> bool:
    address, anchor = urldefrag(link)
    path = folder / unquote(address.partition("?")[0])
    path = path / "index.html" if path.is_dir() else path
    if not path.is_file():
        return False
    return not anchor or path.suffix != ".html" or unquote(anchor) in _places(path)


@functools.cache
def _places(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8")
    return frozenset(re.findall(r'\b(?:id|name)="([^"]+)"', text))


def doubled(ids: list[str]) -> list[str]:
    """Ids that stand more than once."""
    return sorted(name for name, times in Counter(ids).items() if times > 1)


def missed(page: str, row: dict[str, Any]) -> list[str]:
    """The limits that a page misses, in words; none for a page that is only reported.

    A chapter without a figure or a verdict misses their limits.
    """
    limits: dict[str, float] = {}
    if page in HELD or page in CHAPTERS:
        limits |= LIMITS
    if page in CHAPTERS:
        limits |= CHAPTER_LIMITS
    return [
        f"{page}: {name} {row[name]} (at most {limit})"
        for name, limit in limits.items()
        if row[name] is None or row[name] > limit
    ]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address under which the folder is served while the block runs."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


class Visit:
    """One page in one window: what it logs, fetches and weighs."""

    def __init__(self, browser: Any, address: str, base: str, **window: Any) -> None:
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.bytes = 0
        self._context = browser.new_context(**window)
        self.page = self._context.new_page()
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("response", self._answered)
        own = (base, "data:", "blob:", "about:")
        self.page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(own) else self.outside.append(asked.url)
            ),
        )
        self.page.goto(address, wait_until="load", timeout=120_000)
        self.page.wait_for_load_state("networkidle", timeout=120_000)

    def _logged(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def _answered(self, response: Any) -> None:
        if "mathjax" not in response.url:
            self.bytes += int(response.headers.get("content-length", 0))

    def close(self) -> None:
        self._context.close()


def read(browser: Any, base: str, folder: Path, page: str, axe: str) -> dict[str, Any]:
    """What a reader meets on one page, wide in light and dark, and on a phone."""
    address = f"{base}{page}.html"
    found: dict[str, list[str]] = {"errors": [], "outside": [], "axe": []}
    row: dict[str, Any] = {}
    for scheme in ("light", "dark"):
        visit = Visit(browser, address, base, viewport=WIDE, color_scheme=scheme)
        if scheme == "light":
            seen = visit.page.evaluate(VIEW, WIDE["height"])
            row["megabytes"] = round(visit.bytes / 1e6, 2)
        visit.page.evaluate(axe)
        found["axe"] += [f"{scheme}: {each}" for each in visit.page.evaluate(AXE)]
        found["errors"] += visit.errors
        found["outside"] += visit.outside
        visit.close()
    visit = Visit(browser, address, base, viewport=PHONE, is_mobile=True)
    row |= visit.page.evaluate(PHONE_VIEW)
    visit.close()
    found["dead links"] = dead_links(seen["links"], base, folder)
    found["double ids"] = doubled(seen["ids"])
    for name in ("figure", "verdict"):
        row[name] = None if seen[name] is None else round(seen[name], 1)
    row["words"] = words(seen["text"])
    return {**row, **{name: len(them) for name, them in found.items()}, "why": found}


def searched(browser: Any, base: str) -> list[str]:
    """Pages that a search for `QUERY` finds, in order."""
    visit = Visit(browser, f"{base}search.html?q={QUERY}", base, viewport=WIDE)
    visit.page.wait_for_selector("ul.search li a", timeout=60_000)
    visit.page.wait_for_timeout(1000)  # They come in one by one.
    links = visit.page.evaluate(
        "() => [...document.querySelectorAll('ul.search li > a')].map((a) => a.href)"
    )
    visit.close()
    return [urldefrag(link)[0].removeprefix(base).partition("?")[0] for link in links]


def misplaced(pages: list[str]) -> list[str]:
    """What is wrong with the order of a search: chapters come first, the API last."""
    ranks = [
        0 if page.startswith("studies/") else 2 if page.startswith("api/") else 1
        for page in pages
    ]
    wrong = []
    if ranks != sorted(ranks):
        wrong.append(f"search for {QUERY}: {', '.join(pages[:5])} ... out of order")
    if 0 not in ranks:
        wrong.append(f"search for {QUERY}: no chapter is found")
    return wrong


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table, and below it the first findings of each page."""
    columns = [*LIMITS, *CHAPTER_LIMITS]
    print("page".ljust(32), *(name.rjust(10) for name in columns))
    for page, row in rows.items():
        print(page.ljust(32), *(str(row[name]).rjust(10) for name in columns))
    for page, row in rows.items():
        for name, them in row["why"].items():
            for each in them[:3]:
                print(f"{page}: {name}: {each[:150]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pages", nargs="*")
    given = parser.parse_args()
    folder = given.folder.resolve()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print(f"skipped: no browser on PATH ({', '.join(BROWSERS)})")
        return 0
    import axe_playwright_python
    from playwright.sync_api import sync_playwright

    axe = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    studies = sorted(path.stem for path in (folder / "studies").glob("*.html"))
    pages = given.pages or [*HELD, *(f"studies/{name}" for name in studies)]
    with served(folder) as base, sync_playwright() as play:
        options = {"executable_path": program, "args": ["--no-sandbox"]}
        browser = play.chromium.launch(**options)
        rows = {page: read(browser, base, folder, page, axe) for page in pages}
        found = [] if given.pages else searched(browser, base)
        browser.close()
    show(rows)
    lacking = [line for page, row in rows.items() for line in missed(page, row)]
    lacking += [] if given.pages else misplaced(found)
    print("\n".join(lacking) or "every page that is held is within its limits")
    return bool(lacking)


if __name__ == "__main__":
    sys.exit(main())
