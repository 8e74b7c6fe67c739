"""`tidegate features list | show | lineage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate_pipelines.terminal import Json, print_json, speaking

__all__ = ["app"]

app = typer.Typer()

ViewsFolder = Annotated[Path, typer.Option(help="Folder with FeatureView files, or one file.")]


@app.command("list")
def list_(
    views: ViewsFolder = Path("manifests/examples"),
    search: Annotated[
        str, typer.Argument(help="Words in name, description, owner, tags or features; all must match.")
    ] = "",
    owner: Annotated[str, typer.Option(help="Only views of this owner.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Only views with this tag; as often as needed.")] = None,
    json_: Json = False,
) -> None:
    """List feature views, or search them.

    Example: tidegate features list clicks --tag user --views manifests/examples

    Exit codes: 0 listed, also where none is found, 2 bad input.
    """
    from tidegate_components.features.browse import search as find
    from tidegate_components.features.source import load_views

    with speaking():
        found = find(load_views(views), search, owner, tag or [])
        if json_:
            print_json(found)
        else:
            for view in found:
                head = f"{view['name']:<24}{view['entity']:<14}{view['owner']:<12}{len(view['features']):>3} features"
                typer.echo(f"{head}  {view['description']}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The view's name.")],
    views: ViewsFolder = Path("manifests/examples"),
    json_: Json = False,
) -> None:
    """Show one feature view: keys, source, and how each feature is computed.

    Example: tidegate features show user-activity --views manifests/examples

    Exit codes: 0 shown, 2 bad input.
    """
    from tidegate_components.features.browse import describe, named
    from tidegate_components.features.source import load_views

    with speaking():
        found = describe(named(load_views(views), name))
        if json_:
            print_json(found)
            return
        for key in (
            "name",
            "description",
            "owner",
            "tags",
            "entity",
            "keys",
            "source",
            "ttl",
            "schemaHash",
            "transformHash",
        ):
            typer.echo(f"{key:<16}{', '.join(found[key]) if isinstance(found[key], list) else found[key]}")
        for feature in found["features"]:
            typer.echo(
                f"  {feature['name']:<24} {feature['type']:<9} {feature['computed']:<50} {feature['description']}"
            )


@app.command("lineage")
def lineage(
    name: Annotated[str, typer.Argument(help="The view's name.")],
    views: ViewsFolder = Path("manifests/examples"),
    mlflow_uri: Annotated[str, typer.Option(help="Registry; default: MLFLOW_TRACKING_URI.")] = "",
    json_: Json = False,
) -> None:
    """Show what a view is made of and which registered models read it.

    Example: tidegate features lineage user-activity --mlflow-uri http://localhost:5000

    Exit codes: 0 shown, 1 the registry does not answer, 2 bad input.
    """
    from dataclasses import asdict

    from tidegate_components.features.browse import describe, named
    from tidegate_components.features.source import load_views
    from tidegate_components.registry.mlflow_registry import readers, tracking_uri

    with speaking():
        view = describe(named(load_views(views), name))
        models = [asdict(one) for one in readers(tracking_uri(mlflow_uri), name)]
        if json_:
            print_json({"source": view["source"], "view": name, "schemaHash": view["schemaHash"], "models": models})
            return
        typer.echo(f"{view['source']}\n  -> {name} (schema {view['schemaHash'][:12]})")
        for line in [_reader(one, view["schemaHash"]) for one in models] or ["no registered model"]:
            typer.echo(f"       -> {line}")


def _reader(one: dict[str, str], schema_hash: str) -> str:
    alias = f" ({one['alias']})" if one["alias"] else ""
    other = "" if one["schema_hash"] == schema_hash else f", made for another schema {one['schema_hash'][:12]}"
    return f"{one['model']} version {one['version']}{alias}{other}"
