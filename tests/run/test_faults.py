"""Faults: kills, full disks, damaged files, two processes at once, old records, hostile
input, senseless commands.

Nothing half-written is ever published, nothing damaged is used, no input is run as
code, and the same command then finishes. `make faults` makes twenty kills of each kind
and writes the counts for the book.
"""

import ast
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from fault_counts import KILLS, count
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_helpers import COMMAND, contents, wait_until
from test_records import make_record

from robustbook import cli, fetch
from robustbook.data import store
from robustbook.errors import UserError
from robustbook.run import (
    execute,
    notebook,
    parameters,
    publish,
    records,
    runner,
    side_by_side,
    status,
    sweep,
)
from robustbook.run.project import Project, RunId
from robustbook.studies import get

SNAKEFILE = Path(__file__).parents[2] / "Snakefile"
WIDE = RunId("tiny", "wide")
RUN = ["run", "tiny", "-p", "epsilon", "0.4", "--name", "wide"]
SWEEP = ["sweep", "tiny", "-p", "steps", "2,3,4", "--name", "s", "--workers", "2"]


# Kills
# --------------------------------------------------------------------------------------


def start(project: Project, words: list[str]) -> psutil.Popen:
    return psutil.Popen(
        [*COMMAND, *words],
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(running: psutil.Popen, whole: bool) -> bool:
    """SIGKILL to a command, with all that it started if `whole`; whether it was still
    running.
    """
    try:
        below = running.children(recursive=True) if whole else []
        alive = running.is_running() and running.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        below, alive = [], False
    for process in [running, *below]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    running.wait()
    return alive


def without_timing(content: bytes) -> dict[str, object]:
    """A record's content but for measured seconds."""
    return {key: value for key, value in json.loads(content).items() if key != "timing"}


def left_over(project: Project) -> list[psutil.Process]:
    """Processes that work in the project's folders."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if (
                Path(process.cwd()).is_relative_to(project.root)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def test_a_run_killed_at_random_moments_publishes_all_or_nothing_and_then_finishes(
    project,
):
    chance = random.Random(1)
    assert cli.main(["run", "tiny", "--name", "wide"]) == 0
    old = contents(project)
    begun = time.monotonic()
    assert cli.main(RUN) == 0
    seconds, new = time.monotonic() - begun, contents(project)
    page, record = "book/runs/tiny/wide.ipynb", "book/runs/tiny/wide.json"
    kills = 0
    while kills < KILLS:
        for name, content in old.items():
            (project.root / name).write_bytes(content)
        running = start(project, RUN)
        time.sleep(chance.uniform(0.0, seconds))
        kills += kill(running, whole=bool(kills % 2))
        found = contents(project)
        assert found.keys() == old.keys()
        assert found[page] in (old[page], new[page])
        assert without_timing(found[record]) in (
            without_timing(old[record]),
            without_timing(new[record]),
        )
        publish.recover(project)
        assert status.of(project, WIDE).state == "fresh"
    assert cli.main(RUN) == 0
    assert contents(project)[page] == new[page]
    assert without_timing(contents(project)[record]) == without_timing(new[record])
    assert not [
        path for path in (project.work / "staging").iterdir() if path.suffix == ".tmp"
    ]
    count(
        "run killed (kill -9) at a random moment",
        kills,
        kills,
        "page and record whole each time; the same command finished",
    )


def test_a_sweep_killed_at_random_moments_goes_on_where_it_was(project):
    shutil.copy(SNAKEFILE, project.root)
    chance = random.Random(2)
    begun = time.monotonic()
    assert cli.main(SWEEP) == 0
    seconds, whole = time.monotonic() - begun, contents(project)
    folder = project.work / "sweeps" / "tiny.s"
    kills = repeated = 0
    done: dict[str, int] = {}
    while kills < KILLS:
        if not kills % 4:
            clear(project, folder)
            done = {}
        running = start(project, SWEEP)
        time.sleep(chance.uniform(0.0, seconds))
        kills += kill(running, whole=kills % 3 != 2)
        for path in folder.glob("runs/*.json"):
            assert records.load(path).page_digest == records.sha256(
                path.with_suffix(".ipynb").read_bytes()
            )
            repeated += (
                done.setdefault(path.name, path.stat().st_mtime_ns)
                != path.stat().st_mtime_ns
            )
        assert set(contents(project)) <= set(whole)
        assert all(
            content == whole[name] for name, content in contents(project).items()
        )
    assert cli.main(SWEEP) == 0
    repeated += sum(
        done[path.name] != path.stat().st_mtime_ns
        for path in folder.glob("runs/*.json")
        if path.name in done
    )
    assert contents(project) == whole
    assert repeated == 0, "a finished run was repeated"
    wait_until(lambda: not left_over(project))
    count(
        "sweep killed (kill -9) at a random moment",
        kills,
        kills,
        "no finished run was repeated; the same table in the end",
    )


def clear(project: Project, folder: Path) -> None:
    """Forget a sweep, its pages included, once nothing works on it any more."""
    wait_until(lambda: not left_over(project), 120)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(project.root / "book", ignore_errors=True)


# Full disks
# --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many kilobytes at a folder."""
    mounted = []

    def mount(folder: Path, kilobytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        words = [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={kilobytes}k",
            "tmpfs",
            str(folder),
        ]
        done = (
            subprocess.run(words, capture_output=True, text=True, check=False)
            if shutil.which("mount")
            else None
        )
        if done is None or done.returncode:
            pytest.skip(
                "no small file system can be mounted here: "
                f"{done.stderr.strip() if done else 'no mount'}"
            )
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("full", ["book/runs", ".robustbook"])
def test_a_full_disk_is_told_and_harms_nothing(project, small_disk, capsys, full):
    small_disk(project.root / full, 64)
    (project.root / full / "ballast").write_bytes(
        b"x" * (56_000 if full == "book/runs" else 50_000)
    )
    before = contents(project)
    assert cli.main(RUN) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert contents(project) == before
    (project.root / full / "ballast").unlink()
    subprocess.run(
        ["mount", "-o", "remount,size=8m", str(project.root / full)], check=True
    )
    assert cli.main(RUN) == 0
    assert status.of(project, WIDE).state == "fresh"
    assert not [path for path in project.root.glob("book/runs/tiny/.*")]
    count(
        "disk full (a tmpfs of 64 kB) under the book or the work folder",
        1,
        1,
        "told in one line; after making room the same command finished",
    )


# Damaged files
# --------------------------------------------------------------------------------------


def damaged(content: bytes, times: int, seed: int):
    """The content with one bit flipped or its end cut off, at random places."""
    chance = random.Random(seed)
    for index in range(times):
        place = chance.randrange(len(content))
        if index % 2:
            yield content[:place]
        else:
            yield (
                content[:place]
                + bytes([content[place] ^ 1 << chance.randrange(8)])
                + content[place + 1 :]
            )


def test_no_damaged_record_is_used(ran):
    path = ran.record(RunId("tiny", "quick"))
    content = path.read_bytes()
    sound = json.loads(content)
    timing, refused, made = 0, 0, 0
    for bad in damaged(content, 200, seed=3):
        if bad == content:
            continue
        made += 1
        path.write_bytes(bad)
        try:
            loaded = records.load(path)
        except UserError as error:
            refused += "damaged" in str(error) or "schema version" in str(error)
        else:
            assert {**json.loads(loaded.to_bytes()), "timing": 0} == {
                **sound,
                "timing": 0,
            }
            timing += 1
    assert refused + timing == made
    assert refused > 0.8 * made
    count(
        "record with a flipped bit or a cut end",
        made,
        made,
        f"{refused} refused; {timing} differ in measured seconds alone",
    )


def test_no_damaged_page_is_taken_for_fresh(ran):
    run = RunId("tiny", "quick")
    content = ran.page(run).read_bytes()
    states = []
    for bad in damaged(content, 40, seed=4):
        ran.page(run).write_bytes(bad)
        states.append(status.of(ran, run).state)
    assert set(states) == {"damaged"}
    count(
        "page with a flipped bit or a cut end",
        len(states),
        len(states),
        "each reported as damaged",
    )


def test_no_damaged_checkpoint_is_used(tmp_path):
    import torch

    from robustbook.models import checkpoints

    path = tmp_path / "weights.safetensors"
    weights = {"weight": torch.arange(64.0), "bias": torch.ones(3)}
    checkpoints.write(path, weights)
    content = path.read_bytes()
    refused, made, same = 0, 0, 0
    for bad in damaged(content, 200, seed=5):
        path.write_bytes(bad)
        made += 1
        try:
            found = checkpoints.read(path)
        except checkpoints.DamagedCheckpoint:
            refused += 1
        else:
            same += all(
                torch.equal(found[name], value) for name, value in weights.items()
            )
    assert refused + same == made
    assert refused > 0.9 * made
    count(
        "checkpoint with a flipped bit or a cut end",
        made,
        made,
        f"{refused} refused; {same} with the very weights",
    )


def test_no_damaged_data_file_is_used(tmp_path, monkeypatch):
    import hashlib

    content = np.random.default_rng(0).bytes(2000)
    file = store.DataFile("numbers.bin", hashlib.sha256(content).hexdigest())

    source = store.DataSource(
        "numbers",
        "Numbers",
        ("a",),
        "none",
        True,
        ("test",),
        {"test": (file,)},
        pytest.fail,
    )
    monkeypatch.setattr(store, "_sources", lambda: {"numbers": (source,)})
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path))
    path = tmp_path / file.path
    path.write_bytes(content)
    assert store.verify("numbers") == 1
    refused = 0
    for index, bad in enumerate(damaged(content, 100, seed=6)):
        path.write_bytes(bad)
        os.utime(path, ns=(index, index))
        with pytest.raises(UserError, match="damaged"):
            store.load("numbers", "test")
        refused += 1
    count(
        "data file with a flipped bit or a cut end",
        refused,
        refused,
        "each refused before it was read",
    )


