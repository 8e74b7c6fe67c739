"""The champion on the challenger's test rows: its package is fetched, verified and scored by its own ONNX."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate_api.errors import TidegateError
from tidegate_components.evaluation.compare import Compared, Margins, compare, verdict_of
from tidegate_components.evaluation.gate import Verdict, judge
from tidegate_components.evaluation.judge import user_rows
from tidegate_components.evaluation.measure import Settings
from tidegate_components.evaluation.predictions import Rows

__all__ = ["Known", "Outcome", "compare_rows", "judge_on_rows", "outcome_markdown"]


@dataclass(frozen=True)
class Known:
    """What the registry knows of the champion; `package_uri` "" where there is none."""

    version: str = ""
    metrics: dict[str, float] | None = None
    package_uri: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"champion version {self.version}"


@dataclass(frozen=True)
class Outcome:
    """The gate's verdict, and the metrics that were compared on the same rows (none where that could not be)."""

    verdict: Verdict
    compared: dict[str, Compared]


def judge_on_rows(
    champion: Known, metrics: dict[str, float], margin: float, model: Path, test_set: Path, mlflow_uri: str = ""
) -> Outcome:
    """Challenger (folder of Scorer.save) against champion on the same rows, by the paired DeLong test of AUC.

    The challenger must be shown not to be worse by more than `margin`. Where there is no champion, or its package
    cannot be had or cannot score these rows, the recorded `metrics` are compared, and the sentence says so.
    """
    recorded = judge(metrics, champion.metrics or {}, margin, champion.name)
    if not champion.package_uri:
        return Outcome(recorded, {})
    try:
        pair = compare_rows(champion, model, test_set, mlflow_uri)
    except TidegateError as error:
        why = f" Only recorded AUCs were compared, since the champion could not score these rows: {error}"
        return Outcome(Verdict(recorded.passed, recorded.sentence + why), {})
    settings = Settings()
    compared = compare(*pair, settings, Margins({"auc": margin}, {}))
    return Outcome(verdict_of(compared, settings.confidence, baseline=champion.name), compared)


def compare_rows(champion: Known, model: Path, test_set: Path, mlflow_uri: str = "") -> tuple[Rows, Rows]:
    """Challenger and champion on the test rows. Raises a TidegateError where the champion cannot score them."""
    import pyarrow.parquet as pq

    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer
    from tidegate_components.packaging.fetch import fetch
    from tidegate_components.packaging.score import score_table

    scorer = Scorer.load(model)
    test = read_set(test_set, scorer.inputs)[0]
    with tempfile.TemporaryDirectory() as folder, _tracking(mlflow_uri):
        package = fetch(champion.package_uri, champion.digest, Path(folder))
        theirs = score_table(package, pq.read_table(test_set))
    users = test.ids[:, scorer.inputs.id_columns.index("user_id")]
    ours = scorer.scores(test.ids, test.dense)
    return user_rows(test.labels, ours, users), user_rows(test.labels, theirs, users)


@contextmanager
def _tracking(mlflow_uri: str) -> Iterator[None]:
    """mlflow-artifacts:/ is read through the server that MLFLOW_TRACKING_URI names."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    if mlflow_uri:
        os.environ["MLFLOW_TRACKING_URI"] = mlflow_uri
    try:
        yield
    finally:
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
        elif mlflow_uri:
            del os.environ["MLFLOW_TRACKING_URI"]


def outcome_markdown(outcome: Outcome) -> str:
    """The verdict for the KFP UI: the sentence, and a table of what was compared."""
    verdict = outcome.verdict
    lines = [f"**{'Passed' if verdict.passed else 'Failed'}.** {verdict.sentence}"]
    if outcome.compared:
        lines += [
            "",
            "| metric | challenger | champion | difference | 95 % interval | p |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_line(name, one) for name, one in outcome.compared.items() if one.low is not None]
    return "\n".join(lines) + "\n"


def _line(name: str, one: Compared) -> str:
    ends = f"{one.low:+.4f} to {one.high:+.4f}"
    p_value = "" if one.p_value is None else f"{one.p_value:.3g}"
    return f"| {name} | {one.challenger:.4f} | {one.baseline:.4f} | {one.difference:+.4f} | {ends} | {p_value} |"
