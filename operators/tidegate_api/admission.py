"""What the API server would say to a resource, told without one: the CRD's own schema, defaults and CEL rules.

Spec: structural schemas, defaulting and validation rules of apiextensions.k8s.io/v1. Rules over `oldSelf` are about a
change and are left out: a file has no past.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from jsonschema import Draft4Validator
from jsonschema import ValidationError as SchemaError

from tidegate_api.crds import openapi
from tidegate_api.errors import TidegateError, shown
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.quantities import amount
from tidegate_api.resource import API_VERSION, Resource

__all__ = ["KINDS", "InvalidResourceError", "Refusal", "admit"]

KINDS: Mapping[str, type[Resource]] = {model.__name__: model for model in (FeatureView, ModelDeployment)}
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_OBJECT_META = (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers",
    "generateName", "generation", "labels", "managedFields", "name", "namespace", "ownerReferences",
    "resourceVersion", "selfLink", "uid",
)  # fmt: skip
_TYPES = {
    "object": "an object", "array": "a list", "string": "a string", "integer": "a whole number", "number": "a number",
    "boolean": "true or false",
}  # fmt: skip


class Refusal(NamedTuple):
    """One fault: the field's path, as in spec.scaling or spec.analysis.metrics[0], and a sentence."""

    path: str
    sentence: str


class InvalidResourceError(TidegateError):
    """Everything that the API server would refuse a resource for, one fault a line."""

    def __init__(self, resource: str, refusals: list[Refusal]) -> None:
        first = refusals[0]
        super().__init__(
            resource=resource, field=first.path, value=None, expected=first.sentence, remedy="see `kubectl explain`"
        )
        self.refusals = refusals
        faults = "".join(f"\n* {path}: {sentence}" for path, sentence in refusals)
        field = re.sub(r"\[[0-9]+\]", "", f"{resource.split(maxsplit=1)[0].lower()}.{first.path}")
        self.args = (
            f"{resource} is invalid: the API server would refuse it.{faults}\n`kubectl explain {field}` tells more.",
        )


def admit(body: Mapping[str, Any], origin: str = "") -> dict[str, Any]:
    """The object as the API server would keep it, with defaults and without status.

    Raises InvalidResourceError with all faults; TidegateError where it is of no kind of this group.
    """
    kind, name = str(body.get("kind")), _name(body)
    if body.get("apiVersion") != API_VERSION or kind not in KINDS:
        raise _foreign(body, origin)
    schema = _schema(kind)
    kept = {key: value for key, value in body.items() if key != "status"}
    found: dict[str, Any] = _defaulted(kept, schema)
    refusals = [*_unnamed(name), *_unknown(kept, schema, ""), *_faults(found, schema)]
    if refusals:
        raise InvalidResourceError(f"{kind} {name or '?'}" + (f" ({origin})" if origin else ""), refusals)
    return found


@cache
def _schema(kind: str) -> dict[str, Any]:
    schema = openapi(KINDS[kind])
    parts = {key: value for key, value in schema["properties"].items() if key != "status"}
    metadata = {key: {} for key in _OBJECT_META} | parts["metadata"]["properties"]
    return schema | {"properties": parts | {"metadata": parts["metadata"] | {"properties": metadata}}}


def _name(body: Mapping[str, Any]) -> str:
    metadata = body.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, Mapping) else ""


def _foreign(body: Mapping[str, Any], origin: str) -> TidegateError:
    is_ours = body.get("apiVersion") == API_VERSION
    return TidegateError(
        resource=origin or "the object",
        field="kind" if is_ours else "apiVersion",
        value=body.get("kind" if is_ours else "apiVersion"),
        expected=" or ".join(KINDS) if is_ours else API_VERSION,
        remedy="name a file that holds one",
    )


def _unnamed(name: str) -> Iterator[Refusal]:
    if not re.fullmatch(_SUBDOMAIN, name):
        yield Refusal("metadata.name", f"is {shown(name)}, expected lower case letters, digits, - and .")


def _defaulted(node: Any, schema: Mapping[str, Any]) -> Any:
    """The node with the defaults of what is unset or null; numbers are of the schema's kind, as CEL needs them."""
    if isinstance(node, Mapping):
        parts = schema.get("properties", {})
        said = {key: value for key, value in node.items() if value is not None or key not in parts}
        unset = {key: part["default"] for key, part in parts.items() if key not in said and "default" in part}
        return {key: _defaulted(value, parts.get(key, {})) for key, value in {**said, **unset}.items()}
    if isinstance(node, list):
        return [_defaulted(item, schema.get("items", {})) for item in node]
    if schema.get("type") == "number" and isinstance(node, int) and not isinstance(node, bool):
        return float(node)
    return int(node) if schema.get("type") == "integer" and isinstance(node, float) and node.is_integer() else node


