"""Every component's image and command, out of the compiled YAML, runs as a pod and gives what the local run gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import Live, artifact_of, in_namespace

from tidegate_components.storage import content_digest
from tidegate_dev import catalogue, choice, images, paths
from tidegate_dev.progress import Progress

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).parents[2]
WORK = "/work"
ENVIRONMENT = "/opt/training"
STEP_SECONDS = 300


@dataclass
class Dag:
    """A compiled pipeline, run step by step in pods: each step's inputs are what earlier pods put out."""

    spec: dict[str, Any]
    live: Live
    folder: Path
    arguments: Mapping[str, Any]
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self) -> None:
        """All steps, each after those that it needs."""
        tasks: dict[str, dict[str, Any]] = dict(self.spec["root"]["dag"]["tasks"])
        while tasks:
            name = next(n for n, task in tasks.items() if set(_needs(task)) <= self.outputs.keys())
            self.outputs[name] = self._step(name, tasks.pop(name))

    def _step(self, name: str, task: dict[str, Any]) -> dict[str, Any]:
        component = self.spec["components"][task["componentRef"]["name"]]
        given = self._executor_input(name, task, component)
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        self._run_pod(name, container, given)
        output = json.loads((self.folder / name / "executor_output.json").read_text())
        artifacts = {key: value["artifacts"][0] for key, value in given["outputs"].get("artifacts", {}).items()}
        return {"artifacts": artifacts, "parameters": output.get("parameterValues", {})}

    def _executor_input(self, name: str, task: dict[str, Any], component: dict[str, Any]) -> dict[str, Any]:
        """What KFP's launcher hands to the executor (pipeline_spec.proto, ExecutorInput)."""
        (self.folder / name).mkdir()
        (self.folder / name).chmod(0o777)
        inputs = task.get("inputs", {})
        produced = component.get("outputDefinitions", {})
        return {
            "inputs": {
                "parameterValues": {k: self._parameter(v) for k, v in inputs.get("parameters", {}).items()},
                "artifacts": {k: {"artifacts": [self._artifact(v)]} for k, v in inputs.get("artifacts", {}).items()},
            },
            "outputs": {
                "artifacts": {
                    key: {"artifacts": [_new_artifact(name, key, definition)]}
                    for key, definition in produced.get("artifacts", {}).items()
                },
                "outputFile": f"{WORK}/{name}/executor_output.json",
            },
        }

    def _parameter(self, source: dict[str, Any]) -> Any:
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
        if "componentInputParameter" in source:
            return self.arguments[source["componentInputParameter"]]
        origin = source["taskOutputParameter"]
        return self.outputs[origin["producerTask"]]["parameters"][origin["outputParameterKey"]]

    def _artifact(self, source: dict[str, Any]) -> dict[str, Any]:
        origin = source["taskOutputArtifact"]
        found: dict[str, Any] = self.outputs[origin["producerTask"]]["artifacts"][origin["outputArtifactKey"]]
        return found

    def _run_pod(self, name: str, container: dict[str, Any], given: dict[str, Any]) -> None:
        arguments = [json.dumps(given) if word == "{{$}}" else word for word in container["args"]]
        self.live.cluster.apply(_pod(name, container["image"], [*container["command"], *arguments], self.folder))

        def ended() -> tuple[bool, str]:
            phase = self.live.cluster.get("pod", name)["status"]["phase"]
            return phase in ("Succeeded", "Failed"), phase

        self.live.cluster.wait(ended, STEP_SECONDS, f"step {name} ended")
        log = self.live.cluster.kubectl.run("logs", "-n", self.live.namespace, name)
        assert self.live.cluster.get("pod", name)["status"]["phase"] == "Succeeded", log


def _default(definition: dict[str, Any]) -> Any:
    """A parameter's default, as KFP's driver hands it over: protobuf's numbers become whole ones again."""
    value = definition.get("defaultValue")
    return int(value) if definition["parameterType"] == "NUMBER_INTEGER" and value is not None else value


def _needs(task: dict[str, Any]) -> list[str]:
    return list(task.get("dependentTasks", []))


def _new_artifact(step: str, key: str, definition: dict[str, Any]) -> dict[str, Any]:
    return {"name": key, "type": definition["artifactType"], "uri": f"{WORK}/{step}/{key}", "metadata": {}}


