"""The tasks and the posteriors that are fitted to them, all methods on the same
training images.

Read `Task` and the three tasks first, then `fit`; HMC gives several chains and has
`fit_hmc` of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook.bayes import ensemble, hmc, mc_dropout, mean_field, protocol, weights
from robustbook.bayes.ensemble import train_ensemble
from robustbook.bayes.mc_dropout import Dropout, train_dropout
from robustbook.bayes.mean_field import Convergence, MeanField
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Empirical, Posterior
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.data import ImageSet, load
from robustbook.models.checkpoints import kept
from robustbook.models.training import Recipe
from robustbook.studies.bnn_verification.parameters import Parameters
from robustbook.studies.shared import variational

METHODS = ("HMC", "mean-field VI", "MC dropout", "deterministic", "ensemble")
CODE = {
    method: (module, protocol, weights)
    for method, module in (
        ("HMC", hmc),
        ("MC dropout", mc_dropout),
        ("networks", ensemble),
    )
}
"""Modules that determine the posteriors of a method, beside those of
`robustbook.models`.
"""
VI_RATE, VI_SCALE_RATE = 0.03, 0.03
"""Adam's rates for the means and for the log-deviations of variational posteriors;
chosen by the bound on training images.
"""
STEP_SIZE = 0.01
"""Where the search for the step size of HMC begins, in units of the prior's standard
deviation.
"""
TARGET_ACCEPTANCE = 0.7
SIGN_THIN = 2
DIAGNOSED = 200
"""Weights, and at most as many test images, whose mixing is diagnosed where nothing
else is said.
"""


@dataclass(frozen=True)
class Perceptron:
    """Builds Flatten, Linear, ReLU, Linear; a class, so that tasks can be sent to
    another process.
    """

    inputs: int
    hidden: int
    outputs: int

    def __call__(self, seed: int) -> nn.Sequential:
        """The untrained network, whose weights depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first, last = (
                nn.Linear(self.inputs, self.hidden),
                nn.Linear(self.hidden, self.outputs),
            )
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


@dataclass(frozen=True)
class SignNetwork:
    """Builds the paper's sign network: 3 x 3 filters without padding, ReLU, one hidden
    layer, two logits.
    """

    channels: int
    side: int
    filters: int
    hidden: int

    def __call__(self, seed: int) -> nn.Sequential:
        """The untrained network, whose weights depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            convolution = nn.Conv2d(self.channels, self.filters, 3)
            middle = nn.Linear(self.filters * (self.side - 2) ** 2, self.hidden)
            last = nn.Linear(self.hidden, 2)
        return nn.Sequential(
            convolution, nn.ReLU(), nn.Flatten(), middle, nn.ReLU(), last
        )


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learned: `train` and `test` images, and `build(seed)`, the
    untrained network.

    `rates` gives, by the layer's name, the rate at which MC dropout drops its inputs.
    """

    name: str
    train: ImageSet
    test: ImageSet
    build: Perceptron | SignNetwork
    rates: dict[str, float]

    def trainable(self, seed: int) -> nn.Sequential:
        """The untrained network with at least two logits, as the training loop wants
        it.
        """
        return self.two_logits()(seed)

    def two_logits(self) -> Perceptron | SignNetwork:
        """The builder of the network with at least two logits."""
        if isinstance(self.build, Perceptron):
            return replace(self.build, outputs=max(self.build.outputs, 2))
        return self.build

    def folded(self, network: nn.Module) -> nn.Module:
        """A trained network with the logits of the task: one logit is the difference of
        the two trained ones.
        """
        if self.two_logits() == self.build:
            return network
        kept = self.build(0)
        trained = network.state_dict()
        last = {
            name: value[1:] - value[:1]
            for name, value in trained.items()
            if name.startswith("3.")
        }
        kept.load_state_dict({**trained, **last})
        return kept.eval()


