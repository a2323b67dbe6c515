"""What a published book needs and a local one does not: buttons that lead to its
repository, words and a picture for those who link to a page, a site map, and a page for
addresses that are none.

The one place is `repository: url` in `_config.yml`, or the variable
`ROBUSTBOOK_REPOSITORY`, which a workflow sets; while both are empty no page names a
repository. Read `Place` first.
"""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

VARIABLE = "ROBUSTBOOK_REPOSITORY"
BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
NOTEBOOKS = "notebooks"
"""Branch with the notebooks that install the package: the workflow of the book writes
it.
"""
PICTURE = "_static/page.png"
LONGEST = 200
"""Letters of a page's description."""
GENERATED = ("genindex", "py-modindex", "search")


@dataclass(frozen=True)
class Place:
    """Where the book's source lies: address of the repository, its main branch, and the
    address of a JupyterHub if there is one.
    """

    url: str
    branch: str = "main"
    hub: str = ""

    @property
    def _parts(self) -> tuple[str, str, str]:
        """Host, owner and name."""
        split = urlsplit(self.url)
        owner, _, name = split.path.strip("/").partition("/")
        return split.netloc, owner, name

    @property
    def pages(self) -> str:
        """Where GitHub publishes it, or nothing for other hosts."""
        host, owner, name = self._parts
        if host != "github.com":
            return ""
        root = f"https://{owner.lower()}.github.io/"
        return root if name.lower() == urlsplit(root).netloc else f"{root}{name}/"

    def edit(self, path: str) -> str:
        """Where a file can be changed, or nothing for hosts we do not know."""
        host, _, _ = self._parts
        ways = {"github.com": "edit", "gitlab.com": "-/edit"}
        return f"{self.url}/{ways[host]}/{self.branch}/{path}" if host in ways else ""

    def launch(self, study: str) -> dict[str, str]:
        """Addresses by service that open the reference page of a study to run it."""
        host, owner, name = self._parts
        page = f"book/studies/{study}.ipynb"
        where = {
            "github.com": f"gh/{owner}/{name}",
            "gitlab.com": f"gl/{owner}%2F{name}",
        }.get(host, f"git/{quote(self.url, safe='')}")
        found = {"Binder": f"{BINDER}/v2/{where}/{self.branch}?urlpath=lab/tree/{page}"}
        if host == "github.com":
            there = f"{owner}/{name}/blob/{NOTEBOOKS}/{study}.ipynb"
            found["Colab"] = f"{COLAB}/github/{there}"
        if self.hub:
            asked = {
                "repo": self.url,
                "branch": self.branch,
                "urlpath": f"lab/tree/{name}/{page}",
            }
            pull = urlencode(asked, safe="/")
            found["JupyterHub"] = f"{self.hub}/hub/user-redirect/git-pull?{pull}"
        return found


def place_of(app: Sphinx) -> Place | None:
    """The repository that the configuration or the environment names."""
    options = app.config.html_theme_options
    url = options.get("repository_url") or os.environ.get(VARIABLE, "")
    if not url:
        return None
    hub = (options.get("launch_buttons") or {}).get("hub", "")
    branch = options.get("repository_branch") or "main"
    return Place(url.rstrip("/").removesuffix(".git"), branch, hub.rstrip("/"))


def site_of(app: Sphinx) -> str:
    """The address of the published book, with a slash at its end, or nothing."""
    place = place_of(app)
    found = app.config.html_baseurl or (place.pages if place else "")
    return f"{found.rstrip('/')}/" if found else ""


def study_of(page: str) -> str:
    """The study that a page shows a run of, or nothing."""
    folder, _, rest = page.partition("/")
    return rest.partition("/")[0] if folder in ("studies", "runs") else ""


def source_of(page: str, suffix: str) -> str:
    """The file that an author changes to change the page."""
    study = study_of(page)
    return f"notebooks/{study}.py" if study else f"book/{page}{suffix}"


