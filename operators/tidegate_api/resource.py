"""What all typed values share: frozen, camelCase on the wire, unknown fields refused; and Kubernetes' own parts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from tidegate_api.errors import TidegateError, expectation

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "Condition",
    "Metadata",
    "Resource",
    "Time",
    "Value",
]

GROUP = "tidegate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


Time = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Value(BaseModel):
    """A frozen value parsed at the door. `rules` are the CEL rules that the API server checks on it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )

    def to_dict(self) -> dict[str, Any]:
        """The value as Kubernetes writes it: camelCase, nothing that is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Metadata(BaseModel):
    """The parts of ObjectMeta that Tidegate reads; the rest is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class Condition(Value):
    """A metav1.Condition: one question about the resource, answered, with a reason and a sentence."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1)]
    message: str = ""
    observed_generation: int | None = None
    last_transition_time: Time


class Resource(Value):
    """A Kubernetes object of the group tidegate.dev."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["tidegate.dev/v1alpha1"] = "tidegate.dev/v1alpha1"
    kind: str
    metadata: Metadata

    @classmethod
    def parse(cls, body: Any, origin: str = "") -> Self:
        """Read an object as the API server or a file gives it; raises TidegateError with the first fault."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise _first_fault(cls.__name__, body, error, origin) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read one resource from a YAML file; raises TidegateError naming the file and the field."""
        file = Path(path)
        try:
            body = yaml.safe_load(file.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise TidegateError(
                resource=cls.__name__,
                field="file",
                value=str(file),
                expected=f"a readable YAML file ({error})",
                remedy="check the path and the file's contents",
            ) from error
        return cls.parse(body, origin=str(file))


def _first_fault(kind: str, body: Any, error: ValidationError, origin: str) -> TidegateError:
    fault = error.errors()[0]
    name = body.get("metadata", {}).get("name", "?") if isinstance(body, dict) else "?"
    resource = f"{kind} {name}" + (f" ({origin})" if origin else "")
    field = ".".join(str(part) for part in fault["loc"]) or "the object"
    lacks = fault["type"] == "missing"
    return TidegateError(
        resource=resource,
        field=field,
        value=None if lacks else fault.get("input"),
        expected=expectation(fault),
        remedy=f"correct {field}; `kubectl explain {kind.lower()}` describes it",
    )
