"""A run from notebook to published page: what is published, that it repeats, and that
nothing half-done ever is.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from run_helpers import COMMAND, contents, edit, wait_until

from robustbook.data import store
from robustbook.errors import BusyError, RunFailedError, UserError
from robustbook.run import (
    clean,
    execute,
    memory,
    notebook,
    provenance,
    publish,
    records,
    runner,
    side_by_side,
    status,
)
from robustbook.run.finishing import data_digests
from robustbook.run.project import Project, RunId

QUICK = RunId("tiny", "quick")
WIDE = RunId("tiny", "wide")


def perform(project, run, overrides=None, **options):
    return runner.perform(
        project, run, overrides or {}, execute.SilentReporter(), **options
    )


def page_of(project, run):
    return json.loads(project.page(run).read_text())


def shown(project, run):
    return json.dumps(
        [cell.get("outputs", []) for cell in page_of(project, run)["cells"]]
    )


def test_the_same_run_twice_gives_the_same_page_and_record(ran, project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.root))
    assert perform(project, QUICK) == "ran"
    assert project.page(QUICK).read_bytes() == ran.page(QUICK).read_bytes()
    ours, theirs = records.load(project.record(QUICK)), records.load(ran.record(QUICK))
    assert ours.without_timing() == theirs.without_timing()
    assert ours.timing.keys() == {"draw_seconds", "peak_memory_bytes", "run_seconds"}


def test_a_page_shows_nothing_that_changes_from_run_to_run(ran):
    page = page_of(ran, QUICK)
    assert [cell["id"] for cell in page["cells"]] == [
        f"cell-{index}" for index in range(len(page["cells"]))
    ]
    counts = [
        cell["execution_count"] for cell in page["cells"] if cell["cell_type"] == "code"
    ]
    assert counts == list(range(1, len(counts) + 1))
    assert page["metadata"].keys() == {"kernelspec", "language_info"}
    assert {key for cell in page["cells"] for key in cell["metadata"]} <= {"tags"}
    assert "some text" not in shown(ran, QUICK)
    assert "python: python" in shown(ran, QUICK)
    assert str(ran.root) not in ran.page(QUICK).read_text()
    assert "<project>/notebooks" in shown(ran, QUICK)
    assert not re.search("0x[0-9a-f]{6}", shown(ran, QUICK))


def test_the_record_belongs_to_the_page_and_says_what_it_came_from(ran):
    record = records.load(ran.record(QUICK))
    assert record.page_digest == records.sha256(ran.page(QUICK).read_bytes())
    assert [claim.verdict for claim in record.claims] == ["reproduced"]
    assert "studies/tiny.py" in record.provenance.sources
    assert "results.py" in record.provenance.sources
    assert not [
        name
        for name in record.provenance.sources
        if name.startswith(("run/", "page", "plots", "cli"))
    ]
    assert not list((ran.work / "staging").iterdir())


def test_a_run_with_parameters_is_a_page_of_its_own(project):
    assert (
        perform(
            project, WIDE, {"steps": 4, "budgets": [0.3], "limit": None, "note": "it's"}
        )
        == "ran"
    )
    record = records.load(project.record(WIDE))
    assert (
        record.parameters["steps"],
        record.parameters["note"],
        record.parameters["epsilon"],
    ) == (4, "it's", 0.1)
    assert record.overrides == {
        "steps": 4,
        "budgets": [0.3],
        "limit": None,
        "note": "it's",
    }
    assert [metric.factors for metric in record.metrics if metric.name == "share"] == [
        {"budget": 0.3}
    ]
    cells = page_of(project, WIDE)["cells"]
    injected = [
        cell
        for cell in cells
        if "injected-parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(injected) == 1
    assert "hide-input" in injected[0]["metadata"]["tags"]
    title = "".join(cells[0]["source"])
    for place in (
        "(tiny-tiny-wide)=",
        "{ref}`tiny-tiny-wide`",
        "{eq}`mean-tiny-wide`",
        "$$ (mean-tiny-wide)",
    ):
        assert place in title
    assert status.of(project, WIDE).state == "fresh"
    assert perform(project, WIDE, record.overrides) == "was fresh"


def test_a_kernel_is_this_interpreter_whatever_is_installed(
    project, tmp_path, monkeypatch
):
    wrong = tmp_path / "jupyter" / "kernels" / "python3"
    wrong.mkdir(parents=True)
    (wrong / "kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "Wrong", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert perform(project, QUICK) == "ran"


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        (
            "raise",
            RunFailedError,
            [
                'section "Results", cell 8 of 11',
                "    print(",
                "ValueError: the sky fell",
            ],
        ),
        ("user_error", UserError, ["MNIST is not here: robustbook data get mnist"]),
        ("path", RunFailedError, ['section "Results"', "/usr/share/secret"]),
        (
            "die",
            RunFailedError,
            ['section "Results", cell 8 of 11', "the kernel was lost"],
        ),
    ],
)
def test_a_failed_run_says_where_and_publishes_nothing(ran, what, error, said):
    before = contents(ran)
    with pytest.raises(error) as caught:
        perform(ran, QUICK, {"what": what})
    assert all(part in str(caught.value) for part in said)
    assert contents(ran) == before
    assert not list((ran.work / "staging").iterdir())
    assert "some text" in ran.log(QUICK).read_text() or what == "die"


def test_a_killed_run_leaves_all_as_it_was_and_the_same_command_then_succeeds(ran):
    before = contents(ran)
    command = [*COMMAND, "run", "tiny", "--name", "wide", "-p", "what", "wait"]
    running = subprocess.Popen(command, cwd=ran.root, stdout=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: (ran.root / "waited").exists() and (ran.root / "waited").read_text()
        )
        with pytest.raises(BusyError, match=f"process {running.pid}"):
            perform(ran, WIDE)
        assert publish.recover(ran) == []
        assert (ran.work / "staging" / "tiny.wide.tmp").exists()
    finally:
        running.kill()
        running.wait()
    assert contents(ran) == before
    kernel = int((ran.root / "waited").read_text().split()[0])
    done = subprocess.run(
        command, cwd=ran.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert status.of(ran, WIDE).state == "fresh"
    assert not list((ran.work / "staging").iterdir())
    wait_until(lambda: not alive(kernel))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_ends_its_kernel_and_publishes_nothing(project, number):
    command = [*COMMAND, "run", "tiny", "-p", "what", "wait"]
    # Started from a background job these tests inherit an ignored SIGINT, which a
    # program rightly leaves ignored.
    running = subprocess.Popen(
        command,
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(
        lambda: (
            (project.root / "waited").exists() and (project.root / "waited").read_text()
        )
    )
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.strip().endswith("stopped: nothing half-done was published")
    assert "Traceback" not in said
    assert contents(project) == {}
    assert not list((project.work / "staging").iterdir())
    kernel, helper = (project.root / "waited").read_text().split()
    wait_until(lambda: not alive(int(kernel)) and not alive(int(helper)))


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and ") Z " in state.read_text())


def test_an_output_folder_that_cannot_be_written_stops_a_run_before_it_starts(
    project, monkeypatch
):
    (project.root / "book").mkdir()
    (project.root / "book" / "runs").write_text("in the way")
    monkeypatch.setattr(runner, "compute", None)
    with pytest.raises(
        UserError, match=r"cannot write to book/runs/tiny \(.*\): nothing was started"
    ):
        perform(project, QUICK)


def test_a_read_only_folder_is_told_by_its_reason(project, monkeypatch):
    def refuse(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(publish.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match="Read-only file system"):
        publish.check_writable(project, QUICK)


def staged(project: Project, suffix: str, *names: str) -> Path:
    folder = project.work / "staging" / f"tiny.wide{suffix}"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"new {name}")
    return folder


@pytest.mark.parametrize(
    "left", [(publish.PAGE, publish.RECORD), (publish.RECORD,), ()]
)
def test_recovery_completes_what_was_committed(project, left):
    ready = staged(project, ".ready", *left)
    assert publish.recover(project) == [WIDE]
    assert not ready.exists()
    assert set(contents(project)) == {
        *(["book/runs/tiny/wide.ipynb"] if publish.PAGE in left else []),
        *(["book/runs/tiny/wide.json"] if publish.RECORD in left else []),
    }
    assert publish.recover(project) == []


def test_recovery_throws_away_what_was_not_committed_and_leaves_the_living_alone(
    project,
):
    unfinished = staged(project, ".tmp", publish.PAGE)
    with publish.locked(project, WIDE):
        assert publish.recover(project) == []
        assert unfinished.exists()
    assert publish.recover(project) == []
    assert not unfinished.exists()
    assert contents(project) == {}


def test_a_commit_that_is_cut_off_is_completed_by_the_next_command(
    project, monkeypatch
):
    monkeypatch.setattr(
        publish, "_complete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with (
        publish.locked(project, WIDE),
        pytest.raises(KeyboardInterrupt),
        publish.staging(project, WIDE) as folder,
    ):
        publish.publish(project, WIDE, folder, b"page", b"record")
    assert contents(project) == {}
    monkeypatch.undo()
    publish.recover(project)
    assert contents(project) == {
        "book/runs/tiny/wide.ipynb": b"page",
        "book/runs/tiny/wide.json": b"record",
    }


def test_files_are_moved_across_file_systems_too(project, monkeypatch):
    replace = os.replace

    def across(source, target):
        if ".robustbook" in str(source):
            raise OSError(18, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(publish.os, "replace", across)
    with publish.locked(project, WIDE), publish.staging(project, WIDE) as folder:
        publish.publish(project, WIDE, folder, b"page", b"record")
    assert contents(project) == {
        "book/runs/tiny/wide.ipynb": b"page",
        "book/runs/tiny/wide.json": b"record",
    }


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("steps: int = 3", "stepz: int = 3", "steps, stepz"),
        ("steps: int = 3", "steps: int = 4", "steps"),
        ("(0.05, 0.1)  #", "(0.05, 0.2)  #", "budgets"),
    ],
)
def test_a_notebook_that_disagrees_with_its_model_is_refused(project, old, new, named):
    edit(project.notebook("tiny"), old, new)
    with pytest.raises(UserError, match=f"differ in {named}$"):
        perform(project, QUICK)


def test_a_parameters_cell_that_computes_is_refused(project):
    edit(project.notebook("tiny"), "steps: int = 3", "steps = 3")
    with pytest.raises(
        UserError, match="holds 'name: type = literal' only, got 'steps = 3'"
    ):
        perform(project, QUICK)


def test_a_notebook_without_a_record_is_refused(project):
    edit(
        project.notebook("tiny"),
        'record = finish("tiny", parameters, results',
        "record = None and (results",
    )
    edit(
        project.notebook("tiny"),
        ', data=[], timing={"draw_seconds": seconds})\nprint(record.provenance.hash)',
        ")",
    )
    with pytest.raises(RunFailedError, match="wrote no record"):
        perform(project, QUICK)


def test_finish_writes_nothing_in_plain_jupyter(project, monkeypatch):
    from robustbook.results import Results
    from robustbook.run import finish
    from robustbook.studies import get

    monkeypatch.delenv("ROBUSTBOOK_RECORD", raising=False)
    before = sorted(project.root.rglob("*"))
    results = Results()
    results.add("mean", 0.7)
    record = finish("tiny", get("tiny").Parameters(), results)
    assert (record.claims[0].verdict, record.claims[0].evidence) == (
        "not reproduced",
        "mean 0.700",
    )
    assert sorted(project.root.rglob("*")) == before


def test_two_splits_of_one_set_are_both_recorded() -> None:
    train, test = store.load("digits", "train"), store.load("digits", "test")
    assert data_digests([train, test]) == {
        f"{train.title}, train": train.digest,
        f"{test.title}, test": test.digest,
    }
    assert data_digests([test, test]) == {test.title: test.digest}


def test_a_cells_progress_reaches_the_reporter_and_not_the_page(tmp_path):
    """What a cell says of how far it is; a warning beside it is not progress."""
    told = []

    class Listening(execute.SilentReporter):
        def piece(self, line):
            told.append(line)

    cell = (
        "import sys\nfor done in (1, 2):\n    print(f'\\rmaps: {done} of 2', "
        "end='', file=sys.stderr, flush=True)\n"
    )
    quiet = "print('a warning', file=sys.stderr)\nprint('shown')"
    node = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (cell, quiet)]
    )
    execute.execute(
        node,
        folder=tmp_path,
        environment={},
        log=tmp_path / "log",
        progress=Listening(),
    )
    assert told[-1] == "maps: 2 of 2"
    assert all(line.startswith("maps: ") for line in told)
    page = clean.clean(node, QUICK, tmp_path)
    assert [output["name"] for cell in page.cells for output in cell.outputs] == [
        "stdout"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not fork safely")
def test_workers_are_forks_of_the_kernel_and_what_they_print_is_caught_with_the_rest(
    tmp_path, monkeypatch
):
    monkeypatch.delenv(
        "PYTEST_CURRENT_TEST"
    )  # with it kernels leave the output of other processes alone
    cell = (
        "import os, psutil\nfrom functools import partial\nfrom robustbook.workers "
        "import map_in_workers\nmap_in_workers(partial(os.write, 2), [b'said ', b'by "
        "two'])\nkernel = psutil.Process()\nprint([child.cmdline() == kernel.cmdline() "
        "for child in kernel.children()])"
    )
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    execute.execute(
        node,
        folder=tmp_path,
        environment={"ROBUSTBOOK_WORKERS": "2"},
        log=tmp_path / "log",
        progress=execute.SilentReporter(),
        launcher="robustbook.run.kernel",
    )
    log = (tmp_path / "log").read_text()
    assert "[True, True]" in log
    assert log.count("by two") == 2, "once in the source, once said"


def test_only_a_study_with_work_in_pieces_gets_a_kernel_with_workers():
    def launcher(cell):
        return runner._launcher(provenance.of_cells("tiny", [cell]))

    assert launcher("import robustbook") == "ipykernel_launcher"
    assert launcher("from robustbook import workers") == "robustbook.run.kernel"


def test_memory_is_that_of_a_process_and_those_below_it(monkeypatch):
    monkeypatch.setattr(memory, "INTERVAL", 0.01)
    alone = memory.held()
    code = "x = bytearray(200_000_000); print(flush=True); input()"
    with (
        memory.watched() as watch,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
    ):
        child.stdout.readline()
        assert memory.held() - alone > 150e6
        wait_until(lambda: watch.peak - alone > 150e6)
        child.communicate(b"\n")


class Terminal(io.StringIO):
    """Standard error as a terminal, which keeps all that was ever shown on it."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """To be put in the place of standard error by the test itself: pytest sets that
    again before a test begins.
    """
    for name, value in {"TERM": "xterm", "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


ERASED = "\x1b[2K"


def test_on_a_terminal_one_line_says_how_far_a_run_is_and_is_gone_in_the_end(
    terminal, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "stderr", terminal)
    told = execute.reporter("tiny quick")
    told.cell(3, 11, "Results")
    told.progress.refresh()
    assert re.search(
        r"tiny quick.*3/11.*0:00:0\d.*Results",
        execute._COLOUR.sub("", terminal.getvalue()),
    )
    told.piece("maps: 1 of 2")
    told.close()
    shown = terminal.getvalue()
    assert "Results (maps: 1 of 2)" in execute._COLOUR.sub("", shown)
    assert shown.rfind(ERASED) > shown.rfind("maps")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_one_line_says_how_far_a_sweep_is_and_is_gone_in_the_end(
    terminal, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "stderr", terminal)
    told = side_by_side.progress("sweep eps")
    told.tell(2, 5)
    told.close()
    shown = terminal.getvalue()
    assert re.search(r"sweep eps.*2/5", execute._COLOUR.sub("", shown))
    assert shown.rfind(ERASED) > shown.rfind("eps")
    assert capsys.readouterr().out == ""


def test_a_log_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    told = execute.reporter("tiny quick")
    for section in ("Set-up", "Results", "Results"):
        told.cell(3, 11, section)
    assert [
        line.rpartition(", ")[2] for line in capsys.readouterr().out.splitlines()
    ] == ["Set-up", "Results"]


def test_a_notebook_opened_in_jupyter_finishes_as_the_quick_run_and_publishes_nothing(
    ran, monkeypatch
):
    for name in [
        name
        for name in os.environ
        if name.startswith("ROBUSTBOOK_") and name != "ROBUSTBOOK_CACHE"
    ]:
        monkeypatch.delenv(name)
    before = contents(ran)
    node = notebook.read(ran.notebook("tiny"))
    log = ran.root / "log"
    execute.execute(
        node,
        folder=ran.notebooks,
        environment={},
        log=log,
        progress=execute.SilentReporter(),
    )
    assert contents(ran) == before
    (by_hand,) = re.findall(r"^\[stdout\] ([0-9a-f]{64})$", log.read_text(), re.M)
    # Its cells may have been edited, so the hash does not cover them.
    assert by_hand != records.load(ran.record(QUICK)).provenance.hash
