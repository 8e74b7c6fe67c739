"""Quality on MovieLens-100k next to FuxiCTR's models: `python benchmarks/quality.py --data DIR [--trials N]`.

DIR holds train_set, validation_set and test_set of a run of the DAG (`tidegate pipeline run ctr_training --root R`
leaves them in R/runs/RUN/split). Ours is the DAG's own configuration. Each of FuxiCTR's models gets the same columns
and a random search of N settings on the same validation rows (peers/fuxictr_models.py). All are judged by `tidegate
evaluate` on the same test rows, as differences to ours with 95 % intervals by user.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from peers.environment import FUXICTR, python_with

from tidegate_components.models.arrays import read_set
from tidegate_components.models.scoring import Scorer
from tidegate_components.training import loop

PEERS = ("WideDeep", "DeepFM", "DCNv2", "DIN")
METRICS = ("auc", "gauc", "logloss", "calibration", "ndcg_at_10")
TIDEGATE = str(Path(sys.executable).with_name("tidegate"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="folder with train_set, validation_set, test_set")
    arguments.add_argument("--trials", type=int, default=16, help="settings that each of the peers may try")
    given = arguments.parse_args()
    print(f"{'':<28}" + "".join(f"{name:>12}" for name in METRICS), flush=True)
    with tempfile.TemporaryDirectory() as made:
        into = Path(made)
        ours = predict(given.data, into)
        show("tidegate wide_deep", evaluate(ours, into / "ours"))
        for name in PEERS:
            theirs = into / f"{name}.parquet"
            said = learn_peer(given.data, name, given.trials, theirs)
            show(f"FuxiCTR {name}", evaluate(theirs, into / name, ours))
            print(f"{'':<28}{json.dumps(said)}", flush=True)


def predict(data: Path, into: Path) -> Path:
    """Train ours as the DAG does, and score the test rows."""
    config = Path(loop.__file__).with_name("movielens.yaml")
    sets = []
    for part in ("train", "validation"):
        pq.write_table(pq.read_table(data / f"{part}_set"), into / f"{part}.parquet")
        sets.append(str(into / f"{part}.parquet"))
    run = into / "run"
    command = [TIDEGATE, "train", "--config", str(config), "--train", sets[0], "--valid", sets[1], "--out", str(run)]
    subprocess.run(command, check=True, capture_output=True)
    scorer = Scorer.load(run / "model")
    test = read_set(data / "test_set", scorer.inputs)[0]
    users = test.ids[:, scorer.inputs.id_columns.index("user_id")]
    scores = scorer.scores(test.ids, test.dense)
    pq.write_table(pa.table({"label": test.labels, "score": scores, "user_id": users}), into / "ours.parquet")
    return into / "ours.parquet"


def learn_peer(data: Path, name: str, trials: int, into: Path) -> dict[str, Any]:
    """Search, learn and score in an environment of its own; the settings that were chosen."""
    script = Path(__file__).parent / "peers/fuxictr_models.py"
    command = [*python_with(*FUXICTR), str(script), str(data), name, str(trials), str(into)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def evaluate(predictions: Path, out: Path, baseline: Path | None = None) -> dict[str, Any]:
    """What `tidegate evaluate` writes."""
    command = [TIDEGATE, "evaluate", "--predictions", str(predictions), "--label", "label", "--score", "score"]
    command += ["--group", "user_id", "--out", str(out)] + (["--baseline", str(baseline)] if baseline else [])
    subprocess.run(command, check=False, capture_output=True)  # 1 where the verdict is no
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def show(name: str, found: dict[str, Any]) -> None:
    print(f"{name:<28}" + "".join(f"{found[metric]['value']:>12.4f}" for metric in METRICS), flush=True)
    for metric, each in found.get("verdict", {}).get("metrics", {}).items():
        if metric in METRICS:
            interval = f"{each['low']:+.4f} to {each['high']:+.4f}"
            print(f"  {metric} less ours: {each['difference']:+.4f} ({interval})", flush=True)


if __name__ == "__main__":
    main()
