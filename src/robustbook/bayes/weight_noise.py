"""Nulls of a posterior: Gaussian noise on trained weights, and the L2-regularised
network, a posterior's single best point.

Read `weight_noise` first, then `train_map`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from robustbook import checks
from robustbook.bayes.mean_field import MeanField
from robustbook.bayes.protocol import training_data
from robustbook.draws import order
from robustbook.models.training import TrainingDiverged


def weight_noise(network: Module, share: float) -> MeanField:
    """Noise on every weight and bias, its deviation `share` of the root mean square of
    the tensor; nothing is learned.

    Raises ArgumentError if `share` is negative or `network` is no network.
    """
    share = checks.real(share, "share", at_least=0)
    means = {
        name: tensor.detach().clone()
        for name, tensor in checks.network(network, "network").named_parameters()
    }
    scales = {
        name: torch.full_like(mean, share * float(mean.square().mean().sqrt()))
        for name, mean in means.items()
    }
    return MeanField(network, means, scales if share else {})


@torch.enable_grad()
def train_map(
    network: Module,
    images: Tensor,
    labels: Tensor,
    *,
    prior_sd: float,
    epochs: int,
    seed: int,
    learning_rate: float = 3e-3,
    batch: int = 100,
    temperature: float = 1.0,
) -> Module:
    """Train `network` in place to the maximum a posteriori under N(0, `prior_sd`^2)
    weights: an L2 penalty, no spread.

    The same optimiser, schedule, prior and `temperature` (weight of the prior) as
    variational inference, so that what is left between the two is the posterior's
    spread.

    Raises ArgumentError for images, labels, networks and numbers that it cannot take,
    TrainingDiverged with the epoch if the loss is not finite.
    """
    prior_sd = checks.real(prior_sd, "prior_sd", above=0)
    temperature = checks.real(temperature, "temperature", at_least=0)
    learning_rate = checks.real(learning_rate, "learning_rate", above=0)
    epochs = checks.whole(epochs, "epochs", at_least=1)
    batch = checks.whole(batch, "batch", at_least=1)
    generator = Generator(device="cpu").manual_seed(
        checks.whole(seed, "seed", at_least=0)
    )
    images, labels = training_data(network, images, labels)
    parameters = list(network.parameters())
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    total = epochs * math.ceil(len(images) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=2 * learning_rate, total_steps=total + 1
    )
    for epoch in range(epochs):
        for rows in order(len(images), images, generator).split(batch):
            penalty = sum(
                (part.square().sum() for part in parameters), images.new_zeros(())
            ) / (2 * prior_sd**2)
            loss = F.cross_entropy(
                network(images[rows]), labels[rows]
            ) + temperature * penalty / len(images)
            if not torch.isfinite(loss):
                raise TrainingDiverged(
                    f"the penalised loss became {loss.item()} in epoch {epoch + 1} "
                    f"of {epochs} (prior_sd {prior_sd:g})"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
