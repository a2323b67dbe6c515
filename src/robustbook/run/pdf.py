"""The rendered book as one PDF: its pages in reading order on one long page, which
Chromium prints.

Read `make`, then `joined` (the long page) and `_own_names` (why its links still lead
where they should).
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from robustbook.errors import RunFailedError, UserError
from robustbook.files import read, write_whole
from robustbook.run.project import Project

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FRONT = "index.html"
LARGEST = 200_000_000
"""Bytes of a page."""
MINUTES = 10
MATHJAX = "mathjax"
LEFT_OUT = ("runs/", "api/")
"""Pages of runs that are on this machine alone, and the reference of the package, which
nobody reads on paper.
"""
DROPPED = (
    "script, .headerlink, .header-article, .prev-next-footer, .copybtn, .pm-launch"
)
NAMES = ("id", "for", "aria-labelledby", "aria-describedby", "aria-controls")
"""Attributes that hold names of elements."""
STYLE = """
@page { size: A4; margin: 18mm 16mm; }
body { background: white; }
.print-page { break-after: page; }
section.print-page, nav.print-contents { max-width: 100%; }
nav.print-contents li { margin: 0.2rem 0; }
pre, code { white-space: pre-wrap; overflow-wrap: anywhere; }
.pm-scroll, div.cell_output, table { overflow: visible !important; max-width: 100%; }
table { font-size: 0.75em; }
figure, .pm-claim { break-inside: avoid; }
img, svg { max-width: 100%; height: auto; }
"""


def make(here: Project) -> Path:
    """Print the rendered book and return the PDF's path, `book/_build/book.pdf`.

    Raises UserError where Chromium or the rendered book is missing, RunFailedError if
    the browser fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(
            "a PDF is printed by Chromium, which is not here: install it (on Debian "
            "`apt install chromium`) and try again"
        )
    html = here.root / "book" / "_build" / "html"
    if not (html / FRONT).is_file():
        raise UserError("the book is not rendered yet: robustbook book does it")
    page, target = html / "print.html", html.parent / "book.pdf"
    write_whole(page, joined(html).encode())
    try:
        _print(browser, page, target)
    finally:
        page.unlink(missing_ok=True)
    return target


def _print(browser: str, page: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    words = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer"]
    words += ["--generate-pdf-document-outline", "--virtual-time-budget=600000"]
    words += [f"--print-to-pdf={target}", page.as_uri()]
    if os.name == "posix" and os.geteuid() == 0:
        words.insert(1, "--no-sandbox")  # Chromium refuses to start for root with one.
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=60 * MINUTES, check=False
        )
    except subprocess.TimeoutExpired as failure:
        raise RunFailedError(f"Chromium took over {MINUTES} minutes") from failure
    if done.returncode or not target.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunFailedError(f"Chromium printed no PDF: {last}")


def joined(html: Path) -> str:
    """One page with all pages of the rendered book, folds open, with a contents and the
    links between pages as links within it.
    """
    from bs4 import BeautifulSoup

    pages = dict(in_order(html))
    whole = BeautifulSoup(
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light">'
        '<head><meta charset="utf-8"></head>'
        '<body><main class="bd-article"></main></body></html>',
        "html.parser",
    )
    head, main = whole.head, whole.main
    assert head is not None and main is not None
    head.extend(_styles_and_mathjax(pages))
    style = whole.new_tag("style")
    style.string = STYLE
    head.append(style)
    contents = whole.new_tag("ul")
    for name, tree in pages.items():
        section = whole.new_tag("section", attrs={"class": "print-page"})
        article = tree.select_one("article") or tree.body
        title = article.find("h1")
        said = " ".join(title.get_text().replace("#", "").split()) if title else name
        section["id"] = own_name(name)
        _own_names(article, name, pages)
        section.extend(list(article.children))
        line, link = whole.new_tag("li"), whole.new_tag("a", href=f"#{section['id']}")
        link.string = said
        line.append(link)
        contents.append(line)
        main.append(section)
    _place_contents(whole, main, contents)
    if front := pages[FRONT].title:
        head.append(front)
    return str(whole)


def _place_contents(whole: Any, main: Any, contents: Any) -> None:
    """The list of pages after the front page."""
    listed = whole.new_tag("nav", attrs={"class": "print-contents print-page"})
    heading = whole.new_tag("h1", id="print-contents")
    heading.string = "Contents"
    listed.extend([heading, contents])
    main.find("section").insert_after(listed)


def in_order(html: Path) -> Iterator[tuple[str, Any]]:
    """Name and tree of each page of the book, as "next" leads from the front page."""
    from bs4 import BeautifulSoup

    name, seen = FRONT, set[str]()
    while name and name not in seen and (html / name).is_file():
        seen.add(name)
        tree = BeautifulSoup(read(html / name, LARGEST), "html.parser")
        follows = tree.find("link", rel="next")
        if not name.startswith(LEFT_OUT):
            yield name, tree
        name = _from(name, str(follows["href"])) if follows else ""


def _from(page: str, address: str) -> str:
    """Where an address on a page leads, from the front page's folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), address))


def own_name(page: str, name: str = "") -> str:
    """The name on the long page of what has `name` on a page, or of the page."""
    start = re.sub(r"[^\w-]", "-", page.removesuffix(".html"))
    return f"{start}--{name}" if name else start


def _styles_and_mathjax(pages: dict[str, Any]) -> list[Any]:
    """Style sheets of the front page, and MathJax from the first page that has it."""
    sheets = pages[FRONT].head.find_all("link", rel="stylesheet")
    for page, tree in pages.items():
        scripts = [
            script
            for script in tree.find_all("script")
            if MATHJAX in script.get("src", "") or "window.MathJax" in script.text
        ]
        if scripts:
            for script in scripts:
                if script.get("src"):
                    script["src"] = _from(page, script["src"])
                    del script["defer"]
            return [*sheets, *scripts]
    return list(sheets)


def _own_names(article: Any, page: str, pages: dict[str, Any]) -> None:
    """Make a page's part of the long page: names of elements get the page's name in
    front, links within the book lead within the long page, folds are open.
    """
    for left in article.select(DROPPED):
        if "application/json" not in left.get("type", ""):
            left.decompose()
    for fold in article.find_all("details"):
        fold["open"] = ""
    for tag in article.find_all(True):
        for key in NAMES:
            if key in tag.attrs:
                tag[key] = " ".join(own_name(page, one) for one in tag[key].split())
        for key, value in list(tag.attrs.items()):
            if key in ("href", "xlink:href"):
                tag[key] = _link(page, value, pages)
                if not tag[key]:
                    del tag[key]
            elif key == "src" and ":" not in value:
                tag[key] = _from(page, value)
            elif isinstance(value, str) and "url(#" in value:
                tag[key] = re.sub(
                    r"url\(#([^)]+)\)",
                    lambda found: f"url(#{own_name(page, found[1])})",
                    value,
                )


def _link(page: str, address: str, pages: dict[str, Any]) -> str:
    """Where a link of a page leads from the long page, or nothing where that is a file
    beside the book.
    """
    if re.match(r"[a-z][a-z0-9+.-]*:|//", address):
        return address
    path, name = urldefrag(address)
    there = _from(page, path) if path else page
    return f"#{own_name(there, name)}" if there in pages else ""
