"""`tidegate model register | list | show | diff | promote | rollback | archive | lineage`: the registry in MLflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_api.errors import TidegateError
from tidegate_pipelines.terminal import Json, print_json, speaking

if TYPE_CHECKING:
    from tidegate_components.registry.lineage import Lineage, View
    from tidegate_components.registry.versions import Difference, Version

__all__ = ["app"]

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The registered model.")]
Reference = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version's number, @ALIAS, or sha256:HEX of its package.")
]
Registry = Annotated[str, typer.Option("--mlflow-uri", help="Registry; default: MLFLOW_TRACKING_URI.")]

_TOLD = ("auc", "gauc", "logloss", "calibration")
"""Metrics that a list has room for."""


@app.command("register")
def register(
    package: Annotated[Path, typer.Argument(help="Package folder; it is verified first.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the training run, for its parameters.")] = None,
    mlflow_uri: Registry = "",
    json_: Json = False,
) -> None:
    """Register a package as a version, with its metrics, report and signature, and point challenger at it.

    A package is registered once, by its digest; a second time only the alias moves.

    Example: tidegate model register ./package --run runs/1

    Exit codes: 0 registered, 1 the registry does not answer, 2 a package that is not whole.
    """
    from tidegate_components.packaging.run_folder import read_settings
    from tidegate_components.packaging.verify import verify_package
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.mlflow_registry import register as register_package
    from tidegate_components.registry.versions import CHALLENGER

    with speaking():
        found, params = verify_package(package), read_settings(run) if run else {}
        metrics = found.manifest.metrics
        done = register_package(tracking_uri(mlflow_uri), package, found.digest, CHALLENGER, params, metrics)
        said = f"{done.name} version {done.version} is challenger, {done.digest}"
        print_json(asdict(done)) if json_ else typer.echo(said)


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(help="The registered model; default: all.")] = "",
    mlflow_uri: Registry = "",
    json_: Json = False,
) -> None:
    """List registered versions, newest first, with status, aliases and metrics.

    Example: tidegate model list ctr-ranker --mlflow-uri http://localhost:5000

    Exit codes: 0 listed, 1 the registry does not answer, 2 no such model.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.versions import list_versions

    with speaking():
        found = list_versions(tracking_uri(mlflow_uri), name)
        if json_:
            print_json([asdict(one) for one in found])
            return
        if not found:
            typer.echo("no version is registered; `tidegate pipeline run ctr_training` registers one")
            return
        _show_versions(found)


def _show_versions(found: list[Version]) -> None:
    """Metrics that no version has take no column."""
    told = [name for name in _TOLD if any(name in one.metrics for one in found)]
    rows = [
        (one.name, one.version, one.status, ", ".join(one.aliases) or "-",
         *(f"{one.metrics[name]:.4f}" if name in one.metrics else "-" for name in told),
         f"{one.created:%Y-%m-%d}", one.digest.removeprefix("sha256:")[:12] or "-")
        for one in found
    ]  # fmt: skip
    _table(("MODEL", "VERSION", "STATUS", "ALIASES", *(name.upper() for name in told), "CREATED", "DIGEST"), rows)


