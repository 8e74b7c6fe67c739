"""What each component calls: KFP artifacts in, one room's function, artifacts filled. It imports no kfp.

An artifact is anything with `path`, `metadata` and, for metrics, `log_metric`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidegate_components.storage import content_digest, resolve

if TYPE_CHECKING:
    from tidegate_components.training.tuning import Trial

__all__ = [
    "Artifact",
    "Looked",
    "MetricsArtifact",
    "choose_settings",
    "clean_events",
    "deploy_model",
    "evaluate_model",
    "gate_model",
    "ingest_events",
    "join_features",
    "join_samples",
    "land_events",
    "look",
    "package_trained",
    "read_champion",
    "register_package",
    "split_samples",
    "suggest_settings",
    "train_model",
    "try_settings",
    "validate_events",
]


class Artifact(Protocol):
    """The part of a KFP artifact that the tasks touch."""

    path: str
    metadata: dict[str, Any]


class MetricsArtifact(Artifact, Protocol):
    """A KFP Metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None:
        """Show one number in the UI."""


@dataclass(frozen=True)
class Looked:
    """What a run's inputs are at this moment; it keys the caches of all later steps."""

    data_version: str
    views: str


def look(data: str, views: str) -> Looked:
    """Read the feature views and the content version of the data, so that no cache serves what has changed."""
    from tidegate_components.events.ingest import MOVIELENS
    from tidegate_components.features.source import load_views

    found = [
        view.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"status"}) for view in load_views(views)
    ]
    version = data if data == MOVIELENS else content_digest(resolve(data))
    return Looked(version, json.dumps(found, sort_keys=True))


def ingest_events(data: str, newest_event: str, events: Artifact) -> None:
    """events.ingest into `events`."""
    from tidegate_components.events.ingest import ingest
    from tidegate_components.events.tables import TABLES

    rows = ingest(data, Path(events.path), newest_event, TABLES)
    _describe(events, rows)


def clean_events(events: Artifact, clean: Artifact, quarantine: Artifact, summary: Artifact) -> None:
    """events.clean, with its counts as Markdown."""
    from tidegate_components.events.clean import clean as clean_tables

    reports = clean_tables(Path(events.path), Path(clean.path), Path(quarantine.path))
    lines = ["| table | rows in | rows out | quarantined | reasons |", "|---|---|---|---|---|"]
    for report in reports:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items()) or "none"
        counts = f"{report.rows_in} | {report.rows_out} | {report.rows_in - report.rows_out}"
        lines.append(f"| {report.table} | {counts} | {reasons} |")
    Path(summary.path).write_text("\n".join(lines) + "\n")
    _describe(clean, {report.table: report.rows_out for report in reports})


def validate_events(clean: Artifact, expectations: str, report: Artifact) -> None:
    """events.validate: a gate, with its report as HTML. `expectations`: address of a YAML file, or nothing."""
    from tidegate_components.events.expectations import read_expectations
    from tidegate_components.events.validate import validate, write_report

    found = validate(Path(clean.path), read_expectations(resolve(expectations) if expectations else None))
    page = Path(report.path).with_suffix(".html")
    write_report(found, page)
    page.replace(report.path)
    found.require(Path(clean.path))


def land_events(clean: Artifact, lake: str) -> str:
    """events.land into the lake; returns the digest of what the views will read."""
    from tidegate_components.events.lake import land

    return land(Path(clean.path), resolve(lake))


def join_samples(clean: Artifact, samples: Artifact) -> None:
    """events.join: one row per impression."""
    from tidegate_components.events.join import join_samples as join

    _describe(samples, {"rows": join(Path(clean.path), Path(samples.path))})


def join_features(samples: Artifact, views: str, lake: str, training_set: Artifact) -> None:
    """features.compute: point-in-time features of every view."""
    from tidegate_components.features.compute import compute_features, parse_views

    parsed = parse_views(views)
    rows = compute_features(Path(samples.path), parsed, Path(training_set.path), resolve(lake))
    _describe(training_set, {"rows": rows, "views": [view.metadata.name for view in parsed]})


def split_samples(training_set: Artifact, train: Artifact, validation: Artifact, test: Artifact) -> None:
    """training.split by time."""
    from tidegate_components.training.split import split_by_time

    parts = (train, validation, test)
    rows = split_by_time(Path(training_set.path), Path(train.path), Path(validation.path), Path(test.path))
    for part, count in zip(parts, rows.values(), strict=True):
        _describe(part, {"rows": count})


def train_model(train_set: Artifact, validation_set: Artifact, model: Artifact, settings: Mapping[str, Any]) -> None:
    """training.loop; `settings` are fields of a training configuration by dotted path, hidden as text such as "64,32".

    The rest is `training/movielens.yaml`: what was chosen on the folds that docs/training.md tells of.
    """
    from tidegate_components.models.config import read_config, with_settings
    from tidegate_components.training import loop

    given = {**settings, "model.hidden": _sizes(settings["model.hidden"])}
    config = with_settings(read_config(Path(loop.__file__).with_name("movielens.yaml")), given)
    epochs = loop.train(Path(train_set.path), Path(validation_set.path), Path(model.path), config)
    best = max(epoch.validation_auc for epoch in epochs)
    model.metadata.update({"framework": "torchrec", "epochs": len(epochs), "validation_auc": best})


