"""What a model reads: bags of ids and numbers, fixed once by the training set (see `fitting`).

`ids` is Int64 [N, number of id columns] and `dense` is Float32 [N, number of numeric columns], both in the order given
here. An id is an integer of 0 or more, or the hash of a text (`arrays.text_ids`); a negative one is missing. A missing
number is NaN. What rows of a table an id leads to is said in `lookup`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any, Literal

from tidegate_api.errors import TidegateError

__all__ = [
    "HISTORY",
    "MISSING",
    "VIEWS_KEY",
    "Bag",
    "Inputs",
    "Kind",
    "Lookup",
    "Numeric",
    "Pooling",
    "TrainingSetError",
]

HISTORY = "history"
"""The bag of what a user thought of films, newest first: 2 x item_id, plus 1 where it was liked."""
_OPINION = "opinion_"

VIEWS_KEY = b"tidegate.feature_views"
"""Parquet metadata: a JSON list of {column, view, feature, type, schemaHash}, written by the features step."""

MISSING = -1
"""The id of a null."""

Kind = Literal["plain", "count", "share", "mean", "evidence"]
Lookup = Literal["identity", "vocabulary", "hash"]
Pooling = Literal["sum", "mean", "attention"]


class TrainingSetError(TidegateError):
    """A training set that is empty, one-sided or lacks a column."""


@dataclass(frozen=True)
class Bag:
    """Id columns that are pooled into one vector out of one embedding table; with one column the vector is its row.

    The table's `rows` belong to known ids, `buckets` rows behind them to unknown ones, and the last to a missing id.
    Of several columns those of the id `none` or below 0 are empty. `shares` names the bag whose table is read instead.
    `texts`: its ids are hashes of texts. `list_column` is set where `columns` stand for the slots of one list column.
    `target` is of attention only. A cross has no columns: it is the product of the bags that `crossed` names, with one
    weight for a row.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    buckets: int
    unknown_share: float
    view: str | None = None
    schema_hash: str | None = None
    lookup: Lookup = "identity"
    none: int = 0
    pooling: Pooling = "sum"
    target: str = ""
    shares: str = ""
    list_column: str = ""
    texts: bool = False
    crossed: tuple[str, ...] = ()
    vocabulary: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Rows of the table, with those of unknown and missing ids."""
        return self.rows + self.buckets + 1


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
    missing: float = 0.0
    """Raw value that stands for NaN."""


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
        """The bags with a vector, those of one table side by side: no history (`taste` reads it), no cross."""
        with_vector = [bag for bag in self.bags if bag.name != HISTORY and not bag.crossed]
        owners = [bag.name for bag in with_vector if not bag.shares]
        return sorted(with_vector, key=lambda bag: owners.index(bag.shares or bag.name))

    @property
    def crosses(self) -> list[Bag]:
        """The products of bags, which the linear part reads."""
        return [bag for bag in self.bags if bag.crossed]

    @property
    def tables(self) -> list[Bag]:
        """The bags whose tables there are: those that share none."""
        return [bag for bag in (*self.tabled, *self.crosses) if not bag.shares]

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
        texts = ("columns", "crossed", "vocabulary")
        bags = tuple(Bag(**{**bag, **{key: tuple(bag.get(key, ())) for key in texts}}) for bag in data["bags"])
        return Inputs(bags, tuple(Numeric(**numeric) for numeric in data["numerics"]))

    def bag(self, name: str) -> Bag:
        """The bag of that name."""
        return next(bag for bag in self.bags if bag.name == name)
