"""The command line: each command does its work, and what a user gets wrong is one line
and exit 2.
"""

import json
import os
import subprocess
import sys

import pytest
from run_helpers import contents, edit

from robustbook import cli
from robustbook.run import records, runner
from robustbook.run.project import RunId

QUICK = RunId("tiny", "quick")


@pytest.fixture
def command(capsys):
    def call(*words):
        code = cli.main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_run_publishes_says_where_and_then_that_it_is_fresh(project, command):
    code, out, _ = command(
        "run",
        "tiny",
        "-p",
        "epsilon",
        "0.2",
        "--parameter",
        "steps=4",
        "--name",
        "wide",
    )
    assert code == 0
    assert "tiny wide is done: book/runs/tiny/wide.ipynb" in out
    assert "Results" in out
    record = records.load(project.record(RunId("tiny", "wide")))
    assert record.overrides == {"epsilon": 0.2, "steps": 4}
    before = contents(project)
    code, out, _ = command(
        "run", "tiny", "-p", "epsilon", "0.2", "-p", "steps", "4", "--name", "wide"
    )
    assert (code, contents(project)) == (0, before)
    assert "tiny wide is fresh" in out


def test_the_reference_run_goes_to_its_own_place_and_is_checked(project, command):
    assert command("run", "tiny", "-r", "reference")[0] == 0
    assert set(contents(project)) == {
        "book/studies/tiny.ipynb",
        "book/studies/tiny.json",
    }
    record = records.load(project.root / "book" / "studies" / "tiny.json")
    assert (record.parameters["steps"], record.parameters["budgets"]) == (
        5,
        [0.05, 0.2],
    )
    before = contents(project)
    code, out, _ = command("check", "tiny")
    assert code == 0
    assert "tiny reference repeats: 3 numbers within 0.02" in out
    assert contents(project) == before


def test_check_all_repeats_every_quick_run_that_has_a_record(ran, command):
    code, out, _ = command("check", "--all", "--threads", "1", "--report", "found.json")
    assert code == 0
    assert "tiny quick repeats: 3 numbers" in out
    assert "all to the last digit" in out
    assert out.endswith("1 of 1 runs repeat\n")
    (found,) = json.loads((ran.root / "found.json").read_text()).values()
    assert (found["identical"], found["largest"], found["differences"]) == (3, 0, 0)
    before = contents(ran)
    code, out, _ = command("check", "--all", "--reference")
    assert (code, contents(ran)) == (1, before), (
        "a check that compared nothing has not passed"
    )
    assert "tiny reference has no record to compare with: missing" in out


def test_check_all_fails_where_a_record_is_damaged(ran, command):
    ran.record(QUICK).write_text("{")
    code, out, _ = command("check", "--all")
    assert code == 1
    assert "tiny quick has no record to compare with: damaged" in out


@pytest.mark.parametrize("content", ["no report", "[1]", '{"a": 1}'])
def test_a_file_that_is_no_report_is_refused_before_anything_runs(
    ran, command, monkeypatch, content
):
    (ran.root / "found.json").write_text(content)
    monkeypatch.setattr(runner, "rerun", None)
    code, _, err = command("check", "--all", "--report", "found.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "found.json" in err


TRAINED = """import torch

from robustbook.models import checkpoints


def train():
    with Path("../trained").open("a") as log:
        log.write(f"{torch.get_num_threads()}")
    return {"weight": torch.ones(1)}


checkpoints.kept({"who": "tiny"}, train)
object(), Path.cwd()"""


def test_a_check_trains_again_only_where_it_is_to_be_fresh(project, command):
    edit(project.notebook("tiny"), "object(), Path.cwd()", TRAINED)
    trained = project.root / "trained"
    assert command("run", "tiny")[0] == 0
    assert command("check", "tiny", "-r", "quick")[0] == 0
    assert trained.read_text() == "1"
    assert command("check", "tiny", "-r", "quick", "--fresh")[0] == 0
    assert trained.read_text() == "11"
    assert (
        command(
            "check",
            "tiny",
            "-r",
            "quick",
            "--fresh",
            "--threads",
            "2",
            "--report",
            "found.json",
        )[0]
        == 0
    )
    assert trained.read_text() == "112"
    (found,) = json.loads((project.root / "found.json").read_text()).values()
    assert found["hash"] == records.load(project.record(QUICK)).provenance.hash


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "say which study"),
        (["tiny", "--all"], "name none"),
        (["tiny", "--reference", "-r", "quick"], "another run than 'quick'"),
    ],
)
def test_check_wants_a_study_or_all(ran, command, words, line):
    code, _, err = command("check", *words)
    assert code == 2
    assert line in err


