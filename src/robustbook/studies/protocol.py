"""What every study has: the shape in types, and parameters said once.

Read `ROOMS` and `Study` first (the shape of a study), then `BaseParameters` with
`parameter` (what a run may change). What studies compute with is in `shared`; nothing
slow is imported here, since commands ask every study for its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from robustbook.results import Claim, Row

ROOMS = (
    "parameters",
    "networks",
    "measure",
    "rows",
    "claims",
    "figures",
    "exercises",
)
"""The modules of a study in the order in which they are read; `measure` may be a folder
with one module a question.
"""


class Study(Protocol):
    """What the package of a study says; one that reproduces a paper also has `PAPER`,
    its key in `book/references.bib`.

    `ROWS` declares every row of its records. It stands in a module that imports nothing
    slow, since commands hold records to it: `claims` where `rows` computes.
    """

    TITLE: str
    CLAIMS: tuple[Claim, ...]
    ROWS: tuple[Row, ...]
    Parameters: type[BaseParameters]


# Parameters
# --------------------------------------------------------------------------------------


class BaseParameters(BaseModel):
    """Parameters of a run; every default is the quick run's. Budgets and strengths are
    in pixel units of [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, names: Mapping[str, Any]) -> Self:
        """The parameters that these names have now: `Parameters.of(globals())` in a
        notebook.
        """
        return cls(**{name: names[name] for name in cls.model_fields})


def parameter(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    *,
    below: float | None = None,
) -> Any:
    """A parameter with its meaning and its range: `low` and `high` are allowed, `below`
    is not.
    """
    return Field(
        default,
        ge=low,
        le=high,
        lt=below,
        description=" ".join(meaning.split()),
    )


Epsilon = Annotated[
    float,
    Field(
        ge=0.001,
        le=0.5,
        description="perturbation budget, L-infinity, pixel units of [0, 1]",
    ),
]
TrainImages = Annotated[
    int,
    Field(ge=100, le=60000, description="training images, equal shares of the classes"),
]
PriorSd = Annotated[
    float,
    Field(
        ge=0.001, le=10, description="standard deviation of the prior of every weight"
    ),
]
FirstSeed = Annotated[
    int,
    Field(ge=0, le=10**6, description="seed of the first network of each kind"),
]


class Repeated(Protocol):
    """Parameters of a study whose networks have seeds one after the other."""

    @property
    def first_seed(self) -> int:
        """The first seed."""

    @property
    def seeds(self) -> int:
        """How many there are."""


def seeds(parameters: Repeated) -> range:
    """Seeds of the networks of each kind."""
    return range(parameters.first_seed, parameters.first_seed + parameters.seeds)