def two_classes(parameters: Parameters, hidden: int | None = None) -> Task:
    """1 against 7 with one logit, at 8 x 8 (digits) or 14 x 14 (MNIST, 2 x 2 means as
    in the paper).
    """
    train, test = (
        _ones_and_sevens(_small(load(parameters.dataset, split)))
        for split in ("train", "test")
    )
    train = train.take(
        min(parameters.two_train_images, len(train)), parameters.first_seed
    )
    build = Perceptron(train.images[0].numel(), hidden or parameters.two_hidden, 1)
    return Task("1 against 7", train, test, build, {"3": parameters.dropout})


def ten_classes(
    parameters: Parameters, hidden: int | None = None, *, small: bool = False
) -> Task:
    """All ten digits; `small` halves the sides of MNIST's images."""
    train = load(
        parameters.dataset,
        "train",
        limit=parameters.ten_train_images,
        seed=parameters.first_seed,
    )
    test = load(parameters.dataset, "test")
    if small:
        train, test = _small(train), _small(test)
    build = Perceptron(train.images[0].numel(), hidden or parameters.ten_hidden, 10)
    return Task("ten classes", train, test, build, {"3": parameters.dropout})


def signs(parameters: Parameters) -> Task:
    """Two kinds of traffic sign; training images and test images show different signs
    (tracks).
    """
    train = load(parameters.sign_dataset, "train")
    train = train.take(
        min(parameters.sign_train_images, len(train)), parameters.first_seed
    )
    channels, side, _ = train.image_shape
    build = SignNetwork(channels, side, parameters.sign_filters, parameters.sign_hidden)
    return Task(
        "signs",
        train,
        load(parameters.sign_dataset, "test"),
        build,
        {"3": 0.25, "5": 0.5},
    )


def _small(images: ImageSet) -> ImageSet:
    """Means of 2 x 2 pixels where a side has 28."""
    if images.image_shape[1] != 28:
        return images
    return replace(images, images=F.avg_pool2d(images.images, 2))


def _ones_and_sevens(images: ImageSet) -> ImageSet:
    """The ones (class 0) and sevens (class 1)."""
    chosen = (images.labels == 1) | (images.labels == 7)
    return replace(
        images,
        images=images.images[chosen],
        labels=(images.labels[chosen] == 7).long(),
        class_names=("1", "7"),
    )


def fit(
    method: str, task: Task, parameters: Parameters, seed: int, **changes: Any
) -> Posterior:
    """The posterior of a method other than HMC, kept in the cache; `changes` replace
    prior_sd, temperature or rate.

    Raises KeyError if the method is unknown.
    """
    makers = {"mean-field VI": _fit_mean_field, "MC dropout": _fit_dropout}
    if method in makers:
        return makers[method](task, parameters, seed, changes)
    return _fit_networks(
        task,
        parameters,
        seed,
        {"deterministic": 1, "ensemble": parameters.members}[method],
    )


def _specification(
    task: Task, parameters: Parameters, seed: int, **more: Any
) -> dict[str, Any]:
    """What determines a posterior, as plain values."""
    data = {
        "digest": task.train.digest,
        "images": list(task.train.images.shape),
        "order": parameters.first_seed,
    }
    return {
        "task": task.name,
        "network": repr(task.build),
        "data": data,
        "seed": seed,
        **more,
    }


def _fit_mean_field(
    task: Task, parameters: Parameters, seed: int, changes: Mapping[str, Any]
) -> Posterior:
    signs = task.name == "signs"
    return variational(
        _specification(task, parameters, seed),
        task.build(seed),
        task.train,
        seed=seed,
        prior_sd=changes.get("prior_sd", parameters.prior_sd),
        temperature=changes.get("temperature", 1.0),
        epochs=parameters.sign_vi_epochs if signs else parameters.vi_epochs,
        batch=50,
        learning_rate=VI_RATE,
        scale_learning_rate=VI_SCALE_RATE,
    )


def convergence(
    posterior: Posterior, task: Task, parameters: Parameters, **changes: Any
) -> Convergence | None:
    """Whether variational training has reached the bound's optimum, told on the
    training images; None for other methods.

    `changes` are those of `fit`.
    """
    if not isinstance(posterior, MeanField):
        return None
    prior_sd, temperature = (
        changes.get("prior_sd", parameters.prior_sd),
        changes.get("temperature", 1.0),
    )
    images, labels, passes = (
        task.train.images,
        task.train.labels,
        8 if task.name == "signs" else 64,
    )
    return mean_field.diagnose(
        posterior,
        images,
        labels,
        prior_sd=prior_sd,
        temperature=temperature,
        passes=passes,
    )


