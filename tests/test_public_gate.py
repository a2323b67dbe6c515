"""The gate from outside: every public function is found by introspection, answers a
right call, and refuses every wrong argument by its name.

`python tests/test_public_gate.py` counts the wrong calls that are answered by name.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

import public_functions
from public_functions import call, right_call, wrong_calls
from robustbook.checks import ArgumentError

FUNCTIONS = public_functions.public()
ANY = "any number, enough of them"
LATER = "looked at when a score is asked for"
ACCEPTED: dict[tuple[str, str, str], str] = {
    ("measure.importance.Evidence", "model", "*"): LATER,
    ("measure.importance.Evidence", "labels", "beyond the classes"): LATER,
    ("measure.bounds.differences", "labels", "too few"): "any number of labels",
    ("measure.clever.lipschitz_estimate", "largest", "too few"): ANY,
    ("measure.observers.auc_of", "index", "negative"): "worse than chance",
    ("measure.observers.channelised_hotelling", "*", "too few"): ANY,
    ("measure.rank_agreement.*", "families", "infinite"): "a name as any other",
    ("measure.rank_agreement.*", "values", "too few"): ANY,
    ("measure.rank_agreement.partial", "matrix", "NaN"): "a correlation that is none",
    ("measure.sequential.*_lower", "n", "zero"): "before the first outcome",
    ("measure.sequential.bounded_mean_interval", "values", "too few"): ANY,
    ("measure.surfaces.*", "alphas", "too few"): ANY,
    ("measure.surfaces.*", "betas", "too few"): ANY,
    ("measure.uncertainty.auroc", "*", "too few"): ANY,
    ("measure.verification.pixel_box", "pixels", "empty"): "no pixel may change",
    ("measure.verification.pixel_box", "pixels", "too few"): ANY,
    ("stats.bootstrap_me*", "values", "too few"): ANY,
    ("stats.kendall", "first", "empty"): "no rows",
    ("stats.kendall", "first", "too few"): "any number of rows",
    ("stats.mean_interval_t", "values", "too few"): ANY,
    ("stats.rank_matrix", "rows", "too few"): ANY,
    ("measure.importance.positions", "model", "one row"): "one image is one row",
    ("models.folded.unroll", "model", "*"): "outputs are left as they are",
    ("models.four_view.train", "targets", "integers"): "yes and no as whole numbers",
    ("bayes.*", "temperature", "zero"): "no prior",
    ("bayes.ratings.*", "given", "NaN"): "a case that was not rated",
    ("bayes.weight_noise.weight_noise", "share", "*"): "a share of any size",
    ("perturb.baselines.neutral", "target", "zero"): "as near as so many steps lead",
    ("perturb.lowpass.transfer", "frequency", "empty"): ANY,
    ("perturb.lowpass.transfer", "frequency", "too few"): ANY,
    ("perturb.lowpass.dilated", "region", "too short"): "a mask of any size",
    ("perturb.posterior.*", "confidence", "negative"): "short of being wrong",
    ("perturb.pruning.lowest", "scores", "infinite"): "a unit that goes last",
    ("perturb.pruning.lowest", "scores", "integers"): "whole numbers rank as well",
}
"""Wrong values of (function, argument) that have a right answer, and why it is."""
OTHER_NAMES = {
    "architecture": "architecture|labels|model",
    "network": "network|architecture|labels|rates|model",
    "targets": "targets|labels",
    "image": "image|region",
    "rows": "rows|levels",
    "seeds": "seeds|levels",
}
"""Other names by which a refusal may tell an argument: an objective calls the targets
of an ascent its labels, a region is told that does not fit its image.
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def each(
    test: str, chosen: Callable[[dict[str, Any]], bool] = lambda _arguments: True
) -> pytest.MarkDecorator:
    """A test for each public function whose right call fits."""
    names = [name for name in FUNCTIONS if test == "right" or chosen(known(name))]
    if test == "cuda" and not torch.cuda.is_available():
        names = names[:1]  # One line says that they are skipped.
    return pytest.mark.parametrize("name", names)


