"""`kubectl tidegate` against a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rollouts import GOOD, NEXT, SPEC, deployment
from tidegate_api.annotations import ABORT, PAUSE
from tidegate_api.model_deployment import CanaryStatus, Evidence, HistoryEntry, ModelDeployment, ModelDeploymentStatus
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.rollout.source import revision_of
from wrong_specs import VIEW

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

NOW = datetime.now(UTC)
STABLE, CANARY = revision_of(deployment(), GOOD), revision_of(deployment(), NEXT)
STATUS = ModelDeploymentStatus(
    phase="Progressing",
    message="Version 2 has 5 % of the traffic, step 1 of 3: pauses until 2026-01-01 00:00:10 UTC",
    stable=STABLE,
    weight=5,
    canary=CanaryStatus(
        revision=CANARY,
        started_at=NOW,
        step_started_at=NOW,
        evidence=[Evidence(metric="errors", message="errors: canary 0.00 % (0 of 50), stable 0.00 % (0 of 900).")],
    ),
    history=[
        HistoryEntry(
            revision=STABLE,
            outcome="promoted",
            reason="FirstRevision",
            message="Version 1 is the first.",
            started_at=NOW,
            ended_at=NOW,
            recorded=True,
        )
    ],
)


@pytest.fixture
def rolling(cluster: Cluster, namespace: str) -> ModelDeployment:
    """A deployment in the middle of a rollout, of a model that no operator on this cluster can resolve."""
    name = "ctr-ranker"
    cluster.delete("ModelDeployment", namespace, name)
    body = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
    }
    spec = SPEC | {"model": {"registry": {"name": "nobodys-model", "alias": "challenger"}}}
    made = ModelDeployment.parse(cluster.apply(body | {"spec": spec}))
    while not _is_rolling(cluster, made):
        cluster.apply_status(made, STATUS.to_dict())
    return made


def _is_rolling(cluster: Cluster, made: ModelDeployment) -> bool:
    """Whether the status is ours: an operator that is on this cluster has looked at it and kept the rollout."""
    found = cluster.get("ModelDeployment", made.metadata.namespace, made.metadata.name) or {}
    status = found.get("status", {})
    operators = cluster.list("Deployment", "tidegate-system", {"app.kubernetes.io/name": "tidegate-operator"})
    return "canary" in status and (not operators or bool(status.get("conditions")))


def _run(namespace: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("kubectl-tidegate")
    return subprocess.run([program, *words, "-n", namespace], capture_output=True, text=True, check=False)


def _annotations(cluster: Cluster, found: ModelDeployment) -> dict[str, Any]:
    body = cluster.get("ModelDeployment", found.metadata.namespace, found.metadata.name) or {}
    annotations: dict[str, Any] = body["metadata"].get("annotations", {})
    return annotations


@pytest.mark.parametrize(("verb", "annotation"), [("pause", PAUSE), ("abort", ABORT)])
def test_a_verb_is_an_annotation_that_names_the_revision(
    cluster: Cluster, rolling: ModelDeployment, verb: str, annotation: str
) -> None:
    done = _run(rolling.metadata.namespace, verb, "ctr-ranker")
    assert done.returncode == 0, done.stderr
    assert _annotations(cluster, rolling)[annotation] == CANARY.hash


def test_resume_takes_the_pause_away(cluster: Cluster, rolling: ModelDeployment) -> None:
    _run(rolling.metadata.namespace, "pause", "ctr-ranker")
    _run(rolling.metadata.namespace, "resume", "ctr-ranker")
    assert PAUSE not in _annotations(cluster, rolling)


def test_explain_says_why_it_is_not_moving(rolling: ModelDeployment) -> None:
    said = _run(rolling.metadata.namespace, "explain", "ctr-ranker").stdout
    assert "errors: canary" in said


def test_get_and_history_speak_to_people_and_machines(rolling: ModelDeployment) -> None:
    namespace = rolling.metadata.namespace
    assert "ctr-ranker" in _run(namespace, "get").stdout
    assert json.loads(_run(namespace, "get", "--json").stdout)[0]["kind"] == "ModelDeployment"
    (entry,) = json.loads(_run(namespace, "history", "ctr-ranker", "--json").stdout)
    assert entry["reason"] == "FirstRevision"


def test_an_unknown_name_ends_with_a_sentence_and_exit_code_2(namespace: str, cluster: Cluster) -> None:
    done = _run(namespace, "explain", "nobody")
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_namespace_without_objects_is_said_as_kubectl_says_it(namespace: str, cluster: Cluster) -> None:
    done = _run("nosuchns", "get")
    assert (done.returncode, done.stderr) == (0, "No resources found in nosuchns namespace.\n")


def test_resume_without_a_pause_says_so(rolling: ModelDeployment) -> None:
    done = _run(rolling.metadata.namespace, "resume", "ctr-ranker")
    assert done.returncode == 1
    assert "is not paused" in done.stderr


def test_machines_are_spared_the_managed_fields(rolling: ModelDeployment) -> None:
    assert "managedFields" not in _run(rolling.metadata.namespace, "get", "--json").stdout


def test_a_verb_that_was_asked_before_says_so(rolling: ModelDeployment) -> None:
    assert _run(rolling.metadata.namespace, "pause", "ctr-ranker").returncode == 0
    again = _run(rolling.metadata.namespace, "pause", "ctr-ranker")
    assert again.returncode == 1
    assert "already" in again.stderr


def test_a_pipeline_that_waits_for_a_rollout_learns_that_its_time_is_up(rolling: ModelDeployment) -> None:
    done = _run(rolling.metadata.namespace, "watch", "ctr-ranker", "--until-done", "--every", "0.2", "--timeout", "1s")
    assert done.returncode == 1
    assert "still under way after 1s" in done.stderr
    assert "version 2 (revision" in done.stdout.lower()


def test_one_view_that_cannot_be_read_hides_no_other(cluster: Cluster, namespace: str) -> None:
    body = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "FeatureView"}
    for name, default in (("odd", 1.5), ("fine", 1)):
        spec = VIEW | {"features": [VIEW["features"][0] | {"default": default}]}
        cluster.apply(body | {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
    done = _run(namespace, "features")
    assert (done.returncode, "fine" in done.stdout) == (0, True)
    assert "FeatureView odd: " in done.stderr
    for name in ("odd", "fine"):
        cluster.delete("FeatureView", namespace, name)
