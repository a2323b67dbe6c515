"""Maps from every baseline and how alike they are: `measure_maps` for one task each,
`add_*` for the rows of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbook.measure import saliency, saliency_metrics, similarity
from robustbook.perturb.baselines import neutrality
from robustbook.results import Results
from robustbook.stats import Interval, binomial_interval, bootstrap_mean, bootstrap_rows
from robustbook.studies.saliency_baselines.claims import NEUTRAL
from robustbook.studies.saliency_baselines.measure.units import (
    DIFFERENCE,
    ONE_SEED,
    SEEDS,
    SHARE,
    add_mean,
    jackknife,
    left_out,
)
from robustbook.studies.saliency_baselines.networks import (
    Task,
    baseline_images,
    baseline_names,
    gather,
    rise_masks,
)

Numbers = NDArray[np.float64]
MEASURES = tuple(similarity.SIMILARITIES)
CHECKED = 2
"""Images of a task whose rounded maps are compared with exact ones."""
RELATED = "another image"
"""The baseline that on planted patches shows a patch itself: another image of that set.
"""


@dataclass(frozen=True, eq=False)
class Maps:
    """RISE maps (2, B, n, H, W) of a task: two independent draws of masks, B baselines,
    n images; and comparisons.

    `ceiling` (measures, B, n) compares the two draws of one baseline, `between`
    (measures, B, B, n) two baselines from different draws, `same` two baselines from
    the same masks. `recovered` holds overlap with the truth (2, B, n) and `occluded`
    that of occlusion maps (B, n), where the truth is known; `rounded` Spearman's
    correlation of maps in bfloat16 with those in float32 from the same masks, where
    maps are computed so.
    """

    task: Task
    title: str
    names: tuple[str, ...]
    accuracy: float
    maps: Tensor
    neutrality: Numbers
    ceiling: Numbers
    between: Numbers
    same: Numbers
    recovered: Numbers | None = None
    pointed: Numbers | None = None
    occluded: Numbers | None = None
    random: Numbers | None = None
    follows: Numbers | None = None
    rounded: Numbers | None = None

    @property
    def gaps(self) -> Numbers:
        """Ceiling minus similarity (measures, pairs, n) of each pair of baselines, from
        different masks.
        """
        first, second = np.triu_indices(len(self.names), 1)
        return (self.ceiling[:, first] + self.ceiling[:, second]) / 2 - self.between[
            :, first, second
        ]


def measure_maps(task: Task) -> Maps:
    """RISE maps of the task's images from all its baselines, compared with each other
    and, if known, the truth.
    """
    material, names, made = gather(task), baseline_names(task), baseline_images(task)
    said = neutrality(material.model, made.flatten(0, 1), chunk=task.chunk).reshape(
        len(names), -1
    )
    maps = torch.stack([_rise(task, made, draw, task.dtype) for draw in (0, 1)])
    more = _against_truth(task, maps) if material.truth is not None else {}
    if task.dtype != torch.float32:
        more["rounded"] = _rounding(task, made, maps)
    return Maps(
        task,
        material.source.title,
        names,
        material.accuracy,
        maps,
        said.double().numpy(),
        *compare(maps),
        **more,
    )


def _rise(task: Task, made: Tensor, draw: int, dtype: torch.dtype) -> Tensor:
    """Maps (B, n, H, W) of the task's first n images under baselines `made` (B, n, C,
    H, W).
    """
    material, masks, count = gather(task), rise_masks(task, draw), made.shape[1]
    images, targets = (
        material.images[:count].repeat(len(made), 1, 1, 1),
        material.targets[:count].repeat(len(made)),
    )
    scores = saliency.mask_scores(
        material.model,
        images,
        targets,
        masks,
        made.flatten(0, 1),
        chunk=task.chunk,
        dtype=dtype,
    )
    return saliency.rise_maps(scores, masks).reshape(len(made), count, *masks.shape)


def _rounding(task: Task, made: Tensor, maps: Tensor) -> Numbers:
    """Correlation (2,) of maps in the task's number format with exact ones: two images
    under the first baseline.
    """
    exact = _rise(task, made[:1, :CHECKED], 0, torch.float32)[0]
    return similarity.spearman(exact, maps[0, 0, :CHECKED]).double().numpy()


def compare(maps: Tensor) -> tuple[Numbers, Numbers, Numbers]:
    """Ceiling (measures, B, n), similarity between baselines (measures, B, B, n) from
    other and from the same masks.
    """
    count = maps.shape[1]
    crossed = np.empty((len(MEASURES), count, count, maps.shape[2]))
    same = np.empty_like(crossed)
    for row, measure in enumerate(similarity.SIMILARITIES.values()):
        for first in range(count):
            for second in range(count):
                crossed[row, first, second] = measure(
                    maps[0, first], maps[1, second]
                ).numpy()
                if first <= second:
                    shared = measure(maps[0, first], maps[0, second]).numpy()
                    same[row, first, second] = same[row, second, first] = shared
    ceiling = np.einsum("mbbn->mbn", crossed).copy()
    return ceiling, (crossed + crossed.swapaxes(1, 2)) / 2, same


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
        "pointed": np.stack([by_map(saliency_metrics.hits, draw) for draw in maps]),
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
    from robustbook.models.network import compute_logits

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
    with exact ones) and `neutrality` by baseline (share of log K, interval over
    images).
    """
    for title, group in by_title(measured).items():
        if group[0].rounded is not None:
            results.add(
                "rounding",
                bootstrap_mean(_joined(group, "rounded"), seed=0),
                over="images",
                data=title,
            )
        results.add(
            "accuracy",
            float(np.mean([one.accuracy for one in group])),
            unit="share",
            data=title,
        )
        for row, name in enumerate(group[0].names):
            said = np.concatenate([one.neutrality[row] for one in group])
            found = bootstrap_mean(said, seed=0, resamples=500)
            results.add(
                "neutrality",
                found,
                over="images",
                unit="share",
                data=title,
                baseline=name,
            )


