"""The networks of the chapter: one architecture, twelve kinds, several seeds, each
trained or read from the cache.

Read `KINDS` and `Network` first, then `load_point` (the trained network) and
`load_posterior`, then `train_all`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from robustbook.bayes.mean_field import MeanField
from robustbook.data import ImageSet
from robustbook.measure import importance
from robustbook.models import gated
from robustbook.models.training import Recipe
from robustbook.perturb import pruning
from robustbook.studies import shared
from robustbook.studies.protocol import seeds
from robustbook.studies.shared import images_of, most_probable, trained, variational
from robustbook.studies.synthesis.parameters import Parameters

CHANNELS, HIDDEN = 8, 64
"""Filters of the first convolution (the second has twice as many), and neurons: half
the book's `cnn`, so bounds are cheap.
"""
MINMAX_STEPS = 7
GRADIENT_PENALTY = 0.3
SCORE_IMAGES = 256
RATE, TUNING_RATE = 3e-3, 1e-3
"""Adam's learning rates of training, that of variational inference, and of tuning after
a pruning.
"""

SCALE_RATE = 3e-2
"""Learning rate of the log-deviations of variational inference: with that of the means
they stayed too small (see `diagnose`).
"""

POSTERIOR, PENALISED = "mean-field VI", "penalised"
NATURAL, MINMAX = "natural", "MinMax"
PRUNED = {
    f"natural, {share:.0%} pruned": (NATURAL, share) for share in (0.25, 0.5, 0.75)
} | {"MinMax, 50% pruned": (MINMAX, 0.5)}
"""Kinds that are made from another one: its name, and the share of units taken out of
each of its layers.
"""
TUNED = {parent: f"{parent}, tuned" for parent in (NATURAL, MINMAX)}
"""Controls of pruning, which are not part of the zoo: tuned as long, with nothing taken
out.
"""
TRAINED = (
    NATURAL,
    "natural, short",
    PENALISED,
    "FGSM",
    "gradient-regularised",
    "MinMax, half budget",
    MINMAX,
    POSTERIOR,
)
KINDS = (*TRAINED, *PRUNED)
FAMILIES = tuple(TRAINED.index(PRUNED.get(kind, (kind,))[0]) for kind in KINDS)
"""By place in `KINDS` the family: a trained kind with those pruned from it."""


@dataclass(frozen=True)
class Network:
    """What identifies a network of a run: its kind and its seed."""

    kind: str
    seed: int


def networks(parameters: Parameters, kinds: tuple[str, ...] = KINDS) -> list[Network]:
    """Every kind with every seed, kinds outermost."""
    return [Network(kind, seed) for kind in kinds for seed in seeds(parameters)]


def train_set(parameters: Parameters) -> ImageSet:
    """The images on which every network is trained."""
    return images_of(parameters.dataset, "train", parameters.train_images)


def recipe_of(kind: str, parameters: Parameters) -> Recipe:
    """How a kind without a posterior is trained; "natural, short" gets a sixth of the
    epochs.
    """
    epochs, epsilon = parameters.epochs, parameters.epsilon
    return {
        NATURAL: Recipe("natural", epochs, RATE),
        "natural, short": Recipe("natural", max(1, epochs // 6), RATE),
        "FGSM": Recipe("fgsm", epochs, RATE, epsilon=epsilon, steps=1),
        "gradient-regularised": Recipe(
            "gradient-regularised", epochs, RATE, penalty=GRADIENT_PENALTY
        ),
        "MinMax, half budget": Recipe(
            "minmax", epochs, RATE, epsilon=epsilon / 2, steps=MINMAX_STEPS
        ),
        MINMAX: Recipe("minmax", epochs, RATE, epsilon=epsilon, steps=MINMAX_STEPS),
    }[kind]


def load_point(network: Network, parameters: Parameters) -> nn.Sequential:
    """The trained network; of the Bayesian kind the one at the posterior mean."""
    if network.kind == POSTERIOR:
        posterior = load_posterior(network, parameters)
        model = _untrained(network, parameters)
        model.load_state_dict(dict(posterior.means))
        return model.eval()
    if network.kind in PRUNED or network.kind in TUNED.values():
        return _tuned(network, parameters)
    if network.kind == PENALISED:
        return _penalised(network, parameters)
    return _trained(
        network,
        parameters,
        _untrained(network, parameters),
        recipe_of(network.kind, parameters),
    )


def _untrained(network: Network, parameters: Parameters) -> nn.Sequential:
    data = train_set(parameters)
    return build(data.image_shape, data.classes, network.seed)


def build(shape: tuple[int, int, int], classes: int, seed: int) -> nn.Sequential:
    """The untrained network of the chapter: two strided convolutions (4 x 4, stride 2)
    and two linear layers.
    """
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, CHANNELS, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, 2 * CHANNELS, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * CHANNELS * (height // 4) * (width // 4), HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, classes),
        )


def _identity(network: Network, **numbers: object) -> dict[str, object]:
    return {
        "study": "synthesis",
        "sizes": [CHANNELS, HIDDEN],
        **asdict(network),
        **numbers,
    }


def _trained(
    network: Network,
    parameters: Parameters,
    model: nn.Sequential,
    recipe: Recipe,
    code: tuple[ModuleType, ...] = (),
    **numbers: object,
) -> nn.Sequential:
    found = trained(
        _identity(network, **numbers),
        model,
        train_set(parameters),
        recipe,
        seed=network.seed,
        code=code,
    )
    assert isinstance(found, nn.Sequential)
    return found


def _penalised(network: Network, parameters: Parameters) -> nn.Sequential:
    """The most probable network under the prior of the Bayesian one: an L2 penalty and
    no spread.
    """
    return most_probable(
        _identity(network),
        _untrained(network, parameters),
        train_set(parameters),
        prior_sd=parameters.prior_sd,
        epochs=parameters.vi_epochs,
        seed=network.seed,
    )


def load_posterior(network: Network, parameters: Parameters) -> MeanField:
    """The Bayesian network: independent Gaussian weights by variational inference."""
    return variational(
        _identity(network),
        _untrained(network, parameters),
        train_set(parameters),
        prior_sd=parameters.prior_sd,
        epochs=parameters.vi_epochs,
        seed=network.seed,
        scale_learning_rate=SCALE_RATE,
    )


def _tuned(network: Network, parameters: Parameters) -> nn.Sequential:
    """A network with a share of every layer's units taken out, then trained briefly as
    its parent was.
    """
    parent = network.kind.rpartition(",")[0]
    _, share = PRUNED.get(network.kind, (parent, 0.0))
    origin = recipe_of(parent, parameters)
    smaller = pruned(
        load_point(Network(parent, network.seed), parameters),
        share,
        train_set(parameters),
    )
    return _trained(
        network,
        parameters,
        smaller,
        replace(origin, epochs=parameters.tune_epochs, learning_rate=TUNING_RATE),
        code=(gated, importance, pruning),
        origin=asdict(origin),
        share=share,
    )


def pruned(network: nn.Sequential, share: float, data: ImageSet) -> nn.Sequential:
    """`network` without the `share` of units of each layer that have the lowest Taylor
    importance (first order).
    """
    model = gated.with_gates(network)
    scores = taylor_scores(network, data)
    alive = pruning.all_alive(model)
    for group in model.groups:
        alive = pruning.lowest(
            model, scores, round(share * group.units), alive, layers=[group.name]
        )
    return gated.without_gates(pruning.removed(model, alive))


def taylor_scores(network: nn.Sequential, data: ImageSet) -> Tensor:
    """First-order Taylor importance (units,) of the units of a plain network, from
    training images.
    """
    chosen = data.take(min(SCORE_IMAGES, len(data)))
    gradients = importance.gate_gradients(
        gated.with_gates(network), chosen.images, chosen.labels
    )
    return importance.per_example(gradients)


def train_all(parameters: Parameters) -> None:
    """Train what is not in the cache yet, side by side: first the trained kinds, the
    longest ones first, then the pruned.
    """
    cost = {MINMAX: 0, "MinMax, half budget": 0, POSTERIOR: 1}
    first = sorted(
        networks(parameters, TRAINED), key=lambda each: cost.get(each.kind, 2)
    )
    second = networks(
        parameters, (TUNED[MINMAX], "MinMax, 50% pruned", TUNED[NATURAL], *PRUNED)
    )
    for stage in (first, second):
        shared.train_all(_load, [(network, parameters) for network in stage])


def _load(item: tuple[Network, Parameters]) -> nn.Sequential:
    return load_point(*item)
