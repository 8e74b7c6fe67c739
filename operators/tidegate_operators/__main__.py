"""`python -m tidegate_operators` runs the operator in its pod, cluster-wide or in TIDEGATE_NAMESPACE."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

import kopf

from tidegate_operators.handlers import triggers  # noqa: F401 - importing registers the handlers

_QUIET = ("kopf", "urllib3", "httpx", "httpcore", "mlflow", "aiohttp")


class _JsonLines(logging.Formatter):
    """One JSON object a line, ready for Loki."""

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["error"] = self.formatException(record.exc_info)
        return json.dumps(body)


def main() -> None:
    """Run until the pod is told to stop."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    namespace = os.environ.get("TIDEGATE_NAMESPACE")
    where = {"namespaces": [namespace]} if namespace else {"clusterwide": True}
    kopf.run(**where, standalone=True, liveness_endpoint="http://0.0.0.0:8080/healthz")


if __name__ == "__main__":
    main()
