"""MLflow's model registry, as the operator needs it: read an alias, tell a verdict."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tidegate_api.model_deployment import HistoryEntry, RegistrySource, ResolvedModel
from tidegate_api.model_package import DIGEST_TAG, FEATURE_VIEWS_TAG, PACKAGE_TAG
from tidegate_operators.adapters.errors import NeighbourError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Registry"]

_PAGE = 1000

_MISSING = "RESOURCE_DOES_NOT_EXIST"


class Registry:
    """A registry server. Every verb raises NeighbourError when it cannot answer."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: MlflowClient | None = None

    def resolve(self, source: RegistrySource) -> ResolvedModel:
        """The package of the version that the alias names."""
        version = self._call(
            lambda client: client.get_model_version_by_alias(source.name, source.alias),
            NeighbourError(
                "ModelNotFound",
                f"Registry {self._uri} has no model {source.name} with alias {source.alias}: register a version and "
                f"set the alias, or correct spec.model.registry",
            ),
        )
        digest, uri = version.tags.get(DIGEST_TAG), version.tags.get(PACKAGE_TAG)
        if not digest or not uri:
            message = f"Version {version.version} of {source.name} has no tag {DIGEST_TAG} or {PACKAGE_TAG}: register"
            raise NeighbourError("NotAPackage", f"{message} it with the pipeline, which packages and signs it")
        try:
            views = json.loads(version.tags.get(FEATURE_VIEWS_TAG) or "{}")
            return ResolvedModel(
                digest=digest, uri=uri, name=source.name, version=str(version.version), feature_views=views
            )
        except ValueError as error:
            message = (
                f"Version {version.version} of {source.name} has a tag {FEATURE_VIEWS_TAG} that is no JSON object of"
            )
            raise NeighbourError("NotAPackage", f"{message} names and schemaHashes: register it again") from error

    def aliases(self) -> dict[tuple[str, str], str]:
        """Where every alias of every model points: version by (model, alias), by pages of a thousand models."""
        found: dict[tuple[str, str], str] = {}
        token: str | None = None
        nothing = NeighbourError("ModelNotFound", f"Registry {self._uri} has no models.")
        while True:
            page = self._call(partial(_page, token=token), nothing)
            found |= {(m.name, alias): str(version) for m in page for alias, version in m.aliases.items()}
            token = page.token
            if not token:
                return found

    def record(self, source: RegistrySource, entry: HistoryEntry, serves: bool, by: str) -> None:
        """Tell the version how its rollout ended; the promoted alias moves to the one that serves. Safe to repeat.

        by: the deployment, NAMESPACE/NAME: several may follow one model, and the last word stands.

        A version belongs to the model that the source named when it was resolved, which may be another one by now.
        """
        number, name = entry.revision.version, entry.revision.name or source.name
        if number is None:
            return
        gone = NeighbourError("ModelNotFound", f"Version {number} of {name} is no longer in {self._uri}.")
        facts = {"outcome": entry.outcome, "reason": entry.reason, "message": entry.message, "deployment": by}
        for key, value in facts.items():
            self._tag(name, number, f"tidegate.{key}", value, gone)
        self._call(lambda c: c.update_model_version(name, number, description=entry.message), gone)
        if entry.outcome == "promoted" and serves and source.promoted_alias:
            alias = source.promoted_alias
            self._call(lambda c: c.set_registered_model_alias(name, alias, number), gone)

    def _tag(self, name: str, number: str, key: str, value: str, gone: NeighbourError) -> None:
        self._call(lambda client: client.set_model_version_tag(name, number, key, value), gone)

    def _call(self, verb: Callable[[Any], Any], missing: NeighbourError) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return verb(self._connected())
        except MlflowException as error:
            if error.error_code in (_MISSING, "INVALID_PARAMETER_VALUE"):
                raise missing from error
            raise NeighbourError(
                "RegistryUnreachable",
                f"MLflow at {self._uri} does not answer: what is known stays in force; check MLFLOW_TRACKING_URI and "
                "the server",
            ) from error

    def _connected(self) -> MlflowClient:
        """The client, made late: importing MLflow takes seconds. One short try each: the next look is the retry."""
        if self._client is None:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._client


def _page(client: MlflowClient, token: str | None) -> Any:
    return client.search_registered_models(max_results=_PAGE, page_token=token)
