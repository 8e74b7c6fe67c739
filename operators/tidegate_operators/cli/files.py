"""A ModelDeployment from a file or from stdin, taken as the API server would take it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tidegate_api.admission import admit
from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import ModelDeployment

__all__ = ["File", "Name", "read_deployment"]

File = Annotated[Path, typer.Option("--filename", "-f", help="A YAML file with the ModelDeployment; - is stdin.")]
Name = Annotated[str | None, typer.Option("--name", help="Which one, where the file holds several.")]


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: times are text, 1e-3 is a number, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_deployment(file: Path, name: str | None) -> ModelDeployment:
    """The one ModelDeployment of a file, of several the one so named; `-` is stdin.

    Other kinds beside it are passed over. Raises TidegateError where there is none, more than one, or where the API
    server would refuse it.
    """
    origin = "stdin" if str(file) == "-" else str(file)
    bodies = list(_objects(_documents(file, origin)))
    found = [body for body in bodies if body.get("kind") == ModelDeployment.__name__]
    chosen = [body for body in found if name is None or _name(body) == name]
    if len(bodies) == 1 and not found:
        admit(bodies[0], origin)
    if len(chosen) != 1:
        raise _not_one(found, name, origin)
    return ModelDeployment.parse(admit(chosen[0], origin), origin)


def _documents(file: Path, origin: str) -> list[Any]:
    try:
        text = sys.stdin.read() if origin == "stdin" else file.read_text()
        return list(yaml.load_all(text, _Loader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TidegateError(
            resource="ModelDeployment",
            field="file",
            value=origin,
            expected=f"a readable YAML file ({error})",
            remedy="check the path and the file's contents",
        ) from error


def _objects(documents: list[Any]) -> Iterator[dict[str, Any]]:
    """The objects of all documents, and of a List its items, as `kubectl get -o yaml` prints them."""
    for document in documents:
        if isinstance(document, dict):
            listed = (document.get("items") or []) if document.get("kind") == "List" else [document]
            yield from (item for item in listed if isinstance(item, dict))


def _name(body: dict[str, Any]) -> str:
    metadata = body.get("metadata")
    return str(metadata.get("name", "?")) if isinstance(metadata, dict) else "?"


def _not_one(found: list[dict[str, Any]], name: str | None, origin: str) -> TidegateError:
    names = ", ".join(map(_name, found))
    several = len(found) > 1
    return TidegateError(
        resource=origin,
        field="ModelDeployment",
        value=names or "none",
        expected=f"one named {name}" if name else "exactly one",
        remedy="name one by --name" if several else "name a file that holds a ModelDeployment",
    )
