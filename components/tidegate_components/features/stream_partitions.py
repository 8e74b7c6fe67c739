"""The partitions that the engine gave a stream: their state, and as of when their values can be computed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import KafkaSource
from tidegate_components.features.stream_messages import Message
from tidegate_components.features.stream_state import PartitionState, Schedule

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from quixstreams.dataframe import StreamingDataFrame

__all__ = ["Partitions"]

_QUIET_S = 0.3
_TIMEOUT_S = 20.0


class Partitions:
    """The partitions that the engine gave us: their state, and as of when their values can be computed."""

    def __init__(self, schedule: Schedule, settle: int, source: KafkaSource) -> None:
        self._schedule, self._settle = schedule, settle
        self._probe = _Probe(source)
        self._known: dict[int, Any] = {}
        self._states: dict[int, PartitionState] = {}
        self._checkpoints: dict[int, Any] = {}
        self._newest: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._waiting: dict[int, tuple[float, tuple[int, int] | None]] = {}
        self._marked: dict[int, tuple[int, int]] = {}
        self.behind = True

    def watch(self, frame: StreamingDataFrame) -> None:
        """Look at the partitions of this dataframe."""
        self._frame = frame

    def note(self, message: Message) -> None:
        """A message was read."""
        self._newest[message.partition] = message.timestamp * 1000

    def state(self, partition: int) -> PartitionState:
        """The state of a partition, on the transaction of the running checkpoint."""
        context, stream = self._frame.processing_context, self._frame.stream_id
        stored = context.state_manager.get_store(stream).partitions[partition]
        if self._known.get(partition) is not stored:
            self._forget(partition)
            self._known[partition], self._starts[partition] = stored, self._start(partition)
        handle: Any = context.checkpoint.get_store_transaction(stream, partition).as_state()
        if partition not in self._states:
            self._states[partition] = PartitionState(self._schedule, handle)
            self._checkpoints[partition] = context.checkpoint
        state = self._states[partition].use(handle)
        if self._checkpoints[partition] is not context.checkpoint:
            self._checkpoints[partition] = context.checkpoint
            state.committed()
        return state

    def _forget(self, partition: int) -> None:
        kept: tuple[dict[int, Any], ...] = (self._known, self._states, self._last, self._waiting, self._marked)
        for each in kept:
            each.pop(partition, None)

    def as_of(self) -> dict[int, int]:
        """For each partition the time by which all that was known has been read; none where that is not known yet."""
        store = self._frame.processing_context.state_manager.get_store(self._frame.stream_id)
        for gone in set(self._known) - set(store.partitions):
            self._forget(gone)
        now, self.behind = time.time_ns() // 1000, not store.partitions
        found = {}
        for partition in store.partitions:
            self.state(partition)
            until = self._read_until(partition, now)
            if until is not None:
                found[partition] = max(until - self._settle, self._last.get(partition, 0))
        self._last |= found
        return found

    def _read_until(self, partition: int, now: int) -> int | None:
        if self._caught_up(partition):
            return now
        self.behind = True
        newest = self._newest.get(partition)
        return None if newest is None else min(newest, now)

    def _caught_up(self, partition: int) -> bool:
        """Whether all messages of the partition have been read, as far as the last answer of the broker tells."""
        position, high = self._position(partition), self._end(partition)
        return position >= high or self._only_markers_left(partition, position, high)

    def _position(self, partition: int) -> int:
        """The offset that is read next; before the first message the one from which the engine reads."""
        position = int(self._consumer().position([self._place(partition)])[0].offset)
        return position if position >= 0 else self._starts[partition]

    def _end(self, partition: int, *, asked: bool = False) -> int:
        _, high = self._consumer().get_watermark_offsets(self._place(partition), timeout=_TIMEOUT_S, cached=not asked)
        return int(high) if high >= 0 else self._end(partition, asked=True)

    def _start(self, partition: int) -> int:
        committed = int(self._consumer().committed([self._place(partition)], timeout=_TIMEOUT_S)[0].offset)
        low, _ = self._consumer().get_watermark_offsets(self._place(partition), timeout=_TIMEOUT_S)
        return max(committed, int(low))

    def _only_markers_left(self, partition: int, position: int, high: int) -> bool:
        """Whether what lies before the end are marks of transactions, which a consumer never hands out."""
        now, place = time.monotonic(), (position, high)
        if self._marked.get(partition) == place:
            return True
        since, judged = self._waiting.get(partition, (now, None))
        if judged != place:
            self._waiting[partition] = (now, place)
            return False
        ended = now - since >= _QUIET_S and self._probe.is_end(partition, position)
        if ended:
            self._marked[partition] = place
        return ended

    def _consumer(self) -> Any:
        return self._frame.processing_context.consumer

    def _place(self, partition: int) -> Any:
        from confluent_kafka import TopicPartition

        return TopicPartition(self._frame.topics[0].name, partition)

    def least_as_of(self) -> int | None:
        """The time as of which the values of all partitions hold; None while one is not known."""
        complete = self._last and set(self._last) == set(self._known)
        return min(self._last.values()) if complete else None


class _Probe:
    """Looks with a consumer of its own whether a message comes after a position, or the end of what is committed."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source
        self._consumer: Consumer | None = None

    def is_end(self, partition: int, position: int) -> bool:
        """Whether no message comes after `position`; False also where the broker does not answer within a second."""
        from confluent_kafka import KafkaError, TopicPartition

        consumer = self._open()
        consumer.assign([TopicPartition(self._source.topic, partition, position)])
        found = consumer.poll(1.0)
        consumer.unassign()
        error = found.error() if found is not None else None
        return error is not None and error.code() == KafkaError._PARTITION_EOF

    def _open(self) -> Consumer:
        from confluent_kafka import Consumer

        if self._consumer is None:
            settings: dict[str, Any] = {
                "bootstrap.servers": self._source.bootstrap_servers,
                "group.id": "tidegate-probe",  # librdkafka asks for one; nothing is ever committed to it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
            self._consumer = Consumer(settings)
        return self._consumer
