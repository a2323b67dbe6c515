"""A network of the reader's own: found by the name of a function, filled with weights
from a file, and prepared so that images in [0, 1] become logits.

Read `parse` first (what a name says; nothing is imported), then `build`, `read_weights`
and `fit`, then `prepared` and `probe`, and `load_own_network`, which does all of it.
Nothing of the reader's is executed but the function that they named, and what its file
does when it is imported. Every fault is one line that says what to do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustbook import checks, files
from robustbook.errors import UnknownNameError, UserError, quoted, shortened
from robustbook.models.network import evaluating

Kind = Literal["torchvision", "timm", "book", "file", "module"]
LIBRARIES = ("torchvision", "timm", "book")
SAFE, TORCH = (".safetensors",), (".pt", ".pth", ".th", ".bin", ".ckpt", ".tar")
WRAPPED = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Names under which a file of weights holds them beside other things."""
PREFIXES = ("module.", "_orig_mod.")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that networks of torchvision and timm are given."""
SAME = 1e-3
"""Largest difference of an image's logits alone and beside others, over the largest."""
NAMED = 4


class NetworkError(UserError):
    """A network that cannot be built, filled or run; the message is one line."""


# What a name says
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """Where a network comes from: the `kind` of place, the file or module, and the name
    of the function or network in it.
    """

    kind: Kind
    place: str
    name: str

    @property
    def path(self) -> Path | None:
        """The file that is imported, None where it is no file."""
        return files.given(self.place) if self.kind == "file" else None


def parse(model: str) -> Origin:
    """What `model` names: `torchvision:NAME`, `timm:NAME`, `book:NAME`,
    `path/to/file.py:function` or `package.module:function`; nothing is imported.

    >>> parse("my_models.py:build")
    Origin(kind='file', place='my_models.py', name='build')

    Raises NetworkError for anything else.
    """
    for library in LIBRARIES:
        if model.startswith(f"{library}:") and model != f"{library}:":
            return Origin(library, "", model.removeprefix(f"{library}:"))  # type: ignore[arg-type]
    place, _, name = model.rpartition(":")
    if name.isidentifier() and place.endswith(".py"):
        return Origin("file", place, name)
    if name.isidentifier() and all(part.isidentifier() for part in place.split(".")):
        return Origin("module", place, name)
    raise NetworkError(
        "model must be torchvision:NAME, timm:NAME, book:NAME, file.py:function or "
        f"package.module:function, got {quoted(model)}"
    )


# Building
# --------------------------------------------------------------------------------------


def build(origin: Origin, *, classes: int | None = None) -> nn.Module:
    """The network that a name stands for (`book` names are a study's own); those of
    libraries get random weights and `classes` outputs.

    Raises NetworkError or UnknownNameError if there is no such function, it fails,
    needs arguments, or gives no `nn.Module`.
    """
    if origin.kind == "torchvision":
        return _of_torchvision(origin.name, classes)
    if origin.kind == "timm":
        return _of_timm(origin.name, classes)
    if origin.kind == "book":
        raise NetworkError(f"book:{origin.name} is built by the study that knows it")
    with _imported(origin) as module:
        return _called(origin, module)


def _of_torchvision(name: str, classes: int | None) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("network of torchvision", name, known)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # Minutes, for weights that are not wanted.
    return _tried(f"torchvision:{name}", lambda: models.get_model(name, **options))


def _of_timm(name: str, classes: int | None) -> nn.Module:
    if importlib.util.find_spec("timm") is None:
        raise NetworkError("timm networks need timm: pip install timm")
    timm: Any = import_module("timm")
    if name not in timm.list_models():
        raise UnknownNameError("network of timm", name, timm.list_models())
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    return _tried(f"timm:{name}", lambda: timm.create_model(name, **options))


@contextmanager
def _imported(origin: Origin) -> Iterator[Any]:
    """The module that holds the function; a file's neighbours can be imported by it,
    after all that is installed.
    """
    if origin.kind == "module":
        yield _tried(origin.place, lambda: import_module(origin.place))
        return
    path = files.given(origin.place).resolve()
    if not path.is_file():
        raise NetworkError(f"model: there is no file {quoted(origin.place)}")
    name = f"robustbook_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.modules[name] = module
    sys.path.append(folder)
    try:
        _tried(path.name, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
        yield module
    finally:
        sys.path.remove(folder)


def _called(origin: Origin, module: Any) -> nn.Module:
    if not hasattr(module, origin.name):
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_")
        ]
        raise UnknownNameError(f"function of {origin.place}", origin.name, own)
    found = getattr(module, origin.name)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise NetworkError(f"model: {origin.name} of {origin.place} is no function")
        found = _tried(f"{origin.name}()", found)
    if not isinstance(found, nn.Module):
        raise NetworkError(
            f"model: {origin.name}() of {origin.place} must return an nn.Module, got "
            f"{type(found).__name__}"
        )
    return found


