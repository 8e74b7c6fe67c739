"""The CRDs, generated from the typed models: `python -m tidegate_api.crds DIR` writes them, `--check` compares.

Spec: structural schemas of apiextensions.k8s.io/v1, with CEL rules (x-kubernetes-validations).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.resource import GROUP, VERSION, Resource

__all__ = ["crds", "main", "openapi"]

# As for every object; said again here, it lets the API server know what a rule over the name can cost.
_LONGEST_NAME = 253
_DROPPED = {"title", "discriminator", "additionalProperties"}


class _Structural(GenerateJsonSchema):
    """JSON schema with each model's CEL rules beside it."""

    def model_schema(self, schema: Any) -> Any:
        found = super().model_schema(schema)
        rules = getattr(schema["cls"], "rules", None)
        return found | ({"x-kubernetes-validations": rules} if rules else {})


def _structural(node: Any, definitions: dict[str, Any]) -> Any:
    """Inline references, drop what a structural schema may not have and turn `X or null` into X."""
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return _structural(target | {k: v for k, v in node.items() if k != "$ref"}, definitions)
    if "anyOf" in node:
        kept = next(option for option in node["anyOf"] if option.get("type") != "null")
        return _structural(kept | {k: v for k, v in node.items() if k != "anyOf"}, definitions)
    return _clean(node, definitions)


def _clean(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found = {k: _structural(v, definitions) for k, v in node.items() if k not in _DROPPED and k != "properties"}
    if "properties" in node:
        found["properties"] = {name: _structural(value, definitions) for name, value in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "default" in found and (default := _without_nulls(found.pop("default"))) is not None:
        found["default"] = default
        _tell_default(found)
    if "const" in found:
        found["enum"] = [found.pop("const")]
    return _exclusive_bounds(found)


def _tell_default(node: dict[str, Any]) -> None:
    """`kubectl explain` shows no defaults: the description tells them, but for what is empty or long."""
    values = node["default"] if isinstance(node["default"], list) else [node["default"]]
    words = [item if isinstance(item, str) else json.dumps(item) for item in values if not isinstance(item, dict)]
    if any(words) and "description" in node:
        node["description"] += f" Default: {', '.join(words)}."


def _without_nulls(default: Any) -> Any:
    """A default as it would be written: what is unset is left out."""
    if isinstance(default, list):
        return [_without_nulls(item) for item in default]
    if isinstance(default, dict):
        return {key: _without_nulls(value) for key, value in default.items() if value is not None}
    return default


def _exclusive_bounds(node: dict[str, Any]) -> dict[str, Any]:
    """Structural schemas follow OpenAPI 3.0, where an exclusive bound is a flag."""
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if flag in node and not isinstance(node[flag], bool):
            node[bound], node[flag] = node[flag], True
    return node


def openapi(model: type[Resource]) -> dict[str, Any]:
    """The structural schema of a kind, as the CRD states it."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Structural)
    root = _structural(schema, schema.get("$defs", {}))
    parts = {name: root["properties"][name] for name in ("spec", "status")}
    parts["status"] = _without_rules(parts["status"])
    parts["status"].pop("default", None)
    found: dict[str, Any] = {"type": "object", "description": model.__doc__, "required": ["spec"]}
    found["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": _LONGEST_NAME}}},
    } | parts
    rules = getattr(model, "rules", None)
    return found | ({"x-kubernetes-validations": rules} if rules else {})


def _without_rules(node: Any) -> Any:
    """A status is written by the operator alone: what was let in once may be shown for as long as it stands."""
    if isinstance(node, list):
        return [_without_rules(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_rules(value) for key, value in node.items() if key != "x-kubernetes-validations"}


def _column(name: str, path: str, description: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "description": description} | more


_AGE = _column("Age", ".metadata.creationTimestamp", "How long it has been there.", "date")
_COLUMNS = {
    "ModelDeployment": [
        _column("Phase", ".status.phase", "Where the rollout stands."),
        _column("Stable", ".status.stableVersion", "Version that serves; a revision's hash without a registry."),
        _column("Canary", ".status.canaryVersion", "Version under judgement."),
        _column("Weight", ".status.weight", "Percent of the traffic at the canary.", "integer"),
        _column("Last Verdict", ".status.verdict.reason", "How the last rollout that has ended did so."),
        _column("Message", ".status.message", "What goes on, in one sentence.", priority=1),
        _AGE,
    ],
    "FeatureView": [
        _column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether both stores hold current values."),
        _column("Fresh", ".status.conditions[?(@.type=='Fresh')].status", "Whether the newest event is young enough."),
        _column("Watermark", ".status.watermark", "Both stores hold everything up to this time.", "date"),
        _column("Changed", ".status.rows", "Entities that the last run wrote anew.", "integer"),
        _column("Message", ".status.message", "What goes on, in one sentence.", priority=1),
        _AGE,
    ],
}  # fmt: skip
_NAMES = {"ModelDeployment": ("modeldeployments", ["md"]), "FeatureView": ("featureviews", ["fv"])}


def _crd(model: type[Resource]) -> dict[str, Any]:
    kind = model.__name__
    plural, short = _NAMES[kind]
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower(), "shortNames": short}
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _COLUMNS[kind],
        "schema": {"openAPIV3Schema": openapi(model)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "tidegate"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names | {"categories": ["tidegate"]},
            "versions": [version],
        },
    }


def crds() -> dict[str, str]:
    """Each CRD as YAML by file name."""
    found = {f"{_NAMES[model.__name__][0]}.yaml": _crd(model) for model in (FeatureView, ModelDeployment)}
    head = "# Generated from operators/tidegate_api by `make crds`; do not edit.\n"
    return {name: head + yaml.dump(crd, Dumper=_NoAliases, sort_keys=False, width=110) for name, crd in found.items()}


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(arguments: list[str]) -> int:
    """Write the CRDs into a folder, or with --check say whether the folder holds the current ones."""
    folder = Path(next(a for a in arguments if not a.startswith("--")))
    stale = [name for name, text in crds().items() if not _is_current(folder / name, text)]
    if "--check" in arguments:
        for name in stale:
            sys.stderr.write(f"{folder / name} is not current; run `make crds`.\n")
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (folder / name).write_text(crds()[name])
    return 0


def _is_current(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
