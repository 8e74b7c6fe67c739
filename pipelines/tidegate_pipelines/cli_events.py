"""`tidegate events`: ingest, clean, validate, join."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_pipelines.terminal import FAILED, Json, print_json, progress, speaking

if TYPE_CHECKING:
    from tidegate_components.events.land_stream import Landed

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.command("ingest")
def ingest(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="kafka://HOST:PORT/TOPIC; a file of events (JSON lines, CSV or Parquet with a field `type`);"
            " tables as Parquet, CSV or JSON lines, a folder or one file; or movielens-100k.",
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder to write.")],
    newest_event: Annotated[str, typer.Option(help="MovieLens: move all times so that the last is this.")] = "",
    follow: Annotated[
        bool, typer.Option("--follow/--until-end", help="Kafka: go on for ever (until SIGTERM), or end at the end.")
    ] = False,
    batch_rows: Annotated[int, typer.Option(min=1, help="Kafka: messages per commit at most.")] = 250_000,
    batch_seconds: Annotated[float, typer.Option(min=0.1, help="Kafka: seconds per commit at most.")] = 5.0,
    json_: Json = False,
) -> None:
    """Bring events into a folder as Parquet; from Kafka each event lands exactly once, whatever is killed when.

    Example: tidegate events ingest --from kafka://127.0.0.1:9092/events --to lake

    Example: tidegate events ingest --from export/ --to lake, for export/clicks.csv, export/impressions.jsonl, ...

    Exit codes: 0 landed, 1 the broker does not answer (run again) or no message of a file was an event, 2 bad input.
    """
    from tidegate_components.events.rows import has_kinds
    from tidegate_components.storage import resolve

    with speaking():
        if source.startswith("kafka://"):
            _show_landed(_land_kafka(source, to, follow, batch_rows, batch_seconds), to, json_)
        elif has_kinds(path := resolve(source)):
            landed = _land_file(path, to)
            _show_landed(landed, to, json_)
            with speaking(FAILED):
                landed.require_events(path)
        else:
            _ingest_tables(source, to, newest_event, json_)


def _ingest_tables(source: str, to: Path, newest_event: str, json_: bool) -> None:
    from tidegate_components.events.ingest import ingest as run

    rows = run(source, to, newest_event)
    print_json(rows) if json_ else typer.echo("\n".join(f"{name:<14}{count:>10,}" for name, count in rows.items()))


def _land_kafka(source: str, to: Path, follow: bool, rows: int, seconds: float) -> Landed:
    from tidegate_components.events.kafka import Limits, parse_address
    from tidegate_components.events.land_stream import land_kafka

    limits = Limits(rows=rows, seconds=seconds)
    return land_kafka(
        parse_address(source), to, follow=follow, stop=_asked_to_stop(), told=_tell_landed(), limits=limits
    )


def _land_file(path: Path, to: Path) -> Landed:
    from tidegate_components.events.land_stream import land_file

    return land_file(path, to, _tell_landed())


def _asked_to_stop() -> Callable[[], bool]:
    """True once SIGTERM or SIGINT came: the batch at hand is still landed."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    return asked.is_set


def _tell_landed() -> Callable[[Landed], None]:
    start = time.monotonic()

    def tell(landed: Landed) -> None:
        rate = landed.messages / max(time.monotonic() - start, 1e-9)
        progress(f"{landed.messages:>12,} messages in {landed.commits} commits, {rate:,.0f} a second")

    return tell


def _show_landed(landed: Landed, to: Path, json_: bool) -> None:
    from tidegate_components.events.landing import Landing

    if json_:
        print_json({**asdict(landed), "messages": landed.messages, "to": str(to), "digest": Landing(to).digest()})
        return
    rows = {**landed.rows, **{f"quarantined: {reason}": count for reason, count in landed.quarantined.items()}}
    for name, count in rows.items() or {"nothing new": 0}.items():
        typer.echo(f"{name:<44}{count:>12,}")


@app.command("clean")
def clean(
    in_: Annotated[Path, typer.Option("--in", help="Folder of event tables, or a landing.")],
    out: Annotated[Path, typer.Option(help="Folder for clean tables; what is dropped goes to OUT-quarantine.")],
    rules: Annotated[Path | None, typer.Option(help="YAML of rules; without it the ones that come along.")] = None,
    engine: Annotated[str, typer.Option(help="duckdb or spark.")] = "duckdb",
    json_: Json = False,
) -> None:
    """Quarantine the rows that break the declared rules, with the reason.

    Example: tidegate events clean --rules rules.yaml --in lake --out clean

    Exit codes: 0 clean (rows in = rows out + rows quarantined), 2 bad input.
    """
    from tidegate_components.events.clean import clean as run
    from tidegate_components.events.rules import read_rules

    with speaking():
        said = read_rules(rules) if rules else None
        reports = run(in_, out, out.with_name(f"{out.name}-quarantine"), said, engine)
        if json_:
            print_json([asdict(report) for report in reports])
        else:
            for r in reports:
                what = "copied, no rule is about it" if r.copied else r.reasons or "none quarantined"
                typer.echo(f"{r.table:<14}{r.rows_in:>10,} in {r.rows_out:>10,} out  {what}")


