"""Fix the inputs by a training set: sizes of tables, vocabularies, means and deviations, priors.

`fit_inputs` does so for what a configuration declares; `describe` for the columns of Tidegate's own sample join.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.models.arrays import bad_set, integer_ids, is_text, numbers_of, schema_of
from tidegate_components.models.config import Categorical
from tidegate_components.models.inputs import HISTORY, VIEWS_KEY, Bag, Inputs, Kind, Numeric, TrainingSetError

if TYPE_CHECKING:
    import pyarrow as pa

    from tidegate_components.models.config import Config, Declared, MultiHot

__all__ = ["check_sets", "describe", "fit_inputs"]

_MOST_IDENTITIES = 1 << 31
_OPINION = "opinion_"
_MOST_ROWS = 1 << 20

_PRIOR_ROWS = {"user-activity": 50.0}
"""By view: a user's own shares run up and down within one list of theirs, so they are drawn to the prior harder."""
_PRIOR_ROWS_ELSE = 10.0

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
    import numpy as np

    from tidegate_components.models.numbers import read_numbers

    found = _described(table)
    if not found:
        return ()
    seen = read_numbers(found, np.stack([numbers_of(table[numeric.column]) for numeric in found], axis=1))
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
    import numpy as np

    values = numbers_of(table["label" if kind == "share" else feature["column"]])
    return float(np.nan_to_num(values.astype(np.float64)).mean())


def fit_inputs(config: Config, train_sets: Sequence[Path]) -> Inputs:
    """The inputs that a configuration declares, as the training sets fix them. Raises TrainingSetError.

    Columns that a feature view wrote keep its name and schemaHash.
    """
    from tidegate_components.models.arrays import read_tables

    declared = config.inputs
    if declared is None:
        return describe(read_tables(train_sets))
    names, views = _columns(train_sets[0])
    _check_declared(declared, names, train_sets[0])
    _check_kinds(declared, train_sets[0])
    facts = _facts(declared, train_sets)
    schema = schema_of(train_sets[0])
    bags = [_with_view(bag, views) for bag in _bags(declared, facts, train_sets)]
    bags = [replace(bag, texts=is_text(schema.field(bag.list_column or bag.columns[0]).type)) for bag in bags]
    numerics = [_number(one, facts, views) for one in declared.numeric]
    ofviews = _numerics(read_tables(train_sets, _of_views(declared, views))) if declared.views else ()
    shifted = tuple(replace(n, evidence=n.evidence + len(numerics)) for n in ofviews)
    return Inputs((*bags, *_crosses(declared, bags)), (*numerics, *shifted))


def check_sets(config: Config, train_sets: Sequence[Path], valid: Path, keep: Sequence[str] = ()) -> None:
    """Raise TrainingSetError for what the files' schemas alone show to be wrong: quick, and before torch is loaded.

    keep: columns of the validation rows that are to stand beside `label` and `score`.
    """
    for file in _files(valid) if keep else ():
        names = schema_of(file).names
        if wrong := [name for name in keep if name not in names or name in {"label", "score"}]:
            expected = f"a column to keep, other than label and score: {', '.join(names[:20])}"
            raise bad_set(file, "keep", wrong[0], expected, "correct --keep")
    for path in (*train_sets, valid):
        schema_of(path)
        for file in _files(path):
            _check_number(config.label, file, "labels of 0 and 1")
            if config.weight:
                _check_number(config.weight, file, "weights of 0 or more")
            if config.inputs:
                _check_declared(config.inputs, schema_of(file).names, file)
                _check_kinds(config.inputs, file)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _check_number(column: str, path: Path, wanted: str) -> None:
    schema = schema_of(path)
    if column not in schema.names:
        raise bad_set(path, "columns", schema.names, f"a column {column}")
    kind = schema.field(column).type
    if not _is_number(kind):
        raise bad_set(path, column, str(kind), wanted, "correct the column, or name another in the configuration")


