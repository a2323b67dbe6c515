"""The parameters of the study, their ranges and their meaning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DataName = Literal["digits", "mnist", "cifar10"]


class Parameters(BaseModel):
    """What a run of the study may change; the defaults are the quick run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataName = Field(default="digits", description="images of all experiments")
    second_data: Literal["none", "digits", "mnist", "cifar10"] = Field(
        default="none",
        description="images on which the correlations of LeNet3 are measured once more",
    )
    seeds: int = Field(
        default=3, ge=3, le=50, description="LeNet3 networks of the correlations"
    )
    few_seeds: int = Field(
        default=3, ge=3, le=20, description="networks of every other experiment"
    )
    train_images: int = Field(
        default=1000, ge=100, le=50000, description="training images of a network"
    )
    epochs: int = Field(
        default=20, ge=1, le=100, description="epochs of training of LeNet3"
    )
    score_images: int = Field(
        default=400,
        ge=32,
        le=50000,
        description="training images for scores and oracle",
    )
    score_batch: int = Field(
        default=256,
        ge=1,
        le=50000,
        description="mini-batch of the first-order score (paper: 256)",
    )
    curve_images: int = Field(
        default=128,
        ge=32,
        le=10000,
        description="training images of the pruning curves",
    )
    curve_units: int = Field(
        default=126,
        ge=2,
        le=240,
        description="units removed by the end of a pruning curve, of 252",
    )
    curve_step: int = Field(
        default=9,
        ge=1,
        le=63,
        description="units removed between two evaluations of a curve",
    )
    subset_images: int = Field(
        default=8,
        ge=8,
        le=1024,
        description="training images of the oracle over all 2^16 subsets",
    )
    subset_seeds: int = Field(
        default=1, ge=1, le=10, description="networks of the oracle over all subsets"
    )
    tuned_units: int = Field(
        default=189,
        ge=2,
        le=240,
        description="units of LeNet3 removed with fine-tuning, of 252",
    )
    tune_batches: int = Field(
        default=60,
        ge=10,
        le=5000,
        description="mini-batches of pruning and fine-tuning together",
    )
    batches_per_step: int = Field(
        default=4, ge=1, le=100, description="mini-batches per pruning step (paper: 30)"
    )
    sanity_masks: int = Field(
        default=8,
        ge=5,
        le=50,
        description="prunings a network on which the oracle itself is tested",
    )
    residual_images: int = Field(
        default=600,
        ge=100,
        le=50000,
        description="training images of nets with batch-norm, tuning included",
    )
    residual_epochs: int = Field(
        default=6,
        ge=1,
        le=100,
        description="epochs of training of nets with batch-norm",
    )
    residual_scores: int = Field(
        default=128,
        ge=32,
        le=10000,
        description="images for scores and oracle of nets with batch-norm",
    )
    published_resnet: bool = Field(
        default=False,
        description="measure the published ResNet-20 for CIFAR-10 as well",
    )
