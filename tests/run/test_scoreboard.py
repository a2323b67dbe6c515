"""The scoreboard: every claim once, with what its record says and the rows that its
rule read.
"""

import csv
import io
import json

import pytest
from run_helpers import edit

from robustbook import cli
from robustbook.results import Claim, Judgement, Metric
from robustbook.run import answers, records, scoreboard
from robustbook.run.project import RunId
from robustbook.studies import get

QUICK = RunId("tiny", "quick")


def test_a_claim_has_its_verdict_its_run_and_the_rows_that_its_rule_read(ran):
    (entry,) = scoreboard.entries(ran)
    assert (entry.study, entry.claim, entry.verdict, entry.run) == (
        "tiny",
        "T1",
        "reproduced",
        "quick",
    )
    assert (entry.state, entry.page) == ("fresh", "book/runs/tiny/quick.ipynb")
    (row,) = entry.rows
    record = records.load(ran.record(QUICK))
    assert row == record.metrics[0].model_dump()
    assert f"mean {row['value']:.3f}" == entry.evidence
    assert (row["low"], row["high"], row["n"]) == (-0.2, 0.2, 3)


def test_a_study_without_a_record_is_in_preparation_and_has_its_rule(project):
    (entry,) = scoreboard.entries(project)
    assert (entry.verdict, entry.run, entry.evidence, entry.rows) == (
        "in preparation",
        None,
        "",
        (),
    )
    assert entry.rule == "reproduced if below 0.5"


def test_rows_are_left_out_where_the_rule_no_longer_says_what_the_record_says(
    ran, monkeypatch
):
    other = Claim(
        "T1",
        "s",
        "s",
        "m",
        "r",
        "c",
        lambda results: Judgement("partly", str(results.one("mean").value)),
    )
    monkeypatch.setattr(get("tiny"), "CLAIMS", (other,))
    (entry,) = scoreboard.entries(ran)
    assert (entry.verdict, entry.rows) == ("reproduced", ())


@pytest.mark.parametrize(
    "failing",
    [
        lambda results: min([]),
        lambda results: results.one("gone"),
        lambda results: [][0],
    ],
)
def test_a_rule_that_an_older_record_does_not_serve_leaves_the_recorded_verdict(
    ran, monkeypatch, failing
):
    monkeypatch.setattr(
        get("tiny"), "CLAIMS", (Claim("T1", "s", "s", "m", "r", "c", failing),)
    )
    (entry,) = scoreboard.entries(ran)
    assert (entry.verdict, entry.rows) == ("reproduced", ())


def test_a_stale_record_says_so_and_a_damaged_one_is_not_used(ran):
    edit(ran.notebook("tiny"), "1 - budget", "2 - budget")
    assert scoreboard.entries(ran)[0].state == "stale"
    ran.record(QUICK).write_text("{")
    assert scoreboard.entries(ran)[0].verdict == "in preparation"


def test_traced_results_remember_each_row_once_and_in_order():
    rows = [
        Metric(name="a", value=1, factors={"k": 1}),
        Metric(name="a", value=2, factors={"k": 2}),
    ]
    results = scoreboard.Traced(rows)
    results.one("a", k=2)
    results.select("a")
    assert results.read == [rows[1], rows[0]]


def test_files_hold_what_the_entries_hold(ran):
    board = scoreboard.entries(ran)
    (line,) = csv.DictReader(io.StringIO(answers.to_csv(board)))
    assert (line["claim"], line["verdict"], line["evidence"]) == (
        "T1",
        "reproduced",
        board[0].evidence,
    )
    (row,) = csv.DictReader(io.StringIO(answers.rows_csv(board)))
    assert (row["name"], float(row["value"]), float(row["low"])) == (
        "mean",
        board[0].rows[0]["value"],
        -0.2,
    )
    (content,) = json.loads(answers.to_json(board))
    assert content["rows"] == list(board[0].rows)
    assert content["control"] == "another seed"


@pytest.mark.parametrize(
    ("form", "write"), [("csv", "to_csv"), ("json", "to_json"), ("rows", "rows_csv")]
)
def test_the_command_prints_the_same(ran, capsys, form, write):
    assert cli.main(["claims", "tiny", "--format", form]) == 0
    assert capsys.readouterr().out == getattr(answers, write)(scoreboard.entries(ran))
