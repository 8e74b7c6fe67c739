"""Two thousand and more damaged resources: refused by the API server, or answered by the operator. Nothing crashes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rollouts import GOOD, NEXT, SPEC, START, obeyed
from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.errors import RefusedError
from tidegate_operators.resources.materialization import materialization_objects
from tidegate_operators.resources.platform import Platform
from tidegate_operators.resources.routes import route_objects
from tidegate_operators.resources.server import server_objects
from tidegate_operators.rollout.decide import decide
from tidegate_operators.rollout.observed import Decision
from tidegate_operators.rollout.summary import summarize
from wrong_specs import VIEW

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

DEPLOYMENTS, VIEWS, APPLIED = 1600, 600, 60
PLATFORM = Platform("components:1", "triton:cpu", "triton:gpu", "http://mlflow:5000")
JUNK: tuple[Any, ...] = (
    None, "", " ", "0", -1, 0, 1, 2**31, 2**63, 1e308, -0.5, True, [], {}, [None], {"a": {"b": []}}, "ü" * 70,
    "a" * 5000, "1d",
    "0s", "99999999999d", "10us", "$track", "{{", "../..", "sha256:" + "0" * 64, "*", "GRPC", ["HTTP", "GRPC"],
    {"duration": "5m"}, [{"setWeight": 100}], "\u0000", "null", "2026-01-01T00:00:00Z", "1e400", "NaN",
)  # fmt: skip
WHOLE: dict[str, Any] = SPEC | {
    "runtime": {"gpus": 1, "backend": "onnxruntime", "instances": 2, "responseCache": "64Mi",
                "batching": {"maxBatchSize": 64, "maxQueueDelay": "500us"},
                "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
    "scaling": SPEC["scaling"] | {"scaleDownDelay": "1m", "nodesOnDemand": True},
    "routing": SPEC["routing"] | {"protocols": ["HTTP", "GRPC"], "grpcHostnames": ["grpc.example.com"]},
    "analysis": {
        "interval": "10s", "errorLevel": 0.05, "minSamples": 100,
        "metrics": [
            {"name": "errors", "role": "guard", "margin": 0.01, "errorRate": {}},
            {"name": "slow", "role": "guard", "margin": 0.01, "slowRequests": {"above": "100ms"}},
            {"name": "ctr", "role": "objective", "margin": 0.0, "higherIsBetter": True,
             "ratio": {"events": "c{$track}", "trials": "i{$track}", "labelDelay": "5m"}},
            {"name": "reward", "role": "guard", "margin": 0.1, "higherIsBetter": True,
             "mean": {"sum": "s{$track}", "sumOfSquares": "q{$track}", "count": "n{$track}"}},
            {"name": "drift", "role": "guard", "threshold": {"query": "d{$track}", "max": 0.25, "failureLimit": 3}},
        ],
    },
}  # fmt: skip
STRATEGIES: tuple[dict[str, Any], ...] = (
    {"canary": {"maxUnavailable": 1,
                "steps": [{"setWeight": 5}, {"pause": {"duration": "1m"}}, {"analysis": {"minSamples": 10}}]}},
    {"blueGreen": {"previewHostnames": ["next.example.com"], "scaleDownDelay": "30s"}},
    {"abTest": {"header": "x-bucket", "percent": 20, "minDuration": "1h", "maxDuration": "2h"}},
    {"abTest": {"header": "x-group", "values": ["beta"]}},
)  # fmt: skip


def _paths(node: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within a body."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*here, key)
        yield from _paths(value, (*here, key))


def _damaged(spec: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """One to three places removed, replaced, doubled or given a stranger."""
    found = copy.deepcopy(spec)
    for _ in range(draw.randint(1, 3)):
        places = list(_paths(found))
        if not places:
            break
        *way, last = draw.choice(places)
        node = found
        for key in way:
            node = node[key]
        _damage(node, last, draw)
    return found


def _damage(node: Any, key: Any, draw: random.Random) -> None:
    what = draw.choice(("remove", "replace", "replace", "stranger", "double"))
    if what == "remove":
        del node[key]
    elif what == "double" and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    elif what == "stranger" and isinstance(node, dict):
        node[draw.choice(("replicas", "Percent", "steps", "percent", "values", "x"))] = draw.choice(JUNK)
    else:
        node[key] = copy.deepcopy(draw.choice(JUNK))


def _bodies(kind: str, count: int) -> list[dict[str, Any]]:
    draw = random.Random(20261128)
    found = []
    for _ in range(count):
        spec = WHOLE | {"strategy": draw.choice(STRATEGIES)} if kind == "ModelDeployment" else VIEW
        head = {"apiVersion": "tidegate.dev/v1alpha1", "kind": kind, "metadata": {"name": "fuzzed"}}
        found.append(head | {"spec": _damaged(spec, draw)})
    return found


def _accepted(api: client.ApiClient, namespace: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """What the API server would keep of it, with defaults; none where it refuses with a sentence."""
    plural = f"{body['kind'].lower()}s"
    where = ("tidegate.dev", "v1alpha1", namespace, plural)
    try:
        found: dict[str, Any] = client.CustomObjectsApi(api).create_namespaced_custom_object(
            *where, body, dry_run="All", field_validation="Ignore"
        )
    except ApiException as error:
        if error.status not in (400, 422) or not json.loads(error.body)["message"]:
            raise
        return None
    return found


def _all_accepted(api: client.ApiClient, namespace: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(8) as pool:
        return [body for body in pool.map(lambda each: _accepted(api, namespace, each), bodies) if body is not None]


def _looked_at(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Four looks of the operator's own decisions, each followed by all that it would make."""
    found, decision = ModelDeployment.parse(body), None
    objects: list[dict[str, Any]] = []
    for number in range(4):
        observed = obeyed(decision, GOOD if number < 2 else NEXT)
        decision = decide(found, observed, START)
        objects = _objects(found, decision)
        found = found.model_copy(update={"status": summarize(found, observed, decision, START)})
    return objects


def _objects(found: ModelDeployment, decision: Decision) -> list[dict[str, Any]]:
    plans = decision.plans
    servers = [o for p in plans for o in server_objects(found, p.revision, p.min_replicas, PLATFORM, p.most)]
    return [*servers, *route_objects(found, decision.status, decision.weights)]


def _applied_or_refused(cluster: Cluster, body: dict[str, Any]) -> None:
    """The API server takes it, or says what is wrong in a way that becomes a condition."""
    body["metadata"].pop("ownerReferences", None)
    with suppress(RefusedError):
        cluster.apply(body)
        cluster.delete(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])


def test_damaged_model_deployments_are_refused_or_handled(
    api: client.ApiClient, namespace: str, cluster: Cluster
) -> None:
    kept = _all_accepted(api, namespace, _bodies("ModelDeployment", DEPLOYMENTS))
    assert DEPLOYMENTS / 20 < len(kept) < DEPLOYMENTS
    for number, body in enumerate(kept):
        objects: list[dict[str, Any]] = []
        with suppress(TidegateError):  # the operator says it in an Event
            objects = _looked_at(body)
        for made in objects if number < APPLIED else ():
            _applied_or_refused(cluster, made)


def test_damaged_feature_views_are_refused_or_handled(api: client.ApiClient, namespace: str) -> None:
    kept = _all_accepted(api, namespace, _bodies("FeatureView", VIEWS))
    assert VIEWS / 20 < len(kept) < VIEWS
    for body in kept:
        with suppress(TidegateError):
            assert materialization_objects(FeatureView.parse(body), PLATFORM)
