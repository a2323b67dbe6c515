"""Nothing that is read from a file runs as code or passes for what it is not: records,
files of parameters, unfinished files.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from run_helpers import COMMAND, contents

from robustbook import cli, files, workers
from robustbook.errors import DamagedFileError, UserError
from robustbook.run import (
    notebook,
    parameters,
    project,
    records,
    runner,
    status,
    sweep,
)
from robustbook.run.execute import SilentReporter
from robustbook.run.project import RunId
from robustbook.studies import get

QUICK = RunId("tiny", "quick")


def forge(project, **changes):
    """Change a record and give it the digest that fits."""
    path = project.record(QUICK)
    content = json.loads(path.read_bytes()) | changes
    content["digest"] = records.content_digest(content)
    path.write_bytes(records.canonical(content))


def robustbook(*words, **options):
    """What a command says and how it ends."""
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, timeout=60, check=False, **options
    )


def test_overrides_of_a_record_never_run_as_code(ran):
    code = f"steps = open({str(ran.root / 'PWN')!r}, 'w') #"
    forge(ran, overrides={code: 3})
    assert status.of(ran, QUICK).state in ("stale", "damaged")
    with pytest.raises(UserError):
        runner.rerun(ran, QUICK, SilentReporter())
    robustbook("refresh")
    assert not (ran.root / "PWN").exists()
    assert "PWN" not in ran.page(QUICK).read_text()


@pytest.mark.parametrize("value", ["__import__('os')", [1], {"a": 1}, 10**30, True])
def test_values_of_a_record_pass_the_gate_of_typed_ones(ran, value):
    forge(ran, overrides={"steps": value})
    assert status.of(ran, QUICK).state in ("stale", "damaged")
    with pytest.raises(UserError):
        runner.rerun(ran, QUICK, SilentReporter())


def test_a_named_run_with_other_parameters_than_its_set_is_stale(ran):
    forge(ran, overrides={"steps": 4})
    found = status.of(ran, QUICK)
    assert found.state == "stale"
    assert "other parameters than the set quick" in str(found)


def test_only_fields_of_the_study_are_written_into_a_cell():
    from nbformat.v4 import new_code_cell, new_notebook

    cell = new_code_cell("steps: int = 3", metadata={"tags": ["parameters"]})
    node = new_notebook(cells=[cell])
    with pytest.raises(UserError, match="unknown parameter"):
        notebook.prepare(node, get("tiny").Parameters, {"stepz": 3})
    for value in (object(), float("nan"), (1,), b"x", {1: 2}):
        with pytest.raises(TypeError):
            notebook.literal(value)


@pytest.mark.parametrize("part", ["claims", "metrics"])
@pytest.mark.parametrize("change", [lambda rows: [], lambda rows: rows + rows[:1]])
def test_emptied_or_doubled_rows_are_damage(ran, part, change):
    rows = json.loads(ran.record(QUICK).read_bytes())[part]
    forge(ran, **{part: change(rows)})
    with pytest.raises(DamagedFileError):
        records.load(ran.record(QUICK))
    assert status.of(ran, QUICK).state == "damaged"


def test_a_claim_of_another_name_is_damage(ran):
    rows = json.loads(ran.record(QUICK).read_bytes())["claims"]
    forge(ran, claims=[{**rows[0], "id": "T9"}])
    assert status.of(ran, QUICK).state == "damaged"


def test_claims_names_a_damaged_record_and_fails(ran):
    ran.record(QUICK).write_text("{")
    done = robustbook("claims")
    assert done.returncode == 1
    assert b"tiny quick is left out: damaged" in done.stderr


def test_a_page_that_is_a_folder_or_no_notebook_is_damage(ran):
    page = ran.page(QUICK)
    page.write_bytes(page.read_bytes()[:500])
    forge(ran, page_digest=records.sha256(page.read_bytes()))
    assert status.of(ran, QUICK).state == "damaged"
    page.unlink()
    page.mkdir()
    assert status.of(ran, QUICK).state == "damaged"


def test_an_empty_name_of_a_study_checks_nothing(ran):
    for command in ("check", "claims"):
        done = robustbook(command, "")
        assert done.returncode == 2
        assert done.stderr.startswith(b"error: ") and not done.stdout


# Files of parameters


@pytest.mark.parametrize(
    "text",
    [
        *("steps: !!int ''", "epsilon: !!float ''", "exact: !!bool x"),
        *("note: !!timestamp x", "note: ! x", "budgets: !!set {1, 2}", "!!map {}"),
        *("steps: " + "9" * 10_000, "steps: 0x" + "f" * 10_000, "steps: 0b_"),
        *("note: 2001-99-99", "epsilon: ._", "[" * 100_000, "steps: *a"),
    ],
    ids=lambda text: text[:25],
)
def test_strange_yaml_is_one_clear_line(tmp_path, text):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        parameters.validate(get("tiny").Parameters, parameters.from_file(path, "tiny"))
    assert len(str(caught.value)) < 500


def test_pipes_devices_and_folders_are_no_files_of_parameters(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path):
        with pytest.raises(UserError, match="no file of parameters"):
            parameters.from_file(path, "tiny")


def test_a_study_without_parameters_has_its_defaults(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("tiny:\n")
    assert parameters.from_file(path, "tiny") == {}


def test_fractions_are_numbers(tmp_path):
    model = get("tiny").Parameters
    typed = parameters.from_typed(model, [("epsilon", "8/255")])
    assert typed == {"epsilon": 8 / 255}
    path = tmp_path / "mine.yml"
    path.write_text("epsilon: 8/255\n")
    found = parameters.parsed(model, parameters.from_file(path, "tiny"))
    assert found == typed
    for wrong in ("1/0", "1/", "/2", "1/2/3", "1/nan"):
        with pytest.raises(UserError, match="epsilon"):
            parameters.validate(model, {"epsilon": wrong})


# What is typed

LONG = "\x1b[31m\u202e" + "A" * 20_000
TYPED = [
    *("@", "run @", "run tiny -r @", "run tiny -p @ 3", "run tiny -p @"),
    *("run tiny -p steps @", "run tiny -p kind @", "run tiny --name @"),
    *("run tiny -f @", "check @", "check tiny -r @", "check tiny --threads @"),
    *("check --all -r @", "claims @", "claims --format @", "list --@", "list @"),
    *("sweep @ --name s", "sweep tiny --name @", "sweep tiny -p @ 1,2 --name s"),
    "sweep tiny -p steps @,2 --name s",
    *("sweep-member @ x", "sweep-member tiny.s @", "data get @", "data verify @"),
]


@pytest.mark.parametrize("words", TYPED)
def test_messages_repeat_little_of_what_was_typed(ran, capsys, words):
    code = cli.main([word.replace("@", LONG) for word in words.split()])
    said = capsys.readouterr()
    assert code == 2 and not said.out
    assert said.err.count("\n") == 1 and said.err[:-1].isprintable()
    assert said.err.count("A") <= 200


def test_names_in_the_environment_are_repeated_in_the_same_way(monkeypatch):
    monkeypatch.setenv("ROBUSTBOOK_ROOT", LONG)
    monkeypatch.setenv("ROBUSTBOOK_WORKERS", "9" * 5000)
    for ask in (lambda: project.find(Path("/")), workers.worker_count):
        with pytest.raises(UserError) as caught:
            ask()
        assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "change",
    [
        {"run": "../../../PWN"},
        {"run": "x; touch PWN"},
        {"overrides": {"steps = 1 #": 2}},
        {"overrides": [1]},
        {"more": 1},
    ],
)
def test_the_plan_of_a_sweep_writes_nothing_outside_its_folder(ran, change):
    plan = sweep.expand(ran, "tiny", "s", typed=[("steps", "2,3")])
    sweep.write(ran, plan, plan.members)
    path = sweep.folder_of(ran, plan.place) / "plan.json"
    content = json.loads(path.read_text())
    content["members"][0] |= change
    path.write_text(json.dumps(content))
    before = {path for path in ran.root.parent.rglob("*")}
    with pytest.raises(DamagedFileError):
        sweep.member(ran, plan.place, content["members"][0]["run"])
    assert {path for path in ran.root.parent.rglob("*")} == before


# Surroundings of a command


def test_outputs_that_cannot_show_a_character_escape_it(ran):
    surroundings = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = robustbook("describe", "tinü", env=surroundings)
    assert done.returncode == 2
    assert b"tin\\xfc" in done.stderr


def test_closed_outputs_and_lost_folders_are_one_line(ran, tmp_path):
    words = " ".join(COMMAND)
    closed = subprocess.run(
        ["sh", "-c", f"{words} list >&-"], capture_output=True, check=False
    )
    assert (closed.returncode, closed.stderr.count(b"\n")) == (2, 1)
    lost = subprocess.run(
        ["sh", "-c", f"mkdir d && cd d && rmdir ../d && {words} list"],
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert (lost.returncode, lost.stderr.count(b"\n")) == (2, 1)


@pytest.fixture
def read_only(ran):
    """The project on a read-only file system, which stops root too; where none can be
    mounted, with a file in the place of the folder that all commands write to.
    """
    place = str(ran.root)
    mount = [["--bind", place, place], ["-o", "remount,bind,ro", place]]
    done = [subprocess.run(["mount", *words], check=False) for words in mount]
    if done[-1].returncode:
        shutil.rmtree(ran.work)
        ran.work.write_text("")
    os.chdir(ran.root)  # The folder below the mount is another one.
    yield ran
    if not done[0].returncode:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_read_only_checkout_is_checked_and_nothing_else(read_only, capsys):
    before = contents(read_only)
    assert cli.main(["check", "tiny", "-r", "quick"]) == 0
    assert "tiny quick repeats" in capsys.readouterr().out
    for words in (
        *("book", "run tiny --force", "run tiny -p steps 4"),
        "sweep tiny -p steps 2,3 --name s",
    ):
        assert cli.main(words.split()) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: cannot write to ")
        assert said.count("\n") == 1
    for words in ("list", "status", "describe tiny", "claims", "refresh"):
        assert cli.main(words.split()) == 0
    assert contents(read_only) == before


# Unfinished files


def test_what_a_killed_process_left_is_removed_and_links_are_not_followed(tmp_path):
    target = tmp_path / "made.json"
    left = tmp_path / f".made.json.abc{files.UNFINISHED}"
    left.write_text("half")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".made.json.link{files.UNFINISHED}").symlink_to(victim)
    files.write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert victim.read_text() == "mine"
    assert not left.exists()


def test_a_file_that_another_process_writes_is_left_alone(tmp_path):
    with files.unfinished(tmp_path / "one", b"1"):
        files.write_whole(tmp_path / "two", b"2")
    assert (tmp_path / "one").read_bytes() == b"1"
    with pytest.raises(KeyError), files.unfinished(tmp_path / "three", b"3"):
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
