"""`tidegate evaluate | explain`: judge predictions, and say what a model looks at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate_pipelines.terminal import FAILED, Json, print_json, progress, speaking

if TYPE_CHECKING:
    from tidegate_components.evaluation.judge_predictions import Judged

__all__ = ["app"]

app = typer.Typer()


@app.command("evaluate")
def evaluate(  # noqa: PLR0913, PLR0917 - the options are the command's public form
    predictions: Annotated[Path, typer.Option(help="Parquet with labels and scores: a file, folder or glob.")],
    label: Annotated[str, typer.Option(help="Column of what happened, 0 or 1.")],
    score: Annotated[str, typer.Option(help="Column of probabilities, 0 to 1.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and metrics.json.")],
    group: Annotated[str | None, typer.Option(help="Column for GAUC and NDCG, such as user_id.")] = None,
    slice_: Annotated[list[str] | None, typer.Option("--slice", help="Column to slice by; as often as needed.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column of row weights, such as 1 / sampling rate.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Parquet with other scores of the same rows.")] = None,
    baseline_score: Annotated[str | None, typer.Option(help="Its column of scores; default: as --score.")] = None,
    key: Annotated[str | None, typer.Option(help="Column that joins rows and baseline; default: row order.")] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(help="METRIC=LOSS that is tolerated, and must be shown not to be exceeded; as often as needed."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Parquet of earlier rows, for drift and quality.")] = None,
    confidence: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    bootstrap: Annotated[int, typer.Option(min=100, max=100_000, help="Draws of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 7,
    k: Annotated[int, typer.Option("--k", min=1, max=10_000, help="Places that NDCG@k and the like look at.")] = 10,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Score from which precision and recall count.")] = 0.5,
    json_: Json = False,
) -> None:
    """Judge predictions: AUC, GAUC, LogLoss, calibration and more, with intervals, by slice, against a baseline.

    Example: tidegate evaluate --predictions p.parquet --label label --score score --group user_id --slice gender
    --baseline champion.parquet --margin auc=0.002 --out report

    Margins: by default the AUC must be shown not to be lower than the baseline's by more than 0.002, and GAUC, LogLoss
    (0.002 each) and |calibration - 1| (0.02) must not be shown to be worse by more than that.

    Exit codes: 0 written, 1 written and the baseline's verdict fails, or another failure, 2 bad input.
    """
    with speaking():
        from tidegate_components.evaluation.compare import parse_margins
        from tidegate_components.evaluation.judge_predictions import Asked, judge_predictions, write_judged
        from tidegate_components.evaluation.measure import Settings
        from tidegate_components.evaluation.predictions import Columns

        settings, margins = Settings(confidence, bootstrap, seed, k, threshold), parse_margins(margin or [], k)
        _check_margins(margin, baseline)
        asked = Asked(
            predictions=predictions,
            columns=Columns(label, score, group, weight, key, tuple(slice_ or ())),
            settings=settings.checked(),
            baseline=baseline,
            baseline_score=baseline_score,
            margins=margins,
            reference=reference,
        )
        judged = judge_predictions(asked, progress)
        write_judged(judged, out, progress)
        print_json(judged.to_json()) if json_ else _show(judged, out)
    if judged.verdict is not None and not judged.verdict.passed:
        raise typer.Exit(FAILED)


def _check_margins(margin: list[str] | None, baseline: Path | None) -> None:
    """A margin that nothing is compared by would be a gate that always opens."""
    from tidegate_components.evaluation.errors import EvaluationError

    if margin and baseline is None:
        raise EvaluationError(
            resource="tidegate evaluate", field="margin", value=margin[0], expected="a baseline to compare with",
            remedy="give --baseline, or leave --margin out",
        )  # fmt: skip


def _show(judged: Judged, out: Path) -> None:
    for name, one in judged.metrics.items():
        if one.value is None:
            typer.echo(f"{name:<20}      -  {one.reason}")
        else:
            reach = one.reason if one.low is None or one.high is None else f"{one.low:.4f} to {one.high:.4f}"
            typer.echo(f"{name:<20}{one.value:>10.4f}  {reach}")
    if judged.verdict is not None:
        typer.echo(judged.verdict.sentence)
    typer.echo(f"report: {out / 'report.html'}")


@app.command("explain")
def explain(  # noqa: PLR0913, PLR0917 - the options are the command's public form
    model: Annotated[Path, typer.Option(help="Folder of a trained model, as training writes it.")],
    data: Annotated[Path, typer.Option(help="Parquet with the model's columns and label.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, explanation.json and attributions.parquet.")],
    rows: Annotated[int, typer.Option(min=2, help="At most so many rows, drawn evenly.")] = 2000,
    repeats: Annotated[int, typer.Option(min=1, help="Shuffles of each input.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of rows and shuffles.")] = 7,
    label: Annotated[str, typer.Option(help="Column of 0 and 1.")] = "label",
    json_: Json = False,
) -> None:
    """What a model looks at: importance of each input, and what each does to single predictions.

    Example: tidegate explain --model out/model --data test.parquet --out explained

    Exit codes: 0 written, 1 failed, 2 bad input.
    """
    with speaking():
        from tidegate_components.evaluation.explain_model import explain as run
        from tidegate_components.evaluation.explain_model import to_json, write_explained

        found = run(model, data, rows, repeats, seed, label)
        write_explained(found, out)
        if json_:
            print_json(to_json(found))
            return
        for one in found.importance:
            typer.echo(f"{one.name:<40}{one.loss:>+9.4f}  {one.low:+.4f} to {one.high:+.4f}")
        typer.echo(f"report: {out / 'report.html'}")