@app.command("show")
def show(name: Name, version: Reference, mlflow_uri: Registry = "", json_: Json = False) -> None:
    """Show one version: status, package, training data, code, feature views, metrics, parameters.

    Example: tidegate model show ctr-ranker @champion

    Exit codes: 0 shown, 1 the registry does not answer, 2 no such version.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.versions import find

    with speaking():
        found = find(tracking_uri(mlflow_uri), name, version)
        if json_:
            print_json(asdict(found))
            return
        facts = {
            "model": f"{found.name} version {found.version}", "status": found.status,
            "aliases": ", ".join(found.aliases) or "-", "created": f"{found.created:%Y-%m-%d %H:%M:%S}Z",
            "package": found.digest or "-", "address": found.package_uri or "-",
            "signed": "yes" if found.signed else "no",
            "training data": found.data_digest or "-", "code version": found.code_version or "-",
            "run": f"{found.run or '-'} (MLflow {found.run_id or '-'})",
            "last rollout": f"{found.outcome}: {found.message}" if found.outcome else "-",
        }  # fmt: skip
        _lines(facts)
        _part("feature views", {view: schema[:12] for view, schema in found.feature_views.items()})
        _part("metrics", {metric: f"{value:.6g}" for metric, value in sorted(found.metrics.items())})
        _part("parameters", dict(sorted(found.params.items())))


@app.command("diff")
def diff(
    name: Name,
    first: Annotated[str, typer.Argument(metavar="A", help="A version, @ALIAS or sha256:HEX.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    mlflow_uri: Registry = "",
    json_: Json = False,
) -> None:
    """Compare two versions: metrics, parameters, feature views, training data. Equal values are left out.

    Example: tidegate model diff ctr-ranker @champion @challenger

    Exit codes: 0 compared, 1 the registry does not answer, 2 no such version.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.versions import side_by_side

    with speaking():
        found = side_by_side(tracking_uri(mlflow_uri), name, first, second)
        if json_:
            print_json(asdict(found))
            return
        rows = list(_differences(found))
        _table(("WHAT", first, second, "CHANGE"), rows) if rows else typer.echo(f"{first} and {second} are the same")


