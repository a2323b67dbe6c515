"""The tasks and the posteriors that are fitted to them, all methods on the same
training images.

Read `Task` and the three tasks first, then `fit`; HMC gives several chains and has
`fit_hmc` of its own (`sign_chain` on signs). `samples_of` draws from any of them and
from dropout that was matched to another method (`matched_rate`, `scaled`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook.bayes import (
    ensemble,
    hmc,
    mc_dropout,
    mean_field,
    protocol,
    split_hmc,
    weights,
)
from robustbook.bayes.ensemble import train_ensemble
from robustbook.bayes.mc_dropout import Dropout, train_dropout
from robustbook.bayes.mean_field import Convergence, MeanField
from robustbook.bayes.prediction import sampled_probabilities
from robustbook.bayes.protocol import Empirical, Posterior
from robustbook.bayes.weights import WeightSamples, stack
from robustbook.data import ImageSet, load
from robustbook.data.gtsrb43 import pair
from robustbook.models.checkpoints import kept
from robustbook.models.training import Recipe
from robustbook.studies import protocol as protocol_of_studies
from robustbook.studies.bnn_verification.parameters import Parameters
from robustbook.studies.shared import variational
from robustbook.workers import map_in_workers

METHODS = ("HMC", "mean-field VI", "MC dropout", "deterministic", "ensemble")
COMPARED = ("HMC", "mean-field VI")
"""The methods that are said to be more robust than MC dropout."""
ACCURATE, ALIKE = "dropout as accurate as ", "dropout with the logits of "
"""Dropout at the rate that gives it the accuracy of a method, and the same with logits
of that method's size as well.
"""
RIVALS = tuple(f"{kind}{method}" for kind in (ACCURATE, ALIKE) for method in COMPARED)
CODE = {
    method: (module, protocol, weights)
    for method, module in (
        ("HMC", hmc),
        ("split HMC", split_hmc),
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
PROOF_EPOCHS = 60
STEP_SIZE = 0.01
"""Where the search for the step size of HMC begins, in units of the prior's standard
deviation.
"""
TARGET_ACCEPTANCE = 0.7
ACCURACY_SAMPLES, MATCHING_STEPS = 60, 7
"""Samples whose accuracy is measured, and halvings of the rate by which dropout is
matched to another method.
"""
DIAGNOSED = 100
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
    train, test = (_two_signs(parameters, split) for split in ("train", "test"))
    train = train.take(
        min(parameters.sign_train_images, len(train)), parameters.first_seed
    )
    channels, side, _ = train.image_shape
    build = SignNetwork(channels, side, parameters.sign_filters, parameters.sign_hidden)
    return Task(
        "signs",
        train,
        test,
        build,
        {"3": 0.25, "5": 0.5},
    )


def _two_signs(parameters: Parameters, split: str) -> ImageSet:
    """The published pair is there completely, any other one as a subset."""
    chosen = (parameters.sign_first, parameters.sign_second)
    if parameters.sign_dataset != "gtsrb" or chosen == (2, 25):
        return load(parameters.sign_dataset, split)
    return pair(load("gtsrb-43", split), *chosen)


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


def tasks_of(**settings: Any) -> list[Task]:
    """The tasks of a run."""
    parameters = Parameters.of(settings)
    found = [two_classes(parameters), ten_classes(parameters)]
    if parameters.sign_dataset != "none":
        found.append(signs(parameters))
    return found


def data_of(tasks: Iterable[Task]) -> list[ImageSet]:
    """The data sets of tasks, each split once."""
    sets = [each for task in tasks for each in (task.train, task.test)]
    return list({(each.title, each.split): each for each in sets}.values())


def described(task: Task) -> str:
    """A task in words: its name, training images and the size of its network."""
    weights = sum(part.numel() for part in task.build(0).parameters())
    size = " × ".join(map(str, task.train.image_shape))
    return (
        f"*{task.name}*, {task.train.title}, {len(task.train)} training images of "
        f"{size}, {weights:,} weights"
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


def fit_few_units(parameters: Parameters, hidden: int) -> tuple[Task, MeanField]:
    """A variational posterior of few hidden units on many ones and sevens, narrow
    enough for proofs in weight space.
    """
    many = parameters.model_copy(update={"two_train_images": parameters.weight_images})
    task, seed = two_classes(many, hidden=hidden), parameters.first_seed
    posterior = variational(
        _specification(task, many, seed),
        task.build(seed),
        task.train,
        seed=seed,
        prior_sd=parameters.prior_sd,
        temperature=1.0,
        epochs=PROOF_EPOCHS,
        batch=max(50, len(task.train) // 20),
        learning_rate=VI_RATE,
        scale_learning_rate=VI_SCALE_RATE,
    )
    return task, posterior


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
    diagnose: Callable[[], Mixing]

    @cached_property
    def mixing(self) -> Mixing:
        """How the chains mixed, worked out when it is asked for."""
        return self.diagnose()


@dataclass(frozen=True)
class Budget:
    """How long the chains of a task run."""

    chains: int
    warmup: int
    draws: int
    leapfrog: int
    shorter: int = 4
    """Transitions of warm-up make this many times fewer leapfrog steps."""


def budget(parameters: Parameters, chains: int) -> Budget:
    """The budget of so many chains."""
    return Budget(chains, parameters.warmup, parameters.draws, parameters.leapfrog)


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

    Only what the images can tell of the first layer is sampled, and the rest drawn
    exactly (`hmc.Reduced`). The mixing of `diagnosed` weights and of predictions on at
    most as many test images is told.

    Raises ChainDivergedError if a chain diverges.
    """
    images = task.train
    prior_sd, temperature = (
        changes.get("prior_sd", parameters.prior_sd),
        changes.get("temperature", 1.0),
    )
    whole = hmc.Network(
        task.build(seed), images.images, images.labels, prior_sd, temperature
    )
    reduced = hmc.Reduced.of(whole)
    target = reduced.inner
    settings = {
        **changes,
        "prior_sd": prior_sd,
        "images": len(images),
        "length": repr(length),
        "step_size": STEP_SIZE,
        "target": TARGET_ACCEPTANCE,
    }
    tensors = kept(
        _specification(task, parameters, seed, method="HMC", settings=settings),
        lambda: _chains(target, length, seed) | {"basis": reduced.basis},
        code=CODE["HMC"],
    )
    reduced = replace(reduced, basis=tensors["basis"])
    parts = [target.weights(draws) for draws in tensors["draws"]]
    together = target.weights(tensors["draws"].flatten(0, 1))

    def diagnose() -> Mixing:
        chains = (
            reduced.lift(part, Generator().manual_seed(seed + chain))
            for chain, part in enumerate(parts)
        )
        return _mixing(tensors, chains, task, parameters, diagnosed)

    posteriors = [hmc.Lifted(reduced, part) for part in (together, *parts)]
    return Sampled(posteriors[0], list(posteriors[1:]), diagnose)


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
    ).chains
    return {
        "draws": found.draws,
        "potential": found.potential,
        "acceptance": found.acceptance,
        "step_size": found.step_size,
    }


