"""Score Parquet files by a package: rows kept, order kept, memory bounded, and resumable.

A file is scored in parts of whole row groups. Each part is written beside and renamed when it is whole, in a folder
named by the digests of input and package, so that a run that was killed goes on where it was, and never with the parts
of other data. What is asked for appears at the end, by one rename.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.hashes import content_hash
from tidegate_components.packaging.score import PackagedModel, ScoringError
from tidegate_components.storage import file_digest, parquet_files

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SCORED_KEY", "Form", "Progress", "Scored", "score_files", "scored_by"]

SCORED_KEY = b"tidegate.scored"
"""Parquet metadata of scores: JSON of {key, package, input, model, version}; the package's digest has a lineage."""

_BATCH_ROWS = 1 << 16
_PART_ROWS = 1 << 20


@dataclass(frozen=True)
class Form:
    """What the output holds: the input's columns (none: all of them) and the score, by that name."""

    score: str = "score"
    columns: tuple[str, ...] | None = None
    part_rows: int = _PART_ROWS
    """A part is closed once it holds so many rows; parts are what a killed run keeps."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    rows: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Scored:
    """What a run did: rows in the output, those among them that an earlier run had scored, and how long it took."""

    rows: int
    reused: int
    files: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows scored a second, by this run."""
        return (self.rows - self.reused) / self.seconds if self.seconds else 0.0


Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class _File:
    """One file to score, where it goes below the output, and the key of what it gives."""

    source: Path
    name: str
    rows: int
    key: str
    digest: str


@dataclass
class _Run:
    """What all parts of a run share."""

    model: PackagedModel
    form: Form
    work: Path
    tell: Tell
    total: int
    started: float
    rows: int = 0
    reused: int = 0

    def add(self, rows: int, reused: bool = False) -> None:
        """Count rows and tell."""
        self.rows += rows
        self.reused += rows if reused else 0
        self.tell(Progress(self.rows, self.total, time.monotonic() - self.started))


def score_files(
    model: PackagedModel, source: Path, out: Path, form: Form | None = None, tell: Tell = lambda _: None
) -> Scored:
    """Score the Parquet file or folder `source` into `out` (a file or folder, as `source` is one).

    Every row in, every row out, in order, with `form.score` Float32 added. Raises ScoringError.
    """
    shape = form or Form()
    _check_places(source, out)
    started = time.monotonic()
    files = [_planned(path, source, model, shape) for path in _found(source)]
    with _working(out) as work:
        run = _Run(model, shape, work, tell, sum(file.rows for file in files), started)
        for file in files:
            _score_file(run, file, out if source.is_file() else out / file.name)
        _publish(work / "done", files, source, out)
        return Scored(run.rows, run.reused, len(files), time.monotonic() - started)


