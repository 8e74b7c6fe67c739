"""Replay the past day by day: train on what was known, judge on the day that followed.

    full          every day a new model of all rows before it
    incremental   every day the model of the day before, going on with the rows of that day only

The last tenth of the newest known day, by time, chooses when to stop; it is not learned from until the day after.
A day that is done is kept, so that a backtest that was broken off goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.hashes import content_hash
from tidegate_components.duck import connect, key_values, literal, parquet, quoted
from tidegate_components.models.arrays import bad_set, read_tables, schema_of
from tidegate_components.models.config import Config
from tidegate_components.storage import content_digest, parquet_files, replacing
from tidegate_components.training.identity import check_identity

if TYPE_CHECKING:
    from tidegate_components.models.scoring import Scorer

__all__ = ["MODES", "Day", "backtest", "split_days"]

MODES = ("full", "incremental")
_HELD_OUT = 0.1
_OWN = ("label", "score", "day")
"""Columns that predictions have anyway."""


@dataclass(frozen=True)
class Day:
    """What a mode's model says of a day: rows, LogLoss, AUC and calibration; rows and seconds it learned for it."""

    day: str
    rows: int
    auc: float
    logloss: float
    calibration: float
    learned_rows: int
    seconds: float


def split_days(data: Path, timestamp: str, into: Path) -> list[str]:
    """Cut Parquet by UTC day into `into/DAY/{learn,held}.parquet`; returns the days. Raises TrainingSetError."""
    schema = schema_of(data)
    if timestamp not in schema.names:
        raise bad_set(data, "columns", schema.names, f"a column {timestamp} with the time of each row (--timestamp)")
    _check_times(schema.field(timestamp).type, data, timestamp)
    db = connect()
    db.execute(f"CREATE VIEW rows AS SELECT * FROM {parquet(parquet_files(data), 'union_by_name = true')}")  # noqa: S608
    day = f"strftime({quoted(timestamp)}, '%Y-%m-%d')"
    listed = f"SELECT DISTINCT {day} AS tg_day FROM rows WHERE tg_day IS NOT NULL ORDER BY tg_day"  # noqa: S608
    days = [str(row[0]) for row in db.execute(listed).fetchall()]
    for one in days:
        if not (into / one).is_dir():
            with replacing(into / one) as beside:
                rows = f"SELECT * FROM rows WHERE {day} = {literal(one)}"  # noqa: S608
                _cut(db, rows, timestamp, beside, _kept(schema.metadata or {}))
    return days


def _check_times(kind: Any, data: Path, timestamp: str) -> None:
    import pyarrow as pa

    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise bad_set(data, timestamp, str(kind), "times", "name the column of times by --timestamp")


def _kept(metadata: Mapping[bytes, bytes]) -> str:
    """The set's metadata, as an option of COPY: by it a model knows which columns feature views made."""
    return ", " + key_values({key.decode(): value.decode() for key, value in metadata.items()}) if metadata else ""


def _cut(db: Any, rows: str, timestamp: str, into: Path, metadata: str) -> None:
    """The rows of a day in the order of time, the last tenth apart; rows of one instant stay together."""
    into.mkdir(parents=True)
    time = quoted(timestamp)
    cut = f"(SELECT quantile_disc({time}, {1 - _HELD_OUT}) FROM ({rows}))"  # noqa: S608
    for name, side in (("learn", "<="), ("held", ">")):
        query = f"{rows} AND {time} {side} {cut} ORDER BY {time}"
        db.execute(f"COPY ({query}) TO {literal(into / f'{name}.parquet')} (FORMAT parquet{metadata})")


def backtest(
    config: Config, data: Path, mode: str, out: Path, timestamp: str, done: Callable[[Day], None], group: str = ""
) -> list[Day]:
    """Every day but the first, in order; writes `out/MODE/predictions.parquet` (label, score, day, and the group).

    Raises TrainingSetError where there are fewer than two days, or a part of one has one class only.
    """
    parts = out / "days"
    _check_group(data, group)
    _check_same(config, data, timestamp, out, group)
    days = split_days(data, timestamp, parts)
    if len(days) < 2:
        raise bad_set(data, timestamp, days, "rows of at least two days")
    found = []
    for number in range(1, len(days)):
        folder = out / mode / days[number]
        if not (folder / "day.json").is_file():
            _one_day(
                config, [parts / day for day in days[: number + 1]], mode, folder, out / mode / days[number - 1], group
            )
        found.append(Day(**json.loads((folder / "day.json").read_text())))
        done(found[-1])
    _gather(out / mode, days[1:])
    return found


