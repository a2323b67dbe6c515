"""The PDF: all pages of the book once, in order, with links that stay inside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from robustbook.errors import RunFailedError, UserError
from robustbook.run import pdf
from robustbook.run.project import Project

HEAD = '<head><title>Book</title><link rel="stylesheet" href="_static/a.css">{}</head>'
NEXT = '<link rel="next" href="{}">'
PAGES = {
    "index.html": HEAD.format(NEXT.format("studies/one.html"))
    + '<article><h1 id="top">Front<a class="headerlink" href="#top">#</a></h1>'
    '<a href="studies/one.html#part">to a part</a> <a href="notation.html">to it</a>'
    '<a href="https://a.b/c">out</a><a href="claims.csv">a file</a></article>',
    "studies/one.html": HEAD.format(
        NEXT.format("../runs/one/quick.html")
        + '<script defer src="../_static/mathjax/tex.js"></script>'
    )
    + '<article><h1 id="top">Study</h1><details><p id="part">folded</p></details>'
    '<a href="#part">here</a><a href="../index.html">back</a>'
    '<img src="../_static/p.png">'
    '<svg><defs><g id="g"></g></defs><use xlink:href="#g"></use>'
    '<path clip-path="url(#g)"></path></svg><p aria-labelledby="top part">said</p>'
    "<script>alert(1)</script></article>",
    "runs/one/quick.html": HEAD.format(NEXT.format("../../notation.html"))
    + '<article><h1 id="top">Quick run</h1></article>',
    "notation.html": HEAD.format("") + '<article><h1 id="top">Signs</h1></article>',
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    for name, text in PAGES.items():
        path = tmp_path / "book" / "_build" / "html" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<html>{text}</html>")
    return Project(tmp_path)


def test_pages_stand_in_order_without_local_runs(project: Project) -> None:
    tree = BeautifulSoup(pdf.joined(project.root / "book/_build/html"), "html.parser")
    sections = tree.select("section.print-page")
    assert [each["id"] for each in sections] == ["index", "studies-one", "notation"]
    assert [each.h1.text.strip("#") for each in sections] == ["Front", "Study", "Signs"]
    assert [(a.text, a["href"]) for a in tree.select("nav.print-contents a")] == [
        ("Front", "#index"),
        ("Study", "#studies-one"),
        ("Signs", "#notation"),
    ]
    assert sections[0].find_next_sibling()["class"] == ["print-contents", "print-page"]


def test_links_and_names_are_of_the_long_page(project: Project) -> None:
    tree = BeautifulSoup(pdf.joined(project.root / "book/_build/html"), "html.parser")
    front, study, _ = tree.select("section.print-page")
    assert [a.get("href") for a in front.find_all("a")] == [
        "#studies-one--part",
        "#notation",
        "https://a.b/c",
        None,
    ]
    assert [a["href"] for a in study.find_all("a")] == ["#studies-one--part", "#index"]
    names = [tag["id"] for tag in tree.find_all(id=True)]
    assert len(names) == len(set(names))
    inside = [a["href"][1:] for a in tree.select("a[href^='#']")]
    assert set(inside) <= set(names)
    assert study.img["src"] == "_static/p.png"
    assert study.use["xlink:href"] == "#studies-one--g"
    assert study.path["clip-path"] == "url(#studies-one--g)"
    said = study.find("p", attrs={"aria-labelledby": True})
    assert said["aria-labelledby"] == "studies-one--top studies-one--part"


def test_folds_are_open_and_only_mathjax_runs(project: Project) -> None:
    tree = BeautifulSoup(pdf.joined(project.root / "book/_build/html"), "html.parser")
    assert all(fold.has_attr("open") for fold in tree.find_all("details"))
    scripts = [script.get("src") for script in tree.find_all("script")]
    assert scripts == ["_static/mathjax/tex.js"]


def test_without_a_browser_or_a_book_one_line_says_so(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "BROWSERS", ("sh",))
    with pytest.raises(UserError, match="not rendered yet"):
        pdf.make(Project(tmp_path / "empty"))
    with pytest.raises(RunFailedError, match="printed no PDF"):
        pdf.make(project)
    assert not list((tmp_path / "book/_build/html").glob("print*"))
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    with pytest.raises(UserError, match="printed by Chromium"):
        pdf.make(project)


@pytest.mark.skipif(
    not any(map(shutil.which, pdf.BROWSERS)), reason="no Chromium on PATH"
)
def test_chromium_prints_it_with_an_outline(project: Project) -> None:
    content = pdf.make(project).read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Outlines" in content
    assert content.count(b"/Type /Page\n") == 4
