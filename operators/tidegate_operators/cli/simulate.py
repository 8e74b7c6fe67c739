"""`simulate`: how rollouts would end, by the operator's own decisions on drawn traffic."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import Progress

from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.cli.files import File, Name, read_deployment
from tidegate_operators.cli.tables import Row, Sheet, length, print_sheet
from tidegate_operators.cli.traffic import RATES, Json, Rps, both_sides, parse_length, parse_rates
from tidegate_operators.rollout.simulation import Behaviour, Ending, Outcome, simulate
from tidegate_operators.rollout.steps import stages, time_allowed

__all__ = ["simulate_command"]

_CHUNK = 10
_MOST_LOOKS = 2000


def simulate_command(  # noqa: PLR0913, PLR0917 - the options are the command's public form
    filename: File,
    rps: Rps,
    stable: Annotated[list[str] | None, typer.Option("--stable", help=f"Stable's rates: {RATES}")] = None,
    canary: Annotated[
        list[str] | None, typer.Option("--canary", help="The canary's; a metric not named is equal on both sides.")
    ] = None,
    swing: Annotated[
        float, typer.Option("--swing", min=0.01, max=100, help="All rates go to so many times theirs and back, daily.")
    ] = 1.0,
    promote_after: Annotated[
        str | None,
        typer.Option("--promote-after", help="A person promotes what waits for it after, e.g. 1h; default: never."),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option("--horizon", help="What still goes on after so long is held; default: what the strategy allows."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, max=1_000_000, help="Rollouts to simulate.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same rollouts.")] = 0,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Run the operator's own decisions on simulated traffic, and print how rollouts end.

    One request is one trial of each metric, counted labelDelay later. An unnamed threshold reads its bound. A rollout
    that waits for a person is held after an hour, unless one comes; spec.paused is taken for false. Rollouts that may
    go on for more than 2,000 intervals are looked at less often.

    Example: kubectl tidegate simulate -f md.yaml --stable ctr=0.03 --canary ctr=0.027 --rps 200 --runs 2000 --json
    """
    deployment = read_deployment(filename, name)
    sides = (
        parse_rates(stable or [], deployment, "--stable", of_stable=True),
        parse_rates(canary or [], deployment, "--canary"),
    )
    person = parse_length(promote_after, "--promote-after") if promote_after else None
    longest = parse_length(horizon, "--horizon") if horizon else None
    study = study_of(deployment, longest, person)
    behaviour = Behaviour(both_sides(deployment, *sides), rps, study.longest, swing=swing, person=person)
    for note in study.notes:
        typer.echo(note, err=True)
    endings = _simulated(study.deployment, behaviour, runs, seed)
    late = _late(endings, study)
    if late:
        typer.echo(
            f"{late} of {runs} were still under way after {length(study.longest.total_seconds())}: see --horizon.",
            err=True,
        )
    if as_json:
        sys.stdout.write(json.dumps(_summary(endings, late), indent=2) + "\n")
    else:
        print_sheet(_endings_sheet(endings), Console())


@dataclass(frozen=True)
class Study:
    """What is simulated, for how long at the most, and what a reader must know of it."""

    deployment: ModelDeployment
    longest: timedelta
    notes: tuple[str, ...]


def study_of(deployment: ModelDeployment, longest: timedelta | None, person: timedelta | None) -> Study:
    """The deployment, looked at so often that a rollout has some 2,000 looks at the most."""
    plan, notes = stages(deployment, at_once=False), []
    allowed = sum((stage.limit or time_allowed(deployment, stage) for stage in plan), timedelta(0))
    waits = (person or timedelta(0)) * sum(stage.until_promoted for stage in plan)
    longest = longest or max(timedelta(days=1), allowed + waits + timedelta(hours=1))
    if deployment.spec.paused:
        notes.append("spec.paused is true: the operator would hold; this is how it would go on without.")
    stays = sum((stage.limit or stage.pause + stage.keep for stage in plan), timedelta(0))
    every = deployment.spec.analysis.interval
    stride = math.ceil(min(stays, longest) / every / _MOST_LOOKS)
    if stride > 1:
        analysis = deployment.spec.analysis.model_copy(update={"interval": every * stride})
        deployment = deployment.model_copy(update={"spec": deployment.spec.model_copy(update={"analysis": analysis})})
        seldom, often = length((every * stride).total_seconds()), length(every.total_seconds())
        notes.append(f"Simulated with a look every {seldom} instead of {often}, for it may last long.")
    return Study(deployment, longest, tuple(notes))


def _late(endings: Sequence[Ending], study: Study) -> int:
    """How many were not waiting for a person, but still under way at the horizon."""
    longest = study.longest.total_seconds()
    return sum(ending.outcome == "held" and ending.seconds >= longest for ending in endings)


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


def _summary(endings: Sequence[Ending], late: int) -> dict[str, Any]:
    """Fractions, `heldAtHorizon` being a part of `held`; seconds, weights and an example of each outcome."""
    by = _by_outcome(endings)
    fractions = {name: len(ended) / len(endings) for name, ended in by.items()}
    return fractions | {
        "heldAtHorizon": late / len(endings),
        "runs": len(endings),
        "seconds": {name: _spread([e.seconds for e in ended]) for name, ended in by.items()},
        "weights": {name: _spread([float(e.weight) for e in ended]) for name, ended in by.items()},
        "example": {name: _typical(ended).message if ended else None for name, ended in by.items()},
    }


def _by_outcome(endings: Sequence[Ending]) -> dict[Outcome, list[Ending]]:
    return {name: [ending for ending in endings if ending.outcome == name] for name in get_args(Outcome)}


def _typical(ended: Sequence[Ending]) -> Ending:
    """The one that took as long as half of them."""
    return sorted(ended, key=lambda ending: ending.seconds)[len(ended) // 2]


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": median(values), "min": min(values), "max": max(values)} if values else None


def _endings_sheet(endings: Sequence[Ending]) -> Sheet:
    rows = []
    for name, ended in _by_outcome(endings).items():
        times = _spread([ending.seconds for ending in ended])
        if times is not None:
            typical = _typical(ended)
            spread = (length(times[each]) for each in ("min", "median", "max"))
            cells = (name, f"{100 * len(ended) / len(endings):.1f}%", *spread, f"{typical.weight}%")
            rows.append(Row(cells, f"For example: {typical.message}"))
    return Sheet(("OUTCOME", "SHARE", "SOONEST", "MEDIAN", "LATEST", "AT-WEIGHT"), tuple(rows))
