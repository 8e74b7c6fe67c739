"""The point-in-time join on Spark: the queries of `sql`, turned into Spark's dialect, give the same values.

Windows are joined by key and range, which Spark spreads over its executors, so the work grows with the pairs of an
entity row and an event in its window. The temporary folder (TMPDIR) must be one that the executors share.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tidegate_api.feature_view import FeatureView
from tidegate_components.duck import parquet
from tidegate_components.events.engines import Engine, starting
from tidegate_components.events.sources import Source
from tidegate_components.features.source import Connection, view_error
from tidegate_components.features.sql import range_query

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot.expressions import Expr

__all__ = ["Computing", "spark_features", "to_spark"]

Computing: TypeAlias = Callable[[Connection, FeatureView, Sequence[Path]], "pa.Table"]
"""Features of the relation `entities` by `tg_row`, of a view whose source is these files."""


@contextmanager
def spark_features(as_known: bool) -> Iterator[Computing]:
    """The join on one Spark session for all views, which is stopped after the block."""
    with starting("spark") as engine, tempfile.TemporaryDirectory() as folder:
        yield lambda db, view, files: _features(engine, Path(folder) / view.metadata.name, db, view, files, as_known)


def _features(
    engine: Engine, folder: Path, db: Connection, view: FeatureView, files: Sequence[Path], as_known: bool
) -> pa.Table:
    from pyspark.errors import PySparkException

    folder.mkdir()
    entities = folder / "entities.parquet"
    db.execute(f"COPY entities TO '{entities}' (FORMAT parquet)")
    try:
        engine.load(Source("entities", (entities,)))
        engine.load(Source("source", tuple(files)))
        engine.write(to_spark(range_query(view, as_known)), folder, "features")
    except PySparkException as error:
        raise view_error(
            view, "features", str(error).splitlines()[0], "expressions and values that fit Spark"
        ) from error
    found = parquet([folder / "features" / "*.parquet"])
    return db.sql(f"SELECT * FROM {found} ORDER BY tg_row").to_arrow_table()  # noqa: S608


def to_spark(query: str) -> str:
    """The same query in words that sqlglot takes to Spark unchanged in meaning; it stays DuckDB's dialect in form.

    A time that is naive is UTC for both; DuckDB's mean is a Float64 whatever the type, and its casts to whole numbers
    round where Spark's cut off.
    """
    import sqlglot

    tree = sqlglot.parse_one(query, read="duckdb")
    for node in reversed(list(tree.walk())):  # the innermost first
        changed = _reworded(node)
        if changed is not node:
            node.replace(changed)
    return tree.sql(dialect="duckdb")


def _reworded(node: Expr) -> Expr:
    from sqlglot import exp

    name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
    if name == "epoch_us":
        instant = exp.cast(node.expressions[0], "TIMESTAMPTZ", dialect="duckdb")
        return exp.Anonymous(this="UNIX_MICROS", expressions=[instant])
    if name == "row":
        return exp.Anonymous(this="STRUCT", expressions=node.expressions)
    if isinstance(node, exp.Avg):
        return exp.Avg(this=exp.cast(node.this, "DOUBLE", dialect="duckdb"))
    if type(node) is exp.Cast and node.to.is_type("bigint", "int", "smallint", "tinyint"):
        return _rounding(node)
    return node


def _rounding(cast: Expr) -> Expr:
    """`typeof` is known when Spark plans, so one branch stays."""
    from sqlglot import exp

    value, kind = cast.this, cast.args["to"]
    if isinstance(value, exp.Literal | exp.Null):
        return cast
    case = exp.Case()
    for prefix, function in {"double": "RINT", "float": "RINT", "decimal": "ROUND"}.items():
        of = exp.Anonymous(this="TYPEOF", expressions=[value.copy()])
        whole = exp.Anonymous(this=function, expressions=[value.copy()])
        found = exp.Anonymous(this="STARTSWITH", expressions=[of, exp.Literal.string(prefix)])
        case = case.when(found, exp.Cast(this=whole, to=kind.copy()), copy=False)
    return case.else_(cast.copy(), copy=False)
