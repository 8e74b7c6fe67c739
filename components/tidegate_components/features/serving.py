"""What a service calls: the online features of a request's rows, and a log of exactly what it was given.

A logged row is one row of a request: `request_id`, `event_time` (when it was asked), the join keys, and for each view
`VIEW__FEATURE` per feature, `VIEW__as_of`, the time that the stored value carried, and `VIEW__stored`: where nothing
was stored the defaults were used, and the time is the view's watermark (null: it was never materialized).
`tidegate features replay` holds it against the definition.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import StoredValue, from_micros, key_value
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.join import column_name
from tidegate_components.features.online import OnlineStore, Watermark, defaults
from tidegate_components.features.values import arrow_type
from tidegate_components.json_values import rfc3339
from tidegate_components.storage import replacing

__all__ = ["FeatureLog", "FeatureService", "KafkaLog", "ParquetLog", "as_of_column", "stored_column"]

Row = Mapping[str, Any]
_ROWS_PER_FILE = 50_000


class FeatureLog(Protocol):
    """Where logged rows go. An append may be kept back; `close` brings all of it to its place."""

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take the rows of one request."""

    def close(self) -> None:
        """Write what was kept back."""


def as_of_column(view: str) -> str:
    """The column of a log that holds the as-of time of a view's values."""
    return f"{view}__as_of"


def stored_column(view: str) -> str:
    """The column of a log that says whether the view's values were stored; where not, the defaults were used."""
    return f"{view}__stored"


class FeatureService:
    """Reads the features of several views for the rows of a request, in one round trip, and logs what it gave.

    Not for use by several threads at once: a log keeps rows back without a lock.
    """

    def __init__(
        self,
        views: Sequence[FeatureView],
        store: OnlineStore,
        log: FeatureLog | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._views = views
        self._store = store
        self._log = log
        self._clock = clock
        self._defaults = {view.metadata.name: StoredValue(0, defaults(view)) for view in views}

    def read(self, request_id: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Per row of the request (a user and an item, say) a column VIEW__FEATURE per feature.

        rows: each has the join keys of every view. An entity that is not stored, or has a null in its key, has its
        view's defaults. Raises BadFeaturesError where a row lacks a key or has another type's, OnlineStoreError and
        SchemaMismatchError as OnlineStore.read does.
        """
        asked = self._clock()
        keys = [[_key(view, row) for row in rows] for view in self._views]
        wanted = [(view, list(dict.fromkeys(row))) for view, row in zip(self._views, keys, strict=True)]
        found, watermarks = self._store.read_with_watermarks(wanted, self._views)
        stored = [dict(zip(each, values, strict=True)) for (_, each), values in zip(wanted, found, strict=True)]
        values = [[there[row[n]] for there, row in zip(stored, keys, strict=True)] for n in range(len(rows))]
        features = [self._named(row) for row in values]
        if self._log is not None:
            head = {"request_id": request_id, "event_time": asked}
            triples = zip(rows, values, features, strict=True)
            self._log.append([head | self._logged(row, value, watermarks) | named for row, value, named in triples])
        return features

    def _named(self, values: Sequence[StoredValue | None]) -> dict[str, Any]:
        return {
            column_name(view.metadata.name, feature.name): value
            for view, stored in zip(self._views, values, strict=True)
            for feature, value in zip(
                view.spec.features, (stored or self._defaults[view.metadata.name]).values, strict=True
            )
        }

    def _logged(
        self, row: Row, values: Sequence[StoredValue | None], watermarks: Sequence[Watermark | None]
    ) -> dict[str, Any]:
        found = {
            key.name: key_value(view, row[key.name], key) for view in self._views for key in view.spec.entity.join_keys
        }
        for view, stored, watermark in zip(self._views, values, watermarks, strict=True):
            micros = stored.as_of if stored else watermark.micros if watermark else None
            found[stored_column(view.metadata.name)] = stored is not None
            found[as_of_column(view.metadata.name)] = from_micros(micros) if micros is not None else None
        return found


def _key(view: FeatureView, row: Row) -> tuple[Any, ...]:
    try:
        return tuple(row[key.name] for key in view.spec.entity.join_keys)
    except KeyError as error:
        raise BadFeaturesError(
            resource="request", field="row", value=dict(row), expected=f"a value of {error} for view "
            f"{view.metadata.name}", remedy="send every join key of every view that is read",
        ) from error  # fmt: skip


class ParquetLog:
    """A folder of Parquet files of up to 50,000 rows, each there as a whole or not at all."""

    def __init__(self, folder: Path, views: Sequence[FeatureView]) -> None:
        self._folder = folder
        self._schema = _arrow_schema(views)
        self._rows: list[dict[str, Any]] = []

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep the rows, and write a file when there are enough."""
        self._rows += rows
        if len(self._rows) >= _ROWS_PER_FILE:
            self.close()

    def close(self) -> None:
        """Write the rows that are kept back."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet"
        with replacing(self._folder / name) as beside:
            pq.write_table(pa.Table.from_pylist(self._rows, self._schema), beside)
        self._rows = []


class KafkaLog:
    """Events of the kind `feature_log` on a topic, keyed by request; `tidegate events ingest` lands them.

    A row with an `item_id` is that item's line, which the sample join gives to its impression.

    producer: a confluent_kafka.Producer, or whatever has its `produce`, `poll` and `flush`.
    """

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Hand the rows to the producer, one message each."""
        for row in rows:
            event = {key: row[key] for key in ("request_id", "event_time")} | {"type": "feature_log"}
            event["features"] = {key: value for key, value in row.items() if key not in event}
            if "item_id" in row:
                event["item_id"] = row["item_id"]
            self._producer.produce(self._topic, json.dumps(event, default=_text), key=row["request_id"])
        self._producer.poll(0)

    def close(self) -> None:
        """Wait until the broker has all of them."""
        self._producer.flush()


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return rfc3339(value)
    raise TypeError(f"{type(value).__name__} has no place in a feature log")


def _arrow_schema(views: Sequence[FeatureView]) -> Any:
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    fields = {"request_id": pa.string(), "event_time": time}
    for view in views:
        fields |= {key.name: arrow_type(key.type) for key in view.spec.entity.join_keys}
        name = view.metadata.name
        fields |= {as_of_column(name): time, stored_column(name): pa.bool_()}
        fields |= {column_name(name, feature.name): arrow_type(feature.type) for feature in view.spec.features}
    return pa.schema(list(fields.items()))
