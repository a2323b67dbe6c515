"""Every public function of the library, found by introspection, with one right call of
each and the wrong values that its arguments are tried with.

Read `public` first, then `right_call` (values by the argument's name in `RIGHT`, and
what single functions need in `OWN`), then `wrong_calls` (by the argument's name in
`WRONG`). A new public function without a right value for an argument fails
`test_public_gate.py`, which names the argument.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOMS = ("perturb", "measure", "bayes", "models")
CLASSES = 3
CHECKED = "of checked arguments: the functions that call it ask the gate"
MADE = "only the package makes it"

EXCLUDED = {
    "*.forward": "a network is run by functions that check what it is given",
    "models.checkpoints.*": "paths and specifications of files, see test_models",
    "models.own.*": "files and names that a reader gives, see test_own_network",
    "models.pretrained.*": "published weights, see test_saliency",
    "models.prunable.published_resnet20": "published weights, see test_pruning",
    "models.prunable.PreActivationBlock": "a part of preact_resnet",
    "models.prunable.PaddedBlock": "a part of resnet20",
    "models.prunable.Group": "a part of a Prunable",
    "models.prunable.Prunable*": "made by the builders and by with_gates",
    "models.four_view.Block": "a part of a trunk",
    "models.four_view.Trunk": "a part of the four-view network",
    "models.folded.plain": "a question about a layer",
    "models.folded.hooked": "a question about a layer",
    "models.folded.Unrolled": "made by unroll",
    "models.input_convolution.*": "made by frozen",
    "models.network.Evaluation": MADE,
    "models.network.ModuleNetwork*": "used inside frozen; its logits are checked",
    "models.network.Pass*": MADE,
    "models.network.beside": CHECKED,
    "models.training.*_loss": "a step of train, which checks",
    "models.four_view.binary_loss": "a step of train, which checks",
    "models.network.chain": "a question about a network",
    "models.transformer.Attention": "a part of a transformer",
    "models.transformer.Block": "a part of a transformer",
    "models.transformer.VisionTransformer": "made by build_transformer",
    "perturb.ascent.walk": CHECKED,
    "perturb.ascent.climb": CHECKED,
    "perturb.ascent.norms": CHECKED,
    "perturb.ascent.as_given": CHECKED,
    "perturb.ascent.of_rows": CHECKED,
    "perturb.ascent.rows_of": "a gate itself",
    "perturb.ascent.*Step*": "parts of ascend, which checks",
    "perturb.ascent.Box*": "parts of ascend, which checks",
    "perturb.ascent.L2Ball*": "parts of ascend, which checks",
    "perturb.baselines.check": "a gate itself",
    "perturb.masks.RiseMasks": "made by draw_masks",
    "perturb.posterior.log_mean": CHECKED,
    "perturb.pruning.Cost": MADE,
    "perturb.pruning.LayerCost": MADE,
    "measure.propagation.*": CHECKED,
    "measure.box_divergence.*": "ranges that divergence_bound makes",
    "measure.tight_divergence.Cell": MADE,
    "measure.tight_divergence.Sharpened*": MADE,
    "measure.tight_divergence.Displacements*": MADE,
    "measure.tight_divergence.Search*": MADE,
    "measure.branch_and_bound.Exact": MADE,
    "measure.branch_and_bound.Shallow*": MADE,
    "measure.branch_and_bound.Maximum": MADE,
    "measure.branch_and_bound.Boxes": MADE,
    "measure.branch_and_bound.maximum": CHECKED,
    "measure.certificate.pairs": CHECKED,
    "measure.certificate.Differences*": MADE,
    "measure.distance.Distance": MADE,
    "measure.divergence.WorstCase": MADE,
    "models.unit_graph.HeadedAttention": "made by unit_graph",
    "models.unit_graph.Unit*": "made by unit_graph",
    "models.unit_graph.GroupMember": MADE,
    "models.unit_graph.dependenc*": CHECKED,
    "perturb.graph_pruning.gating": CHECKED,
    "measure.graph_importance.GraphOracle": MADE,
    "measure.published_schedule.*": "a command, see test_any_network_pruning",
    "measure.pruning_walk.Walk*": MADE,
    "measure.tuned_pruning.*": "numbers of a Plan, which checks them, see its test",
    "measure.importance.gated": CHECKED,
    "measure.importance.checked": "a gate itself",
    "measure.importance.WeightTerms": MADE,
    "measure.importance.layer_parameters": CHECKED,
    "measure.importance.require_*": "a gate itself",
    "measure.oracle.RemovalLosses*": MADE,
    "measure.oracle.exact_share": "a question about a layer",
    "measure.oracle.share_of_channel": CHECKED,
    "measure.saliency.Question*": MADE,
    "measure.saliency.asked": "a gate itself",
    "measure.saliency.chosen": CHECKED,
    "measure.saliency.evaluating": CHECKED,
    "measure.saliency.plainly": CHECKED,
    "measure.saliency.pixel_numbers": "a gate itself",
    "measure.saliency.probability_drops": CHECKED,
    "measure.sequential.Rule": MADE,
    "measure.sequential.Ends*": MADE,
    "measure.sequential.Estimate": MADE,
    "measure.sequential.Operating": MADE,
    "measure.sequential.Simulation": MADE,
    "measure.surfaces.Surface": MADE,
    "measure.surfaces.Threshold": MADE,
    "measure.uncertainty.Uncertainty": MADE,
    "measure.verification.Region*": "made by ball and pixel_box",
    "measure.verification.Reach*": MADE,
    "measure.verification.Answer*": MADE,
    "measure.verification.answer": CHECKED,
    "measure.verification.margins": CHECKED,
    "measure.verification.by_chunks": CHECKED,
    "measure.verification.Verification": MADE,
    "measure.windowed_occlusion.Changed*": MADE,
    "measure.windowed_occlusion.WindowInterpreter*": MADE,
    "measure.windowed_occlusion.slide": CHECKED,
    "measure.windowed_occlusion.combine": CHECKED,
    "measure.windowed_occlusion.cover": CHECKED,
    "bayes.hmc.*Chain*": MADE,
    "bayes.hmc.Point": MADE,
    "bayes.hmc.evaluate": CHECKED,
    "bayes.hmc.leapfrog": CHECKED,
    "bayes.hmc.transition": CHECKED,
    "bayes.hmc.WarmUp": MADE,
    "bayes.hmc.warm_up": CHECKED,
    "bayes.hmc.DualAveraging*": MADE,
    "bayes.hmc.Network.*": CHECKED,
    "bayes.hmc.Reduced*": MADE,
    "bayes.hmc.Lifted*": MADE,
    "bayes.hmc.settled": CHECKED,
    "bayes.hmc.Run": MADE,
    "bayes.ratings.Ratings.*": CHECKED,
    "bayes.ratings.RatingPosterior*": MADE,
    "bayes.split_hmc.flow": CHECKED,
    "bayes.split_hmc.ScaledNetwork.*": CHECKED,
    "bayes.calibration.Ranks": MADE,
    "measure.mean_prediction.MeanReach": MADE,
    "measure.weight_boxes.SafeWeights": MADE,
    "measure.weight_boxes.Layers*": MADE,
    "measure.weight_boxes.layers_of": CHECKED,
    "measure.weight_boxes.keeps": CHECKED,
    "measure.weight_boxes.union_bound": CHECKED,
    "bayes.hmc.Diagnosis": MADE,
    "bayes.laplace.LastLayerLaplace": "made by fit_last_layer",
    "bayes.mean_field.Convergence": MADE,
    "bayes.mean_field.noisy_logits": CHECKED,
    "bayes.estimators.noisy_logits_by": CHECKED,
    "bayes.mean_field.divergence": CHECKED,
    "bayes.mean_field.repeated": CHECKED,
    "bayes.prediction.first_stochastic": "a question about weight samples",
    "bayes.protocol.training_data": "a gate itself",
    "bayes.protocol.probabilities": CHECKED,
    "bayes.protocol.decisions": CHECKED,
    "bayes.protocol.log_likelihood": CHECKED,
    "bayes.weights.WeightSamples.[!ln]*": CHECKED,
    "bayes.weights.WeightSamples.lookup": CHECKED,
    "bayes.weights.Layer*": MADE,
    "bayes.weights.Part*": MADE,
    "bayes.weights.fast_layers": CHECKED,
    "bayes.weights.is_fast": "a question about a layer",
    "bayes.weights.multiply": CHECKED,
    "bayes.weights.single": CHECKED,
    "bayes.weights.*convolve": CHECKED,
    "bayes.weights.pull_back": CHECKED,
    "stats.Interval": MADE,
    "stats.Drawn": MADE,
    "stats.Drawn.map": MADE,
    "stats.Resampling*": "made by draw",
}
"""What is public by name but no door for users, by pattern, and why."""


def public() -> dict[str, Callable[..., Any]]:
    """Public functions, constructors and methods of the rooms and of `stats`, by
    "room.module.name", without those that `EXCLUDED` names.
    """
    return {
        name: member
        for name, member in found()
        if not any(fnmatchcase(name, pattern) for pattern in EXCLUDED)
    }


def found() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All of them, excluded ones too."""
    for module in _modules():
        for name, member in sorted(vars(module).items()):
            if name.startswith("_") or getattr(member, "__module__", "") != (
                module.__name__
            ):
                continue
            path = f"{module.__name__.removeprefix('robustbook.')}.{name}"
            if inspect.isfunction(inspect.unwrap(member)):
                yield path, member
            elif inspect.isclass(member) and not _kind_of_error(member):
                if dataclasses.is_dataclass(member) or "__init__" in vars(member):
                    yield path, member
                for method, function in vars(member).items():
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{path}.{method}", function


