"""What a stream tells of itself: counts for people, JSON lines for machines, gauges for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidegate_components.features.encoding import from_micros
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.json_values import rfc3339

__all__ = ["Progress", "serve_metrics"]


@dataclass
class Progress:
    """Counts since the start. `as_of` and `newest_event` in UTC microseconds; `lag`, the age of `as_of`, in seconds."""

    view: str
    messages: int = 0
    events: int = 0
    passed: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    rows: int = 0
    newest_event: int | None = None
    as_of: int | None = None
    lag: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One line for a machine."""
        return {
            "view": self.view,
            "messages": self.messages,
            "events": self.events,
            "passed": self.passed,
            "broken": dict(self.broken),
            "faults": self.faults,
            "rows": self.rows,
            "newestEventTime": _text(self.newest_event),
            "watermark": _text(self.as_of),
            "lagSeconds": None if self.lag is None else round(self.lag, 3),
        }

    def sentence(self) -> str:
        """One line for a person."""
        broken = ", ".join(f"{reason} {count:,}" for reason, count in self.broken.most_common()) or "none"
        lag = "not known yet" if self.lag is None else f"{self.lag:.1f} s behind"
        return (
            f"{self.view}: {self.messages:,} messages, {self.events:,} events, broken: {broken}; "
            f"{self.rows:,} values written, {lag}"
        )


def _text(micros: int | None) -> str | None:
    return None if micros is None else rfc3339(from_micros(micros))


def serve_metrics(progress: Progress, port: int) -> Callable[[], None]:
    """Serve `progress` at http://:PORT/metrics; returns what ends it."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Collector(progress))
    try:
        server, _ = start_http_server(port, registry=registry)
    except OSError as error:
        raise BadFeaturesError(
            resource="features stream", field="--metrics-port", value=port, expected=f"a free port ({error.strerror})",
            remedy="name another port, or stop what listens there",
        ) from error  # fmt: skip

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end


class _Collector:
    """Reads the counts when Prometheus asks."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collect(self) -> list[Any]:
        """The metric families."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now, prefix, label = self._progress, "tidegate_feature_stream_", ["view"]
        counts = {
            "messages": ("Messages consumed.", now.messages),
            "events": ("Events that count for a feature.", now.events),
            "faults": ("Values that did not compute.", now.faults),
            "rows_written": ("Values written to the online store.", now.rows),
        }
        found: list[Any] = []
        for name, (words, count) in counts.items():
            found.append(CounterMetricFamily(prefix + name, words, labels=label))
            found[-1].add_metric([now.view], count)
        found.append(CounterMetricFamily(f"{prefix}broken", "Messages that are no event.", labels=["view", "reason"]))
        for reason, count in list(now.broken.items()):
            found[-1].add_metric([now.view, reason], count)
        gauges = {
            "lag_seconds": ("Age of the as-of time of the stored values.", now.lag),
            "newest_event_time_seconds": ("Unix time of the newest event.", _seconds(now.newest_event)),
            "watermark_seconds": ("Unix time as of which the stored values hold.", _seconds(now.as_of)),
        }
        for name, (words, value) in gauges.items():
            if value is not None:
                found.append(GaugeMetricFamily(prefix + name, words, labels=label))
                found[-1].add_metric([now.view], value)
        return found


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1_000_000
