"""The sample join: exactly one labelled row per impression."""

from __future__ import annotations

from pathlib import Path

from tidegate_components.events.tables import BadEventsError, read_table
from tidegate_components.storage import replacing

__all__ = ["join_samples"]

_JOIN = """
WITH first_click AS (
    SELECT i.request_id, i.item_id, min(c.event_time) AS click_time
    FROM impressions i
    JOIN clicks c ON c.request_id = i.request_id AND c.item_id = i.item_id AND c.event_time >= i.event_time
    GROUP BY ALL
)
SELECT i.*, (f.click_time IS NOT NULL)::BIGINT AS label, f.click_time
FROM impressions i LEFT JOIN first_click f ON f.request_id = i.request_id AND f.item_id = i.item_id
ORDER BY i.event_time, i.user_id, i.item_id, i.request_id
"""


def join_samples(folder: Path, into: Path) -> int:
    """Join `impressions` LEFT JOIN `clicks` of `folder` into one Parquet file; returns its rows, one per impression.

    Adds `label` (Int64, 1 where a click on the same item of the same request came at or after the impression) and
    `click_time` (the first such click). Rows are ordered by time. Raises BadEventsError where impressions repeat.
    """
    import duckdb
    import pyarrow.parquet as pq

    impressions, clicks = read_table(folder, "impressions"), read_table(folder, "clicks")
    with duckdb.connect() as db:
        db.register("impressions", impressions)
        db.register("clicks", clicks)
        _check_unique(db.execute(_REPEATED).fetchall(), folder)
        samples = db.sql(_JOIN).to_arrow_table()
    if samples.num_rows != impressions.num_rows:
        raise _bad(folder, f"{samples.num_rows} samples", f"{impressions.num_rows}, one per impression")
    with replacing(into) as beside:
        pq.write_table(samples, beside)
    return int(samples.num_rows)


_REPEATED = """
SELECT request_id, item_id, count(*) FROM impressions GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1
"""


def _check_unique(repeated: list[tuple[str, int, int]], folder: Path) -> None:
    for request, item, count in repeated:
        raise _bad(folder, f"item {item} {count} times in request {request}", "each item once per request")


def _bad(folder: Path, value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource=f"events in {folder}",
        field="table impressions",
        value=value,
        expected=expected,
        remedy="run `tidegate events clean` first; it quarantines duplicates",
    )
