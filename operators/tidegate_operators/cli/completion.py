"""`kubectl tidegate <TAB>`: kubectl asks the program kubectl_complete-tidegate, as it asks of every plugin.

https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/#adding-shell-completion-for-plugins
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress

from tidegate_operators.cli.main import app

__all__ = ["main"]

_PROGRAM = "kubectl-tidegate"
_NO_FILES = ":4"
"""The directive by which a shell does not go on to names of files."""


def main() -> None:
    """Print what may follow the words given, the last of which is being typed: a line each, with its help after a tab.

    That is what typer prints for fish.
    """
    *words, last = sys.argv[1:] or [""]
    typed = f"{shlex.join([_PROGRAM, *words])} {last}"
    asked = {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    os.environ |= asked | {"_KUBECTL_TIDEGATE_COMPLETE": "complete_fish"}
    with suppress(SystemExit):
        app(args=[], prog_name=_PROGRAM)
    sys.stdout.write(f"{_NO_FILES}\n")
