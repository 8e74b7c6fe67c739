"""`tidegate backtest`: full training or daily updates, judged on the same days."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate_pipelines.terminal import Json, print_json, progress, shown, speaking

__all__ = ["backtest"]

_MARGINS = ("auc=0.005", "logloss=0.005")
"""How much worse an update may be than training anew, and still be told as good enough."""


def backtest(
    config: Annotated[Path, typer.Option(help="YAML: model, inputs, training.")],
    data: Annotated[Path, typer.Option(help="Rows of several days: a Parquet file or a folder of them.")],
    mode: Annotated[str, typer.Option(help="full, incremental, or both: then the two are compared.")] = "both",
    out: Annotated[Path, typer.Option(help="Folder: MODE/DAY/, MODE/predictions.parquet, comparison/.")] = Path(
        "backtest"
    ),
    timestamp: Annotated[str, typer.Option(help="Column with the time of each row.")] = "event_time",
    group: Annotated[str, typer.Option(help="Column of the group, e.g. user_id: GAUC, and intervals by it.")] = "",
    json_: Json = False,
) -> None:
    """Day by day: train on what was known, judge on the day that followed; a broken backtest goes on.

    Exit codes: 0 ok, 1 failed, 2 bad input.

    Example: tidegate backtest --config deepfm.yaml --data days/ --mode both --group user_id --out backtest
    """
    from tidegate_components.training.run import prepare_process

    prepare_process()
    with speaking():
        from tidegate_components.models.config import ConfigError, read_config
        from tidegate_components.training.backtest import MODES, Day
        from tidegate_components.training.backtest import backtest as replay

        if mode not in (*MODES, "both"):
            raise ConfigError(
                resource="tidegate backtest", field="mode", value=mode, expected="full, incremental or both",
                remedy="correct --mode",
            )  # fmt: skip
        said = read_config(config)
        found: dict[str, list[Day]] = {}
        for one in MODES if mode == "both" else (mode,):
            found[one] = replay(said, data, one, out, timestamp, partial(_say, one), group)
        report: dict[str, Any] = {one: [asdict(day) for day in days] for one, days in found.items()}
        if mode == "both":
            report["comparison"] = _compared(out, group)
        print_json(report) if json_ else _show(report, out)


def _say(mode: str, day: Any) -> None:
    progress(_line(mode, day))


def _line(mode: str, day: Any) -> str:
    figures = f"AUC {shown(day.auc, 4)}, LogLoss {shown(day.logloss, 4)}, calibration {shown(day.calibration, 3)}"
    return f"{mode} {day.day}: {figures}, {day.rows:,} rows"


def _compared(out: Path, group: str) -> dict[str, Any]:
    """Incremental against full on the same rows, by day, as `tidegate evaluate` judges; intervals by group."""
    from tidegate_components.evaluation.compare import parse_margins
    from tidegate_components.evaluation.judge_predictions import Asked, judge_predictions, write_judged
    from tidegate_components.evaluation.predictions import Columns

    columns = Columns(label="label", score="score", group=group or None, slices=("day",))
    parts = (out / mode / "predictions.parquet" for mode in ("incremental", "full"))
    asked = Asked(next(parts), columns, baseline=next(parts), margins=parse_margins(list(_MARGINS), 10))
    judged = judge_predictions(asked, progress)
    write_judged(judged, out / "comparison")
    return judged.to_json()


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("mode", "day", "rows", "AUC", "LogLoss", "calib.", "learned", "s")
    for mode in (name for name in report if name != "comparison"):
        for day in report[mode]:
            figures = (shown(day["auc"], 4), shown(day["logloss"], 4), shown(day["calibration"], 3))
            table.add_row(
                mode, day["day"], f"{day['rows']:,}", *figures, f"{day['learned_rows']:,}", f"{day['seconds']:.1f}"
            )
    Console().print(table)
    if "comparison" in report:
        typer.echo(f"{report['comparison']['verdict']['sentence']} Report: {out / 'comparison' / 'report.html'}")
