"""Maps from every baseline and how alike they are: `measure_maps` for one task each,
`add_*` for the rows of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure import saliency, saliency_metrics, similarity
from robustbook.measure.adjusted_rise import adjusted_maps
from robustbook.models.network import compute_logits
from robustbook.perturb.masks import RiseMasks
from robustbook.results import Results
from robustbook.stats import Interval, binomial_interval, bootstrap_mean, correlation
from robustbook.studies.saliency_baselines.claims import DECIDING, NEUTRAL
from robustbook.studies.saliency_baselines.measure.units import (
    DIFFERENCE,
    SHARE,
    add_mean,
)
from robustbook.studies.saliency_baselines.networks import (
    Task,
    baseline_images,
    baseline_names,
    design_of,
    gather,
    image_pair,
    mask_count,
    masks_by,
    reference_masks,
    rise_masks,
    trained_for,
)

Numbers = NDArray[np.float64]
ESTIMATORS = ("plain", "centred", "adjusted")
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Numbers of masks at which ceilings are compared, as shares of the largest."""
CHECKED = 2
"""Images of a task whose rounded maps are compared with exact ones."""
RELATED = "another"
"""What baselines are called that show a patch themselves on planted patches: another
image of that set, and what was optimised from one.
"""
REFERENCE = "training mean"
RETRAINED = ("digits", "mnist", "shapes", "planted")


@dataclass(frozen=True, eq=False)
class Maps:
    """Adjusted RISE maps (2, B, n, H, W) of a task: two independent draws of masks, B
    baselines, n images; and comparisons.

    By estimator and measure, `ceiling` (B, n) compares the two draws of one baseline,
    `between` (B, B, n) two baselines from different draws; `halves` (2, B, B, n) are
    the two ways to do so with adjusted maps, `same` two baselines from the same masks.
    `neutral` (2, B, n): distance of the answer from uniform, and the probability of the
    class explained. `passes` holds ceilings (counts, n) by design and estimator;
    `recovered` (2, B, n), `occluded` (B, n) and `random` (n,) overlap with the truth;
    `retrained` (2, n) similarity to maps of a second network, and that one's ceiling.
    """

    task: Task
    title: str
    names: tuple[str, ...]
    classes: int
    accuracy: float
    maps: Tensor
    neutral: Numbers
    ceiling: dict[tuple[str, str], Numbers]
    between: dict[tuple[str, str], Numbers]
    halves: Numbers
    same: Numbers
    counts: tuple[int, ...] = ()
    passes: dict[tuple[str, str], Numbers] = field(default_factory=dict)
    retrained: Numbers | None = None
    recovered: Numbers | None = None
    occluded: Numbers | None = None
    random: Numbers | None = None
    follows: Numbers | None = None
    rounded: Numbers | None = None

    def gaps(self, estimator: str, measure: str) -> Numbers:
        """Ceiling minus similarity (pairs, n) of each pair of baselines."""
        key = estimator, measure
        return pair_gaps(self.ceiling[key], self.between[key])


def pair_gaps(ceiling: Numbers, between: Numbers) -> Numbers:
    """Ceiling minus similarity (pairs, n) from `ceiling` (B, n) and `between` (B, B,
    n); the ceiling of a pair is the geometric mean of its two.

    Two noisy maps of one signal correlate to the root of the product of how far each
    repeats itself (Spearman 1904).
    """
    first, second = np.triu_indices(len(ceiling), 1)
    kept = np.maximum(ceiling, 0)
    found: Numbers = np.sqrt(kept[first] * kept[second]) - between[first, second]
    return found


