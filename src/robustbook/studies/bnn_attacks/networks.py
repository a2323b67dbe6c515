"""The networks and posteriors that are compared, each fitted on the same training
images (or read from the cache).

Read `Bench` (a data set with its training) and `Network` (one of its networks) first,
then `fit`. Everything that is compared with a variational posterior is trained by its
optimiser, schedule, epochs and from its start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor, nn

from robustbook.bayes import cyclic, estimators, mc_dropout, swag, weight_noise
from robustbook.bayes.cyclic import fit_cyclic
from robustbook.bayes.designs import stochastic_layers
from robustbook.bayes.estimators import LOCAL, train_by
from robustbook.bayes.laplace import fit_last_layer
from robustbook.bayes.mc_dropout import Dropout, train_dropout
from robustbook.bayes.mean_field import Convergence, MeanField, diagnose
from robustbook.bayes.protocol import Empirical, Posterior
from robustbook.bayes.swag import Swag, fit_swag
from robustbook.bayes.weight_noise import train_map
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.data import ImageSet
from robustbook.models import Scale, build
from robustbook.models.checkpoints import kept
from robustbook.models.network import compute_logits
from robustbook.models.prunable import published_resnet20
from robustbook.models.training import Recipe
from robustbook.studies.bnn_attacks.claims import (
    BNN,
    CNN,
    CONTROL,
    PENALISED,
    SPLIT,
)
from robustbook.studies.shared import images_of, train_all

ARCHITECTURE = "cnn"
REVERSED = "stoch+det"
DESIGNS = (CONTROL, SPLIT, REVERSED, BNN)
"""The four designs: det+det is the control, the last is the Bayesian network."""
ESTIMATED = ("Bayes by Backprop", "Flipout")
"""The Bayesian network by the other two gradient estimators."""
OTHERS = ("MC dropout", "ensemble", "Laplace", "SWAG", "cyclic SG-MCMC", "weight noise")
"""Posteriors beyond mean field, and noise that is none."""
TRAINED_LATER = ("MC dropout", "SWAG", "cyclic SG-MCMC")
"""Those of them that take a training, after the control's."""
EXTRACTED = (CNN, CONTROL, PENALISED, SPLIT)
"""Networks on the published extractor, which is a point."""
SMALL = (CNN, PENALISED, *DESIGNS)
KINDS = (CNN, PENALISED, *DESIGNS, *ESTIMATED, *OTHERS)
BATCH = 100
SCALE_RATE = 0.1
"""Learning rate of the log-deviations in variational inference.

Chosen on training images alone, by the evidence lower bound and the balance of the
deviations (`mean_field.diagnose`), without test images and without attacks: at the rate
of the means (0.003) the balance was 0.2 to 0.5 after 300 steps, where 1 is the optimum.
"""
SWEEP = ((1.0, 1.0), (0.1, 1.0), (0.01, 1.0), (1.0, 0.3), (1.0, 3.0))
"""Temperatures, and factors of the prior's deviation."""
HIDDEN = 100
NOISY_PASSES = 12_000
"""Images, each with noise of its own, over which a diagnosis is averaged."""


@dataclass(frozen=True)
class Bench:
    """A data set with its budget, its training, and the images of each repetition."""

    dataset: str
    epsilon: float
    train_images: int
    epochs: int
    temperature: float
    prior_sd: float
    images: int
    seeds: int
    first_seed: int
    dropout_rate: float = 0.3
    noise: float = 0.3
    chain_epochs: int = 12
    extractor: bool = False

    @property
    def bayesian(self) -> str:
        """The Bayesian network: stochastic wherever weights are trained here."""
        return SPLIT if self.extractor else BNN

    @property
    def budgets(self) -> tuple[float, ...]:
        """Budgets of the claims, in shares of epsilon."""
        return (1.0,) if self.extractor else (0.5, 1.0)

    def train_set(self) -> ImageSet:
        """The training images of all networks."""
        return images_of(self.dataset, "train", self.train_images)

    def repetition(self, seed: int) -> tuple[Tensor, Tensor]:
        """Test images and labels of one repetition, no other has one of them."""
        return self._slice(seed - self.first_seed)

    def reference(self) -> tuple[Tensor, Tensor]:
        """Clean images that no repetition attacks, which set what is usual."""
        return self._slice(self.seeds)

    def _slice(self, place: int) -> tuple[Tensor, Tensor]:
        data = images_of(self.dataset, "test", self.images * (self.seeds + 1))
        rows = slice(place * self.images, (place + 1) * self.images)
        return data.images[rows], data.labels[rows]


