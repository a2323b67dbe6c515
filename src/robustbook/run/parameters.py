"""Parameters as text: what a user gave (`collect`), the run's name (`run_name`).

Nothing that a user types is evaluated: text becomes a value of the field's type and
pydantic checks it strictly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from robustbook import fields, files
from robustbook.errors import (
    ParameterError,
    UnknownNameError,
    UserError,
    quoted,
    shortened,
)
from robustbook.run.project import QUICK, REFERENCE, Project, RunId

Values = dict[str, Any]
LARGEST_FILE = 1_000_000
"""A file of parameters has at most so many bytes."""
_NOTHING = ("none", "null")


def collect(
    project: Project,
    study: str,
    model: type[BaseModel],
    *,
    parameter_set: str = QUICK,
    file: Path | None = None,
    typed: Sequence[tuple[str, str]] = (),
) -> tuple[Values, Values]:
    """What the named set gives and what the user gave on top (a YAML file, then typed
    pairs), both checked.

    Raises UserError for an unknown set, file or name, ParameterError for a value of the
    wrong type or out of range.
    """
    given = from_set(project, study, parameter_set)
    mine = from_file(file, study) if file is not None else {}
    names = [name for name, _ in typed]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"parameter {quoted(name)} was given twice")
    mine |= from_typed(model, typed)
    validate(model, {**given, **mine})
    return parsed(model, given), parsed(model, mine)


def from_set(project: Project, study: str, name: str) -> Values:
    """The parameters of a study in `notebooks/runs/<name>.yml`; a set that leaves a
    study out has its defaults.
    """
    path = project.parameter_set(name)
    if name not in project.parameter_sets():
        raise UnknownNameError("parameter set", name, project.parameter_sets())
    return _mapping(_read_yaml(path).get(study), f"{study} in {name}.yml")


def from_file(path: Path, study: str) -> Values:
    """A user's file: a flat mapping of parameters, or one mapping a study."""
    content = _read_yaml(path)
    if study in content:
        return _mapping(content[study], f"{study} in {shortened(path.name)}")
    return _mapping(content, shortened(path.name))


def from_typed(model: type[BaseModel], pairs: Iterable[tuple[str, str]]) -> Values:
    """Values of `-p NAME VALUE` pairs, each read as its field's type."""
    return {
        name: _from_text(text, _field(model, name).annotation, name, model)
        for name, text in pairs
    }


def parsed(model: type[BaseModel], values: Mapping[str, Any]) -> Values:
    """JSON values of the given parameters alone, after validation."""
    checked = validate(model, values).model_dump(mode="json")
    return {name: checked[name] for name in values}


