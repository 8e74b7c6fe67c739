"""A view's online values as a table: for snapshots to Parquet, and to look at what is stored."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.encoding import from_micros
from tidegate_components.features.online import OnlineStore
from tidegate_components.features.values import arrow_type, columns_of
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["online_batches", "snapshot"]

_ROWS = 20_000


def online_batches(view: FeatureView, store: OnlineStore, limit: int | None = None) -> pa.RecordBatchReader:
    """Keys, features and `as_of` of every stored value, or of the first `limit` that the store names."""
    import pyarrow as pa

    schema = pa.schema([*columns_of(view), ("as_of", arrow_type("Timestamp"))])
    rows = islice(store.scan(view), limit)

    def batches() -> Any:
        while chunk := list(islice(rows, _ROWS)):
            lists = zip(*((*key, *value.values, from_micros(value.as_of)) for key, value in chunk), strict=True)
            arrays = [pa.array(values, field.type) for values, field in zip(lists, schema, strict=True)]
            yield pa.record_batch(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def snapshot(view: FeatureView, store: OnlineStore, into: Path) -> int:
    """Write the view's online values to a Parquet file, whole or not at all; returns the rows."""
    import pyarrow.parquet as pq

    reader, rows = online_batches(view, store), 0
    with replacing(into) as beside, pq.ParquetWriter(beside, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