@dataclass(frozen=True)
class Network:
    """One network of a bench: its kind and its repetition."""

    bench: Bench
    kind: str
    seed: int


def bench(dataset: str, **settings: float) -> list[Bench]:
    """The bench of a data set, none for the data set `none`."""
    return [] if dataset == "none" else [Bench(dataset, **settings)]  # type: ignore[arg-type]


def all_networks(
    benches: Sequence[Bench], first_kinds: Sequence[str] = KINDS
) -> list[Network]:
    """Every network: `first_kinds` on the first bench, the designs on the others."""
    return [
        Network(each, kind, seed)
        for place, each in enumerate(benches)
        for seed in range(each.first_seed, each.first_seed + each.seeds)
        for kind in (
            EXTRACTED if each.extractor else first_kinds if place == 0 else SMALL
        )
    ]


def image_sets(benches: Sequence[Bench]) -> list[ImageSet]:
    """Test and training images of all benches."""
    return [
        data
        for each in benches
        for data in (
            images_of(each.dataset, "test", each.images * (each.seeds + 1)),
            each.train_set(),
        )
    ]


def swept(bench: Bench, seeds: int) -> list[Network]:
    """The Bayesian network under every temperature and prior of the sweep, in the
    first `seeds` repetitions.
    """
    return [
        Network(
            replace(bench, temperature=heat, prior_sd=bench.prior_sd * wider), BNN, seed
        )
        for heat, wider in SWEEP
        for seed in range(bench.first_seed, bench.first_seed + min(seeds, bench.seeds))
    ]


def fit_all(networks: Sequence[Network]) -> None:
    """Train what is not in the cache yet, side by side."""
    first = [each for each in networks if each.kind not in OTHERS]
    train_all(fit, first)
    train_all(fit, [each for each in networks if each.kind in TRAINED_LATER])


def fit(network: Network) -> Posterior:
    """The posterior of a network; a deterministic network is a posterior of one.

    Raises TrainingDiverged if a loss stops being finite (nothing is kept).
    """
    bench, kind, seed = network.bench, network.kind, network.seed
    # Nothing else starts where the network starts on which attacks are made.
    own = seed if kind == CNN else 1000 * (seed + 1)
    if bench.extractor:
        return _classifier(bench, kind, own)
    if kind in (CNN, CONTROL):
        return Empirical(stack([_point(bench, own)]))
    if kind == PENALISED:
        return Empirical(stack([_penalised(bench, own)]))
    if kind in (*DESIGNS, *ESTIMATED):
        layers = (
            None if kind in ESTIMATED else stochastic_layers(kind, _blank(bench, 0))
        )
        return _variational(bench, kind, own, layers)
    return _other(bench, kind, seed, own)


def _other(bench: Bench, kind: str, seed: int, own: int) -> Posterior:
    data = bench.train_set()
    if kind == "ensemble":
        # The controls of the other repetitions, so that none is compared with itself.
        rest = [
            1000 * (each + 1)
            for each in range(bench.first_seed, bench.first_seed + bench.seeds)
            if each != seed
        ] or [own + 1]
        return Empirical(stack([_point(bench, each) for each in rest]))
    if kind == "MC dropout":
        return _dropout(bench, own)
    point = _point(bench, own)
    if kind == "Laplace":
        return fit_last_layer(point, data.images, data.labels)
    if kind == "weight noise":
        return weight_noise.weight_noise(point, bench.noise)
    if kind == "SWAG":
        return _swag(bench, point, own)
    return _chain(bench, point, own)


def _blank(bench: Bench, seed: int) -> nn.Sequential:
    data = bench.train_set()
    return build(ARCHITECTURE, data.image_shape, data.classes, seed)