def scored_by(path: Path) -> dict[str, str]:
    """What a file of scores says of itself: {key, package, input, model, version}; empty where it says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = json.loads((pq.read_schema(path).metadata or {}).get(SCORED_KEY, b"{}"))
    except (OSError, pa.ArrowInvalid, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_places(source: Path, out: Path) -> None:
    inside, outside = source.resolve(), out.resolve()
    if inside == outside or inside in outside.parents or outside in inside.parents:
        raise _fault("--out", str(out), f"a place outside {source}", "name another place")
    if source.is_file() and out.is_dir():
        raise _fault("--out", f"{out}, a folder", "a file, since --in is one", "name a file")
    strange = [path for path in ([out] if out.is_file() else _files(out)) if path.suffix != ".parquet"]
    if (source.is_dir() and out.is_file()) or (strange and out.exists()):
        value = str(strange[0] if strange else out)
        raise _fault("--out", value, "nothing there, or an earlier run's Parquet", "name another place")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()] if folder.is_dir() else []


def _found(source: Path) -> list[Path]:
    files = parquet_files(source) if source.exists() else []
    if not files:
        raise _fault("--in", str(source), "a Parquet file, or a folder that holds some", "correct the path")
    return files


@contextmanager
def _working(out: Path) -> Iterator[Path]:
    """The folder of parts beside `out`, for one run at a time; gone when the run ends well."""
    work = out.parent / f".{out.name}.parts"
    (work / "done").mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _fault("--out", str(out), "a place that no other run writes to", "wait for the other run") from error
        yield work
        shutil.rmtree(work)


def _planned(path: Path, source: Path, model: PackagedModel, form: Form) -> _File:
    """Looked at before anything is scored: a column that lacks is told at once."""
    with _parquet(path) as file:
        names, rows = file.schema_arrow.names, file.metadata.num_rows
    wanted = [*model.columns, *(form.columns or ())]
    missing = [column for column in wanted if column not in names]
    kept = form.columns if form.columns is not None else names
    if missing:
        raise _fault(f"columns of {path}", names, f"a column {missing[0]}", "give what model.json names")
    if form.score in kept:
        raise _fault(
            "--score-column", form.score, "a name that no column has", "name another, or leave it out of --columns"
        )
    digest = file_digest(path)
    key = content_hash([digest, model.digest, form.score, form.columns])
    name = path.name if source.is_file() else path.relative_to(source).as_posix()
    return _File(path, name, rows, key, digest)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (OSError, pa.ArrowInvalid) as error:
        raise _fault("--in", str(path), f"readable Parquet ({str(error).splitlines()[0]})", "check the file") from error


def _score_file(run: _Run, file: _File, before: Path) -> None:
    """One file into work/done, unless an earlier run left it there or in the output."""
    target = run.work / "done" / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if scored_by(target).get("key") != file.key:
        if scored_by(before).get("key") != file.key:
            _join(run, file, list(_parts(run, file)), target)
            return
        _link(before, target)
    run.add(file.rows, reused=True)


def _link(before: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(before, target)
    except OSError:
        beside = target.with_name(f".{target.name}.new")
        shutil.copyfile(before, beside)
        os.replace(beside, target)


def _parts(run: _Run, file: _File) -> Iterator[Path]:
    """The parts of a file in order, each scored now or by an earlier run."""
    folder = run.work / file.key[:24]
    folder.mkdir(exist_ok=True)
    with _parquet(file.source) as source:
        for number, groups in enumerate(_spans(source, run.form.part_rows)):
            part = folder / f"part-{number:05d}-of-{groups[0]}-{groups[-1]}.parquet"
            rows = _rows_of(source, groups)
            if part.exists():
                run.add(rows, reused=True)
            else:
                _score_part(run, file, source, groups, part)
            yield part


def _spans(source: Any, part_rows: int) -> list[list[int]]:
    """Row groups, in order, together until they hold `part_rows`; one empty span where there are none."""
    spans: list[list[int]] = []
    rows = part_rows
    for group in range(source.metadata.num_row_groups):
        if rows >= part_rows:
            spans.append([])
            rows = 0
        spans[-1].append(group)
        rows += source.metadata.row_group(group).num_rows
    return spans


def _rows_of(source: Any, groups: Iterable[int]) -> int:
    return sum(source.metadata.row_group(group).num_rows for group in groups)


def _score_part(run: _Run, file: _File, source: Any, groups: list[int], part: Path) -> None:
    """Streamed: a batch is read, scored and written before the next."""
    import pyarrow as pa

    schema = _schema(run, file, source.schema_arrow)
    kept = [name for name in schema.names if name != run.form.score]
    columns = list(dict.fromkeys([*kept, *run.model.columns]))
    before = _rows_of(source, range(groups[0])) if groups else 0
    with _written(part, schema) as writer:
        for batch in source.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns):
            table = pa.Table.from_batches([batch])
            scores = pa.array(run.model.score(table, before), pa.float32())
            before += table.num_rows
            found = [table[name] for name in kept] + [pa.chunked_array([scores])]
            writer.write_table(pa.Table.from_arrays(found, schema=schema))
            run.add(table.num_rows)


def _schema(run: _Run, file: _File, schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    kept = run.form.columns if run.form.columns is not None else schema.names
    manifest = run.model.manifest
    facts = {
        "key": file.key, "package": run.model.digest, "input": f"sha256:{file.digest}",
        "model": manifest.name, "version": manifest.version,
    }  # fmt: skip
    metadata = {**(schema.metadata or {}), SCORED_KEY: json.dumps(facts).encode()}
    return pa.schema([*(schema.field(name) for name in kept), pa.field(run.form.score, pa.float32())], metadata)


@contextmanager
def _written(path: Path, schema: pa.Schema) -> Iterator[Any]:
    """A Parquet writer whose file appears whole, and on the disk, when the block ends well."""
    import pyarrow.parquet as pq

    beside = path.with_name(f".{path.name}.new")
    with pq.ParquetWriter(beside, schema) as writer:
        yield writer
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


def _join(run: _Run, file: _File, parts: list[Path], target: Path) -> None:
    """The parts as one file, row group by row group; its rows are counted against the input's."""
    if len(parts) == 1:
        os.replace(parts[0], target)
    else:
        with _parquet(file.source) as source:
            schema = _schema(run, file, source.schema_arrow)
        with _written(target, schema) as writer:
            for part in parts:
                _copy(part, writer)
    with _parquet(target) as found:
        if found.metadata.num_rows != file.rows:
            raise _fault("rows", f"{found.metadata.num_rows} in {target}", f"{file.rows}", "remove the folder of parts")
    shutil.rmtree(run.work / file.key[:24])


def _copy(part: Path, writer: Any) -> None:
    with _parquet(part) as source:
        for group in range(source.metadata.num_row_groups):
            writer.write_table(source.read_row_group(group))


def _publish(done: Path, files: list[_File], source: Path, out: Path) -> None:
    """What was asked for, by rename: the old output goes once the new one is whole."""
    names = {file.name for file in files}
    for stale in [path for path in _files(done) if path.relative_to(done).as_posix() not in names]:
        stale.unlink()
    if source.is_file():
        os.replace(done / files[0].name, out)
        return
    old = done.with_name("old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(out, old)
    os.replace(done, out)


def _fault(field: str, value: object, expected: str, remedy: str) -> ScoringError:
    return ScoringError(resource="batch scoring", field=field, value=value, expected=expected, remedy=remedy)