def _sizes(text: str) -> tuple[int, ...]:
    from tidegate_components.models.inputs import TrainingSetError

    try:
        return tuple(int(part) for part in text.strip("[]() ").split(",") if part.strip())
    except ValueError as error:
        raise TrainingSetError(
            resource="pipeline ctr-training", field="hidden", value=text, expected="sizes such as 64,32",
            remedy="correct the parameter",
        ) from error  # fmt: skip


def evaluate_model(
    model: Artifact, sets: tuple[Artifact, Artifact, Artifact], metrics: MetricsArtifact, report: Artifact, name: str,
    facts: Mapping[str, str],
) -> str:  # fmt: skip
    """evaluation.judge on (train, validation, test), with the report; returns the metrics by contender as JSON."""
    from tidegate_components.evaluation.judge import evaluate
    from tidegate_components.evaluation.report import write_report

    train, validation, test = (Path(part.path) for part in sets)
    found = evaluate(Path(model.path), train, validation, test, Path(metrics.path))
    history = json.loads((Path(model.path) / "history.json").read_text())
    shown = {**facts, **{key: str(value) for key, value in history["settings"].items()}}
    write_report(found, name, shown, Path(report.path))
    for contender, values in found.metrics.items():
        for metric, value in values.items():
            metrics.log_metric(f"{contender}_{metric}", value)
    return json.dumps(found.metrics)


def read_champion(mlflow_uri: str, model_name: str) -> str:
    """registry.champion as JSON {version, metrics, package_uri, digest}; version "" where there is none."""
    from tidegate_components.registry.mlflow_registry import champion, tracking_uri

    return json.dumps(asdict(champion(tracking_uri(mlflow_uri), model_name)))


def gate_model(
    metrics: str, champion: str, margin: float, model_name: str, verdict: Artifact,
    rows: tuple[Artifact, Artifact] | None = None, mlflow_uri: str = "",
) -> str:  # fmt: skip
    """evaluation.champion on `rows` (model, test set), else evaluation.gate on what was recorded; writes the verdict.

    Ends the run with a GateError where the challenger fails.
    """
    from tidegate_components.evaluation.champion import Known, Outcome, judge_on_rows, outcome_markdown
    from tidegate_components.evaluation.gate import judge, require

    best, challenger = Known(**json.loads(champion)), json.loads(metrics)["wide_deep"]
    if rows is None:
        found = Outcome(judge(challenger, best.metrics or {}, margin, best.name), {})
    else:
        model, test_set = (Path(part.path) for part in rows)
        found = judge_on_rows(best, challenger, margin, model, test_set, mlflow_uri)
    Path(verdict.path).write_text(outcome_markdown(found))
    require(found.verdict, model_name)
    return found.verdict.sentence


def package_trained(
    model: Artifact, sets: tuple[Artifact, Artifact], report: Artifact, package: Artifact, metrics: str,
    facts: Mapping[str, str], sign_key: str = "",
) -> str:  # fmt: skip
    """packaging.package of (train, test); `facts` are model_name, code_version and unknown_ids. Returns the digest.

    `sign_key` is the path of a private key, as this step sees it; without one the package stays unsigned.
    """
    from tidegate_components.packaging.package import Options, Provenance, package_model

    train, test = (Path(part.path) for part in sets)
    data_digest = content_digest(train)
    provenance = Provenance(
        facts["model_name"], _run_name(Path(model.path), data_digest, facts), facts["code_version"], data_digest,
        json.loads(metrics)["wide_deep"],
    )  # fmt: skip
    options = Options(_unknown_ids(facts["unknown_ids"]), sign=_signing_key(sign_key))
    digest = package_model(Path(model.path), test, Path(report.path), Path(package.path), provenance, options=options)
    signed = {"signed": "true" if sign_key else "false"}
    package.metadata.update({"digest": digest, "data_digest": data_digest, "model_name": facts["model_name"]} | signed)
    return digest


def _signing_key(path: str) -> Path | None:
    """The key's path, once it is known to hold a key: before minutes are spent on an export."""
    from tidegate_components.packaging.signature import check_signing_key

    if not path:
        return None
    check_signing_key(resolve(path))
    return resolve(path)


def _run_name(model: Path, data_digest: str, facts: Mapping[str, str]) -> str:
    """Names the run by what went in, so that the same inputs make the same package."""
    from tidegate_api.hashes import content_hash

    settings = json.loads((model / "history.json").read_text())["settings"]
    return "run-" + content_hash([settings, data_digest, dict(facts)])[:12]


