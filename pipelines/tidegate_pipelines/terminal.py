"""How commands speak: a sentence on stderr and an exit code for what went wrong, JSON or tables on stdout."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate_api.errors import TidegateError
from tidegate_components.json_values import plain

__all__ = ["BAD_INPUT", "FAILED", "Json", "print_json", "progress", "shown", "speaking"]

FAILED, BAD_INPUT = 1, 2

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@contextmanager
def speaking(code: int = BAD_INPUT, report: Path | None = None) -> Iterator[None]:
    """Turn a TidegateError into its sentence and exit code `code`; into {"error": sentence} in `report` as well.

    An error that trying again may mend (a store or server that does not answer) exits with FAILED.

    Anything else that fails exits with FAILED, its message, and a hint how to see the traceback (TIDEGATE_DEBUG=1).
    """
    try:
        yield
    except (typer.Exit, BrokenPipeError):  # whoever read has read enough: click ends quietly
        raise
    except TidegateError as error:
        _end(str(error), FAILED if getattr(error, "transient", False) else code, report)
    except Exception as error:
        if os.environ.get("TIDEGATE_DEBUG"):
            raise
        _end(_unforeseen(error), FAILED, report)


def _unforeseen(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; name another place, or mend this one"
    return f"{type(error).__name__}: {error} (set TIDEGATE_DEBUG=1 for the traceback)"


def _end(sentence: str, code: int, report: Path | None) -> None:
    if report is not None:
        report.write_text(json.dumps({"error": sentence}))
    typer.secho(f"tidegate: {sentence}", err=True, fg="red")
    raise typer.Exit(code)


def progress(text: str) -> None:
    """One line for the person who waits, on stderr."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(plain(value), indent=1, default=str))


def shown(value: float | None, digits: int) -> str:
    """A figure, or a dash where it is not defined: an AUC of one class, say."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
