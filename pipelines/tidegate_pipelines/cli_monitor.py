"""`tidegate features monitor | snapshot`: what the stores hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_pipelines.online import Online, open_online
from tidegate_pipelines.terminal import Json, print_json, progress, speaking

if TYPE_CHECKING:
    from tidegate_api.feature_view import FeatureView
    from tidegate_components.features.monitor import Measured

__all__ = ["app"]

_SAMPLE = 100_000

app = typer.Typer()


@app.command("monitor")
def monitor(
    views: Annotated[Path, typer.Option(help="Folder with FeatureView files, or one file.")],
    online: Online = "",
    slice_by: Annotated[list[str] | None, typer.Option(help="Join key or feature; as often as needed.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.json and report.html.")] = None,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Serve Prometheus metrics; 0: do not.")] = 0,
    every: Annotated[str, typer.Option(help="With --metrics-port: look again after so long.")] = "5m",
    json_: Json = False,
) -> None:
    """Missing rate, mean, variance and quantiles of each feature and slice, as stored offline and online.

    Online it looks at the first 100,000 values of a view.

    Example: tidegate features monitor --views views/ --out report

    Example: tidegate features monitor --views views/ --slice-by gender --metrics-port 9100 --every 1m

    Exit codes: 0 done, 1 a store does not answer (run again), 2 bad input. With --metrics-port it goes on until it is
    stopped.
    """
    from tidegate_components.features.monitor_report import serve_metrics, write_report
    from tidegate_components.features.source import load_views

    with speaking():
        found, pause = load_views(views), _seconds(every)
        show = serve_metrics(metrics_port) if metrics_port else None
        while True:
            measured = [one for view in found for one in _measure(view, found, online, slice_by or [])]
            if out is not None:
                write_report(measured, out)
            print_json([one.to_json() for one in measured]) if json_ else _show(measured)
            if show is None:
                return
            show(measured)
            Event().wait(pause)


def _seconds(every: str) -> float:
    from tidegate_api.durations import parse_duration
    from tidegate_components.features.errors import BadFeaturesError

    try:
        return parse_duration(every).total_seconds()
    except ValueError as error:
        raise BadFeaturesError(
            resource="features monitor", field="--every", value=every, expected="a number with s, m or h, e.g. 5m",
            remedy="write the duration like that",
        ) from error  # fmt: skip


def _measure(view: FeatureView, views: Iterable[FeatureView], online: str, slices: Iterable[str]) -> list[Measured]:
    """One view. A slice that only other views have is theirs; one that no view has is refused."""
    from tidegate_components.features.monitor import measure

    elsewhere = {name for other in views for name in other.columns} - set(view.columns)
    return measure(view, open_online(view, online), [name for name in slices if name not in elsewhere], _SAMPLE)


def _show(measured: list[Measured]) -> None:
    for one in measured:
        typer.echo(f"{one.view}  {one.store}")
        for found in one.statistics:
            mean = "" if found.mean is None else f"mean {found.mean:,.4g}  variance {found.variance:,.4g}"
            where = f"{found.feature}  {found.slice}".strip()
            typer.echo(f"  {where:<40}{found.rows:>10,} rows  missing {found.missing_rate:>6.1%}  {mean}")


@app.command("snapshot")
def snapshot(
    view: Annotated[Path, typer.Argument(help="FeatureView YAML file.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    online: Online = "",
    json_: Json = False,
) -> None:
    """Write a view's online values, each with its as-of time, to Parquet: a record of what cannot be computed again.

    Example: tidegate features snapshot clicks.yaml --online redis://localhost:6379/0 --out clicks.parquet

    Exit codes: 0 written, 1 the store does not answer (run again), 2 bad input.
    """
    from tidegate_components.features.snapshot import snapshot as run
    from tidegate_components.features.source import load_view

    with speaking():
        found = load_view(view)
        rows = run(found, open_online(found, online), out)
        print_json({"rows": rows, "out": str(out)}) if json_ else progress(f"wrote {rows:,} rows to {out}")
