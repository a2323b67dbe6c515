"""Attacks on a posterior: its predictive mean as a module that every gradient attack
can take, and two attacks on it.

Read `Sampled` first (fresh weight samples at every call), then `Predictive`, then
`eot_pgd` (the gradient of the averaged probability, "expectation over transformation",
Athalye et al. 2018) and `uncertainty_aware`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook import checks, draws
from robustbook.bayes.mean_field import MeanField
from robustbook.bayes.prediction import first_stochastic, sampled_probabilities
from robustbook.bayes.protocol import Empirical, Posterior
from robustbook.bayes.weights import (
    Part,
    WeightSamples,
    fast_layers,
    forward,
    is_fast,
)
from robustbook.models.network import Objective
from robustbook.perturb.ascent import ascend, random_starts
from robustbook.perturb.gradient import cross_entropy, margin

CHUNK = 256
"""Images that are attacked together: every chunk of them draws weights of its own, so
larger than for one network.
"""
CONFIDENCE, ALARM_WEIGHT = 1.0, 50.0
"""How far (nats of log-probability) an uncertainty-aware attack wants to be wrong, and
what a nat of alarm costs it.
"""


def weight_samples(
    posterior: Posterior, count: int, generator: Generator
) -> WeightSamples:
    """`count` fresh samples; of an empirical posterior with no more than that, every
    one of its networks once.

    Raises ArgumentError if `count` is less than 1 or there is no generator.
    """
    checks.having(posterior, "posterior", "draw", "architecture")
    count = checks.whole(count, "count", at_least=1)
    checks.generator(generator)
    if isinstance(posterior, Empirical) and len(posterior.samples) <= count:
        return posterior.samples
    return posterior.draw(count, generator)


class Sampled(Module):
    """Log-probabilities (N, S, K) of images (N, C, H, W) under `count` weight samples,
    drawn afresh at every call.

    Layers up to the first one that differs between samples run once. What follows runs
    all samples in one batched product if it has no convolution, else as networks of
    their own: on a CPU that is the fastest way there and back.

    Where that first layer is linear, its weights independent Gaussians and no
    convolution follows, its outputs are drawn in their place, image by image (local
    reparameterisation, Kingma et al. 2015). For every image they have the distribution
    that drawn weights give them, so the mean over samples and its gradient are
    estimates of the same two quantities; what is lost is that two images see the same
    weights, which no attack on single images needs.

    Raises ArgumentError if there is no posterior or generator, or `count` is less
    than 1.
    """

    def __init__(self, posterior: Posterior, count: int, generator: Generator) -> None:
        super().__init__()
        checks.having(posterior, "posterior", "draw", "architecture")
        count = checks.whole(count, "count", at_least=1)
        checks.generator(generator)
        self.count, self.generator = count, generator
        if isinstance(posterior, Empirical):
            self.count = min(count, len(posterior.samples))
        self.architecture = copy.deepcopy(posterior.architecture).eval()
        probe = self._own(
            weight_samples(
                posterior, max(count, 2), Generator(device="cpu").manual_seed(0)
            )
        )
        split = first_stochastic(probe)
        layers = probe.layers
        self.prefix = Part.of(self.architecture, layers[:split]) if split else None
        self.suffix = Part.of(self.architecture, layers[split:])
        # Layers are looked at here, since some run otherwise inside `frozen`.
        self.together = all(
            is_fast(layer) and not isinstance(layer, nn.Conv2d)
            for layer in layers[split:]
        )
        self.later = layers[split:]
        self.posterior, self.gaussian = posterior, None
        # Positions of an image that is flattened later share the weights.
        flat = not any(isinstance(layer, nn.Flatten) for layer in layers[split:])
        if self.together and flat and isinstance(posterior, MeanField):
            names = Part.of(self.architecture, layers[split : split + 1]).names
            self.gaussian = _gaussian_layer(posterior, layers[split], names)
            if self.gaussian is not None:
                self.posterior = _without(posterior, names.values())
                self.later = layers[split + 1 :]

    def _own(self, samples: WeightSamples) -> WeightSamples:
        return WeightSamples(self.architecture, samples.weights)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities (N, S, K)."""
        samples = weight_samples(self.posterior, self.count, self.generator)
        samples = self._own(samples)
        values = samples.points(images)[0]
        if self.prefix is not None:
            values = self.prefix.run(samples, 0, values)
        logits = (
            self._at_once(samples, values)
            if self.together
            else torch.stack(
                [self.suffix.run(samples, row, values) for row in range(len(samples))]
            )
        )
        return torch.log_softmax(logits, dim=-1).transpose(0, 1)

    def _at_once(self, samples: WeightSamples, values: Tensor) -> Tensor:
        start = (
            values[None]
            if self.gaussian is None
            else self.gaussian.draw(values, self.count, self.generator)
        )
        layers = fast_layers(samples, self.later)
        assert layers is not None
        return forward(layers, start)[-1].expand(self.count, -1, -1)


@dataclass(frozen=True, eq=False)
class _GaussianLayer:
    """A linear layer with independent Gaussian weights: their means, and their
    variances (biases None where fixed).
    """

    weight: Tensor
    bias: Tensor | None
    weight_variance: Tensor
    bias_variance: Tensor | None

    def draw(self, values: Tensor, count: int, generator: Generator) -> Tensor:
        """Outputs (S, N, o) for `values` (N, i), each image with noise of its own."""
        mean = F.linear(values, self.weight, self.bias)
        variance = F.linear(
            values.square(), self.weight_variance, self.bias_variance
        ).clamp(min=1e-16)
        noise = draws.normal((count, *mean.shape), mean, generator)
        return torch.addcmul(mean, variance.sqrt(), noise)


