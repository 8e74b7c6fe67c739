"""What is stored of a view, offline and online: statistics of both, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import connect
from tidegate_components.features.materialize import AS_OF_PREFIX
from tidegate_components.features.online import OnlineStore
from tidegate_components.features.snapshot import online_batches
from tidegate_components.features.source import Connection, reading, view_error
from tidegate_components.features.sql import quoted
from tidegate_components.features.statistics import FeatureStatistics, describe
from tidegate_components.storage import resolve

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """One view in one store, `offline` or `online`."""

    view: str
    store: str
    statistics: list[FeatureStatistics]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "view": self.view,
            "store": self.store,
            "statistics": [found.to_json() for found in self.statistics],
        }


def measure(
    view: FeatureView,
    store: OnlineStore | None,
    slices: Sequence[str] = (),
    sample: int | None = None,
    claims: dict[str, Path] | None = None,
) -> list[Measured]:
    """Statistics of the newest offline value of each entity, and of the online values (of the first `sample` of them).

    A store that holds nothing of the view is left out. slices: join keys or features, whose every value is told of its
    own. Raises BadFeaturesError where a slice is neither.
    """
    for name in slices:
        if name not in view.columns:
            raise view_error(view, "features", name, f"a slice that is one of {', '.join(view.columns)}")
    with connect() as db:
        stores = {"offline": _offline(db, view, claims), "online": _online(db, view, store, sample)}
        named = [(feature.name, feature) for feature in view.spec.features]
        return [
            Measured(view.metadata.name, name, describe(db, name, named, slices))
            for name, is_there in stores.items()
            if is_there
        ]


def _offline(db: Connection, view: FeatureView, claims: dict[str, Path] | None) -> bool:
    """Make the table `offline`: each run wrote the entities that changed, so the newest row of each counts."""
    files = sorted(resolve(view.spec.offline.uri, claims).glob(f"{AS_OF_PREFIX}*.parquet"))
    if not files:
        return False
    keys = ", ".join(quoted(key.name) for key in view.spec.entity.join_keys)
    newest = f"row_number() OVER (PARTITION BY {keys} ORDER BY as_of DESC) = 1"
    db.execute(f"CREATE TABLE offline AS SELECT * FROM ({reading(files)}) QUALIFY {newest}")  # noqa: S608
    return bool(db.execute("SELECT count(*) FROM offline").fetchall()[0][0])


def _online(db: Connection, view: FeatureView, store: OnlineStore | None, sample: int | None) -> bool:
    if store is None:
        return False
    db.register("stored", online_batches(view, store, sample))
    db.execute("CREATE TABLE online AS SELECT * FROM stored")
    return bool(db.execute("SELECT count(*) FROM online").fetchall()[0][0])
