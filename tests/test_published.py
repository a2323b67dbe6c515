"""A published book: buttons and addresses with a made-up repository, and none without
one.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

published = import_module("published")
Place = published.Place

URL = "https://github.com/Nobody/made-up"
SITE = "https://nobody.github.io/made-up/"
LONG = "Networks break where nobody looks, and this says where. " * 8
PAGES = {
    "index": f"# A book\n\nShort.\n\n{LONG}\n\n```{{toctree}}\nnotation\n"
    "studies/loss_metric\nruns/loss_metric/wide\n```\n",
    "notation": '# Words & "signs"\n\nWhat the letters of this book are, in order.\n',
    "studies/loss_metric": "# A study\n\nIt asks whether what it measures is there.\n",
    "runs/loss_metric/wide": "# A run\n\nIt is on this machine alone, and nowhere.\n",
}


def built(folder: Path, options: dict[str, object]) -> Path:
    """A small book with the theme and the extension."""
    from sphinx.application import Sphinx

    for name, text in PAGES.items():
        path = folder / "book" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = {
        "extensions": ["myst_parser", "published"],
        "html_theme": "sphinx_book_theme",
        "html_title": "Perturb and Measure",
        "html_theme_options": options,
    }
    book, out = folder / "book", folder / "html"
    app = Sphinx(book, None, out, folder / "trees", "html", settings, status=None)
    app.build()
    return out


def page(folder: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((folder / f"{name}.html").read_text(), "html.parser")


@pytest.fixture(scope="module")
def with_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {
        "repository_url": f"{URL}.git",
        "launch_buttons": {"hub": "https://h.ub/"},
    }
    return built(tmp_path_factory.mktemp("with"), options)


@pytest.fixture(scope="module")
def without_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(published.VARIABLE, raising=False)
        return built(tmp_path_factory.mktemp("without"), {"repository_url": ""})


def links(tree: BeautifulSoup) -> list[str]:
    return [link["href"] for link in tree.find_all("a", href=True)]


def test_without_a_repository_nothing_leads_to_one(without_place: Path) -> None:
    for name in PAGES:
        tree = page(without_place, name)
        assert not [
            link for link in links(tree) if "://" in link and "sphinx" not in link
        ]
        assert tree.find("link", rel="canonical") is None
        assert tree.find(attrs={"property": "og:image"}) is None
    assert not (without_place / "sitemap.xml").exists()
    assert "Sitemap" not in (without_place / "robots.txt").read_text()
    assert links(page(without_place, "404")) == ["index.html", "search.html"]


def test_buttons_lead_to_the_study_and_to_the_file_to_edit(with_place: Path) -> None:
    for name in ("studies/loss_metric", "runs/loss_metric/wide"):
        found = links(page(with_place, name))
        assert f"{URL}/edit/main/notebooks/loss_metric.py" in found
        assert (
            f"{published.COLAB}/github/Nobody/made-up/blob/notebooks/loss_metric.ipynb"
            in found
        )
        binder = "https://mybinder.org/v2/gh/Nobody/made-up/main?urlpath=lab/tree/book/"
        assert f"{binder}studies/loss_metric.ipynb" in found
        (hub,) = [link for link in found if link.startswith("https://h.ub/hub/")]
        assert parse_qs(urlsplit(hub).query) == {
            "repo": [URL],
            "branch": ["main"],
            "urlpath": ["lab/tree/made-up/book/studies/loss_metric.ipynb"],
        }
    found = links(page(with_place, "notation"))
    assert f"{URL}/edit/main/book/notation.md" in found
    assert not [link for link in found if "mybinder" in link]


def test_links_to_a_page_show_its_words(with_place: Path) -> None:
    tree = page(with_place, "notation")
    said = {
        tag.get("property") or tag["name"]: tag["content"]
        for tag in tree.find_all("meta", content=True)
        if tag.get("property") or tag.get("name")
    }
    assert said["og:title"] == "Words & “signs”"
    assert said["og:description"] == said["description"]
    assert said["description"] == "What the letters of this book are, in order."
    assert said["og:url"] == f"{SITE}notation.html"
    assert said["og:image"] == f"{SITE}_static/page.png"
    assert tree.find("link", rel="canonical")["href"] == f"{SITE}notation.html"
    front = page(with_place, "index").find(attrs={"property": "og:description"})
    assert 150 < len(front["content"]) <= published.LONGEST
    assert LONG.startswith(front["content"][:-1])
    assert front["content"].endswith("…")


def test_the_site_map_has_every_page_but_local_runs(with_place: Path) -> None:
    tree = ElementTree.fromstring((with_place / "sitemap.xml").read_text())
    found = [each.text for each in tree.iter() if each.tag.endswith("loc")]
    assert found == [
        f"{SITE}{name}.html" for name in sorted(PAGES) if "runs" not in name
    ]
    robots = (with_place / "robots.txt").read_text()
    assert f"Sitemap: {SITE}sitemap.xml" in robots
    assert "Disallow: /made-up/runs/" in robots


def test_the_missing_page_needs_no_file_of_the_book(with_place: Path) -> None:
    tree = page(with_place, "404")
    assert not tree.find_all(["script", "img", "link"])
    assert links(tree) == [f"{SITE}index.html", f"{SITE}search.html"]
    assert tree.title.string.endswith("Perturb and Measure")
    assert tree.html["lang"] == "en"


@pytest.mark.parametrize(
    ("url", "edit", "services"),
    [
        (URL, f"{URL}/edit/main/a", ["Binder", "Colab"]),
        ("https://gitlab.com/a/b", "https://gitlab.com/a/b/-/edit/main/a", ["Binder"]),
        ("https://git.example.org/a/b", "", ["Binder"]),
    ],
)
def test_other_hosts_have_fewer_buttons(
    url: str, edit: str, services: list[str]
) -> None:
    place = Place(url)
    assert place.edit("a") == edit
    found = place.launch("loss_metric")
    assert list(found) == services
    assert urlsplit(found["Binder"]).path.count("//") == 0
    assert bool(place.pages) == (url == URL)


def test_a_site_of_its_owner_lies_at_the_root() -> None:
    assert Place("https://github.com/Nobody/nobody.github.io").pages == (
        "https://nobody.github.io/"
    )


def test_the_environment_may_name_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(published.VARIABLE, URL)
    monkeypatch.setattr(sys.modules[__name__], "PAGES", {"index": PAGES["notation"]})
    found = links(page(built(tmp_path, {}), "index"))
    assert f"{URL}/edit/main/book/index.md" in found


def test_the_configuration_names_no_repository_yet() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["repository"] == {"url": "", "branch": "main"}
    assert "published" in config["sphinx"]["local_extensions"]


def test_a_notebook_for_elsewhere_installs_the_package_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from robustbook.run import notebook, plain

    path = ROOT / "notebooks" / "loss_metric.py"
    references = plain.References(ROOT / "book" / "references.bib")
    made = plain.standalone(notebook.read(path), references, URL)
    (first, *_) = [cell for cell in made.cells if cell.cell_type == "code"]
    asked: list[str] = []
    shell = InteractiveShell()
    shell.register_magic_function(asked.append, "line", "pip")
    shell.run_cell(first.source).raise_error()
    assert asked == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    shell.run_cell(first.source).raise_error()
    assert asked == [f'install --quiet "robustbook @ git+{URL}"']
