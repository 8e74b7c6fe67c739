"""A view's source, opened and checked: every column that the view names is there and every query binds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView, JoinKey
from tidegate_components.duck import column_types, parquet
from tidegate_components.events.landing import LOG, Landing
from tidegate_components.features.errors import BadFeaturesError
from tidegate_components.features.sql import SQL_TYPES, bound_query, events_query, needed_columns, quoted, value_of
from tidegate_components.features.sql_reads import check_reads
from tidegate_components.storage import parquet_files, resolve

__all__ = [
    "cut_to_micros",
    "event_files",
    "load_view",
    "load_views",
    "misfit",
    "naming_values",
    "open_source",
    "reading",
    "rows_left_out",
    "rows_of",
    "view_error",
]

_KEEP_VALUES = ("sum", "min", "max", "last")

# Of one number text has many forms: each but the shortest would be an entity of its own that is cast into another.
_NUMBER = "^(0|-?[1-9][0-9]*)$"

Connection: TypeAlias = Any
"""A DuckDB connection."""


def load_views(folder: str | Path) -> list[FeatureView]:
    """The FeatureViews of a YAML file, or of every *.yaml of a folder that holds one, ordered by name.

    Raises TidegateError where a file is wrong, and BadFeaturesError where there is none or two share a name.
    """
    path = resolve(str(folder))
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
    views = [FeatureView.load(file) for file in files if not path.is_dir() or _is_view(file)]
    names = [view.metadata.name for view in views]
    if not views or len(set(names)) < len(names):
        raise BadFeaturesError(
            resource=f"feature views in {path}", field="files", value=names,
            expected="at least one FeatureView, each name once", remedy="check the folder that `views` names",
        )  # fmt: skip
    return sorted(views, key=lambda view: view.metadata.name)


def load_view(file: str | Path) -> FeatureView:
    """The one FeatureView of a YAML file or folder. Raises as load_views does, and where there are several."""
    views = load_views(file)
    if len(views) > 1:
        names = [view.metadata.name for view in views]
        raise BadFeaturesError(
            resource="feature views", field="files", value=str(file), expected=f"one view, found {', '.join(names)}",
            remedy="name the file of one view",
        )  # fmt: skip
    return views[0]


def _is_view(file: Path) -> bool:
    import yaml

    try:
        bodies = list(yaml.safe_load_all(file.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError):
        return True  # loading it says what is wrong
    return any(isinstance(body, dict) and body.get("kind") == "FeatureView" for body in bodies)


def open_source(db: Connection, view: FeatureView, claims: dict[str, Path] | None = None) -> list[Path]:
    """Create the relation `source` from the view's Parquet and check that the view's events can be read from it.

    Returns the files.
    Raises BadFeaturesError where there are no files, no rows, a column is missing, an expression does not bind, or SQL
    reads anything but `source`.
    """
    import duckdb

    path = resolve(view.spec.source.parquet.uri, claims)
    files = event_files(path)
    if not files:
        raise view_error(view, "source.parquet.uri", view.spec.source.parquet.uri, f"Parquet files at {path}")
    try:
        db.execute(f"CREATE OR REPLACE TEMP VIEW source AS {cut_to_micros(db, reading(files))}")
        columns = list(column_types(db, "source"))
        _check_columns(view, columns)
        check_reads(db, view, columns)
        _bind(db, view)
        _check_keys(db, view)
        _check_whole_numbers(db, view)
        rows = db.execute("SELECT count(*) FROM source").fetchall()[0][0]
    except duckdb.Error as error:
        raise view_error(
            view, _culprit(db, view), str(error).splitlines()[0], "expressions that fit the source and types"
        ) from error
    if not rows:
        raise view_error(view, "source.parquet.uri", view.spec.source.parquet.uri, "at least one event, found 0 rows")
    return files


def _bind(db: Connection, view: FeatureView) -> None:
    db.execute(f"EXPLAIN {events_query(view)}").fetchall()
    db.execute(f"EXPLAIN {bound_query(view)}").fetchall()


def _culprit(db: Connection, view: FeatureView) -> str:
    """The field whose expression does not bind: of the first feature that does not alone, else of all."""
    import duckdb

    for name, alone in _one_by_one(view):
        try:
            _bind(db, alone)
        except duckdb.Error:
            return "features" if view.spec.sql else f"features[{name}].aggregate"
    return "features"


def _one_by_one(view: FeatureView) -> Iterator[tuple[str, FeatureView]]:
    """The view with each of its features alone."""
    for feature in view.spec.features:
        spec = view.spec.model_copy(update={"features": [feature]})
        yield feature.name, view.model_copy(update={"spec": spec})


def misfit(db: Connection, key: JoinKey, query: str, number: str = _NUMBER) -> tuple[int, object] | None:
    """The first row (from 1; 0 where it is the column) of a query whose key would not keep its value in its type.

    number: the texts that are whole numbers.
    """
    import duckdb

    kind, wanted, column = column_types(db, f"({query})")[key.name], SQL_TYPES[key.type], quoted(key.name)
    if kind in ('"NULL"', wanted, f"{wanted} WITH TIME ZONE"):
        return None
    there = f"TRY_CAST({column} AS {wanted})"
    changed = f"TRY_CAST({there} AS {kind}) IS DISTINCT FROM {column}"
    if kind == "VARCHAR":
        changed = f"NOT regexp_matches({column}, '{number}')" if key.type == "Int64" else "false"
    numbered = f"SELECT row_number() OVER () AS tg_row, {column} FROM ({query})"  # noqa: S608
    wrong = f"{column} IS NOT NULL AND ({there} IS NULL OR {changed})"
    try:
        found: tuple[int, object] | None = db.execute(
            f"SELECT tg_row, {column} FROM ({numbered}) WHERE {wrong} ORDER BY tg_row LIMIT 1"  # noqa: S608
        ).fetchone()
    except duckdb.Error:
        return 0, kind
    return found


def _check_keys(db: Connection, view: FeatureView) -> None:
    """Keys that were cast would merge entities: 1.4 and 1 are two."""
    origin = rows_of(view)
    for number, key in enumerate(view.spec.entity.join_keys):
        found = misfit(db, key, origin)
        if found is not None:
            raise view_error(
                view,
                f"entity.joinKeys[{number}].type",
                key.type,
                f"a type that {key.name} keeps its value in: {found[1]}",
            )


def _check_whole_numbers(db: Connection, view: FeatureView) -> None:
    """A feature declared Int64 takes whole numbers: a fraction would be rounded, and nobody told."""
    for feature in view.spec.features:
        kept = feature.aggregate is None or feature.aggregate.function in _KEEP_VALUES
        if feature.type != "Int64" or not kept:
            continue
        value = value_of(feature) if feature.aggregate else quoted(feature.name)
        query = f"SELECT tg_0 FROM ({events_query(view, [value])})"  # noqa: S608
        kind = column_types(db, f"({query})")["tg_0"]
        if not kind.startswith(("DOUBLE", "FLOAT", "DECIMAL")):
            continue
        found = db.execute(f"{query} WHERE tg_0 <> trunc(tg_0) LIMIT 1").fetchone()
        if found:
            wanted = f"Float64, for its values have fractions, e.g. {found[0]}"
            raise view_error(view, f"features[{feature.name}].type", "Int64", wanted)


def rows_of(view: FeatureView) -> str:
    """The query of the opened source's rows, or of those that the view's `sql` makes of them."""
    return f"SELECT * FROM ({view.spec.sql})" if view.spec.sql is not None else "SELECT * FROM source"  # noqa: S608


def rows_left_out(db: Connection, view: FeatureView) -> dict[str, int]:
    """By column, how many rows of the opened source lack a key or the time, and so count for nothing."""
    columns = needed_columns(view)
    counts = ", ".join(f"count(*) - count({quoted(column)})" for column in columns)
    found = db.execute(f"SELECT {counts} FROM ({rows_of(view)})").fetchall()[0]  # noqa: S608
    return {column: count for column, count in zip(columns, found, strict=True) if count}


def event_files(path: Path) -> list[Path]:
    """The Parquet files at a file, folder or glob; of a landing's tables only those that its commits list.

    Raises LandingError where a commit cannot be read.
    """
    files = parquet_files(path)
    landing = next((folder for folder in (path, *path.parents) if (folder / LOG).is_dir()), None)
    if landing is None:
        return files
    listed = {landing / file.path for commit in Landing(landing).commits() for file in commit.files}
    return [file for file in files if file in listed or not _is_staged(file.relative_to(landing))]


def _is_staged(file: Path) -> bool:
    """Whether a file of a landing lies where its writer stages them: TABLE/date=DATE/NAME."""
    return len(file.parts) == 3 and file.parts[1].startswith("date=")


def reading(files: Sequence[Path]) -> str:
    """The query that reads Parquet files, whose columns need not be the same."""
    return f"SELECT * FROM {parquet(files, 'union_by_name = true')}"  # noqa: S608


def cut_to_micros(db: Connection, reader: str) -> str:
    """The query `SELECT * FROM ...` with times in nanoseconds, as pandas writes them, cut to microseconds."""
    kinds = {"TIMESTAMP_NS": "TIMESTAMP", "TIMESTAMPTZ_NS": "TIMESTAMPTZ"}
    found = column_types(db, f"({reader})").items()
    casts = [f"CAST({quoted(name)} AS {kinds[kind]}) AS {quoted(name)}" for name, kind in found if kind in kinds]
    return reader.replace("SELECT *", f"SELECT * REPLACE ({', '.join(casts)})", 1) if casts else reader


def _check_columns(view: FeatureView, found: list[str]) -> None:
    for field, column in _named_columns(view):
        if column not in found:
            raise view_error(view, field, column, f"one of the source's columns {', '.join(found)}")


def _named_columns(view: FeatureView) -> list[tuple[str, str]]:
    spec = view.spec
    if spec.sql is not None:
        return []
    named = [(f"entity.joinKeys[{i}].name", key.name) for i, key in enumerate(spec.entity.join_keys)]
    named.append(("source.eventTimestamp", spec.source.event_timestamp))
    if spec.source.created_timestamp:
        named.append(("source.createdTimestamp", spec.source.created_timestamp))
    return named + [
        (f"features[{f.name}].aggregate.column", f.aggregate.column)
        for f in spec.features
        if f.aggregate and f.aggregate.column
    ]


@contextmanager
def naming_values(view: FeatureView, compute: Callable[[FeatureView], object] | None = None) -> Iterator[None]:
    """What DuckDB says of values that do not fit their declared types becomes a fault of the view.

    compute: tells which feature it is, by failing for the view with that one alone.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        culprit = _failing_alone(view, compute) if compute else None
        field, said = culprit or ("features", str(error))
        raise view_error(view, field, said.splitlines()[0], "values of the declared types") from error


def _failing_alone(view: FeatureView, compute: Callable[[FeatureView], object]) -> tuple[str, str] | None:
    """The first feature for which `compute` fails, as a field, and what DuckDB says of it."""
    import duckdb

    for name, alone in _one_by_one(view):
        try:
            compute(alone)
        except duckdb.Error as error:
            return f"features[{name}]", str(error)
    return None


def view_error(view: FeatureView, field: str, value: object, expected: str) -> TidegateError:
    """A fault of one field of a view, as a BadFeaturesError."""
    return BadFeaturesError(
        resource=f"FeatureView {view.metadata.name}",
        field=f"spec.{field}",
        value=value,
        expected=expected,
        remedy=f"correct spec.{field} or the source",
    )
