"""Record a run with its package in MLflow, register the version, move an alias, read the champion.

Every call fails within seconds with a RegistryError where the tracking server does not answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.model_package import DIGEST_TAG, FEATURE_VIEWS_TAG, PACKAGE_TAG

__all__ = ["Champion", "Reader", "Registered", "RegistryError", "champion", "readers", "register", "tracking_uri"]


class RegistryError(TidegateError):
    """MLflow does not answer, or refuses. Trying again may help."""

    transient = True


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


def tracking_uri(given: str = "") -> str:
    """The tracking server: as given, else MLFLOW_TRACKING_URI. Raises RegistryError where neither is set."""
    found = given or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not found:
        raise RegistryError(
            resource="MLflow", field="mlflow_uri", value="", expected="the tracking server's address",
            remedy="pass mlflow_uri=http://HOST:PORT or set MLFLOW_TRACKING_URI",
        )  # fmt: skip
    return found


def champion(uri: str, model: str, alias: str = "champion") -> Champion:
    """The version of `model` that `alias` names; an empty Champion where model or alias is not there yet."""
    with _client(uri) as client:
        try:
            version = client.get_model_version_by_alias(model, alias)
        except Exception as error:
            if _is_missing(error):
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
    is not registered again, so that a retry or a second run changes only the alias.
    """
    from tidegate_components.packaging.verify import verify

    manifest = verify(package, digest)
    with _client(uri) as client:
        _ensure_model(client, manifest.name)
        version = _version_of(client, manifest.name, digest)
        if version is None:
            tags = {"tidegate.run": manifest.run, "tidegate.code_version": manifest.code_version}
            tags |= {"tidegate.data_digest": manifest.data_digest}
            run = _log_run(client, _experiment(client, uri, manifest.name), package, params, metrics, tags)
            version = _new_version(
                client, manifest.name, run, {DIGEST_TAG: digest, **_views_tag(manifest.feature_views)}
            )
        client.set_registered_model_alias(manifest.name, alias, version.version)
        package_uri = version.tags[PACKAGE_TAG]
        return Registered(manifest.name, str(version.version), digest, package_uri, version.run_id)


@contextmanager
def _client(uri: str) -> Iterator[Any]:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, OSError) as error:
        raise RegistryError(
            resource="MLflow", field="mlflow_uri", value=uri,
            expected=f"a tracking server that answers ({str(error).splitlines()[0][:300]})",
            remedy="check the address and that the server is up",
        ) from error  # fmt: skip


def _is_missing(error: Exception) -> bool:
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in str(error))


def _ensure_model(client: Any, name: str) -> None:
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: Any, name: str, digest: str) -> Any | None:
    versions = client.search_model_versions(f"name = '{name}'")
    whole = [v for v in versions if v.tags.get(DIGEST_TAG) == digest and PACKAGE_TAG in v.tags]
    return max(whole, key=lambda version: int(version.version), default=None)


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


def _experiment(client: Any, uri: str, name: str) -> str:
    """The model's experiment. Where the store is a sqlite file, artifacts lie beside it, not in the working folder."""
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    beside = str(Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts") if uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=beside))


def _views_tag(views: dict[str, str]) -> dict[str, str]:
    return {FEATURE_VIEWS_TAG: json.dumps(views, sort_keys=True)}


def _new_version(client: Any, name: str, run: Any, tags: dict[str, str]) -> Any:
    package_uri = f"{run.info.artifact_uri}/package"
    return client.create_model_version(name, package_uri, run.info.run_id, tags=tags | {PACKAGE_TAG: package_uri})


def readers(uri: str, view: str) -> list[Reader]:
    """Every registered version that reads a feature view, newest first, model by model."""
    with _client(uri) as client:
        models = sorted(client.search_registered_models(), key=lambda model: str(model.name))
        return [reader for model in models for reader in _readers_of(client, model, view)]


def _readers_of(client: Any, model: Any, view: str) -> list[Reader]:
    aliases = {str(version): alias for alias, version in model.aliases.items()}
    versions = sorted(client.search_model_versions(f"name = '{model.name}'"), key=lambda v: -int(v.version))
    read = [(str(v.version), json.loads(v.tags.get(FEATURE_VIEWS_TAG, "{}"))) for v in versions]
    return [
        Reader(model.name, version, aliases.get(version, ""), views[view]) for version, views in read if view in views
    ]
