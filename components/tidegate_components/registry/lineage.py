"""From a prediction back to the events: package, training data, run and code, feature views, and what these read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate_components.registry.versions import Version, find

__all__ = ["Lineage", "ReadView", "View", "lineage"]


@dataclass(frozen=True)
class View:
    """A feature view as it is defined today."""

    schema_hash: str
    source: str
    """Address of the events that it reads."""


@dataclass(frozen=True)
class ReadView:
    """A view that the model reads: the schema it learned with, and today's definition where that is known."""

    name: str
    schema_hash: str
    source: str | None
    unchanged: bool | None
    """Whether today's schema is the one that it learned with; None where today's is not known."""


@dataclass(frozen=True)
class Lineage:
    """What made a version: its package, the digest of its training data, run and code, the views and their sources."""

    version: Version
    views: list[ReadView]


def lineage(uri: str, name: str, reference: str, views: Mapping[str, View] | None = None) -> Lineage:
    """The lineage of a version, or of whatever its package (`sha256:HEX`) scored; `views` are today's definitions.

    Raises NoSuchVersionError where no version has that number, alias or package.
    """
    found, known = find(uri, name, reference), views or {}
    return Lineage(found, [_read(view, schema, known.get(view)) for view, schema in found.feature_views.items()])


def _read(name: str, schema_hash: str, today: View | None) -> ReadView:
    if today is None:
        return ReadView(name, schema_hash, None, None)
    return ReadView(name, schema_hash, today.source, today.schema_hash == schema_hash)
