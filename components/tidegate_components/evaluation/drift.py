"""Drift and data quality of the judged rows against earlier ones, by Evidently.

The distance is the population stability index, sum of (p - q) ln(p / q) over bins: below 0.1 nothing to speak of, from
0.1 to watch, from 0.25 to act.
"""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidegate_components.evaluation.errors import EvaluationError
from tidegate_components.evaluation.predictions import undictionaried
from tidegate_components.models.arrays import is_text
from tidegate_components.storage import parquet_files

__all__ = ["ACT", "MOST_ROWS", "WATCH", "ColumnDrift", "Drift", "call_of", "find_drift"]

WATCH, ACT = 0.1, 0.25
MOST_ROWS = 50_000
_MOST_CATEGORIES = 30
_MOST_TEXTS = 200


@dataclass(frozen=True)
class ColumnDrift:
    """A column of both files: its PSI, and the share of values that are missing, now and in the reference."""

    column: str
    psi: float
    missing_now: float
    missing_then: float


def call_of(psi: float) -> Literal["steady", "watch", "act"]:
    """What a PSI asks for."""
    return "act" if psi >= ACT else "watch" if psi >= WATCH else "steady"


@dataclass(frozen=True)
class Drift:
    """Columns by how far they moved, most first; rows that were looked at, and of how many, now and then."""

    reference: str
    columns: list[ColumnDrift]
    rows_now: tuple[int, int]
    rows_then: tuple[int, int]


def find_drift(
    current: Path,
    reference: Path,
    without: Container[str],
    html: Path | None = None,
    most: int = MOST_ROWS,
    seed: int = 7,
) -> Drift:
    """Compare the columns that both files have, but those in `without`; Evidently's own report goes to `html`.

    At most so many rows of each are looked at, drawn evenly. Texts of more than 200 values are left out. Raises
    EvaluationError where nothing can be compared, or Evidently is not installed.
    """
    now, then = _schema(current), _schema(reference)
    shared = [name for name in now.names if name in then.names and name not in without]
    tables = [_sample(path, shared, most, seed) for path in (current, reference)]
    numbers, categories = _kinds(tables[0][0], tables[1][0])
    if not numbers and not categories:
        raise EvaluationError(
            resource=f"reference {reference.name}", field="columns", value=", ".join(then.names[:20]),
            expected=f"numbers or categories that {current.name} has too", remedy="give an earlier file of that kind",
        )  # fmt: skip
    frames = [_frame(table, numbers, categories) for table, _ in tables]
    found = _evidently(frames[0], frames[1], numbers, categories, html)
    columns = [ColumnDrift(name, psi, *(_missing(table, name) for table, _ in tables)) for name, psi in found.items()]
    sizes = [(table.num_rows, rows) for table, rows in tables]
    return Drift(reference.name, sorted(columns, key=lambda one: -one.psi), *sizes)


def _schema(path: Path) -> pa.Schema:
    files = parquet_files(path)
    try:
        return pq.read_schema(files[0])
    except (IndexError, pa.ArrowInvalid, OSError) as error:
        raise EvaluationError(
            resource="reference", field="--reference", value=str(path), expected="readable Parquet",
            remedy="check the path",
        ) from error  # fmt: skip


def _sample(path: Path, columns: list[str], most: int, seed: int) -> tuple[pa.Table, int]:
    table = undictionaried(pq.read_table(parquet_files(path), columns=columns, partitioning=None))
    rows = table.num_rows
    if rows > most:
        table = table.take(np.sort(np.random.default_rng(seed).choice(rows, most, replace=False)))
    return table, rows


def _kinds(now: pa.Table, then: pa.Table) -> tuple[list[str], list[str]]:
    """Numbers, and columns of few values."""
    numbers, categories = [], []
    for name in now.column_names:
        kind = now[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or is_text(kind)):
            continue
        values = max(pc.count_distinct(now[name]).as_py(), pc.count_distinct(then[name]).as_py())
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if number and values > _MOST_CATEGORIES:
            numbers.append(name)
        elif number or pa.types.is_boolean(kind) or (is_text(kind) and values <= _MOST_TEXTS):
            categories.append(name)
    return numbers, categories


def _frame(table: pa.Table, numbers: list[str], categories: list[str]) -> Any:
    frame = table.select([*numbers, *categories]).to_pandas()
    for name in categories:
        frame[name] = frame[name].astype("string").astype(object)
    return frame


def _missing(table: pa.Table, name: str) -> float:
    return float(table[name].null_count / table.num_rows) if table.num_rows else 0.0


def _evidently(now: Any, then: Any, numbers: list[str], categories: list[str], html: Path | None) -> dict[str, float]:
    """PSI by column."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset, DataSummaryPreset
    except ModuleNotFoundError as error:
        raise EvaluationError(
            resource="evaluate", field="--reference", value="evidently is not installed", expected="evidently",
            remedy="pip install 'tidegate[train]'",
        ) from error  # fmt: skip
    shape = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    quality = [] if html is None else [DataSummaryPreset()]
    report = Report([DataDriftPreset(method="psi", threshold=WATCH), *quality])
    done = report.run(*(Dataset.from_pandas(frame, data_definition=shape) for frame in (now, then)))
    if html is not None:
        done.save_html(str(html))
    drifts = [one for one in done.dict()["metrics"] if one["config"]["type"].rpartition(":")[2] == "ValueDrift"]
    return {one["config"]["column"]: float(one["value"]) for one in drifts}
