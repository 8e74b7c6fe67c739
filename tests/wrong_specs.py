"""Specs that neither the API server nor the offline tools take, each with the sentence of the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], object]


def setting(*path: str | int, to: Any) -> Change:
    """Set one field of a spec."""

    def change(spec: dict[str, Any]) -> None:
        node: Any = spec
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        node[path[-1]] = to

    return change


VIEW: dict[str, Any] = {
    "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]},
    "source": {"parquet": {"uri": "pvc://lake/interactions"}, "eventTimestamp": "event_time"},
    "features": [{"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}}],
    "offline": {"uri": "pvc://lake/features/user"},
    "online": {"redis": {"url": "redis://redis:6379/0"}},
    "materialization": {"schedule": "*/15 * * * *"},
}

_DRIFT = {"name": "drift", "role": "guard", "threshold": {"query": "drift", "min": 0.5, "max": 0.25}}
_PERCENT = {"name": "errors", "role": "guard", "margin": 5, "errorRate": {}}
_BOTH = {"header": "x-bucket", "percent": 5, "values": ["a"]}
_SWITCH = {"blueGreen": {}}
_MORE_THAN_THE_LIMIT = {"requests": {"cpu": "1500m"}, "limits": {"cpu": "1"}}
_ALSO = {"name": "calibrator", "uri": "pvc://models/calibrator", "digest": "sha256:" + "d" * 64}
_NO_COUNTERS = (
    "rate(clicks{$track}[1m])",
    "clicks",
    'clicks{job="x"}',
    "clicks{$track} + clicks{$track}",
    "clicks{$track}[1m]",
)
_AUC = {
    "name": "auc",
    "role": "objective",
    "margin": 0.01,
    "higherIsBetter": True,
    "external": {"value": "auc", "standardError": "auc_se{$track}", "sampleSize": "auc_n{$track}"},
}
_SAME_WEIGHTS = [{"setWeight": 5}, {"pause": {}}, {"setWeight": 5}]


def _ctr(events: str) -> dict[str, Any]:
    counters = {"events": events, "trials": "impressions{$track}"}
    return {"name": "ctr", "role": "guard", "margin": 0.01, "higherIsBetter": True, "ratio": counters}


_ENDS_TOO_EARLY = {"header": "x-user", "percent": 10, "minDuration": "2d", "maxDuration": "30h"}


def _preview_of_live(spec: dict[str, Any]) -> None:
    spec["strategy"] = {"blueGreen": {"previewHostnames": spec["routing"]["hostnames"]}}
    spec["analysis"] = {"metrics": []}


WRONG_DEPLOYMENTS: list[tuple[Change, str]] = [
    (setting("analysis", "interval", to="0s"), "longer than 0"),
    (setting("analysis", "interval", to="15 s"), "a whole number and a unit"),
    (setting("progressDeadline", to="0m"), "longer than 0"),
    (setting("analysis", "metrics", to=[_DRIFT]), "min must not exceed its max"),
    (setting("runtime", "backend", to="tensorrt"), "tensorrt needs a GPU"),
    (setting("model", "registry", "promotedAlias", to="challenger"), "promotedAlias must differ"),
    (setting("strategy", "canary", "steps", to=_SAME_WEIGHTS), "must not set the same weight"),
    (setting("model", to={"package": {"uri": "x", "digest": "sha256:12"}}), "64 hex digits"),
    (setting("analysis", "interval", to="99999999999d"), "a duration is too long"),
    (setting("analysis", "interval", to="1500ms"), "whole seconds"),
    (setting("analysis", "metrics", to=[_PERCENT]), "below 1"),
    (setting("strategy", to={"abTest": _BOTH}), "exactly one of percent"),
    (setting("strategy", to=_SWITCH), "judged by threshold and external metrics only"),
    (setting("strategy", to={"shadow": {"percent": 5}}), "no strategy shadow"),
    (setting("runtime", "resources", to=_MORE_THAN_THE_LIMIT), "must not exceed its limit"),
    (setting("runtime", "resources", to={"requests": {"cpuu": "1"}}), "no node has another"),
    (setting("runtime", "resources", to={"limits": {"nvidia.com/gpu": "1"}}), "asked for by runtime.gpus"),
    (setting("runtime", "resources", to={"requests": {"example.com/nic": "1"}}), "needs a limit"),
    (setting("scaling", "targets", to=[{"gpuUtilization": 80}]), "gpuUtilization"),
    (setting("scaling", "scaleDownDelay", to="2h"), "an HPA remembers no longer"),
    (setting("scaling", "scaleDownDelay", to="1d"), "an HPA remembers no longer"),
    (setting("routing", "hostnames", to=["a..b"]), "hostnames"),
    (setting("routing", "grpcHostnames", to=["g.example.com"]), "nothing answers there"),
    (setting("routing", "revisionHeader", to="Host"), "must not be Host"),
    (setting("model", to={"package": {"uri": "s3://models/1", "digest": "sha256:" + "a" * 64}}), "no pod reads others"),
    (setting("runtime", "image", to="tri ton:1"), "runtime.image"),
    (setting("runtime", "alsoServe", to=[_ALSO | {"name": "ctr-ranker"}]), "is served already"),
    (setting("runtime", "alsoServe", to=[_ALSO, _ALSO]), "uplicate"),
    (
        lambda spec: spec.update(
            strategy={"abTest": {"header": "x-user", "values": ["a"], "maxDuration": "1d"}},
            runtime=spec["runtime"] | {"alsoServe": [_ALSO]},
        ),
        "abTest routes one model",
    ),
    (setting("strategy", "canary", "steps", 1, to={"analysis": {"objectives": ["nope"]}}), "with role objective"),
    *((setting("analysis", "metrics", to=[_ctr(events)]), "bare selector with $track") for events in _NO_COUNTERS),
    (setting("analysis", "metrics", to=[_AUC]), "holds $track"),
    (setting("analysis", "metrics", 0, "higherIsBetter", to=True), "fewer are better"),
    (setting("model", "verify", to={"publicKeyFrom": {}}), "exactly one of secretKeyRef and configMapKeyRef"),
]

_KAFKA = {"bootstrapServers": "kafka:9092", "topic": "events"}
_SQL = {"sql": "SELECT * FROM source", "ttl": "1d", "features": [{"name": "n", "type": "Int64"}]}

_NO_SCHEDULES = (
    "99 99 * * *",
    "*/15 * * *",
    "0 0 0 * * *",
    "@midnight",
    "0 24 * * *",
    "0 0 * 13 *",
    "0 0 * * 8",
    "*/0 * * * *",
)

_SHOUTED = VIEW["features"][0]["name"].upper()

WRONG_VIEWS: list[tuple[Change, str]] = [
    (setting("features", to=VIEW["features"] * 2), "a name of its own"),
    (setting("features", to=[*VIEW["features"], VIEW["features"][0] | {"name": _SHOUTED}]), "letter case aside"),
    (setting("features", 0, "name", to=VIEW["entity"]["joinKeys"][0]["name"].upper()), "the name of a join key"),
    (setting("features", 0, "aggregate", "window", to="0d"), "longer than 0"),
    (setting("features", 0, "expect", to={"min": 5, "max": 1}), "must not exceed max"),
    (setting("features", 0, "expect", to={"minMean": 5, "maxMean": 1}), "must not exceed maxMean"),
    (setting("freshness", to={"target": "0s"}), "longer than 0"),
    (setting("features", 0, "aggregate", to={"function": "mean", "column": "x", "window": "7d"}), "must be Float64"),
    (setting("source", to={"eventTimestamp": "event_time"}), "parquet, kafka or both"),
    (lambda spec: spec.update(_SQL, source={"kafka": _KAFKA, "eventTimestamp": "event_time"}), "sql reads Parquet"),
    *((setting("materialization", "schedule", to=cron), "five fields") for cron in _NO_SCHEDULES),
]

_LONG = {"header": "x-bucket", "percent": 5, "minDuration": "3h", "maxDuration": "2h"}
REFUSED_DEPLOYMENTS: list[tuple[Change, str]] = [
    (setting("strategy", "blueGreen", to={}), "exactly one strategy"),
    (setting("strategy", "canary", "steps", to=[{"setWeight": 20}, {"setWeight": 5}]), "must not fall"),
    (
        setting("strategy", "canary", "steps", to=[{"setWeight": 20, "pause": {}}]),
        "exactly one of setWeight, pause and analysis",
    ),
    (setting("scaling", "minReplicas", to=7), "minReplicas must not exceed maxReplicas"),
    (setting("scaling", "targets", to=[{"queueTime": "5ms", "cpuUtilization": 70}]), "exactly one of queueTime"),
    (
        setting("model", "package", to={"uri": "x", "digest": "sha256:" + "a" * 64}),
        "exactly one of registry and package",
    ),
    (setting("model", to={"package": {"uri": "x", "digest": "sha256:12"}}), "digest"),
    (setting("routing", "protocols", to=["GRPC"]), "grpcHostnames"),
    (setting("routing", "protocols", to=["HTTP", "HTTP"]), "Duplicate value"),
    (setting("analysis", "errorLevel", to=1.5), "less than"),
    (setting("analysis", "metrics", to=[{"name": "ctr", "role": "guard", "margin": 0}]), "exactly one of errorRate"),
    (setting("analysis", "metrics", to=[{"name": "errors", "role": "guard", "errorRate": {}}]), "needs a margin"),
    (setting("strategy", to={"abTest": _LONG}), "minDuration must not exceed maxDuration"),
    (setting("strategy", to={"abTest": _ENDS_TOO_EARLY}), "minDuration must not exceed maxDuration"),
    (setting("strategy", to={"abTest": {"header": "x-user", "percent": 10}}), "over as soon as it begins"),
    (_preview_of_live, "must not be among routing.hostnames"),
    (setting("replicas", to=3), 'unknown field "spec.replicas"'),
    *WRONG_DEPLOYMENTS,
]
"""What the API server refuses, and admission too; not all of it the models."""

REFUSED_VIEWS: list[tuple[Change, str]] = [
    (setting("features", 0, "aggregate", to={"function": "sum", "window": "7d"}), "column is required"),
    (setting("features", 0, to={"name": "clicks_7d", "type": "Int64"}), "each feature has an aggregate"),
    (setting("online", "redis", to={}), "exactly one of url and urlFrom"),
    (setting("features", 0, "type", to="Decimal"), "Int64"),
    (setting("features", 0, "aggregate", "window", to="a week"), "a whole number and a unit"),
    (setting("sources", to=[]), "unknown field"),
    *WRONG_VIEWS,
]

SCHEDULES = ("*/15 * * * *", "0 3 * * mon-fri", "5,35 0-6/2 1 JAN,JUL ?", "59  23 31 12 6", "00 09 * * *")
"""What CronJobs take."""
