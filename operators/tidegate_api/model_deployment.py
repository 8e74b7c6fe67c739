"""ModelDeployment: a model behind a judged, reversible rollout.

Words are those of Argo Rollouts, Gateway API and KServe wherever they have one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tidegate_api.durations import Duration, PositiveDuration
from tidegate_api.model_package import DIGEST_PATTERN
from tidegate_api.resource import Condition, Resource, Time, Value, rule

__all__ = [
    "AbTest",
    "Analysis",
    "Batching",
    "BlueGreen",
    "Canary",
    "CanaryStatus",
    "Evidence",
    "HistoryEntry",
    "KeyPlace",
    "KeyRef",
    "Metric",
    "ModelDeployment",
    "ModelDeploymentSpec",
    "ModelDeploymentStatus",
    "ModelSource",
    "Outcome",
    "Pause",
    "PublicKeyFrom",
    "RegistrySource",
    "ResolvedModel",
    "Retiring",
    "RevisionImages",
    "RevisionStatus",
    "Routing",
    "Runtime",
    "Scaling",
    "ScalingTarget",
    "Shadow",
    "Step",
    "StepSamples",
    "Strategy",
    "Tally",
    "Verdict",
    "Verification",
]

Name = Annotated[str, Field(min_length=1, max_length=253)]
Hostname = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
MetricName = Annotated[str, Field(pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Selector = Annotated[str, Field(min_length=1, max_length=1024)]
Quantity = Annotated[str, Field(pattern="^[0-9]+(\\.[0-9]+)?(m|[kMGTPE]i?)?$", max_length=20)]
_DIGEST_RULE = rule(
    f"self.matches('{DIGEST_PATTERN}')",
    "digest must be sha256: and 64 hex digits in lower case, as packaging printed it",
)
Percent = Annotated[int, Field(ge=0, le=100)]


class RegistrySource(Value):
    """A model in MLflow's registry, followed by alias."""

    rules: ClassVar = [
        rule(
            "!has(self.promotedAlias) || self.promotedAlias != self.alias",
            "promotedAlias must differ from alias: the one is moved by the operator, the other by whoever trains",
        )
    ]

    name: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """The registered model."""
    alias: Annotated[MetricName, Field(description="Polled; where it points is rolled out.")]
    promoted_alias: Annotated[
        MetricName | None, Field(description="Moved by the operator, and only by it, after promotion.")
    ] = None

    @model_validator(mode="after")
    def _aliases_differ(self) -> RegistrySource:
        if self.promoted_alias == self.alias:
            raise ValueError("a promotedAlias that differs from alias")
        return self


class PackageSource(Value):
    """A model package pinned by digest."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)]
    """A folder: http(s)://, mlflow-artifacts:/PATH, pvc://CLAIM/PATH or file://PATH."""
    digest: Annotated[
        str,
        Field(
            pattern=DIGEST_PATTERN,
            max_length=71,
            json_schema_extra={"x-kubernetes-validations": [_DIGEST_RULE]},
        ),
    ]
    """sha256: and the SHA-256 of its SHA256SUMS file."""
    name: Annotated[
        str | None, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, description="The model's name.")
    ] = None


class KeyRef(Value):
    """One key of a Secret or ConfigMap in the deployment's namespace."""

    name: Name
    """Name of the Secret or ConfigMap."""
    key: Name
    """The key within it."""


class KeyPlace(Value):
    """The same as one value: which object of the deployment's namespace holds the key, and under what name."""

    kind: Literal["Secret", "ConfigMap"]
    name: str
    key: str


class PublicKeyFrom(Value):
    """Where a public key lies: it is no secret, so a ConfigMap will do."""

    rules: ClassVar = [
        rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "exactly one of secretKeyRef and configMapKeyRef must be set",
        )
    ]

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None

    @model_validator(mode="after")
    def _one_place(self) -> PublicKeyFrom:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError("exactly one of secretKeyRef and configMapKeyRef")
        return self

    @property
    def place(self) -> KeyPlace:
        """Where to look."""
        found = [("Secret", self.secret_key_ref), ("ConfigMap", self.config_map_key_ref)]
        return next(KeyPlace(kind=kind, name=ref.name, key=ref.key) for kind, ref in found if ref)


class Verification(Value):
    """What a package must show before it is served, beside its digest."""

    public_key_from: PublicKeyFrom
    """PEM of one or more public Ed25519 keys; the package must be signed by one of them."""