def measure_maps(task: Task) -> Maps:
    """RISE maps of the task's images from all its baselines, compared with each other
    and, if known, the truth.
    """
    material, names, made = gather(task), baseline_names(task), baseline_images(task)
    draws = [_scores(task, made, rise_masks(task, draw)) for draw in (0, 1)]
    by_estimator = {
        name: torch.stack([_maps(task, *draw, name) for draw in draws])
        for name in ESTIMATORS
    }
    maps = by_estimator["adjusted"]
    ceiling, between = {}, {}
    for estimator, found in by_estimator.items():
        for measure in DECIDING if estimator == "adjusted" else DECIDING[:1]:
            crossed = cross(measure, found[0], found[1])
            ceiling[estimator, measure] = np.einsum("bbn->bn", crossed).copy()
            between[estimator, measure] = (crossed + crossed.swapaxes(0, 1)) / 2
    crossed = cross(DECIDING[0], maps[0], maps[1])
    counts, passes = _passes(task, draws, made)
    more = _against_truth(task, maps) if material.truth is not None else {}
    if task.dtype != torch.float32:
        more["rounded"] = _rounding(task, made, maps)
    if task.data in RETRAINED and task.parameters.seeds > 1:
        more["retrained"] = _retrained(task, maps)
    return Maps(
        task,
        material.source.title,
        names,
        material.source.classes,
        material.accuracy,
        maps,
        _neutrality(task, made),
        ceiling,
        between,
        np.stack([crossed, crossed.swapaxes(0, 1)]),
        cross(DECIDING[0], maps[0], maps[0]),
        counts,
        passes,
        **more,
    )


def _scores(
    task: Task, made: Tensor, masks: RiseMasks, **options: Any
) -> tuple[Tensor, RiseMasks]:
    """Scores (B n, masks) of the task's first n images under baselines `made` (B, n, C,
    H, W), and the masks.
    """
    material, count = gather(task), made.shape[1]
    settings = {"model": material.model, "dtype": task.dtype, **options}
    scores = saliency.mask_scores(
        settings["model"],
        material.images[:count].repeat(len(made), 1, 1, 1),
        material.targets[:count].repeat(len(made)),
        masks,
        made.flatten(0, 1),
        chunk=task.chunk,
        dtype=settings["dtype"],
    )
    return scores, masks


def _maps(
    task: Task,
    scores: Tensor,
    masks: RiseMasks,
    estimator: str,
    *,
    count: int | None = None,
    baselines: int | None = None,
) -> Tensor:
    """Maps (B, n, H, W) of scores by an estimator, from the first `count` masks."""
    if estimator == "adjusted":
        found = adjusted_maps(scores, masks, reference_masks(task), count=count)
    else:
        centred = estimator == "centred"
        found = saliency.rise_maps(scores, masks, count=count, centred=centred)
    rows = baselines or len(baseline_names(task))
    return found.reshape(rows, -1, *masks.shape)


def cross(measure: str, first: Tensor, second: Tensor) -> Numbers:
    """Similarity (B, B, n) of each of the maps `first` (B, n, H, W) with each of
    `second`.
    """
    if measure == "spearman":
        ranked = [
            similarity.ranks(each.flatten(0, 1)).reshape(*each.shape[:2], -1).numpy()
            for each in (first, second)
        ]
        rows = [[correlation(one, other) for other in ranked[1]] for one in ranked[0]]
        return np.asarray(rows, dtype=float)
    compare = similarity.SIMILARITIES[measure]
    return np.array(
        [[compare(one, other).numpy() for other in second] for one in first], float
    )


