"""The benchmarks measure what they say: ratios of turns, exponents, limits, and a file
that the book can read.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import saliency_baselines, timing
from benchmarks.timing import Comparison, Growth, Measurement


class Clock:
    """A clock that moves only when work is done, so that times are known exactly."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def work(self, *durations):
        """Work that takes each of the durations in turn, and the last one from
        then on.
        """
        left = list(durations)

        def one():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return one


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_the_ratio_is_the_median_of_the_turns_and_its_interval_their_range(clock):
    ours, theirs = clock.work(100, 1, 2, 3), clock.work(100, 4, 4, 4)
    found = timing.compare("x", ours, theirs, limit=0.6, repeats=3)
    assert (found.ours, found.theirs, found.turns) == (2, 4, 3)
    assert (found.low, found.ratio, found.high) == (0.25, 0.5, 0.75)
    assert "within 0.6" in str(found)
    assert "ABOVE 0.4" in str(
        timing.compare("x", clock.work(2), clock.work(4), limit=0.4, repeats=2)
    )


def test_the_exponent_of_a_power_law_is_found(clock):
    found = timing.growth(
        "x",
        "images",
        {size: clock.work(0.5 * size**1.5) for size in (2, 4, 8, 16)},
        repeats=2,
    )
    assert found.exponent == pytest.approx(1.5)
    assert (found.low, found.high) == pytest.approx((1.5, 1.5))
    assert found.seconds == pytest.approx(
        tuple(0.5 * size**1.5 for size in (2, 4, 8, 16))
    )


def test_the_fastest_choice_is_found(clock):
    assert timing.fastest({1: clock.work(3), 2: clock.work(1), 4: clock.work(2)}) == 2


def test_rows_of_the_named_studies_are_printed_and_written(tmp_path, capsys):
    def rows(repeats):
        yield Comparison("a / b", 1.0, 2.0, 0.5, 0.4, 0.6, repeats, 0.9)
        yield Measurement("c", 3.0, "s", 2.0)
        yield Growth("d", "images", (1, 2), (1.0, 2.0), 1.0, 1.0, 1.0, repeats)

    target = tmp_path / "new" / "rows.json"
    timing.run(
        {"one": rows, "two": rows}, ["two", "--repeats", "4", "--json", str(target)]
    )
    found = json.loads(target.read_text())
    assert [(row["study"], row["kind"]) for row in found["rows"]] == [
        ("two", "comparison"),
        ("two", "measurement"),
        ("two", "growth"),
    ]
    assert found["rows"][0]["turns"] == 4
    assert set(found["machine"]) == {"cores", "torch", "load before"}
    told = capsys.readouterr().out
    assert "a / b" in told and "ABOVE 2" in told and "exponent 1.00" in told


def test_the_plain_loop_gives_our_maps_from_the_same_masks():
    model = saliency_baselines.network()
    images = torch.rand(2, 3, saliency_baselines.SIDE, saliency_baselines.SIDE)
    targets, count = torch.tensor([0, 1]), 12
    plain = saliency_baselines.plain_rise(
        model, images, targets, count, saliency_baselines.our_masks(count)
    )
    ours = saliency_baselines.our_rise(model, images, targets, count, torch.float32)
    assert torch.allclose(ours, plain, atol=1e-5 * float(plain.abs().max()))
    others = saliency_baselines.plain_rise(model, images, targets, count)
    assert not torch.allclose(ours, others, atol=1e-2 * float(plain.abs().max()))


@pytest.mark.parametrize("words", [["three"], ["--repeats", "1"]])
def test_a_wrong_word_is_told_in_one_line(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        timing.run({"one": lambda repeats: []}, words)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_every_study_has_a_benchmark():
    from benchmarks.__main__ import STUDIES

    from robustbook import studies

    assert {study for study in studies.names() if not studies.is_own(study)} == set(
        STUDIES
    )
