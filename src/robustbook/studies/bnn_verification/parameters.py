"""What a run of the study can vary: type, range and meaning of each parameter."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from robustbook.studies.protocol import BaseParameters, FirstSeed, parameter

EPSILONS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
"""Budgets of the five-pixel boxes, as published."""
DELTAS = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2)
"""Thresholds of Problem 1 on the two-class task, as published."""


class Parameters(BaseParameters):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1].
    """

    dataset: Literal["digits", "mnist"] = parameter(
        "digits", "data set of the ones, sevens and ten classes"
    )
    two_hidden: int = parameter(
        32, "hidden units for 1 against 7 (the paper's: 512)", 2, 2048
    )
    two_train_images: int = parameter(
        100, "training images of 1 against 7, for all methods", 20, 13000
    )
    ten_hidden: int = parameter(
        32, "hidden units for ten classes (the paper's: 512)", 2, 2048
    )
    ten_train_images: int = parameter(
        200, "training images of ten classes, for all methods", 50, 60000
    )
    sign_dataset: Literal["none", "signs", "gtsrb"] = parameter(
        "signs", "traffic signs; none leaves them out"
    )
    sign_first: int = parameter(
        2, "class of GTSRB that is class 0 here (the paper's: 2)", 0, 42
    )
    sign_second: int = parameter(
        25, "class of GTSRB that is class 1 here (the paper's: 25)", 0, 42
    )
    sign_filters: int = parameter(
        2, "3 x 3 filters of the sign network (the paper's: 25)", 1, 64
    )
    sign_hidden: int = parameter(
        8, "hidden units of the sign network (the paper's: 256)", 2, 512
    )
    sign_train_images: int = parameter(
        60, "training images of the sign network, for all methods", 20, 4000
    )
    sign_epochs: int = parameter(20, "training epochs of the sign networks", 1, 500)
    sign_vi_epochs: int = parameter(
        40, "epochs of variational training on signs", 1, 5000
    )
    sign_samples: int = parameter(12, "posterior samples per sign posterior", 4, 400)
    sign_chains: int = parameter(2, "HMC chains on the sign network", 2, 16)
    sign_warmup: int = parameter(
        40, "HMC transitions of warm-up on the sign network", 3, 10000
    )
    sign_draws: int = parameter(
        40, "HMC draws kept per chain on the sign network", 4, 10000
    )
    sign_leapfrog: int = parameter(12, "leapfrog steps there (the paper's: 3)", 1, 1000)
    prior_sd: float = parameter(
        1.0,
        "standard deviation of the weights' prior (the paper's: 1)",
        0.001,
        100,
    )
    dropout: float = parameter(
        0.5, "dropout rate before the last layer (the paper's: 0.5)", 0.001, below=1
    )
    warmup: int = parameter(40, "HMC transitions that adapt the step size", 10, 10000)
    draws: int = parameter(30, "HMC transitions that are kept, per chain", 10, 10000)
    leapfrog: int = parameter(
        20, "leapfrog steps per HMC transition (the paper's: 10)", 1, 1000
    )
    vi_epochs: int = parameter(60, "epochs of variational training", 1, 10000)
    epochs: int = parameter(
        40, "epochs of dropout, deterministic and ensemble training", 1, 1000
    )
    members: int = parameter(5, "networks of an ensemble", 2, 50)
    seeds: int = parameter(
        3, "trainings (for HMC: chains) of each posterior on digits", 3, 20
    )
    sweep_seeds: int = parameter(
        2, "trainings of each posterior of the sweep over priors and rates", 2, 20
    )
    samples: int = parameter(
        12, "posterior samples per posterior where no rule stops", 10, 1000
    )
    images: int = parameter(4, "test images of the five-pixel boxes", 2, 1000)
    ten_images: int = parameter(16, "test images of the ten-class task", 4, 1000)
    epsilon: float = parameter(
        0.1, "budget of the comparison on ten classes, L-infinity", 0.001, 1
    )
    steps: int = parameter(10, "steps of PGD (the paper's: 10)", 1, 500)
    restarts: int = parameter(2, "random starts of PGD", 1, 50)
    theta: float = parameter(
        0.075, "half-width of the guarantee (the paper's: 0.075)", 0.02, below=0.5
    )
    gamma: float = parameter(
        0.075,
        "failure probability of the guarantee (the paper's: 0.075)",
        0.001,
        below=0.5,
    )
    alpha: float = parameter(
        0.05, "share of it for the Clopper-Pearson interval (0.05)", 0.0001, below=0.5
    )
    tight_theta: float = parameter(
        0.05, "half-width of the second, tighter guarantee", 0.02, below=0.5
    )
    tight_gamma: float = parameter(
        0.01, "failure probability of the tighter guarantee", 0.001, below=0.5
    )
    tight_alpha: float = parameter(
        0.0067, "share for the interval in the tighter guarantee", 0.0001, below=0.5
    )
    runs: int = parameter(4000, "simulated runs per rule and p", 100, 10**6)
    reference_samples: int = parameter(
        5000, "posterior samples behind a reference p", 1000, 10**6
    )
    weight_images: int = parameter(
        200, "training images of the networks with weight-space boxes", 20, 12000
    )
    replicates: int = parameter(
        200, "replicates of simulation-based calibration", 50, 100000
    )
    first_seed: FirstSeed = 0

    @model_validator(mode="after")
    def _guarantees_can_be_given(self) -> Parameters:
        from robustbook.measure.sequential import MOST_OUTCOMES, chernoff_count

        if self.sign_first == self.sign_second:
            raise ValueError(
                f"sign_first and sign_second must differ, got {self.sign_first} twice"
            )
        for kind in ("", "tight_"):
            theta, gamma, alpha = (
                getattr(self, f"{kind}{name}") for name in ("theta", "gamma", "alpha")
            )
            if alpha >= gamma:
                raise ValueError(
                    f"{kind}alpha must be below {kind}gamma, got {alpha} and {gamma}"
                )
            if (count := chernoff_count(theta, gamma)) > MOST_OUTCOMES:
                raise ValueError(
                    f"{kind}theta {theta} and {kind}gamma {gamma} need {count:,} "
                    f"posterior samples, at most {MOST_OUTCOMES:,} are possible"
                )
        return self
