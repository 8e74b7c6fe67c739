"""What a model reads: bags of ids and numbers, described once from the training set.

`ids` is Int64 [N, number of id columns] and `dense` is Float32 [N, number of numeric columns], both in the order given
here. A row of an embedding table belongs to an id below `rows`; every other id is folded by modulo into one of
`buckets` rows behind them, which training fills by showing a share of known ids as unknown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate_api.errors import TidegateError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = [
    "HISTORY",
    "VIEWS_KEY",
    "Arrays",
    "Bag",
    "Inputs",
    "Numeric",
    "TrainingSetError",
    "describe",
    "read_set",
    "read_sets",
]

HISTORY = "history"
"""The bag of what a user thought of films, newest first: 2 x item_id, plus 1 where it was liked."""
_OPINION = "opinion_"

VIEWS_KEY = b"tidegate.feature_views"
"""Parquet metadata: a JSON list of {column, view, feature, type, schemaHash}, written by the features step."""

_MOST_ROWS = 1 << 20

_PRIOR_ROWS = {"user-activity": 50.0}
"""By view: a user's own shares run up and down within one list of theirs, so they are drawn to the prior harder."""
_PRIOR_ROWS_ELSE = 10.0

Kind = Literal["plain", "count", "share", "mean", "evidence"]


class TrainingSetError(TidegateError):
    """A training set that is empty, one-sided or lacks a column."""


@dataclass(frozen=True)
class Bag:
    """One embedding table and the id columns that are summed out of it; with several columns an id of 0 is no id.

    Ids come with the request, or from a view.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    buckets: int
    unknown_share: float
    view: str | None = None
    schema_hash: str | None = None


@dataclass(frozen=True)
class Numeric:
    """A number, standardized as (f(x) - mean) / std. What f does is said by `kind` (see `scoring.read_numbers`).

    A `share` (clicks) or `mean` is drawn to `prior` with the weight of `prior_rows` rows: `evidence` is the index of
    the numeric that counts the rows it rests on. A count that is evidence is read through these only.
    """

    column: str
    view: str
    schema_hash: str
    kind: Kind
    mean: float = 0.0
    std: float = 1.0
    evidence: int = 0
    prior: float = 0.0
    prior_rows: float = 0.0


@dataclass(frozen=True)
class Inputs:
    """All that a model reads, in order."""

    bags: tuple[Bag, ...]
    numerics: tuple[Numeric, ...]

    @property
    def id_columns(self) -> list[str]:
        """Columns of `ids`."""
        return [column for bag in self.bags for column in bag.columns]

    @property
    def numeric_columns(self) -> list[str]:
        """Columns of `dense`."""
        return [numeric.column for numeric in self.numerics]

    @property
    def has_history(self) -> bool:
        """Whether there are a film and the films that its user rated before, so that taste can be told."""
        return {HISTORY, "user", "item"} <= {bag.name for bag in self.bags}

    @property
    def tabled(self) -> list[Bag]:
        """The bags with embedding tables: a history is read by `taste` only."""
        return [bag for bag in self.bags if bag.name != HISTORY]

    def columns_of(self, name: str) -> slice:
        """Where the bag of that name lies in `ids`."""
        before = list(takewhile(lambda bag: bag.name != name, self.bags))
        start = sum(len(bag.columns) for bag in before)
        return slice(start, start + len(self.bags[len(before)].columns))

    @property
    def read(self) -> list[int]:
        """Indices of the numerics that the layers see: all but the evidence."""
        return [i for i, numeric in enumerate(self.numerics) if numeric.kind != "evidence"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Inputs:
        """The inverse of to_dict."""
        bags = tuple(Bag(**{**bag, "columns": tuple(bag["columns"])}) for bag in data["bags"])
        return Inputs(bags, tuple(Numeric(**numeric) for numeric in data["numerics"]))


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: ids [N, C] Int64, dense [N, D] Float32 (raw), labels [N] Float32 in {0, 1}."""

    ids: np.ndarray[Any, Any]
    dense: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]

    def followed_by(self, later: Arrays) -> Arrays:
        """The rows of both, these first."""
        import numpy as np

        pairs = ((self.ids, later.ids), (self.dense, later.dense), (self.labels, later.labels))
        return Arrays(*(np.concatenate(pair) for pair in pairs))


_BAGS = (
    # name, columns, unknown buckets, share of known ids shown as unknown: many users of tomorrow are new, few items are
    ("user", ("user_id",), 4, 0.4),
    ("item", ("item_id",), 4, 0.05),
    ("age", ("age",), 1, 0.02),
    ("gender", ("gender",), 1, 0.02),
    ("occupation", ("occupation",), 1, 0.02),
    ("release_year", ("release_year",), 1, 0.02),
    ("genres", tuple(f"genre_{slot}" for slot in range(1, 7)), 1, 0.02),
)


def describe(table: pa.Table) -> Inputs:
    """The inputs that a training set offers: the context's ids and every feature of its views."""
    import pyarrow.compute as pc

    bags = []
    for name, columns, buckets, share in _BAGS:
        greatest = max(
            (pc.max(table[column]).as_py() or 0 for column in columns if column in table.column_names), default=-1
        )
        if greatest >= 0:
            bags.append(Bag(name, columns, min(int(greatest) + 1, _MOST_ROWS), buckets, share))
    return Inputs((*bags, *_history(table, bags)), _numerics(table))


def _history(table: pa.Table, bags: list[Bag]) -> list[Bag]:
    """The bag of opinions where a view gives them: two rows per known item."""
    opinions = [feature for feature in _listed(table) if feature["feature"].startswith(_OPINION)]
    items = [bag.rows for bag in bags if bag.name == "item"]
    if not opinions or not items:
        return []
    columns = tuple(opinion["column"] for opinion in opinions)
    return [Bag(HISTORY, columns, 2 * items[0], 1, 0.02, opinions[0]["view"], opinions[0]["schemaHash"])]


