"""The page of measured times says what the records' timing says."""

import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from robustbook.results import Results
from robustbook.run.project import RunId
from robustbook.run.records import Provenance, Record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))
import measured_speed

SECONDS = {"full": 0.02, "half, Taylor": 0.011, "half, random": 0.012}


@pytest.fixture
def record():
    results = Results()
    for place, way in enumerate(SECONDS):
        results.add(
            "vgg accuracy",
            0.6 - place / 10,
            (0.2, 0.9),
            n=4,
            over="networks",
            unit="share",
            way=way,
        )
        results.add("vgg multiply-adds", 2e6 / (1 + place), way=way)
        results.add("vgg memory", 1000.0, unit="bytes", way=way)
    timing = {f"latency vgg: {way}": value for way, value in SECONDS.items()}
    timing |= {f"memory vgg: {way}": 70_000.0 for way in SECONDS}
    provenance = Provenance(
        hash="", code="", sources={}, data={}, versions={}, device="", threads=1
    )
    return Record(
        study="taylor_pruning",
        run="reference",
        overrides={},
        parameters={},
        metrics=results.metrics,
        claims=[],
        provenance=provenance,
        timing=timing,
    )


def test_the_table_has_measured_beside_counted(record):
    (table,) = BeautifulSoup(
        measured_speed._table(record, "vgg"), "html.parser"
    ).find_all("table")
    cells = [
        [cell.text for cell in row.find_all(["td", "th"])]
        for row in table.find_all("tr")[1:]
    ]
    assert [row[0] for row in cells] == list(SECONDS)
    assert [row[3:] for row in cells][1] == ["11.0", "0.550", "0.0700", "0.0640"]


def test_the_caption_names_the_fastest(record):
    assert measured_speed._finding(record, "vgg") == (
        "VGG-like net: the fastest (half, Taylor) needs 55% of the full network's "
        "time at 50% of its multiply-adds"
    )
    assert "half, Taylor" in measured_speed._figure(record, ["vgg"])


def test_the_times_of_reference_and_quick_runs_are_listed_where_they_are_known(record):
    times = {"run_seconds": 60.0, "peak_memory_bytes": 1e9}
    timed = record.model_copy(update={"timing": times})
    runs = {
        name: RunId("taylor_pruning", name) for name in ("reference", "quick", "wide")
    }
    found = {runs["quick"]: timed, runs["reference"]: timed, runs["wide"]: timed}
    assert [
        run.run for run, _ in measured_speed.timed_runs(found, "taylor_pruning")
    ] == ["reference", "quick"]
    found = {runs["reference"]: record, runs["quick"]: "it is damaged"}
    assert measured_speed.timed_runs(found, "taylor_pruning") == []


def test_other_networks_are_left_out(record):
    assert measured_speed.measured(record, "latency", "preact-resnet") == {}