def _tried(what: str, make: Callable[[], Any]) -> Any:
    """What `make` gives; whatever it raises is told in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except (Exception, SystemExit) as error:
        said = shortened(str(error).partition("\n")[0])
        raise NetworkError(
            f"model: {what} failed with {type(error).__name__}: {said}"
        ) from error


# Weights
# --------------------------------------------------------------------------------------


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name from a `.safetensors` file, or one of torch's (`weights_only`).

    Raises NetworkError if the file is missing, damaged, holds more than plain weights,
    or a number that is not finite.
    """
    if not path.is_file():
        raise NetworkError(f"weights: there is no file {quoted(str(path))}")
    name, suffix = quoted(path.name), path.suffix.lower()
    if suffix not in (*SAFE, *TORCH):
        raise NetworkError(f"weights: {name} must be .safetensors, .pt or .pth")
    try:
        if suffix in SAFE:
            from safetensors.torch import load_file

            stored: Any = load_file(path)
        else:
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged files raise errors of every kind.
        whole = "Unsupported" in str(error) or "weights_only" in str(error).lower()
        raise NetworkError(
            f"weights: {name} "
            + (
                "holds more than weights, which is not unpickled: save "
                "model.state_dict(), best as .safetensors"
                if whole
                else f"cannot be read ({type(error).__name__})"
            )
        ) from error
    found = _tensors(stored)
    if not found:
        raise NetworkError(f"weights: {name} holds no weights by name (a state_dict)")
    for key, tensor in found.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NetworkError(f"weights: {key} of {name} holds NaN or infinity")
    return found


def _tensors(stored: Any) -> dict[str, Tensor]:
    """The tensors by name, if need be from below one of the usual names, without the
    prefixes that wrappers leave.
    """
    if not isinstance(stored, Mapping):
        return {}
    found = {str(key): each for key, each in stored.items() if isinstance(each, Tensor)}
    if not found:
        inner = [stored[key] for key in WRAPPED if isinstance(stored.get(key), Mapping)]
        return _tensors(inner[0]) if inner else {}
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): each for key, each in found.items()}
    return {key.replace("._orig_mod.", "."): each for key, each in found.items()}


