"""FeatureView: one definition of features, for the offline and the online store.

The resource is also the file that the offline tools read. The meaning of every word is in docs/feature-views.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tidegate_api.durations import Duration, PositiveDuration
from tidegate_api.errors import TidegateError
from tidegate_api.feature import ColumnName, Feature, FeatureType
from tidegate_api.hashes import content_hash
from tidegate_api.resource import Condition, Resource, Time, Value
from tidegate_api.rules import rule
from tidegate_api.schedules import Schedule

__all__ = [
    "Column",
    "Entity",
    "FeatureLog",
    "FeatureView",
    "FeatureViewSpec",
    "FeatureViewStatus",
    "Interval",
    "JoinKey",
    "KafkaSource",
    "Materialization",
    "Online",
    "SecretKeyRef",
    "Source",
    "UrlFrom",
]

Uri = Annotated[str, Field(min_length=1, max_length=1024)]


class JoinKey(Value):
    """A column that identifies the entity."""

    name: ColumnName
    """The column."""
    type: FeatureType
    """Its type."""


class Entity(Value):
    """What the features describe: a user, an item, a pair of them."""

    name: ColumnName
    """user, item, user_item, ..."""
    join_keys: Annotated[list[JoinKey], Field(min_length=1, max_length=8)]
    """The columns that together identify one."""


class ParquetSource(Value):
    """Events in Parquet: a file, a folder or a glob."""

    uri: Uri
    """A file, folder or glob: a path, file://PATH or pvc://CLAIM/PATH."""


class Column(Value):
    """A field of a message and its type."""

    name: ColumnName
    """The field."""
    type: FeatureType
    """Its type."""


class KafkaSource(Value):
    """Events as JSON objects, one a message, on a topic whose messages are keyed by the entity."""

    bootstrap_servers: Annotated[str, Field(min_length=1, max_length=1024)]
    """HOST:PORT[,HOST:PORT]"""
    topic: Annotated[str, Field(pattern="^[A-Za-z0-9._-]+$", max_length=200)]
    """The topic."""
    columns: Annotated[
        list[Column],
        Field(max_length=256, description="Types of fields that do not follow from the view: docs/feature-views.md."),
    ] = []

    @property
    def address(self) -> str:
        """kafka://HOST:PORT/TOPIC."""
        return f"kafka://{self.bootstrap_servers}/{self.topic}"


class Source(Value):
    """Where the events are and which columns say when they happened and when they became known."""

    rules: ClassVar = [
        rule("has(self.parquet) || has(self.kafka)", "parquet, kafka or both must be set"),
        rule(
            "has(self.kafka) == has(oldSelf.kafka)",
            "source cannot turn from parquet to kafka or back: make a view of another name",
        ),
    ]

    files: Annotated[
        ParquetSource | None, Field(alias="parquet", description="Parquet files: a path, file://, pvc://CLAIM/PATH.")
    ] = None
    kafka: Annotated[
        KafkaSource | None,
        Field(
            description="A topic; a stream keeps the view current. `parquet` beside it is where the topic is landed."
        ),
    ] = None
    event_timestamp: Annotated[ColumnName, Field(description="Column with the time at which the event happened.")]
    created_timestamp: Annotated[
        ColumnName | None, Field(description="Column with the time at which the row became known.")
    ] = None

    @model_validator(mode="after")
    def _has_source(self) -> Source:
        if self.files is None and self.kafka is None:
            raise ValueError("parquet, kafka or both: the topic, and where it is landed")
        return self

    @property
    def parquet(self) -> ParquetSource:
        """The files; raises TidegateError where there is only a topic, which has no history to read."""
        if self.files is None:
            raise TidegateError(
                resource="FeatureView", field="spec.source", value=self.address, expected="source.parquet",
                remedy="land the topic by `tidegate events ingest` and name its Parquet in source.parquet beside it",
            )  # fmt: skip
        return self.files

    @property
    def address(self) -> str:
        """The files' uri or kafka://HOST:PORT/TOPIC, for people."""
        return self.kafka.address if self.kafka is not None else self.parquet.uri


class OfflineStore(Value):
    """Where materialized values are kept as Parquet."""

    uri: Uri
    """A folder: a path, file://PATH or pvc://CLAIM/PATH."""


class SecretKeyRef(Value):
    """One key of a Secret in the view's namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """The key within it."""


class UrlFrom(Value):
    """An address kept in a Secret."""

    secret_key_ref: SecretKeyRef
    """The key of a Secret that holds the address."""


class Redis(Value):
    """The online store's address, in the clear or from a Secret."""

    rules: ClassVar = [rule("has(self.url) != has(self.urlFrom)", "exactly one of url and urlFrom must be set")]

    url: Annotated[str | None, Field(pattern="^rediss?://.+", max_length=1024)] = None
    """redis://HOST:PORT/DB, in the clear."""
    url_from: UrlFrom | None = None
    """The address from a Secret."""

    @model_validator(mode="after")
    def _one_address(self) -> Redis:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("exactly one of url and urlFrom")
        return self


class Online(Value):
    """The online store."""

    redis: Redis
    """A Redis or Valkey server."""


class FeatureLog(Value):
    """What serving logs of the values that it used; each run replays what is new in it."""

    parquet: ParquetSource
    """Where the log is."""


class Materialization(Value):
    """When and with what the view is computed."""

    engine: Literal["duckdb", "spark"] = "duckdb"
    """What computes it."""
    schedule: Annotated[Schedule, Field(description="Cron, five fields: minute, hour, day, month, day of week.")]
    time_zone: Annotated[str, Field(max_length=64)] = "Etc/UTC"
    """The schedule's time zone."""
    allowed_lateness: Annotated[Duration | None, Field(description="How late an event may become known.")] = None
    max_window: Annotated[PositiveDuration | None, Field(description="Bounds one run's interval.")] = None
    suspend: bool = False
    """Stops the schedule; what is there stays."""


