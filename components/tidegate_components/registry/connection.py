"""How the registry is reached: one client, one kind of error, answers within seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tidegate_api.errors import TidegateError

__all__ = ["RegistryError", "connected", "is_missing", "tracking_uri"]


class RegistryError(TidegateError):
    """MLflow does not answer, or refuses. Trying again may help."""

    transient = True


def tracking_uri(given: str = "") -> str:
    """The tracking server: as given, else MLFLOW_TRACKING_URI. Raises RegistryError where neither is set."""
    found = given or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not found:
        raise RegistryError(
            resource="MLflow", field="mlflow_uri", value="", expected="the tracking server's address",
            remedy="pass mlflow_uri=http://HOST:PORT (--mlflow-uri) or set MLFLOW_TRACKING_URI",
        )  # fmt: skip
    return found


@contextmanager
def connected(uri: str) -> Iterator[Any]:
    """An MlflowClient; whatever MLflow raises inside becomes a RegistryError."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
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


def is_missing(error: Exception) -> bool:
    """Whether MLflow says that a model, version or alias is not there."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in str(error))
