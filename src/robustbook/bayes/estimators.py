"""Three estimators of one gradient: Bayes by Backprop (Blundell et al. 2015), local
reparameterisation (Kingma et al. 2015) and Flipout (Wen et al. 2018).

All three follow the evidence lower bound of the same mean-field posterior, so they have
one optimum and differ in noise. Read `noisy_logits_by` first, then `train_by`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.mean_field import (
    MeanField,
    divergence,
    noisy_logits,
    train_mean_field,
)
from robustbook.bayes.protocol import log_likelihood, training_data
from robustbook.bayes.weights import Part
from robustbook.draws import normal, order, signs
from robustbook.models.input_convolution import plain
from robustbook.models.network import chain, eval_mode
from robustbook.models.training import TrainingDiverged

LOCAL = "local reparameterisation"
ESTIMATORS = ("Bayes by Backprop", LOCAL, "Flipout")


def noisy_logits_by(
    estimator: str,
    architecture: Module,
    means: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    images: Tensor,
    generator: Generator,
) -> Tensor:
    """Logits (N, K) with Gaussian weights, their noise drawn as the estimator does.

    Bayes by Backprop: one draw of the weights for all images. Flipout: one draw of the
    noise, which every image meets with random signs of its inputs and outputs, in
    linear layers and convolutions; others draw once. Local reparameterisation: see
    `mean_field.noisy_logits`.

    Raises ArgumentError for another estimator.
    """
    checks.one_of(estimator, "estimator", ESTIMATORS)
    if estimator == LOCAL:
        return noisy_logits(architecture, means, scales, images, generator)
    values = checks.tensor(images, "images", dimensions=4)
    with eval_mode(architecture):
        for layer in chain(checks.network(architecture, "architecture")):
            names = Part.of(architecture, [layer]).names
            own = {name: means[known] for name, known in names.items()}
            noise = {
                name: scales[known] * normal(own[name].shape, own[name], generator)
                for name, known in names.items()
                if known in scales
            }
            if estimator == "Flipout" and noise and plain(layer, nn.Linear, nn.Conv2d):
                values = _flipped(layer, own, noise, values, generator)
                continue
            drawn = own | {name: own[name] + part for name, part in noise.items()}
            values = torch.func.functional_call(layer, drawn, (values,))
    return values


def _flipped(
    layer: Module,
    own: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    values: Tensor,
    generator: Generator,
) -> Tensor:
    """The layer at its means, and its noise with signs of its own for every image."""
    mean = torch.func.functional_call(layer, dict(own), (values,))
    blank = {name: torch.zeros_like(part) for name, part in own.items()}
    ones = [1] * (values.dim() - 2)
    into = signs((*values.shape[:2], *ones), values, generator)
    out = signs((*mean.shape[:2], *ones), mean, generator)
    moved = torch.func.functional_call(layer, blank | dict(noise), (values * into,))
    return mean + moved * out


@torch.enable_grad()
def train_by(
    estimator: str,
    architecture: Module,
    images: Tensor,
    labels: Tensor,
    *,
    prior_sd: float,
    epochs: int,
    seed: int,
    learning_rate: float = 3e-3,
    scale_learning_rate: float | None = None,
    batch: int = 100,
    initial_scale: float = 0.02,
    temperature: float = 1.0,
    stochastic: Collection[str] | None = None,
) -> MeanField:
    """The mean-field posterior trained with one of `ESTIMATORS`; all else, arguments
    and errors included, as in `mean_field.train_mean_field`, which does the work of
    local reparameterisation.
    """
    checks.one_of(estimator, "estimator", ESTIMATORS)
    if estimator == LOCAL:
        return train_mean_field(
            architecture,
            images,
            labels,
            prior_sd=prior_sd,
            epochs=epochs,
            seed=seed,
            learning_rate=learning_rate,
            scale_learning_rate=scale_learning_rate,
            batch=batch,
            initial_scale=initial_scale,
            temperature=temperature,
            stochastic=stochastic,
        )
    images, labels = training_data(architecture, images, labels)
    epochs = checks.whole(epochs, "epochs", at_least=1)
    batch = checks.whole(batch, "batch", at_least=1)
    temperature = checks.real(temperature, "temperature", at_least=0)
    rate = checks.real(learning_rate, "learning_rate", above=0)
    scale_rate = checks.real(
        rate if scale_learning_rate is None else scale_learning_rate,
        "scale_learning_rate",
        above=0,
    )
    start = math.log(checks.real(initial_scale, "initial_scale", above=0))
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    means = {
        name: tensor.detach().clone().requires_grad_()
        for name, tensor in architecture.named_parameters()
    }
    layers = {name: name.rpartition(".")[0] for name in means}
    if stochastic is not None:
        for layer in stochastic:
            checks.one_of(layer, "stochastic", layers.values())
    rho = {
        name: torch.full_like(mean, start).requires_grad_()
        for name, mean in means.items()
        if stochastic is None or layers[name] in stochastic
    }
    groups = [(list(means.values()), rate), (list(rho.values()), scale_rate)]
    groups = [(part, peak) for part, peak in groups if part]
    optimiser = torch.optim.Adam(
        [{"params": part, "lr": peak} for part, peak in groups]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[2 * peak for _, peak in groups],
        total_steps=epochs * math.ceil(len(images) / batch) + 1,
    )
    for epoch in range(epochs):
        for rows in order(len(images), images, generator).split(batch):
            scales = {name: value.exp() for name, value in rho.items()}
            logits = noisy_logits_by(
                estimator, architecture, means, scales, images[rows], generator
            )
            fit = -log_likelihood(logits[None], labels[rows])[0] / len(rows)
            price = sum(
                (divergence(means[name], scales[name], prior_sd) for name in rho),
                logits.new_zeros(()),
            )
            loss = fit + temperature * price / len(images)
            if not torch.isfinite(loss):
                raise TrainingDiverged(
                    f"the variational loss became {loss.item()} in epoch "
                    f"{epoch + 1} of {epochs} ({estimator})"
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
