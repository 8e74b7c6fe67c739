"""The server of a revision, how it scales, and how clients reach it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tidegate_api.durations import Duration, PositiveDuration
from tidegate_api.fields import HeaderName, Hostname, Image, ModelName, Name, PackageDigest, PackageUri, Quantity
from tidegate_api.quantities import amount
from tidegate_api.resource import Value
from tidegate_api.rules import rule

__all__ = [
    "AlsoServed",
    "Batching",
    "GatewayRef",
    "RateLimit",
    "ResourceRequirements",
    "Routing",
    "Runtime",
    "Scaling",
    "ScalingTarget",
]


class Batching(Value):
    """Triton's dynamic batching."""

    max_batch_size: Annotated[int, Field(ge=1, le=65536)]
    """Most rows that run together."""
    max_queue_delay: Duration | None = None
    """How long a request may wait for others."""


_OWN = ("cpu", "memory", "ephemeral-storage")
_KNOWN_RESOURCE = f"k.contains('/') || k in {list(_OWN)} || k.startsWith('hugepages-')"
_KNOWN = "a resource is cpu, memory, ephemeral-storage, hugepages-SIZE or DOMAIN/NAME: no node has another"
_NO_GPUS = "GPUs are asked for by runtime.gpus, not among resources"
_LIMITED = "a resource of the form DOMAIN/NAME needs a limit, which is its request too"


class ResourceRequirements(Value):
    """Requests and limits of the server's container."""

    rules: ClassVar = [
        rule(
            "self.requests.all(k, !(k in self.limits) || "
            "quantity(self.requests[k]).compareTo(quantity(self.limits[k])) <= 0)",
            "a request must not exceed its limit: no pod would be let in",
        ),
        *(rule(f"self.{field}.all(k, {_KNOWN_RESOURCE})", _KNOWN) for field in ("requests", "limits")),
        *(rule(f"!('nvidia.com/gpu' in self.{field})", _NO_GPUS) for field in ("requests", "limits")),
        rule("self.requests.all(k, !k.contains('/') || k in self.limits)", _LIMITED),
    ]

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = {}
    """What the scheduler sets aside."""
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = {}
    """What the container may not exceed."""

    @model_validator(mode="after")
    def _requests_within_limits(self) -> ResourceRequirements:
        for name, asked in self.requests.items():
            if name in self.limits and amount(asked) > amount(self.limits[name]):
                raise ValueError(f"a request of {name} that does not exceed its limit {self.limits[name]}")
        return self

    @model_validator(mode="after")
    def _nodes_have_them(self) -> ResourceRequirements:
        for name in (*self.requests, *self.limits):
            if "/" not in name and name not in _OWN and not name.startswith("hugepages-"):
                raise ValueError(f"another name than {name}: {_KNOWN}")
            if name == "nvidia.com/gpu":
                raise ValueError(f"no {name}: {_NO_GPUS}")
            if "/" in name and name not in self.limits:
                raise ValueError(f"a limit of {name}: {_LIMITED}")
        return self


class RateLimit(Value):
    """Triton's rate limiter: requests beyond it wait in the queue."""

    max_concurrency: Annotated[int, Field(ge=1, le=64)]
    """Most runs of the model at the same time in one server, over all its instances."""


class AlsoServed(Value):
    """A further model of the same servers, under its own name and with its package's own settings."""

    name: ModelName
    """The name in its package; clients ask /v2/models/NAME."""
    uri: PackageUri
    """A folder, as in spec.model.package."""
    digest: PackageDigest
    """sha256: and the SHA-256 of its SHA256SUMS file."""


