"""`tidegate tune`: search for settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate_pipelines.terminal import FAILED, Json, print_json, progress, speaking

if TYPE_CHECKING:
    from tidegate_components.training.tuning import Search, Trial

__all__ = ["tune"]


def tune(  # noqa: PLR0913, PLR0917 - the options of a public command
    config: Annotated[
        Path, typer.Option(help="YAML of the run; its `data` says where the sets lie, if no option does.")
    ],
    space: Annotated[Path, typer.Option(help="YAML: setting by dotted path -> choices, or low and high.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials that the journal is to hold in the end.")],
    train: Annotated[Path | None, typer.Option(help="Training rows.")] = None,
    valid: Annotated[Path | None, typer.Option(help="Rows that judge a trial.")] = None,
    out: Annotated[Path, typer.Option(help="Folder: journal.jsonl (to go on with), trials.json, best.yaml.")] = Path(
        "tuning"
    ),
    metric: Annotated[str, typer.Option(help="logloss or auc, on the validation rows.")] = "logloss",
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time, each a process.")] = 1,
    mlflow_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="Where every trial is recorded.")] = "",
    json_: Json = False,
) -> None:
    """Search for the best settings with Optuna: trials that promise little are pruned, a broken search goes on.

    Every trial goes to MLflow where an address is given, the best settings onto the registered model.

    Exit codes: 0 ok, 1 no trial ended, 2 bad input.

    Example: tidegate tune --config deepfm.yaml --space space.yaml --trials 30 --jobs 2 --out tuning
    """
    from tidegate_components.training.run import prepare_process

    prepare_process()
    with speaking():
        wanted = _search(config, space, (train, valid), out, metric)
        from tidegate_components.training.tuning import best_config, search

        found = search(wanted, trials, jobs, lambda trial: progress(_line(trial, metric)))
        best = found[0]
        if best.value is None or best.state != "complete":
            progress("tidegate: no trial ended; see the messages above")
            raise typer.Exit(FAILED)
        best_config(wanted, best)
        if mlflow_uri:
            _record(mlflow_uri, wanted, found)
        report = {"best": asdict(best), "trials": [asdict(trial) for trial in found], "config": str(out / "best.yaml")}
        print_json(report) if json_ else typer.echo(f"best: {_line(best, metric)}; {out / 'best.yaml'}")


def _search(config: Path, space: Path, sets: tuple[Path | None, Path | None], out: Path, metric: str) -> Search:
    from tidegate_components.models.config import ConfigError, read_config
    from tidegate_components.training.tuning import Search, read_space

    said = read_config(config)
    train = sets[0] or (said.data.train if said.data else None)
    valid = sets[1] or (said.data.valid if said.data else None)
    if train is None or valid is None:
        raise ConfigError(
            resource=f"training configuration {config.name}", field="data", value=None,
            expected="where the training and validation rows lie", remedy="say it there, or give --train and --valid",
        )  # fmt: skip
    if metric not in {"logloss", "auc"}:
        raise ConfigError(
            resource="tidegate tune", field="metric", value=metric, expected="logloss or auc", remedy="correct --metric"
        )
    return Search(said, read_space(space, said), train, valid, out, metric)


def _line(trial: Trial, metric: str) -> str:
    value = f"{metric} {trial.value:.5f}" if trial.value is not None else trial.state
    settings = ", ".join(f"{path.rpartition('.')[2]}={_short(one)}" for path, one in trial.settings.items())
    return f"trial {trial.number}: {value} after {trial.epochs} epochs ({settings})"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _record(uri: str, wanted: Search, found: list[Trial]) -> None:
    from tidegate_components.registry.trials import log_best, log_trial, open_search

    model = wanted.config.name
    parent = open_search(uri, model, str(wanted.out.resolve()))
    for trial in found:
        figures = {"epochs": float(trial.epochs), "seconds": trial.seconds}
        figures |= {wanted.metric: trial.value} if trial.value is not None else {}
        log_trial(uri, parent, trial.number, trial.state, trial.settings, figures)
    assert found[0].value is not None  # noqa: S101 - the caller saw to it
    log_best(uri, parent, model, found[0].settings, wanted.metric, found[0].value)
