"""Trained weights kept by content: the same training on the same data is never done
twice, and damage is never used.

A checkpoint's key is the hash of everything that determines it (specification, data
digest, training code, torch version). Its file is named by the key and holds it beside
the digest of the weights, is written to a temporary name and renamed, and is made under
a lock.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from robustbook import sources


class DamagedCheckpoint(Exception):
    """A checkpoint file that cannot be read, that has another checkpoint's name, or
    whose weights do not have the digest written beside them.
    """


def cache_folder() -> Path:
    """The folder of checkpoints: below `ROBUSTBOOK_CACHE`, else in the user's cache
    folder.
    """
    if chosen := os.environ.get("ROBUSTBOOK_CACHE"):
        return Path(chosen).expanduser() / "checkpoints"
    from platformdirs import user_cache_path

    return user_cache_path("robustbook") / "checkpoints"


def cached(
    specification: Mapping[str, Any],
    model: nn.Module,
    train: Callable[[nn.Module], nn.Module],
    *,
    code: Sequence[ModuleType] = (),
) -> nn.Module:
    """`model` with the weights of `specification`, in evaluation mode: those that are
    kept, else those of `train(model)`.

    All else as in `kept`.
    """
    model.load_state_dict(
        kept(specification, lambda: train(model).state_dict(), code=code)
    )
    return model.eval()


def kept(
    specification: Mapping[str, Any],
    make: Callable[[], Mapping[str, Tensor]],
    *,
    code: Sequence[ModuleType] = (),
) -> Mapping[str, Tensor]:
    """The tensors of `specification`: read from the cache, else made by `make()` and
    kept there.

    `specification` is plain values (JSON) that determine the tensors, the digest of the
    data among them, together with the code of `models.architectures`, of
    `models.training` and of the modules named in `code` (another architecture's, those
    of an attack used in training) with all that they import. A damaged file is reported
    by a warning and made again. Two processes that want the same checkpoint make it
    once: the second one waits. Where the cache folder cannot be written (a full disk, a
    shared folder that is read-only), a warning says so: what is there is read, and what
    is made is not kept.
    """
    from filelock import FileLock

    path = cache_folder() / f"{key(specification, code)}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held: AbstractContextManager[object] = FileLock(f"{path}.lock").acquire()
    except OSError:
        held = nullcontext()
    with held:
        if path.exists():
            try:
                return read(path)
            except DamagedCheckpoint as damage:
                warnings.warn(
                    f"damaged checkpoint is made again: {damage}", stacklevel=3
                )
        made = make()
        try:
            write(path, made)
        except OSError as failure:
            warnings.warn(
                f"checkpoints cannot be kept in {path.parent} ({failure.strerror})",
                stacklevel=3,
            )
    return made


def key(specification: Mapping[str, Any], code: Sequence[ModuleType] = ()) -> str:
    """Hash that names a checkpoint: specification, code that builds and trains, version
    of torch.
    """
    from robustbook.models import architectures, training

    trains = _code((architectures, training, *code))
    content = json.dumps([specification, trains, torch.__version__], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@cache
def _code(modules: tuple[ModuleType, ...]) -> dict[str, str]:
    """Digests of modules and of what computes in all that they import, once a process:
    a file that is edited later is not the code that runs here.
    """
    names = [module.__name__ for module in modules]
    others = [each for each in modules if not sources.computes(each.__name__)]
    return sources.closure(names) | {
        each.__name__: sources.digest(inspect.getsource(each)) for each in others
    }


def write(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights with their digest and their key, which is the file's name; the file
    appears whole or not at all.
    """
    from safetensors.torch import save

    from robustbook import files

    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()
    }
    metadata = {"key": path.stem, "digest": digest(tensors)}
    files.write_whole(path, save(tensors, metadata=metadata))


def read(path: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint file; DamagedCheckpoint if it is truncated, altered,
    renamed or no checkpoint at all.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            written = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as failure:
        raise DamagedCheckpoint(f"{path.name} cannot be read ({failure})") from failure
    if written.get("key") != path.stem:
        raise DamagedCheckpoint(f"{path.name} is not the checkpoint that it is named")
    if digest(tensors) != written.get("digest"):
        raise DamagedCheckpoint(f"{path.name} does not have the digest written in it")
    return tensors


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in the order of their
    names.
    """
    content = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        content.update(tensor.cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
