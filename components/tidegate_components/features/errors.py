"""What can be wrong with features."""

from __future__ import annotations

from tidegate_api.errors import TidegateError

__all__ = ["BadFeaturesError", "OnlineStoreError", "SchemaMismatchError"]


class BadFeaturesError(TidegateError):
    """A view, its source or the entities asked for do not fit together."""


class OnlineStoreError(TidegateError):
    """The online store cannot be reached or refuses the work. Trying again may help."""

    transient = True


class SchemaMismatchError(TidegateError):
    """A stored value was written with another schema than the reader's."""
