"""Trials of a search in MLflow: a run for the search, one below it for each trial, the best settings on the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate_components.registry.connection import connected, tracking_uri
from tidegate_components.registry.mlflow_registry import ensure_model, experiment_of

__all__ = ["log_best", "log_search", "log_trial", "open_search"]

BEST_TAG = "tidegate.best_settings"


def open_search(uri: str, model: str, name: str) -> str:
    """The run of the search `name` of a model, made where it is not there yet; returns its id."""
    with connected(uri) as client:
        where = experiment_of(client, uri, f"{model}-tuning")
        found = client.search_runs([where], f"tags.tidegate.search = '{name}'", max_results=1)
        run = found[0] if found else client.create_run(where, run_name=name, tags={"tidegate.search": name})
        return str(run.info.run_id)


def log_trial(
    uri: str, parent: str, number: int, state: str, settings: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """One trial below the run of its search; one that is there already is left as it is."""
    with connected(uri) as client:
        experiment = client.get_run(parent).info.experiment_id
        known = f"tags.mlflow.parentRunId = '{parent}' and tags.tidegate.trial = '{number}'"
        if client.search_runs([experiment], known, max_results=1):
            return
        tags = {"mlflow.parentRunId": parent, "tidegate.trial": str(number), "tidegate.state": state}
        run = client.create_run(experiment, run_name=f"trial {number}", tags=tags).info.run_id
        for key, value in settings.items():
            client.log_param(run, key, value)
        for key, number_ in metrics.items():
            client.log_metric(run, key, number_)
        client.set_terminated(run, "FINISHED" if state == "complete" else "KILLED" if state == "pruned" else "FAILED")


def log_best(uri: str, parent: str, model: str, settings: Mapping[str, Any], metric: str, value: float) -> None:
    """The best settings on the run of the search, and as tag of the registered model."""
    with connected(uri) as client:
        client.set_tag(parent, BEST_TAG, json.dumps(dict(settings)))
        client.log_metric(parent, metric, value)
        client.set_terminated(parent)
        ensure_model(client, model)
        client.set_registered_model_tag(model, BEST_TAG, json.dumps(dict(settings)))


def log_search(uri: str, model: str, name: str, trials: Sequence[Mapping[str, Any]], metric: str) -> None:
    """A whole search, best trial first: each trial (fields of training.tuning.Trial) and the best settings.

    An empty `uri` is that of the environment. Logging it again changes nothing.
    """
    uri = tracking_uri(uri)
    parent = open_search(uri, model, name)
    for trial in trials:
        figures = {"epochs": float(trial["epochs"]), "seconds": trial["seconds"]}
        figures |= {metric: trial["value"]} if trial["value"] is not None else {}
        log_trial(uri, parent, trial["number"], trial["state"], trial["settings"], figures)
    log_best(uri, parent, model, trials[0]["settings"], metric, trials[0]["value"])
