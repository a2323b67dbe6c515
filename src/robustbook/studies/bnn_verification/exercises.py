"""Checks of the exercises: each takes the answer and raises AssertionError with a hint
if it is wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbook.bayes.weights import WeightSamples, stack
from robustbook.measure import sequential


def check_chernoff(answer: float) -> None:
    """The count of Chernoff's bound for theta = gamma = 0.05."""
    assert isinstance(answer, int | float), "give a number of samples"
    expected = sequential.chernoff_count(0.05, 0.05)
    assert answer != expected - 1, "nearly: the bound asks for more than that number"
    assert answer == expected, (
        "solve n > ln(2 / gamma) / (2 theta^2) for the smallest whole n"
    )


def check_ends(answer: dict[str, str]) -> None:
    """Which end of the robustness probability each oracle gives."""
    assert isinstance(answer, dict), 'give a mapping such as {"attack": "lower", ...}'
    assert set(answer) == {"attack", "certificate"}, (
        "name both oracles: attack and certificate"
    )
    assert answer["attack"] == "upper", (
        "a witness proves a violation: its share is a lower bound of violations. "
        "And of robustness?"
    )
    assert answer["certificate"] == "lower", (
        "a certificate proves robustness of the samples that it covers"
    )


def check_halved_width(answer: float) -> None:
    """Ratio of the mean samples of the betting rule at p = 0.05 for theta = 0.0375 to
    those for theta = 0.075.
    """
    assert isinstance(answer, float), "give a ratio as a float"
    wide, narrow = (
        sequential.operating(sequential.betting(t, 0.075), 0.05).mean_count[0]
        for t in (0.075, 0.0375)
    )
    assert abs(answer - 4) > 0.05, (
        "Chernoff's number grows fourfold; this rule does not, near p = 0. Measure it"
    )
    assert abs(answer - narrow / wide) < 0.02, (
        "use sequential.betting and sequential.operating at p = 0.05"
    )


def check_capital(answer: Callable[[list[int], float, float], float]) -> None:
    """The capital of a bettor on m + theta against m, after a list of outcomes."""
    assert callable(answer), "give a function (outcomes, m, theta) -> capital"
    assert math.isclose(answer([], 0.3, 0.1), 1.0), (
        "before the first outcome the capital is 1"
    )
    assert math.isclose(answer([1, 0], 0.3, 0.1), 0.4 / 0.3 * 0.6 / 0.7), (
        "multiply the odds of each outcome"
    )
    mean = sum(
        answer(list(outcomes), 0.3, 0.1)
        * 0.3 ** sum(outcomes)
        * 0.7 ** (6 - sum(outcomes))
        for outcomes in itertools.product((0, 1), repeat=6)
    )
    assert math.isclose(mean, 1.0), (
        "if p is m, the expected capital must stay 1: the bet has to be fair"
    )


def check_joint(
    answer: Callable[[WeightSamples, int, torch.Generator], WeightSamples],
) -> None:
    """Joint draws from stored posterior samples."""
    assert callable(answer), (
        "give a function (samples, count, generator) -> WeightSamples"
    )
    stored = two_correlated_networks()
    drawn = answer(stored, 50, torch.Generator().manual_seed(0))
    assert isinstance(drawn, WeightSamples), "return WeightSamples"
    assert len(drawn) == 50, "return as many samples as asked for"
    assert set(drawn.weights) == set(stored.weights), (
        "return all weights and biases, under their names"
    )
    assert all(
        tensor.shape[1:] == stored.weights[name].shape[1:]
        for name, tensor in drawn.weights.items()
    ), "the weights of a drawn network have the shapes of a stored one"
    everything = torch.cat(
        [
            tensor.expand(50, *tensor.shape[1:]).flatten(1)
            for tensor in drawn.weights.values()
        ],
        1,
    )
    assert bool((everything == everything[:, :1]).all()), (
        "in every stored network all weights and biases are equal, in yours not "
        "always: one index for all weights"
    )
    assert everything[:, 0].unique().tolist() == [-1.0, 1.0], (
        "draw from all stored networks, and change no weight"
    )


def two_correlated_networks() -> WeightSamples:
    """Two stored networks: all weights and biases of one are 1, all of the other -1."""
    networks = []
    for sign in (1.0, -1.0):
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(sign)
        networks.append(network)
    return stack(networks)


def check_interval_margin(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """The largest value of a linear function on a box."""
    assert callable(answer), "give a function (weight, low, high) -> largest value"
    generator = torch.Generator().manual_seed(0)
    weight, low = (
        torch.randn(5, generator=generator),
        torch.rand(5, generator=generator),
    )
    high = low + torch.rand(5, generator=generator)
    corners = [
        float((weight * torch.where(torch.tensor(c), high, low)).sum())
        for c in itertools.product((True, False), repeat=5)
    ]
    found = float(answer(weight, low, high))
    assert found >= max(corners) - 1e-5, (
        "some corner of the box gives more: this bound would not be sound"
    )
    assert found <= max(corners) + 1e-5, (
        "sound, but a linear function attains less: the bound can be exact"
    )