def _unknown_ids(text: str) -> Any:
    from tidegate_components.models.inputs import TrainingSetError

    if text not in {"fold", "error"}:
        raise TrainingSetError(
            resource="pipeline ctr-training", field="unknown_ids", value=text, expected="fold or error",
            remedy="correct the parameter",
        )  # fmt: skip
    return text


def register_package(mlflow_uri: str, package: Artifact, model: Artifact, digest: str, alias: str) -> str:
    """registry.register; returns the registered version as JSON {name, version, digest, package_uri, run_id}."""
    from tidegate_components.packaging.verify import verify
    from tidegate_components.registry.mlflow_registry import register, tracking_uri

    folder = Path(package.path)
    settings = json.loads((Path(model.path) / "history.json").read_text())["settings"]
    params = {key: str(value) for key, value in settings.items()}
    version = register(tracking_uri(mlflow_uri), folder, digest, alias, params, verify(folder, digest).metrics)
    return json.dumps(asdict(version))


def deploy_model(place: tuple[str, str], model_name: str, alias: str, apply: bool, manifest: Artifact) -> str:
    """deploy: the ModelDeployment as artifact, applied where told; returns its path.

    `place` is the file or folder that it is written to, where given, and its namespace.
    """
    import shutil

    from tidegate_components.deploy.model_deployment import apply as apply_file
    from tidegate_components.deploy.model_deployment import write_deployment

    artifact, (deploy_to, namespace) = Path(manifest.path), place
    written = write_deployment(deploy_to or str(artifact.with_suffix(".yaml")), model_name, alias, namespace)
    if apply:
        apply_file(written)
    shutil.copyfile(written, artifact)
    return str(written)


def suggest_settings(config: str, space: str, trials: int, sets: tuple[str, str], metric: str, seed: int) -> list[str]:
    """training.tuning.suggest; each trial as JSON {search, config, number, settings}, whole, for a step of its own.

    Reads the configuration (an address) and the data: `search` names both by content, so that no cache serves what has
    changed. One output and nothing beside it, since kfp.local gives a loop's step no other output than its item.
    """
    from tidegate_api.hashes import content_hash
    from tidegate_components.models.config import read_config
    from tidegate_components.training.tuning import parse_space, suggest

    _check_metric(metric)
    said = read_config(resolve(config))
    drawn = suggest(parse_space(space, said, "of the parameter"), trials, seed)
    settings = said.model_dump(mode="json")
    name = content_hash([settings, drawn, metric, [content_digest(resolve(one)) for one in sets]])[:12]
    search = {"search": f"search-{name}", "config": settings}
    return [json.dumps({**search, "number": number, "settings": one}) for number, one in enumerate(drawn)]


def _check_metric(metric: str) -> None:
    from tidegate_components.models.config import ConfigError

    if metric not in {"logloss", "auc"}:
        raise ConfigError(
            resource="pipeline ctr-tuning", field="metric", value=metric, expected="logloss or auc",
            remedy="correct the parameter",
        )  # fmt: skip


def try_settings(suggested: str, sets: tuple[str, str], metric: str) -> str:
    """training.tuning.try_settings on (train, valid), both addresses; returns the trial as JSON."""
    from tidegate_components.models.config import parse_config
    from tidegate_components.training import tuning
    from tidegate_components.training.run import prepare_process

    prepare_process()
    said = json.loads(suggested)
    train, valid = (resolve(one) for one in sets)
    wanted = tuning.Search(parse_config(said["config"]), {}, train, valid, Path(), metric)
    return json.dumps(asdict(tuning.try_settings(said["number"], said["settings"], wanted)))


def choose_settings(
    suggested: list[str], trials: list[str], metric: str, mlflow_uri: str, table: Artifact, best: Artifact
) -> str:
    """The best of the trials, as JSON; all in MLflow and in `table`, the configuration with its settings in `best`."""
    import yaml

    from tidegate_components.models.config import parse_config, with_settings
    from tidegate_components.registry.trials import log_search
    from tidegate_components.training.tuning import Trial, best_of

    said = json.loads(suggested[0])
    found = best_of([Trial(**json.loads(one)) for one in trials], metric)
    chosen = with_settings(parse_config(said["config"]), found[0].settings)
    log_search(mlflow_uri, chosen.name, said["search"], [asdict(one) for one in found], metric)
    Path(best.path).write_text(yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False))
    Path(table.path).write_text(_trials_table(found, metric))
    return json.dumps(asdict(found[0]))


def _trials_table(trials: Sequence[Trial], metric: str) -> str:
    paths = list(trials[0].settings)
    lines = [f"| trial | {metric} | epochs | {' | '.join(paths)} |", "|---" * (3 + len(paths)) + "|"]
    for one in trials:
        value = f"{one.value:.5f}" if one.value is not None else one.state
        lines.append(f"| {one.number} | {value} | {one.epochs} | {' | '.join(str(one.settings[p]) for p in paths)} |")
    return "\n".join(lines) + "\n"


def _describe(artifact: Artifact, facts: Mapping[str, Any]) -> None:
    artifact.metadata.update({**facts, "digest": content_digest(Path(artifact.path))})