def _kind_of_error(member: type) -> bool:
    return issubclass(member, Exception) or getattr(member, "_is_protocol", False)


def _modules() -> Iterator[Any]:
    for room in ROOMS:
        package = importlib.import_module(f"robustbook.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"robustbook.{room}.{module.name}")
    yield importlib.import_module("robustbook.stats")


# Right calls -------------------------------------------------------------------------


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=generator())


def images(count: int = 4, channels: int = 1, side: int = 8) -> Tensor:
    return rand(count, channels, side, side)


def image() -> Tensor:
    return images(1)[0]


def labels(count: int = 4) -> Tensor:
    return torch.arange(count) % CLASSES


def maps() -> Tensor:
    return images()[:, 0]


def logits() -> Tensor:
    return torch.randn(4, CLASSES, generator=generator())


def _layers(*layers: Callable[[], nn.Module]) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*(layer() for layer in layers)).eval()


def network() -> nn.Sequential:
    """A network of images (N, 1, 8, 8)."""
    return _layers(
        nn.Flatten,
        lambda: nn.Linear(64, 6),
        nn.ReLU,
        lambda: nn.Linear(6, CLASSES),
    )


def convolutional() -> nn.Sequential:
    """A network of images (N, 1, 8, 8) with convolutions and batch-norms."""
    return _layers(
        lambda: nn.Conv2d(1, 3, 3, padding=1),
        lambda: nn.BatchNorm2d(3),
        nn.ReLU,
        lambda: nn.Conv2d(3, 4, 3, stride=2),
        lambda: nn.BatchNorm2d(4),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Linear(36, CLASSES),
    )


def prunable() -> Any:
    from robustbook.models.gated import with_gates

    return with_gates(convolutional()).eval()


def alive() -> Tensor:
    return torch.arange(7) != 2


def samples() -> Any:
    from robustbook.bayes.weights import WeightSamples, stack

    found = stack([network(), network()])
    weights = dict(found.weights)
    noise = torch.randn(weights["3.weight"].shape, generator=generator())
    return WeightSamples(found.architecture, weights | {"3.weight": noise})


def posterior() -> Any:
    from robustbook.bayes.protocol import Empirical

    return Empirical(samples())


def mean_field() -> Any:
    from robustbook.bayes.weight_noise import weight_noise

    return weight_noise(network(), 0.1)


