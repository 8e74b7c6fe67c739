"""`watch`: a live view of one rollout, drawn anew from each answer of the API server."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tidegate_api.model_deployment import CanaryStatus, Evidence, ModelDeployment, Tally
from tidegate_operators.cli.arguments import Name, Namespace
from tidegate_operators.cli.connection import Connection
from tidegate_operators.cli.explain import explanation
from tidegate_operators.cli.tables import age
from tidegate_operators.cli.traffic import parse_length
from tidegate_operators.rollout.course import plan_of
from tidegate_operators.rollout.steps import FULL, Stage, time_allowed

__all__ = ["view", "watch_command"]

_BAR = 40
_FAILED = 1


def watch_command(
    name: Name,
    namespace: Namespace = None,
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between looks.")] = 2.0,
    until_done: Annotated[bool, typer.Option("--until-done", help="End when no rollout is under way.")] = False,
    timeout: Annotated[str | None, typer.Option(help="With --until-done: how long at the most, such as 30m.")] = None,
) -> None:
    """Show a rollout as it goes: steps, weights, pods, evidence, time left. In a pipe, a line for each change.

    Ends with Ctrl-C. With --until-done it ends with exit code 0 when stable is what the source names, and 1 when that
    was rejected or left by an undo, or cannot be rolled out (`explain` says why), or the time is up.

    Example: kubectl tidegate watch ctr-ranker --until-done --timeout 30m
    """
    longest = parse_length(timeout, "--timeout") if timeout else None
    connection, console = Connection(namespace), Console()
    looks = _looks(connection, name, every, until_done, longest)
    found = _show(connection, looks, console) if console.is_terminal else _tell(looks)
    if not _is_over(found):
        sys.stderr.write(f"{name}: the rollout is still under way after {timeout}; it goes on.\n")
    if not _is_over(found) or found.status.rejected is not None or _is_stalled(found):
        raise typer.Exit(_FAILED)


def _looks(
    connection: Connection, name: str, every: float, until_done: bool, longest: timedelta | None
) -> Iterator[ModelDeployment]:
    """The deployment, look by look."""
    pause, start = Event(), time.monotonic()
    while True:
        found = ModelDeployment.parse(connection.read("ModelDeployment", name)[0])
        yield found
        late = longest is not None and time.monotonic() - start >= longest.total_seconds()
        if until_done and (late or _is_over(found)):
            return
        pause.wait(every)


def _is_over(found: ModelDeployment) -> bool:
    """Whether no rollout is under way, and the operator has looked at the spec as it stands."""
    seen = found.status.observed_generation == found.metadata.generation
    return seen and found.status.canary is None and found.status.phase not in (None, "Pending")


def _is_stalled(found: ModelDeployment) -> bool:
    return any(item.type == "Stalled" and item.status == "True" for item in found.status.conditions)


def _show(connection: Connection, looks: Iterator[ModelDeployment], console: Console) -> ModelDeployment:
    """A picture that is drawn anew at each look; returns the last one."""
    found = next(looks)
    with Live(console=console, auto_refresh=False, screen=False) as live:
        for each in chain([found], looks):
            found = each
            live.update(view(found, connection.servers(found.metadata.name), datetime.now(UTC)), refresh=True)
    return found


def _tell(looks: Iterator[ModelDeployment]) -> ModelDeployment:
    """One line whenever it says something else; returns the last one."""
    said = ""
    for found in looks:
        line = f"{found.status.phase or 'Pending'}  {found.status.weight}%  {explanation(found)}"
        if line != said:
            sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S}  {line}\n")
            sys.stdout.flush()
        said = line
    return found


def view(found: ModelDeployment, servers: Iterable[dict[str, Any]], now: datetime) -> RenderableType:
    """The picture of one moment."""
    parts: list[RenderableType] = [_traffic(found), _servers(found, servers)]
    canary = found.status.canary
    if canary is not None:
        parts += [_steps(found, canary, now), _evidence(canary.evidence)]
    elif found.status.verdict is not None:
        parts.append(Text(f"last rollout: {found.status.verdict.outcome}, {age(found.status.verdict.at, now)} ago"))
    parts.append(Text(explanation(found), style="italic"))
    title = f"{found.metadata.namespace}/{found.metadata.name}   {found.status.phase or 'Pending'}"
    return Panel(Group(*parts), title=title, title_align="left")


def _traffic(found: ModelDeployment) -> RenderableType:
    status, weight = found.status, found.status.weight
    canary = round(_BAR * weight / FULL) or (1 if weight else 0)
    bar = Text("traffic  ")
    bar.append("█" * (_BAR - canary), style="green").append("█" * canary, style="yellow")
    bar.append(f"  stable {status.stable.label}: {FULL - weight} %" if status.stable else "  nobody is stable yet")
    return bar.append(f"   canary {status.canary.revision.label}: {weight} %") if status.canary else bar


def _servers(found: ModelDeployment, servers: Iterable[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("REVISION", "ROLE", "PODS READY", "WANTED"):
        table.add_column(column)
    for body in servers:
        revision = body["metadata"]["labels"].get("tidegate.dev/revision", "?")
        ready = body.get("status", {}).get("readyReplicas", 0)
        table.add_row(revision, _role(found, revision), str(ready), str(body["spec"].get("replicas", 1)))
    return table


def _role(found: ModelDeployment, revision: str) -> str:
    status = found.status
    if status.stable is not None and status.stable.hash == revision:
        return f"stable (version {status.stable.label})"
    if status.canary is not None and status.canary.revision.hash == revision:
        return f"canary (version {status.canary.revision.label})"
    return "retiring"


def _steps(found: ModelDeployment, canary: CanaryStatus, now: datetime) -> RenderableType:
    plan = plan_of(found, found.status, canary)
    line = Text("steps    ")
    for number, stage in enumerate(plan):
        style = "green" if number < canary.step else ("bold yellow" if number == canary.step else "dim")
        line.append(f"{stage.weight} %  ", style=style)
    return line.append(_time_left(found, canary, plan[min(canary.step, len(plan) - 1)], now))


def _time_left(found: ModelDeployment, canary: CanaryStatus, stage: Stage, now: datetime) -> str:
    if canary.paused_at is not None:
        return f"paused since {age(canary.paused_at, now)}"
    here = f"at this step for {age(canary.step_started_at, now)}"
    since = canary.effective_since
    if stage.until_promoted and since is not None:
        return f"{here}, until a person promotes"
    ends = since + stage.limit if stage.limit and since else canary.step_started_at + time_allowed(found, stage)
    return f"{here}, deadline in {max(0, round((ends - now).total_seconds()))}s"


def _evidence(evidence: Iterable[Evidence]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("METRIC", "CANARY", "STABLE", "DIFFERENCE", "INTERVAL", "P-VALUE", "SAMPLES AT STEP"):
        table.add_column(column, justify="left" if column == "METRIC" else "right")
    for item in evidence:
        table.add_row(item.metric, *_cells(item))
    return table


def _cells(item: Evidence) -> tuple[str, ...]:
    if item.value is not None:
        return (f"{item.value:g}", "", "", "", f"{item.failures} failed", "")
    interval = "" if item.low is None or item.high is None else f"{item.low:+z.4f} to {item.high:+z.4f}"
    difference = "" if item.apparent_difference is None else f"{item.apparent_difference:+z.4f}"
    samples = f"{item.step_samples.canary:.0f} / {item.step_samples.stable:.0f}"
    spent = "" if item.error_spent is None else f"{item.error_spent:.3g} of {item.error_level or 0:.3g}"
    return (_rate(item.canary), _rate(item.stable), difference, interval, spent, samples)


def _rate(side: Tally) -> str:
    return "-" if side.rate is None else f"{side.rate:.4f}"
