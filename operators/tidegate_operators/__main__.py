"""`python -m tidegate_operators` runs the operator in its pod, cluster-wide or in TIDEGATE_NAMESPACE."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from urllib.parse import urlsplit

import kopf

from tidegate_operators.handlers import triggers  # noqa: F401 - importing registers the handlers

_SETTINGS = (
    "TIDEGATE_NAMESPACE",
    "MLFLOW_TRACKING_URI",
    "PROMETHEUS_URL",
    "TIDEGATE_COMPONENTS_IMAGE",
    "TIDEGATE_TRITON_IMAGE",
    "TIDEGATE_TRITON_GPU_IMAGE",
    "TIDEGATE_IMAGE_PULL_POLICY",
)
_QUIET = ("kopf", "urllib3", "httpx", "httpcore", "mlflow", "aiohttp")


class JsonLines(logging.Formatter):
    """One JSON object a line, ready for Loki. What a record carries as `fields` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        body = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            body["error"] = self.formatException(record.exc_info)
        return json.dumps(body)


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The version and what the operator was set up with, without a password that an address may carry."""
    try:
        version = metadata.version("tidegate")
    except metadata.PackageNotFoundError:
        version = "unknown"
    found = {name: _without_password(environment[name]) for name in _SETTINGS if environment.get(name)}
    return {"version": version} | found


def _without_password(value: str) -> str:
    host = urlsplit(value).netloc
    return value.replace(host, host.rsplit("@", 1)[-1], 1) if "@" in host else value


def main() -> None:
    """Run until the pod is told to stop."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    said = settings_of(os.environ)
    logging.getLogger("tidegate").info("Tidegate %s starts.", said["version"], extra={"fields": said})
    namespace = os.environ.get("TIDEGATE_NAMESPACE")
    where = {"namespaces": [namespace]} if namespace else {"clusterwide": True}
    kopf.run(**where, standalone=True, liveness_endpoint="http://0.0.0.0:8080/healthz")


if __name__ == "__main__":
    main()
