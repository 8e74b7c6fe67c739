"""`tidegate pipeline`: list, compile, run on this machine, submit to a KFP server."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate_pipelines.catalogue import PIPELINES, compile_pipeline, parse_params
from tidegate_pipelines.local_run import Progress, RunResult, run_local
from tidegate_pipelines.terminal import FAILED, Json, print_json, speaking

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Pipeline, e.g. ctr_training.")]
Params = Annotated[list[str] | None, typer.Option("--param", help="NAME=VALUE, as often as needed.")]
Registry = Annotated[
    str, typer.Option(envvar="TIDEGATE_IMAGE_REGISTRY", help="Registry that the steps' images are pulled from.")
]
Tag = Annotated[str, typer.Option(envvar="TIDEGATE_IMAGE_TAG", help="Their tag; default: a hash of the code.")]


_JSON = ("metrics", "registered", "best")
"""Outputs that are JSON in a text."""


@app.command("list")
def list_pipelines(json_: Json = False) -> None:
    """List the pipelines."""
    if json_:
        print_json(PIPELINES)
        return
    for name, line in PIPELINES.items():
        typer.echo(f"{name}  {line}")


@app.command("compile")
def compile_(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file to write.")],
    image_registry: Registry = "",
    image_tag: Tag = "",
) -> None:
    """Compile a pipeline to the YAML that a KFP server takes; says which images must be there.

    Example: tidegate pipeline compile ctr_training -o ctr.yaml --image-registry registry.example.com/ml --image-tag 1.2
    """
    with speaking():
        _choose_images(image_registry, image_tag)
        compiled = compile_pipeline(name, output)
        typer.echo(f"wrote {compiled.file}: {len(compiled.titles)} steps, parameters {', '.join(compiled.params)}")
        typer.echo(f"images {', '.join(compiled.images)}")


def _choose_images(registry: str, tag: str) -> None:
    """The steps read these when they are imported."""
    os.environ.update({"TIDEGATE_IMAGE_REGISTRY": registry, **({"TIDEGATE_IMAGE_TAG": tag} if tag else {})})


@app.command("run")
def run(
    name: Name,
    param: Params = None,
    root: Annotated[Path, typer.Option(help="Folder for outputs, cache and log.")] = Path("local_outputs"),
    json_: Json = False,
) -> None:
    """Run a pipeline on this machine, by kfp.local, with caching.

    Without mlflow_uri (and MLFLOW_TRACKING_URI) the registry is a sqlite file under --root.

    Example: tidegate pipeline run ctr_training --param epochs=6 --param mlflow_uri=http://127.0.0.1:5000
    """
    with speaking():
        compiled = compile_pipeline(name, root.absolute() / "compiled" / f"{name}.yaml")
        arguments = parse_params(param or [], compiled)
    with speaking(FAILED):
        if not arguments.get("mlflow_uri"):
            arguments["mlflow_uri"] = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.absolute()}/mlflow.db"
        result = run_local(compiled, arguments, root, lambda step: None if json_ else _tell(step))
        _show(result, arguments, json_)


def _tell(step: Progress) -> None:
    mark = {"done": "✓", "cached": "·", "failed": "✗"}[step.state]
    seconds = f"{step.seconds:6.1f} s" if step.state != "cached" else "  cached"
    typer.echo(f"  {mark} {step.title:<26}{seconds}")


def _show(result: RunResult, arguments: dict[str, Any], json_: bool) -> None:
    told: dict[str, Any] = {key: json.loads(result.outputs[key]) for key in _JSON if key in result.outputs}
    outputs: dict[str, Any] = {**result.outputs, **told}
    if json_:
        print_json({**outputs, "steps": [asdict(step) for step in result.steps], "log": str(result.log)})
        return
    _show_best(outputs["best"]) if "best" in outputs else _show_training(outputs, arguments)
    typer.echo(f"log        {result.log}")


def _show_best(best: dict[str, Any]) -> None:
    typer.echo(f"trial {best['number']} is the best: {best['value']:.5f} after {best['epochs']} epochs")
    for path, value in best["settings"].items():
        typer.echo(f"  {path:<26} {value}")


def _show_training(outputs: dict[str, Any], arguments: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{arguments.get('model_name', 'ctr-ranker')}: test set, the last fifth of the time")
    table.add_column("metric")
    for contender in outputs["metrics"]:
        table.add_column(contender.replace("_", " "), justify="right")
    for metric in next(iter(outputs["metrics"].values())):
        table.add_row(metric, *(f"{values[metric]:.4f}" for values in outputs["metrics"].values()))
    Console().print(table)
    version = outputs["registered"]
    typer.echo(outputs["verdict"])
    typer.echo(f"registered {version['name']} version {version['version']}, {version['digest']}")
    typer.echo(f"report     {outputs['report']}\nmanifest   {outputs['deployed']}")


@app.command("submit")
def submit(  # noqa: PLR0913, PLR0917 - each is an option
    name: Name,
    host: Annotated[str, typer.Option(help="Address of the KFP API, e.g. http://localhost:8080/pipeline.")],
    param: Params = None,
    experiment: Annotated[str, typer.Option(help="KFP experiment.")] = "tidegate",
    image_registry: Registry = "",
    image_tag: Tag = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Until the run has ended; tells of each step that does.")
    ] = False,
    json_: Json = False,
) -> None:
    """Submit a pipeline to a KFP server.

    Exit codes: 0 submitted (with --wait: succeeded), 1 the server does not answer or the run failed, 2 bad input.

    Example: tidegate pipeline submit ctr_training --host http://localhost:8080 --param mlflow_uri=http://mlflow:5000
    """
    import tempfile

    from tidegate_pipelines.remote_run import Server

    with tempfile.TemporaryDirectory() as folder:
        with speaking():
            _choose_images(image_registry, image_tag)
            compiled = compile_pipeline(name, Path(folder) / f"{name}.yaml")
            arguments = parse_params(param or [], compiled)
        with speaking(FAILED):
            server = Server(host)
            run_id = server.submit(compiled, arguments, experiment)
            if not json_:
                typer.echo(f"submitted run {run_id}: {server.page(run_id)}")
            steps = server.follow(run_id, compiled.titles, lambda s: None if json_ else _tell(s)) if wait else []
            if json_:
                print_json({"run": run_id, "host": host, "steps": [asdict(step) for step in steps]})
