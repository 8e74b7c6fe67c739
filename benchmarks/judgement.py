"""False alarms and time to catch a harm: Tidegate's own decisions beside a fixed-threshold rule, on like traffic.

    python benchmarks/judgement.py --runs 2000

Each rollout is looked at every 10 s: weights 5, 20 and 50 %, ten minutes each, 200 requests a second. The rule beside
it is what rollout tools without a test do: every minute it compares the two rates, and rolls back after
three minutes in a row beyond a tolerance (5 % of stable's rate for clicks, one point for errors).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import numpy as np

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.rollout.simulation import Behaviour, Rate, simulate

RPS, WEIGHTS, STEP_SECONDS, LOOK_SECONDS = 200.0, (5, 20, 50), 600, 10
MINUTE, IN_A_ROW = 60, 3
TOLERANCE = {"ctr": 0.05, "errors": 0.01}
ERRORS = {"name": "errors", "role": "guard", "margin": 0.005, "errorRate": {}}
CTR = {"name": "ctr", "role": "guard", "margin": 0.0, "higherIsBetter": True,
       "ratio": {"events": "c{$track}", "trials": "i{$track}"}}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Rates of stable and canary in both metrics; `harmful`: a rollback is right."""

    name: str
    errors: tuple[float, float]
    ctr: tuple[float, float]
    harmful: bool


CASES = (
    Case("A/A: clicks 3 %, errors 0.1 %", (0.001, 0.001), (0.03, 0.03), False),
    Case("clicks 3 % -> 2.7 %", (0.001, 0.001), (0.03, 0.027), True),
    Case("errors 0.1 % -> 2 %", (0.001, 0.02), (0.03, 0.03), True),
)


def deployment() -> ModelDeployment:
    """Two guards, split error level 0.05."""
    pause = {"pause": {"duration": f"{STEP_SECONDS}s"}}
    steps = [step for weight in WEIGHTS for step in ({"setWeight": weight}, pause)]
    spec = {
        "model": {"registry": {"name": "ctr-ranker", "alias": "challenger"}},
        "runtime": {"gpus": 0, "backend": "onnxruntime"},
        "scaling": {"minReplicas": 2, "maxReplicas": 4, "targets": [{"queueTime": "5ms"}]},
        "routing": {"gatewayRef": {"name": "public"}},
        "strategy": {"canary": {"steps": steps}},
        "analysis": {"interval": f"{LOOK_SECONDS}s", "minSamples": 100, "metrics": [ERRORS, CTR]},
    }
    return ModelDeployment.parse({"kind": "ModelDeployment", "metadata": {"name": "x"}, "spec": spec})


def judged(case: Case, seed: int) -> float | None:
    """Seconds until Tidegate rolls back; none if it promotes."""
    rates = {"errors": tuple(map(Rate, case.errors)), "ctr": tuple(map(Rate, case.ctr))}
    behaviour = Behaviour(rates, RPS, timedelta(hours=2))  # type: ignore[arg-type]
    ending = simulate(deployment(), behaviour, np.random.default_rng([1, seed]))
    return ending.seconds if ending.outcome == "rolledBackForHarm" else None


def by_threshold(case: Case, seed: int) -> float | None:
    """The same of the fixed-threshold rule."""
    draws, row = np.random.default_rng([2, seed]), 0
    for minute in range(len(WEIGHTS) * STEP_SECONDS // MINUTE):
        weight = WEIGHTS[minute * MINUTE // STEP_SECONDS] / 100
        trials = draws.poisson([RPS * MINUTE * (1 - weight), RPS * MINUTE * weight])
        row = row + 1 if _beyond(case, trials, draws) else 0
        if row == IN_A_ROW:
            return float((minute + 1) * MINUTE)
    return None


def _beyond(case: Case, trials: Sequence[int], draws: np.random.Generator) -> bool:
    clicks = [draws.binomial(n, p) / max(1, n) for n, p in zip(trials, case.ctr, strict=True)]
    errors = [draws.binomial(n, p) / max(1, n) for n, p in zip(trials, case.errors, strict=True)]
    return clicks[1] < clicks[0] * (1 - TOLERANCE["ctr"]) or errors[1] > errors[0] + TOLERANCE["errors"]


def _ended(case: Case, runs: int, rule: str) -> list[float | None]:
    contender = {"tidegate": judged, "threshold": by_threshold}[rule]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(contender, [case] * runs, range(runs), chunksize=20))


def rows(runs: int) -> Iterator[str]:
    """Lines of the table."""
    yield "| | rule | rolled back | median s | 90 % within s | wall s |"
    yield "|---|---|---|---|---|---|"
    for case in CASES:
        for rule in ("tidegate", "threshold"):
            begin = time.perf_counter()
            found = _ended(case, runs, rule)
            caught = sorted(seconds for seconds in found if seconds is not None)
            times = f"{median(caught):.0f} | {caught[int(0.9 * (len(caught) - 1))]:.0f}" if caught else "- | -"
            wall = time.perf_counter() - begin
            yield f"| {case.name} | {rule} | {100 * len(caught) / runs:.1f} % | {times} | {wall:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    for line in rows(parser.parse_args().runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