def test_check_lists_what_differs_and_exits_1(ran, command):
    record = records.load(ran.record(QUICK))
    other = [
        metric.model_copy(update={"value": metric.value + 1})
        for metric in record.metrics[:1]
    ]
    changed = record.model_copy(update={"metrics": other + record.metrics[1:]})
    ran.record(QUICK).write_bytes(changed.to_bytes())
    code, out, _ = command("check", "tiny", "-r", "quick")
    assert code == 1
    assert "mean" in out
    assert "1.021" in out
    assert "share" not in out
    assert "differs in 1 of 3 numbers" in out
    assert "in 0 of 1 verdicts" in out


def test_force_runs_a_fresh_run_again(ran, command, monkeypatch):
    from robustbook.run import runner

    calls = []
    monkeypatch.setattr(
        runner,
        "perform",
        lambda *args, **options: calls.append(options["force"]) or "ran",
    )
    assert command("run", "tiny", "--force")[0] == 0
    assert command("run", "tiny")[0] == 0
    assert calls == [True, False]


def test_if_stale_marks_a_fresh_run_as_new_and_says_nothing(ran, command):
    before = contents(ran)
    for path in (ran.page(QUICK), ran.record(QUICK)):
        os.utime(path, (1, 1))
    assert command("run", "tiny", "--if-stale") == (0, "", "")
    assert min(ran.page(QUICK).stat().st_mtime, ran.record(QUICK).stat().st_mtime) > 1
    assert contents(ran) == before


def test_a_failed_run_exits_1_with_a_block_and_the_log(project, command):
    code, _, err = command("run", "tiny", "-p", "what", "raise")
    assert code == 1
    assert err.startswith('tiny what-raise failed in section "Results", cell 8 of 11:')
    assert "ValueError: the sky fell" in err
    assert (
        "The whole log: .robustbook/logs/tiny.what-raise.log. Nothing was published."
        in err
    )
    assert "the sky fell" in (project.work / "logs" / "tiny.what-raise.log").read_text()
    assert contents(project) == {}