# Two at once, old records
# --------------------------------------------------------------------------------------

TRAIN_ONCE = """
import sys, time
from pathlib import Path
from torch import nn
from robustbook.models import checkpoints
def train(model):
    with Path(sys.argv[1]).open("a") as log:
        log.write("trained\\n")
    time.sleep(0.5)
    nn.init.constant_(model.weight, 3.0)
    return model
found = checkpoints.cached({"who": "both"}, nn.Linear(2, 1), train)
assert float(found.weight.sum()) == 6.0
"""


def test_two_processes_that_want_one_checkpoint_train_it_once(tmp_path):
    log = tmp_path / "log"
    words = [sys.executable, "-c", TRAIN_ONCE, str(log)]
    both = [subprocess.Popen(words) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert log.read_text() == "trained\n"
    count(
        "two processes that want the same checkpoint",
        1,
        1,
        "trained once, used by both",
    )


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, 1.5, [1]])
def test_a_record_of_another_schema_is_refused_by_its_version(ran, version):
    path = ran.record(RunId("tiny", "quick"))
    content = {**json.loads(make_record().to_bytes()), "schema_version": version}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="schema version") as caught:
        records.load(path)
    assert str(version) in str(caught.value)
    assert status.of(ran, RunId("tiny", "quick")).state == "damaged"
    count("record of another schema version", 1, 1, "refused with its version")