class Runtime(Value):
    """The server that a revision runs in. It is part of the revision: a change of it is rolled out too."""

    gpus: Annotated[int, Field(ge=0, le=64)]
    """GPUs a pod; 0 for the CPU server."""
    backend: Literal["onnxruntime", "tensorrt"]
    """Triton's backend."""
    image: Annotated[Image | None, Field(description="Default: the operator's image for CPU or GPU.")] = None
    instances: Annotated[int | None, Field(ge=1, le=64)] = None
    """Copies of the model in one server."""
    batching: Batching | None = None
    rate_limit: RateLimit | None = None
    response_cache: Annotated[Quantity | None, Field(description="Size of Triton's response cache.")] = None
    resources: ResourceRequirements | None = None
    also_serve: Annotated[
        list[AlsoServed] | None,
        Field(
            min_length=1,
            max_length=4,
            description="Further models that every pod loads; judged as one with it.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = None

    @property
    def further(self) -> list[AlsoServed]:
        """The further models; `alsoServe` itself is null where there are none, which keeps a revision's hash."""
        return self.also_serve or []

    @model_validator(mode="after")
    def _each_model_once(self) -> Runtime:
        names = [model.name for model in self.further]
        if len(set(names)) < len(names):
            raise ValueError("each model once in alsoServe")
        return self


class ScalingTarget(Value):
    """One thing that the HPA holds near a value."""

    rules: ClassVar = [
        rule(
            "[has(self.queueTime), has(self.cpuUtilization), has(self.gpuUtilization), has(self.requestsPerSecond)]"
            ".filter(x, x).size() == 1",
            "exactly one of queueTime, cpuUtilization, gpuUtilization and requestsPerSecond must be set",
        )
    ]

    queue_time: Annotated[
        PositiveDuration | None, Field(description="Mean time a request waits in Triton's queue.")
    ] = None
    cpu_utilization: Annotated[int | None, Field(ge=1, le=100, description="Percent of the CPU requested.")] = None
    gpu_utilization: Annotated[
        int | None, Field(ge=1, le=100, description="Percent of the time that the pod's GPUs are busy.")
    ] = None
    requests_per_second: Annotated[int | None, Field(ge=1, description="Inferences a second and pod.")] = None


class Scaling(Value):
    """Bounds and targets of the HPA of a revision."""

    rules: ClassVar = [
        rule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"),
        rule(
            "!self.scaleDownDelay.endsWith('d') && duration(self.scaleDownDelay) <= duration('1h')",
            "scaleDownDelay must not exceed 1h: an HPA remembers no longer",
            "self.scaleDownDelay",
        ),
    ]

    min_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Fewest pods of stable."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Most pods of a revision."""
    targets: Annotated[list[ScalingTarget], Field(min_length=1, max_length=4)]
    """What the HPA holds near a value; the greatest need wins."""
    scale_down_delay: PositiveDuration = Field(default="5m", validate_default=True)
    """How long a need must stay low before pods go, at most 1h; they come at once."""
    nodes_on_demand: bool = False
    """True: nodes are added for pods that wait, so a rollout starts without asking whether GPUs are free."""

    @model_validator(mode="after")
    def _an_hour_at_most(self) -> Scaling:
        if self.scale_down_delay > timedelta(hours=1):
            raise ValueError("scaleDownDelay of at most 1h: an HPA remembers no longer")
        return self


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
        *(
            rule(
                f"!has(self.{field}) || size(self.{field}) == 0 || '{protocol}' in self.protocols",
                f"{field} need protocol {protocol}: without it nothing answers there",
            )
            for field, protocol in (("hostnames", "HTTP"), ("grpcHostnames", "GRPC"))
        ),
    ]

    gateway_ref: GatewayRef
    protocols: Annotated[
        list[Literal["HTTP", "GRPC"]],
        Field(min_length=1, max_length=2, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ["HTTP"]
    """HTTP, GRPC or both; their weights change together."""
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts of the HTTPRoute. None: every host of the Gateway's listeners, also those of others."""
    grpc_hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hosts of the GRPCRoute."""
    revision_header: HeaderName | None = None
    """Answers name the revision that gave them in this header (metadata of gRPC), for whoever counts clicks.

    The gateway must take header filters of backends, which Gateway API calls extended.
    """

    @model_validator(mode="after")
    def _something_answers_there(self) -> Routing:
        for field, hosts, protocol in (
            ("hostnames", self.hostnames, "HTTP"),
            ("grpcHostnames", self.grpc_hostnames, "GRPC"),
        ):
            if hosts and protocol not in self.protocols:
                raise ValueError(f"protocol {protocol} with {field}: without it nothing answers there")
        return self
