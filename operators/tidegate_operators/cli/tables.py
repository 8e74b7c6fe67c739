"""Tables of the plugin: on a terminal each message stands on a line of its own, in a pipe each object is one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import HistoryEntry, ModelDeployment, RevisionStatus

__all__ = [
    "Row",
    "Sheet",
    "age",
    "deployments_sheet",
    "history_sheet",
    "length",
    "print_sheet",
    "views_sheet",
    "with_namespaces",
]

_COLORS = {
    "Healthy": "green", "promoted": "green", "Ready": "green", "Progressing": "cyan", "Paused": "yellow",
    "RolledBack": "red", "Degraded": "red", "Failed": "red", "rolledBack": "red",
}  # fmt: skip
_NOTHING = "-"
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)), ("s", timedelta(seconds=1)))
# 36h says more than 1d: a unit is used from two of it on.
_LEAST = 2


@dataclass(frozen=True)
class Row:
    """One object: its cells, and a sentence about it."""

    cells: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Sheet:
    """Columns and rows, before anybody knows how wide the paper is."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def deployments_sheet(found: Iterable[ModelDeployment]) -> Sheet:
    """One row for each deployment: where it stands and why."""
    return Sheet(("NAME", "PHASE", "STABLE", "CANARY", "WEIGHT"), tuple(_deployment(item) for item in found))


def _deployment(item: ModelDeployment) -> Row:
    status = item.status
    canary = _label(status.canary.revision if status.canary else None)
    cells = (item.metadata.name, status.phase or "Pending", _label(status.stable), canary, f"{status.weight}%")
    return Row(cells, status.message or "The operator has not looked at it yet.")


def with_namespaces(sheet: Sheet, namespaces: Sequence[str]) -> Sheet:
    """The same rows, each with its namespace before it."""
    rows = (Row((where, *row.cells), row.message) for where, row in zip(namespaces, sheet.rows, strict=True))
    return Sheet(("NAMESPACE", *sheet.columns), tuple(rows))


def history_sheet(found: ModelDeployment, now: datetime) -> Sheet:
    """One row for each rollout that ended, newest first."""
    rows = [_ended(entry, now) for entry in reversed(found.status.history)]
    return Sheet(("ENDED", "VERSION", "REVISION", "OUTCOME", "REASON"), tuple(rows))


def _ended(entry: HistoryEntry, now: datetime) -> Row:
    revision = entry.revision
    cells = (age(entry.ended_at, now), revision.version or _NOTHING, revision.hash, entry.outcome, entry.reason)
    return Row(cells, entry.message)


_JUDGED = {
    "FRESH": "Fresh",
    "SCHEMA": "SchemaCompatible",
    "QUALITY": "QualityOK",
    "CONSISTENT": "Consistent",
}
"""Columns of a view, and the condition that each shows."""


def views_sheet(found: Iterable[FeatureView], now: datetime) -> Sheet:
    """One row for each view: how current and how good its values are; its sentences tell what is wrong."""
    columns = ("NAME", "PHASE", *_JUDGED, "WATERMARK", "NEWEST-EVENT", "CHANGED")
    return Sheet(columns, tuple(_view(item, now) for item in found))


def _view(item: FeatureView, now: datetime) -> Row:
    status = item.status
    conditions = {condition.type: condition for condition in status.conditions}
    judged = [conditions[kind].status if kind in conditions else "Unknown" for kind in _JUDGED.values()]
    times = [age(moment, now) for moment in (status.watermark, status.newest_event_time)]
    changed = _NOTHING if status.rows is None else str(status.rows)
    wrong = [c.message for kind, c in conditions.items() if kind in _JUDGED.values() and c.status == "False"]
    message = " ".join([status.message or "The operator has not looked at it yet.", *wrong])
    return Row((item.metadata.name, status.phase or "Pending", *judged, *times, changed), message)


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, as kubectl says it: 45s, 12m, 5h, 3d."""
    if moment is None:
        return _NOTHING
    since = max(now - moment, timedelta(0))
    unit, whole = next(((unit, each) for unit, each in _UNITS if since >= _LEAST * each), _UNITS[-1])
    return f"{since // whole}{unit}"


def length(seconds: float) -> str:
    """A length of time, to a tenth of its unit: 50s, 7.9m, 5.0h."""
    for unit, whole in _UNITS[:-1]:
        if seconds >= _LEAST * whole.total_seconds():
            return f"{seconds / whole.total_seconds():.1f}{unit}"
    return f"{seconds:.0f}s"


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print it: columns as wide as they need to be, and no line is ever cut or wrapped within a column."""
    own_line = console.is_terminal
    columns = sheet.columns if own_line else (*sheet.columns, "MESSAGE")
    rows = [row.cells if own_line else (*row.cells, row.message) for row in sheet.rows]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    console.print(Text(_line(columns, widths), style="bold"), soft_wrap=True)
    for cells, row in zip(rows, sheet.rows, strict=True):
        console.print(_colored(_line(cells, widths), cells), soft_wrap=True)
        if own_line:
            console.print(Padding(Text(row.message), (0, 0, 0, 2), expand=False))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _colored(line: str, cells: Sequence[str]) -> Text:
    text = Text(line)
    for word in set(cells) & _COLORS.keys():
        text.highlight_words([word], _COLORS[word])
    return text


def _label(revision: RevisionStatus | None) -> str:
    return revision.label if revision else _NOTHING
