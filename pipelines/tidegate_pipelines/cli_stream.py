"""`tidegate features stream`: keep a view over a Kafka topic current in the online store."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_pipelines.online import Online, open_online
from tidegate_pipelines.terminal import Json, progress, speaking

if TYPE_CHECKING:
    from tidegate_components.features.stream_progress import Progress

__all__ = ["app"]

app = typer.Typer()


@app.command("stream")
def stream(
    view: Annotated[Path, typer.Argument(help="FeatureView YAML file with source.kafka.")],
    online: Online = "",
    state: Annotated[
        Path | None, typer.Option(help="Folder of the state; a lost one is filled again from Kafka. Default: cache.")
    ] = None,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="Serve Prometheus metrics; 0: do not.")] = 0,
    settle: Annotated[
        str, typer.Option(help="How long after its timestamp a message may come in; values are as of so long ago.")
    ] = "500ms",
    until_idle: Annotated[str, typer.Option(help="End when nothing has come for so long, e.g. 5s.")] = "",
    json_: Json = False,
) -> None:
    """Keep the values of a view over a Kafka topic current in the online store, until SIGTERM.

    Messages are JSON objects keyed by the entity (its joinKeys as text, by commas); a topic of one partition needs no
    keys. Killed at any moment and started again it goes on where it was, and each event counts once. Broken messages
    are counted by reason and the first of each are told on stderr. Every 10 s a line says how it stands; with --json
    it is one JSON object on stdout. One stream per view: a second one takes over.

    Example: tidegate features stream clicks.yaml --online redis://localhost:6379/0 --state /var/lib/tidegate

    Example: tidegate features stream clicks.yaml --metrics-port 9100 --json

    Example: tidegate features stream clicks.yaml --until-idle 5s

    Exit codes: 0 asked to stop or idle, 1 broker or store does not answer (run again), 2 bad view or topic.
    """
    from tidegate_components.features.source import load_view
    from tidegate_components.features.stream import Options, stream_view
    from tidegate_components.features.stream_progress import Progress, serve_metrics
    from tidegate_components.storage import cache_folder

    with speaking():
        found = load_view(view)
        idle = _length(until_idle, "--until-idle") if until_idle else None
        options = Options(state or cache_folder() / "streams", _length(settle, "--settle"), idle)
        counts = Progress(found.metadata.name)
        end = serve_metrics(counts, metrics_port) if metrics_port else None
        try:
            stream_view(found, open_online(found, online), options, counts, progress, lambda p: _show(p, json_))
        finally:
            if end:
                end()


def _show(counts: Progress, json_: bool) -> None:
    if json_:
        typer.echo(json.dumps(counts.to_json()))
    else:
        progress(counts.sentence())


def _length(text: str, option: str) -> timedelta:
    from tidegate_api.durations import parse_duration
    from tidegate_components.features.errors import BadFeaturesError

    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadFeaturesError(
            resource="features stream", field=option, value=text, expected="a number with ms, s, m or h, e.g. 5s",
            remedy="write the duration like that",
        ) from error  # fmt: skip
