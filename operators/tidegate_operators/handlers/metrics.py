"""What the operator says of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

__all__ = ["observed_reconciliation"]

_SECONDS = Histogram("tidegate_reconcile_duration_seconds", "Time that one reconciliation takes.", ["kind"])
_FAILURES = Counter("tidegate_reconcile_failures_total", "Reconciliations that ended in an error.", ["kind"])


@contextmanager
def observed_reconciliation(kind: str) -> Iterator[None]:
    """Time a reconciliation and count it if it fails."""
    try:
        with _SECONDS.labels(kind).time():
            yield
    except Exception:
        _FAILURES.labels(kind).inc()
        raise
