"""The `tidegate` command line. Exit codes: 0 ok, 1 failed, 2 bad input.

Each group lives in a module of its own; nothing heavy is imported until a command needs it.
"""

from __future__ import annotations

import typer

from tidegate_pipelines import (
    cli_backtest,
    cli_evaluate,
    cli_events,
    cli_features,
    cli_model,
    cli_pipeline,
    cli_train,
    cli_tune,
)

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tidegate: from raw event logs to a judged, reversible rollout of a CTR model.\n\n"
    "Exit codes: 0 ok, 1 failed, 2 bad input.",
)
app.add_typer(cli_pipeline.app, name="pipeline", help="Compile, run and submit training pipelines.")
app.add_typer(cli_features.app, name="features", help="Validate, join, materialize and read feature views.")
app.add_typer(cli_model.app, name="model", help="Package, sign, verify, score and register models.")
app.add_typer(cli_events.app, name="events", help="Ingest, clean and join event logs.")
app.add_typer(cli_evaluate.app)  # without a name: evaluate and explain become ours
app.command("train")(cli_train.train)
app.command("tune")(cli_tune.tune)
app.command("backtest")(cli_backtest.backtest)


def main() -> None:
    """Entry point of the `tidegate` script."""
    app()
