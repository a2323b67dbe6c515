"""What a parameter takes, in words: `describe` all of a model, `wanted` of one field,
`to_text` of a value.

`members`, `literals` and `item_of` take a field's annotation apart.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Description:
    """One parameter as `robustbook describe` shows it."""

    name: str
    kind: str
    range: str
    default: str
    help: str


def describe(model: type[BaseModel]) -> list[Description]:
    """Every parameter of a study, in the order of its model."""
    return [
        Description(
            name,
            _kind(field.annotation),
            _range(field),
            to_text(_default(field)),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


def to_text(value: Any) -> str:
    """A parameter's value as a user would type it after `-p NAME`."""
    if isinstance(value, list | tuple):
        return ",".join(to_text(item) for item in value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)


def wanted(model: type[BaseModel], name: str) -> str:
    """The type and range of a parameter: `a number (0 to 1)`."""
    field = model.model_fields[name]
    limits = _range(field)
    kind = _kind(field.annotation)
    return f"{kind} ({limits})" if limits else kind


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation: those of a union, else itself."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return members(typing.get_args(annotation)[0])
    return (annotation,)


def literals(annotation: Any) -> tuple[Any, ...]:
    """The values that an annotation allows by name."""
    return tuple(
        option
        for member in members(annotation)
        if typing.get_origin(member) is Literal
        for option in typing.get_args(member)
    )


def item_of(annotation: Any) -> Any:
    """The type of a tuple's or list's items; None where the annotation is neither."""
    for member in members(annotation):
        if typing.get_origin(member) in (tuple, list):
            return typing.get_args(member)[0]
    return None


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _kind(annotation: Any) -> str:
    """A type in words of the command line."""
    options = literals(annotation)
    if options:
        return "one of " + ", ".join(to_text(option) for option in options)
    item = item_of(annotation)
    if item is not None:
        return f"a list, each {_kind(item)}"
    words = [
        _WORDS.get(member, "none" if member is type(None) else str(member))
        for member in members(annotation)
    ]
    return " or ".join(words)


def _bounds(metadata: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in metadata:
        found |= _bounds(getattr(item, "metadata", ()))
        for key in ("ge", "gt", "le", "lt", "min_length", "max_length"):
            if getattr(item, key, None) is not None:
                found[key] = getattr(item, key)
    return found


def _range(field: FieldInfo) -> str:
    """The limits of a number, or of a list's length and items, in words; empty where
    there are none.
    """
    bounds = _bounds(field.metadata)
    item = item_of(field.annotation)
    inner = (
        _bounds(typing.get_args(item)[1:])
        if typing.get_origin(item) is typing.Annotated
        else {}
    )
    length = _between(bounds.get("min_length"), bounds.get("max_length"))
    parts = [_interval(bounds), _interval(inner), f"length {length}" if length else ""]
    return ", ".join(part for part in parts if part)


def _between(low: Any, high: Any) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}"
    return (
        f"at least {low}"
        if low is not None
        else f"at most {high}"
        if high is not None
        else ""
    )


def _interval(bounds: Mapping[str, Any]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f"{bounds['ge']} to {bounds['le']}"
    words = {"gt": "above", "ge": "at least", "le": "at most", "lt": "below"}
    return " and ".join(
        f"{word} {bounds[key]}" for key, word in words.items() if key in bounds
    )