@app.command("validate")
def validate(
    expect: Annotated[Path, typer.Option(help="YAML of expectations.")],
    in_: Annotated[Path, typer.Option("--in", help="Folder of event tables, or a landing.")],
    report: Annotated[Path | None, typer.Option(help="Report to write: .html or .md; as .json beside it.")] = None,
    engine: Annotated[str, typer.Option(help="duckdb or spark.")] = "duckdb",
    json_: Json = False,
) -> None:
    """Check event tables against declared expectations: a gate with a report.

    Example: tidegate events validate --expect expect.yaml --in clean --report report.html

    Exit codes: 0 every expectation is met, 1 one is not, 2 bad input.
    """
    from tidegate_components.events.expectations import read_expectations
    from tidegate_components.events.validate import to_json, write_report
    from tidegate_components.events.validate import validate as run

    with speaking():
        found = run(in_, read_expectations(expect), engine)
        if report:
            write_report(found, report)
        if json_:
            print_json(to_json(found))
        else:
            for c in found.checks:
                typer.echo(f"{'passed' if c.passed else 'FAILED'}  {c.table:<14}{c.expected}: {c.observed}")
    if not found.passed:
        raise typer.Exit(FAILED)


@app.command("join")
def join(  # noqa: PLR0913, PLR0917 - a command's options
    out: Annotated[Path, typer.Option(help="Parquet to write.")],
    impressions: Annotated[str, typer.Option(help="Impressions: file, folder, glob or a landing's table.")] = "",
    clicks: Annotated[str, typer.Option(help="Clicks, by request_id and item_id.")] = "",
    conversions: Annotated[str, typer.Option(help="Conversions, by click_id.")] = "",
    feature_log: Annotated[str, typer.Option(help="What serving logged, by request_id.")] = "",
    in_: Annotated[str, typer.Option("--in", help="Instead: a folder with impressions and clicks.")] = "",
    attribution_window: Annotated[str, typer.Option(help="From a click to its conversion, at most.")] = "7d",
    clock_skew: Annotated[str, typer.Option(help="How much earlier than its impression a click may seem.")] = "5m",
    label_delay: Annotated[str, typer.Option(help="Hold back impressions younger than this.")] = "0s",
    now: Annotated[
        str,
        typer.Option(
            help="As of when: --label-delay counts from it, and later events do not count; default: the newest event."
        ),
    ] = "",
    negative_rate: Annotated[float, typer.Option(help="Share of the impressions without a click to keep.")] = 1.0,
    json_: Json = False,
) -> None:
    """Join impressions with clicks, conversions and the feature log: exactly one row per impression.

    Example: tidegate events join --impressions lake/impressions --clicks lake/clicks --conversions lake/purchases
    --feature-log lake/feature_log --attribution-window 7d --out samples.parquet

    Exit codes: 0 joined, 2 bad input (the sentence names file, column and row).
    """
    from tidegate_components.events.attribution import Attribution
    from tidegate_components.events.ingest import parse_time
    from tidegate_components.events.join import join_events, tables_in
    from tidegate_components.storage import content_digest

    with speaking():
        window, skew, delay = map(_length, (attribution_window, clock_skew, label_delay))
        how = Attribution(window, skew, delay, negative_rate)
        given = {"impressions": impressions, "clicks": clicks, "conversions": conversions, "feature_log": feature_log}
        addresses = {**tables_in(in_), **{name: address for name, address in given.items() if address}}
        report = join_events(addresses, out, how, parse_time(now) if now else None, progress)
        if json_:
            facts = {"rows": report.counts["rows_out"], "out": str(out), "digest": content_digest(out)}
            print_json({**asdict(report), **facts})
        else:
            lines = {**report.counts, "labels corrected": report.corrected}
            typer.echo("\n".join(f"{name.replace('_', ' '):<28}{count:>14,}" for name, count in lines.items()))


def _length(text: str) -> timedelta:
    from tidegate_api.durations import parse_duration
    from tidegate_components.events.tables import BadEventsError

    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadEventsError(
            resource="sample join", field="duration", value=text, expected="a number with s, m, h or d, e.g. 7d",
            remedy="write the duration like that",
        ) from error  # fmt: skip