class Freshness(Value):
    """The greatest age of the newest event at which the view still counts as fresh."""

    target: PositiveDuration
    """The age."""


class FeatureViewSpec(Value):
    """What the features are, where they come from and where their values go."""

    rules: ClassVar = [
        rule(
            "has(self.sql) ? self.features.all(f, !has(f.aggregate)) : self.features.all(f, has(f.aggregate))",
            "each feature has an aggregate, or none has one and sql gives the rows",
        ),
        rule(
            "self.features.all(f, self.features.exists_one(g, g.name.lowerAscii() == f.name.lowerAscii()))",
            "each feature needs a name of its own, letter case aside: two have the same",
        ),
        rule(
            "self.features.all(f, self.entity.joinKeys.all(k, k.name.lowerAscii() != f.name.lowerAscii()))",
            "a feature cannot have the name of a join key, letter case aside",
        ),
        rule("!has(self.sql) || has(self.ttl)", "ttl is required with sql: it bounds how long a row holds"),
        rule(
            "!has(self.sql) || !has(self.source.kafka)",
            "sql reads Parquet: give each feature an aggregate, or land the topic and name its Parquet",
        ),
    ]

    description: Annotated[str, Field(max_length=4096)] = ""
    """What the view is for."""
    owner: Annotated[str, Field(max_length=253)] = ""
    """Who answers for it."""
    tags: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=32)] = []
    """Words to find it by."""
    entity: Entity
    source: Source
    features: Annotated[list[Feature], Field(min_length=1, max_length=256)]
    """The features, in the order that readers see."""
    sql: Annotated[str | None, Field(max_length=16384, description="A SELECT over the table `source`.")] = None
    ttl: Annotated[
        PositiveDuration | None, Field(description="How long an online value (or a sql row) holds, inclusive.")
    ] = None
    offline: OfflineStore
    online: Online
    materialization: Materialization
    freshness: Freshness | None = None
    feature_log: FeatureLog | None = None
    evolution: Annotated[
        Literal["Additive", "Any"], Field(description="Additive holds breaking schema changes back; Any lets all pass.")
    ] = "Additive"

    @model_validator(mode="after")
    def _aggregates_or_sql(self) -> FeatureViewSpec:
        wanted = self.sql is None
        wrong = next((f.name for f in self.features if (f.aggregate is not None) != wanted), None)
        if wrong:
            raise ValueError(f"each feature to have an aggregate, or none and sql (see feature {wrong})")
        return self

    @model_validator(mode="after")
    def _sql_reads_files(self) -> FeatureViewSpec:
        if self.sql is not None and self.source.kafka is not None:
            raise ValueError("aggregates where source.kafka is set: sql reads Parquet; land the topic for it")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> FeatureViewSpec:
        names = [feature.name.lower() for feature in self.features]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"each feature to have a name of its own, letter case aside (two are called {twice})")
        both = next((key.name for key in self.entity.join_keys if key.name.lower() in names), None)
        if both:
            raise ValueError(f"each feature to have a name that is no join key's (see {both})")
        return self


class Interval(Value):
    """A half-open interval of event time."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time


class FeatureViewStatus(Value):
    """What the operator saw."""

    model_config = {"extra": "ignore"}

    observed_generation: int | None = None
    phase: Annotated[str | None, Field(description="Pending, Materializing, Ready or Failed.")] = None
    message: Annotated[str | None, Field(description="What goes on, in one sentence.")] = None
    watermark: Annotated[Time | None, Field(description="Both stores hold everything up to this time.")] = None
    newest_event_time: Annotated[Time | None, Field(description="Time of the newest event seen.")] = None
    rows: Annotated[int | None, Field(description="Entities written by the last run.")] = None
    last_interval: Interval | None = None
    schema_hash: str | None = None
    transform_hash: str | None = None
    conditions: list[Condition] = []


class FeatureView(Resource):
    """Features of one entity, defined once for both stores."""

    rules: ClassVar = [
        rule(
            "self.metadata.name.size() <= 42",
            "metadata.name must have at most 42 characters: the names of its jobs are made of it",
        )
    ]

    kind: Literal["FeatureView"] = "FeatureView"
    spec: FeatureViewSpec
    status: Annotated[FeatureViewStatus, Field(default_factory=FeatureViewStatus)]

    @property
    def columns(self) -> list[str]:
        """The join keys, then the features."""
        return [key.name for key in self.spec.entity.join_keys] + [feature.name for feature in self.spec.features]

    @property
    def schema_hash(self) -> str:
        """Covers names, types and order of keys and features: what a reader of the values depends on."""
        return content_hash(
            {
                "keys": [[key.name, key.type] for key in self.spec.entity.join_keys],
                "features": [[feature.name, feature.type] for feature in self.spec.features],
            }
        )

    @property
    def transform_hash(self) -> str:
        """Covers the computation: source, aggregates, sql, defaults and ttl; not what people read of it."""
        parts = self.spec.to_dict()
        features = [{k: f.get(k) for k in ("name", "type", "default", "aggregate")} for f in parts["features"]]
        computed = {key: parts.get(key) for key in ("entity", "source", "sql", "ttl")}
        return content_hash(computed | {"features": features})


def load(path: str) -> FeatureView:
    """Read a FeatureView from a YAML file; raises TidegateError."""
    return FeatureView.load(path)