def _fit_dropout(
    task: Task, parameters: Parameters, seed: int, changes: Mapping[str, Any]
) -> Posterior:
    rates = {layer: changes.get("rate", rate) for layer, rate in task.rates.items()}
    recipe = _recipe(task, parameters)

    def make() -> dict[str, Tensor]:
        found = train_dropout(
            task.trainable(seed),
            task.train.images,
            task.train.labels,
            rates,
            recipe,
            seed=seed,
        )
        return task.folded(found.network).state_dict()

    specification = _specification(
        task, parameters, seed, method="MC dropout", rates=rates, recipe=repr(recipe)
    )
    network = task.build(seed)
    network.load_state_dict(kept(specification, make, code=CODE["MC dropout"]))
    return Dropout(network.eval(), rates)


def _fit_networks(
    task: Task, parameters: Parameters, seed: int, members: int
) -> Posterior:
    """Ordinary networks from different starts, each drawn with equal probability."""
    recipe, first = _recipe(task, parameters), seed * parameters.members

    def make() -> dict[str, Tensor]:
        images, labels = task.train.images, task.train.labels
        found = train_ensemble(
            task.trainable, images, labels, recipe, members=members, seed=first
        ).samples
        return dict(
            stack(
                [task.folded(found.network(index)) for index in range(members)]
            ).weights
        )

    specification = _specification(
        task, parameters, first, method="networks", members=members, recipe=repr(recipe)
    )
    return Empirical(
        WeightSamples(
            task.build(seed), kept(specification, make, code=CODE["networks"])
        )
    )


def _recipe(task: Task, parameters: Parameters) -> Recipe:
    epochs = parameters.sign_epochs if task.name == "signs" else parameters.epochs
    return Recipe("natural", epochs=epochs, batch=50, learning_rate=1e-3)


@dataclass(frozen=True)
class Mixing:
    """How chains mixed: diagnoses of predictions (probabilities of test images), of a
    few hundred sampled coordinates of the weights and of the log density, and the
    chains' mean acceptance and step size.
    """

    diagnoses: dict[str, hmc.Diagnosis]
    draws: int
    """Draws of each chain."""
    acceptance: float
    step_size: float


@dataclass(frozen=True, eq=False)
class Sampled:
    """HMC: the posterior of all chains together, that of each, and how the chains
    mixed.
    """

    posterior: Posterior
    by_chain: list[Posterior]
    mixing: Mixing


@dataclass(frozen=True)
class Budget:
    """How long the chains of a task run."""

    chains: int
    warmup: int
    draws: int
    leapfrog: int
    thin: int = 1
    shorter: int = 4
    """Transitions of warm-up make this many times fewer leapfrog steps."""


def budget(task: Task, parameters: Parameters, chains: int) -> Budget:
    """The budget that the parameters give a task."""
    if task.name == "signs":
        return Budget(
            parameters.sign_chains,
            parameters.sign_warmup,
            parameters.sign_draws,
            parameters.sign_leapfrog,
            SIGN_THIN,
            2,
        )
    return Budget(chains, parameters.warmup, parameters.draws, parameters.leapfrog)


def sampled_images(task: Task, parameters: Parameters) -> ImageSet:
    """The training images that HMC sees: all of them, on signs the first few."""
    if task.name != "signs":
        return task.train
    return task.train.take(
        min(parameters.sign_hmc_images, len(task.train)), parameters.first_seed
    )


