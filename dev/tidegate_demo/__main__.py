"""`make demo`: everything from raw interactions to a judged canary, then one summary and demo.json."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.table import Table

from tidegate_demo.facts import facts
from tidegate_demo.install import everything
from tidegate_demo.story import DEPLOYMENT, HOST, VIEWS, Story, feature_log, requests_file
from tidegate_dev import paths
from tidegate_dev.errors import DevError
from tidegate_dev.progress import Progress

_WITHOUT_WEB_FONTS = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
_OUT = Path(__file__).parents[2] / "demo.json"
_NEXT = f"""Go on by hand:
  export KUBECONFIG={paths.KUBECONFIG} PATH=$PWD/.venv/bin:$PATH
  dev/cluster kubectl tidegate explain {DEPLOYMENT}
  head -1 {{requests}} | curl -s -H 'Host: {HOST}' -d @- {{gateway}}/v2/models/{DEPLOYMENT}/infer"""


def main() -> int:
    """Run the demo; 0 when every rollout ended as it should."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--plain", action="store_true", help="plain progress lines")
    parser.add_argument("--picture", type=Path, help="write the summary as SVG too")
    options = parser.parse_args()
    progress, work = Progress(options.plain), paths.state() / "demo"
    start = time.monotonic()
    try:
        installed = everything(progress)
        Story(installed.cluster, installed.addresses, work, progress).tell()
        found = facts(installed.cluster, installed.addresses, DEPLOYMENT, VIEWS, feature_log(work))
    except DevError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    beside = _OUT.with_suffix(".part")
    beside.write_text(json.dumps(found, indent=2) + "\n")
    beside.replace(_OUT)
    console = Console(width=max(110, Console().width), record=True)
    _show(console, found, time.monotonic() - start)
    if options.picture:
        console.save_svg(str(options.picture), title="make demo", code_format=_WITHOUT_WEB_FONTS)
    return 0


def _show(console: Console, found: dict[str, Any], seconds: float) -> None:
    console.rule(f"What happened ({seconds / 60:.1f} minutes)")
    console.print(_timeline(found))
    console.print(_versions(found))
    console.print(_views(found))
    where = found["addresses"]
    console.print(f"champion: version {found['champion']}   challenger: version {found['challenger']}")
    console.print(f"MLflow {where['mlflow']}   Prometheus {where['prometheus']}")
    console.print(f"Facts  {_OUT.name}   Cluster  dev/cluster kubectl get md,fv,hpa   Clean up  make demo-down\n")
    for line in _NEXT.format(requests=requests_file(paths.state() / "demo"), gateway=where["gateway"]).splitlines():
        console.print(line, soft_wrap=True, highlight=False)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", title=title, title_justify="left")


def _timeline(found: dict[str, Any]) -> Table:
    table = _table("timeline", "UTC", "what", "said")
    for row in found["timeline"]:
        table.add_row(row["at"][11:19], row["reason"], row["message"])
    return table


def _versions(found: dict[str, Any]) -> Table:
    table = _table("versions", "version", "outcome", "requests", "failed", "reason")
    for row in found["versions"]:
        color = "green" if row["outcome"] == "promoted" else "red"
        counts = (str(row["requests"]), str(row["failedRequests"]))
        table.add_row(str(row["version"]), f"[{color}]{row['outcome']}[/]", *counts, row["reason"])
    return table


def _views(found: dict[str, Any]) -> Table:
    columns = ("view", "ready", "written by the last run", "watermark", "values served", "other than defined")
    table = _table("feature views", *columns)
    served = {view["view"]: _served(view) for view in found["featureReplay"]["views"]}
    for row in found["views"]:
        table.add_row(row["name"], str(row["ready"]), str(row["rows"]), str(row["watermark"]), *served[row["name"]])
    return table


def _served(view: dict[str, Any]) -> tuple[str, str]:
    """Logged values of a view, and how many of them replay as another."""
    counts = [feature["outcomes"] for feature in view["features"]]
    total = sum(sum(outcomes.values()) for outcomes in counts)
    return f"{total:,}", f"{total - sum(outcomes['equal'] for outcomes in counts):,}"


if __name__ == "__main__":
    sys.exit(main())