def _gaussian_layer(
    posterior: MeanField, layer: Module, names: Mapping[str, str]
) -> _GaussianLayer | None:
    """A layer of a mean-field posterior whose parameters are called `names`, if it is
    linear and its weights are stochastic.
    """
    means, scales = posterior.means, posterior.scales
    weight, bias = names.get("weight", ""), names.get("bias", "")
    if not isinstance(layer, nn.Linear) or weight not in scales:
        return None
    return _GaussianLayer(
        means[weight],
        means.get(bias),
        scales[weight].square(),
        scales[bias].square() if bias in scales else None,
    )


def _without(posterior: MeanField, names: Collection[str]) -> MeanField:
    """The mean-field posterior with some parameters fixed at their means."""
    scales = {
        name: scale for name, scale in posterior.scales.items() if name not in names
    }
    return MeanField(posterior.architecture, posterior.means, scales)


class Predictive(Sampled):
    """Log posterior-predictive probabilities (N, K), which attacks may take for logits:
    their cross-entropy is -log p.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The logarithm of the mean probability over fresh samples."""
        return log_mean(super().forward(images))


def log_mean(log_probabilities: Tensor) -> Tensor:
    """Log of the mean probability (N, K) of log-probabilities (N, S, K)."""
    return torch.logsumexp(log_probabilities, dim=1) - math.log(
        log_probabilities.shape[1]
    )


def eot_pgd(
    posterior: Posterior,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    samples: int,
    generator: Generator,
    restarts: int = 1,
    starts: Sequence[Tensor] = (),
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images (N, C, H, W) by PGD on -log of the predictive probability,
    averaged over fresh weight samples.

    Every step draws `samples` networks. `restarts` ascents of the cross-entropy begin
    at random points of the ball; from each of the given `starts` (points of another
    attack, say) the margin of the log-probabilities is climbed, which does not
    saturate. Of several ends an image keeps the one that is worst under samples it was
    not made with. An image costs `steps` * `samples` passes for each start. `samples` =
    1 is the plain attack on one posterior sample at a time.

    Raises ArgumentError if `samples` is less than 1 or there is no start, and as
    `ascend` does.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    samples = checks.whole(samples, "samples", at_least=1)
    restarts = checks.whole(restarts, "restarts", at_least=0 if starts else 1)
    model = Predictive(posterior, samples, generator)
    plans: list[tuple[Tensor, Objective]] = [
        (random_starts(images, epsilon, generator), cross_entropy)
        for _ in range(restarts)
    ]
    plans += [(start, margin) for start in starts]
    best, worst = images.clone(), images.new_full((len(images),), -torch.inf)
    for start, objective in plans:
        ends = ascend(
            model,
            images,
            labels,
            objective,
            epsilon=epsilon,
            steps=steps,
            step_size=step_size,
            starts=start,
            chunk=chunk,
        )
        if len(plans) == 1:
            return ends
        lead = _lead(posterior, ends, labels, samples, generator)
        better = lead > worst
        best[better], worst[better] = ends[better], lead[better]
    return best


def _lead(
    posterior: Posterior,
    points: Tensor,
    labels: Tensor,
    samples: int,
    generator: Generator,
) -> Tensor:
    """By how many nats another class leads the label (n,), under fresh samples."""
    fresh = weight_samples(posterior, max(samples, 10), generator)
    return margin(
        sampled_probabilities(fresh, points).mean(dim=0).clamp_min(1e-30).log(), labels
    )


def uncertainty_aware(
    posterior: Posterior,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    samples: int,
    generator: Generator,
    starts: Tensor | None = None,
    confidence: float = CONFIDENCE,
    weight: float = ALARM_WEIGHT,
    chunk: int = CHUNK,
) -> Tensor:
    """Adversarial images that are misclassified and raise no alarm: the margin less
    `weight` times mutual information.

    The margin (nats of log predictive probability) counts up to `confidence` only, so
    that once an image is wrong by that much the attack goes on to lower the alarm.
    Shapes, ball, cost and errors as in `eot_pgd` with one start.
    """
    images = checks.images(images)
    labels = checks.labels(labels, images)
    samples = checks.whole(samples, "samples", at_least=1)
    confidence = checks.real(confidence, "confidence")
    weight = checks.real(weight, "weight", at_least=0)
    begin = random_starts(images, epsilon, generator) if starts is None else starts

    sampled = Sampled(posterior, samples, generator)

    def objective(flat: Tensor, classes: Tensor) -> Tensor:
        log_probabilities = flat.unflatten(1, (sampled.count, -1))
        lead = margin(log_mean(log_probabilities), classes).clamp(max=confidence)
        return lead - weight * _mutual_information(log_probabilities)

    return ascend(
        nn.Sequential(sampled, nn.Flatten()),
        images,
        labels,
        objective,
        epsilon=epsilon,
        steps=steps,
        step_size=step_size,
        starts=begin,
        chunk=chunk,
    )


def _mutual_information(log_probabilities: Tensor) -> Tensor:
    """Mutual information (N,) of log-probabilities (N, S, K), in nats, with a
    gradient.
    """
    mean = log_mean(log_probabilities)
    total = -(mean.exp() * mean).sum(dim=-1)
    expected = -(log_probabilities.exp() * log_probabilities).sum(dim=-1).mean(dim=1)
    return total - expected
