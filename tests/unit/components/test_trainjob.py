"""The TrainJob of an order, and what its status says; against a real API server in tests/integration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate_components.code_version import image
from tidegate_components.models.config import with_settings
from tidegate_components.training.launch import LaunchError, Site, launch, parse_resources
from tidegate_components.training.run import Order
from tidegate_components.training.trainjob import ended, on_claims, progress_line, train_job
from tidegate_components.training.worker import parse_order
from unit.components.ranking_case import config

IN_PODS = Order(
    config(), Path("/mnt/pvc/lake/train"), Path("/mnt/pvc/lake/valid.parquet"), Path("/mnt/pvc/runs/a"), restarts=2
)
SITE = Site(nodes=2, resources={"cpu": "8", "memory": "32Gi"}, deadline_s=3600)

GOLDEN = f"""
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata:
  labels: {{app.kubernetes.io/managed-by: tidegate, app.kubernetes.io/component: training}}
  annotations: {{tidegate.dev/run: ctr-ranker into /mnt/pvc/runs/a}}
spec:
  runtimeRef: {{apiGroup: trainer.kubeflow.org, kind: ClusterTrainingRuntime, name: torch-distributed}}
  activeDeadlineSeconds: 3600
  trainer:
    image: {image("training")}
    command: [python, -m, torch.distributed.run]
    args: [--max-restarts=2, -m, tidegate_components.training.worker, --engine, sharded, --order]
    numNodes: 2
    numProcPerNode: 4
    env: [{{name: OMP_NUM_THREADS, value: "1"}}]
    resourcesPerNode:
      requests: {{cpu: "8", memory: 32Gi}}
      limits: {{cpu: "8", memory: 32Gi}}
  runtimePatches:
    - manager: tidegate.dev/train
      trainingRuntimeSpec:
        template:
          spec:
            replicatedJobs:
              - name: node
                template:
                  spec:
                    template:
                      spec:
                        volumes:
                          - {{name: claim-0, persistentVolumeClaim: {{claimName: runs}}}}
                          - {{name: claim-1, persistentVolumeClaim: {{claimName: lake}}}}
                        containers:
                          - name: node
                            volumeMounts:
                              - {{name: claim-0, mountPath: /mnt/pvc/runs}}
                              - {{name: claim-1, mountPath: /mnt/pvc/lake, readOnly: true}}
"""


def job(order: Order = IN_PODS, state: Any = None, site: Site = SITE) -> dict[str, Any]:
    return train_job(order, ["runs", "lake"], 4, site, state)


def test_the_job_runs_the_worker_by_torchrun_with_its_claims_mounted() -> None:
    made = job()
    order = made["spec"]["trainer"]["args"].pop()
    name = made["metadata"].pop("name")
    assert made == yaml.safe_load(GOLDEN)
    assert parse_order(order) == IN_PODS
    assert name.startswith("tidegate-")


def test_an_order_is_the_same_job_until_it_or_its_data_changes() -> None:
    name = job(state=[["a", 1, 2]])["metadata"]["name"]
    assert job(state=[["a", 1, 2]])["metadata"]["name"] == name
    others = [
        job(state=[["a", 1, 3]]),
        job(replace(IN_PODS, resume=True), [["a", 1, 2]]),
        job(state=[["a", 1, 2]], site=replace(SITE, nodes=3)),
    ]
    assert len({name, *(one["metadata"]["name"] for one in others)}) == 4


def test_no_dollar_is_left_for_kubernetes_to_expand() -> None:
    odd = replace(IN_PODS, train=Path("/mnt/pvc/lake/$(HOME)/$$"))
    text = job(odd)["spec"]["trainer"]["args"][-1]
    assert "$" not in text
    assert parse_order(text) == odd


def test_a_configuration_too_long_for_an_argument_is_named() -> None:
    columns = [{"column": f"number_{n}_{'x' * 60}"} for n in range(800)]
    long = replace(IN_PODS, config=with_settings(config("dcn_v2"), {"inputs.numeric": columns}))
    with pytest.raises(LaunchError, match="expected at most 65,536"):
        job(long)


def test_paths_on_claims_are_moved_to_where_pods_mount_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PVC_ROOT", str(tmp_path))
    (tmp_path / "lake").mkdir()
    here = tmp_path / "lake"
    claims, moved = on_claims(Order(config(), here / "train", here / "valid", here / "runs" / "a"))
    assert claims == ["lake"]
    assert (moved.train, moved.out) == (Path("/mnt/pvc/lake/train"), Path("/mnt/pvc/lake/runs/a"))


@pytest.mark.parametrize("out", ["elsewhere/run", "claims/none/run", "claims/lake", "claims/lake/../../run"])
def test_a_path_on_no_claim_is_named(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PVC_ROOT", str(tmp_path / "claims"))
    here = tmp_path / "claims" / "lake"
    here.mkdir(parents=True)
    with pytest.raises(LaunchError, match=r"out is '.*', expected pvc://CLAIM/PATH, with the claim mounted here"):
        launch(Order(config(), here / "train", here / "valid", tmp_path / out), "trainjob", 2, print)


def condition(kind: str, message: str, status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": kind, "message": message}


def counted(active: int, ready: int) -> dict[str, Any]:
    return {"name": "node", "active": active, "ready": ready, "succeeded": 0, "failed": 0, "suspended": 0}


@pytest.mark.parametrize(
    ("status", "words", "well"),
    [
        ({}, "is accepted; its pods are not there yet", None),
        ({"conditions": [condition("Suspended", "no quota left")]}, "waits: no quota left", None),
        ({"conditions": [condition("Suspended", "resumed", "False")], "jobsStatus": [counted(1, 0)]}, "starts", None),
        ({"jobsStatus": [counted(1, 1)]}, "trains", None),
        ({"conditions": [condition("Failed", "later", "False"), condition("Complete", "all is done")]}, "all is", True),
        ({"conditions": [condition("Failed", "jobset failed")]}, "is failed: jobset failed", False),
    ],
)
def test_a_status_is_one_line(status: dict[str, Any], words: str, well: bool | None) -> None:
    found = {"metadata": {"name": "tidegate-1"}, "status": status}
    assert words in progress_line(found)
    outcome = ended(found)
    assert (outcome.well if outcome else None) is well


def test_resources_are_read_at_the_door() -> None:
    assert parse_resources("cpu=8, memory=32Gi,nvidia.com/gpu=1") == {
        "cpu": "8",
        "memory": "32Gi",
        "nvidia.com/gpu": "1",
    }
    assert parse_resources("") == {}
    with pytest.raises(LaunchError, match="resources is 'cpu:8', expected NAME=QUANTITY"):
        parse_resources("cpu:8")


def test_the_order_in_the_job_is_json(tmp_path: Path) -> None:
    assert json.loads(job()["spec"]["trainer"]["args"][-1])["out"] == "/mnt/pvc/runs/a"