# Hostile input
# --------------------------------------------------------------------------------------

HOSTILE = [
    "__import__('os').system('touch pwned')",
    '"; open("pwned", "w"); "',
    "'); open('pwned', 'w')  #",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| touch pwned",
    "&& touch pwned",
    "\n!touch pwned\n",
    "\n%%bash\ntouch pwned",
    "%run pwned",
    "{0.__class__.__mro__}",
    "{{ cookiecutter }}",
    "%(touch)s %n",
    "\\'; open('pwned','w') #",
    "\x00",
    "\u202e\u0000\ud7ff",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "{wildcards.member}",
    "x" * 10_000,
]


@given(st.one_of(st.text(max_size=200), st.sampled_from(HOSTILE)))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_of_a_user_becomes_a_literal_and_nothing_else(text):
    from nbformat.v4 import new_code_cell, new_notebook

    model = get("tiny").Parameters
    try:
        values = parameters.parsed(
            model, parameters.from_typed(model, [("note", text)])
        )
    except UserError:
        return
    cell = new_code_cell("note: str = 'a'", metadata={"tags": ["parameters"]})
    injected = (
        notebook.prepare(new_notebook(cells=[cell]), model, values).cells[1].source
    )
    (statement,) = ast.parse(injected).body
    assert ast.literal_eval(statement.value) == values["note"]
    assert parameters.derived_name("quick", values).replace("-", "").isalnum()


def test_hostile_text_runs_nothing_in_a_run_or_a_sweep(project, monkeypatch):
    shutil.copy(SNAKEFILE, project.root)
    text = " ".join(HOSTILE[:14])
    assert cli.main(["run", "tiny", "-p", "note", text, "--name", "wide"]) == 0
    assert records.load(project.record(WIDE)).parameters["note"] == text.strip()
    for each in HOSTILE:
        with contextlib.suppress(UserError):
            plan = sweep.expand(project, "tiny", "h", typed=[("note", f"{each};other")])
            sweep.write(project, plan, plan.members)
            assert sweep.read(project, "tiny.h") == plan
        for words in (["--name", each], ["-r", each], ["-f", each]):
            assert cli.main(["run", "tiny", *words]) == 2
        assert cli.main(["sweep-member", each, each]) == 2
    assert not list(project.root.rglob("*pwned*"))
    count(
        "hostile text as value, name, set, file and sweep",
        1 + 5 * len(HOSTILE),
        1 + 5 * len(HOSTILE),
        "kept as text or refused; nothing was run",
    )