def fit(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load the weights into the model; a first part of the names that all share
    (`backbone.`) is taken off where the model does not know it.

    Raises NetworkError that lists the keys that are missing, too many, or of another
    shape.
    """
    own, given = model.state_dict(), dict(weights)
    while given and not own.keys() & given.keys():
        first = {key.partition(".")[0] for key in given}
        if len(first) > 1 or not all("." in key for key in given):
            break
        given = {key.partition(".")[2]: each for key, each in given.items()}
    missing = [
        key
        for key in own
        if key not in given and not key.endswith("num_batches_tracked")
    ]
    surplus = [key for key in given if key not in own]
    other = [
        f"{key} {tuple(given[key].shape)} for {tuple(own[key].shape)}"
        for key in own.keys() & given.keys()
        if own[key].shape != given[key].shape
    ]
    parts = {"missing": missing, "not in the model": surplus, "of another shape": other}
    if any(parts.values()):
        said = "; ".join(_listed(keys, what) for what, keys in parts.items() if keys)
        raise NetworkError(f"weights: {name} does not fit the model: {said}")
    model.load_state_dict(given, strict=False)


def _listed(keys: Sequence[str], what: str) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{what}: {', '.join(sorted(keys)[:NAMED])}{more}"


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of all weights and buffers with their names."""
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(plain.view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


# From images in [0, 1] to logits
# --------------------------------------------------------------------------------------


class LogitsOf(nn.Module):
    """A network's logits where it gives them in a tuple, a dictionary or an attribute,
    as probabilities, or as the one number of a two-class network.

    `output` is "auto" (the first of a tuple; `logits` or `out` of a dictionary or
    object), "probabilities" (whose logarithms are logits), or the number or name.
    """

    def __init__(self, network: nn.Module, output: str) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K); a single number (N, 1) is the second class's beside 0."""
        found = chosen_output(self.network(images), self.output)
        if self.output == "probabilities":
            found = found.clamp_min(1e-12).log()
        if found.dim() == 2 and found.shape[1] == 1:
            found = torch.cat([torch.zeros_like(found), found], dim=1)
        return found


def chosen_output(found: Any, output: str) -> Tensor:
    """The tensor among what a network gave that `output` says; NetworkError where there
    is none.
    """
    if output not in ("auto", "probabilities"):
        found = _part(found, output)
    elif not isinstance(found, Tensor):
        for name in ("logits", "out"):
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(getattr(found, name, None), Tensor):
                found = getattr(found, name)
        if isinstance(found, tuple | list) and found:
            found = found[0]
    if not isinstance(found, Tensor):
        names = f" with {', '.join(map(str, found))}" if isinstance(found, dict) else ""
        raise NetworkError(
            f"model: it gives a {type(found).__name__}{names}: say which part are the "
            "logits, such as -p output logits or -p output 0"
        )
    return found


def _part(found: Any, output: str) -> Any:
    if isinstance(found, Tensor):
        raise NetworkError(f"model: it gives one tensor, which has no {quoted(output)}")
    try:
        if isinstance(found, Mapping):
            return found[output]
        if output.lstrip("-").isdecimal():
            return found[int(output)]
        return getattr(found, output)
    except (LookupError, AttributeError, TypeError):
        raise NetworkError(
            f"model: a {type(found).__name__} that it gives has no {quoted(output)}"
        ) from None


def unwrapped(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The plain network in single precision, without what compiles it or spreads it
    over devices, and remarks on what was changed.
    """
    remarks = []
    for attribute, said in (("_orig_mod", "compiled"), ("module", "wrapped")):
        kinds = ("OptimizedModule", "DataParallel", "DistributedDataParallel")
        while type(model).__name__ in kinds and hasattr(model, attribute):
            model = getattr(model, attribute)
            remarks.append(f"It was {said}: the network inside is measured.")
    for name, layer in list(model.named_modules()):
        if name and type(layer).__name__ == "OptimizedModule":
            model.set_submodule(name, layer._orig_mod)
            remarks.append(f"Its {name} was compiled: the layer inside is measured.")
    types = {each.dtype for each in model.parameters() if each.is_floating_point()}
    if types - {torch.float32}:
        model = model.float()
        told = ", ".join(sorted(str(each).removeprefix("torch.") for each in types))
        remarks.append(f"Its weights are {told}: they are measured in float32.")
    return model, tuple(dict.fromkeys(remarks))


def prepared(
    model: nn.Module,
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    output: str = "auto",
    channels: int = 3,
    plain: bool = False,
) -> nn.Sequential:
    """`model` behind its normalisation, in eval mode: from images (N, C, H, W) in
    [0, 1] to logits.

    `mean` and `std` have one number, or one a channel; without them images go in as
    they are. With `plain` the model is known to give logits as they are.

    Raises NetworkError if they do not fit.
    """
    layers: list[nn.Module] = []
    if mean or std:
        layers.append(_normalisation(mean or (0.0,), std or (1.0,), channels))
    layers.append(model if plain else LogitsOf(model, output))
    return nn.Sequential(*layers).eval()


def _normalisation(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> nn.BatchNorm2d:
    """(x - mean) / std as a layer that bounds and graphs know."""
    for name, given in (("mean", mean), ("std", std)):
        if len(given) not in (1, channels):
            raise NetworkError(
                f"{name} must be 1 or {channels} numbers, got {len(given)}"
            )
    if min(std) <= 0:
        raise NetworkError(f"std must be above 0, got {min(std):g}")
    layer = nn.BatchNorm2d(channels, eps=0.0, affine=False)
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.copy_(torch.tensor(mean).expand(channels))
    layer.running_var.copy_(torch.tensor(std).double().square().expand(channels))
    return layer


@torch.no_grad()
def probe(model: nn.Module, images: Tensor) -> int:
    """The number of classes of a prepared network, after a look at what it answers to
    two of `images` (N, C, H, W).

    Raises NetworkError in one line if it cannot take them, its logits are no finite
    (N, K), look like probabilities, depend on the images beside, or on chance.
    """
    images = checks.images(images)[:2]
    with evaluating(model):
        together = _answered(model, images)
        again = _answered(model, images)
        alone = torch.cat([_answered(model, image[None]) for image in images])
    if together.dim() != 2 or len(together) != len(images) or together.shape[1] < 2:
        raise NetworkError(
            f"model: logits must be ({len(images)}, K) for {len(images)} images, got "
            f"{tuple(together.shape)}"
        )
    if not bool(torch.isfinite(together).all()):
        raise NetworkError("model: its logits hold NaN or infinity")
    scale = float(together.abs().max()) or 1.0
    if float((together - again).abs().max()) > SAME * scale:
        raise NetworkError(
            "model: in eval mode it answers otherwise each time (a random layer that "
            "eval() does not stop): give the network without it"
        )
    if float((together - alone).abs().max()) > SAME * scale:
        raise NetworkError(
            "model: an image's answer depends on the images beside it (a batch-norm "
            "without running statistics?): give a network that answers one by one"
        )
    sums = together.sum(1)
    if float(together.min()) >= 0 and float((sums - 1).abs().max()) < 1e-4:
        raise NetworkError(
            "model: it gives probabilities, logits are needed: leave out the softmax, "
            "or -p output probabilities"
        )
    return int(together.shape[1])


def _answered(model: nn.Module, images: Tensor) -> Tensor:
    try:
        found: Tensor = model(images)
    except UserError:
        raise
    except Exception as error:
        said = shortened(str(error).partition("\n")[0])
        raise NetworkError(
            f"model: it cannot take images of {tuple(images.shape)} "
            f"({type(error).__name__}: {said}); channels, size and crop say how images "
            "are given"
        ) from error
    return found


# All of it
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A network ready to be measured: images (N, C, H, W) in [0, 1] to logits (N,
    `classes`), what was remarked, and the digests of what it was made from.
    """

    network: nn.Sequential
    classes: int
    remarks: tuple[str, ...]
    digests: Mapping[str, str]


def load_own_network(
    model: str | nn.Module,
    images: Tensor,
    *,
    weights: str = "none",
    classes: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    output: str = "auto",
    device: str = "cpu",
) -> OwnNetwork:
    """The network that `model` names (or is), with `weights` from a file, prepared for
    `images` (N, C, H, W) in [0, 1].

    Networks of torchvision and timm get ImageNet's mean and deviation and `classes`
    outputs unless told otherwise. The result is in eval mode on `device`.

    Raises NetworkError or UnknownNameError in one line for all that can be wrong.
    """
    images = checks.images(images)
    remarks: list[str] = []
    title = model if isinstance(model, str) else type(model).__name__
    library = isinstance(model, str) and parse(model).kind in ("torchvision", "timm")
    network = build(parse(model), classes=classes) if isinstance(model, str) else model
    if library and not (mean or std):
        mean, std = IMAGENET
    network, changed = unwrapped(network)
    remarks += changed
    if weights != "none":
        fit(network, read_weights(files.given(weights)), quoted(weights))
    elif library:
        remarks.append("No weights were given: its weights are random.")
    shape = {"mean": mean, "std": std, "channels": images.shape[1]}
    place = pick_device(device)
    ready = prepared(network, output=output, **shape).to(place)  # type: ignore[arg-type]
    sample = images[:2].to(place)
    found = probe(ready, sample)
    if output == "auto" and _is_plain(ready, sample):
        ready = prepared(network, plain=True, **shape).to(place)  # type: ignore[arg-type]
    digests = {f"network {title}, weights": weights_digest(network)}
    return OwnNetwork(ready.eval(), found, tuple(remarks), digests)


@torch.no_grad()
def _is_plain(ready: nn.Sequential, images: Tensor) -> bool:
    """Whether the network gives its logits as they are, so that nothing need choose."""
    answer = ready[-1]
    assert isinstance(answer, LogitsOf)
    before = ready[:-1](images)
    found = answer.network.eval()(before)
    return isinstance(found, Tensor) and found.dim() == 2 and found.shape[1] > 1


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is a graphics card where there is one.

    Raises NetworkError where the device is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name, here in there.items() if here))
    if not there.get(device, False):
        here = ", ".join(name for name, yes in there.items() if yes)
        raise NetworkError(f"device: there is no {quoted(device)} here, only {here}")
    return torch.device(device)
