"""A feature of a FeatureView: its name and type, how it is computed from events, and what its values should be."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from tidegate_api.durations import PositiveDuration
from tidegate_api.resource import Value
from tidegate_api.rules import rule

__all__ = ["Aggregate", "ColumnName", "Expectation", "Feature", "FeatureType"]

ColumnName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=63)]
FeatureType = Literal[
    "Int64", "Float64", "String", "Bool", "Timestamp",
    "List<Int64>", "List<Float64>", "List<String>", "List<Bool>", "List<Timestamp>",
]  # fmt: skip


class Aggregate(Value):
    """A function of the events in `t - window <= event time < t`."""

    rules: ClassVar = [
        rule("self.function == 'count' || has(self.column)", "column is required unless function is count")
    ]

    function: Literal["count", "sum", "mean", "min", "max", "last", "distinct"]
    """What is computed over the window."""
    column: ColumnName | None = None
    """The source column; count may do without one."""
    window: PositiveDuration
    """How far back events count."""
    where: Annotated[str | None, Field(max_length=1024, description="A SQL condition on the source's columns.")] = None

    @model_validator(mode="after")
    def _column_is_there(self) -> Aggregate:
        if self.column is None and self.function != "count":
            raise ValueError(f"a column, because function {self.function} needs one")
        return self


class Expectation(Value):
    """What the values of a feature, over the entities of a run, should be; a failed one turns QualityOK to False."""

    rules: ClassVar = [
        rule(f"!has(self.{low}) || !has(self.{high}) || self.{low} <= self.{high}", f"{low} must not exceed {high}")
        for low, high in (("min", "max"), ("minMean", "maxMean"))
    ]

    max_missing: Annotated[float | None, Field(ge=0, le=1, description="Greatest share of entities without one.")] = (
        None
    )
    min: Annotated[float | None, Field(description="Least value.")] = None
    max: Annotated[float | None, Field(description="Greatest value.")] = None
    min_mean: Annotated[float | None, Field(description="Least mean.")] = None
    max_mean: Annotated[float | None, Field(description="Greatest mean.")] = None

    @model_validator(mode="after")
    def _something_fits(self) -> Expectation:
        for name, low, high in (("min", self.min, self.max), ("minMean", self.min_mean, self.max_mean)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"a {name} that does not exceed {name.replace('min', 'max')}")
        return self


class Feature(Value):
    """One feature. It has an aggregate, or the view's `sql` yields a column of its name."""

    rules: ClassVar = [
        rule(
            "!has(self.aggregate) || self.aggregate.function != 'mean' || self.type == 'Float64'",
            "a mean is a fraction: its type must be Float64",
            "self.type",
        )
    ]

    name: ColumnName
    """The name of the column that readers see."""
    type: FeatureType
    """The type that readers decode."""
    default: Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})] = None
    """The value where no event counts; count and distinct default to 0."""
    description: Annotated[str, Field(max_length=1024)] = ""
    """What it means, for people who browse."""
    aggregate: Aggregate | None = None
    """How it is computed from the events."""
    expect: Expectation | None = None
    """What its values should be; they are stored all the same."""

    @model_validator(mode="after")
    def _a_mean_is_a_fraction(self) -> Feature:
        if self.aggregate and self.aggregate.function == "mean" and self.type != "Float64":
            raise ValueError(f"type Float64 for a mean (it is {self.type})")
        return self

    @field_validator("default")
    @classmethod
    def _default_fits(cls, value: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("type")
        return value if value is None or kind is None else _of_type(value, kind)


def _of_type(value: Any, kind: str) -> Any:
    """The value as readers see one of this feature type. Raises ValueError."""
    if kind.startswith("List<") and isinstance(value, list):
        return [_of_type(item, kind[5:-1]) for item in value]
    if kind == "Timestamp" and isinstance(value, (str, datetime)):
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    if kind in {"Int64", "Float64"} and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(value, kind)
    if isinstance(value, {"String": str, "Bool": bool}.get(kind, ())):
        return value
    raise ValueError(f"a value of type {kind}, or none")


def _number(value: float, kind: str) -> float:
    whole = kind == "Int64"
    if not math.isfinite(value) or (whole and not (value == int(value) and -(2**63) <= value < 2**63)):
        raise ValueError(f"a number of type {kind}, or none")
    return int(value) if whole else float(value)
