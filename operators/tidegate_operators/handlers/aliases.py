"""Which deployments to wake when an alias moves: one question to the registry for all of them.

What is remembered here is only who asked for what; a restart fills it again with the first look at each deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.handlers.keeper import Key

__all__ = ["AliasWatch"]

Alias = tuple[str, str]
"""Registered model and alias."""


class AliasWatch:
    """The aliases that kept deployments follow, and the version that each was last seen at."""

    def __init__(self) -> None:
        self._followers: dict[Key, tuple[Alias, str | None]] = {}
        self._answered = True
        self._lock = Lock()

    def saw(self, key: Key, deployment: ModelDeployment) -> None:
        """A deployment is looked at: remember what it follows.

        Its status says what was named before this look, which is older than what `moved` has seen since: a version is
        taken from there only where none is known yet.
        """
        source = deployment.spec.model.registry
        with self._lock:
            if source is None:
                self._followers.pop(key, None)
                return
            alias, known = (source.name, source.alias), deployment.status.source
            if self._followers.get(key, (None, None))[0] != alias:
                self._followers[key] = (alias, known.version if known else None)

    def forget(self, key: Key) -> None:
        """A deployment is gone."""
        with self._lock:
            self._followers.pop(key, None)

    @property
    def is_needed(self) -> bool:
        """Whether anybody follows an alias."""
        return bool(self._followers)

    def moved(self, versions: Mapping[Alias, str] | None) -> list[Key]:
        """The deployments to look at, given where every alias points; none: the registry does not answer.

        When it falls silent, and when it speaks again, all are: their conditions say so.
        """
        with self._lock:
            turned, self._answered = (versions is not None) != self._answered, versions is not None
            if turned:
                return list(self._followers)
            if versions is None:
                return []
            stale = {key: at for key, at in self._followers.items() if versions.get(at[0]) != at[1]}
            for key, (alias, _) in stale.items():
                self._followers[key] = (alias, versions.get(alias))
            return list(stale)
