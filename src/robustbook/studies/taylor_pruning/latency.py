"""Measured seconds of networks before and after removal: they go into a record's timing, never into its rows."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

from robustbook.models.prunable import Prunable
from robustbook.perturb.pruning import removed
from robustbook.studies.taylor_pruning.networks import BATCH, Task, preact_resnet
from robustbook.studies.taylor_pruning.tuning import Tuned


def seconds_of_a_batch(model: Prunable, image_shape: tuple[int, int, int], repeats: int = 7) -> float:
    """Median seconds of a forward pass of 64 images on one thread."""
    images = torch.zeros(BATCH, *image_shape).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            model(images)
            return float(np.median([_seconds(model, images) for _ in range(repeats)]))
    finally:
        torch.set_num_threads(threads)


def _seconds(model: Prunable, images: torch.Tensor) -> float:
    start = time.perf_counter()
    model(images)
    return time.perf_counter() - start


def latencies(task: Task, pruned: Mapping[str, Tuned]) -> dict[str, float]:
    """Seconds of a batch of the task's PreAct-ResNet in each way of pruning it, by `latency <way>`."""
    model = preact_resnet(task)
    shape = task.training.image_shape
    return {f"latency {way}": seconds_of_a_batch(removed(model, one.alive), shape) for way, one in pruned.items()}
