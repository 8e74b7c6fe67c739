"""Prometheus: counters and numbers on a grid. API: https://prometheus.io/docs/prometheus/latest/querying/api/."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import httpx

from tidegate_operators.adapters.errors import NeighbourError
from tidegate_operators.rollout.counting import Series

__all__ = ["UNREACHABLE", "Prometheus"]

UNREACHABLE = "PrometheusUnreachable"

_TIMEOUT_SECONDS = 5.0


class Prometheus:
    """A Prometheus server. Every verb raises NeighbourError when it cannot answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS)

    def counters(self, selector: str, grid: Sequence[datetime]) -> list[Series]:
        """The series of a bare selector at each moment of an even grid (two or more), by revision."""
        step = (grid[1] - grid[0]).total_seconds()
        found = self._get("query_range", query=selector, start=_unix(grid[0]), end=_unix(grid[-1]), step=step)
        return [_series(item, grid) for item in found["result"]]

    def label_values(self, label: str, selector: str, start: datetime, end: datetime) -> list[str]:
        """The values that a label has in the series of a selector, over some time."""
        query = {"match[]": selector, "start": _unix(start), "end": _unix(end)}
        found: list[str] = self._fetch(f"label/{label}/values", query)
        return found

    def numbers(self, query: str, moments: Sequence[datetime]) -> list[float | None]:
        """What a query that yields one number yields at each moment of an even grid; none where it yields nothing."""
        if len(moments) == 1:
            return [self.scalar(query, moments[0])]
        step = (moments[1] - moments[0]).total_seconds()
        found = self._get("query_range", query=query, start=_unix(moments[0]), end=_unix(moments[-1]), step=step)
        samples: dict[float, float] = {}
        for at, value in (sample for item in found["result"] for sample in _samples(item)):
            if at in samples:
                raise _not_one_number(query, f"{len(found['result'])} series")
            samples[at] = value
        return [samples.get(_at(moment)) for moment in moments]

    def scalar(self, query: str, at: datetime) -> float | None:
        """The value of a query that yields one number; none where it yields nothing."""
        found = self._get("query", query=query, time=_unix(at))
        if found["resultType"] == "scalar":
            return float(found["result"][1])
        if found["resultType"] != "vector":
            raise _not_one_number(query, f"a {found['resultType']}")
        if len(found["result"]) > 1:
            raise _not_one_number(query, f"{len(found['result'])} series")
        return float(found["result"][0]["value"][1]) if found["result"] else None

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        data: dict[str, Any] = self._fetch(path, parameters)
        return data

    def _fetch(self, path: str, parameters: dict[str, Any]) -> Any:
        try:
            answer = self._http.get(f"/api/v1/{path}", params=parameters)
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NeighbourError(
                UNREACHABLE,
                f"Prometheus at {self._url} does not answer ({type(error).__name__}): the rollout holds until it does; "
                "check the address in PROMETHEUS_URL and the pod",
            ) from error
        if body.get("status") != "success":
            query = parameters.get("query")
            message = f"Prometheus refused the query {query}: {body.get('error')}; correct the metric in spec.analysis"
            raise NeighbourError("QueryRefused", message)
        return body["data"]


def _not_one_number(query: str, what: str) -> NeighbourError:
    said = (
        f"The query {query} yields {what}, not one number; correct the metric in spec.analysis, e.g. by max() or sum()"
    )
    return NeighbourError("QueryRefused", said)


def _unix(moment: datetime) -> str:
    return f"{moment.timestamp():.3f}"


def _at(moment: datetime) -> float:
    return round(moment.timestamp(), 3)


def _samples(item: dict[str, Any]) -> Iterator[tuple[float, float]]:
    return ((round(float(at), 3), float(value)) for at, value in item.get("values", []))


def _series(item: dict[str, Any], grid: Sequence[datetime]) -> Series:
    values = {at: value for at, value in _samples(item) if math.isfinite(value)}
    points = tuple(values.get(_at(moment)) for moment in grid)
    return Series(revision=item["metric"].get("tidegate_revision", ""), values=points)