def _kept(
    bench: Bench,
    what: str,
    seed: int,
    make: Callable[[], dict[str, Tensor]],
    code: tuple[ModuleType, ...],
    **more: float,
) -> dict[str, Tensor]:
    """Tensors of a fit, from the cache where they are: only what a training depends on
    names it.
    """
    specification = {
        "study": "bnn_attacks",
        "what": what,
        "seed": seed,
        "dataset": bench.dataset,
        "digest": bench.train_set().digest,
        "train_images": bench.train_images,
        "epochs": bench.epochs,
        "temperature": bench.temperature,
        "prior_sd": bench.prior_sd,
        "extractor": bench.extractor,
        **more,
    }
    return dict(kept(specification, make, code=code))


def _fitted(
    bench: Bench,
    what: str,
    network: nn.Sequential,
    seed: int,
    stochastic: Collection[str] | None,
    estimator: str = LOCAL,
    data: tuple[Tensor, Tensor] | None = None,
) -> MeanField:
    """A mean-field posterior by the optimiser, schedule and epochs of the bench."""
    own = bench.train_set()
    images, labels = data or (own.images, own.labels)

    def make() -> dict[str, Tensor]:
        found = train_by(
            estimator,
            network,
            images,
            labels,
            prior_sd=bench.prior_sd,
            temperature=bench.temperature,
            epochs=bench.epochs,
            seed=seed,
            stochastic=stochastic,
            scale_learning_rate=SCALE_RATE,
            batch=BATCH,
        )
        parts = {"mean": found.means, "scale": found.scales}
        return {
            f"{part} {name}": tensor
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }

    named = bench
    if stochastic is not None and not stochastic:
        # Without a posterior the prior does nothing: one training serves all.
        named = replace(bench, temperature=0.0, prior_sd=1.0)
    tensors = _kept(named, what, seed, make, (estimators,))
    means, scales = (
        {
            name: tensors[f"{part} {name}"]
            for name, _ in network.named_parameters()
            if f"{part} {name}" in tensors
        }
        for part in ("mean", "scale")
    )
    return MeanField(network, means, scales)


def _point(bench: Bench, seed: int) -> nn.Sequential:
    """The matched control: the training of the Bayesian network without a posterior."""
    network = _blank(bench, seed)
    found = _fitted(bench, "point", network, seed, ())
    network.load_state_dict(dict(found.means))
    return network.eval()


def _variational(
    bench: Bench, kind: str, seed: int, stochastic: Collection[str] | None
) -> MeanField:
    estimator = kind if kind in ESTIMATED else LOCAL
    return _fitted(bench, kind, _blank(bench, seed), seed, stochastic, estimator)


def _penalised(bench: Bench, seed: int) -> nn.Sequential:
    """The most probable network under the prior of the Bayesian one, by its optimiser
    and schedule.
    """
    network = _blank(bench, seed)
    data = bench.train_set()
    return _most_probable(bench, network, data.images, data.labels, seed)


def _most_probable(
    bench: Bench, network: nn.Sequential, images: Tensor, labels: Tensor, seed: int
) -> nn.Sequential:
    def make() -> dict[str, Tensor]:
        train_map(
            network,
            images,
            labels,
            prior_sd=bench.prior_sd,
            temperature=bench.temperature,
            epochs=bench.epochs,
            seed=seed,
            batch=BATCH,
        )
        return {name: each.detach() for name, each in network.named_parameters()}

    network.load_state_dict(_kept(bench, "MAP", seed, make, (weight_noise,)))
    return network.eval()


def _dropout(bench: Bench, seed: int) -> Dropout:
    """Dropout before both linear layers."""
    data, network = bench.train_set(), _blank(bench, seed)
    layers = stochastic_layers("det+stoch", network)
    rates = dict.fromkeys(layers, bench.dropout_rate)

    def make() -> dict[str, Tensor]:
        recipe = Recipe("natural", bench.epochs, batch=BATCH)
        found = train_dropout(
            network, data.images, data.labels, rates, recipe, seed=seed
        )
        return dict(found.network.state_dict())

    network.load_state_dict(
        _kept(bench, "dropout", seed, make, (mc_dropout,), rate=bench.dropout_rate)
    )
    return Dropout(network.eval(), rates)


