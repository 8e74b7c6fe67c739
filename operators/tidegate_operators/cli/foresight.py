"""`plan` and `simulate`: what a rollout will take, before anybody's traffic is at stake."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import Progress

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.cli.tables import Row, Sheet, print_sheet
from tidegate_operators.cli.traffic import USUAL, both_sides, parse_rates
from tidegate_operators.rollout.power import StepPlan, plan_steps
from tidegate_operators.rollout.simulation import Behaviour, Ending, Outcome, Rate, simulate

__all__ = ["plan_command", "simulate_command"]

_CHUNK = 10
_LONGEST = timedelta(hours=24)
"""A simulated rollout that still goes on after this is `held`."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

File = Annotated[Path, typer.Option("--filename", "-f", help="The ModelDeployment, a YAML file.", exists=True)]
Rps = Annotated[float, typer.Option("--rps", min=0.001, help="Requests a second, of both sides together.")]
Json = Annotated[bool, typer.Option("--json", help="Print numbers for machines.")]
_RATES = f"METRIC=RATE, or METRIC=MEAN:DEVIATION of a mean; may be repeated. Unnamed metrics: {USUAL}."


def plan_command(
    filename: File,
    rps: Rps,
    baseline: Annotated[list[str] | None, typer.Option("--baseline", help=f"Stable's rates: {_RATES}")] = None,
    harm: Annotated[
        list[str] | None,
        typer.Option("--harm", help="The canary's rates to be seen; default: worse by twice the margin and a tenth."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how long each step takes, how long it needs to see a given harm, and the least harm that it can see.

    Example: kubectl tidegate plan -f md.yaml --rps 200 --baseline ctr=0.03 --harm ctr=0.02
    """
    deployment = ModelDeployment.load(filename)
    stable = parse_rates(baseline or [], deployment, "--baseline")
    rates = _with_harm(deployment, stable, parse_rates(harm or [], deployment, "--harm"))
    steps = plan_steps(deployment, rates, rps)
    if as_json:
        sys.stdout.write(json.dumps([_step_json(step) for step in steps], indent=2) + "\n")
    else:
        print_sheet(_plan_sheet(steps), Console())


def _with_harm(
    deployment: ModelDeployment, stable: dict[str, Rate], canary: dict[str, Rate]
) -> dict[str, tuple[Rate, Rate]]:
    """Rates of every metric that compares; what is not named is worse by twice the margin and a tenth of the rate."""
    found = {}
    for metric in deployment.spec.analysis.metrics:
        if metric.compares:
            base = both_sides(deployment, stable, {})[metric.name][0]
            sign = -1.0 if metric.higher_is_better else 1.0
            mean = base.mean + sign * (2 * (metric.margin or 0.0) + abs(base.mean) / 10)
            share = not (metric.mean or metric.external)
            worse = Rate(min(max(mean, 0.0), 1.0) if share else mean, base.deviation)
            found[metric.name] = (base, canary.get(metric.name, worse))
    return found


def _step_json(step: StepPlan) -> dict[str, Any]:
    metrics = [
        {
            "metric": s.metric,
            "harm": s.harm,
            "leastHarm": s.least_harm,
            "minSamplesSeconds": s.samples_seconds,
            "harmSeconds": s.harm_seconds,
        }
        for s in step.sights
    ]
    return {"weight": step.weight, "pauseSeconds": step.pause_seconds, "leastSeconds": step.least_seconds} | {
        "metrics": metrics
    }


def _plan_sheet(steps: Iterable[StepPlan]) -> Sheet:
    rows = [row for step in steps for row in _step_rows(step)]
    return Sheet(
        ("WEIGHT", "PAUSE", "AT-LEAST", "METRIC", "MIN-SAMPLES", "HARM", "SEEN-AFTER", "LEAST-SEEN"), tuple(rows)
    )


def _step_rows(step: StepPlan) -> Iterator[Row]:
    head = (f"{step.weight}%", _words(step.pause_seconds), _words(step.least_seconds))
    if not step.sights:
        yield Row((*head, "-", "-", "-", "-", "-"), "No metric compares: the step is left when its pauses have passed.")
    for sight in step.sights:
        seen = "never" if sight.harm_seconds is None else _words(sight.harm_seconds)
        least = f"{sight.least_harm:+.3g}"
        cells = (*head, sight.metric, _words(sight.samples_seconds), f"{sight.harm:+.4g}", seen, least)
        yield Row(cells, _verdict_on(step, sight.harm_seconds))


def _verdict_on(step: StepPlan, harm_seconds: float | None) -> str:
    if harm_seconds is None:
        return "The margin tolerates this, or it would take more than a year to see."
    if harm_seconds <= step.least_seconds:
        return "Seen at this step."
    return "Seen later, if at all: a longer pause or a greater weight would show it here."


def _words(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f}{name}"
    return f"{seconds:.0f}s"


def simulate_command(
    filename: File,
    rps: Rps,
    stable: Annotated[list[str] | None, typer.Option("--stable", help=f"Stable's rates: {_RATES}")] = None,
    canary: Annotated[
        list[str] | None, typer.Option("--canary", help="The canary's; a metric not named is equal on both sides.")
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, max=1_000_000, help="Rollouts to simulate.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same rollouts.")] = 0,
    as_json: Json = False,
) -> None:
    """Run the operator's own decisions on simulated traffic, and print how rollouts end.

    Example: kubectl tidegate simulate -f md.yaml --stable ctr=0.03 --canary ctr=0.027 --rps 200 --runs 2000 --json
    """
    deployment = ModelDeployment.load(filename)
    sides = [
        parse_rates(words or [], deployment, option) for words, option in ((stable, "--stable"), (canary, "--canary"))
    ]
    behaviour = Behaviour(both_sides(deployment, *sides), rps, _LONGEST)
    endings = _simulated(deployment, behaviour, runs, seed)
    if as_json:
        sys.stdout.write(json.dumps(_summary(endings), indent=2) + "\n")
    else:
        print_sheet(_endings_sheet(endings), Console())


def _simulated(deployment: ModelDeployment, behaviour: Behaviour, runs: int, seed: int) -> list[Ending]:
    """All runs, over the machine's cores, with a bar on stderr; the seed alone says how each one goes."""
    chunks = [range(start, min(start + _CHUNK, runs)) for start in range(0, runs, _CHUNK)]
    found: list[Ending] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{runs} rollouts", total=runs)
        for part in _parts(deployment, behaviour, seed, chunks):
            found.extend(part)
            progress.update(task, advance=len(part))
    return found


def _parts(
    deployment: ModelDeployment, behaviour: Behaviour, seed: int, chunks: Sequence[range]
) -> Iterator[list[Ending]]:
    cores = min(os.cpu_count() or 1, len(chunks))
    if cores == 1:
        yield from (_run(deployment, behaviour, seed, chunk) for chunk in chunks)
        return
    with ProcessPoolExecutor(cores) as pool:
        futures = [pool.submit(_run, deployment, behaviour, seed, chunk) for chunk in chunks]
        yield from (future.result() for future in futures)


def _run(deployment: ModelDeployment, behaviour: Behaviour, seed: int, chunk: range) -> list[Ending]:
    """numpy is imported late: the other verbs do without."""
    import numpy as np

    return [simulate(deployment, behaviour, np.random.default_rng([seed, number])) for number in chunk]


def _summary(endings: Sequence[Ending]) -> dict[str, Any]:
    counts = Counter(ending.outcome for ending in endings)
    fractions = {name: counts[name] / len(endings) for name in get_args(Outcome)}
    times = {name: _times([e.seconds for e in endings if e.outcome == name]) for name in get_args(Outcome)}
    return fractions | {"runs": len(endings), "seconds": times}


def _times(seconds: Sequence[float]) -> dict[str, float] | None:
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds)} if seconds else None


def _endings_sheet(endings: Sequence[Ending]) -> Sheet:
    rows = []
    for name in get_args(Outcome):
        ended = [ending for ending in endings if ending.outcome == name]
        if ended:
            middle = sorted(ended, key=lambda ending: ending.seconds)[len(ended) // 2]
            times = (min(e.seconds for e in ended), median(e.seconds for e in ended), max(e.seconds for e in ended))
            cells = (name, f"{100 * len(ended) / len(endings):.1f}%", *map(_words, times), f"{middle.weight}%")
            rows.append(Row(cells, f"For example: {middle.message}"))
    return Sheet(("OUTCOME", "SHARE", "SOONEST", "MEDIAN", "LATEST", "AT-WEIGHT"), tuple(rows))
