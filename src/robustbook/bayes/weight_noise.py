"""Nulls of a posterior: Gaussian noise on trained weights, and the L2-regularised
network, a posterior's single best point.

Read `weight_noise` first, then `train_map`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbook.bayes.mean_field import MeanField
from robustbook.errors import ParameterError
from robustbook.models.training import TrainingDiverged


def weight_noise(network: nn.Sequential, share: float) -> MeanField:
    """Noise on every weight and bias, its deviation `share` of the root mean square of
    the tensor; nothing is learned.

    Raises ParameterError if `share` is negative.
    """
    if share < 0:
        raise ParameterError(f"the share of noise must not be negative, got {share}")
    means = {
        name: tensor.detach().clone() for name, tensor in network.named_parameters()
    }
    scales = {
        name: torch.full_like(mean, share * float(mean.square().mean().sqrt()))
        for name, mean in means.items()
    }
    return MeanField(network, means, scales if share else {})


def train_map(
    network: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    *,
    prior_sd: float,
    epochs: int,
    seed: int,
    learning_rate: float = 3e-3,
    batch: int = 100,
    temperature: float = 1.0,
) -> nn.Sequential:
    """Train `network` in place to the maximum a posteriori under N(0, `prior_sd`^2)
    weights: an L2 penalty, no spread.

    The same optimiser, schedule, prior and `temperature` (weight of the prior) as
    variational inference, so that what is left between the two is the posterior's
    spread.

    Raises ParameterError if a setting is out of range, TrainingDiverged with the epoch
    if the loss is not finite.
    """
    if prior_sd <= 0 or temperature < 0 or epochs < 1:
        raise ParameterError(
            "prior_sd must be positive, temperature not negative, epochs at least 1"
        )
    generator = torch.Generator().manual_seed(seed)
    parameters = list(network.parameters())
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    total = epochs * math.ceil(len(images) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=2 * learning_rate, total_steps=total + 1
    )
    for epoch in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(batch):
            penalty = sum(
                (part.square().sum() for part in parameters), torch.zeros(())
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
