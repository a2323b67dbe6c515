"""Comparing two records of a run: what is outside the tolerances is listed, and nothing
else.
"""

import json
import os
from pathlib import Path

import pytest
from test_records import make_record

from robustbook.results import Metric
from robustbook.run import compare


def record_with(*metrics, verdict="reproduced"):
    record = make_record(metrics=list(metrics))
    claim = record.claims[0].model_copy(update={"verdict": verdict})
    return record.model_copy(update={"claims": [claim]})


def row(value, **fields):
    return Metric(name="share", value=value, **fields)


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        (0.5, 0.5, 0),
        (0.5, 0.504, 0),
        (0.5, 0.52, 1),
        (100, 101.9, 0),
        (100, 103, 1),
        (-100, 100, 1),
        (0.0, 0.004, 0),
    ],
)
def test_numbers_agree_within_the_larger_of_both_tolerances(one, other, count):
    found = compare.differences(
        record_with(row(one)), record_with(row(other)), relative=0.02, absolute=0.005
    )
    assert len(found) == count
    found = compare.differences(
        record_with(row(other)), record_with(row(one)), relative=0.02, absolute=0.005
    )
    assert len(found) == count


def test_zero_tolerance_is_equality():
    one, other = record_with(row(0.5)), record_with(row(0.5000001))
    assert len(compare.differences(one, other, relative=0, absolute=0)) == 1
    assert compare.differences(one, one, relative=0, absolute=0) == []


def test_intervals_counts_rows_and_verdicts_are_compared():
    base = record_with(row(0.5, low=0.4, high=0.6, n=10, factors={"budget": 0.1}))
    changes = [
        record_with(row(0.5, low=0.3, high=0.6, n=10, factors={"budget": 0.1})),
        record_with(row(0.5, n=10, factors={"budget": 0.1})),
        record_with(row(0.5, low=0.4, high=0.6, n=11, factors={"budget": 0.1})),
        record_with(
            row(0.5, low=0.4, high=0.6, n=10, factors={"budget": 0.1}), verdict="partly"
        ),
    ]
    assert [len(compare.differences(base, changed)) for changed in changes] == [
        1,
        1,
        1,
        1,
    ]
    moved = record_with(row(0.5, low=0.4, high=0.6, n=10, factors={"budget": 0.2}))
    gone, new = compare.differences(base, moved)
    assert (gone.what, gone.committed, gone.now) == (
        "share (budget=0.1)",
        "0.5 [0.4, 0.6] (n = 10)",
        "",
    )
    assert (new.what, new.committed) == ("share (budget=0.2)", "")
    assert compare.differences(base, changes[3])[0] == compare.Difference(
        "verdict T1", "reproduced", "partly"
    )


def test_an_outcome_counts_identical_rows_and_says_the_largest_distance(tmp_path):
    one = make_record(
        metrics=[Metric(name="a", value=2.0), Metric(name="b", value=0.001)]
    )
    other = make_record(
        metrics=[Metric(name="a", value=2.02), Metric(name="b", value=0.001)]
    )
    found = compare.outcome(one, other)
    assert (found.same, found.numbers, found.identical) == (True, 2, 1)
    assert found.largest == pytest.approx(0.02 / 2.02)
    assert not compare.outcome(one, other, relative=0.001, absolute=0.001).same
    for fresh in (False, True, True):
        compare.note(tmp_path / "n" / "f.json", [found], fresh=fresh, worker_threads=1)
    noted = json.loads((tmp_path / "n" / "f.json").read_text()).values()
    assert [each["networks"] for each in noted] == ["kept", "trained again"]


def test_verdicts_that_differ_are_noted_apart_from_numbers(tmp_path):
    found = compare.outcome(
        record_with(row(0.5)), record_with(row(0.7), verdict="partly")
    )
    compare.note(tmp_path / "f.json", [found], fresh=False, worker_threads=2)
    (noted,) = json.loads((tmp_path / "f.json").read_text()).values()
    assert (noted["differences"], noted["other_verdicts"], noted["worker_threads"]) == (
        1,
        1,
        2,
    )


def test_values_outside_the_interval_of_the_record_are_counted():
    record = record_with(row(0.5, low=0.4, high=0.6))
    inside, outside = (
        compare.outcome(record, record_with(row(value))) for value in (0.55, 0.7)
    )
    assert [(found.intervals, found.beyond) for found in (inside, outside)] == [
        (1, 0),
        (1, 1),
    ]


def of_hash(record, digest):
    return record.model_copy(
        update={"provenance": record.provenance.model_copy(update={"hash": digest})}
    )


def test_what_is_noted_names_the_record_and_forgets_other_code_of_the_same_run(
    tmp_path,
):
    path, record = tmp_path / "f.json", record_with(row(0.5))
    others = [
        record.model_copy(update={"study": "other"}),
        record.model_copy(update={"run": "wide"}),
    ]
    more = record.model_copy(
        update={"provenance": record.provenance.model_copy(update={"threads": 4})}
    )
    compare.note(
        path,
        [compare.outcome(each, each) for each in (record, *others)],
        fresh=True,
        worker_threads=1,
    )
    compare.note(path, [compare.outcome(record, more)], fresh=True, worker_threads=1)
    assert [found["hash"] for found in json.loads(path.read_text()).values()] == [
        "h"
    ] * 4
    new = of_hash(record, "new")
    compare.note(path, [compare.outcome(new, new)], fresh=True, worker_threads=1)
    found = json.loads(path.read_text()).values()
    assert sorted((each["study"], each["run"], each["hash"]) for each in found) == [
        ("other", "quick", "h"),
        ("tiny", "quick", "new"),
        ("tiny", "wide", "h"),
    ]


def test_conditions_hold_inside_and_are_gone_afterwards(monkeypatch):
    monkeypatch.setattr(compare, "core_count", lambda: 8)
    monkeypatch.delenv("ROBUSTBOOK_WORKERS", raising=False)
    before = dict(os.environ)
    with compare.conditions(None, fresh=False):
        assert dict(os.environ) == before
    with compare.conditions(3, fresh=True):
        names = ("OMP_NUM_THREADS", "ROBUSTBOOK_WORKER_THREADS", "ROBUSTBOOK_WORKERS")
        assert [os.environ[name] for name in names] == ["3", "3", "2"]
        folder = Path(os.environ["ROBUSTBOOK_CACHE"])
        assert not list(folder.iterdir()) and str(folder) != before["ROBUSTBOOK_CACHE"]
        (folder / "kept").touch()
    assert dict(os.environ) == before
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), compare.conditions(2, fresh=True):
        raise KeyboardInterrupt
    assert dict(os.environ) == before