def validate(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """The study's parameters with these values, strictly: no text for numbers, no
    fractions for whole numbers.

    Raises UnknownNameError or ParameterError in one line that names the parameter and
    what it may be.
    """
    ready = {}
    for name, value in values.items():
        annotation = _field(model, name).annotation
        ready[name] = (
            _from_text(value, annotation, name, model)
            if _wants_reading(value, annotation)
            else value
        )
    try:
        return model.model_validate_json(json.dumps(ready, default=str), strict=True)
    except ValidationError as error:
        raise ParameterError(
            "; ".join(_explained(model, item) for item in error.errors())
        ) from error
    except TypeError as error:
        raise ParameterError(f"a mapping's keys are words: {error}") from error


def run_name(
    project: Project, study: str, parameter_set: str, mine: Values, chosen: str | None
) -> RunId:
    """The run's name: the chosen one, else one derived from the user's parameters, else
    that of the parameter set.

    Names of parameter sets stand for exactly those sets, so they cannot be given to
    other parameters.
    """
    if chosen is None:
        return RunId(
            study, derived_name(parameter_set, mine) if mine else parameter_set
        )
    reserved = {REFERENCE, QUICK, *project.parameter_sets()}
    if chosen.startswith("sweep-"):
        raise UserError(
            f"run name {quoted(chosen)} would be taken for a sweep's page: choose "
            "another --name"
        )
    if chosen in reserved and (mine or chosen != parameter_set):
        raise UserError(
            f"run name {quoted(chosen)} stands for the parameter set of that name: "
            "choose another --name"
        )
    return RunId(study, chosen)


def derived_name(parameter_set: str, mine: Values) -> str:
    """A run's name made of its parameters, `epsilon-0-2`; what a name cannot say
    exactly is told apart by a hash.
    """
    said = [f"{name}-{_spoken(value)}" for name, value in sorted(mine.items())]
    name = "-".join(([] if parameter_set == QUICK else [parameter_set]) + said).replace(
        "_", "-"
    )
    if all(_exact(value) for value in mine.values()) and len(name) <= 60:
        return name
    mark = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{slug[:51].strip('-')}-{mark}"


def _exact(value: Any) -> bool:
    """Whether a name can say the value without being taken for another one."""
    return (
        value is None
        or isinstance(value, int | float)
        or re.fullmatch(r"[a-z0-9]+", str(value)) is not None
    )


def _spoken(value: Any) -> str:
    said = fields.to_text(value)
    return said.replace("-", "minus-").replace("+", "").replace(".", "-")


class _PlainLoader(yaml.SafeLoader):
    """YAML as safe values, without aliases (a few lines of them make a file of any
    size) and without a name twice.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; YAMLError where it is an alias or carries a tag."""
        if getattr(self.peek_event(), "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="tags (!!name) are not read here",
                problem_mark=self.peek_event().start_mark,
            )
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read here", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        """The mapping; YAMLError where a name stands in it twice."""
        seen = set()
        for name in (
            key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)
        ):
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{quoted(name)} stands there twice",
                    problem_mark=node.start_mark,
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    name = shortened(path.name)
    try:
        text = files.read(path, LARGEST_FILE).decode("utf-8")
        content = yaml.load(text, Loader=_PlainLoader)
        _check_plain(content)
    except FileNotFoundError:
        raise UserError(f"there is no file {quoted(str(path))}") from None
    except files.NotAFileError as error:
        raise UserError(f"{name} is no file of parameters: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{name} cannot be read: {said}") from error
    except (ValueError, RecursionError) as error:
        said = "too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{name} holds what cannot be read: {said}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = shortened(str(getattr(error, "problem", error)))
        raise UserError(f"{name} is no valid YAML{where}: {problem}") from error
    return _mapping(content, name)


def _check_plain(content: Any) -> None:
    """ValueError for whole numbers of more than 18 digits, which Python may refuse to
    write.
    """
    if isinstance(content, dict):
        for value in content.values():
            _check_plain(value)
    elif isinstance(content, list):
        for value in content:
            _check_plain(value)
    elif type(content) is int and abs(content) >= 10**18:
        raise ValueError("a whole number of more than 18 digits")


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(
        isinstance(key, str) for key in content
    ):
        raise UserError(
            f"{where} must map parameter names to values, got {type(content).__name__}"
        )
    return content


def _field(model: type[BaseModel], name: str) -> FieldInfo:
    if name not in model.model_fields:
        raise UnknownNameError("parameter", name, model.model_fields)
    return model.model_fields[name]


def _wants_reading(value: Any, annotation: Any) -> bool:
    """Whether a YAML value is text for a field that is none: YAML 1.1 takes `1e-3` for
    text.
    """
    return (
        isinstance(value, str)
        and str not in fields.members(annotation)
        and not fields.literals(annotation)
    )


def is_list(model: type[BaseModel], name: str) -> bool:
    """Whether a parameter is a list; UnknownNameError where there is none of
    this name.
    """
    return fields.item_of(_field(model, name).annotation) is not None


def _from_text(text: str, annotation: Any, name: str, model: type[BaseModel]) -> Any:
    """Typed text as a value of the field's type; what does not fit is a
    ParameterError.
    """
    try:
        return _read(text.strip(), annotation)
    except ValueError:
        raise ParameterError(
            f"parameter {name!r} must be {fields.wanted(model, name)}, "
            f"got {quoted(text)}"
        ) from None


def _read(text: str, annotation: Any) -> Any:
    members = fields.members(annotation)
    if type(None) in members and text.lower() in _NOTHING:
        return None
    item = fields.item_of(annotation)
    if item is not None:
        inner = text.strip("[]() ")
        return [_read(part.strip(), item) for part in inner.split(",") if part.strip()]
    for option in fields.literals(annotation):
        if str(option) == text:
            return option
    if bool in members:
        return _truth(text)
    if float in members or int in members:
        return _number(text, whole=float not in members)
    return text


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "false": False, "no": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _number(text: str, *, whole: bool) -> int | float:
    if whole:
        return int(text)
    above, stroke, below = text.partition("/")
    number = float(above)
    if stroke:  # 8/255, as the field writes its budgets.
        number = number / float(below) if float(below) else float("nan")
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _explained(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence about the parameter."""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    name = str(error["loc"][0])
    if error["type"] == "value_error":
        return f"parameter {name!r}: {str(error['msg']).removeprefix('Value error, ')}"
    return (
        f"parameter {name!r} must be {fields.wanted(model, name)}, got "
        f"{quoted(fields.to_text(error['input']))}"
    )
