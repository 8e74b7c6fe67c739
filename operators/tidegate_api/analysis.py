"""What a rollout is judged by."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tidegate_api.durations import Duration, PositiveDuration
from tidegate_api.fields import CounterSelector, MetricName, Selector, TrackedQuery
from tidegate_api.resource import Value
from tidegate_api.rules import rule

__all__ = ["Analysis", "ErrorRate", "External", "Mean", "Metric", "Ratio", "SlowRequests", "Threshold"]


class ErrorRate(Value):
    """Built in: the share of requests that fail, by the gateway's own count."""


class SlowRequests(Value):
    """Built in: the share of requests slower than an edge of the gateway's histogram."""

    above: PositiveDuration
    """An edge of the gateway's histogram: 0.5, 1, 5, 10, 25, 50, 100, 250, 500 ms, 1 s, ... for Envoy."""


class Ratio(Value):
    """The share of trials with an event. Both are bare counter selectors; `$track` stands for the side's labels."""

    events: CounterSelector
    """Counter of what happened, e.g. tidegate_clicks_total{$track}."""
    trials: CounterSelector
    """Counter of what could have, e.g. tidegate_impressions_total{$track}."""
    label_delay: Duration | None = None
    """How long an outcome is waited for: whoever counts, counts a trial with its outcome this much later."""


class Mean(Value):
    """The mean of a number per trial, e.g. revenue per request, from three counters; `$track` as for ratio."""

    sum: CounterSelector
    """Counter of the number itself."""
    sum_of_squares: CounterSelector
    """Counter of its square: the spread is told from it."""
    count: CounterSelector
    """Counter of trials. One must be independent of the next: for slates, count requests."""
    label_delay: Duration | None = None
    """As for ratio."""


class External(Value):
    """An estimate that somebody else makes of each side, e.g. AUC or calibration by the evaluation job.

    It must be cumulative over the rollout, and efficient, as sample means and AUC are: then its readings form a
    Brownian motion in information time (Jennison & Turnbull, 1997), which is what the sequential test stands on.
    """

    value: TrackedQuery
    """PromQL that yields one number; `$track` stands for the labels of a side."""
    standard_error: TrackedQuery
    """The same for its standard error."""
    sample_size: TrackedQuery
    """The same for the number of trials behind it, which minSamples bounds."""


class Threshold(Value):
    """A PromQL scalar of the canary with bounds; it fails after failureLimit failed readings."""

    rules: ClassVar = [
        rule("has(self.min) || has(self.max)", "a threshold needs min or max"),
        rule("!has(self.min) || !has(self.max) || self.min <= self.max", "a threshold's min must not exceed its max"),
    ]

    query: Selector
    """PromQL that yields one number; `$track` stands for the labels of the canary."""
    min: float | None = None
    """Least good value."""
    max: float | None = None
    """Greatest good value."""
    failure_limit: Annotated[int, Field(ge=0, le=1000, description="Failed readings that are tolerated.")] = 0

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Threshold:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"a min that does not exceed max {self.max} (it is {self.min})")
        return self


class Metric(Value):
    """Something the canary is judged by. A margin is absolute, in the metric's unit, and tolerated."""

    rules: ClassVar = [
        rule(
            "[has(self.errorRate), has(self.slowRequests), has(self.ratio), has(self.mean), has(self.external), "
            "has(self.threshold)].filter(x, x).size() == 1",
            "a metric has exactly one of errorRate, slowRequests, ratio, mean, external and threshold",
        ),
        rule(
            "!(has(self.ratio) || has(self.mean) || has(self.external)) || has(self.higherIsBetter)",
            "ratio, mean and external must state higherIsBetter",
        ),
        rule(
            "!(has(self.errorRate) || has(self.slowRequests) || has(self.threshold)) || "
            "!has(self.higherIsBetter) || !self.higherIsBetter",
            "higherIsBetter is for ratio, mean and external: of errors and slow requests fewer are better, "
            "and a threshold has bounds",
        ),
        rule("has(self.threshold) || has(self.margin)", "a metric that compares canary with stable needs a margin"),
        rule("!has(self.threshold) || self.role == 'guard'", "a threshold can only be a guard"),
        rule(
            "!has(self.margin) || has(self.mean) || has(self.external) || self.margin < 1.0",
            "the margin of a share must be below 1: half a percent is 0.005",
        ),
    ]

    name: MetricName
    """How sentences name it."""
    role: Literal["guard", "objective"]
    """A guard rolls back on harm; an objective must be proven before promotion."""
    margin: Annotated[float | None, Field(ge=0, le=1e12)] = None
    """Difference that is tolerated, absolute, in the metric's unit."""
    higher_is_better: bool | None = None
    """Which way is harm."""
    error_rate: ErrorRate | None = None
    slow_requests: SlowRequests | None = None
    ratio: Ratio | None = None
    mean: Mean | None = None
    external: External | None = None
    threshold: Threshold | None = None

    @model_validator(mode="after")
    def _margin_of_a_share(self) -> Metric:
        if (self.margin or 0.0) >= 1 and not (self.mean or self.external):
            raise ValueError(f"a margin below 1 for a share (it is {self.margin:g}; half a percent is 0.005)")
        return self

    @model_validator(mode="after")
    def _better_is_known(self) -> Metric:
        if self.higher_is_better and not (self.ratio or self.mean or self.external):
            raise ValueError(
                "no higherIsBetter here: of errors and slow requests fewer are better, a threshold has bounds"
            )
        return self

    @property
    def compares(self) -> bool:
        """Whether the canary is compared with stable; a threshold looks at the canary alone."""
        return self.threshold is None

    @property
    def harmful_way(self) -> float:
        """1 where a greater value does harm, -1 where a lesser one does."""
        return -1.0 if self.higher_is_better else 1.0

    @property
    def label_delay(self) -> timedelta:
        """How long after a request its outcome is counted."""
        counted = self.ratio or self.mean
        return (counted.label_delay if counted else None) or timedelta(0)


class Analysis(Value):
    """What a rollout is judged by."""

    rules: ClassVar = [
        rule(
            "!has(self.interval) || self.interval.matches('[smhd]$') && !self.interval.matches('[mu]s$')",
            "interval must be whole seconds, e.g. 15s",
            "self.interval",
        )
    ]

    interval: PositiveDuration = Field(default="15s", validate_default=True)
    """Length of the intervals that are compared."""
    error_level: Annotated[
        float, Field(gt=0, lt=1, description="Bounds the chance of any false guard rollback over the whole rollout.")
    ] = 0.05
    min_samples: Annotated[int, Field(ge=1, description="Per side, metric and step.")] = 500
    metrics: Annotated[
        list[Metric],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = []
    """What is judged. Nothing is judged that is not listed."""

    @model_validator(mode="after")
    def _whole_seconds(self) -> Analysis:
        if self.interval % timedelta(seconds=1):
            raise ValueError("an interval of whole seconds, e.g. 15s")
        return self