class ModelSource(Value):
    """Where the model comes from: the registry, or a pinned package."""

    rules: ClassVar = [
        rule("has(self.registry) != has(self.package)", "exactly one of registry and package must be set")
    ]

    registry: RegistrySource | None = None
    package: PackageSource | None = None
    verify: Annotated[
        Verification | None, Field(description="Demand a signature; revisions that start from now on are held to it.")
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSource:
        if (self.registry is None) == (self.package is None):
            raise ValueError("exactly one of registry and package")
        return self


class Batching(Value):
    """Triton's dynamic batching."""

    max_batch_size: Annotated[int, Field(ge=1, le=65536)]
    """Most rows that run together."""
    max_queue_delay: Duration | None = None
    """How long a request may wait for others."""


class ResourceRequirements(Value):
    """Requests and limits of the server's container."""

    requests: dict[str, Quantity] = {}
    """What the scheduler sets aside."""
    limits: dict[str, Quantity] = {}
    """What the container may not exceed."""


class Runtime(Value):
    """The server that a revision runs in. It is part of the revision: a change of it is rolled out too."""

    gpus: Annotated[int, Field(ge=0, le=64)]
    """GPUs a pod; 0 for the CPU server."""
    backend: Literal["onnxruntime", "tensorrt"]
    """Triton's backend."""
    image: Annotated[
        str | None, Field(max_length=1024, description="Default: the operator's image for CPU or GPU.")
    ] = None
    instances: Annotated[int | None, Field(ge=1, le=64)] = None
    """Copies of the model in one server."""
    batching: Batching | None = None
    response_cache: Annotated[Quantity | None, Field(description="Size of Triton's response cache.")] = None
    resources: ResourceRequirements | None = None


class ScalingTarget(Value):
    """One thing that the HPA holds near a value."""

    rules: ClassVar = [
        rule(
            "[has(self.queueTime), has(self.cpuUtilization), has(self.requestsPerSecond)].filter(x, x).size() == 1",
            "exactly one of queueTime, cpuUtilization and requestsPerSecond must be set",
        )
    ]

    queue_time: Annotated[
        PositiveDuration | None, Field(description="Mean time a request waits in Triton's queue.")
    ] = None
    cpu_utilization: Annotated[int | None, Field(ge=1, le=100, description="Percent of the CPU requested.")] = None
    requests_per_second: Annotated[int | None, Field(ge=1, description="Inferences a second and pod.")] = None


class Scaling(Value):
    """Bounds and targets of the HPA of a revision."""

    rules: ClassVar = [rule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas")]

    min_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Fewest pods of stable."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Most pods of a revision."""
    targets: Annotated[list[ScalingTarget], Field(min_length=1, max_length=4)]
    """What the HPA holds near a value; the greatest need wins."""


class GatewayRef(Value):
    """The Gateway that the routes attach to."""

    name: Name
    """Name of the Gateway."""
    namespace: Name | None = None
    """Its namespace; default: that of the ModelDeployment."""


class Routing(Value):
    """How clients reach the model."""

    rules: ClassVar = [
        rule(
            "!('GRPC' in self.protocols) || (has(self.grpcHostnames) && size(self.grpcHostnames) > 0)",
            "protocol GRPC needs grpcHostnames: an HTTPRoute and a GRPCRoute cannot share a hostname on a listener",
        ),
        rule(
            "!['GRPC', 'HTTP'].all(p, p in self.protocols) || (has(self.hostnames) && size(self.hostnames) > 0)",
            "protocols HTTP and GRPC together need hostnames: a route without hostnames meets every host",
        ),
        rule(
            "!has(self.hostnames) || !has(self.grpcHostnames) || !self.hostnames.exists(h, h in self.grpcHostnames)",
            "hostnames and grpcHostnames must not share a name",
        ),
    ]

    gateway_ref: GatewayRef
    protocols: Annotated[
        list[Literal["HTTP", "GRPC"]],
        Field(min_length=1, max_length=2, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ["HTTP"]
    """HTTP, GRPC or both; their weights change together."""
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts of the HTTPRoute."""
    grpc_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts of the GRPCRoute."""


class Pause(Value):
    """A wait: of a stated time, or until a person promotes."""

    duration: Duration | None = None
    """How long; without it, until a person promotes."""


class Step(Value):
    """Give the canary a weight, or pause."""

    rules: ClassVar = [rule("has(self.setWeight) != has(self.pause)", "a step has exactly one of setWeight and pause")]

    set_weight: Annotated[Percent | None, Field(description="Percent of the traffic.")] = None
    pause: Pause | None = None


class Canary(Value):
    """Traffic moves to the new revision step by step."""

    rules: ClassVar = [
        rule(
            "self.steps.filter(s, has(s.setWeight)).map(s, s.setWeight).isSorted()",
            "the weights of canary steps must not fall from one setWeight to the next",
        ),
        rule(
            "self.steps.filter(s, has(s.setWeight)).all(s, "
            "self.steps.exists_one(t, has(t.setWeight) && t.setWeight == s.setWeight))",
            "two canary steps must not set the same weight",
        ),
        rule("self.steps.exists(s, has(s.setWeight) && s.setWeight > 0)", "canary steps need a setWeight above 0"),
    ]

    steps: Annotated[list[Step], Field(min_length=1, max_length=64)] = [
        Step(set_weight=1),
        Step(set_weight=5),
        Step(set_weight=20),
        Step(set_weight=100),
    ]
    """Weights and pauses, in order. After the last the canary becomes stable. Default: weights 1, 5, 20 and 100."""

    @model_validator(mode="after")
    def _weights_rise(self) -> Canary:
        weights = [step.set_weight for step in self.steps if step.set_weight is not None]
        if any(later <= earlier for earlier, later in pairwise(weights)):
            raise ValueError(f"steps whose weights rise from one setWeight to the next (they are {weights})")
        return self


class BlueGreen(Value):
    """Preview, then switch at once. This release refuses it: set canary."""

    preview_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts that reach the new revision first."""
    preview_grpc_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """The same for gRPC."""
    scale_down_delay: Duration | None = None
    """How long the old revision is kept."""


class AbTest(Value):
    """Sticky shares by a bucket header. This release refuses it: set canary."""

    header: Name
    """Header with the bucket of the user, 0 to 99."""
    percent: Percent
    """Share of buckets for the new revision."""
    min_duration: Duration | None = None
    """Shortest run."""
    max_duration: Duration | None = None
    """Longest run."""


class Shadow(Value):
    """A copy of the traffic, answers thrown away. This release refuses it: set canary."""

    percent: Percent
    """Share of requests that are copied."""
    duration: Duration | None = None
    """How long."""


class Strategy(Value):
    """How a new revision takes over."""

    rules: ClassVar = [
        rule(
            "[has(self.canary), has(self.blueGreen), has(self.abTest), has(self.shadow)].filter(x, x).size() == 1",
            "exactly one strategy of canary, blueGreen, abTest and shadow must be set",
        ),
        rule("has(self.canary)", "this release of Tidegate rolls out by strategy canary only: set canary"),
    ]

    canary: Canary | None = None
    blue_green: BlueGreen | None = None
    ab_test: AbTest | None = None
    shadow: Shadow | None = None


class ErrorRate(Value):
    """Built in: the share of requests that fail, by the gateway's own count."""


class SlowRequests(Value):
    """Built in: the share of requests slower than an edge of the gateway's histogram."""

    above: PositiveDuration
    """An edge of the gateway's histogram: 0.5, 1, 5, 10, 25, 50, 100, 250, 500 ms, 1 s, ... for Envoy."""


class Ratio(Value):
    """The share of trials with an event. Both are bare counter selectors; `$track` stands for the side's labels."""

    events: Selector
    """Counter of what happened, e.g. tidegate_clicks_total{$track}."""
    trials: Selector
    """Counter of what could have, e.g. tidegate_impressions_total{$track}."""


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
            "[has(self.errorRate), has(self.slowRequests), has(self.ratio), has(self.threshold)]"
            ".filter(x, x).size() == 1",
            "a metric has exactly one of errorRate, slowRequests, ratio and threshold",
        ),
        rule("!has(self.ratio) || has(self.higherIsBetter)", "a ratio must state higherIsBetter"),
        rule("has(self.threshold) || has(self.margin)", "a metric that compares canary with stable needs a margin"),
        rule("!has(self.threshold) || self.role == 'guard'", "a threshold can only be a guard"),
    ]

    name: MetricName
    """How sentences name it."""
    role: Literal["guard", "objective"]
    """A guard rolls back on harm; an objective must be proven before promotion."""
    margin: Annotated[float | None, Field(ge=0, le=1)] = None
    """Difference that is tolerated, absolute, in the metric's unit."""
    higher_is_better: bool | None = None
    """Which way is harm."""
    error_rate: ErrorRate | None = None
    slow_requests: SlowRequests | None = None
    ratio: Ratio | None = None
    threshold: Threshold | None = None


class Analysis(Value):
    """What a rollout is judged by."""

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


class ModelDeploymentSpec(Value):
    """Which model, on what, behind which route, and how it is judged."""

    rules: ClassVar = [
        rule(
            "self.runtime.backend != 'tensorrt' || self.runtime.gpus > 0",
            "backend tensorrt needs a GPU: set runtime.gpus to 1 or more, or backend to onnxruntime",
        )
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
    """How many ended rollouts the status keeps."""

    @model_validator(mode="after")
    def _tensorrt_has_a_gpu(self) -> ModelDeploymentSpec:
        if self.runtime.backend == "tensorrt" and not self.runtime.gpus:
            raise ValueError("runtime.gpus of 1 or more with backend tensorrt")
        return self


class ResolvedModel(Value):
    """What the source named when it was last read. A version is resolved to a digest once."""

    digest: str
    uri: str
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

    @property
    def title(self) -> str:
        """How sentences name it: by the registry's version where there is one."""
        return f"version {self.version} (revision {self.hash})" if self.version else f"revision {self.hash}"

    @property
    def label(self) -> str:
        """How columns name it: the registry's version, or the hash where there is none."""
        return self.version or self.hash


class Tally(Value):
    """Counts of one side."""

    events: float = 0.0
    trials: float = 0.0

    @property
    def rate(self) -> float | None:
        """Events per trial; none without trials."""
        return self.events / self.trials if self.trials else None

    def plus(self, other: Tally) -> Tally:
        """Both counts together."""
        return Tally(events=self.events + other.events, trials=self.trials + other.trials)


class StepSamples(Value):
    """Trials that each side has had at the present weight."""

    stable: float = 0.0
    canary: float = 0.0


class Evidence(Value):
    """What one metric has shown so far in this rollout: running totals, never more than one interval behind."""

    metric: str
    stable: Tally = Tally()
    canary: Tally = Tally()
    step_samples: StepSamples = StepSamples()
    log_harm: Annotated[float, Field(description="Log of the e-process against `harm is within the margin`.")] = 0.0
    max_log_harm: Annotated[float, Field(description="Its running maximum, which Ville's inequality bounds.")] = 0.0
    log_good: Annotated[float, Field(description="Log of the e-process against `harm is the margin or more`.")] = 0.0
    max_log_good: Annotated[float, Field(description="Its running maximum.")] = 0.0
    value: Annotated[float | None, Field(description="Last reading of a threshold metric.")] = None
    failures: Annotated[int, Field(description="Failed readings of a threshold metric.")] = 0
    message: Annotated[str, Field(description="What this metric shows, in one sentence.")] = ""


class CanaryStatus(Value):
    """The rollout under way."""

    revision: RevisionStatus
    step: Annotated[int, Field(description="Index of the step: a setWeight with the pauses after it.")] = 0
    started_at: Time
    step_started_at: Annotated[Time, Field(description="The deadline counts from here; paused time shifts it.")]
    weight_since: Annotated[Time | None, Field(description="Since when the routes give this step's weight.")] = None
    paused_at: Time | None = None
    judged_until: Annotated[Time | None, Field(description="End of the last interval that was judged.")] = None
    evidence: list[Evidence] = []


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
    verdict: Verdict | None = None
    history: list[HistoryEntry] = []
    conditions: list[Condition] = []

    @property
    def live(self) -> tuple[RevisionStatus, ...]:
        """The revisions that answer requests, or may soon: stable and canary."""
        canary = self.canary.revision if self.canary else None
        return tuple(revision for revision in (self.stable, canary) if revision is not None)


class ModelDeployment(Resource):
    """A model behind a judged, reversible rollout."""

    rules: ClassVar = [
        rule(
            "self.metadata.name.size() <= 54",
            "metadata.name must have at most 54 characters: a revision's hash is added to it",
        )
    ]

    kind: Literal["ModelDeployment"] = "ModelDeployment"
    spec: ModelDeploymentSpec
    status: Annotated[ModelDeploymentStatus, Field(default_factory=ModelDeploymentStatus)]

    @property
    def model_name(self) -> str:
        """The name that Triton serves the model under, the same for each revision."""
        if self.spec.model.registry:
            return self.spec.model.registry.name
        package = self.spec.model.package
        return (package.name if package else None) or self.metadata.name
