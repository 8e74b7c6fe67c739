"""The components of the training DAG. Each body is one import and one call; KFP reads the signatures.

No `from __future__ import annotations` here: KFP needs the annotations as types.
"""
# mypy: disable-error-code="misc, untyped-decorator"
# ruff: noqa: PLR0913, PLR0917 - a component's parameters are its public form

import functools
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from tidegate_components.code_version import image

__all__ = [
    "choose",
    "clean",
    "deploy",
    "evaluate",
    "features",
    "gate",
    "ingest",
    "land",
    "look",
    "package",
    "read_champion",
    "register",
    "samples",
    "split",
    "suggest",
    "train",
    "trial",
    "validate",
]

_light = functools.partial(dsl.component, base_image=image("components"), install_kfp_package=False)
_heavy = functools.partial(dsl.component, base_image=image("training"), install_kfp_package=False)


@_light
def look(data: str, views: str) -> NamedTuple("Looked", [("data_version", str), ("views", str)]):  # type: ignore[valid-type]
    """Read the feature views and the version of the data."""
    from tidegate_components.steps import tasks

    found = tasks.look(data, views)
    return found.data_version, found.views


@_light
def ingest(data: str, data_version: str, newest_event: str, events: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Bring impressions, clicks, ratings and interactions into Parquet."""
    from tidegate_components.steps import tasks

    tasks.ingest_events(data, newest_event, events)


@_light
def clean(  # type: ignore[no-untyped-def]
    events: Input[Dataset], cleaned: Output[Dataset], quarantine: Output[Dataset], summary: Output[Markdown]
):
    """Quarantine what breaks the declared rules."""
    from tidegate_components.steps import tasks

    tasks.clean_events(events, cleaned, quarantine, summary)


@_light
def validate(cleaned: Input[Dataset], expectations: str, report: Output[HTML]):  # type: ignore[no-untyped-def]
    """Hold the clean tables against what is expected of them: a gate, with a report."""
    from tidegate_components.steps import tasks

    tasks.validate_events(cleaned, expectations, report)


@_light
def land(cleaned: Input[Dataset], lake: str) -> str:
    """Put the interaction log where the feature views read it."""
    from tidegate_components.steps import tasks

    return tasks.land_events(cleaned, lake)


@_light
def samples(cleaned: Input[Dataset], joined: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Join impressions with clicks: one row per impression."""
    from tidegate_components.steps import tasks

    tasks.join_samples(cleaned, joined)


@_light
def features(joined: Input[Dataset], views: str, lake: str, lake_digest: str, training_set: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Give each sample the views' features as of its time."""
    from tidegate_components.steps import tasks

    tasks.join_features(joined, views, lake, training_set)


@_light
def split(  # type: ignore[no-untyped-def]
    training_set: Input[Dataset], train_set: Output[Dataset], validation_set: Output[Dataset], test_set: Output[Dataset]
):
    """Cut by time: past, next, last."""
    from tidegate_components.steps import tasks

    tasks.split_samples(training_set, train_set, validation_set, test_set)


@_heavy
def train(  # type: ignore[no-untyped-def]
    train_set: Input[Dataset],
    validation_set: Input[Dataset],
    model: Output[Model],
    architecture: str,
    embedding_dim: int,
    hidden: str,
    epochs: int,
    learning_rate: float,
    seed: int,
):
    """Train Wide & Deep, DeepFM, DCN-V2 or DLRM on TorchRec embedding collections."""
    from tidegate_components.steps import tasks

    tasks.train_model(
        train_set,
        validation_set,
        model,
        {
            "model.name": architecture,
            "model.embedding_dim": embedding_dim,
            "model.hidden": hidden,
            "training.epochs": epochs,
            "training.learning_rate": learning_rate,
            "training.seed": seed,
        },
    )


@_heavy
def evaluate(
    model: Input[Model],
    train_set: Input[Dataset],
    validation_set: Input[Dataset],
    test_set: Input[Dataset],
    model_name: str,
    data_version: str,
    code: str,
    metrics: Output[Metrics],
    report: Output[HTML],
) -> str:
    """Judge the model next to popularity and logistic regression."""
    from tidegate_components.steps import tasks

    facts = {"data": data_version, "code": code}
    return tasks.evaluate_model(model, (train_set, validation_set, test_set), metrics, report, model_name, facts)


@_light
def read_champion(mlflow_uri: str, model_name: str) -> str:
    """Read the champion's metrics and the address of its package from the registry."""
    from tidegate_components.steps import tasks

    return tasks.read_champion(mlflow_uri, model_name)


@_heavy
def gate(
    metrics: str,
    champion: str,
    margin: float,
    model_name: str,
    verdict: Output[Markdown],
    model: Input[Model] = None,
    test_set: Input[Dataset] = None,
    mlflow_uri: str = "",
) -> str:
    """End the run where the challenger is not shown to rank as well as the champion, on the same test rows."""
    from tidegate_components.steps import tasks

    rows = (model, test_set) if model and test_set else None
    return tasks.gate_model(metrics, champion, margin, model_name, verdict, rows, mlflow_uri)


@_heavy
def package(
    model: Input[Model],
    train_set: Input[Dataset],
    test_set: Input[Dataset],
    report: Input[HTML],
    metrics: str,
    model_name: str,
    code: str,
    unknown_ids: str,
    sign_key: str,
    packaged: Output[Model],
) -> str:
    """Export ONNX, make the model package and sign it where a key is given."""
    from tidegate_components.steps import tasks

    facts = {"model_name": model_name, "code_version": code, "unknown_ids": unknown_ids}
    return tasks.package_trained(model, (train_set, test_set), report, packaged, metrics, facts, sign_key)


@_light
def register(packaged: Input[Model], model: Input[Model], digest: str, mlflow_uri: str, alias: str) -> str:
    """Record run and package in MLflow and point the alias at the version."""
    from tidegate_components.steps import tasks

    return tasks.register_package(mlflow_uri, packaged, model, digest, alias)


@_light
def deploy(
    registered: str,
    model_name: str,
    alias: str,
    deploy_to: str,
    namespace: str,
    apply: bool,
    manifest: Output[Artifact],
) -> str:
    """Write the ModelDeployment that follows the alias."""
    from tidegate_components.steps import tasks

    return tasks.deploy_model((deploy_to, namespace), model_name, alias, apply, manifest)


@_heavy
def suggest(config: str, space: str, trials: int, train: str, valid: str, metric: str, seed: int) -> list[str]:
    """Draw the settings of every trial."""
    from tidegate_components.steps import tasks

    return tasks.suggest_settings(config, space, trials, (train, valid), metric, seed)


@_heavy
def trial(suggested: str, train: str, valid: str, metric: str) -> str:
    """Train with one trial's settings; its figure on the validation rows."""
    from tidegate_components.steps import tasks

    return tasks.try_settings(suggested, (train, valid), metric)


@_heavy
def choose(
    suggested: list[str],
    trials: list[str],
    metric: str,
    mlflow_uri: str,
    table: Output[Markdown],
    best: Output[Artifact],
) -> str:
    """Record every trial in MLflow and give back the best."""
    from tidegate_components.steps import tasks

    return tasks.choose_settings(suggested, trials, metric, mlflow_uri, table, best)
