"""The tasks and the posteriors that are fitted to them, all methods on the same training images.

Read `Task` and the three tasks first, then `fit`; HMC gives several chains and has `fit_hmc` of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, nn

from robustbook.bayes import hmc
from robustbook.bayes.ensemble import train_ensemble
from robustbook.bayes.mc_dropout import Dropout, train_dropout
from robustbook.bayes.mean_field import train_mean_field
from robustbook.bayes.protocol import Empirical, Posterior, sampled_probabilities
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.data import ImageSet, load
from robustbook.models.training import Recipe
from robustbook.studies.bnn_verification.parameters import Parameters

METHODS = ("HMC", "mean-field VI", "MC dropout", "deterministic", "ensemble")
SIGN_METHODS = METHODS[1:]
STEP_SIZE = 0.01
"""Where the search for the step size of HMC begins, in units of the prior's standard deviation."""
DIAGNOSED = 200
"""Weights, and at most as many test images, whose mixing is diagnosed."""


@dataclass(frozen=True)
class Perceptron:
    """Builds Flatten, Linear, ReLU, Linear; a class, so that tasks can be sent to another process."""

    inputs: int
    hidden: int
    outputs: int

    def __call__(self, seed: int) -> nn.Sequential:
        """The untrained network, whose weights depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first, last = nn.Linear(self.inputs, self.hidden), nn.Linear(self.hidden, self.outputs)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


@dataclass(frozen=True)
class SignNetwork:
    """Builds the paper's sign network: 3 x 3 filters without padding, ReLU, one hidden layer, two logits."""

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
        return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), middle, nn.ReLU(), last)


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learned: `train` and `test` images, and `build(seed)`, the untrained network."""

    name: str
    train: ImageSet
    test: ImageSet
    build: Perceptron | SignNetwork
    rates: dict[str, float]

    def trainable(self, seed: int) -> nn.Sequential:
        """The untrained network with at least two logits, as the training loop wants it."""
        return self.two_logits()(seed)

    def two_logits(self) -> Perceptron | SignNetwork:
        """The builder of the network with at least two logits."""
        if isinstance(self.build, Perceptron):
            return replace(self.build, outputs=max(self.build.outputs, 2))
        return self.build

    def folded(self, network: nn.Sequential) -> nn.Sequential:
        """A trained network with the logits of the task: one logit is the difference of the two trained ones."""
        if self.two_logits() == self.build:
            return network
        kept = self.build(0)
        trained = network.state_dict()
        last = {name: value[1:] - value[:1] for name, value in trained.items() if name.startswith("3.")}
        kept.load_state_dict({**trained, **last})
        return kept.eval()


def two_classes(parameters: Parameters, hidden: int | None = None) -> Task:
    """1 against 7 with one logit, at 8 x 8 (digits) or 14 x 14 (MNIST, 2 x 2 means as in the paper)."""
    train, test = (_ones_and_sevens(_small(load(parameters.dataset, split))) for split in ("train", "test"))
    train = train.take(min(parameters.two_train_images, len(train)), parameters.first_seed)
    build = Perceptron(train.images[0].numel(), hidden or parameters.two_hidden, 1)
    return Task("1 against 7", train, test, build, {"3": parameters.dropout})


def ten_classes(parameters: Parameters, hidden: int | None = None, *, small: bool = False) -> Task:
    """All ten digits; `small` halves the sides of MNIST's images."""
    train = load(parameters.dataset, "train", limit=parameters.ten_train_images, seed=parameters.first_seed)
    test = load(parameters.dataset, "test")
    if small:
        train, test = _small(train), _small(test)
    build = Perceptron(train.images[0].numel(), hidden or parameters.ten_hidden, 10)
    return Task("ten classes", train, test, build, {"3": parameters.dropout})


def signs(parameters: Parameters) -> Task:
    """Two kinds of traffic sign; training images and test images show different signs (tracks)."""
    train = load(parameters.sign_dataset, "train")
    train = train.take(min(parameters.sign_train_images, len(train)), parameters.first_seed)
    channels, side, _ = train.image_shape
    build = SignNetwork(channels, side, parameters.sign_filters, parameters.sign_hidden)
    return Task("signs", train, load(parameters.sign_dataset, "test"), build, {"3": 0.25, "5": 0.5})


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


