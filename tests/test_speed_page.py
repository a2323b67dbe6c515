"""The page of measured times says what the records' timing says."""

import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from robustbook.results import Results
from robustbook.run.project import RunId
from robustbook.run.records import Provenance, Record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))
import measured_benchmark
import measured_speed

SECONDS = {"full network, tuned as long": 0.02, "Taylor": 0.011, "random": 0.012}


@pytest.fixture
def record():
    results = Results()
    for place, way in enumerate(SECONDS):
        for length in (10, 20):
            results.add(
                "tuned accuracy",
                0.3 - place / 10 + length / 100,
                (0.2, 0.9),
                n=4,
                over="networks",
                unit="share",
                way=way,
                length=length,
            )
        results.add("tuned multiply-adds", 2e6 / (1 + place), way=way)
        results.add("tuned memory", 1000.0, unit="bytes", way=way)
    timing = {f"latency small resnet: {way}": value for way, value in SECONDS.items()}
    timing |= {f"memory small resnet: {way}": 70_000.0 for way in SECONDS}
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
        measured_speed._table(record, "small resnet"), "html.parser"
    ).find_all("table")
    cells = [
        [cell.text for cell in row.find_all(["td", "th"])]
        for row in table.find_all("tr")[1:]
    ]
    assert [row[0] for row in cells] == list(SECONDS)
    assert [row[1] for row in cells] == ["0.500", "0.400", "0.300"]
    assert [row[3:] for row in cells][1] == ["11.0", "0.550", "0.0700", "0.0640"]


def test_the_caption_names_the_fastest(record):
    assert measured_speed._finding(record, "small resnet") == (
        "Residual network: the fastest (Taylor) needs 55% of the full network's "
        "time at 50% of its multiply-adds"
    )
    assert "Taylor" in measured_speed._figure(record, ["small resnet"])


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


def test_every_comparison_stands_beside_its_peer():
    rows = [
        {"name": name, "ratio": ratio, "limit": limit}
        for name, ratio, limit in (
            ("cnn: PGD-40 / torchattacks", 0.5, 0.9),
            ("HMC / Pyro", 1.2, 1.0),
            ("oracle (full passes)", 0.02, 0.35),
            ("the bare products / loop", 0.3, None),
        )
    ]
    drawn = measured_benchmark._ratio_figure(rows)
    assert BeautifulSoup(drawn, "html.parser").find("figcaption") is not None
    for told in (
        "torchattacks 0.5 to 0.5",
        "Pyro 1.2 to 1.2",
        "the plain way 0.02 to 0.02",
    ):
        assert told in drawn
    answer = measured_benchmark._answer(rows)
    assert "In 2 of 3 comparisons" in answer
    assert "1 miss the limit that" in answer
