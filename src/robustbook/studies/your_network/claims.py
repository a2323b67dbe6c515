"""No claim is judged here: the study measures a network of yours, and each lens says
in a sentence what it saw.

`SAYINGS` has the sentence of every lens, written from the rows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustbook.results import Claim, Metric, Results

CLAIMS: tuple[Claim, ...] = ()
RELIABLE = 0.5
"""A map that repeats itself less than this says nothing."""
ENOUGH_ALIKE = 0.8
"""A share of the ceiling above which two maps are called alike."""


def percent(value: float | None) -> str:
    """A share for a sentence: `93 %`."""
    return "no share" if value is None else f"{100 * value:.0f} %"


def between(row: Metric) -> str:
    """A share with its interval: `93 % [84, 98]`."""
    if row.low is None or row.high is None:
        return percent(row.value)
    return f"{percent(row.value)} [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def _attack(results: Results) -> str:
    rows = results.select("robust accuracy", attack="then Square")
    budgets = _listed([f"{float(row.factors['budget']):.2g}" for row in rows])
    shares = _listed([percent(row.value) for row in rows])
    distance = results.one("minimal distance")
    return (
        f"Attacks within {budgets} leave {shares} of the images right; half of the "
        f"images fall within {distance.value:.2g}."
    )


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def _degradation(results: Results) -> str:
    clean = results.one("clean accuracy").value
    noise = results.select("degraded accuracy", kind="noise")
    blur = results.select("degraded accuracy", kind="low-pass")
    pattern = results.one("universal accuracy", pattern="learnt")
    return (
        f"The strongest noise leaves {between(noise[-1])} right and the strongest blur "
        f"{between(blur[-1])}, of {percent(clean)}; one pattern for all images leaves "
        f"{between(pattern)}."
    )


def _posterior(results: Results) -> str:
    alarm = results.select("alarm")[0]
    mind = results.one("change of mind", shown="attacked")
    return (
        f"Its own doubt tells attacked images from clean ones with an AUC of "
        f"{alarm.value:.2f} [{alarm.low or 0:.2f}, {alarm.high or 0:.2f}]; a network "
        f"drawn from the posterior answers otherwise than the mean on "
        f"{percent(mind.value)} of attacked images."
    )


def _saliency(results: Results) -> str:
    across = results.one("map agreement", compared="two baselines")
    ceiling = results.one("map agreement", compared="one baseline")
    if ceiling.value < RELIABLE:
        return (
            "So few masks leave its maps to chance: the same map drawn twice has a "
            f"rank correlation of {ceiling.value:.2f} with itself."
        )
    share = across.value / ceiling.value
    alike = "hardly depend" if share >= ENOUGH_ALIKE else "depend"
    return (
        f"Its maps {alike} on what covers the image: rank correlation "
        f"{across.value:.2f} between two covers, {ceiling.value:.2f} when the same is "
        "drawn twice."
    )


def _certificate(results: Results) -> str:
    rows = results.select("certified share")
    most = [row for row in rows if row.value > 0]
    if not most:
        return "No image is certified at any of the budgets."
    return (
        f"Proved for every perturbation up to {most[-1].factors['budget']:.2g}: "
        f"{between(most[-1])} of the images keep their right answer."
    )


def _pruning(results: Results) -> str:
    clean = results.one("pruned accuracy", removed=0.0)
    rows = results.select("pruned accuracy")
    kept = [row for row in rows if row.value >= clean.value - 0.02]
    last = kept[-1]
    cost = results.one("multiply-adds", removed=last.factors["removed"])
    wide = results.select("accuracy without half")
    idle = [row for row in wide if row.value >= clean.value - 0.01]
    return (
        f"{percent(float(last.factors['removed']))} of its units can go at once for "
        f"two points of accuracy at most, which leaves {percent(cost.value)} of the "
        f"multiply-adds; {len(idle)} of {len(wide)} layers can lose half their units."
    )


SAYINGS: Mapping[str, Callable[[Results], str]] = {
    "attack": _attack,
    "degradation": _degradation,
    "posterior": _posterior,
    "saliency": _saliency,
    "certificate": _certificate,
    "pruning": _pruning,
}


def saying(results: Results, lens: str) -> str:
    """What a lens saw, in a sentence; empty where it saw nothing."""
    looked = results.select(f"{lens} passes")
    return SAYINGS[lens](results) if looked else ""


def in_short(results: Results) -> list[str]:
    """Accuracy on clean images, then a sentence a lens."""
    clean = results.one("clean accuracy")
    first = f"Of {clean.n} images {between(clean)} get their right class."
    return [first, *filter(None, (saying(results, lens) for lens in SAYINGS))]