def sign_chain(item: tuple[int, Parameters]) -> Mapping[str, Tensor]:
    """One chain on the sign network, whose prior is scaled by fan-in, from a draw of
    the prior (`split_hmc.sample`): its draws (1, T, D) and what else `Mixing` needs.
    """
    chain, parameters = item
    task = signs(parameters)
    target = _scaled_network(task)
    settings = {
        "chain": chain,
        "warmup": parameters.sign_warmup,
        "draws": parameters.sign_draws,
        "steps": parameters.sign_leapfrog,
    }

    def make() -> dict[str, Tensor]:
        generator = Generator().manual_seed(1000 * parameters.first_seed + chain)
        found = split_hmc.sample(
            target.misfit,
            target.prior(1, generator),
            draws=parameters.sign_draws,
            warmup=parameters.sign_warmup,
            steps=parameters.sign_leapfrog,
            step_size=0.05,
            generator=generator,
        )
        return {
            "draws": found.draws,
            "potential": found.potential,
            "acceptance": found.acceptance,
            "step_size": found.step_size,
        }

    seed = parameters.first_seed
    return kept(
        _specification(task, parameters, seed, method="split HMC", settings=settings),
        make,
        code=CODE["split HMC"],
    )


def _scaled_network(task: Task) -> split_hmc.ScaledNetwork:
    return split_hmc.ScaledNetwork(task.build(0), task.train.images, task.train.labels)


def fit_sign_chains(task: Task, parameters: Parameters) -> Sampled:
    """The chains of `sign_chain` together."""
    chains = [
        sign_chain((chain, parameters)) for chain in range(parameters.sign_chains)
    ]
    tensors = {name: torch.cat([each[name] for each in chains]) for name in chains[0]}
    target = _scaled_network(task)
    parts = [target.weights(draws) for draws in tensors["draws"]]
    return Sampled(
        Empirical(target.weights(tensors["draws"].flatten(0, 1))),
        [Empirical(part) for part in parts],
        lambda: _mixing(tensors, parts, task, parameters, DIAGNOSED),
    )


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


ACCURACY_IMAGES = 1000


def accuracy(samples: WeightSamples, task: Task, parameters: Parameters) -> Accuracy:
    """Accuracy of some samples on (at most 1,000) test images of their task."""
    test = task.test.take(
        min(ACCURACY_IMAGES, len(task.test)), parameters.first_seed + 1
    )
    found = sampled_probabilities(samples, test.images)
    single = (found.argmax(-1) == test.labels).float().mean()
    mean = (found.mean(0).argmax(-1) == test.labels).float().mean()
    return Accuracy(float(single), float(mean))


# Samples of any posterior, and of dropout matched to another one
# --------------------------------------------------------------------------------------


