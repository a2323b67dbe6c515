"""Measured seconds and bytes of networks before and after removal: for a record's
timing, never for its rows.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from robustbook.measure.tuned_pruning import Tuned
from robustbook.models.prunable import Prunable
from robustbook.perturb.pruning import removed
from robustbook.studies.taylor_pruning.networks import BATCH, Network, model_of

ROUNDS = 7


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread; the number is restored at the end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is written to the process's standard error: the profiler's library
    reports its start and end there.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _batch(image_shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.zeros(BATCH, *image_shape).to(memory_format=torch.channels_last)


def seconds_in_turn(
    models: Sequence[Prunable], image_shape: tuple[int, int, int], rounds: int = ROUNDS
) -> list[float]:
    """Median seconds of each network's forward pass of 64 images on one thread.

    The networks take turns, so that what disturbs the machine disturbs all of them.
    """
    images = _batch(image_shape)
    with one_thread(), torch.inference_mode():
        for model in models:
            model(images)
        taken = [[_seconds(model, images) for model in models] for _ in range(rounds)]
    return [float(value) for value in np.median(taken, axis=0)]


def _seconds(model: Prunable, images: torch.Tensor) -> float:
    start = time.perf_counter()
    model(images)
    return time.perf_counter() - start


def peak_bytes(model: Prunable, image_shape: tuple[int, int, int]) -> int:
    """Most bytes that a forward pass of 64 images holds at a time, weights and images
    left out.

    Read from the allocations that Torch's profiler saw, the convolutions' scratch
    memory included.
    """
    images = _batch(image_shape)
    with one_thread(), torch.inference_mode():
        model(images)
        with (
            _quiet(),
            profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen,
        ):
            model(images)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]"
    ]
    return int(
        max(
            np.cumsum(
                [size for _, size in sorted(changes, key=lambda change: change[0])]
            ),
            default=0,
        )
    )


def measured_costs(
    networks: Sequence[Network], tuned: Sequence[Mapping[str, Tuned]]
) -> dict[str, float]:
    """`latency small resnet: <way>` in seconds and `memory small resnet: <way>` in
    bytes, means over the networks, without the units that each way removed.
    """
    shape, ways = networks[0].training.image_shape, list(tuned[0])
    smaller = [
        removed(model_of(network), one[way].alive)
        for network, one in zip(networks, tuned, strict=True)
        for way in ways
    ]
    size = (len(networks), len(ways))
    seconds = np.reshape(seconds_in_turn(smaller, shape), size).mean(axis=0)
    memory = np.reshape([peak_bytes(model, shape) for model in smaller], size)
    return {
        f"{quantity} small resnet: {way}": float(value)
        for quantity, values in (("latency", seconds), ("memory", memory.mean(axis=0)))
        for way, value in zip(ways, values, strict=True)
    }