def add_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Buttons to run a study's page elsewhere and to edit a page."""
    place = place_of(app)
    if place is None or doctree is None:
        return
    buttons = context.setdefault("header_buttons", [])
    if study := study_of(page):
        buttons.append(_launch_group(place.launch(study)))
    suffix = context.get("page_source_suffix") or ".md"
    if edit := place.edit(source_of(page, suffix)):
        words = {"text": "", "tooltip": "Edit this page", "label": "edit-button"}
        buttons.append(
            {"type": "link", "url": edit, "icon": "fas fa-pencil-alt", **words}
        )


def _launch_group(addresses: dict[str, str]) -> dict[str, Any]:
    pictures = {"Colab": "logo_colab.png"}
    links = [
        {
            "type": "link",
            "text": name,
            "tooltip": f"Run this page on {name}",
            "icon": f"_static/images/{pictures.get(name, f'logo_{name.lower()}.svg')}",
            "url": address,
        }
        for name, address in addresses.items()
    ]
    words = {"tooltip": "Run this page", "label": "launch-buttons"}
    return {"type": "group", "icon": "fas fa-rocket", "buttons": links, **words}


def add_words(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Title, description and picture of the page for search engines and for those who
    link to it.
    """
    if doctree is None:
        return
    title = html.unescape(re.sub("<[^>]+>", "", context.get("title", "")))
    words = {
        "og:title": title,
        "og:type": "website" if page == app.config.root_doc else "article",
        "og:site_name": app.config.html_title or app.config.project,
        "og:description": described(doctree),
    }
    if site := site_of(app):
        words["og:url"] = f"{site}{app.builder.get_target_uri(page)}"
        words["og:image"] = f"{site}{pictured(doctree) or PICTURE}"
        context["pageurl"] = words["og:url"]
    tags = [
        f'<meta property="{name}" content="{html.escape(value)}" />'
        for name, value in words.items()
        if value
    ]
    if words["og:description"]:
        said = html.escape(words["og:description"])
        tags.append(f'<meta name="description" content="{said}" />')
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])


def described(doctree: nodes.Node) -> str:
    """The first sentences of a page, at most `LONGEST` letters in whole words."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) >= 40:
            if len(text) <= LONGEST:
                return text
            return text[: LONGEST - 1].rpartition(" ")[0].rstrip(",;:") + "…"
    return ""


def pictured(doctree: nodes.Node) -> str:
    """The first picture of a page that those who link to it can show, or nothing."""
    for image in doctree.findall(nodes.image):
        name = Path(image["uri"]).name
        if image["uri"].startswith("_static/") and name.endswith((".png", ".jpg")):
            return str(image["uri"])
    return ""


def write_site_files(app: Sphinx, exception: Exception | None) -> None:
    """The site map where the address is known, `robots.txt`, and the page for addresses
    that are none.
    """
    if exception is not None or app.builder.format != "html":
        return
    out, site = Path(app.outdir), site_of(app)
    shown = sorted(page for page in app.env.found_docs if not page.startswith("runs/"))
    robots = "User-agent: *\nDisallow: /runs/\n"
    if site:
        lines = [
            f"  <url><loc>{html.escape(site + app.builder.get_target_uri(page))}</loc>"
            "</url>"
            for page in shown
        ]
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
            + "\n".join(lines)
            + "\n</urlset>\n",
            encoding="utf-8",
        )
        robots = robots.replace("/runs/", f"{urlsplit(site).path}runs/")
        robots += f"Sitemap: {site}sitemap.xml\n"
    (out / "robots.txt").write_text(robots, encoding="utf-8")
    home = site
    title = html.escape(app.config.html_title or app.config.project)
    (out / "404.html").write_text(
        MISSING.format(title=title, home=html.escape(home)), encoding="utf-8"
    )


# Shown at any depth of addresses, so that it can use no file of the book.
MISSING = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="robots" content="noindex" />
<title>Not here — {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; }}
body {{ margin: 15vh auto; padding: 0 1rem; }}
</style>
</head>
<body>
<main>
<h1>This page is not here</h1>
<p>The address has a slip, or the page has moved.
<a href="{home}index.html">The front page</a> leads to all chapters, and
<a href="{home}search.html">the search</a> finds words in them.</p>
</main>
</body>
</html>
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the steps, after those of the theme."""
    app.connect("html-page-context", add_buttons, priority=850)
    app.connect("html-page-context", add_words, priority=850)
    app.connect("build-finished", write_site_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
