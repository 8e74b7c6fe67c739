"""DuckDB on one machine, Spark beyond: the two verbs that cleaning and validating need of either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tidegate_components.duck import connect, literal, quoted
from tidegate_components.events.sources import Source, with_written_times
from tidegate_components.events.tables import BadEventsError

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["ENGINES", "Engine", "QueryError", "starting"]

ENGINES = ("duckdb", "spark")


class QueryError(BadEventsError):
    """SQL that an engine cannot run, or not on these values."""


class Engine(Protocol):
    """SQL is DuckDB's dialect for both; `view` and `rows` raise QueryError where they cannot run it."""

    def load(self, source: Source) -> list[str]:
        """Make the table `source.name` of its files; returns its columns.

        Of text, `event_time` is read as a time, null where it is none, and the column WRITTEN keeps the text.
        """

    def view(self, name: str, query: str) -> None:
        """Keep a query's rows under a name."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a small result."""

    def write(self, query: str, folder: Path, name: str) -> None:
        """Write a query's rows as Parquet, to `NAME.parquet` or, from Spark, the folder `NAME`."""


@contextmanager
def starting(engine: str) -> Iterator[Engine]:
    """The engine by its name, stopped after the block. Raises BadEventsError for an unknown one."""
    if engine == "duckdb":
        with connect() as db:
            yield _Duck(db)
    elif engine == "spark":
        with _spark() as session:
            yield _Spark(session)
    else:
        raise BadEventsError(
            resource="engine", field="name", value=engine, expected=" or ".join(ENGINES), remedy="name one of these"
        )


class _Duck:
    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db

    def load(self, source: Source) -> list[str]:
        self._run(f"CREATE OR REPLACE VIEW {quoted(source.name)} AS {with_written_times(self._db, source)}")
        return [str(row[0]) for row in self._run(f"DESCRIBE {quoted(source.name)}")]

    def view(self, name: str, query: str) -> None:
        self._run(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._run(query)

    def write(self, query: str, folder: Path, name: str) -> None:
        target = literal(folder / f"{name}.parquet")
        self._run(f"COPY ({query}) TO {target} (FORMAT parquet, COMPRESSION zstd)")

    def _run(self, query: str) -> list[tuple[Any, ...]]:
        import duckdb

        try:
            return list(self._db.execute(query).fetchall())
        except duckdb.Error as error:
            raise _refused("duckdb", error) from error


def _refused(engine: str, error: Exception) -> QueryError:
    return QueryError(
        resource=engine, field="query", value=" ".join(str(error).split())[:300], expected="SQL and values that fit",
        remedy="mend what the message names: the file, or the rule",
    )  # fmt: skip


@contextmanager
def _spark() -> Iterator[SparkSession]:
    try:
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise BadEventsError(
            resource="engine", field="name", value="spark", expected="an environment with PySpark and Java",
            remedy="install tidegate[spark] (in an image: build it with that extra), or name duckdb",
        ) from error  # fmt: skip
    settings: dict[str, bool | float | int | str | None] = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }
    builder = SparkSession.builder.appName("tidegate-events")
    session = builder.config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    if str(session.sparkContext.master).startswith("local"):  # on one machine 200 shuffle partitions are 200 tiny tasks
        session.conf.set("spark.sql.shuffle.partitions", str(session.sparkContext.defaultParallelism))
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def _naming_spark() -> Iterator[None]:
    from pyspark.errors import PySparkException
    from sqlglot.errors import SqlglotError

    try:
        yield
    except (PySparkException, SqlglotError) as error:
        raise _refused("spark", error) from error


class _Spark:
    def __init__(self, session: SparkSession) -> None:
        self._session = session

    def load(self, source: Source) -> list[str]:
        if source.files[0].suffix == ".parquet":
            read = self._session.read.option("mergeSchema", "true")
            frame = read.parquet(*map(str, source.files))
        else:
            raise BadEventsError(
                resource=str(source.files[0]), field="format", value=source.files[0].suffix,
                expected="Parquet for Spark", remedy="run `tidegate events ingest` first",
            )  # fmt: skip
        frame.createOrReplaceTempView(f"`{source.name}`")
        return list(frame.columns)

    def view(self, name: str, query: str) -> None:
        with _naming_spark():
            self._sql(query).cache().createOrReplaceTempView(name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with _naming_spark():
            return [tuple(row) for row in self._sql(query).collect()]

    def write(self, query: str, folder: Path, name: str) -> None:
        self._sql(query).write.parquet(str(folder / name))

    def _sql(self, query: str) -> DataFrame:
        import sqlglot

        return self._session.sql(sqlglot.transpile(query, read="duckdb", write="spark")[0])
