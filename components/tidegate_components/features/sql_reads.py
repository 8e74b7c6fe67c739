"""What the SQL of a view may read: the relation `source`, and nothing else that the machine or the pod holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.errors import BadFeaturesError

if TYPE_CHECKING:
    import duckdb

__all__ = ["check_reads"]

_MAKING_ROWS = {"unnest", "range", "generate_series"}
_NAME = re.compile(r"\w+")


def check_reads(db: duckdb.DuckDBPyConnection, view: FeatureView) -> None:
    """Raise BadFeaturesError where a view's SQL reads anything but `source`, by DuckDB's own parser.

    Whoever may write a FeatureView would else read what the pod that computes it may read: files, Secrets among them.
    """
    for field, query in _queries(view):
        told = json.loads(db.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0])
        if told["error"]:
            raise _refused(view, field, str(told.get("error_message")).splitlines()[0], "one SELECT that parses")
        nodes = list(_nodes(told))
        own = {one["key"] for node in nodes for one in node.get("cte_map", {}).get("map", ())}
        allowed = {name for name in own if _NAME.fullmatch(name)} | {"source"}
        for read in (found for node in nodes for found in _read(node)):
            if read not in allowed:
                raise _refused(view, field, read, "a SELECT over `source` alone")


def _queries(view: FeatureView) -> Iterator[tuple[str, str]]:
    if view.spec.sql is not None:
        yield "sql", view.spec.sql
    for feature in view.spec.features:
        if feature.aggregate and feature.aggregate.where is not None:
            query = f"SELECT 1 FROM source WHERE ({feature.aggregate.where})"  # noqa: S608 - is parsed, never run
            yield f"features[{feature.name}].aggregate.where", query


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


def _refused(view: FeatureView, field: str, value: str, expected: str) -> BadFeaturesError:
    return BadFeaturesError(
        resource=f"FeatureView {view.metadata.name}", field=f"spec.{field}", value=value, expected=expected,
        remedy="make what else is needed a column of the source, or a view of its own",
    )  # fmt: skip
