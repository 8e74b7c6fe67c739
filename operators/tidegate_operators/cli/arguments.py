"""What the commands share: options, names with their completion, and the one object that a name stands for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.cli.connection import Connection

__all__ = ["Everywhere", "Json", "Name", "Namespace", "names_of", "one", "stop"]

_NOTHING_TO_DO = 1

Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the context's.")]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")]
Json = Annotated[bool, typer.Option("--json", help="Print the API objects for machines.")]


def names_of(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """For completion: the names that begin so, of the objects that are there."""

    def names(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            found = Connection(ctx.params.get("namespace")).read(kind, None)
        except TidegateError:
            return []
        return [name for body in found if (name := str(body["metadata"]["name"])).startswith(incomplete)]

    return names


Name = Annotated[str, typer.Argument(help="Name of the ModelDeployment.", autocompletion=names_of("ModelDeployment"))]


def one(name: str, connection: Connection) -> ModelDeployment:
    """The ModelDeployment of that name."""
    return ModelDeployment.parse(connection.read("ModelDeployment", name)[0])


def stop(sentence: str) -> NoReturn:
    """There is nothing to do, which is no fault of the input."""
    sys.stderr.write(f"{sentence}\n")
    raise typer.Exit(_NOTHING_TO_DO)