def test_what_a_user_can_mend_inside_a_notebook_is_its_line_alone(project, command):
    code, _, err = command("run", "tiny", "-p", "what", "user_error")
    assert (code, err) == (2, "error: MNIST is not here: robustbook data get mnist\n")
    assert contents(project) == {}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "tinny"], "unknown study 'tinny': did you mean 'tiny'?"),
        (["describe", "tinny"], "unknown study 'tinny': did you mean 'tiny'?"),
        (["check", "tinny"], "unknown study 'tinny': did you mean 'tiny'?"),
        (
            ["check", "tiny"],
            "run tiny reference has no record to compare with: robustbook run tiny "
            "-r reference makes",
        ),
        (["check", "tiny", "-r", "wide"], "robustbook run tiny --name wide makes one"),
        (["check", "--all", "-r", "referense"], "no study has a run 'referense'"),
        (
            ["run", "tiny", "-p", "epsilonn", "1"],
            "unknown parameter 'epsilonn': did you mean 'epsilon'?",
        ),
        (
            ["run", "tiny", "-p", "epsilon", "2"],
            "parameter 'epsilon' must be a number (0 to 1), got '2.0'",
        ),
        (
            ["run", "tiny", "-p", "epsilon", "-1"],
            "parameter 'epsilon' must be a number (0 to 1), got '-1.0'",
        ),
        (
            ["run", "tiny", "-p", "steps", "many"],
            "parameter 'steps' must be a whole number (1 to 100), got 'many'",
        ),
        (
            ["run", "tiny", "-p", "steps"],
            "-p takes a name and a value, got only 'steps'",
        ),
        (["run", "tiny", "-p"], "Option '-p' requires an argument"),
        (
            ["run", "tiny", "-r", "referense"],
            "unknown parameter set 'referense': did you mean 'reference'?",
        ),
        (["run", "tiny", "-f", "none.yml"], "there is no file 'none.yml'"),
        (
            ["run", "tiny", "--name", "../../evil", "-p", "steps", "1"],
            "a run's name has at most 60",
        ),
        (
            ["run", "tiny", "--name", "reference", "-p", "steps", "1"],
            "stands for the parameter set",
        ),
        (["run", "../tiny"], "unknown study '../tiny'"),
        (["rum", "tiny"], "No such command 'rum'. Did you mean 'run'"),
        (["run"], "Missing argument 'STUDY'"),
        (["run", "tiny", "--forse"], "No such option: --forse"),
        (["data", "gett", "mnist"], "No such command 'gett'"),
        (["check", "tiny", "--rtol", "-1"], "Invalid value for '--rtol'"),
    ],
)
def test_mistakes_are_one_line_exit_2_and_change_nothing(project, command, words, line):
    before = sorted(project.root.rglob("*"))
    code, out, err = command(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert line in err
    assert err.count("\n") == 1
    assert sorted(project.root.rglob("*")) == before


def test_a_file_of_parameters(ran, command):
    (ran.root / "mine.yml").write_text("steps: much\n")
    code, _, err = command("run", "tiny", "-f", "mine.yml")
    assert (code, err) == (
        2,
        "error: parameter 'steps' must be a whole number (1 to 100), got 'much'\n",
    )


def test_outside_a_project_there_is_one_line(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("status")
    assert code == 2
    assert err.startswith("error: no book project in")


def test_list_status_describe_and_claims(ran, command):
    code, out, _ = command("list")
    assert code == 0
    assert "A tiny study" in out
    assert "quick" in out
    assert command("status") == (0, "tiny reference: missing\ntiny quick: fresh\n", "")
    edit(ran.notebook("tiny"), "1 - budget", "2 - budget")
    assert "tiny quick: stale: code cells changed\n" in command("status")[1]
    told = "tiny quick: stale\n  code cells changed\n"
    assert command("status", "tiny")[1].endswith(told)
    assert "did you mean 'tiny'" in command("status", "tiny1")[2]
    out = command("describe", "tiny")[1]
    for text in (
        "epsilon",
        "a number",
        "0 to 1",
        "0.1",
        "Perturbation budget in pixel units.",
    ):
        assert text in out
    out = command("claims")[1]
    assert "T1" in out
    assert "reproduced" in out
    assert "quick (stale)" in out


def test_claims_without_a_run_are_listed(project, command):
    out = command("claims")[1]
    assert "in preparation" in out
    assert "The mean is small." in out


def test_refresh_gives_pages_new_text(ran, command):
    edit(ran.notebook("tiny"), "Does it run?", "Does it walk?")
    assert command("refresh") == (0, "tiny quick has the notebook's new text\n", "")
    assert "Does it walk?" in ran.page(QUICK).read_text()
    assert command("refresh") == (0, "", "")


def test_a_damaged_record_is_told_and_the_next_run_replaces_it(ran, command):
    ran.record(QUICK).write_bytes(
        ran.record(QUICK).read_bytes().replace(b"0.95", b"0.99")
    )
    assert (
        "tiny quick: damaged: record tiny/quick.json is damaged" in command("status")[1]
    )
    assert command("run", "tiny")[0] == 0
    assert command("status")[1].endswith("tiny quick: fresh\n")
    assert json.loads(ran.record(QUICK).read_text())["metrics"][1]["value"] == 0.95


def test_every_command_has_help_with_an_example(command):
    names = [
        "list",
        "new",
        "describe",
        "run",
        "status",
        "refresh",
        "check",
        "claims",
        "sweep",
        "book",
    ]
    for words in [[name] for name in names] + [
        ["data", name] for name in ("list", "get", "verify")
    ]:
        code, out, _ = command(*words, "--help")
        assert code == 0
        assert f"Example: robustbook {' '.join(words)}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("program", "slow"),
    [
        (
            "from robustbook.cli import main; main(['--help'])",
            ("torch", "pandas", "papermill", "numpy", "sklearn"),
        ),
        # What the command line reads of a study: its parameters and claims.
        (
            "from robustbook import studies; [studies.get(name) for name in "
            "studies.names()]",
            ("torch", "matplotlib"),
        ),
    ],
)
def test_help_and_lists_import_nothing_slow(program, slow):
    script = (
        f"import sys; {program}; print([name for name in {slow} if name in "
        "sys.modules])"
    )
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONPATH"
    }
    source = os.environ["PYTHONPATH"].split(os.pathsep)[-1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith("[]"), done.stderr


@pytest.mark.parametrize("words", ["list", "status", "claims"])
def test_what_is_kept_is_said_again_without_slow_imports(ran, command, words):
    _, first, _ = command(words)
    # Typer itself imports pydantic where that is installed.
    slow = ("torch", "pandas", "scipy", "numpy", "nbformat", "jupytext")
    script = (
        f"import sys; from robustbook.cli import main; main([{words!r}]); "
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.stdout == first + "[]\n", done.stderr


def test_a_relative_data_root_is_meant_from_where_the_command_is_typed(
    command, tmp_path, monkeypatch
):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("ROBUSTBOOK_DATA", "../data")
    command("--help")
    assert os.environ["ROBUSTBOOK_DATA"] == str(tmp_path / "data")