def fit_hmc(
    task: Task,
    parameters: Parameters,
    length: Budget,
    seed: int,
    *,
    diagnosed: int = DIAGNOSED,
    **changes: Any,
) -> Sampled:
    """The exact joint posterior of all weights by HMC, with full batches, from starts
    far apart.

    Where the first layer is Linear only what the images can tell is sampled, and the
    rest drawn exactly (`hmc.Reduced`).

    The mixing of `diagnosed` weights and of predictions on at most as many test images
    is told.

    Raises ChainDivergedError if a chain diverges.
    """
    images = sampled_images(task, parameters)
    prior_sd, temperature = (
        changes.get("prior_sd", parameters.prior_sd),
        changes.get("temperature", 1.0),
    )
    whole = hmc.Network(
        task.build(seed), images.images, images.labels, prior_sd, temperature
    )
    reduced = hmc.Reduced.of(whole) if isinstance(task.build, Perceptron) else None
    target = reduced.inner if reduced else whole
    settings = {
        **changes,
        "prior_sd": prior_sd,
        "images": len(images),
        "length": repr(length),
    }
    settings |= {"step_size": STEP_SIZE, "target": TARGET_ACCEPTANCE}
    tensors = kept(
        _specification(task, parameters, seed, method="HMC", settings=settings),
        lambda: (
            _chains(target, length, seed)
            | ({"basis": reduced.basis} if reduced else {})
        ),
        code=CODE["HMC"],
    )
    parts = [target.weights(draws) for draws in tensors["draws"]]
    together = target.weights(tensors["draws"].flatten(0, 1))
    posteriors: list[Posterior] = [Empirical(part) for part in (together, *parts)]
    if reduced:
        reduced = replace(reduced, basis=tensors["basis"])
        posteriors = [hmc.Lifted(reduced, part) for part in (together, *parts)]
    return Sampled(
        posteriors[0],
        posteriors[1:],
        _mixing(
            tensors,
            (_whole(reduced, part, seed + c) for c, part in enumerate(parts)),
            task,
            parameters,
            diagnosed,
        ),
    )


def _chains(target: hmc.Network, length: Budget, seed: int) -> dict[str, Tensor]:
    """Run the chains; their draws (C, T, D) and what else is to be kept, as tensors."""
    found = hmc.network_posterior(
        target,
        chains=length.chains,
        draws=length.draws,
        warmup=length.warmup,
        steps=length.leapfrog,
        warmup_steps=max(length.leapfrog // length.shorter, 1),
        step_size=STEP_SIZE,
        target_acceptance=TARGET_ACCEPTANCE,
        seed=seed,
        start=hmc.settled(target, length.chains, seed),
        grouped=True,
        thin=length.thin,
    ).chains
    return {
        "draws": found.draws,
        "potential": found.potential,
        "acceptance": found.acceptance,
        "step_size": found.step_size,
    }


def _whole(
    reduced: hmc.Reduced | None, samples: WeightSamples, seed: int
) -> WeightSamples:
    return reduced.lift(samples, Generator().manual_seed(seed)) if reduced else samples


def _mixing(
    tensors: Mapping[str, Tensor],
    networks: Iterable[WeightSamples],
    task: Task,
    parameters: Parameters,
    count: int,
) -> Mixing:
    images = task.test.take(min(count, len(task.test)), parameters.first_seed).images
    predictions = torch.stack(
        [sampled_probabilities(chain, images)[..., 1:].flatten(1) for chain in networks]
    )
    draws = tensors["draws"]
    chosen = torch.randperm(draws.shape[2], generator=Generator().manual_seed(0))[
        :count
    ]
    quantities = {
        "predictions": predictions,
        "weights": draws[..., chosen],
        "log density": tensors["potential"][..., None],
    }
    diagnoses = {name: hmc.diagnose(values) for name, values in quantities.items()}
    return Mixing(
        diagnoses,
        draws.shape[1],
        float(tensors["acceptance"].mean()),
        float(tensors["step_size"].mean()),
    )


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on test images: of single posterior samples on average, and of the
    predictive mean.
    """

    sample: float
    predictive: float


ACCURACY_IMAGES = 500


def accuracy(samples: WeightSamples, task: Task, parameters: Parameters) -> Accuracy:
    """Accuracy of some samples on (at most 500) test images of their task."""
    test = task.test.take(
        min(ACCURACY_IMAGES, len(task.test)), parameters.first_seed + 1
    )
    found = sampled_probabilities(samples, test.images)
    single = (found.argmax(-1) == test.labels).float().mean()
    mean = (found.mean(0).argmax(-1) == test.labels).float().mean()
    return Accuracy(float(single), float(mean))
