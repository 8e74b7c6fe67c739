"""`plan`: how long each step needs to see a harm, before anybody's traffic is at stake."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import Metric, ModelDeployment
from tidegate_operators.cli.files import File, Name, read_deployment
from tidegate_operators.cli.tables import Row, Sheet, length, print_sheet
from tidegate_operators.cli.traffic import RATES, Json, Rps, both_sides, is_share, parse_rates
from tidegate_operators.rollout.power import Sight, StepPlan, plan_steps
from tidegate_operators.rollout.simulation import Rate

__all__ = ["plan_command"]

_COLUMNS = ("WEIGHT", "PAUSE", "AT-LEAST", "METRIC", "MIN-SAMPLES", "HARM", "SEEN-AFTER", "LEAST-SEEN")
_NOTHING = "-"


def plan_command(
    filename: File,
    rps: Rps,
    baseline: Annotated[list[str] | None, typer.Option("--baseline", help=f"Stable's rates: {RATES}")] = None,
    harm: Annotated[
        list[str] | None,
        typer.Option("--harm", help="The canary's rates to be seen; default: worse by twice the margin and a tenth."),
    ] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Say how long each step takes, how long it needs to see a given harm, and the least harm that it can see.

    One request is taken for one trial of each metric; outcomes are known after labelDelay. Times are about the median
    of rollouts, each step by its own traffic alone. An objective is proven where both sides are alike, by all steps so
    far. A threshold is read once an interval, of the canary alone; HARM is its reading.

    Example: kubectl tidegate plan -f md.yaml --rps 200 --baseline ctr=0.03 --harm ctr=0.02
    """
    deployment = read_deployment(filename, name)
    stable = parse_rates(baseline or [], deployment, "--baseline", of_stable=True)
    rates = _with_harm(deployment, stable, parse_rates(harm or [], deployment, "--harm"))
    steps = plan_steps(deployment, rates, rps)
    if as_json:
        sys.stdout.write(json.dumps([_step_json(deployment, step) for step in steps], indent=2) + "\n")
    else:
        print_sheet(Sheet(_COLUMNS, tuple(row for step in steps for row in _rows(deployment, step))), Console())


def _with_harm(
    deployment: ModelDeployment, stable: Mapping[str, Rate], canary: Mapping[str, Rate]
) -> dict[str, tuple[Rate, Rate]]:
    """Stable's and the harmful canary's rate of every metric; of a threshold, a reading beyond its bounds."""
    usual = both_sides(deployment, stable, {})
    found = {}
    for metric in deployment.spec.analysis.metrics:
        base = usual[metric.name][0]
        worse = canary.get(metric.name) or _worse(metric, base)
        if metric.compares and metric.harmful_way * (worse.mean - base.mean) <= 0:
            raise _no_harm(metric, base, worse, said=metric.name in canary)
        found[metric.name] = (base, worse)
    return found


def _worse(metric: Metric, base: Rate) -> Rate:
    """Worse than the base by twice the margin and a tenth of the rate."""
    if metric.threshold is not None:
        beyond = metric.threshold.max if metric.threshold.max is not None else metric.threshold.min or 0.0
        return Rate(beyond + (1 if metric.threshold.max is not None else -1) * max(abs(beyond), 1.0) / 10)
    mean = base.mean + metric.harmful_way * (2 * (metric.margin or 0.0) + abs(base.mean) / 10)
    return Rate(min(max(mean, 0.0), 1.0) if is_share(metric) else mean, base.deviation)


def _no_harm(metric: Metric, base: Rate, worse: Rate, said: bool) -> TidegateError:
    way = "below" if metric.higher_is_better else "above"
    option, value = ("--harm", worse.mean) if said else ("--baseline", base.mean)
    whose = f"stable's {base.mean:g}" if said else "which there is another"
    told = "another rate by --harm, or another of stable's" if said else "the rate that stable has"
    return TidegateError(
        resource="kubectl tidegate",
        field=f"{option} {metric.name}",
        value=value,
        expected=f"a rate {way} {whose}, for that way lies harm",
        remedy=f"state {told} by --baseline",
    )


