"""`tidegate train --launcher trainjob` against a real API server; the test takes the part of Trainer's controller."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, watch

from tidegate_components.training.launch import LaunchError, Site, launch
from tidegate_components.training.run import Order
from unit.components.ranking_case import config, sets

pytestmark = pytest.mark.integration

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
FIGURES = {"auc": 0.75, "logloss": 0.5, "epochs": 1, "examples_per_second": 1.0, "peak_memory_bytes": 1}

# The part of Trainer 2.2's TrainJob that the launcher writes and reads; what is not named here is refused.
TRAIN_JOB = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: trainjobs.trainer.kubeflow.org
  annotations: {api-approved.kubernetes.io: "unapproved, a test's own"}
spec:
  group: trainer.kubeflow.org
  names: {kind: TrainJob, listKind: TrainJobList, plural: trainjobs, singular: trainjob}
  scope: Namespaced
  versions:
    - name: v1alpha1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [runtimeRef]
              properties:
                activeDeadlineSeconds: {type: integer, format: int64, minimum: 1}
                suspend: {type: boolean, default: false}
                runtimeRef:
                  type: object
                  required: [name]
                  properties:
                    apiGroup: {type: string, default: trainer.kubeflow.org}
                    kind: {type: string, default: ClusterTrainingRuntime}
                    name: {type: string, minLength: 1}
                trainer:
                  type: object
                  x-kubernetes-validations: [{rule: self == oldSelf, message: field is immutable}]
                  properties:
                    image: {type: string, maxLength: 500}
                    command: {type: array, maxItems: 128, items: {type: string, maxLength: 65536}}
                    args: {type: array, maxItems: 128, items: {type: string, maxLength: 65536}}
                    numNodes: {type: integer, format: int32}
                    numProcPerNode: {type: integer, format: int32}
                    env:
                      type: array
                      items: {type: object, properties: {name: {type: string}, value: {type: string}}}
                    resourcesPerNode:
                      type: object
                      properties:
                        requests: {type: object, additionalProperties: {x-kubernetes-int-or-string: true}}
                        limits: {type: object, additionalProperties: {x-kubernetes-int-or-string: true}}
                runtimePatches:
                  type: array
                  x-kubernetes-list-type: map
                  x-kubernetes-list-map-keys: [manager]
                  items:
                    type: object
                    required: [manager]
                    properties:
                      manager: {type: string}
                      trainingRuntimeSpec: &patch {type: object, x-kubernetes-preserve-unknown-fields: true}
            status:
              type: object
              properties:
                conditions:
                  type: array
                  items: *patch
                jobsStatus:
                  type: array
                  items: *patch
"""


@pytest.fixture(scope="module")
def trainer(api: client.ApiClient, namespace: str) -> Iterator[str]:
    """A cluster that knows TrainJobs, and a namespace for them; the kind goes again afterwards."""
    definitions = client.ApiextensionsV1Api(api)
    body = yaml.safe_load(TRAIN_JOB)
    definitions.create_custom_resource_definition(body)
    only = f"metadata.name={body['metadata']['name']}"
    for event in watch.Watch().stream(
        definitions.list_custom_resource_definition, field_selector=only, timeout_seconds=30
    ):
        if any(one.type == "Established" and one.status == "True" for one in event["object"].status.conditions or []):
            break
    yield namespace
    definitions.delete_custom_resource_definition(body["metadata"]["name"])


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    monkeypatch.setenv("TIDEGATE_PVC_ROOT", str(tmp_path))
    folder = tmp_path / "lake"
    folder.mkdir()
    train, valid = sets(folder)
    return Order(config(), train, valid, folder / "run")