def _columns(train_sets: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Column names, and what a view's features say by column."""
    schema = schema_of(train_sets)
    listed = json.loads((schema.metadata or {}).get(VIEWS_KEY, b"[]"))
    return schema.names, {feature["column"]: feature for feature in listed}


def _of_views(declared: Declared, views: dict[str, dict[str, str]]) -> list[str]:
    return [declared.label, *(column for column, one in views.items() if one["type"] in {"Int64", "Float64"})]


def _check_declared(declared: Declared, names: list[str], path: Path) -> None:
    wanted = [declared.label, *([declared.weight] if declared.weight else [])]
    wanted += [*(one.column for one in declared.numeric), *(one.column for one in declared.categorical)]
    wanted += [column for many in _many(declared) for column in _sources(many)]
    missing = [column for column in wanted if column not in names]
    if missing:
        raise bad_set(path, "columns", names, f"a column {missing[0]}, which the configuration declares")


def _check_kinds(declared: Declared, path: Path) -> None:
    """Raise TrainingSetError where a column is of a type that its input cannot read."""
    import pyarrow as pa

    schema = schema_of(path)
    for one in declared.numeric:
        kind = schema.field(one.column).type
        if not _is_number(kind):
            raise bad_set(path, one.column, str(kind), "numbers, as inputs.numeric reads them", _KIND)
    every: list[Categorical | MultiHot] = [*declared.categorical, *_many(declared)]
    for ids in every:
        for column in _sources(ids):
            kind = schema.field(column).type
            listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
            wants_list = ids.column and not isinstance(ids, Categorical)
            if listed != bool(wants_list):
                wanted = "lists of ids" if wants_list else "one id in each row; lists are for multi_hot and sequence"
                raise bad_set(path, column, str(kind), wanted, _KIND)
            inner = kind.value_type if listed else kind
            if not (pa.types.is_integer(inner) or pa.types.is_boolean(inner) or is_text(inner)):
                raise bad_set(path, column, str(kind), "ids: integers or texts", _KIND)


_NUMBER = "correct the value, or leave it empty: inputs.numeric[].missing stands for it"
_KIND = "correct the configuration's inputs, or the column"


def _many(declared: Declared) -> tuple[MultiHot, ...]:
    return (*declared.multi_hot, *declared.sequence)


def _name(one: Categorical | MultiHot) -> str:
    return one.name or _sources(one)[0]


def _bags(declared: Declared, facts: dict[str, float], paths: Sequence[Path]) -> list[Bag]:
    found = [_one_hot(one, facts, paths) for one in declared.categorical]
    for many in _many(declared):
        found.append(_pooled(many, found, facts, paths))
    return found


def _one_hot(one: Categorical, facts: dict[str, float], paths: Sequence[Path]) -> Bag:
    rows, vocabulary = _known(one, [one.column], facts, paths)
    return Bag(
        _name(one), (one.column,), rows, one.buckets, one.unknown_share, lookup=one.lookup, vocabulary=vocabulary
    )


def _pooled(many: MultiHot, before: list[Bag], facts: dict[str, float], paths: Sequence[Path]) -> Bag:
    columns = many.columns or tuple(f"{many.column}[{slot}]" for slot in range(many.max_length))
    rest: dict[str, Any] = {
        "none": many.none, "pooling": many.pooling, "list_column": many.column, "shares": many.shares,
        "target": getattr(many, "target", ""),
    }  # fmt: skip
    if many.shares:
        table = _bag_named(many.shares, before, many, paths[0])
        return replace(table, name=_name(many), columns=columns, **rest)
    if rest["target"]:
        _bag_named(rest["target"], before, many, paths[0])
    rows, vocabulary = _known(many, many.columns or [many.column], facts, paths)
    kinds = {"lookup": many.lookup, "vocabulary": vocabulary}
    return Bag(_name(many), columns, rows, many.buckets, many.unknown_share, **kinds, **rest)  # type: ignore[arg-type]


def _bag_named(name: str, before: list[Bag], many: MultiHot, path: Path) -> Bag:
    found = [bag for bag in before if bag.name == name]
    if not found:
        raise bad_set(path, f"inputs.{_name(many)}", name, f"one of the inputs {', '.join(b.name for b in before)}")
    return found[0]


def _known(
    one: Categorical | MultiHot, columns: Sequence[str], facts: dict[str, float], paths: Sequence[Path]
) -> tuple[int, tuple[int, ...]]:
    """How many ids have rows of their own, and which where a vocabulary says it."""
    if one.lookup == "vocabulary":
        vocabulary = _vocabulary(columns, one.min_count, paths)
        return max(len(vocabulary), 1), vocabulary
    if one.rows:
        return one.rows, ()
    greatest = max((facts[f"max {column}"] for column in columns), default=-1)
    if greatest >= _MOST_IDENTITIES:
        wanted = f"ids below {_MOST_IDENTITIES:,}, for identity has a row for each up to the greatest"
        raise bad_set(paths[0], columns[0], f"{greatest:,.0f}", wanted, "say lookup: hash with rows, or vocabulary")
    return max(int(greatest) + 1, 1), ()


def _vocabulary(columns: Sequence[str], least: int, paths: Sequence[Path]) -> tuple[int, ...]:
    """Ids seen at least so often, in ascending order."""
    import numpy as np
    import pyarrow as pa

    from tidegate_components.models.arrays import read_tables

    table = read_tables(paths, list(columns))
    flat = [table[c].combine_chunks().flatten() if pa.types.is_list(table[c].type) else table[c] for c in columns]
    ids = [integer_ids(pa.chunked_array([c]) if isinstance(c, pa.Array) else c) for c in flat]
    values, counts = np.unique(np.concatenate(ids), return_counts=True)
    kept = values[(counts >= least) & (values >= 0)]
    return tuple(kept.tolist())


def _number(one: Any, facts: dict[str, float], views: dict[str, dict[str, str]]) -> Numeric:
    view = views.get(one.column, {})
    kind: Kind = "count" if one.transform == "log1p" else "plain"
    return Numeric(
        one.column, view.get("view", ""), view.get("schemaHash", ""), kind,
        mean=facts[f"mean {one.column}"], std=facts[f"std {one.column}"] or 1.0, missing=one.missing,
    )  # fmt: skip


def _with_view(bag: Bag, views: dict[str, dict[str, str]]) -> Bag:
    view = views.get(bag.list_column or bag.columns[0])
    return replace(bag, view=view["view"], schema_hash=view["schemaHash"]) if view else bag


def _crosses(declared: Declared, bags: list[Bag]) -> list[Bag]:
    single = {bag.name for bag in bags if len(bag.columns) == 1}
    found = []
    for cross in declared.crosses:
        unknown = [name for name in cross.of if name not in single]
        if unknown:
            raise bad_set(Path("configuration"), "inputs.crosses", unknown[0], f"one of {', '.join(sorted(single))}")
        found.append(Bag(" x ".join(cross.of), (), cross.rows, 1, 0.0, lookup="hash", crossed=cross.of))
    return found


def _facts(declared: Declared, paths: Sequence[Path]) -> dict[str, float]:
    """Means and deviations of what f makes of the numbers, and greatest ids where no rows are given; one scan."""
    from tidegate_components.duck import connect, parquet, quoted

    wanted: dict[str, str] = {}
    for one in declared.numeric:
        raw = f"coalesce(nullif({quoted(one.column)}::DOUBLE, 'nan'::DOUBLE), {one.missing})"
        seen = f"ln(1 + greatest({raw}, 0))" if one.transform == "log1p" else raw
        infinite = f"coalesce(isinf({quoted(one.column)}::DOUBLE), false)"
        finite = f"FILTER (NOT {infinite})"  # an infinity is told below; DuckDB would only say that it overflows
        wanted |= {f"mean {one.column}": f"avg({seen}) {finite}", f"std {one.column}": f"stddev_pop({seen}) {finite}"}
        wanted[f"infinite {one.column}"] = f"bool_or({infinite})"
    every: list[Categorical | MultiHot] = [*declared.categorical, *_many(declared)]
    for ids in every:
        if ids.lookup == "identity" and ids.rows is None and not getattr(ids, "shares", ""):
            wanted |= {f"max {column}": _greatest(column, bool(ids.column), paths[0]) for column in _sources(ids)}
    if not wanted:
        return {}
    rows = parquet(path for one in paths for path in _files(one))
    found = connect().execute(f"SELECT {', '.join(wanted.values())} FROM {rows}").fetchone()  # noqa: S608
    facts = {name: float(value or 0) for name, value in zip(wanted, found or (), strict=True)}
    for one in declared.numeric:
        if facts[f"infinite {one.column}"]:
            raise _infinite(one.column, paths)
    return facts


def _infinite(column: str, paths: Sequence[Path]) -> TrainingSetError:
    """Where the first infinite number of a column stands, by file and row."""
    from tidegate_components.duck import connect, parquet, quoted

    db = connect()
    for file in (file for path in paths for file in _files(path)):
        rows = parquet([file], "file_row_number = true")
        query = f"SELECT min(file_row_number) + 1 FROM {rows} WHERE isinf({quoted(column)}::DOUBLE)"  # noqa: S608
        (row,) = db.execute(query).fetchone() or (None,)
        if row is not None:
            return bad_set(file, f"column {column} in row {row}", "infinity", "a finite number, or none", _NUMBER)
    raise AssertionError("an infinity that no file has")


def _sources(ids: Categorical | MultiHot) -> Sequence[str]:
    return [ids.column] if ids.column else ids.columns  # type: ignore[union-attr]


def _greatest(column: str, maybe_list: bool, path: Path) -> str:
    import pyarrow as pa

    from tidegate_components.duck import quoted

    kind = schema_of(path).field(column).type
    if maybe_list and pa.types.is_list(kind):
        return f"max(list_max({quoted(column)}))"
    if is_text(kind):
        raise bad_set(path, column, f"{kind} ids with lookup identity", "integers, or lookup: hash or vocabulary")
    return f"max({quoted(column)})"


def _files(path: Path) -> list[Path]:
    from tidegate_components.storage import parquet_files

    return parquet_files(path)
