"""Keep a view over a Kafka topic current in the online store, on Quix Streams.

The engine owns consumer, state (RocksDB and a changelog topic) and checkpoints. Each change of the state goes to the
changelog with the offset that it comes from, and one that is ahead of the committed offset is passed over after a kill,
so that each event counts once in the state, and a lost disk is filled again from the changelog. Redis is written before
a checkpoint: a repeated write is the same, and newest wins. (The engine's Kafka transactions are not used: with them
send_offsets_to_transaction was seen to hang for more than 20 s; librdkafka's issues 5456 and 5511 may be why.)

A turn, each quarter of a second, takes what has come into the state and writes the value of every entity that changed,
as of a time at which everything known by then has been read: `settle` before now, or before the last message that was
read where the stream is behind. Turns need no messages: the engine runs them between polls.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView, KafkaSource
from tidegate_components.events.kafka import KafkaAwayError, KafkaError
from tidegate_components.features.errors import BadFeaturesError, OnlineStoreError
from tidegate_components.features.online import OnlineStore, Watermark
from tidegate_components.features.source import view_error
from tidegate_components.features.sql import in_micros
from tidegate_components.features.stream_messages import Event, Message, MessageReader
from tidegate_components.features.stream_partitions import Partitions
from tidegate_components.features.stream_progress import Progress
from tidegate_components.features.stream_state import Schedule
from tidegate_components.features.stream_values import Calculator, Computed

if TYPE_CHECKING:
    from quixstreams import Application

__all__ = ["Options", "Stream", "stream_view"]

_TURN_S = 0.25
_TURN_BEHIND_S = 2.0
_BEHIND_S = 5.0
_BATCH = 20_000
_COMMIT_S = 1.0
_POLL_S = 0.1
_WATERMARK_S = 2.0
_STORE_PATIENCE_S = 20.0
_TIMEOUT_S = 20.0
_TOLD = 5
_MISKEYED = 100


@dataclass(frozen=True)
class Options:
    """How a stream runs. `settle` is how long after its timestamp a message may still come in unnoticed."""

    state: Path
    settle: timedelta = timedelta(milliseconds=500)
    until_idle: timedelta | None = None
    report_each: timedelta = timedelta(seconds=10)


def stream_view(
    view: FeatureView,
    store: OnlineStore,
    options: Options,
    progress: Progress,
    told: Callable[[str], None] = lambda _: None,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run until SIGTERM, or until nothing has come for `until_idle`. To be called from the main thread.

    `told` hears of the first broken messages of each kind, `report` gets the counts now and then. Raises
    BadFeaturesError for a view that is not over Kafka or does not fit its topic, KafkaError, OnlineStoreError.
    """
    source = _kafka(view)
    reader = MessageReader(view, keyed=_partitions(source) > 1)
    app = _application(view, source, options.state)
    Stream(view, store, options, progress, reader, told, report).run(app)


def _kafka(view: FeatureView) -> KafkaSource:
    if view.spec.source.kafka is None:
        raise view_error(view, "source", view.spec.source.address, "source.kafka: only a topic can be streamed")
    return view.spec.source.kafka


