"""`simulate`: how rollouts would end, by the operator's own decisions on drawn traffic."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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

__all__ = ["simulate_command"]

_CHUNK = 10


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
    horizon: Annotated[str, typer.Option("--horizon", help="What still goes on after so long is held.")] = "24h",
    runs: Annotated[int, typer.Option("--runs", min=1, max=1_000_000, help="Rollouts to simulate.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same rollouts.")] = 0,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Run the operator's own decisions on simulated traffic, and print how rollouts end.

    One request is one trial of each metric. A rollout that waits for a person is held after an hour, unless one comes.

    Example: kubectl tidegate simulate -f md.yaml --stable ctr=0.03 --canary ctr=0.027 --rps 200 --runs 2000 --json
    """
    deployment = read_deployment(filename, name)
    sides = (
        parse_rates(stable or [], deployment, "--stable", of_stable=True),
        parse_rates(canary or [], deployment, "--canary"),
    )
    person = parse_length(promote_after, "--promote-after") if promote_after else None
    longest = parse_length(horizon, "--horizon")
    behaviour = Behaviour(both_sides(deployment, *sides), rps, longest, swing=swing, person=person)
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
            cells = (name, f"{100 * len(ended) / len(endings):.1f}%", *map(length, times), f"{middle.weight}%")
            rows.append(Row(cells, f"For example: {middle.message}"))
    return Sheet(("OUTCOME", "SHARE", "SOONEST", "MEDIAN", "LATEST", "AT-WEIGHT"), tuple(rows))
