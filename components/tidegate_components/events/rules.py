"""Cleaning rules and expectations as declared in YAML, parsed once; each rule becomes one SQL condition.

The SQL is DuckDB's; sqlglot turns it into Spark's, so both engines judge by the same words.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from tidegate_api.durations import Duration
from tidegate_api.errors import TidegateError, expectation
from tidegate_components.duck import literal, quoted

__all__ = ["DEFAULT_RULES", "BadRulesError", "Rule", "Rules", "read_rules", "read_yaml", "refused"]

DEFAULT_RULES = Path(__file__).with_name("rules.yaml")

_Strict = ConfigDict(extra="forbid", frozen=True)


class BadRulesError(TidegateError):
    """A file of rules or expectations that says something unknown."""


class Range(BaseModel):
    """Values below `min` or above `max` break it; a missing value does only where it is `required`."""

    model_config = _Strict
    column: str
    min: float | None = None
    max: float | None = None
    required: bool = False


class Allowed(BaseModel):
    """Values other than these break it."""

    model_config = _Strict
    column: str
    values: list[str | int] = Field(min_length=1)
    required: bool = False


class TimeOrder(BaseModel):
    """`earlier` after `later` by more than `tolerance` breaks it."""

    model_config = _Strict
    earlier: str
    later: str
    tolerance: Duration = timedelta(0)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


T = TypeVar("T", bound=BaseModel)
Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]


class Rule(BaseModel):
    """One rule: exactly one of `missing`, `range`, `allowed`, `time_order`, `duplicate`, `where` (SQL)."""

    model_config = _Strict
    missing: str | None = None
    range: Range | None = None
    allowed: Allowed | None = None
    time_order: TimeOrder | None = None
    duplicate: Names | None = None
    where: str | None = None
    reason: str = ""
    if_present: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Rule:
        kinds: tuple[Literal["missing", "range", "allowed", "time_order", "duplicate", "where"], ...]
        kinds = ("missing", "range", "allowed", "time_order", "duplicate", "where")
        said = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(said) != 1:
            raise ValueError(f"a rule says {', '.join(said) or 'nothing'}, expected exactly one of {', '.join(kinds)}")
        if self.where is not None and not self.reason:
            raise ValueError("a rule with `where` needs a `reason`")
        return self

    def columns(self) -> tuple[str, ...]:
        """The columns that the rule names; none for `where`, whose SQL names them."""
        if self.missing:
            return (self.missing,)
        if self.time_order:
            return (self.time_order.earlier, self.time_order.later)
        named = self.range or self.allowed
        return (named.column,) if named else tuple(self.duplicate or ())

    def why(self) -> str:
        """The reason that a row is quarantined for."""
        if self.reason:
            return self.reason
        if self.time_order:
            return f"{self.time_order.earlier} after {self.time_order.later}"
        named = {"missing": self.missing, "out of range": self.range, "not allowed": self.allowed}
        word = next((word for word, said in named.items() if said), "duplicate")
        if word == "duplicate":
            return word
        return f"missing {self.missing}" if self.missing else f"{self.columns()[0]} {word}"

    def broken(self) -> str:
        """The SQL condition of a row that breaks it; not for `duplicate`."""
        if self.missing:
            return f"{quoted(self.missing)} IS NULL"
        if self.range:
            return _outside(self.range)
        if self.allowed:
            return _unknown(self.allowed)
        if self.time_order:
            micros = self.time_order.tolerance // timedelta(microseconds=1)
            earlier, later = quoted(self.time_order.earlier), quoted(self.time_order.later)
            return f"{earlier} > {later} + INTERVAL '{micros}' MICROSECOND"
        return f"({self.where})"


def _outside(rule: Range) -> str:
    column = quoted(rule.column)
    sides = [f"{column} < {rule.min!r}"] if rule.min is not None else []
    sides += [f"{column} > {rule.max!r}"] if rule.max is not None else []
    sides += [f"{column} IS NULL"] if rule.required else []
    return f"({' OR '.join(sides) or 'FALSE'})"


def _unknown(rule: Allowed) -> str:
    values = ", ".join(literal(v) if isinstance(v, str) else str(v) for v in rule.values)
    missing = f" OR {quoted(rule.column)} IS NULL" if rule.required else ""
    return f"({quoted(rule.column)} NOT IN ({values}){missing})"


class Rules(BaseModel):
    """Table name -> its rules. A row is quarantined for the first that it breaks; duplicates are judged last."""

    model_config = _Strict
    tables: dict[str, list[Rule]] = Field(min_length=1)
    _file: str = PrivateAttr("rules")

    @property
    def file(self) -> str:
        """Where the rules stand."""
        return self._file


def read_rules(path: Path = DEFAULT_RULES) -> Rules:
    """Parse a file of rules. Raises BadRulesError that names file and field."""
    rules = read_yaml(path, Rules)
    rules._file = str(path)
    return rules


def refused(file: str, table: str, place: int, said: str, error: TidegateError) -> BadRulesError:
    """The rule or expectation at a place (from 0) cannot be judged on its table."""
    return BadRulesError(
        resource=file, field=f"tables.{table}.{place}", value=said,
        expected=f"what can be judged on the table's values; {error.resource} says: {error.value}",
        remedy="mend the file or the column; see docs/events.md",
    )  # fmt: skip


def read_yaml(path: Path, model: type[T]) -> T:
    """Parse a YAML file into a model. Raises BadRulesError that names file and field."""
    import yaml

    try:
        return model.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise _bad(path, where, str(first.get("input"))[:80], expectation(first)) from error
    except (OSError, yaml.YAMLError) as error:
        raise _bad(path, "file", str(error).splitlines()[0], "YAML that can be read") from error


def _bad(path: Path, field: str, value: str, expected: str) -> BadRulesError:
    return BadRulesError(
        resource=str(path), field=field, value=value, expected=expected, remedy="mend the file; see docs/events.md"
    )
