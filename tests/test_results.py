"""Metric rows and claims: what a rule sees, and what happens when a run did not measure
it.
"""

from __future__ import annotations

import pytest

from robustbook.results import Claim, Judgement, Metric, Results
from robustbook.stats import Interval


def test_rows_are_found_by_factors() -> None:
    results = Results()
    results.add("psi", 2.0, (1.0, 3.0), n=5, over="images", network="a", epsilon=0.1)
    results.add("psi", 4.0, network="b", epsilon=0.1)
    assert results.one("psi", network="b").value == 4.0
    assert [row.value for row in results.select("psi", epsilon=0.1)] == [2.0, 4.0]
    assert list(results.table("psi")["network"]) == ["a", "b"]
    with pytest.raises(KeyError, match="found 2"):
        results.one("psi", epsilon=0.1)


def test_interval_brings_limits_and_count() -> None:
    row = Results().add("psi", Interval(2.0, 1.0, 3.0, 7), over="seeds")
    assert (row.value, row.low, row.high, row.n) == (2.0, 1.0, 3.0, 7)


def test_rows_are_recorded_once_and_finite() -> None:
    results = Results([Metric(name="psi", value=1.0, factors={"network": "a"})])
    with pytest.raises(ValueError, match="recorded already"):
        results.add("psi", 2.0, network="a")
    with pytest.raises(ValueError, match="finite"):
        results.add("psi", float("nan"), network="b")


def claim_about(name: str) -> Claim:
    def judge(results: Results) -> Judgement:
        return Judgement(
            "reproduced" if results.one(name).value > 0 else "not reproduced", "seen"
        )

    return Claim("X1", "s", "abstract", "m", "r", "c", judge)


def test_claim_without_its_rows_is_not_tested() -> None:
    judgement = claim_about("psi").verdict(Results())
    assert judgement.verdict == "not tested at this scale"
    assert "psi" in judgement.evidence


def test_a_mistake_in_a_rule_is_not_taken_for_a_missing_measurement() -> None:
    def judge(results: Results) -> Judgement:
        return Judgement("reproduced", {}["a misspelt key"])

    with pytest.raises(KeyError, match="misspelt"):
        Claim("X1", "s", "abstract", "m", "r", "c", judge).verdict(Results())
    twice = Results()
    twice.add("psi", 1.0, network="a")
    twice.add("psi", 2.0, network="b")
    with pytest.raises(KeyError, match="found 2"):
        claim_about("psi").verdict(twice)


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.0, "reproduced"), (-1.0, "not reproduced")]
)
def test_verdict_follows_the_rows(value: float, verdict: str) -> None:
    results = Results()
    results.add("psi", value)
    assert claim_about("psi").verdict(results).verdict == verdict


def test_rows_of_a_cell_that_is_run_again_take_the_place_of_the_old_ones(monkeypatch):
    """As in a notebook: more seeds first, then fewer, and another cell between them."""
    from types import SimpleNamespace

    import IPython.core.getipython as shell

    results = Results(rerun=True)

    def run_cell(number, *rows):
        here = SimpleNamespace(execution_count=number)
        monkeypatch.setattr(shell, "get_ipython", lambda: here)
        for name, value, seed in rows:
            results.add(name, value, seed=seed)

    run_cell(1, ("psi", 1.0, 0), ("psi", 2.0, 1))
    run_cell(2, ("accuracy", 0.9, 0))
    assert not results.replaced
    run_cell(3, ("psi", 3.0, 0))
    assert [row.value for row in results.select("psi")] == [3.0]
    assert results.one("accuracy").value == 0.9
    assert results.replaced == {"psi"}
    with pytest.raises(ValueError, match="already"):
        run_cell(3, ("psi", 3.0, 0))


def test_rows_are_recorded_once_without_a_notebook():
    results = Results(rerun=True)
    results.add("psi", 1.0)
    with pytest.raises(ValueError, match="already"):
        results.add("psi", 1.0)
