"""Checks of the chapter's exercises: each takes an answer and raises AssertionError
with a hint where it is wrong.

One to predict, two to explain, two to implement.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustbook.bayes.mean_field import MeanField
from robustbook.bayes.weight_noise import weight_noise
from robustbook.bayes.weights import WeightSamples
from robustbook.measure.uncertainty import mutual_information
from robustbook.models import build
from robustbook.perturb.posterior import log_mean
from robustbook.results import Results
from robustbook.studies.bnn_attacks.claims import BNN, CNN, CONTROL, PENALISED
from robustbook.studies.bnn_attacks.networks import KINDS

CONTROLS = (CONTROL, PENALISED, "ensemble", "weight noise")
"""Networks without a posterior from inference, other than the one that is attacked
itself.
"""


def check_split_vote(answer: float | None) -> None:
    """Mutual information of samples that are all certain, half of them of one class and
    half of another.
    """
    assert isinstance(answer, float), "Give one number, in nats."
    assert abs(answer) > 1e-6, (
        "The samples contradict each other: knowing the weights tells you the answer."
    )
    assert abs(answer - math.log(2)) < 1e-3, (
        "H of the mean, less the mean of H, which is 0 for samples that are sure."
    )


def check_first_claim(answer: dict[str, str] | None, results: Results) -> None:
    """The comparison in which the first claim looks true, and the control that shows
    why.
    """
    assert isinstance(answer, dict), (
        "Give a dictionary with the keys 'way', 'compared with' and 'control'."
    )
    missing = {"way", "compared with", "control"} - set(answer)
    assert not missing, f"Missing keys: {', '.join(sorted(missing))}."
    for key in ("compared with", "control"):
        assert answer[key] in KINDS, f"{key!r} must be one of {', '.join(KINDS)}."
    assert answer["way"] == "transfer", (
        "The paper crafts its attacks on one network and gives them to the others."
    )
    assert answer["compared with"] == CNN, (
        "In which comparison is one side attacked itself, and the other one not? "
        "The paper's reference is that network."
    )
    assert answer["control"] in CONTROLS, (
        "A control must have no posterior from inference (dropout and Laplace are "
        "approximate inference too), and must not be the network that is attacked "
        "itself."
    )

    def accuracy(network: str) -> dict[object, float]:
        rows = results.select(
            "accuracy under attack",
            network=network,
            way="transfer",
            attack="PGD",
            budget=1.0,
        )
        return {row.factors["dataset"]: row.value for row in rows}

    attacked, bayesian, control = (
        accuracy(CNN),
        accuracy(BNN),
        accuracy(answer["control"]),
    )
    both = {
        dataset: value
        for dataset, value in attacked.items()
        if dataset in bayesian and dataset in control
    }
    assert both, "This run did not attack that network by transfer."
    for dataset, value in both.items():
        assert bayesian[dataset] > value, (
            f"In this run the BNN gains nothing on {dataset}: the claim is not true "
            "here."
        )
        assert control[dataset] > value, (
            f"In this run {answer['control']} gains nothing over the CNN on {dataset}."
        )


def sample_problem() -> tuple[MeanField, Tensor, Tensor]:
    """A posterior (noise on an untrained network), 8 random images (8, 1, 8, 8) and
    their labels (8,) to try answers on.
    """
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    posterior = weight_noise(build("cnn", (1, 8, 8), 10, seed=3), 0.7)
    return posterior, images, torch.arange(8)


def averaged_gradient(samples: WeightSamples, images: Tensor, labels: Tensor) -> Tensor:
    """Input gradient (N, C, H, W) of -log of the predictive probability of `labels`
    (N,).
    """
    points = images.detach().requires_grad_()
    log_probabilities = torch.log_softmax(samples.logits(points), dim=-1).transpose(
        0, 1
    )
    loss = -log_mean(log_probabilities).gather(1, labels[:, None]).sum()
    return torch.autograd.grad(loss, points)[0]


def agreement(count: int, reference: int = 400, draws: int = 20) -> float:
    """Mean cosine of gradients averaged over `count` samples with one averaged over
    `reference` samples.
    """
    posterior, images, labels = sample_problem()
    generator = torch.Generator().manual_seed(0)
    exact = averaged_gradient(
        posterior.draw(reference, generator), images, labels
    ).flatten(1)
    found = [
        torch.cosine_similarity(
            averaged_gradient(posterior.draw(count, generator), images, labels).flatten(
                1
            ),
            exact,
        ).mean()
        for _ in range(draws)
    ]
    return float(torch.stack(found).mean())


def check_agreement(answer: dict[int, float] | None) -> None:
    """Cosines of the averaged gradient for 1 and for 20 samples."""
    assert isinstance(answer, dict) and {1, 20} <= set(answer), (
        "Give a dictionary with the cosines for 1 and 20."
    )
    for count in (1, 20):
        expected = agreement(count)
        assert abs(answer[count] - expected) < 0.1, (
            f"For {count} the cosine is not {answer[count]:.2f}: average "
            "probabilities, not gradients of single losses."
        )


def check_mutual_information(answer: Callable[[Tensor], Tensor] | None) -> None:
    """An own mutual information must agree with the book's, and be 0 for a point
    posterior.
    """
    assert callable(answer), "Give the function itself."
    sampled = torch.softmax(
        2 * torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(1)), -1
    ).double()
    found = answer(sampled)
    assert isinstance(found, Tensor) and found.shape == (5,), (
        "Return one number for each image."
    )
    assert float(answer(sampled[:1].expand(7, -1, -1)).abs().max()) < 1e-6, (
        "A point posterior has no information."
    )
    assert torch.allclose(found.double(), mutual_information(sampled), atol=1e-5), (
        "H of the mean probability, less the mean over samples of H."
    )


def check_averaged_gradient(
    answer: Callable[[WeightSamples, Tensor, Tensor], Tensor] | None,
) -> None:
    """An own averaged gradient must be that of the predictive probability."""
    assert callable(answer), "Give the function itself."
    posterior, images, labels = sample_problem()
    samples = posterior.draw(6, torch.Generator().manual_seed(2))
    found = answer(samples, images, labels)
    assert isinstance(found, Tensor) and found.shape == images.shape, (
        "Return one gradient for each image."
    )
    expected = averaged_gradient(samples, images, labels)
    cosine = torch.cosine_similarity(found.flatten(1), expected.flatten(1))
    assert float(cosine.min()) > -0.5, (
        "It points the other way: the attack wants the label less probable."
    )
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-3), (
        "Average the probabilities first and take the logarithm then; the mean of "
        "log-probabilities is another attack."
    )
