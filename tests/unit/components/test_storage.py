"""What is written replaces what an earlier run wrote, as a whole, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate_components.storage import BadLocationError, replacing


def write_file(beside: Path) -> None:
    beside.write_text("new")


def write_folder(beside: Path) -> None:
    beside.mkdir()
    (beside / "clicks.parquet").write_text("new")


def replace(target: Path, write: Callable[[Path], None]) -> None:
    with replacing(target) as beside:
        write(beside)


def test_a_file_and_a_folder_of_an_earlier_run_are_replaced_as_a_whole(tmp_path: Path) -> None:
    for _ in range(2):
        replace(tmp_path / "report.html", write_file)
        replace(tmp_path / "tables", write_folder)
        (tmp_path / "tables" / "impressions.parquet").write_text("of an earlier run with more tables")
    replace(tmp_path / "tables", write_folder)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["clicks.parquet"]


def test_an_empty_folder_gives_way(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "file").mkdir()
    replace(tmp_path / "tables", write_folder)
    replace(tmp_path / "file", write_file)
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize(("name", "write"), [("thesis.txt", write_file), ("thesis.txt", write_folder)])
def test_a_folder_with_what_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_text("years")
    with pytest.raises(BadLocationError, match="name another place"):
        replace(tmp_path / "work", write)
    assert (tmp_path / "work" / name).read_text() == "years"
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_landing_is_not_replaced_by_tables(tmp_path: Path) -> None:
    (tmp_path / "lake" / "_log").mkdir(parents=True)
    with pytest.raises(BadLocationError, match="_log"):
        replace(tmp_path / "lake", write_folder)


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(BadLocationError, match="notes"):
        replace(tmp_path / "notes", write_folder)
