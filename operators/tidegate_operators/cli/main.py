"""The commands of `kubectl tidegate`. Verbs over a rollout are annotations, the same that GitOps would commit."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from tidegate_api.errors import TidegateError
from tidegate_operators.cli.acting import abort, pause, promote, restart, resume, retry, undo
from tidegate_operators.cli.connection import choose
from tidegate_operators.cli.plan import plan_command
from tidegate_operators.cli.reading import explain, features, get, history
from tidegate_operators.cli.simulate import simulate_command
from tidegate_operators.cli.watch import watch_command

__all__ = ["app", "main"]

_BAD_INPUT = 2

app = typer.Typer(name="kubectl-tidegate", no_args_is_help=True, help=__doc__, rich_markup_mode=None)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"kubectl-tidegate {metadata.version('tidegate')}\n")
        raise typer.Exit


@app.callback()
def options(
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="Default: KUBECONFIG's.")] = None,
    context: Annotated[str | None, typer.Option("--context", help="Default: the current one.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What goes on, why, and the few verbs that a person has over a rollout.

    Example: kubectl tidegate --context prod get -n shop
    """
    choose(kubeconfig, context)


for verb in (get, features, history, explain, promote, abort, pause, resume, undo, retry, restart):
    app.command()(verb)
app.command("watch")(watch_command)
app.command("plan")(plan_command)
app.command("simulate")(simulate_command)


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and one sentence."""
    try:
        app()
    except TidegateError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_BAD_INPUT)
