"""Mean-field variational inference: independent Gaussian weights, trained with local
reparameterisation.

Read `MeanField` first, then `divergence` (its closed form), then `train_mean_field` and
`noisy_logits`; `diagnose` says whether training lasted long enough for the deviations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustbook.bayes.protocol import check_count, log_likelihood
from robustbook.bayes.weights import WeightSamples
from robustbook.errors import ParameterError
from robustbook.models.training import TrainingDiverged


@dataclass(frozen=True, eq=False)
class MeanField:
    """Independent Gaussians: `means` by parameter name, `scales` (standard deviations)
    of those that are stochastic.
    """

    architecture: nn.Sequential
    means: Mapping[str, Tensor]
    scales: Mapping[str, Tensor]

    def draw(self, count: int, generator: Generator) -> WeightSamples:
        """`count` independent joint samples; deterministic parameters are shared by all
        of them.
        """
        check_count(count)
        weights = {name: mean[None] for name, mean in self.means.items()}
        for name, scale in self.scales.items():
            noise = torch.randn((count, *scale.shape), generator=generator)
            weights[name] = noise.mul_(scale).add_(self.means[name])
        if not self.scales:
            weights = {
                name: tensor.expand(count, *tensor.shape[1:])
                for name, tensor in weights.items()
            }
        return WeightSamples(self.architecture, weights)


def divergence(mean: Tensor, scale: Tensor, prior_sd: float) -> Tensor:
    """KL divergence (nats) of independent N(mean, scale^2) from N(0, prior_sd^2),
    summed over all entries.
    """
    ratio = (scale / prior_sd).square()
    return ((mean / prior_sd).square() + ratio - 1 - ratio.log()).sum() / 2


def noisy_logits(
    architecture: nn.Sequential,
    means: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    images: Tensor,
    generator: Generator,
) -> Tensor:
    """Logits (N, K), each image with weights of its own (Kingma et al. 2015).

    The output of a layer with Gaussian weights is Gaussian, so it is drawn in place of
    them: less noise and work.
    """
    values = images
    for index, layer in enumerate(architecture):
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            values = layer(values)
            continue
        mean = _affine(
            layer, values, means[f"{index}.weight"], means.get(f"{index}.bias")
        )
        if f"{index}.weight" in scales:
            bias = scales.get(f"{index}.bias")
            spread = (
                scales[f"{index}.weight"].square(),
                None if bias is None else bias.square(),
            )
            variance = _affine(layer, values.square(), *spread).clamp(min=1e-16)
            mean = mean + variance.sqrt() * torch.randn(mean.shape, generator=generator)
        values = mean
    return values


def _affine(
    layer: nn.Linear | nn.Conv2d, values: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(values, weight, bias)
    # Typed as strings in general; ours are numbers.
    return F.conv2d(
        values, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def train_mean_field(
    architecture: nn.Sequential,
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

    Raises ParameterError if a setting is out of range or a layer is unknown,
    TrainingDiverged with the epoch if the loss stops being finite.
    """
    if prior_sd <= 0 or initial_scale <= 0 or temperature < 0 or epochs < 1:
        raise ParameterError(
            "prior_sd and initial_scale must be positive, temperature not negative, "
            "epochs at least 1"
        )
    scale_rate = learning_rate if scale_learning_rate is None else scale_learning_rate
    if scale_rate <= 0:
        raise ParameterError(
            f"scale_learning_rate must be positive, got {scale_rate:g}"
        )
    means = {
        name: tensor.detach().clone().requires_grad_()
        for name, tensor in architecture.named_parameters()
    }
    chosen = _chosen(means, stochastic)
    rho = {
        name: torch.full_like(means[name], math.log(initial_scale)).requires_grad_()
        for name in chosen
    }
    generator = torch.Generator().manual_seed(seed)
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
        for rows in torch.randperm(len(images), generator=generator).split(batch):
            scales = {name: value.exp() for name, value in rho.items()}
            logits = noisy_logits(architecture, means, scales, images[rows], generator)
            fit = log_likelihood(logits[None], labels[rows])[0] / len(rows)
            price = sum(
                (divergence(means[name], scales[name], prior_sd) for name in chosen),
                torch.zeros(()),
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

    Raises ParameterError if the temperature is not positive: without a prior the
    deviations have no optimum.
    """
    if temperature <= 0 or prior_sd <= 0 or passes < 1:
        raise ParameterError(
            "temperature and prior_sd must be positive, passes at least 1"
        )
    rho = {
        name: scale.log().requires_grad_() for name, scale in posterior.scales.items()
    }
    generator = torch.Generator().manual_seed(seed)
    fit = 0.0
    slope = dict.fromkeys(rho, 0.0)
    for rows in list(torch.arange(len(images)).split(batch)) * passes:
        scales = {name: value.exp() for name, value in rho.items()}
        logits = noisy_logits(
            posterior.architecture, posterior.means, scales, images[rows], generator
        )
        likelihood = log_likelihood(logits[None], labels[rows])[0] / passes
        fit += float(likelihood.detach())
        for name, part in zip(
            rho, torch.autograd.grad(-likelihood, list(rho.values())), strict=True
        ):
            slope[name] += float(part.sum())
    price = sum(
        float(divergence(posterior.means[name], scale, prior_sd))
        for name, scale in posterior.scales.items()
    )
    layers: dict[str, list[str]] = {}
    for name in posterior.scales:
        layers.setdefault(name.split(".")[0], []).append(name)
    balance = {
        layer: sum(
            float((posterior.scales[name] / prior_sd).square().sum())
            + slope[name] / temperature
            for name in names
        )
        / sum(posterior.scales[name].numel() for name in names)
        for layer, names in layers.items()
    }
    return Convergence(
        (fit - temperature * price) / len(images),
        balance,
        _uninformed(posterior, images, prior_sd),
    )


def _uninformed(posterior: MeanField, images: Tensor, prior_sd: float) -> float | None:
    first, layer = next(
        (str(index), layer)
        for index, layer in enumerate(posterior.architecture)
        if isinstance(layer, nn.Linear | nn.Conv2d)
    )
    scale = posterior.scales.get(f"{first}.weight")
    if scale is None or not isinstance(layer, nn.Linear):
        return None
    blank = (images.flatten(1) == 0).all(dim=0)
    return float(scale[:, blank].mean() / prior_sd) if blank.any() else None


def _chosen(names: Collection[str], stochastic: Collection[str] | None) -> list[str]:
    """Names of the parameters whose layer is stochastic."""
    layers = {name.split(".")[0] for name in names}
    unknown = set(stochastic or ()) - layers
    if unknown:
        raise ParameterError(
            f"no layer {', '.join(sorted(unknown))}; layers with weights are "
            f"{', '.join(sorted(layers))}"
        )
    return [
        name for name in names if stochastic is None or name.split(".")[0] in stochastic
    ]
