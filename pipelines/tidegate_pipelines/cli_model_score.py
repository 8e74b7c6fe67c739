"""`tidegate model score`: batch scoring over Parquet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_pipelines.terminal import Json, print_json, progress, speaking

if TYPE_CHECKING:
    from tidegate_components.packaging.batch import Progress

__all__ = ["app"]

app = typer.Typer()

_EVERY_S = 2.0


@app.command("score")
def score(  # noqa: PLR0913, PLR0917 - the options are the command's public form
    package: Annotated[Path, typer.Option(help="Package folder; it is verified first.")],
    in_: Annotated[Path, typer.Option("--in", help="Parquet file or folder with the columns that the model reads.")],
    out: Annotated[Path, typer.Option(help="Parquet file or folder that is written.")],
    key: Annotated[Path | None, typer.Option(help="Public key (PEM) that must have signed the package.")] = None,
    digest: Annotated[str | None, typer.Option(help="sha256:HEX that the package must have.")] = None,
    score_column: Annotated[str, typer.Option(help="Name of the column with the scores.")] = "score",
    columns: Annotated[str, typer.Option(help="Input columns to keep, e.g. user_id,item_id; default: all.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the model.")] = 1,
    json_: Json = False,
) -> None:
    """Score every row of Parquet by a package: rows and their order are kept, a column with the score is added.

    A run that was killed goes on where it was when it is started again; parts lie in .OUT.parts until the whole is
    there, and the whole appears by a rename. Rows that an earlier run has scored with the same package are taken over.

    Example: tidegate model score --package ./package --in day.parquet --out scores.parquet --columns user_id,item_id

    Exit codes: 0 scored, 1 failed, 2 refused: a package that is not whole, a column that lacks.
    """
    from tidegate_components.packaging.batch import Form, score_files
    from tidegate_components.packaging.score import open_package

    with speaking():
        model = open_package(package, digest, key, threads)
        kept = tuple(name.strip() for name in columns.split(",") if name.strip()) or None
        done = score_files(model, in_, out, Form(score_column, kept), _telling())
        if json_:
            print_json({**asdict(done), "rowsPerSecond": done.rate, "out": str(out), "package": model.digest})
            return
        again = f", {done.reused:,} of them by an earlier run" if done.reused else ""
        typer.echo(f"{out}: {done.rows:,} rows{again}, {done.seconds:.1f} s, {done.rate:,.0f} rows/s")


def _telling() -> Callable[[Progress], None]:
    """A line every two seconds."""
    last = time.monotonic()

    def tell(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            progress(f"{now.rows:,} of {now.total:,} rows, {now.rows / max(now.seconds, 1e-9):,.0f} rows/s")

    return tell