def _check_group(data: Path, group: str) -> None:
    """Before days are spent on it: the comparison asks for a group in every row."""
    if not group:
        return
    names = schema_of(data).names
    if group not in names or group in _OWN:
        expected = f"a column other than {', '.join(_OWN)}: {', '.join(names[:20])}"
        raise bad_set(data, "group", group, expected, "correct --group")
    if without := read_tables(parquet_files(data), [group])[group].null_count:
        remedy = "fill them or leave the rows out, or leave out --group"
        raise bad_set(data, group, f"null in {without:,} rows", "a group in every row", remedy)


def _check_same(config: Config, data: Path, timestamp: str, out: Path, group: str = "") -> None:
    """Days that are done are kept, so they must be of this configuration and this data. Raises ConfigError."""
    mark = out / "backtest.json"
    now = {"config": content_hash(config.model_dump(mode="json")), "data": content_digest(data), "timestamp": timestamp}
    now |= {"group": group} if group else {}
    before = json.loads(mark.read_text()) if mark.is_file() else None
    check_identity("tidegate backtest", out, before, now, kept=(out / "days").is_dir())
    with replacing(mark) as beside:
        beside.write_text(json.dumps(now))


def _one_day(config: Config, days: Sequence[Path], mode: str, folder: Path, before: Path, group: str) -> None:
    """Learn from all days but the last, judge on the last."""
    from tidegate_components.training.incremental import going_on
    from tidegate_components.training.learner import alone
    from tidegate_components.training.loop import Hooks, fit

    *older, newest = days[:-1]
    _check_held_out(newest)
    goes_on = mode == "incremental" and (before / "model").is_dir()
    learned = [newest / "learn.parquet"]
    if goes_on:
        learned = [*(day / "held.parquet" for day in older[-1:]), *learned]
        inputs, start = going_on(before, config, learned)
        hooks = Hooks(inputs=inputs, start=start)
    else:
        learned = [*(day / f"{name}.parquet" for day in older for name in ("learn", "held")), *learned]
        hooks = Hooks()
    fitted = fit(learned, [newest / "held.parquet"], config, alone, hooks)
    assert fitted.scorer is not None  # noqa: S101 - one process is rank 0
    _judge(fitted.scorer, days[-1], config, folder, (fitted.rows, fitted.seconds), group)


def _check_held_out(day: Path) -> None:
    import pyarrow.parquet as pq

    if not pq.read_metadata(day / "held.parquet").num_rows:
        raise bad_set(
            day, "times", "one instant in its last tenth", "times within the day, since its last tenth is held out",
            "give a column with the time of day by --timestamp",
        )  # fmt: skip


def _judge(scorer: Scorer, day: Path, config: Config, folder: Path, spent: tuple[int, float], group: str) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tidegate_components.evaluation.metrics import auc, calibration, logloss
    from tidegate_components.models.arrays import to_arrays

    table = read_tables([day / "learn.parquet", day / "held.parquet"])
    rows = to_arrays(table, scorer.inputs, day, config.label)
    scores = scorer.scores(rows.ids, rows.dense)
    figures = (auc(rows.labels, scores), logloss(rows.labels, scores), calibration(rows.labels, scores))
    with replacing(folder) as beside:
        beside.mkdir(parents=True)
        scorer.save(beside / "model")
        labels = rows.labels.astype(np.int8)
        kept = {group: table[group]} if group else {}
        said = pa.table({"label": labels, "score": scores, "day": [day.name] * len(labels), **kept})
        pq.write_table(said, beside / "scores.parquet")
        (beside / "day.json").write_text(json.dumps(asdict(Day(day.name, len(labels), *figures, spent[0], spent[1]))))


def _gather(folder: Path, days: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(folder / "predictions.parquet") as beside:
        pq.write_table(pa.concat_tables([pq.read_table(folder / day / "scores.parquet") for day in days]), beside)
