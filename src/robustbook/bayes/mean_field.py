"""Mean-field variational inference: independent Gaussian weights, trained with local
reparameterisation.

Read `MeanField` first, then `divergence` (its closed form), then `train_mean_field` and
`noisy_logits`; `diagnose` says whether training lasted long enough for the deviations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.protocol import log_likelihood, training_data
from robustbook.bayes.weights import Part, WeightSamples
from robustbook.checks import ArgumentError
from robustbook.draws import normal, order
from robustbook.models.input_convolution import plain
from robustbook.models.network import chain, eval_mode
from robustbook.models.training import TrainingDiverged


@dataclass(frozen=True, eq=False)
class MeanField:
    """Independent Gaussians: `means` by parameter name, `scales` (standard deviations)
    of those that are stochastic.

    Raises ArgumentError if `means` are not those of the architecture's parameters, or
    `scales` are not of the shape of their means, negative or not finite.
    """

    architecture: Module
    means: Mapping[str, Tensor]
    scales: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        WeightSamples(self.architecture, {n: m[None] for n, m in self.means.items()})
        for name, scale in self.scales.items():
            if name not in self.means or scale.shape != self.means[name].shape:
                raise ArgumentError("scales", "of the shapes of their means", name)
            if bool((checks.tensor(scale, f"scales of {name}") < 0).any()):
                raise ArgumentError(f"scales of {name}", "at least 0", "negative ones")

    @torch.no_grad()
    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples; deterministic parameters are shared by all
        of them.
        """
        count = checks.whole(count, "count", at_least=1)
        weights = {name: mean[None] for name, mean in self.means.items()}
        for name, scale in self.scales.items():
            noise = normal((count, *scale.shape), scale, checks.generator(generator))
            weights[name] = noise.mul_(scale).add_(self.means[name])
        return WeightSamples(
            self.architecture, weights if self.scales else repeated(weights, count)
        )


