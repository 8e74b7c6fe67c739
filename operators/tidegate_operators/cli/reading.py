"""The verbs that only look: get, features, history, explain."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.resource import Resource
from tidegate_operators.cli.arguments import Everywhere, Json, Name, Namespace, names_of, one
from tidegate_operators.cli.connection import Connection
from tidegate_operators.cli.explain import explanation
from tidegate_operators.cli.tables import (
    Sheet,
    deployments_sheet,
    history_sheet,
    print_sheet,
    views_sheet,
    with_namespaces,
)

__all__ = ["explain", "features", "get", "history"]

Kind = TypeVar("Kind", bound=Resource)


def get(
    name: Annotated[str | None, typer.Argument(autocompletion=names_of("ModelDeployment"))] = None,
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    as_json: Json = False,
) -> None:
    """List ModelDeployments, or show one.

    Example: kubectl tidegate get ctr-ranker -n shop
    """
    bodies = _read("ModelDeployment", name, namespace, everywhere)
    _print(bodies, as_json, everywhere, ModelDeployment, deployments_sheet)


def features(
    name: Annotated[str | None, typer.Argument(autocompletion=names_of("FeatureView"))] = None,
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    as_json: Json = False,
) -> None:
    """List FeatureViews with watermark and freshness, or show one.

    Example: kubectl tidegate features
    """
    bodies, now = _read("FeatureView", name, namespace, everywhere), datetime.now(UTC)
    _print(bodies, as_json, everywhere, FeatureView, lambda views: views_sheet(views, now))


def _print(
    bodies: list[dict[str, Any]],
    as_json: bool,
    everywhere: bool,
    kind: type[Kind],
    sheet: Callable[[list[Kind]], Sheet],
) -> None:
    """As JSON, or as a table where there is anything; of all namespaces, with theirs. What cannot be read is told."""
    if as_json:
        _print_json(bodies)
        return
    found = [one for body in bodies if (one := _parsed(kind, body)) is not None]
    if found:
        where = [one.metadata.namespace for one in found]
        print_sheet(with_namespaces(sheet(found), where) if everywhere else sheet(found), Console())


def _parsed(kind: type[Kind], body: dict[str, Any]) -> Kind | None:
    try:
        return kind.parse(body)
    except TidegateError as error:
        sys.stderr.write(f"{error}\n")
        return None


def history(name: Name, namespace: Namespace = None, as_json: Json = False) -> None:
    """Show how past rollouts ended, and why.

    Example: kubectl tidegate history ctr-ranker
    """
    found = one(name, Connection(namespace))
    if as_json:
        _print_json([entry.to_dict() for entry in found.status.history])
    elif found.status.history:
        print_sheet(history_sheet(found, datetime.now(UTC)), Console())
    else:
        sys.stderr.write(f"No rollout of {name} has ended yet.\n")


def explain(name: Name, namespace: Namespace = None) -> None:
    """Say in a paragraph what goes on and why it is not moving.

    Example: kubectl tidegate explain ctr-ranker
    """
    sys.stdout.write(explanation(one(name, Connection(namespace))) + "\n")


def _read(kind: str, name: str | None, namespace: str | None, everywhere: bool) -> list[dict[str, Any]]:
    """The objects; where there are none, that is said as kubectl says it."""
    if name and everywhere:
        raise typer.BadParameter("one object is named in one namespace: leave out its name, or -A")
    connection = Connection(namespace)
    found = connection.read(kind, name, everywhere)
    if not found:
        sys.stderr.write(
            "No resources found" + ("." if everywhere else f" in {connection.namespace} namespace.") + "\n"
        )
    return [_without_managed_fields(body) for body in found]


def _without_managed_fields(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"metadata": {key: value for key, value in body["metadata"].items() if key != "managedFields"}}


def _print_json(bodies: Iterable[dict[str, Any]]) -> None:
    sys.stdout.write(json.dumps(list(bodies), indent=2) + "\n")
