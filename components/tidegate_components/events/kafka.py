"""Messages from Kafka as Arrow batches. The landing's log holds the offsets; no consumer group does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate_api.errors import TidegateError
from tidegate_components.events.decode import message_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Consumer, Message

__all__ = ["Batch", "KafkaAddress", "KafkaError", "Limits", "parse_address", "read_batches"]

_SCHEME = "kafka://"
_TIMEOUT = 20.0
_CHUNK = 10_000


class KafkaError(TidegateError):
    """A topic that is not there, offsets that are gone, or a broker that does not answer (`transient`)."""

    transient = False


class KafkaAwayError(KafkaError):
    """The broker does not answer; trying again may mend it."""

    transient = True


@dataclass(frozen=True)
class KafkaAddress:
    """kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]."""

    servers: str
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """When a batch is full: by rows, by bytes, or by the seconds since its first message."""

    rows: int = 250_000
    size: int = 256 << 20
    seconds: float = 5.0


@dataclass(frozen=True)
class Batch:
    """Messages (of `decode.message_schema`) and the offset that comes next in each "TOPIC/PARTITION"."""

    messages: pa.Table
    offsets: dict[str, int]


def parse_address(text: str) -> KafkaAddress:
    """Read `kafka://HOST:PORT/TOPIC`. Raises KafkaError."""
    servers, _, topics = text.removeprefix(_SCHEME).partition("/")
    names = tuple(name for name in topics.split(",") if name)
    if not text.startswith(_SCHEME) or not servers or not names:
        raise KafkaError(
            resource="source", field="--from", value=text, expected="kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]",
            remedy="name a broker and a topic",
        )  # fmt: skip
    return KafkaAddress(servers, names)


def read_batches(
    address: KafkaAddress, landed: Mapping[str, int], stop: Callable[[], bool], *, follow: bool, limits: Limits
) -> Iterator[Batch]:
    """Read on from `landed`, batch by batch, until the end of each partition (or, with `follow`, until `stop()`).

    Raises KafkaError where a topic is missing or messages between `landed` and the topic's start were deleted.
    """
    with _Reader(address, landed, limits) as reader:
        while not stop() and (follow or not reader.is_done()):
            batch = reader.read(stop)
            if batch is not None:
                yield batch


class _Reader:
    """A consumer with its positions; it ends with the block."""

    def __init__(self, address: KafkaAddress, landed: Mapping[str, int], limits: Limits) -> None:
        self._address, self._limits = address, limits
        self._consumer = _consumer(address)
        try:
            self._offsets = {**landed, **_positions(self._consumer, address, landed)}
        except BaseException:
            self._consumer.close()
            raise
        self._ended: set[str] = set()
        self._partitions = len(_assign(self._consumer, self._offsets, address))

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def is_done(self) -> bool:
        """Whether each partition was read to its end once."""
        return len(self._ended) == self._partitions

    def read(self, stop: Callable[[], bool]) -> Batch | None:
        """Fill one batch; None where nothing came."""
        chunks: list[pa.Table] = []
        rows = size = 0
        deadline = time.monotonic() + self._limits.seconds
        while rows < self._limits.rows and size < self._limits.size and time.monotonic() < deadline and not stop():
            messages = self._consumer.consume(min(_CHUNK, self._limits.rows - rows), 0.2)
            chunk = self._take(messages)
            rows, size = rows + chunk.num_rows, size + chunk["message"].nbytes
            chunks += [chunk] if chunk.num_rows else []
            if self.is_done() and not messages:
                break
        return _batch(chunks, self._offsets) if chunks else None

    def _take(self, messages: list[Message]) -> pa.Table:
        events = [message for message in messages if message.error() is None]
        if len(events) < len(messages):
            self._heed([message for message in messages if message.error() is not None])
        topics = [message.topic() or "" for message in events]
        partitions = [message.partition() or 0 for message in events]
        offsets = [message.offset() or 0 for message in events]
        for (topic, partition), last in dict(zip(zip(topics, partitions, strict=True), offsets, strict=True)).items():
            self._offsets[f"{topic}/{partition}"] = last + 1
        return _table(events, topics, partitions, offsets)

    def _heed(self, marks: list[Message]) -> None:
        from confluent_kafka import KafkaError as Code

        for mark in marks:
            error, topic, partition = mark.error(), mark.topic() or "", mark.partition() or 0
            if error is None or error.code() == Code._PARTITION_EOF:
                self._ended.add(f"{topic}/{partition}")
            elif error.code() in {Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE}:
                raise _gone(topic, partition, error.str())
            elif error.code() == Code._ALL_BROKERS_DOWN or not error.retriable():
                _ask(self._consumer, self._address)


def _ask(consumer: Consumer, address: KafkaAddress) -> None:
    """Return once the broker answers. Raises KafkaAwayError where it does not within the timeout."""
    from confluent_kafka import KafkaException

    try:
        consumer.list_topics(timeout=_TIMEOUT)
    except KafkaException as error:
        raise _away(address, str(error.args[0])) from error


def _consumer(address: KafkaAddress) -> Consumer:
    from confluent_kafka import Consumer

    settings: dict[str, Any] = {
        "bootstrap.servers": address.servers,
        "group.id": "tidegate-landing",  # librdkafka asks for one; nothing is ever committed to it
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.max.bytes": 64 << 20,
        "max.partition.fetch.bytes": 8 << 20,
        "queued.max.messages.kbytes": 128 << 10,
        "log_level": 3,
    }
    return Consumer(settings, logger=_silent())


def _silent() -> Any:
    import logging

    logger = logging.getLogger("tidegate.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def _positions(consumer: Consumer, address: KafkaAddress, landed: Mapping[str, int]) -> dict[str, int]:
    """The offset to read first in each partition of the topics: the landed one, else the oldest there is."""
    from confluent_kafka import KafkaException, TopicPartition

    try:
        topics = {name: consumer.list_topics(name, timeout=_TIMEOUT).topics[name] for name in address.topics}
        for name, topic in topics.items():
            if topic.error is not None:
                raise _missing(address, name, topic.error.str())
        places = [(name, number) for name, topic in topics.items() for number in topic.partitions]
        bounds = {
            place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT, cached=False)
            for place in places
        }
    except KafkaException as error:
        raise _away(address, str(error.args[0])) from error
    return {f"{name}/{number}": _first(name, number, landed, *bounds[name, number]) for name, number in places}


def _first(topic: str, partition: int, landed: Mapping[str, int], low: int, high: int) -> int:
    offset = landed.get(f"{topic}/{partition}", low)
    if not low <= offset <= high:
        raise _gone(topic, partition, f"landed up to {offset}, but the topic holds {low} to {high}")
    return offset


def _assign(consumer: Consumer, offsets: Mapping[str, int], address: KafkaAddress) -> list[Any]:
    from confluent_kafka import TopicPartition

    places = [(*key.rpartition("/")[::2], offset) for key, offset in offsets.items()]
    wanted = [TopicPartition(name, int(number), offset) for name, number, offset in places if name in address.topics]
    consumer.assign(wanted)
    return wanted


def _table(events: list[Message], topics: list[str], partitions: list[int], offsets: list[int]) -> pa.Table:
    import pyarrow as pa

    schema = message_schema()
    columns = [
        pa.array(topics, pa.string()).dictionary_encode(),
        pa.array(partitions, pa.int32()),
        pa.array(offsets, pa.int64()),
        pa.array([message.timestamp()[1] for message in events], pa.timestamp("ms", tz="UTC")).cast(schema.types[3]),
        pa.array([message.value() for message in events], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _batch(chunks: list[pa.Table], offsets: Mapping[str, int]) -> Batch:
    import pyarrow as pa

    return Batch(pa.concat_tables(chunks), dict(offsets))


def _missing(address: KafkaAddress, topic: str, why: str) -> KafkaError:
    return KafkaError(
        resource=f"Kafka at {address.servers}", field="topic", value=f"{topic} ({why})",
        expected="a topic of the broker", remedy="create the topic or mend its name",
    )  # fmt: skip


def _gone(topic: str, partition: int, why: str) -> KafkaError:
    return KafkaError(
        resource=f"topic {topic}", field=f"partition {partition}", value=why,
        expected="the next message still there",
        remedy="events were deleted before they landed, or the topic was made anew: land into a new folder",
    )  # fmt: skip


def _away(address: KafkaAddress, why: str) -> KafkaError:
    return KafkaAwayError(
        resource=f"Kafka at {address.servers}", field="answer", value=why, expected="a broker that answers",
        remedy="check the address and the broker, then run again; nothing is lost or doubled",
    )  # fmt: skip