def _passes(
    task: Task, draws: Sequence[tuple[Tensor, RiseMasks]], made: Tensor
) -> tuple[tuple[int, ...], dict[tuple[str, str], Numbers]]:
    """Ceilings (counts, n) of the reference baseline by design of the masks and
    estimator, against the number of masks.
    """
    row, images = baseline_names(task).index(REFERENCE), made.shape[1]
    counts = tuple(round(share * mask_count(task)) // 2 * 2 for share in SHARES)
    main, found = design_of(task), {}
    part = slice(row * images, (row + 1) * images)
    drawn = {main: [(scores[part], masks) for scores, masks in draws]}
    if main == "independent" and task.parameters.probability == 0.5:
        drawn["antithetic"] = [
            _scores(
                task,
                made[row : row + 1],
                masks_by(task, "antithetic", counts[-1], 20 + draw),
            )
            for draw in (0, 1)
        ]
    for design, pair in drawn.items():
        for estimator in ESTIMATORS:
            found[design, estimator] = np.stack(
                [_ceiling(task, pair, estimator, count) for count in counts]
            )
    if main == "independent":
        # A part of a balanced draw is not balanced.
        pairs = [
            [
                _scores(
                    task,
                    made[row : row + 1],
                    masks_by(task, "balanced", count, 30 + 2 * number + draw),
                )
                for draw in (0, 1)
            ]
            for number, count in enumerate(counts)
        ]
        found["balanced", "centred"] = np.stack(
            [_ceiling(task, pair, "centred", None) for pair in pairs]
        )
    return counts, found


def _ceiling(
    task: Task,
    pair: Sequence[tuple[Tensor, RiseMasks]],
    estimator: str,
    count: int | None,
) -> Numbers:
    first, second = (
        _maps(task, *draw, estimator, count=count, baselines=1) for draw in pair
    )
    return cross("spearman", first, second)[0, 0]


def _neutrality(task: Task, made: Tensor) -> Numbers:
    """Both readings of neutral (2, B, n): the divergence of the answer to the baseline
    from the uniform one as a share of log K, and the probability of the class.
    """
    material = gather(task)
    logits = compute_logits(material.model, made.flatten(0, 1), chunk=task.chunk)
    logarithms = logits.double().log_softmax(1)
    entropy = -(logarithms.exp() * logarithms).sum(1)
    far = 1 - entropy / np.log(logits.shape[1])
    own = logarithms.exp().gather(1, material.targets.repeat(len(made))[:, None])[:, 0]
    return np.stack([each.reshape(len(made), -1).numpy() for each in (far, own)])


def _rounding(task: Task, made: Tensor, maps: Tensor) -> Numbers:
    """Correlation (2,) of maps in the task's number format with exact ones: two images
    under the first baseline.
    """
    part = made[:1, :CHECKED]
    scores = _scores(task, part, rise_masks(task, 0), dtype=torch.float32)
    exact = _maps(task, *scores, "adjusted", baselines=1)[0]
    return similarity.spearman(exact, maps[0, 0, :CHECKED]).double().numpy()


def _retrained(task: Task, maps: Tensor) -> Numbers:
    """Similarity (n,) to the maps of a network trained from the next seed, on the same
    images with the reference baseline, and that network's ceiling.
    """
    row = baseline_names(task).index(REFERENCE)
    made = baseline_images(task)[row : row + 1]
    seed = (task.seed + 1) % task.parameters.seeds
    other = trained_for(task, image_pair(task.data)[0], seed)
    found = [
        _maps(
            task,
            *_scores(task, made, rise_masks(task, draw), model=other),
            "adjusted",
            baselines=1,
        )
        for draw in (0, 1)
    ]
    own = maps[:, row : row + 1]
    similar = (
        cross("spearman", own[0], found[1])[0, 0]
        + cross("spearman", own[1], found[0])[0, 0]
    ) / 2
    return np.stack([similar, cross("spearman", found[0], found[1])[0, 0]])


def _against_truth(task: Task, maps: Tensor) -> dict[str, Numbers]:
    """Overlap of every map, of occlusion maps and of random maps with the truth, and
    whether predictions follow it.
    """
    material, made = gather(task), baseline_images(task)
    assert material.truth is not None
    truth = material.truth

    def by_map(measure, found: Tensor) -> Numbers:  # type: ignore[no-untyped-def]
        return np.stack([measure(each, truth).double().numpy() for each in found])

    window = max(2, material.images.shape[2] // 5)
    occluded = torch.stack(
        [
            saliency.occlusion(
                material.model,
                material.images,
                material.targets,
                one,
                window=window,
                stride=2,
            )
            for one in made
        ]
    )
    random = saliency.random_maps(material.images, task.generator(2))
    found = {
        "recovered": np.stack(
            [by_map(saliency_metrics.overlap, draw) for draw in maps]
        ),
        "occluded": by_map(saliency_metrics.overlap, occluded),
        "random": by_map(saliency_metrics.overlap, random[None])[0],
    }
    if task.data == "planted":
        found["follows"] = _follows(task)
    return found


def _follows(task: Task) -> Numbers:
    """Whether each prediction becomes the class of a patch that is put in the place of
    the planted one.
    """
    from robustbook.data.shapes import swap_patch

    material = gather(task)
    assert material.truth is not None
    others = (material.targets + 1) % material.source.classes
    swapped = swap_patch(material.images, material.truth, others)
    return (
        (compute_logits(material.model, swapped).argmax(1) == others).double().numpy()
    )


# Rows
# --------------------------------------------------------------------------------------


def by_title(measured: Sequence[Maps]) -> dict[str, list[Maps]]:
    """The tasks' maps by the title of their data."""
    found: dict[str, list[Maps]] = {}
    for one in measured:
        found.setdefault(one.title, []).append(one)
    return found


def add_networks(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `accuracy` (mean over networks), `rounding` (correlation of maps in bfloat16
    with exact ones), `neutrality` and `probability of the class` by baseline.
    """
    for title, group in by_title(measured).items():
        if group[0].rounded is not None:
            found = bootstrap_mean(_joined(group, "rounded"), seed=0)
            results.add("rounding", found, over="images", data=title)
        accuracy = float(np.mean([one.accuracy for one in group]))
        results.add("accuracy", accuracy, unit="share", data=title)
        for reading, name in enumerate(("neutrality", "probability of the class")):
            for row, baseline in enumerate(group[0].names):
                parts = [one.neutral[reading, row] for one in group]
                factors: dict[str, Any] = {"data": title, "baseline": baseline}
                add_mean(results, name, parts, limits=SHARE, unit="share", **factors)


def add_similarity(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `ceiling`, `similarity` and `baseline gap` by estimator and measure, from
    the same masks too; `retraining gap`, `network gap` (one network each), and pairs of
    baselines as `pair similarity`.
    """
    for title, group in by_title(measured).items():
        first, second = np.triu_indices(len(group[0].names), 1)
        for estimator, measure in group[0].ceiling:
            key = estimator, measure
            factors: dict[str, Any] = {
                "data": title,
                "measure": measure,
                "estimator": estimator,
            }
            ceiling = [one.ceiling[key].mean(0) for one in group]
            between = [one.between[key][first, second].mean(0) for one in group]
            gaps = [one.gaps(*key).mean(0) for one in group]
            add_mean(results, "ceiling", ceiling, **factors)
            add_mean(results, "similarity", between, masks="other", **factors)
            add_mean(results, "baseline gap", gaps, limits=DIFFERENCE, **factors)
        factors |= {"measure": DECIDING[0], "estimator": "adjusted"}
        same = [one.same[first, second].mean(0) for one in group]
        add_mean(results, "similarity", same, masks="same", **factors)
        _add_retrained(results, title, group)
        for one in group:
            own = float(one.gaps("adjusted", DECIDING[0]).mean())
            results.add("network gap", own, data=title, seed=one.task.seed)
        crossed = np.concatenate(
            [one.between["adjusted", DECIDING[0]] for one in group], axis=-1
        ).mean(-1)
        names = group[0].names
        for row, column in zip(*np.triu_indices(len(crossed)), strict=True):
            results.add(
                "pair similarity",
                float(crossed[row, column]),
                data=title,
                first=names[row],
                second=names[column],
            )


def _add_retrained(results: Results, title: str, group: Sequence[Maps]) -> None:
    """Row `retraining gap`: what another training does to maps."""
    if group[0].retrained is None:
        return
    row, gaps = group[0].names.index(REFERENCE), []
    for one in group:
        assert one.retrained is not None
        own = np.maximum(one.ceiling["adjusted", DECIDING[0]][row], 0)
        similar, other = one.retrained
        gaps.append(np.sqrt(own * np.maximum(other, 0)) - similar)
    add_mean(results, "retraining gap", gaps, limits=DIFFERENCE, data=title)


def add_neutral(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `neutral gap`, `neutral ceiling` and `neutral pairs` (how many pairs are
    neutral for some image) by reading, and `gap by neutrality`: Spearman's correlation,
    over pairs, of the gap with the less neutral one's distance from uniform.
    """
    key = "adjusted", DECIDING[0]
    for title, group in by_title(measured).items():
        first, second = np.triu_indices(len(group[0].names), 1)
        for number, (reading, limit) in enumerate(readings(group[0].classes).items()):
            worse = [
                np.maximum(one.neutral[number, first], one.neutral[number, second])
                for one in group
            ]
            kept = [pair <= limit for pair in worse]
            factors: dict[str, Any] = {"data": title, "reading": reading}
            pairs = int(np.concatenate(kept, axis=1).any(1).sum())
            results.add("neutral pairs", pairs, unit="pairs", **factors)
            found = [
                _among(one.gaps(*key), mask)
                for one, mask in zip(group, kept, strict=True)
            ]
            roots = [
                _among(one.gaps(*key) + one.between[key][first, second], mask)
                for one, mask in zip(group, kept, strict=True)
            ]
            for name, parts in (("neutral gap", found), ("neutral ceiling", roots)):
                parts = [each for each in parts if len(each)]
                if len(parts) > 1:
                    add_mean(results, name, parts, limits=DIFFERENCE, **factors)
            if number == 0:
                slopes = [
                    _slopes(one.gaps(*key), pair)
                    for one, pair in zip(group, worse, strict=True)
                ]
                add_mean(results, "gap by neutrality", slopes, data=title)


def readings(classes: int) -> dict[str, float]:
    """Largest value of a neutral baseline in both readings: the divergence of its
    answer from uniform (share of log K), and the probability of the class explained,
    which by chance is one over the number of classes.
    """
    return {"near-uniform": NEUTRAL, "low for the class": 1.05 / classes}


def _among(gaps: Numbers, chosen: NDArray[np.bool_]) -> Numbers:
    """Mean of `gaps` (pairs, n) over an image's `chosen` pairs, for the images that
    have any.
    """
    some = chosen.any(0)
    found: Numbers = np.where(chosen, gaps, 0).sum(0)[some] / chosen.sum(0)[some]
    return found


def _slopes(gaps: Numbers, worse: Numbers) -> Numbers:
    """Spearman's correlation (n,) over pairs of `gaps` and `worse` (pairs, n)."""
    return np.array(
        [
            similarity.spearman(
                _column(gaps[:, image]), _column(worse[:, image])
            ).item()
            for image in range(gaps.shape[1])
        ]
    )


def _column(values: Numbers) -> Tensor:
    return torch.from_numpy(values.copy())[None, :, None]


def add_passes(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `ceiling at passes` by design, estimator and number of masks, and `passes
    to the plain ceiling`: the share of plain RISE's masks after which others repeat
    themselves as well as plain RISE with all of them.
    """
    for title, group in by_title(measured).items():
        counts = group[0].counts
        base = group[0].passes.get(("independent", "plain"))
        plain = (
            None
            if base is None
            else np.mean(
                [one.passes["independent", "plain"][-1].mean() for one in group]
            )
        )
        for design, estimator in group[0].passes:
            parts = [one.passes[design, estimator] for one in group]
            factors: dict[str, Any] = {
                "data": title,
                "design": design,
                "estimator": estimator,
            }
            for row, count in enumerate(counts):
                rows = [part[row] for part in parts]
                add_mean(results, "ceiling at passes", rows, masks=count, **factors)
            if plain is not None:
                curve = np.mean([part.mean(1) for part in parts], axis=0)
                share = _reached(curve, counts, float(plain)) / counts[-1]
                results.add(
                    "passes to the plain ceiling", share, unit="share", **factors
                )


def _reached(curve: Numbers, counts: Sequence[int], level: float) -> float:
    """Number of masks at which a curve reaches a level, straight in its logarithm; the
    smallest count where it begins above, the largest where it never does.
    """
    logs = np.log(counts)
    for place in range(len(counts)):
        if curve[place] >= level:
            if place == 0:
                return float(counts[0])
            share = (level - curve[place - 1]) / (curve[place] - curve[place - 1])
            step = logs[place] - logs[place - 1]
            return float(np.exp(logs[place - 1] + share * step))
    return float(counts[-1])


def add_recovery(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `recovery` by data, generator and baseline; on planted patches what
    `_add_range` records.
    """
    factors: dict[str, Any]
    known = [one for one in measured if one.recovered is not None]
    for title, group in by_title(known).items():
        parts = {
            "RISE": [part[0] for part in _parts(group, "recovered")],
            "occlusion": _parts(group, "occluded"),
        }
        for row, name in enumerate(group[0].names):
            for generator, values in parts.items():
                factors = {"data": title, "baseline": name, "generator": generator}
                rows = [part[row] for part in values]
                add_mean(results, "recovery", rows, limits=SHARE, **factors)
        factors = {"data": title, "generator": "random"}
        random = _parts(group, "random")
        add_mean(results, "recovery", random, limits=SHARE, **factors)
        if group[0].follows is not None:
            _add_range(results, group)


def _add_range(results: Results, group: Sequence[Maps]) -> None:
    """Rows `follows the patch`; `recovery range` (best minus worst baseline that shows
    no patch, with those that do, and of two draws of masks); and how far the worst
    baseline lies above random maps.
    """
    rise, occluded = _parts(group, "recovered"), _parts(group, "occluded")
    random, names = _parts(group, "random"), group[0].names
    follows = _share(_joined(group, "follows"))
    results.add("follows the patch", follows, over="images", unit="share")
    kept = [row for row, name in enumerate(names) if RELATED not in name]
    every = {"RISE": [part[0] for part in rise], "occlusion": occluded}
    for generator, values in every.items():
        for which, rows in (("no patch", kept), ("all", list(range(len(names))))):
            found = range_by_seed([part[rows] for part in values])
            factors = {"generator": generator, "baselines": which}
            add_mean(results, "recovery range", found, limits=DIFFERENCE, **factors)
    draws = [
        np.mean([best_minus_worst(part[:, row]) for row in kept], axis=0)
        for part in rise
    ]
    factors = {"generator": "RISE", "baselines": "one, two draws"}
    add_mean(results, "recovery range", draws, limits=DIFFERENCE, **factors)
    means = np.mean([part[0].mean(1) for part in rise], axis=0)
    worst = min(kept, key=lambda row: means[row])
    above = [part[0, worst] - chance for part, chance in zip(rise, random, strict=True)]
    add_mean(
        results,
        "lowest recovery above random",
        above,
        limits=DIFFERENCE,
        baseline=names[worst],
    )


def _parts(group: Sequence[Maps], name: str) -> list[Numbers]:
    return [getattr(one, name) for one in group]


def _joined(group: Sequence[Maps], name: str) -> Numbers:
    return np.concatenate(_parts(group, name), axis=-1)


def _share(hits: Numbers) -> Interval:
    """Share of ones with its Clopper-Pearson interval, whose width is not zero where
    all are equal.
    """
    return binomial_interval(int(hits.sum()), len(hits))


def range_by_seed(parts: Sequence[Numbers]) -> list[Numbers]:
    """`best_minus_worst` of `parts`, one (rows, n) a seed: a half of the images is the
    seeds with even or odd number.
    """
    if len(parts) == 1:
        return [best_minus_worst(parts[0])]
    sizes = [part.shape[1] for part in parts]
    halves = np.repeat(np.arange(len(parts)) % 2, sizes)
    found = best_minus_worst(np.concatenate(parts, axis=1), halves)
    return np.split(found, np.cumsum(sizes)[:-1])


def best_minus_worst(
    values: Numbers, halves: NDArray[np.int_] | None = None
) -> Numbers:
    """Difference (n,) of the best and the worst row of `values` (rows, n), each image's
    rows chosen on the other half of the images: `halves` (n,) of zeros and ones, by
    default every other image.
    """
    found = np.empty(values.shape[1])
    halves = np.arange(values.shape[1]) % 2 if halves is None else halves
    for half in (0, 1):
        means = values[:, halves != half].mean(1)
        found[halves == half] = (values[means.argmax()] - values[means.argmin()])[
            halves == half
        ]
    return found
