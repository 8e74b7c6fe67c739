"""What the SQL of a view may read: the relation `source`, and nothing else that the machine or the pod holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.errors import BadFeaturesError

if TYPE_CHECKING:
    import duckdb

__all__ = ["check_reads"]

_MAKING_ROWS = {"unnest", "range", "generate_series"}
_WORDS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
_STEADY = {"error"}
_NAME = re.compile(r"\w+")


def check_reads(db: duckdb.DuckDBPyConnection, view: FeatureView, columns: Iterable[str]) -> None:
    """Raise BadFeaturesError where a view's SQL reads anything but `source`, by DuckDB's own parser.

    Whoever may write a FeatureView would else read what the pod that computes it may read: files, Secrets among them.
    What depends on the clock or on chance is refused too: the same event would count today and not tomorrow. `columns`
    are the source's, whatever they are called.
    """
    changing = _changing(db) - {column.lower() for column in columns}
    for field, query in _queries(view):
        nodes = list(_nodes(_parsed(db, view, field, query)))
        own = {one["key"] for node in nodes for one in node.get("cte_map", {}).get("map", ())}
        allowed = {name for name in own if _NAME.fullmatch(name)} | {"source"}
        for read in (found for node in nodes for found in _read(node)):
            if read not in allowed:
                raise _refused(view, field, read, "a SELECT over `source` alone", _COLUMN)
        for name in (found for node in nodes for found in _called(node)):
            if name in changing:
                raise _refused(view, field, name, "the same values whenever it is computed", _BY_TIME)


def _parsed(db: duckdb.DuckDBPyConnection, view: FeatureView, field: str, query: str) -> Any:
    told = json.loads(db.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0])
    if told["error"]:
        raise _refused(
            view, field, str(told.get("error_message")).splitlines()[0], "one SELECT that parses", "correct it"
        )
    return told


_COLUMN = "make what else is needed a column of the source, or a view of its own"
_BY_TIME = "compare with a column of the event, such as its time; the join does the rest"


def _changing(db: duckdb.DuckDBPyConnection) -> set[str]:
    """Functions whose answer depends on the clock or on chance, and words that stand for some."""
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    return ({str(row[0]) for row in db.execute(query).fetchall()} | _WORDS) - _STEADY


def _queries(view: FeatureView) -> Iterator[tuple[str, str]]:
    if view.spec.sql is not None:
        yield "sql", view.spec.sql
    for feature in view.spec.features:
        if feature.aggregate and feature.aggregate.where is not None:
            field, where = f"features[{feature.name}].aggregate.where", feature.aggregate.where
            yield field, f"SELECT 1 FROM source WHERE {where}"  # noqa: S608 - is parsed, never run
            yield field, f"SELECT CASE WHEN ({where}) THEN 1 END FROM source"  # noqa: S608 - as it is used


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _read(node: dict[str, Any]) -> Iterator[str]:
    """The relation that a node of the parsed query reads, with its schema; functions that make rows read none."""
    if node.get("type") == "BASE_TABLE":
        yield ".".join(filter(None, (node["catalog_name"], node["schema_name"], node["table_name"])))
    if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"] not in _MAKING_ROWS:
        yield f"{node['function']['function_name']}()"


def _called(node: dict[str, Any]) -> Iterator[str]:
    """The function that a node calls, or the word that it is."""
    if node.get("class") == "FUNCTION":
        yield str(node["function_name"])
    if node.get("class") == "COLUMN_REF" and len(node.get("column_names", [])) == 1:
        yield str(node["column_names"][0]).lower()


def _refused(view: FeatureView, field: str, value: str, expected: str, remedy: str) -> BadFeaturesError:
    return BadFeaturesError(
        resource=f"FeatureView {view.metadata.name}", field=f"spec.{field}", value=value, expected=expected,
        remedy=remedy,
    )  # fmt: skip