BOMB = "\n".join(
    [
        "a: &a [x,x,x,x,x,x,x,x,x]",
        *(
            f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]"
            for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ]
)
BAD_YAML = [
    "!!python/object/apply:os.system ['touch pwned']",
    "note: !!python/object/apply:os.system ['touch pwned']",
    "note: !!python/name:os.system",
    "note: !!python/object/new:subprocess.Popen [['touch', 'pwned']]",
    "!!python/module:os",
    BOMB,
    "steps: &a [*a]",
    "[" * 5000,
    "{a: " * 5000,
    "steps: " + "9" * 5000,
    "steps: 2001-99-99",
    "steps: .nan",
    "epsilon: .inf",
    "epsilon: -.inf",
    "steps: 1\nsteps: 2",
    "<<: {steps: 2}\n? [1, 2]\n: 3",
    "steps: !!binary aGVsbG8=",
    "steps: !!set {1, 2}",
    "note: [1, {a: b}]",
    "note: \x07",
    "? {}\n: 1",
    "- steps",
    "steps:\n\t- 1",
    "%YAML 9.9\n---\nsteps: 1",
    "--- 1\n--- 2",
    "note: 'unfinished",
    "x" * 2_000_000,
]


@pytest.mark.parametrize("text", BAD_YAML, ids=range(len(BAD_YAML)))
def test_hostile_files_are_one_line_and_run_nothing(project, capsys, text):
    (project.root / "mine.yml").write_text(text)
    assert cli.main(["run", "tiny", "-f", "mine.yml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not list(project.root.rglob("*pwned*"))
    count(
        "hostile or senseless YAML file",
        1,
        1,
        "one line and exit status 2; nothing was run",
    )


WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "run",
                "sweep",
                "check",
                "claims",
                "describe",
                "list",
                "status",
                "data",
                "get",
                "verify",
                "book",
                "refresh",
            ),
            *(
                "tiny",
                "tinny",
                "-p",
                "-p",
                "-f",
                "-r",
                "--name",
                "--force",
                "--seeds",
                "--workers",
                "--rtol",
                "--all",
            ),
            *(
                "epsilon",
                "0.2",
                "2",
                "-1",
                "nan",
                "steps",
                "1e99",
                "reference",
                "quick",
                "epsilon=3",
                "=",
                "--",
                "-",
            ),
            *(
                "--executor",
                "slurm",
                "--format",
                "xml",
                "--help=3",
                "--snakemake",
                "'",
                "sweep-member",
                "../..",
                "",
            ),
        ]
    ),
    st.text(max_size=12),
)


def test_two_hundred_senseless_commands_are_one_line_never_a_traceback(ran_once):
    made = 0

    @given(st.lists(WORDS, min_size=1, max_size=7))
    @settings(max_examples=400, suppress_health_check=list(HealthCheck))
    def senseless(words):
        nonlocal made
        made += is_refused(ran_once, words)

    senseless()
    assert made >= 200
    count(
        "senseless command line",
        made,
        made,
        "one clear line, exit status 2, no traceback",
    )


def is_refused(project: Project, words: list[str]) -> bool:
    """Whether a command line is refused, which is one line and exit status 2; a
    sensible one would have been run.
    """

    def nothing(*args, **options):
        raise UserError("it would have been run")

    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(project.root)
        for module, name in (
            (runner, "perform"),
            (runner, "rerun"),
            (fetch, "get"),
            (execute, "execute"),
        ):
            patch.setattr(module, name, nothing)
        patch.setattr(side_by_side, "finished", nothing)
        patch.setattr(cli, "finish_sweep", nothing)
        code = cli.main(words)
    said = err.getvalue()
    assert code in (0, 1, 2)
    assert "Traceback" not in said + out.getvalue()
    if code == 0 or "it would have been run" in said or (code == 1 and not said):
        return False
    assert code == 2
    assert said.startswith(("error: ", "Usage: "))
    assert said.count("\n") == 1 or said.startswith("Usage: ")
    return True
