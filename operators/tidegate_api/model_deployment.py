"""ModelDeployment: a model behind a judged, reversible rollout.

Words are those of Argo Rollouts, Gateway API and KServe wherever they have one. Its parts have a module each.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tidegate_api.analysis import Analysis, ErrorRate, External, Mean, Metric, Ratio, SlowRequests, Threshold
from tidegate_api.durations import PositiveDuration
from tidegate_api.model_source import (
    KeyPlace,
    KeyRef,
    ModelSource,
    PackageSource,
    PublicKeyFrom,
    RegistrySource,
    Verification,
)
from tidegate_api.resource import Resource, Value
from tidegate_api.rollout_status import (
    CanaryStatus,
    Evidence,
    HistoryEntry,
    ModelDeploymentStatus,
    Outcome,
    ResolvedModel,
    Retiring,
    RevisionImages,
    RevisionStatus,
    StepSamples,
    Tally,
    Verdict,
)
from tidegate_api.rules import rule
from tidegate_api.serving import (
    AlsoServed,
    Batching,
    GatewayRef,
    ResourceRequirements,
    Routing,
    Runtime,
    Scaling,
    ScalingTarget,
)
from tidegate_api.strategy import AbTest, BlueGreen, Canary, Pause, Shadow, Step, StepAnalysis, Strategy

__all__ = [
    "AbTest",
    "AlsoServed",
    "Analysis",
    "Batching",
    "BlueGreen",
    "Canary",
    "CanaryStatus",
    "ErrorRate",
    "Evidence",
    "External",
    "GatewayRef",
    "HistoryEntry",
    "KeyPlace",
    "KeyRef",
    "Mean",
    "Metric",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "ModelDeploymentStatus",
    "ModelSource",
    "Outcome",
    "PackageSource",
    "Pause",
    "PublicKeyFrom",
    "Ratio",
    "RegistrySource",
    "ResolvedModel",
    "ResourceRequirements",
    "Retiring",
    "RevisionImages",
    "RevisionStatus",
    "Routing",
    "Runtime",
    "Scaling",
    "ScalingTarget",
    "Shadow",
    "SlowRequests",
    "Step",
    "StepAnalysis",
    "StepSamples",
    "Strategy",
    "Tally",
    "Threshold",
    "Verdict",
    "Verification",
]


_SERVICE_NAME = re.compile("^[a-z]([-a-z0-9]*[a-z0-9])?$")


class ModelDeploymentSpec(Value):
    """Which model, on what, behind which route, and how it is judged."""

    rules: ClassVar = [
        rule(
            "self.runtime.backend != 'tensorrt' || self.runtime.gpus > 0",
            "backend tensorrt needs a GPU: set runtime.gpus to 1 or more, or backend to onnxruntime",
        ),
        rule(
            "self.runtime.gpus > 0 || !self.scaling.targets.exists(t, has(t.gpuUtilization))",
            "target gpuUtilization needs a GPU: set runtime.gpus to 1 or more, or scale by another target",
        ),
        rule(
            "!has(self.strategy.blueGreen) || !has(self.analysis.metrics) || "
            "self.analysis.metrics.all(m, has(m.threshold) || has(m.external))",
            "blueGreen never has two sides under live traffic, so it is judged by threshold and external metrics only: "
            "use these, or strategy canary or abTest",
        ),
        rule(
            "!has(self.runtime.alsoServe) || !has(self.strategy.abTest)",
            "abTest routes one model by header: leave runtime.alsoServe out, or use strategy canary or blueGreen",
        ),
        rule(
            "!has(self.strategy.canary) || self.strategy.canary.steps.all(s, "
            "!has(s.analysis) || !has(s.analysis.objectives) || s.analysis.objectives.all(o, "
            "has(self.analysis.metrics) && self.analysis.metrics.exists(m, m.name == o && m.role == 'objective')))",
            "objectives of an analysis step must be metrics of spec.analysis with role objective",
        ),
        rule(
            "!has(self.strategy.blueGreen) || !has(self.strategy.blueGreen.previewHostnames) || "
            "self.strategy.blueGreen.previewHostnames.all(h, !(h in self.routing.hostnames))",
            "previewHostnames must not be among routing.hostnames: those reach the revision that serves",
        ),
        rule(
            "!has(self.strategy.abTest) || has(self.strategy.abTest.minDuration) || "
            "has(self.strategy.abTest.maxDuration) || "
            "has(self.analysis.metrics) && self.analysis.metrics.exists(m, m.role == 'objective')",
            "abTest needs minDuration, maxDuration or an objective: else the test is over as soon as it begins",
        ),
    ]

    model: ModelSource
    runtime: Runtime
    scaling: Scaling
    routing: Routing
    strategy: Strategy
    analysis: Analysis = Analysis()
    progress_deadline: PositiveDuration = Field(default="30m", validate_default=True)
    """Counts from the last change of step, without pauses; then the canary is drained."""
    paused: bool = False
    """Keeps a rollout where it is; guards still roll back."""
    revision_history_limit: Annotated[int, Field(ge=0, le=100)] = 5
    """How many promotions the status keeps, to go back to, and how many rollouts that ended otherwise."""

    @model_validator(mode="after")
    def _what_needs_a_gpu_has_one(self) -> ModelDeploymentSpec:
        if self.runtime.backend == "tensorrt" and not self.runtime.gpus:
            raise ValueError("runtime.gpus of 1 or more with backend tensorrt")
        if not self.runtime.gpus and any(target.gpu_utilization for target in self.scaling.targets):
            raise ValueError("runtime.gpus of 1 or more with the scaling target gpuUtilization")
        return self

    @model_validator(mode="after")
    def _a_test_has_one_model(self) -> ModelDeploymentSpec:
        if self.strategy.ab_test and self.runtime.also_serve:
            raise ValueError("no runtime.alsoServe with strategy abTest")
        return self

    @model_validator(mode="after")
    def _steps_name_objectives(self) -> ModelDeploymentSpec:
        objectives = {metric.name for metric in self.analysis.metrics if metric.role == "objective"}
        steps = self.strategy.canary.steps if self.strategy.canary else []
        unknown = {name for step in steps if step.analysis for name in step.analysis.objectives} - objectives
        if unknown:
            raise ValueError(
                f"objectives of spec.analysis.metrics in analysis steps (not {', '.join(sorted(unknown))})"
            )
        return self

    @model_validator(mode="after")
    def _blue_green_compares_nothing(self) -> ModelDeploymentSpec:
        if self.strategy.blue_green and any(m.threshold is None and m.external is None for m in self.analysis.metrics):
            raise ValueError("threshold and external metrics only with strategy blueGreen")
        return self


class ModelDeployment(Resource):
    """A model behind a judged, reversible rollout."""

    rules: ClassVar = [
        rule(
            f"self.metadata.name.matches('{_SERVICE_NAME.pattern}')",
            "metadata.name must be lower case letters, digits and dashes, and begin with a letter: so must a Service's",
            "self.metadata.name",
        ),
        rule(
            "self.metadata.name.size() <= 54",
            "metadata.name must have at most 54 characters: a revision's hash is added to it",
        ),
        rule(
            "!self.metadata.name.matches('-(grpc|preview|versioned|moving|unjudged)$')",
            "metadata.name must not end in -grpc, -preview, -versioned, -moving or -unjudged: "
            "routes and Services are called so",
        ),
        rule(
            "!has(self.spec.runtime.alsoServe) || self.spec.runtime.alsoServe.all(m, m.name != ("
            "has(self.spec.model.registry) ? self.spec.model.registry.name : "
            "has(self.spec.model.package.name) ? self.spec.model.package.name : self.metadata.name))",
            "runtime.alsoServe must not name the model of spec.model: that one is served already",
        ),
    ]

    kind: Literal["ModelDeployment"] = "ModelDeployment"
    spec: ModelDeploymentSpec
    status: Annotated[ModelDeploymentStatus, Field(default_factory=ModelDeploymentStatus)]

    @model_validator(mode="after")
    def _serves_its_own_model_once(self) -> ModelDeployment:
        if any(model.name == self.model_name for model in self.spec.runtime.further):
            raise ValueError("other names in spec.runtime.alsoServe than the model's own")
        return self

    @model_validator(mode="after")
    def _names_services(self) -> ModelDeployment:
        if not _SERVICE_NAME.match(self.metadata.name):
            raise ValueError("a metadata.name of lower case letters, digits and dashes that begins with a letter")
        return self

    @property
    def model_name(self) -> str:
        """The name that Triton serves the model under which spec.model names."""
        if self.spec.model.registry:
            return self.spec.model.registry.name
        package = self.spec.model.package
        return (package.name if package else None) or self.metadata.name

    def name_of(self, revision: ResolvedModel) -> str:
        """The name that Triton serves a revision under: the one that it was started with."""
        return revision.name or self.model_name
