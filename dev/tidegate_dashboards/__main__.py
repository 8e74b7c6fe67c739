"""Write the dashboards into a folder, or check that it holds them: `python -m tidegate_dashboards DIR [--check]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tidegate_dashboards import features, operator, rollouts

DASHBOARDS = {module.__name__.rpartition(".")[2]: module.dashboard for module in (features, operator, rollouts)}


def rendered() -> dict[str, str]:
    """File name to JSON."""
    made = {f"{name}.json": make().build() for name, make in DASHBOARDS.items()}
    return {name: json.dumps(body, cls=JSONEncoder, indent=1, sort_keys=True) + "\n" for name, body in made.items()}


def main() -> int:
    """0 where the folder holds the dashboards, 1 where `--check` found another one."""
    parser = argparse.ArgumentParser(prog="python -m tidegate_dashboards", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is another")
    given = parser.parse_args()
    files = rendered()
    if not given.check:
        for name, text in files.items():
            (given.folder / name).write_text(text)
        return 0
    stale = [name for name, text in files.items() if not _holds(given.folder / name, text)]
    if stale:
        print(f"{', '.join(stale)} in {given.folder} is not current; run make dashboards", file=sys.stderr)
    return 1 if stale else 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
