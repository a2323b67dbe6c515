"""The book builds without a warning, works without a network, and shows what the
records say.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib as mpl
import nbformat
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from matplotlib import pyplot
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import robustbook
from robustbook import exercises, fetch, page, studies
from robustbook.results import Claim, Judgement, Metric, Results
from robustbook.run import records, sweep_page
from robustbook.run.project import Project
from robustbook.run.records import ClaimRecord, Provenance, Record
from robustbook.run.sweep import Member, SweepPlan

mpl.use("agg")

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(robustbook.__file__).resolve().parents[1]
STUDY = "loss_metric"
TOC_TEXT = (ROOT / "_toc.yml").read_text(encoding="utf-8")
TOC = yaml.safe_load(TOC_TEXT)
COMMAND = [
    "--path-output",
    "book",
    "--config",
    "_config.yml",
    "-W",
    "-n",
    "--keep-going",
    "--all",
]
VERDICTS = {"Y1": "reproduced", "Y2": "not reproduced"}


def output_of(shown):
    data = {
        "text/html": getattr(shown, "data", None) or shown._repr_html_(),
        "text/plain": "shown",
    }
    return [new_output("display_data", data=data)]


def claim(name):
    """A claim with its verdict."""
    return Claim(
        name,
        f"{name}.",
        "s",
        "m",
        "r",
        "c",
        lambda results: Judgement(VERDICTS[name], "0.8"),
    )


def notebook():
    """A page like a study's: math, a citation, a figure, a table, an exercise with its
    solution.
    """
    fig, ax = pyplot.subplots()
    ax.plot([0, 1])
    table = page.table(
        pd.DataFrame({"network": ["MLP"], "psi": [0.5]}), caption="Values of $\\psi$."
    )
    metadata = {"exercise": "swap"}
    cells = [
        new_markdown_cell(
            "# A study\n\nAs {cite:t}`yu2019interpreting` say, $\\psi = 1$; see "
            "{term}`gradient masking`."
        ),
        new_markdown_cell("## Results\n\n$$ S(x) = Z_t - \\max_{i \\ne t} Z_i $$"),
        new_code_cell(
            "1",
            outputs=output_of(
                page.figure(fig, alt="A rising line", caption="It rises.")
            ),
        ),
        new_code_cell("2", outputs=output_of(table)),
        new_code_cell(
            "verdicts",
            outputs=output_of(
                page.verdicts([claim(name) for name in VERDICTS], Results())
            ),
        ),
        new_code_cell(
            "3",
            metadata={"tags": ["exercise"], **metadata},
            outputs=output_of(exercises.Outcome(False, "")),
        ),
        new_code_cell(
            "4",
            metadata={"tags": ["solution", "hide-cell"], **metadata},
            outputs=output_of(exercises.Outcome(True, "")),
        ),
    ]
    return new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
        },
    )


def publish(folder, study, run, overrides):
    """A page and its record."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study if run == 'reference' else run}.ipynb"
    nbformat.write(notebook(), path)
    words = {
        "source": "abstract",
        "measure": "rho",
        "rule": "rho > 0.5",
        "control": "clean accuracy",
    }
    declared = studies.get(study).ROWS[0]
    record = Record(
        study=study,
        run=run,
        overrides=overrides,
        parameters=studies.get(study).Parameters().model_dump(mode="json"),
        metrics=[Metric(name=declared.name, unit=declared.unit, value=1.0)],
        claims=[
            ClaimRecord(
                id=name,
                statement=f"{name} <b>.",
                verdict=verdict,
                evidence=f"{run}: 0.8 [0.7, 0.9]",
                **words,
            )
            for name, verdict in VERDICTS.items()
        ],
        provenance=Provenance(
            **{"hash": "0", "code": "0", "sources": {}, "device": "cpu", "threads": 1},
            data={"Digits": "0123456789ab"},
            versions={"python": "3.11"},
        ),
        page_digest=records.sha256(path.read_bytes()),
    )
    path.with_suffix(".json").write_bytes(record.to_bytes())


def publish_sweep(root):
    """The page of a sweep of two runs."""
    members = tuple(
        Member(f"epsilon-0-{tenth}", {"epsilon": tenth / 10}, 0) for tenth in (1, 2)
    )
    plan = SweepPlan(STUDY, "eps", {"epsilon": [0.1, 0.2]}, 1, "", members)
    shown = records.load(root / "book" / "studies" / f"{STUDY}.json")
    metrics = [
        Metric(name="share", value=0.5, low=0.4, high=0.6, n=3, factors={"kind": kind})
        for kind in ("a", "b")
    ]
    found = {
        member.run: shown.model_copy(update={"metrics": metrics}) for member in members
    }
    sweep_page.publish_all(Project(root), plan, found)


