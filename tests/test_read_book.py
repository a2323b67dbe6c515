"""The check of the built book, without a browser: links, ids, words and limits."""

import subprocess
import sys
from pathlib import Path

import pytest

import read_book

GOOD = {name: 0 for name in [*read_book.LIMITS, *read_book.CHAPTER_LIMITS]}


@pytest.fixture
def book(tmp_path):
    (tmp_path / "page.html").write_text('<h1 id="top">Top</h1>', encoding="utf-8")
    (tmp_path / "data.csv").write_text("a", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("page.html", True),
        ("page.html#top", True),
        ("page.html?q=1#top", True),
        ("page.html#bottom", False),
        ("data.csv#row", True),
        ("other.html", False),
    ],
)
def test_a_link_leads_to_a_file_and_a_place(book, link, leads):
    base = "http://here/"
    assert read_book.dead_links([base + link], base, book) == ([] if leads else [link])
    assert read_book.dead_links(["http://there/x"], base, book) == []


def test_words_and_doubled_ids():
    assert read_book.words("Two words, 3.5 and d'être") == 4
    assert read_book.doubled(["a", "b", "a"]) == ["a"]


@pytest.mark.parametrize("name", read_book.LIMITS)
def test_a_page_that_is_held_misses_each_limit_by_itself(name):
    assert read_book.missed("index", GOOD) == []
    (line,) = read_book.missed("index", {**GOOD, name: read_book.LIMITS[name] + 1})
    assert name in line
    assert read_book.missed("api/index", {**GOOD, name: 99}) == []


@pytest.mark.parametrize("name", read_book.CHAPTER_LIMITS)
def test_a_chapter_is_held_to_more(name, monkeypatch):
    monkeypatch.setattr(read_book, "CHAPTERS", ("studies/a",))
    assert read_book.missed("studies/a", GOOD) == []
    assert read_book.missed("studies/a", {**GOOD, name: 4000})
    assert read_book.missed("studies/a", {**GOOD, name: None})
    assert read_book.missed("index", {**GOOD, name: None}) == []


def test_without_a_browser_it_says_so(book):
    done = subprocess.run(
        [sys.executable, Path(read_book.__file__), book],
        env={"PATH": str(book)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("skipped: no browser on PATH")


def test_a_search_puts_chapters_first_and_the_api_last():
    right = ["studies/a.html", "runs/a/quick.html", "speed.html", "api/perturb.html"]
    assert read_book.misplaced(right) == []
    (told,) = read_book.misplaced([right[3], right[0]])
    assert "out of order" in told
    (told,) = read_book.misplaced(right[1:])
    assert "no chapter" in told