def _numerics(table: pa.Table) -> tuple[Numeric, ...]:
    """Every number of the views, with the mean and standard deviation of what f makes of it in this table."""
    from tidegate_components.models.scoring import read_numbers

    found = _described(table)
    seen = read_numbers(found, _matrix(table, [numeric.column for numeric in found]))
    means, stds = seen.mean(dim=0).tolist(), seen.std(dim=0, correction=0).tolist()
    return tuple(replace(n, mean=m, std=s or 1.0) for n, m, s in zip(found, means, stds, strict=True))


def _described(table: pa.Table) -> list[Numeric]:
    """The numbers with their kinds: `clicks_W` and `mean_*_W` speak for `impressions_W` rows of the same view."""
    features = _view_features(table)
    places = {(feature["view"], feature["feature"]): i for i, feature in enumerate(features)}
    rows = [places.get((f["view"], "impressions_" + f["feature"].rpartition("_")[2])) for f in features]
    kinds = [_kind(feature, shown is not None) for feature, shown in zip(features, rows, strict=True)]
    spoken_for = {shown for kind, shown in zip(kinds, rows, strict=True) if kind in {"share", "mean"}}
    return [
        Numeric(
            feature["column"], feature["view"], feature["schemaHash"],
            kind="evidence" if i in spoken_for else kind,
            evidence=shown if kind in {"share", "mean"} and shown is not None else 0,
            prior=_prior(table, feature, kind),
            prior_rows=_PRIOR_ROWS.get(feature["view"], _PRIOR_ROWS_ELSE),
        )
        for i, (feature, kind, shown) in enumerate(zip(features, kinds, rows, strict=True))
    ]  # fmt: skip


def _view_features(table: pa.Table) -> list[dict[str, str]]:
    """The features that are numbers; opinions are ids."""
    numbers = (feature for feature in _listed(table) if feature["type"] in {"Int64", "Float64"})
    return [feature for feature in numbers if not feature["feature"].startswith(_OPINION)]


def _listed(table: pa.Table) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((table.schema.metadata or {}).get(VIEWS_KEY, b"[]"))
    return found


def _kind(feature: dict[str, str], has_rows: bool) -> Kind:
    if has_rows and feature["feature"].startswith("clicks_"):
        return "share"
    if has_rows and feature["feature"].startswith("mean_"):
        return "mean"
    return "count" if feature["type"] == "Int64" else "plain"


def _prior(table: pa.Table, feature: dict[str, str], kind: Kind) -> float:
    """Where a share or mean is drawn to: the share of clicks, or the mean of the column, in the table."""
    if kind not in {"share", "mean"}:
        return 0.0
    return float(_floats(table, "label" if kind == "share" else feature["column"]).mean())


def _matrix(table: pa.Table, columns: list[str]) -> np.ndarray[Any, Any]:
    import numpy as np

    found = [_floats(table, column) for column in columns]
    return np.stack(found, axis=1).astype(np.float32) if found else np.zeros((table.num_rows, 0), dtype=np.float32)


def _floats(table: pa.Table, column: str) -> np.ndarray[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values: np.ndarray[Any, Any] = pc.fill_null(table[column].cast(pa.float64()), 0.0).to_numpy()
    return values


def read_set(path: Path, inputs: Inputs | None = None) -> tuple[Arrays, Inputs]:
    """Read a Parquet training set as arrays; describes the inputs too where none are given. Nulls become 0.

    Raises TrainingSetError where it is empty, has one class only, or lacks a column.
    """
    import pyarrow.parquet as pq

    return _arrays(pq.read_table(path), inputs, path)


def read_sets(first: Path, second: Path) -> tuple[Arrays, Inputs]:
    """Two training sets as one, its inputs described from both. Raises TrainingSetError as `read_set` does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return _arrays(pa.concat_tables([pq.read_table(first), pq.read_table(second)]), None, first)


def _arrays(table: pa.Table, inputs: Inputs | None, path: Path) -> tuple[Arrays, Inputs]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    _check_labels(table, path)
    inputs = inputs or describe(table)
    _check_columns(table, inputs, path)
    ids = np.stack([pc.fill_null(table[c].cast(pa.int64()), 0).to_numpy() for c in inputs.id_columns], axis=1)
    labels = _floats(table, "label").astype(np.float32)
    return Arrays(ids, _matrix(table, inputs.numeric_columns), labels), inputs


def _check_labels(table: pa.Table, path: Path) -> None:
    import pyarrow.compute as pc

    if "label" not in table.column_names:
        raise _bad(path, "columns", table.column_names, "a column label")
    labels = pc.unique(table["label"]).to_pylist()
    if sorted(label for label in labels if label is not None) != [0, 1]:
        raise _bad(
            path, "label", f"{table.num_rows} rows with labels {labels}", "rows with label 0 and rows with label 1"
        )


def _check_columns(table: pa.Table, inputs: Inputs, path: Path) -> None:
    missing = [c for c in (*inputs.id_columns, *inputs.numeric_columns) if c not in table.column_names]
    if missing:
        raise _bad(path, "columns", table.column_names, f"a column {missing[0]}")
    if not inputs.bags:
        raise _bad(path, "columns", table.column_names, "at least one id column such as item_id")


def _bad(path: Path, field: str, value: object, expected: str) -> TrainingSetError:
    return TrainingSetError(
        resource=f"training set {path.name}", field=field, value=value, expected=expected,
        remedy="check the sample join and how much time the data covers",
    )  # fmt: skip
