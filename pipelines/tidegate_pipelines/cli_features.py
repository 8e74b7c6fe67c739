"""`tidegate features`: validate, join, materialize, get, replay; more in cli_browse, cli_monitor and cli_stream."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate_components.json_values import plain, rfc3339
from tidegate_pipelines import cli_browse, cli_monitor, cli_stream
from tidegate_pipelines.online import Online, open_online
from tidegate_pipelines.terminal import FAILED, Json, print_json, progress, speaking

if TYPE_CHECKING:
    from tidegate_api.feature_view import FeatureView
    from tidegate_components.features.materialize import Materialized
    from tidegate_components.features.online import OnlineStore

__all__ = ["app"]

_CLOCKS_DIFFER = timedelta(seconds=5)

app = typer.Typer(no_args_is_help=True)
app.add_typer(cli_browse.app)  # without a name: its commands become ours
app.add_typer(cli_monitor.app)
app.add_typer(cli_stream.app)


@app.command("validate")
def validate(views: Annotated[list[Path], typer.Argument(help="FeatureView YAML files.")], json_: Json = False) -> None:
    """Check FeatureView files: their form, and that their sources fit.

    Example: tidegate features validate manifests/examples/user-activity.yaml

    Exit codes: 0 every view is right, 2 one is not.
    """
    from tidegate_components.features.source import load_views

    with speaking():
        found = [view for path in views for view in load_views(path)]
        for view in found:
            _tell_of_the_api_server(view)
            _check(view)
        if json_:
            print_json([{"name": v.metadata.name, "schemaHash": v.schema_hash} for v in found])
        else:
            for view in found:
                typer.echo(f"{view.metadata.name}: {len(view.spec.features)} features fit their source")


def _tell_of_the_api_server(view: FeatureView) -> None:
    """What runs here may be refused there, for a name or a missing ttl."""
    from tidegate_api.admission import InvalidResourceError, admit

    try:
        admit(view.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"status"}))
    except InvalidResourceError as error:
        progress(f"{error}")


def _check(view: FeatureView) -> None:
    from tidegate_components.duck import connect
    from tidegate_components.features.join import check_values
    from tidegate_components.features.source import open_source, rows_left_out
    from tidegate_components.features.stream_messages import MessageReader

    if view.spec.source.kafka is not None:
        MessageReader(view, keyed=False)
    if view.spec.source.files is not None:
        with connect() as db:
            open_source(db, view)
            check_values(db, view)
            _tell_left_out(view, rows_left_out(db, view))


def _tell_left_out(view: FeatureView, counts: Mapping[str, int]) -> None:
    for column, rows in counts.items():
        progress(f"{view.metadata.name}: {rows:,} rows of the source have no {column} and count for nothing")


@app.command("join")
def join(
    entities: Annotated[Path, typer.Option(help="Parquet with join keys and a timestamp: a file or folder.")],
    timestamp: Annotated[str, typer.Option(help="Column with the time as of which features hold.")],
    views: Annotated[Path, typer.Option(help="Folder with FeatureView files, or one file.")],
    out: Annotated[Path, typer.Option(help="Parquet to write.")],
    engine: Annotated[str, typer.Option(help="duckdb, or spark for more than one machine holds.")] = "duckdb",
    as_known: Annotated[bool, typer.Option("--as-known", help="Only events that were known by then.")] = False,
    json_: Json = False,
) -> None:
    """Join features to entities as of each row's own time; keeps row order and every column.

    Example: tidegate features join --entities e.parquet --timestamp event_time --views views/ --out training.parquet

    Exit codes: 0 written, 1 failed, 2 bad input.
    """
    from tidegate_components.features.compute import join_file
    from tidegate_components.features.errors import BadFeaturesError
    from tidegate_components.features.source import load_views
    from tidegate_components.storage import parquet_files

    with speaking():
        if not parquet_files(entities):
            raise BadFeaturesError(
                resource="entities", field="--entities", value=str(entities), expected="a Parquet file, folder or glob",
                remedy="check the path",
            )  # fmt: skip
        found = load_views(views)
        for view in (view for view in found if as_known and not view.spec.source.created_timestamp):
            progress(f"{view.metadata.name} has no createdTimestamp: its events are known when they happen")
        rows = join_file(entities, timestamp, found, out, engine=engine, as_known=as_known)
        print_json({"rows": rows, "out": str(out)}) if json_ else typer.echo(f"wrote {rows} rows to {out}")


@app.command("materialize")
def materialize(
    view: Annotated[Path, typer.Argument(help="FeatureView YAML file.")],
    from_: Annotated[str, typer.Option("--from", help="Rewrite what changed since this time; RFC 3339.")] = "",
    to: Annotated[str, typer.Option("--to", help="As-of time of the values; RFC 3339; default: now.")] = "",
    incremental: Annotated[
        bool, typer.Option("--incremental", help="From the watermark, in steps of at most maxWindow.")
    ] = False,
    online: Online = "",
    report: Annotated[Path | None, typer.Option(help="Also write the JSON report, or {error}, to this file.")] = None,
    json_: Json = False,
) -> None:
    """Compute a view's values as of a time into the offline and the online store.

    Example: tidegate features materialize user-activity.yaml --incremental --online redis://localhost:6379/0

    Exit codes: 0 written, 1 the store does not answer (run again), 2 bad input.
    """
    with speaking(report=report):
        from tidegate_components.features.source import load_view

        start, end = _interval(from_, to, incremental)
        found = load_view(view)
        done = _materialize(found, open_online(found, online), start, end, incremental)
        _tell_left_out(found, done.left_out)
        if report is not None:
            report.write_text(done.to_report())
        if json_:
            print_json(done.to_json())
        else:
            told = done.note or f"watermark {done.watermark}"
            typer.echo(f"{found.metadata.name}: wrote {done.rows:,} values of entities as of {done.end}, {told}")


def _interval(from_: str, to: str, incremental: bool) -> tuple[datetime | None, datetime]:
    from tidegate_components.events.ingest import parse_time
    from tidegate_components.features.errors import BadFeaturesError

    if from_ and incremental:
        raise BadFeaturesError(
            resource="features materialize", field="--from", value=from_, expected="no --from beside --incremental, "
            "which begins at the watermark", remedy="leave out one of the two",
        )  # fmt: skip
    end = _not_after_now(parse_time(to)) if to else datetime.now(UTC)
    start = parse_time(from_) if from_ else None
    if start is not None and start > end:
        raise BadFeaturesError(
            resource="features materialize", field="--from", value=from_, expected=f"one before --to, {rfc3339(end)}",
            remedy="swap the two, or name an earlier --from",
        )  # fmt: skip
    return start, end


def _materialize(
    view: FeatureView, store: OnlineStore, start: datetime | None, end: datetime, incremental: bool
) -> Materialized:
    from tidegate_components.features.materialize import catch_up
    from tidegate_components.features.materialize import materialize as run

    if incremental:
        return catch_up(view, store, end, lambda done: progress(f"{done.rows:,} entities as of {done.end}"))
    return run(view, store, end, start)


def _not_after_now(time: datetime) -> datetime:
    """The time; what is not known yet cannot be materialized, so a watermark there would hide it."""
    from tidegate_components.features.errors import BadFeaturesError

    now = datetime.now(UTC)
    if time > now + _CLOCKS_DIFFER:
        raise BadFeaturesError(
            resource="features materialize", field="--to", value=time.isoformat(), expected=f"at most now, {now}",
            remedy="leave out --to, or name an earlier time",
        )  # fmt: skip
    return time


@app.command("get")
def get(
    view: Annotated[Path, typer.Option(help="FeatureView YAML file.")],
    key: Annotated[
        list[str],
        typer.Option(
            help="Entity key; for several entities pass --key again. Parts of a composite key by comma, in double "
            "quotes where they have one; times in RFC 3339."
        ),
    ],
    online: Online = "",
    json_: Json = False,
) -> None:
    """Read features of entities from the online store, in one round trip.

    Example: tidegate features get --view user-activity.yaml --key 42 --key 43 --online redis://localhost:6379/0

    Exit codes: 0 read, stored or not, 1 the store does not answer (run again), 2 bad input.
    """
    from tidegate_components.features.read import get_features, parse_key
    from tidegate_components.features.source import load_view

    with speaking():
        found = load_view(view)
        rows = get_features(found, open_online(found, online), [parse_key(found, text) for text in key])
        print_json(rows) if json_ else _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        head = ",".join(str(plain(part)) for part in row["key"])
        typer.echo(f"{head}  as of {row['asOf']}" if row["found"] else f"{head}  not stored: defaults")
        for name, value in row["features"].items():
            typer.echo(f"  {name:<28}{plain(value) if isinstance(value, datetime) else value}")


@app.command("replay")
def replay(
    log: Annotated[str, typer.Option(help="Parquet that serving logged: a file, folder or glob.")],
    views: Annotated[Path, typer.Option(help="Folder with FeatureView files, or one file.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")],
    json_: Json = False,
) -> None:
    """Recompute offline what serving used, as known at the as-of time that came with each value.

    Example: tidegate features replay --log feature-log/ --views views/ --out report

    Exit codes: 0 every logged value is right, 1 one is not, 2 bad input.
    """
    from tidegate_components.features.replay import replay as run
    from tidegate_components.features.replay_report import to_json, write_report
    from tidegate_components.features.source import load_views

    with speaking():
        found = run(log, load_views(views))
        write_report(found, out)
    report = to_json(found)
    print_json(report) if json_ else _show_replay(report)
    if not report["consistent"]:
        raise typer.Exit(FAILED)


def _show_replay(report: dict[str, Any]) -> None:
    for view in report["views"]:
        age = view["staleness"]["p95"]
        stale = "" if age is None else f", 95 % used within {age:,.1f} s"
        typer.echo(f"{view['view']}: {view['rows']:,} rows, {view['unstored']:,} with nothing stored{stale}")
        for feature in view["features"]:
            counts = "  ".join(f"{name} {count:,}" for name, count in feature["outcomes"].items())
            typer.echo(f"  {feature['feature']:<28}{counts}")
