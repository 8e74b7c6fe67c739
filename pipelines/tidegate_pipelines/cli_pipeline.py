"""`tidegate pipeline`: list, compile, run on this machine, submit to a KFP server."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
def submit(
    name: Name,
    host: Annotated[str, typer.Option(help="Address of the KFP API, e.g. http://localhost:8080/pipeline.")],
    param: Params = None,
    experiment: Annotated[str, typer.Option(help="KFP experiment.")] = "tidegate",
    image_registry: Registry = "",
    image_tag: Tag = "",
    json_: Json = False,
) -> None:
    """Submit a pipeline to a KFP server.

    Example: tidegate pipeline submit ctr_training --host http://localhost:8080 --param mlflow_uri=http://mlflow:5000
    """
    import tempfile

    with speaking(), tempfile.TemporaryDirectory() as folder:
        _choose_images(image_registry, image_tag)
        compiled = compile_pipeline(name, Path(folder) / f"{name}.yaml")
        run_id = _submit(compiled.file, host, parse_params(param or [], compiled), experiment)
        print_json({"run": run_id, "host": host}) if json_ else typer.echo(f"submitted run {run_id} to {host}")


def _submit(file: Path, host: str, arguments: dict[str, Any], experiment: str) -> str:
    import kfp
    from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]
    from urllib3.exceptions import HTTPError

    from tidegate_pipelines.catalogue import ServerError

    try:
        with _silent():
            client = kfp.Client(host=host)
            done = client.create_run_from_pipeline_package(str(file), arguments=arguments, experiment_name=experiment)
    except (ApiException, HTTPError, OSError) as error:
        raise ServerError(
            resource="KFP server", field="host", value=host, expected=f"an API that answers ({str(error)[:300]})",
            remedy="check the address, e.g. with a port-forward to ml-pipeline-ui",
        ) from error  # fmt: skip
    return str(done.run_id)


@contextmanager
def _silent() -> Iterator[None]:
    """KFP's client warns of its own age, and logs a traceback for each of five looks at a server's health."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