def every_weight() -> Any:
    from robustbook.bayes.mean_field import MeanField

    plain = _layers(
        nn.Flatten, lambda: nn.Linear(64, 2), nn.ReLU, lambda: nn.Linear(2, CLASSES)
    )
    means = {name: part.detach() for name, part in plain.named_parameters()}
    return MeanField(plain, means, {name: 0.1 + 0 * m for name, m in means.items()})


def scaled() -> Any:
    from robustbook.bayes.split_hmc import ScaledNetwork

    return ScaledNetwork(network(), images(), labels())


def found_ranks() -> Any:
    from robustbook.bayes.calibration import Ranks

    return Ranks(np.arange(100)[:, None] % 20, 19, ("one",))


def outer() -> Any:
    from robustbook.measure.certificate import certify

    return certify(samples(), region())


def masks() -> Any:
    from robustbook.perturb.masks import draw_masks

    return draw_masks(5, (8, 8), cells=2, probability=0.5, generator=generator())


def transformer() -> Any:
    from robustbook.models.transformer import build_transformer

    return build_transformer((1, 8, 8), CLASSES, seed=0)


def region() -> Any:
    from robustbook.measure.verification import pixel_box

    return pixel_box(images(), 0.05, None)


def rule() -> Any:
    from robustbook.measure.sequential import massart

    return massart(0.2, 0.2, 0.1)


def recipe() -> Any:
    from robustbook.models.training import Recipe

    return Recipe("natural", epochs=1, batch=2)


def distilled() -> Any:
    return dataclasses.replace(recipe(), training="distilled")


def sampled() -> Tensor:
    return torch.randn(5, 4, CLASSES, generator=generator()).softmax(2)


def drawn() -> Any:
    from robustbook.stats import bootstrap

    return bootstrap(lambda rows: rows.mean(), 5, seed=0, resamples=20)


def levels() -> Any:
    from robustbook.stats import draw

    return draw(3, 4, seed=0, resamples=20)


def column(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).random(shape)


RIGHT: dict[str, Callable[[], Any]] = {
    "images": images,
    "image": image,
    "labels": labels,
    "label": lambda: 1,
    "targets": labels,
    "baselines": lambda: torch.zeros(4, 1, 8, 8),
    "maps": maps,
    "logits": logits,
    "p_logits": logits,
    "q_logits": lambda: logits().flip(0),
    "model": network,
    "network": network,
    "architecture": network,
    "generator": generator,
    "samples": samples,
    "posterior": posterior,
    "masks": masks,
    "region": region,
    "rule": rule,
    "recipe": recipe,
    "alive": alive,
    "image_shape": lambda: (1, 8, 8),
    "shape": lambda: (1, 8, 8),
    "classes": lambda: CLASSES,
    "epsilon": lambda: 0.1,
    "epsilon_max": lambda: 0.5,
    "radius": lambda: 0.1,
    "steps": lambda: 2,
    "step_size": lambda: 0.05,
    "count": lambda: 2,
    "queries": lambda: 5,
    "looks": lambda: 5,
    "cuts": lambda: 1,
    "epochs": lambda: 1,
    "seed": lambda: 0,
    "resamples": lambda: 20,
    "scores": lambda: rand(7),
    "gradients": lambda: rand(4, 7),
    "gradient": lambda: rand(7),
    "curvature": lambda: rand(7),
    "vector": lambda: rand(7),
    "values": lambda: [0.1, 0.4, 0.2, 0.9],
    "first": lambda: [0.1, 0.4, 0.2, 0.9],
    "second": lambda: [0.3, 0.1, 0.2, 0.5],
    "positive": lambda: [True, False, True, False],
    "clean": lambda: [0.1, 0.2, 0.3],
    "attacked": lambda: [0.2, 0.4, 0.6],
    "theta": lambda: 0.2,
    "gamma": lambda: 0.2,
    "alpha": lambda: 0.1,
    "p": lambda: 0.3,
    "q": lambda: 0.4,
    "n": lambda: 10,
    "k": lambda: 2,
    "successes": lambda: 2,
    "trials": lambda: 5,
    "level": lambda: 0.9,
    "window": lambda: 3,
    "stride": lambda: 2,
    "truth": lambda: maps() > 0.5,
    "curves": lambda: rand(4, 6),
    "probabilities": sampled,
    "prior_sd": lambda: 0.5,
    "rates": lambda: {"1": 0.5},
    "batch": lambda: 2,
    "wavelength": lambda: 2.0,
    "pitch": lambda: 0.5,
    "start": lambda: torch.zeros(2, 3),
    "draws": lambda: 4,
    "warmup": lambda: 2,
    "units": lambda: 3,
    "factor": lambda: 2.0,
    "penalty": lambda: 0.1,
    "temperature": lambda: 2.0,
    "teacher": network,
    "student": network,
    "training": lambda: "natural",
    "method": lambda: "crown",
    "forms": lambda: torch.eye(CLASSES).expand(4, CLASSES, CLASSES),
    # Arguments with defaults, for the wrong values that are made from right ones.
    "chunk": lambda: 2,
    "restarts": lambda: 1,
    "starts": images,
    "confidence": lambda: 0.5,
    "learning_rate": lambda: 1e-3,
    "groups": lambda: [0, 1, 2, 3],
    "weights": lambda: [1.0, 2.0, 1.0, 1.0],
    "families": lambda: [0, 1, 2],
    "noise": lambda: 0.01,
    "weight": lambda: 1.0,
    "share": lambda: 0.2,
    "scales": lambda: [],
}
"""A right value of every argument by its name."""

FOUR_VIEWS = {
    "model": lambda: four_view(),
    "images": lambda: images(2, 4, 16),
    "targets": lambda: torch.zeros(2, 4),
    "recipe": lambda: four_view_recipe(),
}
REGION = {"method": lambda: "linear"}
TABLE = {"values": lambda: column(0, 3, 3, 2)}
MAPS = {"first": maps, "second": lambda: maps().flip(0)}


def ratings() -> Tensor:
    return torch.tensor([[[1.0, 0.0, 0.3]], [[0.0, 1.0, 0.2]]]).repeat(1, 2, 1)


