"""The option --online of the commands that speak to a view's online store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tidegate_api.feature_view import FeatureView
    from tidegate_components.features.online import OnlineStore

__all__ = ["Online", "open_online"]

Online = Annotated[
    str, typer.Option(help="redis://HOST:PORT/DB; default: the view's own.", envvar="TIDEGATE_ONLINE_URL")
]


def open_online(view: FeatureView, online: str) -> OnlineStore:
    """Connect to `online`, else to the address that the view names.

    Raises BadFeaturesError where there is no address or it is none, OnlineStoreError where nothing answers.
    """
    from tidegate_components.features.errors import BadFeaturesError
    from tidegate_components.features.online import open_store

    url = online or view.spec.online.redis.url
    if not url:
        raise BadFeaturesError(
            resource=f"FeatureView {view.metadata.name}", field="online.redis", value="an address in a Secret",
            expected="--online redis://HOST:PORT/DB", remedy="pass --online or set TIDEGATE_ONLINE_URL",
        )  # fmt: skip
    return open_store(url)