def fit(method: str, task: Task, parameters: Parameters, seed: int, **changes: Any) -> Posterior:
    """The posterior of a method other than HMC; `changes` replace prior_sd, temperature or rate.

    Raises KeyError if the method is unknown.
    """
    images, labels = task.train.images, task.train.labels
    recipe = Recipe("natural", epochs=_epochs(task, parameters), batch=50, learning_rate=1e-3)
    if method == "mean-field VI":
        return train_mean_field(
            task.build(seed),
            images,
            labels,
            prior_sd=changes.get("prior_sd", parameters.prior_sd),
            temperature=changes.get("temperature", 1.0),
            epochs=_epochs(task, parameters) if task.name == "signs" else parameters.vi_epochs,
            batch=50,
            seed=seed,
        )
    if method == "MC dropout":
        rates = {layer: changes.get("rate", rate) for layer, rate in task.rates.items()}
        dropout = train_dropout(task.trainable(seed), images, labels, rates, recipe, seed=seed)
        return Dropout(task.folded(dropout.network), rates)
    members = {"deterministic": 1, "ensemble": parameters.members}[method]
    first = seed * parameters.members
    found = train_ensemble(task.trainable, images, labels, recipe, members=members, seed=first).samples
    return Empirical(stack([task.folded(found.network(index)) for index in range(members)]))


def _epochs(task: Task, parameters: Parameters) -> int:
    return parameters.sign_epochs if task.name == "signs" else parameters.epochs


@dataclass(frozen=True, eq=False)
class Sampled:
    """An HMC run with its diagnosis of predictions (probabilities of test images) and of a few hundred weights."""

    run: hmc.Run
    predictions: hmc.Diagnosis
    weights: hmc.Diagnosis


def fit_hmc(task: Task, parameters: Parameters, chains: int, seed: int, **changes: Any) -> Sampled:
    """The exact joint posterior of all weights by HMC; each chain starts at a draw of a variational posterior of its own.

    Raises ChainDivergedError if a chain diverges.
    """
    prior_sd, temperature = changes.get("prior_sd", parameters.prior_sd), changes.get("temperature", 1.0)
    starts = [_start(task, parameters, seed + chain, prior_sd) for chain in range(chains)]
    target = hmc.Network(starts[0].architecture, task.train.images, task.train.labels, prior_sd, temperature)
    run = hmc.network_posterior(
        target,
        chains=chains,
        draws=changes.get("draws", parameters.draws),
        warmup=changes.get("warmup", parameters.warmup),
        steps=parameters.leapfrog,
        step_size=STEP_SIZE,
        seed=seed,
        start=join(starts),
    )
    images = task.test.take(min(DIAGNOSED, len(task.test)), parameters.first_seed).images
    predictions = torch.stack([sampled_probabilities(chain, images)[..., 1:].flatten(1) for chain in run.by_chain])
    chosen = torch.randperm(target.dimension, generator=Generator().manual_seed(seed))[:DIAGNOSED]
    return Sampled(run, hmc.diagnose(predictions), hmc.diagnose(run.chains.draws[..., chosen]))


def _start(task: Task, parameters: Parameters, seed: int, prior_sd: float) -> WeightSamples:
    found = train_mean_field(
        task.build(seed),
        task.train.images,
        task.train.labels,
        prior_sd=prior_sd,
        epochs=max(parameters.vi_epochs // 3, 1),
        batch=50,
        seed=seed,
    )
    return found.draw(1, Generator().manual_seed(seed))


def join(parts: list[WeightSamples]) -> WeightSamples:
    """Weight samples of one architecture, one after the other."""
    weights = {name: torch.cat([part.weights[name] for part in parts]) for name in parts[0].weights}
    return WeightSamples(parts[0].architecture, weights)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on test images: of single posterior samples on average, and of the predictive mean."""

    sample: float
    predictive: float


ACCURACY_IMAGES = 500


def accuracy(samples: WeightSamples, task: Task, parameters: Parameters) -> Accuracy:
    """Accuracy of some samples on (at most 500) test images of their task."""
    test = task.test.take(min(ACCURACY_IMAGES, len(task.test)), parameters.first_seed + 1)
    found = sampled_probabilities(samples, test.images)
    single = (found.argmax(-1) == test.labels).float().mean()
    mean = (found.mean(0).argmax(-1) == test.labels).float().mean()
    return Accuracy(float(single), float(mean))
