"""What the operator writes of a rollout: revisions, evidence, verdicts, history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from tidegate_api.model_source import KeyPlace
from tidegate_api.resource import Condition, Time, Value
from tidegate_api.serving import Runtime

__all__ = [
    "CanaryStatus",
    "Evidence",
    "HistoryEntry",
    "ModelDeploymentStatus",
    "Outcome",
    "ResolvedModel",
    "Retiring",
    "RevisionImages",
    "RevisionStatus",
    "StepSamples",
    "Tally",
    "Verdict",
]


class ResolvedModel(Value):
    """What the source named when it was last read. A version is resolved to a digest once."""

    digest: str
    uri: str
    name: Annotated[
        str | None,
        Field(description="The name that Triton serves it under; of a registered one, the registered model."),
    ] = None
    version: Annotated[str | None, Field(description="The registry's version number.")] = None
    feature_views: Annotated[dict[str, str], Field(description="schemaHash of each view that the model reads.")] = {}


class RevisionImages(Value):
    """What a revision's pods are made of; noted when it starts, so that no upgrade of the operator restarts them."""

    fetch: str
    server: str


class RevisionStatus(ResolvedModel):
    """A model package on a runtime. `hash` names its Deployment, Service and HPA.

    `runtime`, `images` and `public_key` are those it was started with: what changes later belongs to another revision.
    """

    hash: str
    runtime: Runtime | None = None
    images: RevisionImages | None = None
    public_key: Annotated[KeyPlace | None, Field(description="Its package must be signed by the key there.")] = None
    restart: Annotated[str | None, Field(description="The restart that its pods have had, as annotated.")] = None

    @property
    def title(self) -> str:
        """How sentences name it: by the registry's version where there is one."""
        return f"version {self.version} (revision {self.hash})" if self.version else f"revision {self.hash}"

    @property
    def label(self) -> str:
        """How columns name it: the registry's version, or the hash where there is none."""
        return self.version or self.hash


class Tally(Value):
    """Counts of one side. Of a mean, `events` is the sum and `squares` the sum of squares."""

    events: float = 0.0
    trials: float = 0.0
    squares: float | None = None

    @property
    def rate(self) -> float | None:
        """Events, or the number itself, per trial; none without trials."""
        return self.events / self.trials if self.trials else None

    def plus(self, other: Tally) -> Tally:
        """Both counts together."""
        known = [each.squares for each in (self, other) if each.squares is not None]
        return Tally(
            events=self.events + other.events, trials=self.trials + other.trials, squares=sum(known) if known else None
        )


class StepSamples(Value):
    """Trials that each side has had at the present weight; of a threshold, readings of the canary."""

    stable: float = 0.0
    canary: float = 0.0


class Evidence(Value):
    """What one metric has shown so far in this rollout: running totals, never more than one interval behind."""

    metric: str
    definition: Annotated[str | None, Field(description="Hash of the metric: another one starts from nothing.")] = None
    stable: Tally = Tally()
    canary: Tally = Tally()
    step_samples: StepSamples = StepSamples()
    log_harm: Annotated[float, Field(description="Log of the e-process against `harm is within the margin`.")] = 0.0
    max_log_harm: Annotated[float, Field(description="Its running maximum, which Ville's inequality bounds.")] = 0.0
    log_good: Annotated[float, Field(description="Log of the e-process against `harm is the margin or more`.")] = 0.0
    max_log_good: Annotated[float, Field(description="Its running maximum.")] = 0.0
    score: Annotated[float, Field(description="Sum over intervals of difference times information.")] = 0.0
    information: Annotated[float, Field(description="Sum over intervals of 1 / variance of the difference.")] = 0.0
    prior: Annotated[
        float | None, Field(description="Greatest scale of differences looked for; set once, before the test starts.")
    ] = None
    difference: Annotated[float | None, Field(description="Canary less stable, compared within intervals.")] = None
    low: Annotated[float | None, Field(description="Lower end of the confidence sequence of the difference.")] = None
    high: Annotated[float | None, Field(description="Upper end.")] = None
    error_level: Annotated[float | None, Field(description="Share of analysis.errorLevel that this metric has.")] = None
    error_spent: Annotated[
        float | None, Field(description="Anytime-valid p-value of harm beyond the margin: at errorLevel it rolls back.")
    ] = None
    value: Annotated[float | None, Field(description="Last reading of a threshold metric.")] = None
    failures: Annotated[int, Field(description="Failed readings of a threshold metric.")] = 0
    message: Annotated[str, Field(description="What this metric shows, in one sentence.")] = ""

    @property
    def apparent_difference(self) -> float | None:
        """The difference, compared within intervals; before there is any spread to weigh these by, of the totals."""
        if self.difference is not None or self.canary.rate is None or self.stable.rate is None:
            return self.difference
        return self.canary.rate - self.stable.rate