def _swag(bench: Bench, point: nn.Sequential, seed: int) -> Swag:
    """Through points of further descent from the control."""
    data = bench.train_set()

    def make() -> dict[str, Tensor]:
        found = fit_swag(
            point,
            data.images,
            data.labels,
            epochs=max(2, bench.chain_epochs // 2),
            prior_sd=bench.prior_sd,
            seed=seed,
        )
        parts = ("mean", "variance", "deviations")
        return {name: getattr(found, name) for name in parts}

    return Swag(
        point, **_kept(bench, "SWAG", seed, make, (swag,), more=bench.chain_epochs)
    )


def _chain(bench: Bench, point: nn.Sequential, seed: int) -> Empirical:
    """Four cycles from the control, three networks of each (fewer of short ones)."""
    data = bench.train_set()
    steps = bench.chain_epochs * math.ceil(len(data) / BATCH)

    def make() -> dict[str, Tensor]:
        found = fit_cyclic(
            point,
            data.images,
            data.labels,
            prior_sd=bench.prior_sd,
            temperature=bench.temperature,
            epochs=bench.chain_epochs,
            cycles=4,
            keep=max(1, min(3, steps // 8)),
            seed=seed,
        )
        return dict(found.samples.weights)

    weights = _kept(bench, "MCMC", seed, make, (cyclic,), more=bench.chain_epochs)
    return Empirical(WeightSamples(point, weights))


# Classifiers on the published extractor
# --------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _extracted(bench: Bench) -> tuple[nn.Sequential, Tensor, Tensor]:
    """The published network up to its 64 features, scaled to [0, 1] on the training
    images; these features (N, 64, 1, 1) with their labels.
    """
    data, published = bench.train_set(), published_resnet20()
    layers = nn.Sequential(*list(published.children())[:-1]).eval()
    with torch.no_grad():
        features = compute_logits(layers, data.images)
    scale = 1 / float(features.max())
    extractor = nn.Sequential(layers, Scale(scale)).requires_grad_(False)
    values = (features * scale).clamp(0, 1)[..., None, None]
    return extractor.eval(), values, data.labels


def _classifier(bench: Bench, kind: str, seed: int) -> Posterior:
    if kind == CNN:
        return Empirical(stack([published_resnet20()]))
    extractor, features, labels = _extracted(bench)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features.shape[1], HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, bench.train_set().classes),
        )
    whole = nn.Sequential(extractor, *head).eval()
    if kind == PENALISED:
        _most_probable(bench, head, features, labels, seed)
        return Empirical(stack([whole]))
    layers = () if kind == CONTROL else None
    what = f"classifier, {'point' if kind == CONTROL else kind}"
    found = _fitted(bench, what, head, seed, layers, data=(features, labels))
    if kind == CONTROL:
        head.load_state_dict(dict(found.means))
        return Empirical(stack([whole]))
    names = {id(tensor): name for name, tensor in whole.named_parameters()}
    own = {name: names[id(tensor)] for name, tensor in head.named_parameters()}
    means = {name: tensor.detach() for name, tensor in whole.named_parameters()}
    means |= {own[name]: mean for name, mean in found.means.items()}
    scales = {own[name]: scale for name, scale in found.scales.items()}
    return MeanField(whole, means, scales)


def convergence(network: Network, posterior: Posterior) -> Convergence | None:
    """Whether the deviations of a variational posterior have converged, on its training
    images; None for other networks.
    """
    bench = network.bench
    wanted = isinstance(posterior, MeanField) and network.kind in (*DESIGNS, *ESTIMATED)
    if not wanted or bench.extractor or not bench.temperature:
        return None
    data = bench.train_set()
    return diagnose(
        posterior,  # type: ignore[arg-type]
        data.images,
        data.labels,
        prior_sd=bench.prior_sd,
        temperature=bench.temperature,
        passes=math.ceil(NOISY_PASSES / len(data)),
    )
