"""The parameters of the study, their ranges and their meaning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """What a run of the study may change; the defaults are the quick run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["digits", "mnist"] = Field(
        default="digits", description="handwritten digits beside the shapes"
    )
    seeds: int = Field(
        default=3,
        ge=2,
        le=20,
        description="networks per data set, each with its own images and masks",
    )
    train_images: int = Field(
        default=1500, ge=100, le=60000, description="training images of a network"
    )
    epochs: int = Field(default=10, ge=1, le=100, description="epochs of training")
    images: int = Field(
        default=6,
        ge=3,
        le=400,
        description="correctly classified test images per network",
    )
    masks: int = Field(
        default=200, ge=50, le=20000, description="RISE masks per map, N"
    )
    cells: int = Field(
        default=7, ge=2, le=8, description="cells of RISE's grid along a side, s"
    )
    probability: float = Field(
        default=0.5, gt=0, lt=1, description="share of a mask that shows the image, p"
    )
    setting_images: int = Field(
        default=4,
        ge=3,
        le=200,
        description="images per network on which p, s and N vary",
    )
    setting_masks: int = Field(
        default=640,
        ge=200,
        le=50000,
        description="largest number of masks N when p and s vary",
    )
    learned_steps: int = Field(
        default=60, ge=5, le=1000, description="steps of the learned masks"
    )
    cifar_images: int = Field(
        default=0,
        ge=0,
        le=200,
        description="CIFAR-10 images per mask seed for ResNet-20",
    )
    cifar_masks: int = Field(
        default=300, ge=50, le=8000, description="RISE masks per map on ResNet-20"
    )
    photographs: int = Field(
        default=0, ge=0, le=59, description="ImageNet photographs for SqueezeNet"
    )
    photograph_masks: int = Field(
        default=100, ge=50, le=8000, description="RISE masks per map on SqueezeNet"
    )
