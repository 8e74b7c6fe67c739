"""Landing a stream: each batch is decoded, written beside, and committed with its offsets in one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.events.decode import Decoder
from tidegate_components.events.kafka import Batch, KafkaAddress, Limits, read_batches
from tidegate_components.events.kinds import QUARANTINE
from tidegate_components.events.landing import LandedFile, Landing, sync
from tidegate_components.events.lines import is_lines, read_lines
from tidegate_components.events.rows import read_rows
from tidegate_components.events.tables import BadEventsError
from tidegate_components.storage import file_digest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Landed", "land_batches", "land_file", "land_kafka"]


@dataclass(frozen=True)
class Landed:
    """What one run landed: rows by table, quarantined messages by reason, commits."""

    rows: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    commits: int = 0

    @property
    def messages(self) -> int:
        """Every message read, whatever became of it."""
        return sum(self.rows.values()) + sum(self.quarantined.values())

    def require_events(self, path: Path) -> None:
        """Raise BadEventsError where there were messages and none of them was an event."""
        if self.quarantined and not self.rows:
            raise BadEventsError(
                resource=str(path), field="messages", expected="at least one event",
                value=f"{self.messages:,} new, all quarantined: {self.quarantined}",
                remedy="mend the export; docs/events.md says what an event looks like",
            )  # fmt: skip

    def plus(self, files: Iterable[LandedFile], quarantined: dict[str, int]) -> Landed:
        """This and one more commit."""
        rows = Counter(self.rows)
        rows.update({QUARANTINE: 0})
        for file in files:
            rows[file.table] += file.rows
        del rows[QUARANTINE]
        return Landed(dict(rows), dict(Counter(self.quarantined) + Counter(quarantined)), self.commits + 1)


def land_kafka(
    address: KafkaAddress,
    into: Path,
    *,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[Landed], None] = lambda _: None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Landed:
    """Land the topics' events in `into`, from where the last commit ends; `told` hears after each commit.

    Killed at any moment and started again, every event is there once. Raises KafkaError and LandingError.
    """
    landing = Landing(into)
    batches = read_batches(address, landing.open().offsets, stop, follow=follow, limits=limits)
    return land_batches(landing, batches, told)


def land_file(path: Path, into: Path, told: Callable[[Landed], None] = lambda _: None) -> Landed:
    """Land a file of events: JSON lines, or rows of CSV or Parquet. What has landed of it stays as it is."""
    landing = Landing(into)
    read = read_lines if is_lines(path) else read_rows
    return land_batches(landing, read(path, landing.open().offsets), told)


def land_batches(landing: Landing, batches: Iterable[Batch], told: Callable[[Landed], None]) -> Landed:
    """Commit each batch to a landing that is open."""
    decoder, landed = Decoder(), Landed()
    for batch in ahead(batches):
        decoded = decoder.decode(batch.messages)
        files = tuple(_write(landing, decoded.tables))
        landing.commit(batch.offsets, files, decoded.reasons)
        landed = landed.plus(files, decoded.reasons)
        told(landed)
    return landed


def ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches, the next one being read while this one is written; a batch carries its own offsets."""
    source = iter(batches)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, source, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, source, None)
            yield batch


def _write(landing: Landing, tables: dict[str, pa.Table]) -> Iterable[LandedFile]:
    import pyarrow.parquet as pq

    part = 0
    for name, table in tables.items():
        for date, rows in _by_date(table, "ingested_at" if name == QUARANTINE else "event_time"):
            path = landing.stage(name, date, part)
            pq.write_table(rows, path, compression="zstd", compression_level=1)
            sync(path)
            sync(path.parent)
            yield LandedFile(str(path.relative_to(landing.folder)), name, rows.num_rows, file_digest(path))
            part += 1


def _by_date(table: pa.Table, column: str) -> Iterable[tuple[str, pa.Table]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    days = pc.cast(table[column], pa.date32())
    for day in sorted(pc.unique(days).to_pylist()):
        yield day.isoformat(), table.filter(pc.equal(days, pa.scalar(day, pa.date32())))