def _differences(found: Difference) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (name, _number(a), _number(b), _change(a, b)) for name, (a, b) in found.metrics.items()
    ]
    rows += [(name, _cut(a or "-", 40), _cut(b or "-", 40), "") for name, (a, b) in found.params.items()]
    rows += [(f"view {name}", (a or "-")[:12], (b or "-")[:12], "") for name, (a, b) in found.feature_views.items()]
    return rows + [
        (name.replace("_", " "), (a or "-")[:19], (b or "-")[:19], "") for name, (a, b) in found.facts.items()
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _change(a: float | None, b: float | None) -> str:
    return "" if a is None or b is None else f"{b - a:+.4g}"


@app.command("promote")
def promote(name: Name, version: Reference, mlflow_uri: Registry = "", json_: Json = False) -> None:
    """Point the alias challenger at a version: the operator rolls it out, and moves champion if it proves itself.

    An earlier version is rolled back to in the same way. champion is never moved from here.

    Example: tidegate model promote ctr-ranker 7

    Exit codes: 0 promoted, 1 the registry does not answer, 2 no such version, or one without a package.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.status import promote as promote_version

    with speaking():
        _say_promoted(promote_version(tracking_uri(mlflow_uri), name, version), json_)


@app.command("rollback")
def rollback(name: Name, mlflow_uri: Registry = "", json_: Json = False) -> None:
    """Point the alias challenger at the version before the champion that a rollout had promoted.

    Example: tidegate model rollback ctr-ranker

    Exit codes: 0 pointed, 1 the registry does not answer, 2 there is no earlier one.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.status import roll_back

    with speaking():
        _say_promoted(roll_back(tracking_uri(mlflow_uri), name), json_)


def _say_promoted(found: Version, json_: bool) -> None:
    if json_:
        print_json(asdict(found))
    else:
        typer.echo(f"challenger of {found.name} is version {found.version} ({found.status}), {found.digest}")


@app.command("archive")
def archive(name: Name, version: Reference, mlflow_uri: Registry = "", json_: Json = False) -> None:
    """Mark a version as archived. It stays in the registry; promote brings it back.

    A version that an alias names is refused, with what to do first.

    Example: tidegate model archive ctr-ranker 3

    Exit codes: 0 archived, 1 the registry does not answer, 2 refused, or no such version.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.status import archive as archive_version

    with speaking():
        found = archive_version(tracking_uri(mlflow_uri), name, version)
        print_json(asdict(found)) if json_ else typer.echo(f"version {found.version} of {found.name} is {found.status}")


@app.command("lineage")
def lineage(
    name: Annotated[str, typer.Argument(help="The registered model; left out with --predictions.")] = "",
    version: Annotated[str, typer.Argument(help="A version's number, @ALIAS, or sha256:HEX of its package.")] = "",
    predictions: Annotated[Path | None, typer.Option(help="Parquet that `tidegate model score` wrote.")] = None,
    views: Annotated[Path | None, typer.Option(help="Folder with today's FeatureViews, for their sources.")] = None,
    mlflow_uri: Registry = "",
    json_: Json = False,
) -> None:
    """Go from a prediction, or a version, back to the events: package, training data, run, feature views, sources.

    Example: tidegate model lineage --predictions scores.parquet --views manifests/examples

    Exit codes: 0 shown, 1 the registry does not answer, 2 no such version.
    """
    from tidegate_components.registry.connection import tracking_uri
    from tidegate_components.registry.lineage import lineage as trace

    with speaking():
        if predictions:
            name, version = _scored(predictions)
        elif not (name and version):
            raise _unnamed()
        found = trace(tracking_uri(mlflow_uri), name, version, _views(views))
        print_json(asdict(found)) if json_ else _show_lineage(found, predictions)


def _scored(predictions: Path) -> tuple[str, str]:
    """Model and package digest that a file of scores, or a folder of them, names."""
    from tidegate_components.packaging.batch import scored_by
    from tidegate_components.storage import parquet_files

    said = [scored_by(path) for path in parquet_files(predictions)[:1]]
    if not said or "package" not in said[0]:
        raise TidegateError(
            resource=f"predictions {predictions}", field="metadata", value="no word of a package",
            expected="Parquet that `tidegate model score` wrote", remedy="name model and version instead",
        )  # fmt: skip
    return said[0]["model"], said[0]["package"]


def _unnamed() -> TidegateError:
    return TidegateError(
        resource="model lineage", field="arguments", value="neither a version nor predictions",
        expected="NAME VERSION, or --predictions FILE", remedy="e.g. tidegate model lineage ctr-ranker @champion",
    )  # fmt: skip


def _views(folder: Path | None) -> dict[str, View]:
    from tidegate_components.features.source import load_views
    from tidegate_components.registry.lineage import View

    found = load_views(folder) if folder else []
    return {view.metadata.name: View(view.schema_hash, view.spec.source.address) for view in found}


def _show_lineage(found: Lineage, predictions: Path | None) -> None:
    version = found.version
    steps = [f"predictions     {predictions}"] if predictions else []
    steps += [
        f"model           {version.name} version {version.version} ({version.status})",
        f"package         {version.digest}{' (signed)' if version.signed else ''}",
        f"training data   {version.data_digest}",
        f"run             {version.run} (MLflow {version.run_id}), code {version.code_version}",
    ]
    for depth, step in enumerate(steps):
        typer.echo(f"{'  ' * depth}{'<- ' if depth else ''}{step}")
    for view in found.views:
        today = {None: "", True: ", as it is today", False: ", which has changed since"}[view.unchanged]
        typer.echo(f"{'  ' * len(steps)}<- view {view.name} (schema {view.schema_hash[:12]}{today})")
        if view.source:
            typer.echo(f"{'  ' * (len(steps) + 1)}<- events {view.source}")


def _lines(facts: dict[str, str]) -> None:
    for key, value in facts.items():
        typer.echo(f"{key:<16}{value}")


def _part(title: str, values: dict[str, str]) -> None:
    if values:
        width = max(map(len, values)) + 2
        typer.echo("\n".join([title, *(f"  {key:<{width}}{_cut(value, 100)}" for key, value in values.items())]))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On a terminal a table as wide as it is; in a pipe a line for each row, never broken."""
    if not sys.stdout.isatty():
        lines = [columns, *rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
        for line in lines:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    Console().print(table)