def _partitions(source: KafkaSource) -> int:
    """How many partitions the topic has, for the engine would make a topic that is not there."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        admin = AdminClient({"bootstrap.servers": source.bootstrap_servers, "log_level": 0})
        topic = admin.list_topics(source.topic, timeout=_TIMEOUT_S).topics[source.topic]
    except KafkaException as error:
        raise KafkaAwayError(
            resource=f"Kafka at {source.bootstrap_servers}", field="answer", value=str(error.args[0]),
            expected="a broker that answers", remedy="check source.kafka.bootstrapServers and the broker; run again",
        ) from error  # fmt: skip
    if topic.error is not None:
        raise KafkaError(
            resource=f"Kafka at {source.bootstrap_servers}", field="topic",
            value=f"{source.topic} ({topic.error.str()})", expected="a topic of the broker",
            remedy="create the topic or mend source.kafka.topic",
        )  # fmt: skip
    return len(topic.partitions)


def group_name(view: FeatureView) -> str:
    """Consumer group and state of one definition: a changed one starts anew from the topic."""
    return f"tidegate-{view.metadata.namespace}-{view.metadata.name}-{view.transform_hash[:12]}"


def _application(view: FeatureView, source: KafkaSource, state: Path) -> Application:
    """The engine. A fixed id lets a restarted stream go on at once, and fences off the older of two of one view."""
    from quixstreams import Application

    group = group_name(view)
    state.mkdir(parents=True, exist_ok=True)
    return Application(
        broker_address=source.bootstrap_servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        commit_interval=_COMMIT_S,
        consumer_poll_timeout=_POLL_S,
        state_dir=state,
        loglevel="DEBUG" if os.environ.get("TIDEGATE_DEBUG") else "WARNING",
        consumer_extra_config={"group.instance.id": group, "session.timeout.ms": 10_000, "log_level": 3},
        producer_extra_config={"log_level": 3},
    )


class Stream:
    """The messages on their way: gathered by the engine's sink, turned into state and values by its periodic task."""

    def __init__(
        self,
        view: FeatureView,
        store: OnlineStore,
        options: Options,
        progress: Progress,
        reader: MessageReader,
        told: Callable[[str], None],
        report: Callable[[Progress], None],
    ) -> None:
        self._view, self._store, self._options, self._progress = view, store, options, progress
        self._source = _kafka(view)
        self._reader, self._calculator, self._told, self._report = reader, Calculator(view), told, report
        self._gathered: list[Message] = []
        self._partitions = Partitions(Schedule.of(view), in_micros(options.settle), self._source)
        self._next_turn = self._next_watermark = 0.0
        self._next_report = time.monotonic() + options.report_each.total_seconds()
        self._busy = time.monotonic()

    def run(self, app: Application) -> None:
        """Start the engine and return when it has stopped."""
        self._app = app
        frame = app.dataframe(app.topic(self._source.topic, value_deserializer="bytes", key_deserializer="bytes"))
        frame.register_store()
        frame.sink(_sink(self._gather, self._absorb))
        self._partitions.watch(frame)
        frame.processing_context.dataframe_registry.register_periodic_task(self._between_polls)
        app.run()
        self._report(self._progress)

    def _gather(self, message: Message) -> None:
        self._gathered.append(message)
        self._progress.messages += 1
        self._partitions.note(message)

    def _between_polls(self) -> None:
        """The engine calls this after each poll, whether a message came or not."""
        now = time.monotonic()
        if now >= self._next_turn:
            self._turn()
            self._next_turn = now + (_TURN_BEHIND_S if (self._progress.lag or 0) > _BEHIND_S else _TURN_S)
            self._tell(time.monotonic())
        elif len(self._gathered) >= _BATCH:
            self._absorb()

    def _absorb(self) -> None:
        """Take what was gathered into the state; the engine also asks for it before each commit."""
        messages, self._gathered = self._gathered, []
        if not messages:
            return
        self._busy = time.monotonic()
        read = self._reader.read(messages)
        by_partition: dict[int, list[Event]] = defaultdict(list)
        for event in read.events:
            by_partition[event.partition].append(event)
        for partition, events in by_partition.items():
            self._partitions.state(partition).absorb(events)
            self._progress.newest_event = max([self._progress.newest_event or 0, *(event.at for event in events)])
        self._progress.events += len(read.events)
        self._progress.passed += read.passed
        for broken in read.broken:
            self._count(broken.reason, f"partition {broken.partition}, offset {broken.offset}")
        self._refuse_wrong_keys()

    def _count(self, reason: str, place: str) -> None:
        self._progress.broken[reason] += 1
        if self._progress.broken[reason] <= _TOLD:
            self._told(f"{self._view.metadata.name}: {place}: {reason}")

    def _refuse_wrong_keys(self) -> None:
        """A topic without any message keyed by the entity is the wrong one; a single such message is just broken."""
        keys = ",".join(key.name for key in self._view.spec.entity.join_keys)
        wrong = self._progress.broken[f"not keyed by {keys}"]
        if wrong >= _MISKEYED and self._progress.events + self._progress.passed == 0:
            raise BadFeaturesError(
                resource=f"FeatureView {self._view.metadata.name}", field="spec.source.kafka.topic",
                value=f"{self._source.topic} with {wrong} messages and none keyed by {keys}",
                expected=f"messages whose key is {keys} as text, so that one partition holds all events of an entity",
                remedy="produce them with that key, or use a topic of one partition",
            )  # fmt: skip

    def _turn(self) -> None:
        self._absorb()
        due = [one for partition, as_of in self._partitions.as_of().items()
               for one in self._partitions.state(partition).tick(as_of)]  # fmt: skip
        computed = self._calculator.compute(due)
        for entity, reason in computed.faults:
            self._progress.faults += 1
            self._told(f"{self._view.metadata.name}: value of {entity} does not compute, the older one stays: {reason}")
        self._write(computed)
        self._progress.as_of = self._partitions.least_as_of()
        if self._progress.as_of is not None:
            self._progress.lag = time.time() - self._progress.as_of / 1_000_000

    def _write(self, computed: Computed) -> None:
        """Write the values; a store that is away is waited for, since the state must not run ahead of it."""
        deadline = time.monotonic() + _STORE_PATIENCE_S
        while computed.rows:
            try:
                self._progress.rows += self._store.write(self._view, computed.rows)
                return
            except OnlineStoreError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _tell(self, now: float) -> None:
        if now >= self._next_watermark and self._progress.as_of is not None:
            self._advance(self._progress.as_of)
            self._next_watermark = now + _WATERMARK_S
        if now >= self._next_report:
            self._report(self._progress)
            self._next_report = now + self._options.report_each.total_seconds()
        idle = self._options.until_idle
        if idle is not None and not self._partitions.behind and now - self._busy >= idle.total_seconds():
            self._app.stop()

    def _advance(self, as_of: int) -> None:
        before = self._store.watermark(self._view)
        same = before is not None and before.transform_hash == self._view.transform_hash
        if not (same and before is not None and before.micros >= as_of):
            after = Watermark(as_of, self._view.schema_hash, self._view.transform_hash)
            self._store.advance(self._view, before, after)


def _sink(gather: Callable[[Message], None], flush: Callable[[], None]) -> Any:
    """The engine's sink: gets each message, and a call before each commit."""
    from quixstreams.sinks import BaseSink

    class Gatherer(BaseSink):  # type: ignore[misc,unused-ignore]
        def add(
            self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int
        ) -> None:
            gather(Message(partition, offset, timestamp, key, value))

        def flush(self) -> None:
            flush()

    return Gatherer()
