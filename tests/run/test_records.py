"""Records: the same content gives the same bytes, and nothing that was altered
is read.
"""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbook.errors import DamagedFileError, UserError
from robustbook.results import Metric
from robustbook.run import records
from robustbook.run.records import ClaimRecord, Provenance, Record


def make_record(**changes):
    claim = ClaimRecord(
        id="T1",
        statement="s",
        source="s",
        measure="m",
        rule="r",
        control="c",
        verdict="reproduced",
        evidence="e",
    )
    provenance = Provenance(
        hash="h", code="c", sources={}, data={}, versions={}, device="cpu", threads=1
    )
    fields = {
        "study": "tiny",
        "run": "quick",
        "overrides": {},
        "parameters": {"epsilon": 0.1},
        "metrics": [
            Metric(
                name="mean",
                value=1 / 3,
                low=0.0,
                high=1.0,
                n=3,
                factors={"budget": 0.1, "seed": 1},
            )
        ],
        "claims": [claim],
        "provenance": provenance,
        "timing": {"run_seconds": 1.0},
    }
    return Record(**{**fields, **changes})


def test_what_is_written_is_read_again_and_writes_the_same_bytes(tmp_path):
    path = tmp_path / "quick.json"
    path.write_bytes(make_record().to_bytes())
    loaded = records.load(path)
    assert loaded.to_bytes() == path.read_bytes()
    assert loaded.metrics[0].value == pytest.approx(1 / 3, rel=1e-9)
    assert loaded.digest == records.content_digest(json.loads(path.read_bytes()))


def test_floats_are_rounded_to_ten_digits():
    assert json.loads(make_record().to_bytes())["metrics"][0]["value"] == 0.3333333333
    same = make_record(parameters={"epsilon": 0.1 + 1e-15})
    assert same.to_bytes() == make_record().to_bytes()
    assert (
        make_record(parameters={"epsilon": 0.1 + 1e-8}).to_bytes()
        != make_record().to_bytes()
    )


@given(st.floats(-1e300, 1e300))
def test_rounding_is_idempotent_and_close(number):
    once = records.rounded(number)
    assert records.rounded(once) == once
    assert math.isclose(once, number, rel_tol=1e-9)
    assert math.copysign(1, once) == 1 or once < 0  # no negative zero


def test_timing_alone_is_left_out_of_comparisons():
    one, other = make_record(), make_record(timing={"run_seconds": 2.0})
    assert one.to_bytes() != other.to_bytes()
    assert one.without_timing() == other.without_timing()
    assert (
        json.loads(one.to_bytes())["digest"] == json.loads(other.to_bytes())["digest"]
    )
    assert make_record(run="wide").without_timing() != one.without_timing()


def test_another_schema_version_is_refused_by_its_number(tmp_path):
    path = tmp_path / "quick.json"
    path.write_text(
        json.dumps({**json.loads(make_record().to_bytes()), "schema_version": 2})
    )
    with pytest.raises(UserError, match="schema version 2, this robustbook reads 1"):
        records.load(path)


@pytest.mark.parametrize("key", ["metrics", "claims", "parameters", "page_digest"])
def test_a_changed_record_is_damaged(tmp_path, key):
    content = json.loads(make_record().to_bytes())
    content[key] = {"metrics": [], "claims": [], "parameters": {}, "page_digest": "x"}[
        key
    ]
    path = tmp_path / "quick.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match="damaged"):
        records.load(path)


HOSTILE = [
    '{"schema_version": 1, "more": NaN}',
    '{"schema_version": 1, "more": 1e999}',
    '{"more": ' + "[" * 100_000,
]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "\x00", '{"schema_version": 1}', *HOSTILE]
)
def test_what_is_no_record_is_damaged(tmp_path, text):
    path = tmp_path / "quick.json"
    path.write_text(text)
    with pytest.raises(DamagedFileError, match="damaged"):
        records.load(path)


def test_a_record_with_unknown_fields_is_damaged_even_with_a_fitting_digest(tmp_path):
    content = {**json.loads(make_record().to_bytes()), "more": 1}
    content["digest"] = records.content_digest(content)
    path = tmp_path / "quick.json"
    path.write_bytes(records.canonical(content))
    with pytest.raises(DamagedFileError, match="fields"):
        records.load(path)