def four_view() -> nn.Module:
    from robustbook.models.four_view import FourViewNetwork, build

    return build(FourViewNetwork, 0, widths=(2, 3, 4), hidden=4)


def four_view_recipe() -> Any:
    from robustbook.models.four_view import Recipe

    return Recipe(epochs=1, batch=1)


OWN: dict[str, dict[str, Callable[[], Any]]] = {
    "perturb.apgd.targeted_ratio": {
        "classes": lambda: torch.stack([labels(), (labels() + 1) % CLASSES], 1)
    },
    "perturb.ascent.ascend": {"objective": lambda: objective()},
    "perturb.baselines.blur": {"deviation": lambda: 1.0},
    "perturb.baselines.make": {"name": lambda: "blur 2", "training": images},
    "perturb.baselines.neutral": {"start": images, "steps": lambda: 2},
    "perturb.carlini_wagner.carlini_wagner": {
        "searches": lambda: 2,
        "steps": lambda: 3,
    },
    "perturb.interference.interfere": {
        "kind": lambda: "Gaussian noise",
        "severity": lambda: 2,
    },
    "perturb.restoration.wiener_gain": {
        "gain": lambda: np.array([1.0, 0.5]),
        "power": lambda: np.array([4.0, 2.0]),
        "later": lambda: 0.1,
    },
    "perturb.restoration.cosines": {"pixels": lambda: 6},
    "perturb.restoration.cosine_frequencies": {
        "height": lambda: 6,
        "width": lambda: 4,
        "pitch": lambda: 0.2,
    },
    "perturb.restoration.restored": {
        "images": lambda: images(2, 1, 8),
        "power": lambda: np.ones((8, 8)),
        "later": lambda: 0.1,
    },
    "bayes.ratings.Ratings": {"given": lambda: ratings()},
    "bayes.ratings.fit": {
        "given": lambda: ratings(),
        "draws": lambda: 5,
        "warmup": lambda: 3,
        "chains": lambda: 2,
    },
    "bayes.ratings.fit_mean_field": {
        "given": lambda: ratings(),
        "draws": lambda: 5,
        "steps": lambda: 3,
    },
    "perturb.lowpass.box_region": {
        "height": lambda: 8,
        "width": lambda: 8,
        "top": lambda: 1,
        "left": lambda: 1,
        "bottom": lambda: 4,
        "right": lambda: 4,
    },
    "perturb.lowpass.dilated": {
        "region": lambda: maps()[0] > 0.9,
        "pixels": lambda: 1,
    },
    "perturb.lowpass.transfer": {"frequency": lambda: np.array([0.1, 0.2])},
    "perturb.masks.draw_masks": {
        "shape": lambda: (8, 8),
        "cells": lambda: 2,
        "probability": lambda: 0.5,
    },
    "perturb.masks.RiseMasks.render": {"start": lambda: 0, "stop": lambda: 2},
    "perturb.masks.RiseMasks.weighted_sum": {
        "weights": lambda: rand(3, 2),
        "start": lambda: 0,
        "stop": lambda: 2,
    },
    "perturb.averaged.averaged_apgd": {"samples": lambda: 2},
    "perturb.averaged.alarm_matching": {
        "samples": lambda: 2,
        "alarm": lambda: torch.rand(4, generator=generator()),
    },
    "perturb.posterior.eot_pgd": {"samples": lambda: 2},
    "perturb.posterior.uncertainty_aware": {"samples": lambda: 2},
    "perturb.square.square_side": {
        "shape": lambda: (8, 8),
        "first_share": lambda: 0.8,
        "progress": lambda: 0.5,
    },
    "perturb.pruning.multiply_adds": {"layers": lambda: layer_costs()},
    "perturb.budgets.down_to": {"goal": lambda: 1e9, "among": lambda: None},
    "measure.pruning_walk.walk": {"step": lambda: 2, "until": lambda: 9.0},
    "perturb.universal.apply": {"pattern": lambda: torch.zeros(1, 8, 8)},
    "measure.bounds.certified": {},
    "measure.branch_and_bound.exact": {
        "samples": lambda: shallow_samples(),
        "tolerance": lambda: 1.0,
    },
    "measure.certificate.certify": REGION,
    "measure.clever.clever": {"batches": lambda: 3, "batch_size": lambda: 4},
    "measure.clever.lipschitz_estimate": {"largest": lambda: np.array([1.0, 1.2, 1.3])},
    "measure.distance.minimal_distance": {
        "steps": lambda: 2,
        "bisections": lambda: 1,
    },
    "measure.divergence.psi": {"kl": lambda: torch.tensor([0.1, 0.2])},
    "measure.importance.taylor_output": {"positions": lambda: rand(7) + 1},
    "measure.importance.positions": {"image": lambda: images(1)},
    "measure.importance.score": {
        "criterion": lambda: "taylor-fo",
        "seen": lambda: evidence(),
    },
    "measure.observers.auc_of": {"index": lambda: 1.0},
    "measure.observers.channelised_hotelling": {
        "present": lambda: column(0, 40, 8, 8),
        "absent": lambda: column(1, 40, 8, 8),
        "channels": lambda: column(2, 3, 64),
    },
    "measure.observers.contrast_to_noise": {
        "image": lambda: column(0, 8, 8),
        "region": lambda: np.eye(8, dtype=bool),
        "surround": lambda: ~np.eye(8, dtype=bool),
    },
    "measure.observers.detectability": {
        "signal": lambda: column(0, 8, 8),
        "noise_power": lambda: np.ones((8, 8)),
        "observer": lambda: "hotelling",
    },
    "measure.observers.difference_of_gaussians": {"side": lambda: 8},
    "measure.oracle.all_subsets": {"group": lambda: prunable().groups[0]},
    "measure.oracle.kept_units": {"codes": lambda: torch.arange(8)},
    "measure.oracle.best_by_size": {"losses": lambda: rand(8)},
    "measure.rank_agreement.across_halves": {
        "halves": lambda: column(0, 2, 2, 3, 3, 2)
    },
    "measure.rank_agreement.partial": {
        "matrix": lambda: np.eye(3),
        "given": lambda: 0,
    },
    "measure.rank_agreement.whole_from_half": {"half": lambda: 0.5},
    "measure.rank_agreement.without_one": {"families": lambda: [0, 1, 2]},
    "measure.saliency.average_drops": {
        "drops": lambda: rand(4, 2),
        "covers": lambda: torch.ones(2, 8, 8, dtype=torch.bool),
    },
    "measure.saliency.captum_map": {"name": lambda: "gradient"},
    "measure.saliency.rise_maps": {
        "scores": lambda: rand(4, 5),
        "count": lambda: 5,
    },
    "measure.saliency.superpixel_ablation": {
        "segments": lambda: (torch.arange(64) // 16).view(1, 8, 8).expand(4, 8, 8)
    },
    "measure.adjusted_rise.adjusted_maps": {
        "scores": lambda: rand(4, 5),
        "count": lambda: 5,
        "reference": masks,
    },
    "measure.attention.attention_rollout": {"model": lambda: transformer()},
    "measure.map_checks.infidelity": {
        "maps": lambda: rand(4, 8, 8),
        "perturbed": lambda: torch.stack([images(), 1 - images()]),
    },
    "measure.map_checks.max_sensitivity": {
        "explain": lambda: lambda given: given.mean(1),
        "radius": lambda: 0.1,
        "draws": lambda: 2,
    },
    "measure.off_data.distance_from_data": {
        "features": lambda: rand(4, 3),
        "data": lambda: rand(6, 3),
        "neighbours": lambda: 2,
    },
    "measure.road.impute": {
        "known": lambda: torch.arange(64).view(1, 8, 8).expand(4, 8, 8) % 3 == 0
    },
    "measure.road.road_curves": {
        "maps": lambda: rand(4, 8, 8),
        "shares": lambda: (0.2, 0.5),
    },
    "perturb.mask_designs.antithetic_masks": {
        "count": lambda: 4,
        "shape": lambda: (8, 8),
        "cells": lambda: 2,
    },
    "perturb.mask_designs.balanced_masks": {
        "count": lambda: 4,
        "shape": lambda: (8, 8),
        "cells": lambda: 2,
        "probability": lambda: 0.5,
    },
    "measure.saliency.windows": {"shape": lambda: (8, 8)},
    "measure.saliency.meaningful_perturbation": {"steps": lambda: 2},
    "measure.saliency.extremal_perturbation": {"steps": lambda: 2},
    "measure.saliency_metrics.removal_curves": {
        "steps": lambda: torch.arange(64).view(1, 8, 8).expand(4, 8, 8) // 16
    },
    "measure.sequential.bounded_mean_interval": {},
    "measure.sequential.clopper_pearson": {"count": lambda: 5},
    "measure.sequential.estimate": {"outcomes": lambda: lambda n: np.zeros(n, bool)},
    "measure.sequential.massart_count": {"low": lambda: 0.1, "high": lambda: 0.3},
    "measure.sequential.replay": {
        "outcomes": lambda: np.zeros((3, rule().horizon), dtype=bool)
    },
    "measure.sequential.simulate": {
        "runs": lambda: 3,
        "rng": lambda: np.random.default_rng(0),
    },
    "measure.sequential.simultaneous_theta": {"images": lambda: 4, "count": lambda: 9},
    "measure.similarity.spearman": MAPS,
    "measure.similarity.ssim": MAPS,
    "measure.similarity.top_overlap": MAPS,
    "measure.surfaces.line": {
        "direction": lambda: images(2)[1],
        "alphas": lambda: [0.0, 0.1],
    },
    "measure.surfaces.plane": {
        "direction_1": lambda: images(2)[1],
        "direction_2": lambda: images(3)[2],
        "alphas": lambda: [0.0, 0.1],
        "betas": lambda: [0.0, 0.1],
    },
    "measure.surfaces.best_threshold": {"wrong": lambda: [False, True, False, True]},
    "measure.verification.pixel_box": {"pixels": lambda: [(0, 1), (2, 3)]},
    "measure.verification.verify": {"oracle": lambda: moves},
    "models.architectures.build": {"architecture": lambda: "mlp"},
    "models.four_view.FourViewNetwork": {},
    "models.four_view.build": {"network": lambda: type(four_view())},
    "models.four_view.train": FOUR_VIEWS,
    "models.training.train": {"recipe": lambda: distilled(), "teacher": network},
    "models.gated.with_gates": {"network": convolutional},
    "models.gated.without_gates": {"network": prunable},
    "models.prunable.build": {"architecture": lambda: "vgg"},
    "models.prunable.vgg": {"widths": lambda: (2, 3)},
    "models.prunable.preact_resnet": {"width": lambda: 2, "blocks": lambda: (1, 1)},
    "models.prunable.resnet20": {"shape": lambda: (3, 8, 8)},
    "models.prunable.Standardise": {"mean": lambda: [0.5], "deviation": lambda: [0.2]},
    "bayes.designs.stochastic_layers": {"design": lambda: "stoch+stoch"},
    "bayes.ensemble.train_ensemble": {
        "build": lambda: lambda _seed: network(),
        "members": lambda: 2,
    },
    "bayes.calibration.ranks": {
        "network": lambda: scaled(),
        "sampler": lambda: lambda misfit, start, generator: start[:, None],
        "replicates": lambda: 3,
    },
    "bayes.calibration.uniformity": {"found": lambda: found_ranks()},
    "bayes.split_hmc.sample": {
        "misfit": lambda: lambda at: at.sum(1),
    },
    "measure.exact_counts.worst_binomial_failure": {"count": lambda: 9},
    "measure.exact_counts.declared_robust": {"eta": lambda: 0.3},
    "measure.mean_prediction.mean_reach": {"outer": lambda: outer()},
    "measure.mean_prediction.mean_of_bounds": {"outer": lambda: outer()},
    "measure.weight_boxes.safe_probability": {
        "posterior": lambda: every_weight(),
        "boxes": lambda: 2,
    },
    "bayes.hmc.diagnose": {
        "values": lambda: torch.randn(2, 8, 3, generator=generator())
    },
    "bayes.cyclic.step_sizes": {
        "steps": lambda: 4,
        "cycles": lambda: 2,
        "first": lambda: 0.1,
    },
    "bayes.cyclic.sample": {
        "gradient": lambda: lambda point: point,
        "start": lambda: torch.zeros(3),
        "steps": lambda: 4,
        "cycles": lambda: 1,
        "keep": lambda: 1,
    },
    "bayes.cyclic.fit_cyclic": {
        "epochs": lambda: 4,
        "cycles": lambda: 1,
        "keep": lambda: 1,
    },
    "bayes.swag.fit_swag": {"epochs": lambda: 2},
    "bayes.estimators.train_by": {"estimator": lambda: "Flipout"},
    "bayes.swag.Swag": {
        "mean": lambda: swag().mean,
        "variance": lambda: swag().variance,
        "deviations": lambda: swag().deviations,
    },
    "bayes.swag.Swag.vectors": {"self": lambda: swag()},
    "bayes.swag.Swag.draw": {"self": lambda: swag()},
    "bayes.swag.as_weights": {"vectors": lambda: swag().deviations},
    "bayes.swag.gaussian_of": {
        "points": lambda: swag().deviations,
        "rank": lambda: 2,
    },
    "bayes.weight_noise.weight_noise": {"share": lambda: 0.2},
    "bayes.mc_dropout.train_dropout": {"rates": lambda: {"1": 0.5}},
    "bayes.hmc.sample": {"potential": lambda: lambda at: (at**2).sum(1) / 2},
    "bayes.hmc.network_posterior": {
        "target": lambda: target(),
        "chains": lambda: 2,
    },
    "bayes.mean_field.MeanField": {
        "means": lambda: mean_field().means,
        "scales": lambda: mean_field().scales,
    },
    "bayes.mean_field.diagnose": {"posterior": mean_field, "passes": lambda: 2},
    "bayes.mean_field.MeanField.draw": {"self": mean_field},
    "bayes.laplace.LastLayerLaplace.draw": {"self": lambda: laplace()},
    "bayes.mc_dropout.Dropout.draw": {"self": lambda: dropout()},
    "bayes.protocol.as_posterior": {"networks": lambda: [network(), network()]},
    "bayes.protocol.Empirical.draw": {"self": posterior},
    "bayes.weights.WeightSamples": {"weights": lambda: samples().weights},
    "bayes.weights.WeightSamples.logits": {"self": samples},
    "bayes.weights.WeightSamples.network": {"self": samples, "index": lambda: 1},
    "bayes.weights.stack": {"networks": lambda: [network(), network()]},
    "stats.Drawn.bounds": {"self": drawn},
    "stats.Drawn.interval": {"self": drawn},
    "stats.bootstrap": {
        "statistic": lambda: lambda rows: rows.mean(),
        "levels": lambda: (5,),
    },
    "stats.bootstrap_rows": {
        "statistic": lambda: np.mean,
        "columns": lambda: ([0.1, 0.4, 0.2, 0.9],),
    },
    "stats.crossed": {
        "statistic": lambda: lambda seeds, rows: seeds.sum(1) + rows[:, 0],
        "levels": levels,
    },
    "stats.crossed_mean": {"values": lambda: column(0, 3, 4), "levels": levels},
    "stats.draw": {"levels": lambda: (3, 4)},
    "stats.mean_over_seeds": {
        "statistic": lambda: lambda row, counts: counts @ row,
        "scores": lambda: column(0, 3, 4),
        "seeds": lambda: levels()[0],
        "rows": lambda: levels()[1],
    },
    "stats.auc": {"scores": lambda: [0.4, 0.1, 0.2, 0.3]},
    "stats.ks": {"scores": lambda: [0.4, 0.1, 0.2, 0.3]},
    "stats.kendall": {"first": lambda: column(0, 2, 4), "second": lambda: None},
    "stats.rank_matrix": {"rows": lambda: column(0, 5, 3)},
}
for pattern, arguments in {
    "measure.importance.*": {"model": prunable},
    "measure.oracle.*": {"model": prunable},
    "perturb.pruning.*": {"model": prunable},
    "perturb.budgets.*": {"model": prunable, "layers": lambda: layer_costs()},
    "perturb.graph_pruning.*": {
        "graph": lambda: graph(),
        "alive": lambda: torch.arange(6) > 1,
        "image_shape": lambda: (1, 8, 8),
    },
    "models.unit_graph.*": {"image_shape": lambda: (1, 8, 8)},
    "measure.graph_importance.*": {
        "graph": lambda: graph(),
        "count": lambda: 4,
        "generator": lambda: generator(),
    },
    "measure.pruning_walk.*": {"model": prunable, "criterion": lambda: "taylor-fo"},
    "measure.rank_agreement.*": TABLE,
    "perturb.masks.RiseMasks.*": {"self": masks},
    "perturb.apgd.apgd*": {"steps": lambda: 3},
    "perturb.auto_attack.*": {"steps": lambda: 3, "queries": lambda: 5},
    "stats.bootstrap*": {"resamples": lambda: 20},
    "stats.spearman": {"resamples": lambda: 20},
}.items():
    for name in public():
        if fnmatchcase(name, pattern):
            OWN[name] = {**arguments, **OWN.get(name, {})}


def objective() -> Any:
    from robustbook.perturb.gradient import margin

    return margin


def layer_costs() -> Any:
    from robustbook.perturb.pruning import layer_costs

    return layer_costs(prunable(), (1, 8, 8))


def graph() -> Any:
    from robustbook.models.unit_graph import unit_graph

    return unit_graph(network(), (1, 8, 8))


def evidence() -> Any:
    from robustbook.measure.importance import Evidence

    return Evidence(prunable(), images(), labels(), batch=2, generator=generator())


def shallow_samples() -> Any:
    from robustbook.bayes.weights import stack

    return stack(
        [
            _layers(
                nn.Flatten, lambda: nn.Linear(64, 1), nn.ReLU, lambda: nn.Linear(1, 2)
            )
        ]
    )


def moves(samples: Any, region: Any) -> Tensor:
    return samples.logits(region.images).argmax(-1) == 0


def target() -> Any:
    from robustbook.bayes.hmc import Network

    return Network(network(), images(), labels())


def swag() -> Any:
    from robustbook.bayes.swag import fit_swag

    return fit_swag(network(), images(), labels(), epochs=3, seed=0, batch=2)


def dropout() -> Any:
    from robustbook.bayes.mc_dropout import Dropout

    return Dropout(network(), {"1": 0.5})


def laplace() -> Any:
    from robustbook.bayes.laplace import fit_last_layer

    return fit_last_layer(network(), images(), labels(), prior_precision=1.0)


def right_call(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Arguments with which the function answers: those without a default, and those
    that `OWN` names for it.

    Raises KeyError for an argument of which nothing is known: say in `RIGHT` or `OWN`
    what it may be.
    """
    own = OWN.get(name, {})
    arguments = {}
    for argument, parameter in inspect.signature(function).parameters.items():
        if argument in own:
            arguments[argument] = own[argument]()
        elif parameter.kind is parameter.VAR_KEYWORD:
            continue
        elif parameter.default is parameter.empty:
            arguments[argument] = RIGHT[argument]()
    return arguments


def call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """The function's answer; a context is entered and left."""
    parameters = inspect.signature(function).parameters.values()
    starred = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    ordered: list[Any] = []
    named = dict(arguments)
    for each in parameters:
        if each.kind is each.VAR_POSITIONAL:
            ordered += named.pop(each.name)
        elif starred and each.kind is each.POSITIONAL_OR_KEYWORD:
            ordered.append(named.pop(each.name))
    result = function(*ordered, **named)
    if isinstance(result, contextlib.AbstractContextManager):
        with result as value:
            return value
    return result


# Wrong values ------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A wrong value of an argument: what is wrong with it, and how it is made from the
    right one.
    """

    what: str
    make: Callable[[Any], Any]


class Outputs(nn.Sequential):
    """A network whose outputs are changed by a function."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__(model)
        self.change = change

    def forward(self, points: Tensor) -> Any:
        return self.change(super().forward(points))


def _spoilt(value: float) -> Callable[[Any], Any]:
    """A tensor, an array, a list or a number in which one entry is `value`."""

    def make(right: Any) -> Any:
        if isinstance(right, Tensor):
            found = right.double() if not right.is_floating_point() else right.clone()
            found.view(-1)[0] = value
            return found
        found = np.array(right, dtype=float)
        found.reshape(-1)[0] = value
        return found if found.ndim else value

    return make


def _output(model: nn.Module, change: Callable[[Tensor], Any]) -> nn.Module:
    """The network with other outputs: those of its last layer where it has gates."""
    if type(model) is nn.Sequential:
        return Outputs(model, change)
    layer = model[-1] if isinstance(model, nn.Sequential) else model
    forward = layer.forward
    layer.__dict__["forward"] = lambda points: change(forward(points))
    return model


NAN, INFINITE = Wrong("NaN", _spoilt(np.nan)), Wrong("infinite", _spoilt(np.inf))
IMAGES = (
    Wrong("integers", lambda right: (right * 255).to(torch.uint8)),
    Wrong("in [0, 255]", lambda right: right * 255 + 2),
    Wrong("in [-1, 1]", lambda right: right * 2 - 1),
    NAN,
    Wrong("one dimension less", lambda right: right[0]),
    Wrong("one dimension more", lambda right: right[None]),
    Wrong("no image", lambda right: right[:0]),
    Wrong("an array", lambda right: right.numpy()),
    Wrong("None", lambda right: None),
)
LABELS = (
    Wrong("(N, 1)", lambda right: right[:, None]),
    Wrong("one-hot", lambda right: torch.eye(CLASSES, dtype=torch.int64)[right]),
    Wrong("too few", lambda right: right[:-1]),
    Wrong("negative", lambda right: right - 1),
    Wrong("beyond the classes", lambda right: right + CLASSES),
    Wrong("floating", lambda right: right.double()),
    Wrong("a list", lambda right: right.tolist()),
)
OUTPUTS = (
    Wrong("one logit", lambda right: _output(right, lambda out: out[:, :1])),
    Wrong("a tuple", lambda right: _output(right, lambda out: (out, out))),
    Wrong("a dictionary", lambda right: _output(right, lambda out: {"logits": out})),
    Wrong("NaN", lambda right: _output(right, lambda out: out * torch.nan)),
    Wrong("one row", lambda right: _output(right, lambda out: out[:1])),
)
NETWORKS = (*OUTPUTS, Wrong("text", lambda right: "resnet18"))
GENERATORS = (
    Wrong("None", lambda right: None),
    Wrong("a seed", lambda right: 0),
)
WHOLE = (
    Wrong("fraction", lambda right: 2.5),
    Wrong("negative", lambda right: -1),
    Wrong("text", lambda right: "2"),
    Wrong("None", lambda right: None),
    Wrong("NaN", lambda right: float("nan")),
)
POSITIVE_WHOLE = (*WHOLE, Wrong("zero", lambda right: 0))
AMOUNTS = (
    Wrong("negative", lambda right: -0.1),
    Wrong("NaN", lambda right: float("nan")),
    Wrong("infinite", lambda right: float("inf")),
    Wrong("text", lambda right: "0.1"),
    Wrong("None", lambda right: None),
)
POSITIVE = (*AMOUNTS, Wrong("zero", lambda right: 0.0))
SHARES = (*POSITIVE, Wrong("more than one", lambda right: 1.5))
TENSORS = (
    NAN,
    INFINITE,
    Wrong("integers", lambda right: right.long()),
    Wrong("an array", lambda right: right.numpy()),
)
SCORES = (*TENSORS, Wrong("one dimension more", lambda right: right[None]))
MAP_STACKS = (
    *TENSORS,
    Wrong("one map", lambda right: right[0]),
    Wrong("no map", lambda right: right[:0]),
)
COLUMNS = (
    NAN,
    INFINITE,
    Wrong("text", lambda right: ["a"] * len(right)),
    Wrong("empty", lambda right: np.asarray(right)[:0]),
    Wrong("too few", lambda right: np.asarray(right)[:-1]),
)
INDICES = (
    Wrong("negative", lambda right: right - 10_000),
    Wrong("too large", lambda right: right + 10_000),
    Wrong("floating", lambda right: right.double()),
    Wrong("a list", lambda right: right.tolist()),
)
NAMES = (
    NAN,
    Wrong("empty", lambda right: []),
    Wrong("too few", lambda right: right[:-1]),
)
NUMBERS = (NAN, INFINITE, Wrong("text", lambda right: "a"))
CHOICES = (Wrong("unknown", lambda right: "nothing"), Wrong("None", lambda right: None))
SHAPES = (
    Wrong("a side too many", lambda right: (*right, 2)),
    Wrong("zero", lambda right: (*right[:-1], 0)),
    Wrong("fraction", lambda right: (*right[:-1], 2.5)),
)
MASKS = (
    Wrong("too short", lambda right: right[:-1]),
    Wrong("fractions", lambda right: right * 0.5),
    Wrong("None", lambda right: None),
)
OBJECTS = (
    Wrong("text", lambda right: "that"),
    Wrong("None", lambda right: None),
)


def _named(wrong: tuple[Wrong, ...], names: str) -> dict[str, tuple[Wrong, ...]]:
    return dict.fromkeys(names.split(), wrong)


WRONG: dict[str, tuple[Wrong, ...]] = {
    **_named(IMAGES, "images image baselines"),
    **_named(LABELS, "labels targets"),
    **_named(NETWORKS, "model network architecture teacher student"),
    **_named(GENERATORS, "generator rng"),
    **_named(AMOUNTS, "epsilon epsilon_max step_size penalty confidence weight"),
    **_named(AMOUNTS, "size_weight smoothness_weight area_weight decay noise"),
    **_named(AMOUNTS, "later_noise later_variance weight_decay index"),
    **_named(POSITIVE, "radius deviation wavelength pitch prior_sd temperature"),
    **_named(POSITIVE, "relative_step learning_rate tolerance factor ratio"),
    **_named(POSITIVE, "smallest step first_constant prior_precision initial_scale"),
    **_named(INDICES, "codes segments"),
    **_named(WHOLE, "top left bottom right height stop warmup warmup_steps given"),
    **_named(WHOLE, "steps seed bisections queries count cuts k label pixels"),
    **_named(POSITIVE_WHOLE, "restarts chunk resamples batch epochs members chains"),
    **_named(POSITIVE_WHOLE, "draws thin passes window stride cells searches looks"),
    **_named(POSITIVE_WHOLE, "batches batch_size severity trials runs group grid"),
    **_named(POSITIVE_WHOLE, "n units classes hidden width side levels limit images"),
    **_named(SHARES, "theta gamma alpha level probability area target first_share"),
    **_named(SHARES, "share target_acceptance"),
    **_named((*AMOUNTS, SHARES[-1]), "p q progress"),
    **_named(SCORES, "scores gradient curvature vector"),
    **_named(TENSORS, "logits p_logits q_logits gradients probabilities curves"),
    **_named(TENSORS, "pattern direction direction_1 direction_2 starts positions"),
    **_named(TENSORS, "losses drops mean scale start forms kl"),
    **_named(MAP_STACKS, "maps"),
    **_named(COLUMNS, "values first second positive clean attacked largest alphas"),
    **_named(COLUMNS, "betas weights wrong rows matrix frequency gain"),
    **_named(NAMES, "groups families"),
    **_named(COLUMNS, "present absent channels signal noise_power"),
    **_named(NUMBERS, "low high successes"),
    **_named(MASKS, "alive truth covers region surround"),
    **_named(SHAPES, "image_shape shape"),
    **_named(CHOICES, "criterion kind method name training design observer"),
    **_named(OBJECTS, "samples posterior masks rule recipe"),
}
"""Wrong values by the argument's name; of one that is an `int` where others have a
tensor (`images` of `simultaneous_theta`), those of numbers.
"""


def wrong_calls(
    name: str, function: Callable[..., Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Argument, what is wrong with it, and all arguments of a call that is right but
    for that one; arguments with a default are tried too.
    """
    parameters = inspect.signature(function).parameters
    runs = bool({"images", "image", "baselines", "start"} & set(parameters))
    for argument, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        for wrong in _wrong(argument, _right(name, argument, parameter)):
            if wrong.what == "None" and parameter.default is None:
                continue
            if wrong in OUTPUTS and not runs:
                continue
            arguments = right_call(name, function)
            right = _right(name, argument, parameter)
            yield argument, wrong.what, {**arguments, argument: wrong.make(right)}


def _right(name: str, argument: str, parameter: inspect.Parameter) -> Any:
    own = OWN.get(name, {})
    if argument in own:
        return own[argument]()
    if parameter.default not in (None, parameter.empty):
        return parameter.default
    return RIGHT[argument]() if argument in RIGHT else None


def _wrong(argument: str, right: Any) -> tuple[Wrong, ...]:
    """The wrong values that are meant for this right one."""
    wrong = WRONG.get(argument, ())
    if right is None or isinstance(right, bool) or not wrong:
        return ()
    if dataclasses.is_dataclass(right) and not isinstance(right, type):
        return OBJECTS
    if isinstance(right, tuple):
        return wrong if wrong is SHAPES else ()
    if isinstance(right, str):
        return CHOICES
    if isinstance(right, int | float) and wrong in (IMAGES, SCORES, TENSORS, COLUMNS):
        return WHOLE if isinstance(right, int) else AMOUNTS
    if isinstance(right, Tensor) and wrong in (COLUMNS, WHOLE, SHARES, POSITIVE_WHOLE):
        return TENSORS if right.is_floating_point() else INDICES
    if isinstance(right, Tensor) and wrong is LABELS and right.is_floating_point():
        return TENSORS
    if isinstance(right, Mapping | type) or (callable(right) and wrong is not NETWORKS):
        return ()
    if isinstance(right, np.ndarray | list) and wrong not in (COLUMNS, MASKS, NAMES):
        return COLUMNS
    return wrong