def add_similarity(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `ceiling`, `similarity` (other or same masks) and `baseline gap` by measure,
    `corrected similarity`, `network gap` (Spearman, one network each), and pairs of
    baselines as `pair similarity`.
    """
    for title, group in by_title(measured).items():
        first, second = np.triu_indices(len(group[0].names), 1)
        for row, measure in enumerate(MEASURES):
            ceiling = [one.ceiling[row].mean(0) for one in group]
            between = [one.between[row, first, second].mean(0) for one in group]
            same = [one.same[row, first, second].mean(0) for one in group]
            factors: dict[str, Any] = {"data": title, "measure": measure}
            add_mean(results, "ceiling", ceiling, **factors)
            add_mean(results, "similarity", between, masks="other", **factors)
            add_mean(results, "similarity", same, masks="same", **factors)
            add_mean(
                results,
                "baseline gap",
                [one.gaps[row].mean(0) for one in group],
                limits=DIFFERENCE,
                **factors,
            )
            _add_corrected(results, between, ceiling, **factors)
        for one in group:
            own = float(one.gaps[MEASURES.index("spearman")].mean())
            results.add("network gap", own, data=title, seed=one.task.seed)
        _add_pairs(results, title, group)


def _add_corrected(
    results: Results, between: list[Numbers], ceiling: list[Numbers], **factors: Any
) -> None:
    """Row `corrected similarity`: mean similarity between baselines over the mean
    ceiling, where that is not zero.
    """
    if len(between) > 1:
        draws = left_out(
            _ratio,
            *(
                np.array([part.mean() for part in parts])
                for parts in (between, ceiling)
            ),
        )
        if np.isfinite(draws).all():
            results.add("corrected similarity", jackknife(draws), over=SEEDS, **factors)
    elif ceiling[0].any():
        found = bootstrap_rows(_ratio, between[0], ceiling[0], seed=0)
        results.add("corrected similarity", found, over=ONE_SEED, **factors)


def _ratio(first: Numbers, second: Numbers) -> float:
    """Ratio of the means, not a number where the second is zero."""
    mean = second.mean()
    return float(first.mean() / mean) if mean else float("nan")


def _add_pairs(results: Results, title: str, group: Sequence[Maps]) -> None:
    names = group[0].names
    crossed = np.concatenate([one.between[0] for one in group], axis=-1).mean(-1)
    for first in range(len(names)):
        for second in range(first, len(names)):
            factors: dict[str, Any] = {
                "data": title,
                "first": names[first],
                "second": names[second],
            }
            results.add("pair similarity", float(crossed[first, second]), **factors)


def add_neutral(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `neutral gap` over pairs that are both neutral, `neutral pairs` (their
    share), `neutral pair` (each pair that ever is, with the share of images for which
    it is), and `gap by neutrality`: Spearman's correlation, over pairs, of the gap with
    the less neutral one's distance from uniform.
    """
    for title, group in by_title(measured).items():
        first, second = np.triu_indices(len(group[0].names), 1)
        worse = [
            np.maximum(one.neutrality[first], one.neutrality[second]) for one in group
        ]
        neutral = [pair < NEUTRAL for pair in worse]
        add_mean(
            results,
            "neutral pairs",
            [pair.mean(0) for pair in neutral],
            limits=SHARE,
            unit="share",
            data=title,
        )
        for pair, share in enumerate(np.concatenate(neutral, axis=1).mean(1)):
            if share:
                names = {
                    "first": group[0].names[first[pair]],
                    "second": group[0].names[second[pair]],
                }
                results.add(
                    "neutral pair", float(share), unit="share", data=title, **names
                )
        for row, measure in enumerate(MEASURES):
            gaps = [one.gaps[row] for one in group]
            among = [_among(gap, mask) for gap, mask in zip(gaps, neutral, strict=True)]
            factors: dict[str, Any] = {"data": title, "measure": measure}
            found = [each for each in among if len(each)]
            if len(found) > 1 or (found and len(found[0]) > 1):
                add_mean(results, "neutral gap", found, limits=DIFFERENCE, **factors)
            slopes = [_slopes(gap, pair) for gap, pair in zip(gaps, worse, strict=True)]
            add_mean(results, "gap by neutrality", slopes, **factors)


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


def add_recovery(results: Results, measured: Sequence[Maps]) -> None:
    """Rows `recovery` and `pointing` by data, generator and baseline; on planted
    patches what `_add_range` records.
    """
    for title, group in by_title(
        [one for one in measured if one.recovered is not None]
    ).items():
        rise, occluded, random = (
            _parts(group, "recovered"),
            _parts(group, "occluded"),
            _parts(group, "random"),
        )
        pointed = np.concatenate(
            [part[0] for part in _parts(group, "pointed")], axis=-1
        )
        for row, name in enumerate(group[0].names):
            factors: dict[str, Any] = {"data": title, "baseline": name}
            add_mean(
                results,
                "recovery",
                [part[0, row] for part in rise],
                limits=SHARE,
                generator="RISE",
                **factors,
            )
            add_mean(
                results,
                "recovery",
                [part[row] for part in occluded],
                limits=SHARE,
                generator="occlusion",
                **factors,
            )
            results.add(
                "pointing",
                _share(pointed[row]),
                over="images",
                unit="share",
                generator="RISE",
                **factors,
            )
        add_mean(
            results, "recovery", random, limits=SHARE, generator="random", data=title
        )
        if group[0].follows is not None:
            _add_range(results, group)


def _add_range(results: Results, group: Sequence[Maps]) -> None:
    """Rows `follows the patch`; `recovery range` (best minus worst baseline, and the
    better minus the worse of two draws of masks); the same `without` the related
    baseline; and how far the worst baseline lies above random maps.
    """
    rise, occluded, random = (
        _parts(group, "recovered"),
        _parts(group, "occluded"),
        _parts(group, "random"),
    )
    names = group[0].names
    results.add(
        "follows the patch",
        _share(_joined(group, "follows")),
        over="images",
        unit="share",
    )
    kept = [row for row, name in enumerate(names) if name != RELATED]
    for generator, values in {
        "RISE": [part[0] for part in rise],
        "occlusion": occluded,
    }.items():
        add_mean(results, "recovery range", range_by_seed(values), generator=generator)
        without = range_by_seed([part[kept] for part in values])
        add_mean(
            results, f"recovery range without {RELATED}", without, generator=generator
        )
    draws = [
        np.mean([best_minus_worst(part[:, row]) for row in range(len(names))], axis=0)
        for part in rise
    ]
    add_mean(results, "recovery range", draws, generator="RISE, one baseline twice")
    worst = int(np.mean([part[0].mean(1) for part in rise], axis=0).argmin())
    above = [part[0, worst] - chance for part, chance in zip(rise, random, strict=True)]
    add_mean(
        results,
        "lowest recovery above random",
        above,
        generator="RISE",
        baseline=names[worst],
    )


def _parts(group: Sequence[Maps], field: str) -> list[Numbers]:
    return [getattr(one, field) for one in group]


def _joined(group: Sequence[Maps], field: str) -> Numbers:
    return np.concatenate(_parts(group, field), axis=-1)


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
