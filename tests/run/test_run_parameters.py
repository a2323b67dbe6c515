"""Parameters: what a user types becomes a checked value of its type, or one line that
says what it may be.
"""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from robustbook import fields
from robustbook.errors import ParameterError, UnknownNameError, UserError
from robustbook.run import parameters
from robustbook.run.project import Project


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    epsilon: float = Field(0.1, ge=0, le=1, description="Budget.")
    steps: int = Field(5, ge=1, le=100)
    step_size: float = Field(0.01, gt=0, lt=1)
    seeds: tuple[int, ...] = Field((0, 1), min_length=1)
    budgets: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.05, 0.1)
    data: Literal["digits", "mnist"] = "digits"
    full: bool = False
    limit: int | None = Field(None, ge=1)
    note: str = "a"

    @model_validator(mode="after")
    def step_fits(self):
        if self.step_size > self.epsilon and self.full:
            raise ValueError("a step is larger than the ball")
        return self


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks" / "runs").mkdir(parents=True)
    (tmp_path / "notebooks" / "runs" / "quick.yml").write_text("{}\n")
    (tmp_path / "notebooks" / "runs" / "reference.yml").write_text(
        "tiny: {steps: 7, epsilon: 3e-1}\n"
    )
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epsilon", "0.2", 0.2),
        ("epsilon", "1e-3", 0.001),
        ("epsilon", "1", 1.0),
        ("steps", "3", 3),
        ("seeds", "1,2,3", (1, 2, 3)),
        ("seeds", "[4]", (4,)),
        ("budgets", "0.05, 0.1", (0.05, 0.1)),
        ("data", "mnist", "mnist"),
        ("full", "true", True),
        ("limit", "none", None),
        ("limit", "12", 12),
        ("note", "12", "12"),
        ("note", "none", "none"),
    ],
)
def test_text_becomes_a_value_of_the_type(name, text, value):
    checked = parameters.validate(Model, parameters.from_typed(Model, [(name, text)]))
    assert getattr(checked, name) == value
    assert type(getattr(checked, name)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("epsilon", "much", "'epsilon' must be a number (0 to 1), got 'much'"),
        ("epsilon", "nan", "'epsilon' must be a number (0 to 1), got 'nan'"),
        ("epsilon", "-0.5", "'epsilon' must be a number (0 to 1), got '-0.5'"),
        ("epsilon", "__import__('os')", "'epsilon' must be a number (0 to 1)"),
        ("steps", "2.5", "'steps' must be a whole number (1 to 100), got '2.5'"),
        ("steps", "101", "'steps' must be a whole number (1 to 100), got '101'"),
        (
            "step_size",
            "0",
            "'step_size' must be a number (above 0 and below 1), got '0.0'",
        ),
        (
            "seeds",
            "",
            "'seeds' must be a list, each a whole number (length at least 1), got ''",
        ),
        (
            "budgets",
            "0.1,2",
            "'budgets' must be a list, each a number (0 to 1), got '2.0'",
        ),
        ("data", "mnits", "'data' must be one of digits, mnist, got 'mnits'"),
        ("full", "1", "'full' must be true or false, got '1'"),
        ("limit", "0", "'limit' must be a whole number or none (at least 1), got '0'"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_range(name, text, line):
    with pytest.raises(ParameterError) as caught:
        parameters.validate(Model, parameters.from_typed(Model, [(name, text)]))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 3.0},
        {"steps": True},
        {"full": 1},
        {"seeds": 5},
        {"data": 3},
        {"note": 5},
        {"epsilon": [1]},
    ],
)
def test_values_of_a_file_are_strict(values):
    with pytest.raises(ParameterError):
        parameters.validate(Model, values)


def test_values_of_a_file_that_yaml_takes_for_text_are_read():
    assert parameters.validate(Model, {"epsilon": "1e-3"}).epsilon == 0.001


def test_rules_between_parameters_are_told_in_their_own_words():
    with pytest.raises(ParameterError, match=r"^a step is larger than the ball$"):
        parameters.validate(Model, {"full": True, "epsilon": 0.001})


def test_unknown_names_suggest_the_nearest_one(project):
    with pytest.raises(
        UnknownNameError,
        match=r"unknown parameter 'epsilonn': did you mean 'epsilon'\?",
    ):
        parameters.from_typed(Model, [("epsilonn", "1")])
    with pytest.raises(UnknownNameError, match="did you mean 'reference'"):
        parameters.from_set(project, "tiny", "referense")


