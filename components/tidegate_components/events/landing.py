"""The landing: a folder of Parquet files that a small log of commits makes true, like Delta's.

`_log/0000000042.json` is commit 42: the files it adds, the rows, and the offset that comes next in each partition.
A file that no commit lists does not exist for a reader. So files and offsets become true together, in one step of the
file system: `link`, which fails where the number is taken. A writer opens the landing by taking a number of its own;
whoever wrote before can commit no more (it finds its next number taken), so what it left half-way can be swept.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.hashes import content_hash

__all__ = ["LOG", "Commit", "LandedFile", "Landing", "LandingError", "landed_files"]

LOG = "_log"

_STAGED = re.compile(r"\d{10}-\d{3,}-[0-9a-f]{12}\.parquet")
_ENTRY = re.compile(r"\.\d+\.[0-9a-f]{12}")


class LandingError(TidegateError):
    """A landing that another writer has taken over, or whose log cannot be read."""


@dataclass(frozen=True)
class LandedFile:
    """One Parquet file: its path below the landing, its table, its rows and the SHA-256 of its content."""

    path: str
    table: str
    rows: int
    digest: str = ""


@dataclass(frozen=True)
class Commit:
    """One entry of the log. `offsets` is where to go on, for every source partition ever landed."""

    offsets: Mapping[str, int]
    files: tuple[LandedFile, ...] = ()
    quarantined: Mapping[str, int] = field(default_factory=dict)
    writer: str = ""

    def to_json(self) -> str:
        """The entry as it stands in the log."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)


class Landing:
    """A folder of landed events. Readers use `commits`; a writer calls `open` first, then `stage` and `commit`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / LOG
        self._writer = ""
        self._number = -1

    def commits(self) -> Iterator[Commit]:
        """Every commit, oldest first. Raises LandingError where one cannot be read."""
        return (self._read(number) for number in self._numbers())

    def newest(self) -> Commit:
        """The newest commit; an empty one where nothing has landed."""
        numbers = self._numbers()
        return self._read(numbers[-1]) if numbers else Commit({})

    def open(self) -> Commit:
        """Become the only writer, sweep what earlier writers left half-way; returns where to go on.

        Raises LandingError where the folder holds other things and no landing.
        """
        self._check_ours()
        self._log.mkdir(parents=True, exist_ok=True)
        self._writer = uuid.uuid4().hex[:12]
        numbers = self._numbers()
        self._number = numbers[-1] if numbers else -1
        newest = self.newest()
        self.commit(newest.offsets)
        self._sweep()
        return newest

    def stage(self, table: str, date: str, part: int) -> Path:
        """Where to write a file that the next commit is to add."""
        folder = self.folder / table / f"date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self._number + 1:010d}-{part:03d}-{self._writer}.parquet"

    def commit(
        self,
        offsets: Mapping[str, int],
        files: tuple[LandedFile, ...] = (),
        quarantined: Mapping[str, int] | None = None,
    ) -> Commit:
        """Make files and offsets true in one step. Raises LandingError where another writer came in between."""
        commit = Commit(dict(offsets), files, dict(quarantined or {}), self._writer)
        beside = self._log / f".{self._number + 1}.{self._writer}"
        _write_durably(beside, commit.to_json())
        try:
            os.link(beside, self._path(self._number + 1))
        except FileExistsError as error:
            raise LandingError(
                resource=f"landing {self.folder}", field="log", value=f"commit {self._number + 1} of another writer",
                expected="one writer at a time", remedy="stop one of the two; the one that started last goes on",
            ) from error  # fmt: skip
        finally:
            beside.unlink()
        sync(self._log)
        self._number += 1
        return commit

    def digest(self) -> str:
        """The data version: of the content of every file and of the offsets; a run that brings nothing leaves it."""
        files = sorted([file.path, file.digest] for commit in self.commits() for file in commit.files)
        return f"sha256:{content_hash({'files': files, 'offsets': dict(self.newest().offsets)})}"

    def _sweep(self) -> None:
        kept = {file.path for commit in self.commits() for file in commit.files}
        for path in self.folder.glob("*/date=*/*.parquet"):
            if _STAGED.fullmatch(path.name) and str(path.relative_to(self.folder)) not in kept:
                path.unlink(missing_ok=True)
        for path in self._log.glob(".*"):
            if _ENTRY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _check_ours(self) -> None:
        if self._log.is_dir() or not self.folder.exists():
            return
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else ["a file"]
        held = sorted(name for name in names if name != "lost+found" and not name.startswith("."))
        if held:
            raise LandingError(
                resource=f"landing {self.folder}", field="folder", value=", ".join(held[:3]) + " ..." * (len(held) > 3),
                expected=f"a landing (with a folder {LOG}) or an empty folder", remedy="land into a folder of its own",
            )  # fmt: skip

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._log.glob("[0-9]*.json"))

    def _path(self, number: int) -> Path:
        return self._log / f"{number:010d}.json"

    def _read(self, number: int) -> Commit:
        try:
            return _parse(json.loads(self._path(number).read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise LandingError(
                resource=f"landing {self.folder}", field=f"commit {number}", value=str(error),
                expected="a commit as Tidegate writes it", remedy="restore the file from a backup of the landing",
            ) from error  # fmt: skip


def landed_files(folder: Path, table: str) -> list[Path] | None:
    """The files of a table that commits list, oldest first; None where `folder` is no landing."""
    if not (folder / LOG).is_dir():
        return None
    return [folder / file.path for commit in Landing(folder).commits() for file in commit.files if file.table == table]


def _parse(raw: dict[str, Any]) -> Commit:
    return Commit(raw["offsets"], tuple(LandedFile(**file) for file in raw["files"]), raw["quarantined"], raw["writer"])


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def sync(path: Path) -> None:
    """Have the disk hold a file or a folder's entries before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
