"""Move a version towards production, back, or out of the way. Only the operator moves `champion`, after a rollout."""

from __future__ import annotations

from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.model_package import DIGEST_TAG, PACKAGE_TAG
from tidegate_components.registry.connection import connected
from tidegate_components.registry.versions import (
    CHALLENGER,
    CHAMPION,
    STATUS_TAG,
    NoSuchVersionError,
    Version,
    find,
    list_versions,
    wanted,
)

__all__ = ["StatusError", "archive", "point", "promote", "roll_back"]


class StatusError(TidegateError):
    """A change of status that is refused."""


def promote(uri: str, name: str, reference: str) -> Version:
    """Point `challenger` at a version, so that the operator rolls it out; returns the version as it stands then.

    A version that was archived comes back. Raises NoSuchVersionError, and StatusError for one without a package.
    """
    before = find(uri, name, reference)
    if not before.digest or not before.package_uri:
        raise _refused(
            before, "package", f"tags {DIGEST_TAG} and {PACKAGE_TAG}",
            "register its package with the pipeline, which writes them",
        )  # fmt: skip
    with connected(uri) as client:
        point(client, name, CHALLENGER, before.version)
    return find(uri, name, before.version)


def roll_back(uri: str, name: str) -> Version:
    """Point `challenger` at the newest version before the champion that a rollout once promoted; returns it.

    The champion's traffic moves when the operator has rolled that version out. Raises StatusError where there is none.
    """
    versions = list_versions(uri, name)
    now = next((int(one.version) for one in versions if CHAMPION in one.aliases), None)
    earlier = [one for one in versions if now is not None and int(one.version) < now and one.outcome == "promoted"]
    usable = [one for one in earlier if one.status != "archived"]
    if not usable:
        raise StatusError(
            resource=f"model {name}", field="roll back", value=f"champion is version {now}" if now else "no champion",
            expected="an earlier version that a rollout promoted and that is not archived",
            remedy=f"name the version: `tidegate model promote {name} VERSION`",
        )  # fmt: skip
    return promote(uri, name, usable[0].version)


def archive(uri: str, name: str, reference: str) -> Version:
    """Mark a version as archived; returns it. Raises StatusError for a version that an alias names."""
    before = find(uri, name, reference)
    if before.aliases:
        raise _refused(before, "aliases", "a version that no alias names", _way_out(before))
    with connected(uri) as client:
        client.set_model_version_tag(name, before.version, STATUS_TAG, "archived")
    return find(uri, name, before.version)


def point(client: Any, name: str, alias: str, version: str) -> None:
    """Move an alias; of challenger also the tag that MLflow's pages show."""
    if alias == CHALLENGER:
        _untag(client, name)
        client.set_model_version_tag(name, version, STATUS_TAG, "staging")
    client.set_registered_model_alias(name, alias, version)


def _untag(client: Any, name: str) -> None:
    """The version that was challenger before is staged no longer."""
    try:
        before = wanted(client, name, f"@{CHALLENGER}")
    except NoSuchVersionError:
        return
    if before.tags.get(STATUS_TAG) == "staging":
        client.delete_model_version_tag(name, str(before.version), STATUS_TAG)


def _way_out(version: Version) -> str:
    if CHAMPION in version.aliases:
        return "it serves: roll another version out first, the operator then moves champion"
    if CHALLENGER in version.aliases:
        return f"point the alias elsewhere first: `tidegate model promote {version.name} VERSION`"
    return f"remove the alias {version.aliases[0]} in MLflow first"


def _refused(version: Version, field: str, expected: str, remedy: str) -> StatusError:
    value = version.aliases if field == "aliases" else "none"
    return StatusError(
        resource=f"version {version.version} of {version.name}", field=field, value=value, expected=expected,
        remedy=remedy,
    )  # fmt: skip