class CanaryStatus(Value):
    """The rollout under way."""

    revision: RevisionStatus
    undo: Annotated[bool, Field(description="A person went back to this revision: it is not judged again.")] = False
    baseline_replicas: Annotated[
        int | None, Field(description="Pods of stable at the start, where it gives them up one by one.")
    ] = None
    spent: Annotated[
        list[str],
        Field(description="Annotations that name this revision and act no more: acted on, or older than the rollout."),
    ] = []
    plan: Annotated[str | None, Field(description="Hash of the strategy that `step` counts in.")] = None
    step: Annotated[int, Field(description="Index of the step: a setWeight with the pauses after it.")] = 0
    started_at: Time
    step_started_at: Annotated[Time, Field(description="The deadline counts from here; paused time shifts it.")]
    weight_since: Annotated[
        Time | None,
        Field(description="Since when the routes give the step's weight; time without it moves this on."),
    ] = None
    lost_at: Annotated[
        Time | None, Field(description="Since when that weight is taken away, for want of ready pods.")
    ] = None
    paused_at: Time | None = None
    judged_until: Annotated[Time | None, Field(description="End of the last interval that was judged.")] = None
    evidence: list[Evidence] = []

    @property
    def effective_since(self) -> datetime | None:
        """From when the waits of the step count; none while its weight is not in force."""
        return self.weight_since if self.lost_at is None else None


class Retiring(Value):
    """A revision that has no traffic any more and stays for a while, until no gateway can still send it any."""

    revision: RevisionStatus
    since: Time


Outcome = Literal["promoted", "rolledBack", "superseded", "aborted", "timedOut"]


class Verdict(Value):
    """How the last rollout ended, and why."""

    revision: RevisionStatus
    outcome: Outcome
    reason: str
    message: str
    at: Time
    evidence: list[Evidence] = []


class HistoryEntry(Value):
    """One rollout that ended."""

    revision: RevisionStatus
    outcome: Outcome
    reason: str
    message: str
    started_at: Time
    ended_at: Time
    recorded: Annotated[bool, Field(description="Whether the registry has been told.")] = False


class ModelDeploymentStatus(Value):
    """What the operator saw and decided. Everything else is derived from it and from the cluster."""

    model_config = {"extra": "ignore"}

    observed_generation: int | None = None
    phase: Annotated[
        str | None, Field(description="Pending, Progressing, Paused, Healthy, RolledBack or Degraded.")
    ] = None
    message: Annotated[str | None, Field(description="What goes on, in one sentence.")] = None
    source: ResolvedModel | None = None
    stable: RevisionStatus | None = None
    canary: CanaryStatus | None = None
    stable_version: Annotated[
        str | None, Field(description="The registry's version that serves; the revision's hash where there is none.")
    ] = None
    canary_version: Annotated[str | None, Field(description="The same of the revision under judgement.")] = None
    weight: Annotated[int, Field(description="Percent of the traffic that the canary has.")] = 0
    retiring: Annotated[
        list[Retiring], Field(description="Revisions that leave once the gateway has let them go.")
    ] = []
    rejected: Annotated[RevisionStatus | None, Field(description="Not tried again while the source names it.")] = None
    undone_to: Annotated[str | None, Field(description="The annotation undo-to that was acted on.")] = None
    retried: Annotated[str | None, Field(description="The annotation retry that was acted on.")] = None
    ignored_annotations: Annotated[
        dict[str, str], Field(description="Annotations of Tidegate whose value names no revision: nothing is done.")
    ] = {}
    verdict: Verdict | None = None
    history: list[HistoryEntry] = []
    conditions: list[Condition] = []

    @property
    def live(self) -> tuple[RevisionStatus, ...]:
        """The revisions that answer requests, or may soon: stable and canary."""
        canary = self.canary.revision if self.canary else None
        return tuple(revision for revision in (self.stable, canary) if revision is not None)
