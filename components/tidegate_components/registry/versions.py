"""Registered versions as people ask for them: what there is, one of them, two of them side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.model_package import DIGEST_TAG, FEATURE_VIEWS_TAG, PACKAGE_TAG
from tidegate_components.registry.connection import connected, is_missing

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "CODE_TAG",
    "DATA_TAG",
    "RUN_TAG",
    "SIGNED_TAG",
    "STATUS_TAG",
    "Difference",
    "NoSuchVersionError",
    "Version",
    "find",
    "list_versions",
    "newest_first",
    "pages",
    "see",
    "side_by_side",
    "status_of",
    "wanted",
]

CHAMPION, CHALLENGER = "champion", "challenger"
"""The alias that the operator alone moves, and the one that training and people move."""

STATUS_TAG, SIGNED_TAG = "tidegate.status", "tidegate.signed"
DATA_TAG, CODE_TAG, RUN_TAG = "tidegate.data_digest", "tidegate.code_version", "tidegate.run"


class NoSuchVersionError(TidegateError):
    """A model, version or alias that the registry does not have."""


@dataclass(frozen=True)
class Version:
    """One registered version, with its run."""

    name: str
    version: str
    status: str
    """production (alias champion), archived, staging (alias challenger), or registered."""
    aliases: list[str]
    created: datetime
    digest: str
    package_uri: str
    signed: bool
    data_digest: str
    code_version: str
    run: str
    run_id: str
    feature_views: dict[str, str]
    """schemaHash of each view that the model reads."""
    outcome: str
    """How its last rollout ended, as the operator tells: promoted, rolledBack, ...; "" before."""
    message: str
    """The sentence of that."""
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Two versions where they differ: (value of the first, of the second), None where one has none."""

    metrics: dict[str, tuple[float | None, float | None]]
    params: dict[str, tuple[str | None, str | None]]
    feature_views: dict[str, tuple[str | None, str | None]]
    facts: dict[str, tuple[str | None, str | None]]


def list_versions(uri: str, name: str = "") -> list[Version]:
    """Every version of a model, or of all, newest first. Raises NoSuchVersionError for a model that is not there."""
    with connected(uri) as client:
        models = (
            [_model(client, name)] if name else sorted(pages(client.search_registered_models), key=lambda m: m.name)
        )
        return [see(client, found, model.aliases) for model in models for found in newest_first(client, model.name)]


def find(uri: str, name: str, reference: str) -> Version:
    """The version that a number, `@ALIAS` or `sha256:HEX` of its package names. Raises NoSuchVersionError."""
    with connected(uri) as client:
        aliases = _model(client, name).aliases
        return see(client, wanted(client, name, reference), aliases)


def side_by_side(uri: str, name: str, first: str, second: str) -> Difference:
    """Two versions of a model, where they differ. Raises NoSuchVersionError."""
    a, b = find(uri, name, first), find(uri, name, second)
    return Difference(
        _changed(a.metrics, b.metrics),
        _changed(a.params, b.params),
        _changed(a.feature_views, b.feature_views),
        _changed(*({key: str(getattr(one, key)) for key in _FACTS} for one in (a, b))),
    )


_FACTS = ("digest", "data_digest", "code_version", "run", "status", "signed")


def _changed(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def status_of(aliases: list[str], tags: dict[str, str]) -> str:
    """Derived, so that it is right at once when the operator moves champion."""
    if CHAMPION in aliases:
        return "production"
    if tags.get(STATUS_TAG) == "archived":
        return "archived"
    return "staging" if CHALLENGER in aliases else "registered"


def see(client: Any, found: Any, aliases: dict[str, Any]) -> Version:
    """A version of MLflow's as ours; its run may be gone."""
    named = sorted(alias for alias, version in aliases.items() if str(version) == str(found.version))
    tags, run = dict(found.tags), _run(client, found.run_id)
    return Version(
        name=found.name,
        version=str(found.version),
        status=status_of(named, tags),
        aliases=named,
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        digest=tags.get(DIGEST_TAG, ""),
        package_uri=tags.get(PACKAGE_TAG, ""),
        signed=tags.get(SIGNED_TAG) == "true",
        data_digest=tags.get(DATA_TAG) or run.tags.get(DATA_TAG, ""),
        code_version=tags.get(CODE_TAG) or run.tags.get(CODE_TAG, ""),
        run=tags.get(RUN_TAG) or run.tags.get(RUN_TAG, ""),
        run_id=found.run_id or "",
        feature_views=json.loads(tags.get(FEATURE_VIEWS_TAG) or "{}"),
        outcome=tags.get("tidegate.outcome", ""),
        message=tags.get("tidegate.message", ""),
        metrics=run.metrics,
        params=run.params,
    )


@dataclass(frozen=True)
class _Run:
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


def _run(client: Any, run_id: str | None) -> _Run:
    try:
        data = client.get_run(run_id).data if run_id else None
    except Exception as error:
        if not is_missing(error):
            raise
        data = None
    return _Run(dict(data.tags), dict(data.metrics), dict(data.params)) if data else _Run()


def pages(search: Any, **filters: Any) -> Iterator[Any]:
    """Everything that a search of MLflow's finds, page by page."""
    token = None
    while True:
        page = search(page_token=token, **filters)
        yield from page
        token = page.token
        if not token:
            return


def newest_first(client: Any, name: str) -> list[Any]:
    """MLflow's versions of a model, newest first."""
    return sorted(pages(client.search_model_versions, filter_string=f"name = '{name}'"), key=lambda v: -int(v.version))


def _model(client: Any, name: str) -> Any:
    try:
        return client.get_registered_model(name)
    except Exception as error:
        if not is_missing(error):
            raise
        known = ", ".join(sorted(model.name for model in pages(client.search_registered_models))) or "none"
        raise _absent(f"model {name}", "name", name, f"a registered model ({known})") from error


def wanted(client: Any, name: str, reference: str) -> Any:
    """MLflow's version that a number, @ALIAS or sha256:HEX names. Raises NoSuchVersionError."""
    versions = newest_first(client, name)
    if reference.startswith("@"):
        number = str(client.get_registered_model(name).aliases.get(reference[1:], ""))
        found = [version for version in versions if str(version.version) == number]
    elif reference.startswith("sha256:"):
        found = [version for version in versions if version.tags.get(DIGEST_TAG) == reference]
    else:
        found = [version for version in versions if str(version.version) == reference]
    if not found:
        known = ", ".join(str(version.version) for version in reversed(versions)) or "none"
        raise _absent(f"model {name}", "version", reference, f"a version ({known}), @ALIAS or sha256:HEX of a package")
    return found[0]


def _absent(resource: str, name: str, value: str, expected: str) -> NoSuchVersionError:
    return NoSuchVersionError(
        resource=resource, field=name, value=value, expected=expected,
        remedy="`tidegate model list` shows what there is",
    )  # fmt: skip