def repeated(weights: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Weights (1, ...) that all samples share as those of `count` samples."""
    return {
        name: tensor.expand(count, *tensor.shape[1:])
        for name, tensor in weights.items()
    }


def divergence(mean: Tensor, scale: Tensor, prior_sd: float) -> Tensor:
    """KL divergence (nats) of independent N(mean, scale^2) from N(0, prior_sd^2),
    summed over all entries.

    Raises ArgumentError if `prior_sd` is not positive or the shapes differ.
    """
    prior_sd = checks.real(prior_sd, "prior_sd", above=0)
    for name, given in (("mean", mean), ("scale", scale)):
        checks.tensor(given, name)
    if mean.shape != scale.shape:
        raise ArgumentError("scale", f"a tensor {tuple(mean.shape)}", scale)
    return _divergence(mean, scale, prior_sd)


def _divergence(mean: Tensor, scale: Tensor, prior_sd: float) -> Tensor:
    ratio = (scale / prior_sd).square()
    return ((mean / prior_sd).square() + ratio - 1 - ratio.log()).sum() / 2


def noisy_logits(
    architecture: Module,
    means: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    images: Tensor,
    generator: Generator,
) -> Tensor:
    """Logits (N, K), each image with weights of its own (Kingma et al. 2015).

    The output of a linear or convolutional layer with Gaussian weights is Gaussian, so
    it is drawn in place of them: less noise and work. Other layers with such weights
    draw them once for all images.
    """
    checks.tensor(images, "images", dimensions=4)
    layers = _layers(architecture)
    with eval_mode(architecture):
        return _noisy(layers, means, scales, images, checks.generator(generator))


@dataclass(frozen=True)
class _Layer:
    """A layer, whether its output is drawn in place of its weights, and what the
    architecture calls them.
    """

    module: Module
    gaussian: bool
    names: Mapping[str, str]


def _layers(architecture: Module) -> list[_Layer]:
    return [
        _Layer(layer, plain(layer, nn.Linear, nn.Conv2d), part.names)
        for layer in chain(checks.network(architecture, "architecture"))
        for part in [Part.of(architecture, [layer])]
    ]


def _noisy(
    layers: Sequence[_Layer],
    means: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    values: Tensor,
    generator: Generator,
) -> Tensor:
    for layer in layers:
        own = {
            name: means[known] for name, known in layer.names.items() if known in means
        }
        spread = {
            name: scales[known]
            for name, known in layer.names.items()
            if known in scales
        }
        if not layer.gaussian:
            drawn = {
                name: own[name] + scale * normal(scale.shape, scale, generator)
                for name, scale in spread.items()
            }
            values = torch.func.functional_call(layer.module, own | drawn, (values,))
            continue
        mean = _affine(layer.module, values, own["weight"], own.get("bias"))
        if spread:
            fixed = torch.zeros_like(own["weight"])
            squares = {name: scale.square() for name, scale in spread.items()}
            variance = _affine(
                layer.module,
                values.square(),
                squares.get("weight", fixed),
                squares.get("bias"),
            ).clamp(min=1e-16)
            mean = mean + variance.sqrt() * normal(mean.shape, mean, generator)
        values = mean
    return values


def _affine(layer: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(values, weight, bias)
    found: Tensor = layer._conv_forward(values, weight, bias)
    return found


@torch.enable_grad()
def train_mean_field(
    architecture: Module,
    images: Tensor,
    labels: Tensor,
    *,
    prior_sd: float,
    epochs: int,
    seed: int,
    learning_rate: float = 3e-3,
    batch: int = 100,
    initial_scale: float = 0.02,
    temperature: float = 1.0,
    stochastic: Collection[str] | None = None,
    scale_learning_rate: float | None = None,
) -> MeanField:
    """Maximise the evidence lower bound by Adam with a one-cycle learning rate; starts
    at the architecture's weights.

    `temperature` multiplies the divergence (1 is variational Bayes). `stochastic` names
    the layers ("0", "3") whose weights are distributions; the others are points without
    a prior. None makes all of them stochastic.

    `scale_learning_rate` is the rate of the log-deviations; None gives them that of the
    means. One step of Adam moves a number by about its rate at most, so a deviation can
    grow by a factor of about exp(rate x steps) and no more: with a rate that suits the
    means and few steps it is the length of training, not the bound, that sets the
    spread. Choose it so that rate x steps is several times log(prior_sd /
    initial_scale), and look at `diagnose` afterwards.

    The architecture runs in eval mode (no dropout, batch-norm by its averages) and is
    left as it was.

    Raises ArgumentError for images, labels, networks and numbers that it cannot take or
    an unknown layer, TrainingDiverged with the epoch if the loss stops being finite.
    """
    images, labels = training_data(architecture, images, labels)
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    epochs = checks.whole(epochs, "epochs", at_least=1)
    batch = checks.whole(batch, "batch", at_least=1)
    prior_sd = checks.real(prior_sd, "prior_sd", above=0)
    initial_scale = checks.real(initial_scale, "initial_scale", above=0)
    temperature = checks.real(temperature, "temperature", at_least=0)
    learning_rate = checks.real(learning_rate, "learning_rate", above=0)
    scale_rate = learning_rate
    if scale_learning_rate is not None:
        scale_rate = checks.real(scale_learning_rate, "scale_learning_rate", above=0)
    layers = _layers(architecture)
    means = {
        name: tensor.detach().clone().requires_grad_()
        for name, tensor in architecture.named_parameters()
    }
    chosen = _chosen(means, stochastic)
    rho = {
        name: torch.full_like(means[name], math.log(initial_scale)).requires_grad_()
        for name in chosen
    }
    total = epochs * math.ceil(len(images) / batch)
    groups = [(list(means.values()), learning_rate), (list(rho.values()), scale_rate)]
    optimiser = torch.optim.Adam(
        [{"params": part, "lr": rate} for part, rate in groups if part]
    )
    peaks = [2 * rate for part, rate in groups if part]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=peaks, total_steps=total + 1
    )
    for epoch in range(epochs):
        for rows in order(len(images), images, generator).split(batch):
            scales = {name: value.exp() for name, value in rho.items()}
            with eval_mode(architecture):
                logits = _noisy(layers, means, scales, images[rows], generator)
            fit = log_likelihood(logits[None], labels[rows])[0] / len(rows)
            price = sum(
                (_divergence(means[name], scales[name], prior_sd) for name in chosen),
                logits.new_zeros(()),
            )
            loss = temperature * price / len(images) - fit
            if not torch.isfinite(loss):
                raise TrainingDiverged(
                    f"the variational loss became {loss.item()} in epoch "
                    f"{epoch + 1} of {epochs}"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return MeanField(
        architecture,
        {name: mean.detach() for name, mean in means.items()},
        {name: value.detach().exp() for name, value in rho.items()},
    )


@dataclass(frozen=True)
class Convergence:
    """What a trained posterior says about its training, all of it from training
    images.
    """

    bound: float
    """Evidence lower bound, nats per training image, the divergence weighted by the
    temperature; higher is better.
    """
    balance: Mapping[str, float]
    """By stochastic layer: 1 where the bound is stationary in a common factor of the
    layer's deviations, less where they are still too small, more where they are too
    large.
    """
    uninformed: float | None
    """Mean deviation, in prior deviations, of first-layer weights whose pixel is 0 in
    all images: 1 at the optimum. None where there are none (no such pixel, or the first
    layer is a convolution or not stochastic).
    """


@torch.enable_grad()
def diagnose(
    posterior: MeanField,
    images: Tensor,
    labels: Tensor,
    *,
    prior_sd: float,
    temperature: float = 1.0,
    passes: int = 4,
    batch: int = 500,
    seed: int = 0,
) -> Convergence:
    """Whether the deviations of a posterior trained on these images with this prior
    have reached the bound's optimum.

    With deviations exp(rho) the derivative of the bound is 0 where, summed over a
    layer's n weights, sum((scale / prior_sd)^2) + d(negative log likelihood)/d(rho) /
    temperature = n. `balance` is the left side over n; it needs no optimum to compare
    with. The likelihood is averaged over `passes` draws of noise for every image.

    Raises ArgumentError for images, labels and numbers that it cannot take; a
    temperature of 0 is one, since without a prior the deviations have no optimum.
    """
    prior_sd = checks.real(prior_sd, "prior_sd", above=0)
    temperature = checks.real(temperature, "temperature", above=0)
    passes = checks.whole(passes, "passes", at_least=1)
    batch = checks.whole(batch, "batch", at_least=1)
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    checks.having(posterior, "posterior", "means", "scales", "architecture")
    images, labels = training_data(posterior.architecture, images, labels)
    layers = _layers(posterior.architecture)
    rho = {
        name: scale.log().requires_grad_() for name, scale in posterior.scales.items()
    }
    fit = 0.0
    slope = dict.fromkeys(rho, 0.0)
    for rows in (
        list(torch.arange(len(images), device=images.device).split(batch)) * passes
    ):
        scales = {name: value.exp() for name, value in rho.items()}
        with eval_mode(posterior.architecture):
            logits = _noisy(layers, posterior.means, scales, images[rows], generator)
        likelihood = log_likelihood(logits[None], labels[rows])[0] / passes
        fit += float(likelihood.detach())
        if not rho:
            continue
        slopes = torch.autograd.grad(-likelihood, list(rho.values()))
        for name, part in zip(rho, slopes, strict=True):
            slope[name] += float(part.sum())
    price = sum(
        float(divergence(posterior.means[name], scale, prior_sd))
        for name, scale in posterior.scales.items()
    )
    groups: dict[str, list[str]] = {}
    for name in posterior.scales:
        groups.setdefault(_layer_of(name), []).append(name)
    balance = {
        layer: sum(
            float((posterior.scales[name] / prior_sd).square().sum())
            + slope[name] / temperature
            for name in names
        )
        / sum(posterior.scales[name].numel() for name in names)
        for layer, names in groups.items()
    }
    return Convergence(
        (fit - temperature * price) / len(images),
        balance,
        _uninformed(posterior, images, prior_sd),
    )


def _uninformed(posterior: MeanField, images: Tensor, prior_sd: float) -> float | None:
    first = next((each for each in _layers(posterior.architecture) if each.names), None)
    if first is None or not plain(first.module, nn.Linear):
        return None
    scale = posterior.scales.get(first.names["weight"])
    blank = (images.flatten(1) == 0).all(dim=0)
    if scale is None or scale.shape[1] != len(blank) or not blank.any():
        return None
    return float(scale[:, blank].mean() / prior_sd)


def _layer_of(name: str) -> str:
    """The layer of a parameter: "0.2" of "0.2.weight"."""
    return name.rpartition(".")[0]


def _chosen(names: Collection[str], stochastic: Collection[str] | None) -> list[str]:
    """Names of the parameters whose layer is stochastic."""
    layers = {_layer_of(name) for name in names}
    unknown = set(stochastic or ()) - layers
    if unknown:
        allowed = f"among the layers with weights {', '.join(sorted(layers))}"
        raise ArgumentError("stochastic", allowed, ", ".join(sorted(unknown)))
    return [
        name for name in names if stochastic is None or _layer_of(name) in stochastic
    ]
