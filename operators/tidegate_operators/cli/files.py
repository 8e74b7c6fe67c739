"""A ModelDeployment from a file or from stdin, taken as the API server would take it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tidegate_api.admission import admit
from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import ModelDeployment

__all__ = ["File", "Name", "read_deployment"]

File = Annotated[
    list[Path], typer.Option("--filename", "-f", help="YAML with the ModelDeployment, may be repeated; - is stdin.")
]
Name = Annotated[str | None, typer.Option("--name", help="Which one, where the file holds several.")]


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: times are text, 1e-3 is a number, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((number for number, key in enumerate(keys) if key in keys[:number]), None)
        if twice is not None:
            mark = node.value[twice][0].start_mark
            raise yaml.constructor.ConstructorError(None, None, f"the key {keys[twice]} is there twice", mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_deployment(files: Sequence[Path], name: str | None) -> ModelDeployment:
    """The one ModelDeployment of all files, of several the one so named; `-` is stdin.

    Other kinds beside it are passed over. Raises TidegateError where there is none, more than one, or where the API
    server would refuse it.
    """
    origin = ", ".join("stdin" if str(file) == "-" else str(file) for file in files)
    bodies = [body for file in files for body in _objects(_documents(file))]
    found = [body for body in bodies if body.get("kind") == ModelDeployment.__name__]
    chosen = [body for body in found if name is None or _name(body) == name]
    if len(bodies) == 1 and not found:
        admit(bodies[0], origin)
    if len(chosen) != 1:
        raise _not_one(found, name, origin)
    return ModelDeployment.parse(admit(chosen[0], origin), origin)


def _documents(file: Path) -> list[Any]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        return list(yaml.load_all(text, _Loader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TidegateError(
            resource="ModelDeployment",
            field="file",
            value="stdin" if str(file) == "-" else str(file),
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
    names = [_name(body) for body in found]
    if not names:
        remedy = "name a file that holds a ModelDeployment"
    elif name is None and len(set(names)) > 1:
        remedy = "name one by --name"
    else:
        remedy = "take away one of the two" if name in (None, *names) else "name one of these"
    return TidegateError(
        resource=origin,
        field="ModelDeployment",
        value=", ".join(names) or "none",
        expected=f"one named {name}" if name else "exactly one",
        remedy=remedy,
    )