def test_later_sources_win_and_only_what_was_given_is_returned(project, tmp_path):
    mine = tmp_path / "mine.yml"
    mine.write_text("steps: 8\nseeds: [3]\n")
    given_, on_top = parameters.collect(
        project,
        "tiny",
        Model,
        parameter_set="reference",
        file=mine,
        typed=[("steps", "9")],
    )
    assert given_ == {"steps": 7, "epsilon": 0.3}
    assert on_top == {"steps": 9, "seeds": [3]}


def test_a_file_may_hold_one_mapping_a_study(project, tmp_path):
    mine = tmp_path / "mine.yml"
    mine.write_text("tiny:\n  steps: 8\nother:\n  x: 1\n")
    assert parameters.from_file(mine, "tiny") == {"steps": 8}


def test_keys_that_are_no_words_are_one_line(tmp_path):
    mine = tmp_path / "mine.yml"
    mine.write_text("epsilon: {2020-01-01: 1}\n")
    with pytest.raises(ParameterError, match="a mapping's keys are words") as caught:
        parameters.validate(Model, parameters.from_file(mine, "tiny"))
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_twice_is_found_quickly_among_many(tmp_path):
    mine = tmp_path / "mine.yml"
    mine.write_text("\n".join(f"n{k}: 1" for k in [*range(20_000), 7]))
    with pytest.raises(UserError, match="'n7' stands there twice"):
        parameters.from_file(mine, "tiny")


@pytest.mark.parametrize(
    "text",
    [
        "- 1\n",
        "a: [",
        "!!python/object/apply:os.system ['true']",
        "1: 2\n",
        "tiny:\n  - 1\n",
        "\x00",
    ],
)
def test_bad_files_are_one_line(project, tmp_path, text):
    mine = tmp_path / "mine.yml"
    mine.write_text(text)
    with pytest.raises(UserError) as caught:
        parameters.collect(project, "tiny", Model, file=mine)
    assert "\n" not in str(caught.value)


def test_the_same_parameter_twice_is_refused(project):
    with pytest.raises(ParameterError, match="given twice"):
        parameters.collect(
            project, "tiny", Model, typed=[("steps", "1"), ("steps", "2")]
        )


def test_run_names(project):
    def name(mine, chosen=None, parameter_set="quick"):
        return parameters.run_name(project, "tiny", parameter_set, mine, chosen).run

    assert name({}) == "quick"
    assert name({}, parameter_set="reference") == "reference"
    assert name({"epsilon": 0.2}) == "epsilon-0-2"
    assert name({"epsilon": 0.2, "steps": 3}) == "epsilon-0-2-steps-3"
    assert (
        name({"step_size": 0.2}, parameter_set="reference") == "reference-step-size-0-2"
    )
    assert name({"steps": 3}, "wide") == "wide"
    for reserved in ("reference", "quick"):
        with pytest.raises(UserError, match="stands for"):
            name({"steps": 3}, reserved)
    for bad in ("../evil", "Wide", "a b", "", "x" * 61, "a/b", "a.b"):
        with pytest.raises(UserError, match="a run's name"):
            name({"steps": 3}, bad)


@given(
    st.dictionaries(
        st.sampled_from(list(Model.model_fields)),
        st.one_of(
            st.integers(),
            st.floats(allow_nan=False),
            st.text(max_size=80),
            st.lists(st.floats(allow_nan=False)),
        ),
        min_size=1,
    )
)
def test_derived_names_are_always_names(mine):
    name = parameters.derived_name("quick", mine)
    assert 0 < len(name) <= 60
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_derived_names_tell_values_apart():
    values = [
        0.1,
        -0.1,
        1,
        10,
        (0.1, 2.0),
        (0.0, 1.2),
        "a b",
        "a-b",
        "A b",
        "x" * 100,
        "x" * 101,
        None,
    ]
    assert len(
        {parameters.derived_name("quick", {"value": value}) for value in values}
    ) == len(values)


def test_description_says_type_range_default_and_meaning():
    first, *_, last = fields.describe(Model)
    assert (first.name, first.kind, first.range, first.default, first.help) == (
        *("epsilon", "a number", "0 to 1"),
        *("0.1", "Budget."),
    )
    assert last.name == "note"
    budgets = next(item for item in fields.describe(Model) if item.name == "budgets")
    assert (budgets.kind, budgets.range, budgets.default) == (
        "a list, each a number",
        "0 to 1",
        "0.05,0.1",
    )