def _step_json(deployment: ModelDeployment, step: StepPlan) -> dict[str, Any]:
    metrics = {metric.name: metric for metric in deployment.spec.analysis.metrics}
    facts = {"weight": step.weight, "pauseSeconds": step.pause_seconds, "untilPromoted": step.until_promoted}
    facts |= {"leastSeconds": step.least_seconds, "deadlineSeconds": step.deadline_seconds}
    return facts | {"metrics": [_sight_json(metrics[sight.metric], step, sight) for sight in step.sights]}


def _sight_json(metric: Metric, step: StepPlan, sight: Sight) -> dict[str, Any]:
    return {
        "metric": sight.metric,
        "role": metric.role,
        "harm": sight.harm,
        "tolerated": sight.tolerated,
        "leastHarm": sight.least_harm,
        "minSamplesSeconds": sight.samples_seconds,
        "harmSeconds": sight.harm_seconds,
        "mustBeProven": sight.must_be_proven,
        "provenSeconds": sight.proven_seconds,
        "verdict": _verdict_on(metric, step, sight),
    }


def _rows(deployment: ModelDeployment, step: StepPlan) -> Iterator[Row]:
    pause = [length(step.pause_seconds)] if step.pause_seconds else []
    pause += ["until promoted"] if step.until_promoted else []
    head = (f"{step.weight}%", " + ".join(pause) or _NOTHING, length(step.least_seconds))
    if not step.sights:
        empty = (_NOTHING,) * (len(_COLUMNS) - len(head))
        yield Row((*head, *empty), "Nothing is judged here: the step is left when its pauses have passed.")
    metrics = {metric.name: metric for metric in deployment.spec.analysis.metrics}
    for sight in step.sights:
        yield Row((*head, *_cells(sight)), _verdict_on(metrics[sight.metric], step, sight))


def _cells(sight: Sight) -> Iterable[str]:
    yield sight.metric
    yield _NOTHING if sight.samples_seconds is None else length(sight.samples_seconds)
    yield f"{sight.harm:+.4g}"
    yield "never" if sight.harm_seconds is None else length(sight.harm_seconds)
    yield _NOTHING if sight.least_harm is None else f"{sight.least_harm:+.3g}"


def _verdict_on(metric: Metric, step: StepPlan, sight: Sight) -> str:
    if metric.threshold is not None:
        return _on_threshold(metric, step, sight)
    if (sight.samples_seconds or 0.0) > step.deadline_seconds and not step.until_promoted:
        return f"minSamples come after the deadline of this step, {length(step.deadline_seconds)}: it would time out."
    return _on_objective(step, sight) if metric.role == "objective" else _on_guard(step, sight)


def _on_guard(step: StepPlan, sight: Sight) -> str:
    if sight.tolerated:
        return "The margin tolerates this."
    if sight.harm_seconds is None:
        return "It would take more than a year to see this here."
    if sight.harm_seconds <= step.least_seconds:
        return "Seen at this step: rolled back."
    if sight.least_harm is None:
        return "No harm at all can be seen in so short a step: a longer pause or a greater weight would show it here."
    return "Seen later, if at all: a longer pause or a greater weight would show it here."


def _on_objective(step: StepPlan, sight: Sight) -> str:
    """What becomes of an objective: proof where it is asked for, and never a rollback."""
    if not sight.must_be_proven:
        return "An objective: it need not be proven yet, and harm that is seen does not roll back."
    if sight.proven_seconds is None:
        return "Where both sides are alike it would take more than a year to prove: it would time out."
    when = length(sight.proven_seconds)
    if sight.proven_seconds > step.deadline_seconds:
        return f"Proven after {when} where both sides are alike, past the deadline {length(step.deadline_seconds)}."
    return f"Proven after {when} where both sides are alike; else it times out after {length(step.deadline_seconds)}."


def _on_threshold(metric: Metric, step: StepPlan, sight: Sight) -> str:
    if sight.harm_seconds is None:
        return f"A reading of {sight.harm:g} is within the bounds."
    failures = (metric.threshold.failure_limit if metric.threshold else 0) + 1
    if sight.harm_seconds > step.least_seconds:
        return f"Not seen here: {failures} readings, one an interval, must fail, and the step may be left before."
    return f"Rolled back after {failures} failed readings, one an interval, of {sight.harm:g} for example."
