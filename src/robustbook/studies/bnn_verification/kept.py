"""Posteriors kept by content in the checkpoint cache, so that a second run fits none of them again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from robustbook.bayes import ensemble, hmc, mc_dropout, mean_field, protocol, weights
from robustbook.models import checkpoints

CODE = (hmc, mean_field, mc_dropout, ensemble, protocol, weights)
"""Modules that determine a posterior, beside those of `robustbook.models`."""


def kept(specification: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of `specification` (plain values that determine them): read from the cache, else made and written there.

    A damaged file is reported by a warning and made again; where nothing can be written, nothing is kept.
    """
    from filelock import FileLock

    path = checkpoints.cache_folder() / f"{checkpoints.key(specification, CODE)}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError:
        warnings.warn(f"posteriors cannot be kept in {path.parent}", stacklevel=2)
        return make()
    with lock:
        if path.exists():
            try:
                return checkpoints.read(path)
            except checkpoints.DamagedCheckpoint as damage:
                warnings.warn(f"damaged posterior is made again: {damage}", stacklevel=2)
        made = make()
        checkpoints.write(path, made)
    return made
