"""Metrics of many predictions next to scikit-learn with pandas: `python benchmarks/evaluation.py [--rows N]`.

Seeded impressions of 100,000 users, about one in ten clicked, scores in double precision. Every contender runs in a
process of its own on one core, reads the same Parquet, and takes its time from the arrays on. `tidegate` gives all
metrics with 95 % intervals; its peers give AUC, GAUC and calibration without any. "by ranks" is the best we could write
with pandas. The command line is timed whole: start, reading, all metrics, report.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

USERS = 100_000
COLUMNS = ["label", "score", "user_id"]
FIGURES = ("auc", "gauc", "calibration")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.contender:
        name, file = given.contender
        print(json.dumps(CONTENDERS[name](Path(file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = made(Path(folder), given.rows)
        show({name: contend(name, file) for name in CONTENDERS}, given.rows)


def contend(name: str, file: Path) -> Any:
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [sys.executable, __file__, "--contender", name, str(file)],
        capture_output=True, text=True, check=False, env=os.environ | one,
    )  # fmt: skip
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def show(rows: dict[str, Any], count: int) -> None:
    ours = rows["tidegate"]
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {count:,} rows of {USERS:,} users")
    heads = ("wall s", "CPU s", "peak GB", "wall ratio", "CPU ratio", "differs by")
    print(f"{'':<34}" + "".join(f"{head:>12}" for head in heads))
    for name, row in rows.items():
        if "failed" in row:
            print(f"{name:<34}{row['failed']}")
            continue
        worst = max(abs(row[figure] - ours[figure]) for figure in FIGURES)
        ratios = row["wall"] / ours["wall"], row["cpu"] / ours["cpu"]
        figures = f"{row['wall']:>12.2f}{row['cpu']:>12.2f}{row['peak']:>12.2f}{ratios[0]:>12.1f}{ratios[1]:>12.1f}"
        print(f"{name:<34}{figures}{worst:>12.0e}")
    print("\n95 % intervals: " + ", ".join(f"{name} {ours['ends'][name]}" for name in FIGURES))


def made(folder: Path, rows: int) -> Path:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    scores = 1 / (1 + np.exp(2.5 - rng.normal(size=rows)))
    labels, users = (rng.random(rows) < scores).astype(np.int8), rng.integers(0, USERS, rows)
    pq.write_table(pa.table(dict(zip(COLUMNS, (labels, scores, users), strict=True))), folder / "p.parquet")
    return folder / "p.parquet"


def timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    before, start = time.process_time(), time.monotonic()
    found = work()
    spent = {"wall": time.monotonic() - start, "cpu": time.process_time() - before}
    return {**found, **spent, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def tidegate(file: Path) -> dict[str, Any]:
    from tidegate_components.evaluation.measure import Settings, measure
    from tidegate_components.evaluation.predictions import Columns, read_predictions

    rows = read_predictions(file, Columns(*COLUMNS)).rows

    def work() -> dict[str, Any]:
        found = measure(rows, Settings())
        ends = {name: f"{found[name].low:.5f} to {found[name].high:.5f}" for name in FIGURES}
        return {**{name: found[name].value for name in FIGURES}, "ends": ends}

    return timed(work)


def command_line(file: Path) -> dict[str, Any]:
    out, before, start = file.parent / "out", resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    options = zip(("--label", "--score", "--group"), COLUMNS, strict=True)
    words = ["evaluate", "--predictions", str(file), *(word for pair in options for word in pair), "--out", str(out)]
    command = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", *words]
    subprocess.run(command, check=True, capture_output=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads((out / "metrics.json").read_text())
    return {**{name: found[name]["value"] for name in FIGURES}, "wall": wall, "cpu": cpu, "peak": after.ru_maxrss / 1e6}


def scikit_learn(file: Path) -> dict[str, Any]:
    import numpy as np
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    frame = pd.read_parquet(file)

    def one_user(rows: Any) -> float:
        return roc_auc_score(rows["label"], rows["score"]) if rows["label"].nunique() == 2 else np.nan

    def work() -> dict[str, Any]:
        groups = frame.groupby("user_id")[["label", "score"]]
        values, sizes = groups.apply(one_user), groups.size()
        judged = values.notna()
        return {
            "auc": roc_auc_score(frame["label"], frame["score"]),
            "gauc": float(np.average(values[judged], weights=sizes[judged])),
            "calibration": float(frame["score"].sum() / frame["label"].sum()),
        }

    return timed(work)


def by_ranks(file: Path) -> dict[str, Any]:
    import numpy as np
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    frame = pd.read_parquet(file)

    def work() -> dict[str, Any]:
        ranks = frame.groupby("user_id")["score"].rank()
        ranked = frame.assign(clicked_rank=ranks * frame["label"]).groupby("user_id")
        clicked, size, total = ranked["label"].sum().astype(float), ranked.size(), ranked["clicked_rank"].sum()
        values = (total - clicked * (clicked + 1) / 2) / (clicked * (size - clicked)).replace(0, np.nan)
        judged = values.notna()
        return {
            "auc": roc_auc_score(frame["label"], frame["score"]),
            "gauc": float(np.average(values[judged], weights=size[judged])),
            "calibration": float(frame["score"].sum() / frame["label"].sum()),
        }

    return timed(work)


CONTENDERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tidegate": tidegate,
    "tidegate evaluate, whole command": command_line,
    "scikit-learn, pandas groupby": scikit_learn,
    "scikit-learn, pandas by ranks": by_ranks,
}

if __name__ == "__main__":
    main()
