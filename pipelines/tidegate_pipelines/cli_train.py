"""`tidegate train`: a model from Parquet files and one configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate_pipelines.terminal import Json, print_json, progress, shown, speaking

__all__ = ["train"]


def train(  # noqa: PLR0913, PLR0917 - the options of a public command
    config: Annotated[Path, typer.Option(help="YAML: model, inputs, training (docs/training.md).")],
    train: Annotated[
        str, typer.Option(help="Training rows: a Parquet file, folder or glob; a path or pvc://CLAIM/PATH.")
    ],
    valid: Annotated[str, typer.Option(help="Rows that choose when to stop, later than the training rows.")],
    out: Annotated[str, typer.Option(help="Folder of the run: model/, metrics.json, sample.parquet, checkpoints/.")],
    launcher: Annotated[str, typer.Option(help="local, torchrun, horovod or trainjob.")] = "local",
    nproc: Annotated[int, typer.Option(min=1, help="Ranks of torchrun or horovod; of each pod of a TrainJob.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="How often torchrun starts the ranks again, from the newest checkpoint.")
    ] = 0,
    start: Annotated[
        str | None, typer.Option("--from", help="Update this run (or its model/) by the rows of --train.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Column of the validation rows for predictions.parquet, such as user_id for --group."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="TrainJob: pods.")] = 1,
    namespace: Annotated[
        str, typer.Option(help="TrainJob: namespace; that of the kubeconfig's context if empty.")
    ] = "",
    resources: Annotated[str, typer.Option(help="TrainJob: of each pod, such as cpu=8,memory=32Gi.")] = "",
    deadline_s: Annotated[int, typer.Option(min=1, help="TrainJob: seconds until it is given up.")] = 86_400,
    json_: Json = False,
) -> None:
    """Train a model; writes metrics.json (examples per second, peak memory, metrics), the model and checkpoints.

    Exit codes: 0 ok, 1 a rank failed, 2 bad input.

    Example: tidegate train --config deepfm.yaml --train days/ --valid today.parquet --out run --launcher torchrun
    """
    from tidegate_components.models.config import read_config
    from tidegate_components.storage import resolve
    from tidegate_components.training.launch import Site, launch, parse_resources
    from tidegate_components.training.run import Order

    with speaking():
        paths = resolve(train), resolve(valid), resolve(out), resolve(start) if start else None
        order = Order(read_config(config), *paths, resume, max_restarts, tuple(keep or ()))
        site = Site(nodes, namespace, parse_resources(resources), deadline_s)
        figures = launch(order, launcher, nproc, progress, site)
        if json_:
            print_json(figures)
            return
        scored = f"AUC {shown(figures['auc'], 5)}, LogLoss {shown(figures['logloss'], 5)}"
        spent = f"{figures['examples_per_second']:,.0f} examples/s, {figures['peak_memory_bytes'] / 2**30:.2f} GiB"
        typer.echo(f"{scored} on the validation set after {figures['epochs']} epochs; {spent}; {out}")
