"""The commands of `kubectl tidegate`. Verbs over a rollout are annotations, the same that GitOps would commit."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.cli.connection import Connection
from tidegate_operators.cli.tables import deployments_table, history_table, views_table
from tidegate_operators.rollout.decide import ABORT, PAUSE, PROMOTE

__all__ = ["app", "main"]

_BAD_INPUT = 2

app = typer.Typer(name="kubectl-tidegate", no_args_is_help=True, help=__doc__, rich_markup_mode=None)
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the context's.")]
Json = Annotated[bool, typer.Option("--json", help="Print the API objects for machines.")]
Name = Annotated[str, typer.Argument(help="Name of the ModelDeployment.")]


@app.command()
def get(
    name: Annotated[str | None, typer.Argument()] = None, namespace: Namespace = None, as_json: Json = False
) -> None:
    """List ModelDeployments, or show one.

    Example: kubectl tidegate get ctr-ranker -n shop
    """
    bodies = Connection(namespace).read("ModelDeployment", name)
    if as_json:
        _print_json(bodies)
        return
    Console().print(deployments_table([ModelDeployment.parse(body) for body in bodies]))


@app.command()
def features(
    name: Annotated[str | None, typer.Argument()] = None, namespace: Namespace = None, as_json: Json = False
) -> None:
    """List FeatureViews with watermark and freshness, or show one.

    Example: kubectl tidegate features
    """
    bodies = Connection(namespace).read("FeatureView", name)
    if as_json:
        _print_json(bodies)
        return
    Console().print(views_table([FeatureView.parse(body) for body in bodies]))


@app.command()
def history(name: Name, namespace: Namespace = None, as_json: Json = False) -> None:
    """Show how past rollouts ended, and why.

    Example: kubectl tidegate history ctr-ranker
    """
    found = _one(name, namespace)
    if as_json:
        _print_json([entry.to_dict() for entry in found.status.history])
        return
    Console().print(history_table(found))


@app.command()
def explain(name: Name, namespace: Namespace = None) -> None:
    """Say in a paragraph what goes on and why it is not moving.

    Example: kubectl tidegate explain ctr-ranker
    """
    found = _one(name, namespace)
    evidence = found.status.canary.evidence if found.status.canary else []
    failures = [
        c.message for c in found.status.conditions if c.status == "False" and c.type not in ("Progressing", "Ready")
    ]
    sentences = [found.status.message or "The operator has not looked at it yet.", *failures]
    sys.stdout.write(" ".join([*sentences, *(item.message for item in evidence)]) + "\n")


@app.command()
def promote(name: Name, namespace: Namespace = None) -> None:
    """Promote the canary without waiting for the rest of its steps."""
    _annotate(name, namespace, PROMOTE)


@app.command()
def abort(name: Name, namespace: Namespace = None) -> None:
    """Give all traffic back to stable."""
    _annotate(name, namespace, ABORT)


@app.command()
def pause(name: Name, namespace: Namespace = None) -> None:
    """Keep the canary at its weight. Guards still roll it back."""
    _annotate(name, namespace, PAUSE)


@app.command()
def resume(name: Name, namespace: Namespace = None) -> None:
    """Let a paused rollout go on."""
    connection = Connection(namespace)
    connection.annotate("ModelDeployment", name, {PAUSE: None})
    sys.stdout.write(f"{name} goes on.\n")


def _annotate(name: str, namespace: str | None, annotation: str) -> None:
    canary = _one(name, namespace).status.canary
    if canary is None:
        raise TidegateError(
            resource=f"ModelDeployment {name}",
            field="status.canary",
            value=None,
            expected="a rollout under way",
            remedy="see `kubectl tidegate get`: there is nothing to act on now",
        )
    Connection(namespace).annotate("ModelDeployment", name, {annotation: canary.revision.hash})
    sys.stdout.write(f"{annotation}={canary.revision.hash} was set on {name}.\n")


def _one(name: str, namespace: str | None) -> ModelDeployment:
    return ModelDeployment.parse(Connection(namespace).read("ModelDeployment", name)[0])


def _print_json(bodies: Any) -> None:
    sys.stdout.write(json.dumps(bodies, indent=2) + "\n")


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and one sentence."""
    try:
        app()
    except TidegateError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_BAD_INPUT)
