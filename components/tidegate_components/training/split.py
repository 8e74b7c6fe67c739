"""The time split: train on the past, stop on what came next, judge on what came last."""

from __future__ import annotations

from pathlib import Path

from tidegate_components.models.inputs import TrainingSetError
from tidegate_components.storage import replacing

__all__ = ["split_by_time"]


def split_by_time(
    samples: Path, train: Path, validation: Path, test: Path, validation_share: float = 0.1, test_share: float = 0.2
) -> dict[str, int]:
    """Cut samples by `event_time` into three Parquet files; returns rows per part.

    All rows of one instant fall on the same side. Raises TrainingSetError where a part would be empty.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(samples).sort_by("event_time")
    times = table["event_time"]
    cuts = [_time_at(times, 1 - test_share - validation_share), _time_at(times, 1 - test_share)]
    first, second = (pc.sum(pc.less(times, cut)).as_py() or 0 for cut in cuts)
    parts = {train: table.slice(0, first), validation: table.slice(first, second - first), test: table.slice(second)}
    for path, part in parts.items():
        if not part.num_rows:
            raise _empty(samples, table.num_rows)
        with replacing(path) as beside:
            pq.write_table(part, beside)
    return {path.stem: part.num_rows for path, part in parts.items()}


def _time_at(times: object, share: float) -> object:
    return times[min(int(len(times) * share), len(times) - 1)]  # type: ignore[arg-type, index]


def _empty(samples: Path, rows: int) -> TrainingSetError:
    return TrainingSetError(
        resource=f"samples {samples.name}", field="event_time", value=f"{rows} rows",
        expected="times that leave rows for training, validation and test", remedy="give samples of a longer time",
    )  # fmt: skip