def _pod(name: str, image: str, command: list[str], folder: Path) -> dict[str, Any]:
    """The step's image and command; the training image takes the machine's installed environment, read-only."""
    volumes = {"work": (folder, WORK, False), "lake": (folder.parent / "pvc" / "lake", "/mnt/pvc/lake", False)}
    volumes["data"] = (paths.cache() / "movielens-100k", "/cache/tidegate/movielens-100k", True)
    environment = {"HOME": "/tmp", "XDG_CACHE_HOME": "/cache"}
    if image.startswith("tidegate/training:"):
        volumes["environment"] = (Path(sysconfig.get_path("purelib")), ENVIRONMENT, True)
        volumes["compiled"] = (folder.parent / "compiled", "/compiled", False)  # as the image's own packages are
        environment |= {"PYTHONPATH": ENVIRONMENT, "PYTHONPYCACHEPREFIX": "/compiled", "PYTHONDONTWRITEBYTECODE": ""}
    spec = {
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "main",
                "image": image,
                "imagePullPolicy": "Never",
                "command": command,
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "volumeMounts": [{"name": k, "mountPath": at, "readOnly": ro} for k, (_, at, ro) in volumes.items()],
            }
        ],
        "volumes": [{"name": key, "hostPath": {"path": str(path)}} for key, (path, _, _) in volumes.items()],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def open_namespace(live: Live) -> Iterator[Live]:
    """Pods with folders of the machine are not restricted ones."""
    name = f"pipeline-{uuid.uuid4().hex[:6]}"
    live.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield in_namespace(live, name)
    live.cluster.kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def compiled(live: Live, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The YAML that a KFP server would take, for the images that this cluster holds."""
    references = images.ensure(catalogue.PRODUCT, choice.choose().builder(), Progress(plain=True))
    file = tmp_path_factory.mktemp("compiled") / "ctr.yaml"
    tag = references["tidegate/components"].rpartition(":")[2]
    command = [str(Path(sys.executable).with_name("tidegate")), "pipeline", "compile", "ctr_training", "-o", str(file)]
    subprocess.run(command, check=True, env=os.environ | {"TIDEGATE_IMAGE_TAG": tag})
    found: dict[str, Any] = next(yaml.safe_load_all(file.read_text()))
    return found


@pytest.fixture(scope="module")
def pods(open_namespace: Live, compiled: dict[str, Any], pipeline_run: dict[str, Any]) -> Dag:
    """The whole DAG, run in pods with the arguments of the local run."""
    folder = paths.state() / "e2e" / f"pods-{uuid.uuid4().hex[:6]}"
    lake = folder.parent / "pvc" / "lake"
    for path in (folder, lake, folder.parent / "compiled"):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
    subprocess.run(["chmod", "-R", "a+rwX", str(lake)], check=True)
    shown = folder / "views"
    subprocess.run(["cp", "-r", str(REPOSITORY / "manifests" / "examples"), str(shown)], check=True)
    given = {name: _default(d) for name, d in compiled["root"]["inputDefinitions"]["parameters"].items()}
    given |= json.loads((pipeline_run["root"] / "arguments.json").read_text())
    given |= {"views": f"{WORK}/views", "deploy_to": f"{WORK}/gitops"}
    dag = Dag(compiled, open_namespace, folder, given)
    dag.run()
    return dag


def test_every_component_ran_as_a_pod(pods: Dag, compiled: dict[str, Any]) -> None:
    assert pods.outputs.keys() == compiled["root"]["dag"]["tasks"].keys()


@pytest.mark.parametrize("artifact", ["clean/cleaned", "samples/joined", "features/training_set", "split/test_set"])
def test_pods_and_local_run_put_out_the_same_data(pods: Dag, pipeline_run: dict[str, Any], artifact: str) -> None:
    assert content_digest(pods.folder / artifact) == content_digest(artifact_of(pipeline_run, artifact))


def test_pods_and_local_run_reach_the_same_metrics(pods: Dag, pipeline_run: dict[str, Any]) -> None:
    found = json.loads(pods.outputs["evaluate"]["parameters"]["Output"])
    for contender, metrics in pipeline_run["metrics"].items():
        assert found[contender] == pytest.approx(metrics, abs=1e-3)


def test_the_package_made_in_a_pod_is_whole_and_registered(pods: Dag, live: Live) -> None:
    from tidegate_components.packaging.verify import verify

    registered = json.loads(pods.outputs["register"]["parameters"]["Output"])
    verify(pods.folder / "package" / "packaged", registered["digest"])
    assert live.alias("trained") == registered["version"]
