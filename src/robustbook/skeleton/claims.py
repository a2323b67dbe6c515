"""The claims, declared with their rules before any result was known."""

from __future__ import annotations

from functools import partial

from robustbook.results import Claim, Judgement, Results, Verdict

SMALLEST = 0.05
"""A smaller loss of accuracy (share) would not matter."""


def beyond(results: Results, name: str) -> Judgement:
    """Whether the interval of the row `name` lies beyond the smallest that matters."""
    lost = results.one(name)
    low, high = lost.low or 0.0, lost.high or 0.0
    verdict: Verdict = (
        "reproduced"
        if low > SMALLEST
        else "not reproduced"
        if high < SMALLEST
        else "inconclusive"
    )
    told = f"It costs {lost.value:.2f} more than noise [{low:.2f}, {high:.2f}]."
    return Judgement(verdict, told, told)


CLAIMS = (
    Claim(
        id="A1",
        statement="An attack costs more accuracy than noise of the same budget.",
        source="our own question",
        measure="accuracy under noise less accuracy under FGSM, mean over seeds",
        rule=f"held if the interval lies above {SMALLEST}, not held if below it",
        control="noise of the same budget on the same images",
        judge=partial(beyond, name="attack beyond noise"),
    ),
)