@cache
def known(name: str) -> dict[str, Any]:
    """The right call, empty where an argument is not known (`test_a_right_call` says
    which).
    """
    try:
        return right_call(name, FUNCTIONS[name])
    except KeyError:
        return {}


# Right calls -------------------------------------------------------------------------


@each("right")
def test_a_right_call_is_answered(name: str) -> None:
    call(FUNCTIONS[name], right_call(name, FUNCTIONS[name]))


def test_nothing_is_excluded_that_does_not_exist() -> None:
    names = [name for name, _ in public_functions.found()]
    unused = [
        pattern
        for pattern in public_functions.EXCLUDED
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    assert unused == []


# Wrong calls -------------------------------------------------------------------------


def answers(name: str) -> Iterator[tuple[str, str, str]]:
    """Argument, what was wrong with it, and how the function answered each wrong call:
    "named", "accepted" with a listed reason, or what it did.
    """
    for argument, what, arguments in wrong_calls(name, FUNCTIONS[name]):
        try:
            call(FUNCTIONS[name], arguments)
        except ArgumentError as error:
            names = OTHER_NAMES.get(argument, argument)
            answer = "named" if re.search(rf"\b({names})\b", str(error)) else str(error)
        except Exception as error:
            answer = f"{type(error).__name__}: {str(error)[:80]}"
        else:
            known = [
                key
                for key in ACCEPTED
                if all(map(fnmatchcase, (name, argument, what), key))
            ]
            answer = "accepted" if known else "a result"
        yield argument, what, answer


@each("wrong")
def test_wrong_arguments_are_refused_by_name(name: str) -> None:
    wrong = [
        f"{argument}, {what}: {answer}"
        for argument, what, answer in answers(name)
        if answer not in ("named", "accepted")
    ]
    assert wrong == []


# State, types, devices ---------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    """Tensors, arrays and numbers in a result, in order."""
    if isinstance(value, nn.Module):
        value = dict(value.state_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, Tensor | np.ndarray | float | int):
        yield value


def assert_same(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    pairs = zip(leaves(found), leaves(expected), strict=True)
    for one, other in pairs:
        one, other = (
            each.detach().cpu().double() if isinstance(each, Tensor) else each
            for each in (one, other)
        )
        np.testing.assert_allclose(one, other, tolerance, tolerance)


def moved(value: Any, **to: Any) -> Any:
    """A copy of an argument with its tensors and networks on another device or of
    another floating type.
    """
    if isinstance(value, Tensor):
        keep = {key: it for key, it in to.items() if key != "dtype"}
        return value.to(**(to if value.is_floating_point() else keep))
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(**to)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for f in dataclasses.fields(value):
            object.__setattr__(changed, f.name, moved(getattr(value, f.name), **to))
        return changed
    if isinstance(value, dict):
        return {key: moved(each, **to) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(each, **to) for each in value)
    return value


def networks(arguments: Mapping[str, Any]) -> list[nn.Module]:
    return [value for value in arguments.values() if isinstance(value, nn.Module)]


def takes_images(arguments: Mapping[str, Any]) -> bool:
    seen = [arguments.get(key) for key in ("images", "image", "baselines", "start")]
    return any(isinstance(value, Tensor) and value.dim() > 2 for value in seen)


def runs(arguments: Mapping[str, Any]) -> bool:
    """Whether a call runs a network on images."""
    known = {"model", "network", "architecture", "samples", "posterior"}
    return takes_images(arguments) and bool(known & set(arguments))


def on_tensors(arguments: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in leaves(arguments)) or bool(
        networks(arguments)
    )


TRAINS = ("*.train", "*.train_*", "*_loss", "*.neutral")
"""Functions that change the network, or whose result has a gradient."""


@each("state", runs)
def test_works_without_autograd_and_leaves_the_network_as_it_was(name: str) -> None:
    function = FUNCTIONS[name]
    expected = call(function, right_call(name, function))
    arguments = right_call(name, function)
    for value in arguments.values():
        if isinstance(value, Tensor) and value.is_floating_point():
            value.requires_grad_()
    before: list[list[Any]] = []
    trains = any(fnmatchcase(name, pattern) for pattern in TRAINS)
    for model in () if trains else networks(arguments):
        for place, parameter in enumerate(model.parameters()):
            parameter.requires_grad_(place % 2 == 0)
            parameter.grad = torch.ones_like(parameter)
        for place, module in enumerate(model.modules()):
            module.training = place % 2 == 0
        before.append(state(model))
    with torch.no_grad():
        found = call(function, arguments)
    assert_same(found, expected)
    if trains:
        return
    assert before == [state(model) for model in networks(arguments)]
    tensors = [each for each in leaves(found) if isinstance(each, Tensor)]
    assert not any(each.requires_grad for each in tensors)


def state(model: nn.Module) -> list[Any]:
    """Modes, and what the parameters ask for and have."""
    modes: list[Any] = [module.training for module in model.modules()]
    for parameter in model.parameters():
        gradient = parameter.grad
        modes += [parameter.requires_grad, gradient is not None and gradient.sum()]
        modes += [float(parameter.detach().sum())]
    return modes


@each("labels", lambda arguments: isinstance(arguments.get("labels"), Tensor))
def test_labels_of_any_integer_type_are_taken(name: str) -> None:
    function = FUNCTIONS[name]
    arguments = right_call(name, function)
    arguments["labels"] = arguments["labels"].int()
    found = call(function, arguments)
    assert_same(found, call(function, right_call(name, function)))


@each("double", takes_images)
def test_works_in_double_precision(name: str) -> None:
    function = FUNCTIONS[name]
    found = call(function, moved(right_call(name, function), dtype=torch.float64))
    tensors = [each for each in leaves(found) if isinstance(each, Tensor)]
    # A network that a given function builds has a precision of its own.
    own = "build" in known(name)
    assert own or not any(each.dtype == torch.float32 for each in tensors)
    # Images alone: what runs is the network's precision.
    arguments = right_call(name, function)
    arguments |= {
        key: moved(value, dtype=torch.float64)
        for key, value in arguments.items()
        if isinstance(value, Tensor)
    }
    call(function, arguments)


class Elsewhere(TorchFunctionMode):
    """New tensors for which the package names no device are made on another one."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        ours = "/robustbook/" in sys._getframe(1).f_code.co_filename
        if ours and function in _device_constructors() and not kwargs.get("device"):
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


@each("device", on_tensors)
def test_the_device_comes_from_the_arguments(name: str) -> None:
    function = FUNCTIONS[name]
    arguments, expected = (
        right_call(name, function),
        call(function, right_call(name, function)),
    )
    with Elsewhere():
        found = call(function, arguments)
    assert_same(found, expected)


DEVICE_DRAWS = ("models.four_view.train", "bayes.mc_dropout.train_dropout")
"""Dropout draws from the generator of its device, so that only the device is held."""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@each("cuda", on_tensors)
def test_on_cuda_as_on_the_cpu(name: str) -> None:
    # In double precision no sign of a gradient hangs on rounding.
    function = FUNCTIONS[name]
    expected = call(function, moved(right_call(name, function), dtype=torch.float64))
    there = {"dtype": torch.float64, "device": "cuda"}
    found = call(function, moved(right_call(name, function), **there))
    if name not in DEVICE_DRAWS:
        assert_same(found, expected, tolerance=1e-3)
    tensors = [each for each in leaves(found) if isinstance(each, Tensor)]
    assert all(each.is_cuda for each in tensors)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    count: Counter[str] = Counter()
    for name in FUNCTIONS:
        for argument, what, answer in answers(name):
            count[answer if answer in ("named", "accepted") else "other"] += 1
            if answer not in ("named", "accepted"):
                print(f"{name}: {argument}, {what}: {answer}")
    print(f"{count['named']} of {count.total()} by name, {count['accepted']} accepted")
