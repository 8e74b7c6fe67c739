"""`tidegate events`: ingest, clean, join."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tidegate_pipelines.terminal import print_json, speaking

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command("ingest")
def ingest(
    source: Annotated[str, typer.Option("--from", help="movielens-100k, or a folder with event tables as Parquet.")],
    to: Annotated[Path, typer.Option(help="Folder to write.")],
    newest_event: Annotated[str, typer.Option(help="MovieLens: move all times so that the last is this.")] = "",
    json_: Json = False,
) -> None:
    """Bring the event tables of a source into a folder, as Parquet.

    Example: tidegate events ingest --from movielens-100k --to events/raw
    """
    from tidegate_components.events.ingest import ingest as run

    with speaking():
        rows = run(source, to, newest_event)
        print_json(rows) if json_ else typer.echo("\n".join(f"{name:<14}{count:>10,}" for name, count in rows.items()))


@app.command("clean")
def clean(
    in_: Annotated[Path, typer.Option("--in", help="Folder of event tables.")],
    out: Annotated[Path, typer.Option(help="Folder for clean tables; what is dropped goes to OUT-quarantine.")],
    json_: Json = False,
) -> None:
    """Quarantine the rows that break the declared rules, with the reason.

    Example: tidegate events clean --in events/raw --out events/clean
    """
    from tidegate_components.events.clean import clean as run

    with speaking():
        reports = run(in_, out, out.with_name(f"{out.name}-quarantine"))
        if json_:
            print_json([asdict(report) for report in reports])
        else:
            for r in reports:
                typer.echo(f"{r.table:<14}{r.rows_in:>10,} in {r.rows_out:>10,} out  {r.reasons or 'none quarantined'}")


@app.command("join")
def join(
    in_: Annotated[Path, typer.Option("--in", help="Folder with clean impressions and clicks.")],
    out: Annotated[Path, typer.Option(help="Parquet to write.")],
    json_: Json = False,
) -> None:
    """Join impressions with clicks: exactly one labelled row per impression.

    Example: tidegate events join --in events/clean --out samples.parquet
    """
    from tidegate_components.events.join import join_samples

    with speaking():
        rows = join_samples(in_, out)
        print_json({"rows": rows, "out": str(out)}) if json_ else typer.echo(f"wrote {rows} rows to {out}")