def _unknown(node: Any, schema: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    """Fields that the schema does not have; kubectl refuses these by default."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{number}]")
    if not isinstance(node, Mapping) or "properties" not in schema:
        return
    for key, value in node.items():
        field = f"{path}.{key}".lstrip(".")
        if key in schema["properties"]:
            yield from _unknown(value, schema["properties"][key], field)
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            known = ", ".join(schema["properties"])
            yield Refusal(path or key, f'unknown field "{field}"; {path or "the object"} has {known}')


def _faults(body: dict[str, Any], schema: dict[str, Any]) -> list[Refusal]:
    """Broken rules first, for they say what is meant; then what the schema alone refuses."""
    broken = list(_broken(body, schema, ""))
    said = {refusal.path for refusal in broken}
    by_schema = (_of_schema(error) for error in Draft4Validator(schema).iter_errors(body))
    return broken + [refusal for refusal in by_schema if refusal.path not in said]


def _broken(node: Any, schema: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    """Each rule that does not hold, and each entry of a keyed list that is there twice."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], node):
            yield Refusal(path or "metadata.name", _message(rule, node))
    if isinstance(node, Mapping):
        for key, part in schema.get("properties", {}).items():
            if key in node:
                yield from _broken(node[key], part, f"{path}.{key}".lstrip("."))
    if isinstance(node, list):
        yield from _duplicates(node, schema, path)
        for number, item in enumerate(node):
            yield from _broken(item, schema.get("items", {}), f"{path}[{number}]")


def _duplicates(node: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys and schema.get("x-kubernetes-list-type") != "set":
        return
    seen: list[Any] = []
    for number, item in enumerate(node):
        mark = {key: item.get(key) for key in keys} if keys and isinstance(item, Mapping) else item
        if mark in seen:
            what = " ".join(f"{key} {shown(value)}" for key, value in mark.items()) if keys else shown(item)
            yield Refusal(f"{path}[{number}]", f"Duplicate value: {what} is there before")
        seen.append(mark)


def _holds(rule: str, node: Any) -> bool:
    """Whether a CEL rule holds; one that cannot be evaluated meets a type that the schema refuses anyway."""
    found = _evaluated(rule, node)
    return True if found is None else bool(found)


def _message(rule: Mapping[str, str], node: Any) -> str:
    """The sentence with the value in it; without, where CEL cannot tell it."""
    found = _evaluated(rule["messageExpression"], node) if "messageExpression" in rule else None
    return rule["message"] if found is None else str(found)


def _evaluated(expression: str, node: Any) -> Any:
    from celpy import CELEvalError, json_to_cel

    try:
        return _program(expression).evaluate({"self": json_to_cel(node)})
    except (CELEvalError, TypeError, ValueError):
        return None


@cache
def _program(rule: str) -> Any:
    """A compiled rule, with the functions that Kubernetes has beyond the language. celpy is imported late."""
    from celpy import Environment
    from celpy.celtypes import BoolType, IntType, StringType

    environment = Environment()
    functions = {
        "compareTo": lambda first, second: IntType((first > second) - (first < second)),
        "isSorted": lambda items: BoolType(all(a <= b for a, b in pairwise(items))),
        "lowerAscii": lambda text: StringType(text.lower()),
        "quantity": lambda text: amount(str(text)),
        "replace": lambda text, old, new: StringType(text.replace(old, new)),
    }
    return environment.program(environment.compile(rule), functions=functions)


def _of_schema(error: SchemaError) -> Refusal:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    if error.validator == "required":
        lacking = re.findall(r"'([^']+)' is a required", error.message)[0]
        return Refusal(f"{path}.{lacking}".lstrip("."), "is required, and not set")
    rules = error.schema.get("x-kubernetes-validations", []) if "pattern" in error.schema else []
    hint = "".join(f": {rule['message']}" for rule in rules[:1])
    return Refusal(path, f"is {_as_written(error.instance)}, expected {_expected(error)}{hint}")


def _as_written(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shown(value)


def _expected(error: SchemaError) -> str:
    bound = error.validator_value
    if error.validator == "type":
        return _TYPES[bound]
    if error.validator == "enum":
        return "one of " + ", ".join(map(str, bound))
    strict = error.schema.get(f"exclusive{str(error.validator).capitalize()}")
    words = {
        "pattern": f"text that matches {bound}",
        "minimum": f"more than {bound}" if strict else f"{bound} or more",
        "maximum": f"less than {bound}" if strict else f"{bound} or less",
        "minLength": f"{bound} characters or more",
        "maxLength": f"{bound} characters or fewer",
        "minItems": f"{bound} entries or more",
        "maxItems": f"{bound} entries or fewer",
        "maxProperties": f"{bound} entries or fewer",
    }
    return words.get(str(error.validator), str(error.message))
