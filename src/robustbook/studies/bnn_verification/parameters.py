"""What can be varied in the study `bnn_verification`; the notebook's parameters cell
says the same.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EPSILONS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
"""Budgets of the five-pixel boxes, as published."""
DELTAS = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2)
"""Thresholds of Problem 1 on the two-class task, as published."""


class Parameters(BaseModel):
    """Parameters of a run; every default is the quick run's. Budgets are in pixel units
    of [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["digits", "mnist"] = Field(
        "digits", description="data set of the ones, sevens and ten classes"
    )
    two_hidden: int = Field(
        32, ge=2, le=2048, description="hidden units for 1 against 7 (the paper's: 512)"
    )
    two_train_images: int = Field(
        100,
        ge=20,
        le=10000,
        description="training images of 1 against 7, for all methods",
    )
    ten_hidden: int = Field(
        32, ge=2, le=2048, description="hidden units for ten classes (the paper's: 512)"
    )
    ten_train_images: int = Field(
        300,
        ge=50,
        le=20000,
        description="training images of ten classes, for all methods",
    )
    sign_dataset: Literal["none", "signs", "gtsrb"] = Field(
        "signs", description="traffic signs; none leaves them out"
    )
    sign_filters: int = Field(
        4,
        ge=1,
        le=64,
        description="3 x 3 filters of the sign network (the paper's: 25)",
    )
    sign_hidden: int = Field(
        16,
        ge=2,
        le=512,
        description="hidden units of the sign network (the paper's: 256)",
    )
    sign_train_images: int = Field(
        200, ge=50, le=3000, description="training images of the sign network"
    )
    sign_epochs: int = Field(
        12, ge=1, le=500, description="training epochs of the sign networks"
    )
    sign_vi_epochs: int = Field(
        40, ge=1, le=2000, description="epochs of variational training on signs"
    )
    sign_samples: int = Field(
        12, ge=4, le=400, description="posterior samples per sign posterior"
    )
    sign_hmc_images: int = Field(
        30,
        ge=4,
        le=3000,
        description="of these, the training images that HMC sees in full batches",
    )
    sign_chains: int = Field(
        2, ge=2, le=16, description="HMC chains on the sign network"
    )
    sign_warmup: int = Field(
        24, ge=3, le=1000, description="HMC transitions of warm-up on the sign network"
    )
    sign_draws: int = Field(
        12,
        ge=4,
        le=1000,
        description="HMC draws kept per chain on the sign network, of twice as many",
    )
    sign_leapfrog: int = Field(
        20, ge=1, le=1000, description="leapfrog steps there (the paper's: 3)"
    )
    prior_sd: float = Field(
        1.0,
        gt=0,
        le=100,
        description="standard deviation of the weights' prior (the paper's: 1)",
    )
    dropout: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="dropout rate before the last layer (the paper's: 0.5)",
    )
    chains: int = Field(4, ge=2, le=16, description="HMC chains on 1 against 7")
    warmup: int = Field(
        50, ge=10, le=10000, description="HMC transitions that adapt the step size"
    )
    draws: int = Field(
        32, ge=10, le=10000, description="HMC transitions that are kept, per chain"
    )
    leapfrog: int = Field(
        20,
        ge=1,
        le=1000,
        description="leapfrog steps per HMC transition (the paper's: 10)",
    )
    vi_epochs: int = Field(
        90, ge=1, le=10000, description="epochs of variational training"
    )
    epochs: int = Field(
        40,
        ge=1,
        le=1000,
        description="epochs of dropout, deterministic and ensemble training",
    )
    members: int = Field(5, ge=2, le=50, description="networks of an ensemble")
    seeds: int = Field(
        3,
        ge=3,
        le=20,
        description="trainings (for HMC: chains) of each posterior on ten classes",
    )
    samples: int = Field(
        40,
        ge=10,
        le=1000,
        description="posterior samples per posterior where no rule stops",
    )
    images: int = Field(
        6, ge=2, le=1000, description="test images of the five-pixel boxes"
    )
    ten_images: int = Field(
        24, ge=4, le=1000, description="test images of the ten-class task"
    )
    epsilon: float = Field(
        0.1,
        gt=0,
        le=1,
        description="budget of the comparison on ten classes, L-infinity",
    )
    steps: int = Field(10, ge=1, le=500, description="steps of PGD (the paper's: 10)")
    restarts: int = Field(2, ge=1, le=50, description="random starts of PGD")
    theta: float = Field(
        0.075,
        gt=0,
        lt=0.5,
        description="half-width of the guarantee (the paper's: 0.075)",
    )
    gamma: float = Field(
        0.075,
        gt=0,
        lt=0.5,
        description="failure probability of the guarantee (the paper's: 0.075)",
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="share of it for the Clopper-Pearson interval (0.05)",
    )
    tight_theta: float = Field(
        0.05, gt=0, lt=0.5, description="half-width of the second, tighter guarantee"
    )
    tight_gamma: float = Field(
        0.01, gt=0, lt=0.5, description="failure probability of the tighter guarantee"
    )
    tight_alpha: float = Field(
        0.0067,
        gt=0,
        lt=0.5,
        description="share for the interval in the tighter guarantee",
    )
    runs: int = Field(
        4000, ge=100, le=10**6, description="simulated runs per rule and p"
    )
    reference_samples: int = Field(
        5000, ge=1000, le=10**6, description="posterior samples behind a reference p"
    )
    first_seed: int = Field(
        0, ge=0, le=10**6, description="seed of the first training of each kind"
    )