class Controller:
    """What Trainer's controller does to a job, by hand."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._jobs, self._where = client.CustomObjectsApi(api), (GROUP, VERSION, namespace, PLURAL)

    def all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._jobs.list_namespaced_custom_object(*self._where)["items"]
        return found

    def one(self) -> dict[str, Any]:
        eventually(lambda: len(self.all()) == 1)
        return self.all()[0]

    def says(self, name: str, **status: Any) -> None:
        self._jobs.patch_namespaced_custom_object_status(*self._where, name, {"status": status})

    def ends(self, name: str, kind: str, message: str) -> None:
        said = {"type": kind, "status": "True", "reason": "Jobs" + kind, "message": message}
        self.says(name, conditions=[said | {"lastTransitionTime": "2026-01-01T00:00:00Z"}])

    def clear(self) -> None:
        for job in self.all():
            self._jobs.delete_namespaced_custom_object(*self._where, job["metadata"]["name"])


@pytest.fixture
def controller(api: client.ApiClient, trainer: str) -> Iterator[Controller]:
    found = Controller(api, trainer)
    yield found
    found.clear()


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < until, "it did not come about in time"
        pause.wait(0.05)


class Launched(threading.Thread):
    """A launch under way: what it said, and how it ended."""

    def __init__(self, order: Order, namespace: str, **site: Any) -> None:
        super().__init__(daemon=True)
        self.said: list[str] = []
        self.result: dict[str, Any] | None = None
        self.error: LaunchError | None = None
        self._order, self._site = order, Site(namespace=namespace, **site)
        self.start()

    def run(self) -> None:
        try:
            self.result = launch(self._order, "trainjob", 2, self.said.append, self._site)
        except LaunchError as error:
            self.error = error

    def ended(self) -> Launched:
        self.join(30)
        assert not self.is_alive()
        return self


def leave_figures(order: Order) -> None:
    order.out.mkdir(exist_ok=True)
    (order.out / "metrics.json").write_text(json.dumps(FIGURES))


def test_without_trainer_the_sentence_says_what_to_install(api: client.ApiClient, namespace: str, order: Order) -> None:
    with pytest.raises(LaunchError, match=r"API server is 'no such kind', expected Kubeflow Trainer 2\.2 or newer"):
        launch(order, "trainjob", 2, print, Site(namespace=namespace))


def test_a_complete_job_gives_its_figures(trainer: str, controller: Controller, order: Order) -> None:
    launched = Launched(order, trainer, nodes=2)
    job = controller.one()
    name = job["metadata"]["name"]
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert job["spec"]["runtimePatches"][0]["manager"] == "tidegate.dev/train"
    counted = {"name": "node", "active": 1, "ready": 1, "succeeded": 0, "failed": 0, "suspended": 0}
    controller.says(name, jobsStatus=[counted])
    eventually(lambda: f"TrainJob {name} trains" in launched.said)
    leave_figures(order)
    controller.ends(name, "Complete", "jobset completed successfully")
    assert launched.ended().result == FIGURES
    assert launched.said[-1] == f"TrainJob {name} is complete: jobset completed successfully"


def test_the_same_order_finds_its_job_again(trainer: str, controller: Controller, order: Order) -> None:
    first = Launched(order, trainer)
    name = controller.one()["metadata"]["name"]
    second = Launched(order, trainer)
    eventually(lambda: f"TrainJob {name} is there already: waiting for it" in second.said)
    leave_figures(order)
    controller.ends(name, "Complete", "done")
    assert first.ended().result == second.ended().result == FIGURES
    assert len(controller.all()) == 1
    third = Launched(order, trainer).ended()
    assert third.result == FIGURES
    assert third.said[0].endswith("its result is taken")


def test_a_failed_job_is_told_in_its_own_words_and_made_anew_next_time(
    trainer: str, controller: Controller, order: Order
) -> None:
    launched = Launched(order, trainer)
    failed = controller.one()["metadata"]
    controller.ends(failed["name"], "Failed", "jobset failed due to one or more job failures")
    error = launched.ended().error
    assert error is not None
    assert "outcome is 'jobset failed due to one or more job failures', expected Complete" in str(error)
    again = Launched(order, trainer)
    eventually(lambda: [one["metadata"]["uid"] for one in controller.all()] not in ([], [failed["uid"]]))
    leave_figures(order)
    controller.ends(failed["name"], "Complete", "done")
    assert again.ended().result == FIGURES


def test_a_job_past_its_deadline_is_deleted(trainer: str, controller: Controller, order: Order) -> None:
    launched = Launched(order, trainer, deadline_s=2).ended()
    assert "outcome is 'past its deadline and deleted'" in str(launched.error)
    eventually(lambda: not controller.all())


def test_a_job_that_someone_deletes_ends_the_wait(trainer: str, controller: Controller, order: Order) -> None:
    launched = Launched(order, trainer)
    controller.one()
    controller.clear()
    assert "outcome is 'deleted'" in str(launched.ended().error)


def test_a_complete_job_without_figures_is_no_success(trainer: str, controller: Controller, order: Order) -> None:
    launched = Launched(order, trainer)
    controller.ends(controller.one()["metadata"]["name"], "Complete", "done")
    assert "expected metrics.json, which the complete job has left on the claim" in str(launched.ended().error)


def _hears_ctrl_c() -> None:
    """A shell starts what runs in its background deaf to SIGINT, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_deletes_the_job(trainer: str, controller: Controller, order: Order, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(order.config.model_dump(mode="json")))
    given = ["--config", str(tmp_path / "c.yaml"), "--launcher", "trainjob", "--namespace", trainer]
    given += ["--train", "pvc://lake/train.parquet", "--valid", "pvc://lake/valid.parquet", "--out", "pvc://lake/run"]
    command = [sys.executable, "-c", "from tidegate_pipelines.cli import main; main()", "train", *given]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_ctrl_c)  # noqa: PLW1509
    controller.one()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "is deleted; --resume goes on" in said
    assert "Traceback" not in said
    eventually(lambda: not controller.all())
