"""Strings and numbers with the bounds that the CRDs state, shared by the parts of a ModelDeployment."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from tidegate_api.model_package import DIGEST_PATTERN
from tidegate_api.quantities import QUANTITY_PATTERN
from tidegate_api.rules import TEXT, rule

__all__ = [
    "CounterSelector",
    "HeaderName",
    "Hostname",
    "Image",
    "MetricName",
    "ModelName",
    "Name",
    "PackageDigest",
    "PackageUri",
    "Percent",
    "Quantity",
    "SchemaHash",
    "Selector",
    "TrackedQuery",
]

Name = Annotated[str, Field(min_length=1, max_length=253)]
_NO_HOST = "must not be Host: by that one the gateway finds the route"


def _not_host(name: str) -> str:
    if name.lower() == "host":
        raise ValueError(f"another header: it {_NO_HOST}")
    return name


HeaderName = Annotated[
    str,
    Field(
        pattern="^[A-Za-z0-9!#$%&'*+.^_|~-]+$",
        min_length=1,
        max_length=253,
        json_schema_extra={
            "x-kubernetes-validations": [rule("!self.matches('^[hH][oO][sS][tT]$')", f"the header {_NO_HOST}", TEXT)]
        },
    ),
    AfterValidator(_not_host),
]
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
Hostname = Annotated[str, Field(pattern=rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$", max_length=253)]
MetricName = Annotated[str, Field(pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Selector = Annotated[str, Field(min_length=1, max_length=1024)]
_LABELS = r'([^{}"]|"([^"\\]|\\.)*")*'
_COUNTER_PATTERN = rf"^[a-zA-Z_:][a-zA-Z0-9_:]*\{{{_LABELS}\$track{_LABELS}\}}$"
CounterSelector = Annotated[
    Selector,
    Field(
        pattern=_COUNTER_PATTERN,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('" + _COUNTER_PATTERN.replace("\\", "\\\\") + "')",
                    "a counter is named by a bare selector with $track, and no function around it, e.g. "
                    "tidegate_clicks_total{$track}",
                    TEXT,
                )
            ]
        },
    ),
]
"""A counter's name with its labels; `$track` stands for those of a side."""
TrackedQuery = Annotated[
    Selector,
    Field(
        pattern=r"\$track",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.contains('$track')",
                    "a query that is asked of each side holds $track, the side's labels",
                    TEXT,
                )
            ]
        },
    ),
]
"""PromQL that is asked of both sides."""
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=20)]
Image = Annotated[str, Field(pattern="^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$", max_length=1024)]
SchemaHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)]
ModelName = Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
_FETCHED = (
    "a package is fetched from pvc://CLAIM/PATH, http(s)://, mlflow-artifacts:/PATH, file:// or a path: "
    "no pod reads others"
)
_SCHEME = "^[a-zA-Z][a-zA-Z0-9+.-]*:"
_FETCHABLE = "^(pvc|http|https|file)://|^mlflow-artifacts:/"


def _fetchable(uri: str) -> str:
    if re.match(_SCHEME, uri) and not re.match(_FETCHABLE, uri):
        raise ValueError(f"another address: {_FETCHED}")
    return uri


PackageUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(f"!self.matches('{_SCHEME}') || self.matches('{_FETCHABLE}')", _FETCHED, TEXT)
            ]
        },
    ),
    AfterValidator(_fetchable),
]
PackageDigest = Annotated[
    str,
    Field(
        pattern=DIGEST_PATTERN,
        max_length=71,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.matches('{DIGEST_PATTERN}')",
                    "digest must be sha256: and 64 hex digits in lower case, as packaging printed it",
                    TEXT,
                )
            ]
        },
    ),
]
Percent = Annotated[int, Field(ge=0, le=100)]
