"""Record a run with its package in MLflow, register the version, move an alias, read the champion.

Every call fails within seconds with a RegistryError where the tracking server does not answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.model_package import DIGEST_TAG, FEATURE_VIEWS_TAG, PACKAGE_TAG, ModelManifest
from tidegate_components.registry.connection import RegistryError, connected, is_missing, tracking_uri
from tidegate_components.registry.status import point
from tidegate_components.registry.versions import CODE_TAG, DATA_TAG, RUN_TAG, SIGNED_TAG, newest_first, pages

if TYPE_CHECKING:
    from tidegate_components.packaging.verify import Verified

__all__ = [
    "Champion",
    "Reader",
    "Registered",
    "RegistryError",
    "champion",
    "ensure_model",
    "experiment_of",
    "readers",
    "register",
    "tracking_uri",
]


@dataclass(frozen=True)
class Registered:
    """A model version in the registry. `package_uri` and `digest` are all that serving needs."""

    name: str
    version: str
    digest: str
    package_uri: str
    run_id: str


@dataclass(frozen=True)
class Champion:
    """The version that an alias names, with its run's metrics and where its package lies; "" where there is none."""

    version: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    package_uri: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Reader:
    """A registered version that reads a view, an alias that names it ("": none), and the schemaHash it knows."""

    model: str
    version: str
    alias: str
    schema_hash: str


def champion(uri: str, model: str, alias: str = "champion") -> Champion:
    """The version of `model` that `alias` names; an empty Champion where model or alias is not there yet."""
    with connected(uri) as client:
        try:
            version = client.get_model_version_by_alias(model, alias)
        except Exception as error:
            if is_missing(error):
                return Champion()
            raise
        metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
        found = version.tags.get(PACKAGE_TAG, ""), version.tags.get(DIGEST_TAG, "")
        return Champion(str(version.version), dict(metrics), *found)


def register(
    uri: str,
    package: Path,
    digest: str,
    alias: str,
    params: dict[str, str],
    metrics: dict[str, float],
) -> Registered:
    """Log a run with the package as artifact `package`, register it as a version and point `alias` at it.

    The model's name and provenance come from the package's manifest. A package that is registered already (by digest)
    is not registered again, so that a retry or a second run changes only the alias; a signature that it got since then
    is added.
    """
    from tidegate_components.packaging.verify import verify_package

    found = verify_package(package, digest)
    name = found.manifest.name
    with connected(uri) as client:
        ensure_model(client, name)
        version = _version_of(client, name, digest)
        if version is None:
            tags = _provenance(found.manifest)
            run = _log_run(client, experiment_of(client, uri, name), package, params, metrics, tags)
            version = _new_version(client, name, run, {DIGEST_TAG: digest, **tags, **_facts(found)})
        elif found.has_signature and version.tags.get(SIGNED_TAG) != "true":
            _add_signature(client, version, package)
        point(client, name, alias, str(version.version))
        return Registered(name, str(version.version), digest, version.tags[PACKAGE_TAG], version.run_id)


def _provenance(manifest: ModelManifest) -> dict[str, str]:
    return {RUN_TAG: manifest.run, CODE_TAG: manifest.code_version, DATA_TAG: manifest.data_digest}


def _facts(found: Verified) -> dict[str, str]:
    views = json.dumps(found.manifest.feature_views, sort_keys=True)
    return {FEATURE_VIEWS_TAG: views, SIGNED_TAG: str(found.has_signature).lower()}


def _add_signature(client: Any, version: Any, package: Path) -> None:
    from tidegate_components.packaging.layout import SIGNATURE

    client.log_artifact(version.run_id, str(package / SIGNATURE), "package")
    client.set_model_version_tag(version.name, version.version, SIGNED_TAG, "true")


def ensure_model(client: Any, name: str) -> None:
    """Make the registered model where it is not there yet."""
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: Any, name: str, digest: str) -> Any | None:
    versions = newest_first(client, name)
    return next((v for v in versions if v.tags.get(DIGEST_TAG) == digest and PACKAGE_TAG in v.tags), None)


def _log_run(
    client: Any, experiment: str, package: Path, params: dict[str, str], metrics: dict[str, float], tags: dict[str, str]
) -> Any:
    run = client.create_run(experiment, run_name=tags["tidegate.run"], tags=tags)
    for key, value in params.items():
        client.log_param(run.info.run_id, key, value)
    for key, number in metrics.items():
        client.log_metric(run.info.run_id, key, number)
    client.log_artifact(run.info.run_id, str(package / "report.html"))
    client.log_artifacts(run.info.run_id, str(package), "package")
    client.set_terminated(run.info.run_id)
    return run


def experiment_of(client: Any, uri: str, name: str) -> str:
    """The model's experiment. Where the store is a sqlite file, artifacts lie beside it, not in the working folder."""
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    beside = str(Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts") if uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=beside))


def _new_version(client: Any, name: str, run: Any, tags: dict[str, str]) -> Any:
    package_uri = f"{run.info.artifact_uri}/package"
    return client.create_model_version(name, package_uri, run.info.run_id, tags=tags | {PACKAGE_TAG: package_uri})


def readers(uri: str, view: str) -> list[Reader]:
    """Every registered version that reads a feature view, newest first, model by model."""
    with connected(uri) as client:
        models = sorted(pages(client.search_registered_models), key=lambda model: str(model.name))
        return [reader for model in models for reader in _readers_of(client, model, view)]


def _readers_of(client: Any, model: Any, view: str) -> list[Reader]:
    aliases = {str(version): alias for alias, version in model.aliases.items()}
    found = newest_first(client, model.name)
    read = [(str(v.version), json.loads(v.tags.get(FEATURE_VIEWS_TAG, "{}"))) for v in found]
    return [
        Reader(model.name, version, aliases.get(version, ""), views[view]) for version, views in read if view in views
    ]