BENCHMARK = {
    "machine": {"cores": 2, "torch": "2", "load before": 0.1},
    "rows": [
        {
            "study": STUDY,
            "kind": "comparison",
            "name": "PGD / peer",
            "ours": 0.5,
            "theirs": 0.625,
            "ratio": 0.8,
            "low": 0.75,
            "high": 0.85,
            "turns": 6,
            "limit": 0.9,
            "agreement": "largest difference 1e-7",
        },
        {
            "study": STUDY,
            "kind": "measurement",
            "name": "oracle",
            "value": 7.1,
            "unit": "s",
            "limit": 20.0,
        },
        {
            "study": STUDY,
            "kind": "growth",
            "name": "psi",
            "axis": "images",
            "sizes": [10, 1000],
            "seconds": [0.1, 10.0],
            "exponent": 1.0,
            "low": 0.97,
            "high": 1.03,
            "turns": 3,
        },
    ],
}


REPEATED = {
    "run": "reference",
    "threads_before": 1,
    "threads_now": 2,
    "numbers": 321,
    "identical": 320,
    "largest": 0.01,
    "differences": 0,
    "verdicts": 1,
    "other_verdicts": 0,
    "networks": "kept",
    "intervals": 30,
    "beyond": 2,
    "worker_threads": 4,
}
REPEATS = {
    "now": {**REPEATED, "study": STUDY, "hash": "0"},
    "other code": {**REPEATED, "study": "bnn_attacks", "hash": "1", "numbers": 875},
    "before hashes were noted": {**REPEATED, "study": "synthesis", "numbers": 876},
    "not here": {
        **REPEATED,
        "study": STUDY,
        "run": "quick",
        "hash": "0",
        "numbers": 877,
    },
}


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The built book: the real configuration and pages, with small pages of studies and
    runs.
    """
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(
        ROOT / "book",
        root / "book",
        ignore=shutil.ignore_patterns("_build", "runs", "studies", "__pycache__"),
    )
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    (root / "src").symlink_to(ROOT / "src")  # Notebooks show pieces of it.
    shutil.copy(ROOT / "_config.yml", root)
    chapter = "- file: scoreboard\n"
    without_runs = f"{chapter}        sections:\n          - glob: runs/none/*\n"
    (root / "_toc.yml").write_text(
        TOC_TEXT.replace(chapter, without_runs), encoding="utf-8"
    )
    for study in studies.names():
        publish(root / "book" / "studies", study, "reference", {})
    publish(root / "book" / "runs" / STUDY, STUDY, "wide", {"epsilon": 0.2})
    publish(root / "book" / "runs" / STUDY, STUDY, "torn", {})
    publish_sweep(root)
    (root / "book" / "measured").mkdir(exist_ok=True)
    faults = {"kill": {"made": 77, "held": 77, "told": "whole"}}
    (root / "book" / "measured" / "faults.json").write_text(json.dumps(faults))
    workers = {"cores": 2, "seconds": {"1": [195.0, 195.0], "2": [100.0]}}
    (root / "book" / "measured" / "workers.json").write_text(json.dumps(workers))
    (root / "book" / "measured" / "benchmark.json").write_text(json.dumps(BENCHMARK))
    (root / "book" / "measured" / "repeats.json").write_text(json.dumps(REPEATS))
    (root / "book" / "runs" / STUDY / "torn.json").write_text(
        '{"schema_version": 1', encoding="utf-8"
    )
    runs = root / "book" / "runs"
    sound = (runs / STUDY / "wide.ipynb").read_text()
    for name, content in UNREADABLE.items():
        (runs / name).parent.mkdir(exist_ok=True)
        (runs / name).write_bytes(content(sound.encode()))
    os.mkfifo(runs / STUDY / "pipe.ipynb")
    (root / "said").write_text(build(root))
    return root / "book" / "_build" / "html"


UNREADABLE = {
    f"{STUDY}/cut.ipynb": lambda sound: sound[:900],
    f"{STUDY}/empty.ipynb": lambda sound: b"",
    f"{STUDY}/other.ipynb": lambda sound: b'{"nbformat": 4, "cells": 3}',
    f"{STUDY}/Bad name.ipynb": lambda sound: sound,
    f"{STUDY}/sweep-bytes.md": lambda sound: b"# \xff",
    "nobody/quick.ipynb": lambda sound: sound,
}
"""Pages in `book/runs/` that cannot be part of the book, made of a sound one."""


def build(root):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    program = str(Path(sys.executable).parent / "jupyter-book")
    command = [program, "build", "book", "--toc", str(root / "_toc.yml"), *COMMAND]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stderr


def test_pages_that_cannot_be_read_are_left_out_and_named(html):
    said = (html.parents[2] / "said").read_text()
    for name in (*UNREADABLE, f"{STUDY}/pipe.ipynb"):
        assert said.count(f"warning: 'runs/{name}' is left out: ") == 1
        assert not (html / "runs" / name).with_suffix(".html").exists()
    assert said.count("is left out") == len(UNREADABLE) + 1
    assert (html / "runs" / STUDY / "wide.html").exists()


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def addresses(tree):
    """What a browser fetches to show a page."""
    tags = [
        *tree.find_all(["script", "img", "iframe", "source"], src=True),
        *tree.find_all("link", href=True),
    ]
    return [tag.get("src") or tag["href"] for tag in tags]


def test_every_study_is_in_the_table_of_contents_with_its_runs():
    chapters = {
        entry["file"]: entry
        for part in TOC["parts"]
        for entry in part["chapters"]
        if "file" in entry
    }
    listed = {
        name.removeprefix("studies/")
        for name in chapters
        if name.startswith("studies/")
    }
    assert listed == {path.stem for path in (ROOT / "book" / "studies").glob("*.json")}
    for study in listed:
        assert {"glob": f"runs/{study}/*"} in chapters[f"studies/{study}"]["sections"]


def pages(html):
    """The book's pages; templates that the theme leaves among its static files are
    none.
    """
    found = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    assert len(found) > 10
    return found


def test_no_page_needs_the_network(html):
    for path in pages(html):
        remote = [link for link in addresses(read(path)) if urlsplit(link).netloc]
        assert remote == [], f"{path.name} fetches {remote}"
        assert "THEBE_JS_URL" not in path.read_text(encoding="utf-8")


def test_style_sheets_fetch_nothing_from_elsewhere(html):
    for path in html.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert "url(http" not in text.replace('"', "").replace("'", ""), path
        assert '@import "http' not in text, path


def test_every_local_link_leads_to_a_page_and_a_place_on_it(html):
    trees = {path: read(path) for path in pages(html)}
    places = {
        path.resolve(): {tag["id"] for tag in tree.find_all(id=True)}
        for path, tree in trees.items()
    }
    for path, tree in trees.items():
        for link in [
            *addresses(tree),
            *(tag["href"] for tag in tree.find_all("a", href=True)),
        ]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (
                (path.parent / unquote(parts.path)).resolve()
                if parts.path
                else path.resolve()
            )
            assert target.exists(), f"{path.name} links to {link}"
            if parts.fragment and target in places:
                assert unquote(parts.fragment) in places[target], (
                    f"{path.name} links to {link}"
                )


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "book" / "studies").glob("*.ipynb")),
    ids=lambda path: path.stem,
)
def test_on_committed_pages_every_verdict_is_where_the_scoreboard_links(path):
    outputs = [
        output
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    shown = "\n".join(
        output.data.get("text/html", "") for output in outputs if "data" in output
    )
    places = [
        tag["id"]
        for tag in BeautifulSoup(shown, "html.parser").select("[id^=verdict-]")
    ]
    claims = records.load(path.with_suffix(".json")).claims
    assert {f"verdict-{each.id.lower()}" for each in claims} <= set(places)
    assert len(places) == len(set(places))


def test_formulas_are_drawn_by_the_books_own_copy(html):
    tree = read(html / "studies" / f"{STUDY}.html")
    (script,) = [link for link in addresses(tree) if "mathjax" in link]
    assert (html / "studies" / script.split("?")[0]).stat().st_size > 1_000_000
    assert tree.select("div.math")
    assert tree.select(".pm-tabular figcaption .math")


def test_every_picture_has_words(html):
    for path in pages(html):
        tree = read(path)
        for image in tree.select("article img"):
            assert image.get("alt", "").strip(), (
                f"{path.name}: {image.get('src', '')[:60]}"
            )
        for drawing in tree.select("figure > svg"):
            assert drawing["role"] == "img" and drawing["aria-label"].strip()


def test_formulas_load_mathjax_and_pages_without_them_do_not(html):
    for name, needed in [("notation", True), ("index", False), ("faults", False)]:
        scripts = " ".join(addresses(read(html / f"{name}.html")))
        assert ("mathjax" in scripts) == needed, name
        assert "book.js" in scripts and "fontawesome.js" not in scripts


def test_the_first_use_of_a_term_links_to_its_meaning(html):
    terms = {tag["id"] for tag in read(html / "notation.html").select("dt[id]")}
    assert len(terms) >= 60
    tree = read(html / "studies" / f"{STUDY}.html")
    (link,) = [each for each in tree.select("a.pm-term") if "masking" in each.text]
    assert link["href"] == "../notation.html#term-gradient-masking"
    assert link["data-tip"].startswith("A network looks robust because")
    for name in ("index", "how-to-read", f"studies/{STUDY}"):
        links = [a["href"] for a in read(html / f"{name}.html").select("a.pm-term")]
        anchors = [address.partition("#")[2] for address in links]
        assert set(anchors) <= terms
    assert not read(html / "notation.html").select("a.pm-term")


def test_every_fold_has_a_name_and_something_in_it(html):
    folds = read(html / "index.html").select("nav.bd-links details")
    assert folds
    for fold in folds:
        assert fold.summary.get("aria-label") or fold.summary.text.strip()
        assert fold.select("li")


def test_every_page_has_one_heading(html):
    for name in (
        "index",
        "how-to-read",
        "how-to-rerun",
        "notation",
        "scoreboard",
        "sweeps",
        "reproduce",
        "faults",
        "bibliography",
        f"studies/{STUDY}",
    ):
        assert len(read(html / f"{name}.html").select("article h1")) == 1, name


def test_the_front_page_links_the_studies_that_exist_and_no_other(html):
    cards = read(html / "index.html").select(".pm-card")
    assert len(cards) == len(studies.names())
    linked = [card.a["href"] for card in cards if card.a]
    # Cards stand in the papers' order.
    assert sorted(linked) == [f"studies/{study}.html" for study in studies.names()]
    waiting = [card for card in cards if "In preparation" in card.text]
    assert len(waiting) == len(cards) - len(linked)


def test_the_scoreboard_has_every_claim_of_every_readable_run(html):
    board = read(html / "scoreboard.html")
    for name, verdict in VERDICTS.items():
        item = board.find(id=f"{STUDY}-{name.lower()}")
        assert "reference: 0.8 [0.7, 0.9]" in item.text
        assert "clean accuracy" in item.text
        assert item.select_one(".pm-badge").text.endswith(f" {verdict}")
        assert [link["href"] for link in item.find_all("a")] == [
            f"studies/{STUDY}.html#verdict-{name.lower()}",
            f"runs/{STUDY}/wide.html#verdict-{name.lower()}",
        ]
        assert "<b>" in item.text


def test_the_scoreboard_can_be_taken_along(html):
    lines = pd.read_csv(html / "claims.csv")
    judging = [study for study in studies.names() if studies.get(study).CLAIMS]
    assert set(judging) <= set(lines["study"])
    assert list(lines[lines["study"] == STUDY]["claim"]) == list(VERDICTS)
    content = json.loads((html / "claims.json").read_text(encoding="utf-8"))
    assert [entry["evidence"] for entry in content] == list(lines["evidence"])
    assert (
        (html / "claims-rows.csv")
        .read_text(encoding="utf-8")
        .startswith("study,run,claim,name")
    )


def test_a_damaged_record_is_said_and_stops_nothing(html):
    problems = read(html / "scoreboard.html").select(".pm-problem")
    assert any("torn.json is damaged" in problem.text for problem in problems)
    assert "This page is damaged" in read(html / "runs" / STUDY / "torn.html").text


def test_a_run_page_says_which_run_it_is(html):
    tree = read(html / "runs" / STUDY / "wide.html")
    note = tree.select_one(".pm-run")
    assert "epsilon = 0.2" in note.text
    assert note.a["href"] == f"../../studies/{STUDY}.html"
    entries = [" ".join(link.text.split()) for link in tree.select("nav.bd-links a")]
    assert "Run: wide" in entries


def test_the_books_own_pages_show_what_the_records_and_measured_files_say(html):
    times = read(html / "reproduce.html").find("table", class_="pm-table").text
    assert "python 3" in times
    text = read(html / "reproduce.html").text
    for study in studies.names():
        assert f"{study} (reference" in text
    assert "0123456789ab" in text
    for name in fetch.HOLDINGS:
        assert name in text
    assert "MIAS licence: research only" in text
    assert f"robustbook run {STUDY} -r reference --force" in text
    assert "77" in read(html / "faults.html").find("table", class_="pm-table").text
    assert "1.95" in read(html / "sweeps.html").select("table.pm-table")[0].text


def test_only_repetitions_of_the_present_runs_are_shown(html):
    tree = read(html / "reproduce.html")
    (table,) = [
        table.text
        for table in tree.select("table.pm-table")
        if "Beyond tolerance" in table.text
    ]
    assert "321" in table and "320" in table and "2 of 30" in table and "2 + 4" in table
    assert not [number for number in ("875", "876", "877") if number in table]
    assert (
        f"is not here: bnn_attacks reference, {STUDY} quick, synthesis reference."
        in tree.text
    )


def test_the_page_of_speed_shows_ratios_limits_and_growth(html):
    tree = read(html / "speed.html")
    ratios, agreements, limits, growth = (
        table.text for table in tree.select("table.pm-table")[:4]
    )
    assert "PGD / peer" in ratios and "0.75–0.85" in ratios and "0.900" in ratios
    assert "largest difference 1e-7" in agreements
    assert "oracle" in limits and "7.1" in limits
    assert "10 to 1,000" in growth and "0.97–1.03" in growth
    captions = " ".join(caption.text for caption in tree.select("figcaption, caption"))
    assert "Our time over a peer library's" in captions
    assert "In 1 of 1 comparisons ours is the faster one" in tree.text
    assert "96.9% for 6" in captions


def test_the_page_of_a_sweep_stands_below_its_study_with_its_table(html):
    tree = read(html / "runs" / STUDY / "sweep-eps.html")
    assert tree.select_one("article h1").text.startswith("Sweep: eps")
    assert not tree.select(".pm-run")
    assert len(tree.select("figure.pm-figure svg[aria-label]")) == 1
    entries = [" ".join(link.text.split()) for link in tree.select("nav.bd-links a")]
    assert "Sweep: eps" in entries
    tables = [link["href"] for link in tree.select("article a.download")]
    assert sorted(name.rpartition(".")[2] for name in tables) == ["csv", "parquet"]
    table = pd.read_csv((html / "runs" / STUDY / tables[0]).resolve())
    assert list(table["parameter.epsilon"]) == [0.1, 0.1, 0.2, 0.2]


def test_a_page_whose_sources_changed_says_so(html):
    assert "This page is stale" in read(html / "studies" / f"{STUDY}.html").text


def test_solutions_are_folded_away(html):
    cell = read(html / "studies" / f"{STUDY}.html").select_one(".tag_solution")
    assert "Show the solution" in cell.details.summary.text
    assert cell.details.select_one(".pm-solved")
    assert not cell.details.has_attr("open")


def test_every_parameter_is_explained(html):
    text = read(html / "how-to-rerun.html").text
    for study in studies.names():
        for name, field in studies.get(study).Parameters.model_fields.items():
            assert name in text
            assert (
                " ".join(
                    field.description.replace("`", "").replace("$", "").split()[:2]
                )
                in text
            )


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "book" / "studies").glob("*.ipynb")),
    ids=lambda path: path.stem,
)
def test_on_committed_pages_solutions_pass_and_stubs_do_not(path):
    found = exercises.outcomes(nbformat.read(path, as_version=4))
    assert len(found) >= 4
    assert set(found.values()) == {(False, True)}


@pytest.mark.parametrize(
    "study", sorted(path.stem for path in (ROOT / "book" / "studies").glob("*.json"))
)
def test_notebooks_have_four_exercises(study):
    assert len(exercises.cells(ROOT / "notebooks" / f"{study}.py")) >= 4


def test_corrections_name_claims_and_verdicts_that_exist():
    text = (ROOT / "book" / "corrections.md").read_text(encoding="utf-8")
    entries = [
        entry
        for block in re.findall(r"```{corrections}\n(.*?)```", text, re.DOTALL)
        for entry in yaml.safe_load(block)
    ]
    assert entries
    for entry in entries:
        declared = {claim.id for claim in studies.get(entry["study"]).CLAIMS}
        assert entry["new"] and set(entry["new"]) <= declared
        assert entry["was"] in page.BADGES
        assert all(entry[name].strip() for name in ("statement", "old", "fault"))


def test_the_page_of_corrections_shows_the_verdict_that_a_record_has_now(html):
    box = read(html / "corrections.html").select_one("#loss_metric-y1")
    then, now = box.select(".pm-counts > span")
    assert then.select_one(".pm-badge").text.split(maxsplit=1)[1] == "reproduced"
    (record,) = [
        claim
        for claim in records.load(html.parents[1] / f"studies/{STUDY}.json").claims
        if claim.id == "Y1"
    ]
    assert now.select_one(".pm-badge").text.split(maxsplit=1)[1] == record.verdict
    assert now.a["href"].endswith(f"studies/{STUDY}.html#verdict-y1")