def fit_all(**settings: Any) -> None:
    """Sample every chain and fit every variational posterior that a run needs, the
    longest first and side by side; they stay in the cache.
    """
    parameters = Parameters.of(settings)
    seeds = protocol_of_studies.seeds(parameters)
    items: list[Piece] = [("HMC", name, 0, parameters) for name in ("ten", "two")]
    if parameters.sign_dataset != "none":
        chains = range(parameters.sign_chains)
        items += [("sign chain", "signs", chain, parameters) for chain in chains]
    items += [
        ("mean-field VI", name, seed, parameters)
        for name in ("ten", "two")
        for seed in seeds
    ]
    map_in_workers(_fitted, items)


Piece = tuple[str, str, int, Parameters]


def _fitted(item: Piece) -> None:
    method, name, number, parameters = item
    if method == "sign chain":
        sign_chain((number, parameters))
        return
    task = {"ten": ten_classes, "two": two_classes}[name](parameters)
    if method == "HMC":
        chains_of(task, parameters)
    else:
        fit(method, task, parameters, number)


def samples_of(
    name: str, task: Task, parameters: Parameters, seed: int, count: int
) -> WeightSamples:
    """Samples of a method (one of the deterministic network) from one seed, or of
    dropout that is matched to a method (`RIVALS`); a seed of HMC is one chain.
    """
    generator = Generator().manual_seed(seed)
    if name.startswith(ALIKE):
        method = name.removeprefix(ALIKE)
        ours = samples_of(f"{ACCURATE}{method}", task, parameters, seed, count)
        theirs = samples_of(method, task, parameters, seed, count)
        factor = size_of_logits(theirs, task) / size_of_logits(ours, task)
        return scaled(ours, factor)
    if name.startswith(ACCURATE):
        rate = matched_rate(name.removeprefix(ACCURATE), task, parameters, seed)
        dropout = fit("MC dropout", task, parameters, seed, rate=rate)
        return dropout.draw(count, generator)
    if name == "HMC":
        chain = seed - parameters.first_seed
        return chains_of(task, parameters).by_chain[chain].draw(count, generator)
    posterior = fit(name, task, parameters, seed)
    return posterior.draw(1 if name == "deterministic" else count, generator)


def chains_of(task: Task, parameters: Parameters) -> Sampled:
    """HMC on a task of digits, a chain for each seed."""
    length = budget(parameters, parameters.seeds)
    return fit_hmc(task, parameters, length, parameters.first_seed)


def matched_rate(method: str, task: Task, parameters: Parameters, seed: int) -> float:
    """The dropout rate at which single samples are as accurate as those of a method,
    both from this seed, by halving: accuracy falls as the rate rises. It is worked out
    once, and kept.

    Accuracies are those that are reported: a covariate is matched, nothing is chosen by
    robustness.
    """
    specification = _specification(
        task,
        parameters,
        seed,
        method=f"rate of dropout as accurate as {method}",
        settings=parameters.model_dump(),
        searched=[ACCURACY_SAMPLES, ACCURACY_IMAGES, MATCHING_STEPS],
    )
    found = kept(
        specification,
        lambda: {
            "rate": torch.tensor(_matched_rate(method, task, parameters, seed)).double()
        },
        code=(*CODE["MC dropout"], hmc, mean_field),
    )
    return round(float(found["rate"]), 4)


def _matched_rate(method: str, task: Task, parameters: Parameters, seed: int) -> float:
    """Of the rates tried, the one whose accuracy comes nearest."""
    wanted = samples_of(method, task, parameters, seed, ACCURACY_SAMPLES)
    aim = accuracy(wanted, task, parameters).sample
    low, high, gaps = 0.01, 0.99, {}
    for _ in range(MATCHING_STEPS):
        rate = round((low + high) / 2, 4)
        posterior = fit("MC dropout", task, parameters, seed, rate=rate)
        samples = posterior.draw(ACCURACY_SAMPLES, Generator().manual_seed(seed))
        gap = accuracy(samples, task, parameters).sample - aim
        gaps[rate] = abs(gap)
        low, high = (rate, high) if gap > 0 else (low, rate)
    return min(gaps, key=gaps.__getitem__)


def size_of_logits(samples: WeightSamples, task: Task) -> float:
    """Mean size of the logits on test images; of several classes, about their mean."""
    logits = samples.logits(task.test.images[:ACCURACY_IMAGES])
    if logits.shape[-1] > 1:
        logits = logits - logits.mean(-1, keepdim=True)
    return float(logits.abs().mean())


def scaled(samples: WeightSamples, factor: float) -> WeightSamples:
    """The same networks with their logits multiplied: no decision changes."""
    last = [name for name, _ in samples.architecture.named_parameters()][-2:]
    weights = {
        name: tensor * factor if name in last else tensor
        for name, tensor in samples.weights.items()
    }
    return WeightSamples(samples.architecture, weights)
