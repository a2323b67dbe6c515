"""The Snakefile: quick runs are asked for when something they are made of changed, and
a failed one harms nothing.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_helpers import COMMAND, contents, edit, wait_until

from robustbook import cli
from robustbook.run import status
from robustbook.run.project import RunId

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
PAGE = "book/runs/tiny/quick.ipynb"


@pytest.fixture
def snakemake(project):
    shutil.copy(SNAKEFILE, project.root)
    module = project.root / "src" / "robustbook" / "measure" / "psi.py"
    module.parent.mkdir(parents=True)
    module.write_text("")

    def call(*words):
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "1",
            "--quiet",
            "all",
            "--nolock",
            *words,
        ]
        return subprocess.run(
            command, cwd=project.root, capture_output=True, text=True, check=False
        )

    return call


def test_a_quick_run_is_made_once_and_asked_for_again_when_its_inputs_change(
    project, snakemake
):
    assert snakemake(PAGE).returncode == 0
    assert status.of(project, RunId("tiny", "quick")).state == "fresh"
    first = contents(project)

    log = project.log(RunId("tiny", "quick"))
    before = log.stat().st_mtime_ns
    assert "rule quick" not in snakemake(PAGE, "--dry-run", "--quiet", "host").stdout

    edit(project.notebook("tiny"), "Does it run?", "Does it walk?")
    assert "rule quick" in snakemake(PAGE, "--dry-run", "--quiet", "host").stdout
    assert snakemake(PAGE).returncode == 0
    assert b"Does it walk?" in contents(project)[PAGE]
    assert log.stat().st_mtime_ns == before, "new text must not run the notebook"
    assert "rule quick" not in snakemake(PAGE, "--dry-run", "--quiet", "host").stdout

    edit(
        project.notebook("tiny"),
        "results = Results(rows=study.ROWS)",
        "raise ValueError('the sky fell')",
    )
    second = contents(project)
    failed = snakemake(PAGE)
    assert failed.returncode != 0
    assert "the sky fell" in failed.stdout + failed.stderr
    assert contents(project) == second != first


def test_a_second_book_runs_no_notebook(project, snakemake, capfd):
    """With a program that does nothing in the place of jupyter-book."""
    edit(
        project.root / "Snakefile",
        'Path(sys.executable).with_name("jupyter-book")',
        '"true"',
    )
    (project.root / "_toc.yml").touch()
    assert cli.main(["book", "--cores", "1"]) == 0
    log, first = project.log(RunId("tiny", "quick")), contents(project)
    assert PAGE in first
    before = log.stat().st_mtime_ns
    assert cli.main(["book", "--cores", "1"]) == 0
    (project.root / "_toc.yml").write_text("# new\n")
    assert cli.main(["book", "--cores", "1"]) == 0
    assert log.stat().st_mtime_ns == before
    assert contents(project) == first
    assert capfd.readouterr().out.count("index.html") == 3


def test_a_book_that_was_killed_is_finished_by_the_same_command(project, snakemake):
    """The killed command's run goes on; a program that renders says whether it was
    alone.
    """
    edit(
        project.root / "Snakefile",
        'Path(sys.executable).with_name("jupyter-book")',
        '"./alone"',
    )
    (project.root / "_toc.yml").touch()
    alone = project.root / "alone"
    alone.write_text("#!/bin/sh\nmkdir busy && sleep 0.2 && rmdir busy\n")
    alone.chmod(0o755)
    book = [*COMMAND, "book", "--cores", "1"]
    first = subprocess.Popen(book, cwd=project.root, stderr=subprocess.DEVNULL)
    wait_until((project.work / "locks" / "tiny.quick.pid").exists)
    first.kill()
    first.wait()
    again = subprocess.run(
        book, cwd=project.root, capture_output=True, text=True, check=False
    )
    # It waits for the run or for the rendering of the killed one, or finds both done.
    assert again.returncode == 0, again.stderr
    assert status.of(project, RunId("tiny", "quick")).state == "fresh"
    assert (project.root / "book/_build/html/.rendered").exists()


def test_two_renderings_never_write_at_once(project):
    """The first one's command goes on when the command line is killed."""
    words = "mkdir busy && while [ ! -e go ]; do sleep 0.02; done; rmdir busy"
    first = subprocess.Popen(
        [*COMMAND, "render", "--", "sh", "-c", words], cwd=project.root
    )
    wait_until((project.root / "busy").exists)
    first.kill()
    first.wait()
    second = subprocess.Popen(
        [*COMMAND, "render", "mkdir", "busy"],
        cwd=project.root,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "rendering the book is going on" in second.stderr.readline()
    (project.root / "go").touch()
    assert second.wait(30) == 0
    second.stderr.close()


def test_the_book_depends_on_what_it_is_made_of(project, snakemake):
    (project.root / "_toc.yml").touch()
    (project.root / "book" / "studies").mkdir(parents=True)
    (project.root / "book" / "index.md").touch()
    reference = project.root / "book" / "studies" / "tiny.ipynb"
    reference.touch()
    plan = snakemake("html", "--dry-run", "--quiet", "host").stdout
    inputs = {
        name.strip()
        for line in plan.splitlines()
        if "input:" in line
        for name in line.split(":")[1].split(",")
    }
    assert {
        *("_config.yml", "_toc.yml", "book/index.md", "book/studies/tiny.ipynb", PAGE),
        *(
            "book/runs/tiny/quick.json",
            "src/robustbook/measure/psi.py",
            "notebooks/tiny.py",
        ),
    } <= inputs
    assert not [name for name in inputs if "_build" in name]
    assert PAGE not in contents(project), "a dry run runs nothing"
