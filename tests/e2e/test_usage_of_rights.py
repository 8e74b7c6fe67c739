"""The operator's ClusterRole against the API server's audit log: enough, and no more than it uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import Live, Trained, package

from tidegate_dev import paths

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600)]

ROLE = Path(__file__).parents[2] / "manifests" / "operator" / "rbac.yaml"
OPERATOR = "system:serviceaccount:tidegate-system:tidegate-operator"
Right = tuple[str, str, str]


def _granted() -> set[Right]:
    roles = [body for body in yaml.safe_load_all(ROLE.read_text()) if body["kind"] in ("ClusterRole", "Role")]
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _entries() -> Iterator[dict[str, Any]]:
    for file in sorted(paths.logs().glob("audit*.log")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if entry["user"]["username"] == OPERATOR and entry["stage"] == "ResponseComplete":
                yield entry


def _right(entry: dict[str, Any]) -> Right | None:
    reference = entry.get("objectRef")
    if not reference or "resource" not in reference:
        return None
    parts = [reference["resource"], *([reference["subresource"]] if "subresource" in reference else [])]
    return reference.get("apiGroup", ""), "/".join(parts), entry["verb"]


def _used(calls: list[dict[str, Any]]) -> set[Right]:
    """Rights that calls needed. A server-side apply that makes an object needs `create` beside `patch`."""
    found: set[Right] = set()
    for entry in calls:
        right = _right(entry)
        if right is not None and entry["responseStatus"]["code"] < 400:
            found.add(right)
            if entry["responseStatus"]["code"] == 201:
                found.add((right[0], right[1], "create"))
    return found


@pytest.fixture
def calls(live: Live) -> list[dict[str, Any]]:
    """The operator's calls since this cluster stands; dev/cluster keeps a log, another may not let us read its own."""
    if not any(paths.logs().glob("audit*.log")):
        pytest.skip("this cluster's audit log cannot be read")
    since = live.cluster.kubectl.get("namespace", "kube-system")["metadata"]["creationTimestamp"]
    return [entry for entry in _entries() if entry["requestReceivedTimestamp"] >= since]


def test_a_protocol_that_is_dropped_takes_its_route_along(shop: Live, trained: Trained) -> None:
    both = {"gatewayRef": {"name": "public", "namespace": "gateways"}, "protocols": ["HTTP", "GRPC"]}
    shop.deploy("protocols", package(trained.first), routing=both)
    shop.wait_for("protocols", lambda found: found.status.stable is not None, 180, "it serves")
    for kept, dropped in (("HTTP", "grpcroutes"), ("GRPC", "httproutes")):
        shop.deploy("protocols", package(trained.first), routing=both | {"protocols": [kept]})
        empty = lambda kind=dropped: (not shop.cluster.get(kind)["items"], kind)  # noqa: E731
        shop.cluster.wait(empty, 60, f"{dropped} are gone")
    shop.cluster.kubectl.run("delete", "md", "protocols", "-n", shop.namespace)


def test_the_operator_may_do_all_that_it_tries(calls: list[dict[str, Any]]) -> None:
    """An API server that was killed refuses everybody for a moment, until it has read its roles: then it is allowed."""
    decision = "authorization.k8s.io/decision"
    refused = {_right(entry) for entry in calls if entry.get("annotations", {}).get(decision) == "forbid"}
    assert refused - _used(calls) == set()


def test_the_operator_uses_all_that_it_may(calls: list[dict[str, Any]]) -> None:
    assert _granted() - _used(calls) == set()


def test_the_operator_was_granted_all_that_it_used(calls: list[dict[str, Any]]) -> None:
    anybody = {("authorization.k8s.io", "selfsubjectaccessreviews", "create")}
    assert {right for right in _used(calls) if right[0]} - _granted() - anybody == set()
