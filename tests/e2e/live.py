"""What the end-to-end tests do to the cluster, in their own words."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client, config

from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.model_package import ModelManifest
from tidegate_components.events.movielens import fetch_movielens, movielens_tables
from tidegate_components.features.online import open_store
from tidegate_components.features.serving import FeatureService
from tidegate_components.packaging.package import Options, Provenance, package_model
from tidegate_demo.cluster import Cluster
from tidegate_demo.facts import Addresses
from tidegate_demo.install import everything
from tidegate_demo.requests import Slates, write_bodies
from tidegate_demo.traffic import Target
from tidegate_dev import paths
from tidegate_dev.progress import Progress
from tidegate_operators.adapters.cluster import Cluster as ApiServer

REPOSITORY = Path(__file__).parents[2]
MODEL = "ctr-e2e"
REVISION_HEADER = "x-tidegate-revision"
_SYSTEM = "tidegate-system"
_OPERATOR = ("-n", _SYSTEM, "-l", "app.kubernetes.io/name=tidegate-operator")


@dataclass(frozen=True)
class Version:
    """A version in the registry."""

    number: str
    digest: str
    uri: str


@dataclass(frozen=True)
class Trained:
    """Versions of one model: alike in what they answer, but for `broken`, which fails on unseen users.

    No version names FeatureViews, but for `reading` where a test says so.
    """

    first: Version
    second: Version
    broken: Version
    reading: Version
    packages: Path

    @property
    def package(self) -> Path:
        """The first version's package on this machine."""
        return self.packages / "e2e-1"


@dataclass(frozen=True)
class Live:
    """One namespace of the cluster, and the neighbours' addresses."""

    cluster: Cluster
    addresses: Addresses

    @property
    def namespace(self) -> str:
        """Where resources are made."""
        return self.cluster.namespace

    def name_version(self, version: Version, alias: str) -> None:
        """Point an alias of the model at a version, as a training run would."""
        body = {"name": MODEL, "alias": alias, "version": version.number}
        httpx.post(f"{self.addresses.mlflow}/api/2.0/mlflow/registered-models/alias", json=body).raise_for_status()

    def name_views(self, version: str, schemas: dict[str, str]) -> None:
        """Say which FeatureViews a version reads, by schemaHash: the deployment's namespace must have them."""
        body = {"name": MODEL, "version": version, "key": "tidegate.feature_views", "value": json.dumps(schemas)}
        httpx.post(f"{self.addresses.mlflow}/api/2.0/mlflow/model-versions/set-tag", json=body).raise_for_status()

    def alias(self, alias: str) -> str:
        """The version that an alias names."""
        query = {"name": MODEL, "alias": alias}
        answer = httpx.get(f"{self.addresses.mlflow}/api/2.0/mlflow/registered-models/alias", params=query)
        return str(answer.raise_for_status().json()["model_version"]["version"])

    def version_tags(self, version: Version) -> dict[str, str]:
        """What the registry was told of a version."""
        query = {"name": MODEL, "version": version.number}
        answer = httpx.get(
            f"{self.addresses.mlflow}/api/2.0/mlflow/model-versions/get", params=query
        ).raise_for_status()
        return {tag["key"]: tag["value"] for tag in answer.json()["model_version"]["tags"]}

    def deploy(self, name: str, model: dict[str, Any], **spec: Any) -> None:
        """Apply a ModelDeployment with its own host."""
        whole = _SPEC | {"model": model} | spec
        hosts = {"HTTP": ("hostnames", self.host(name)), "GRPC": ("grpcHostnames", f"grpc.{self.host(name)}")}
        asked = (hosts[protocol] for protocol in whole["routing"].get("protocols", ["HTTP"]))
        whole["routing"] = whole["routing"] | {field: [host] for field, host in asked}
        body = {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": whole,
        }
        self.cluster.apply(body)

    def host(self, name: str) -> str:
        """The host that a deployment answers to."""
        return f"{name}.{self.namespace}.example.com"

    def target(self, name: str) -> Target:
        """Where clients of a deployment send requests."""
        return Target(self.addresses.gateway.removeprefix("http://"), self.host(name), MODEL)

    def plugin(self, *words: str) -> str:
        """What `kubectl tidegate` prints."""
        command = [str(Path(sys.executable).with_name("kubectl-tidegate")), *words, "-n", self.namespace]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def deployment(self, name: str) -> ModelDeployment:
        """The deployment as it is now."""
        return ModelDeployment.parse(self._read("modeldeployment", name))

    def condition(self, kind: str, name: str, condition: str) -> dict[str, str]:
        """One condition, or nothing yet."""
        found = self._read(kind, name).get("status", {}).get("conditions", [])
        return next((item for item in found if item["type"] == condition), {})

    def _read(self, kind: str, name: str) -> dict[str, Any]:
        """One object, without a process for each look: tests look every second. Raises LookupError without one."""
        body = _api_server(self.cluster.kubectl.kubeconfig).get(_KINDS[kind], self.namespace, name)
        if body is None:
            raise LookupError(f"{kind} {self.namespace}/{name} is not there")
        return body

    def wait_for_reason(self, kind: str, name: str, condition: str, reason: str, seconds: float = 90) -> dict[str, str]:
        """Wait until a condition has a reason; returns it."""

        def holds() -> tuple[bool, str]:
            found = self.condition(kind, name, condition)
            return found.get("reason") == reason, json.dumps(found)

        self.cluster.wait(holds, seconds, f"{kind} {name}: {condition} with reason {reason}")
        return self.condition(kind, name, condition)

    def golden_status(self, name: str, package: Path) -> int:
        """The HTTP status with which a deployment answers a golden request of a package, through the gateway."""
        body = next((package / "golden").glob("request-*.json")).read_text()
        return httpx.post(self.target(name).url, content=body, headers={"Host": self.host(name)}).status_code

    def wait_for_refusal(self, name: str, *words: str) -> None:
        """Wait until the new revision's package is refused with a sentence of these words; it has no traffic then."""

        def refused() -> tuple[bool, str]:
            found = self.condition("modeldeployment", name, "Progressing")
            said = all(word in found.get("message", "") for word in words)
            return found.get("reason") == "PackageRefused" and said, str(found)

        self.cluster.wait(refused, 90, f"a refusal that names {words}")
        assert self.deployment(name).status.weight == 0

    def wait_for(
        self, name: str, holds: Callable[[ModelDeployment], bool], seconds: float, what: str
    ) -> ModelDeployment:
        """Wait until the deployment is as wanted; returns it."""

        def look() -> tuple[bool, str]:
            found = self.deployment(name)
            return holds(found), str(found.status.message)

        self.cluster.wait(look, seconds, what)
        return self.deployment(name)

    def kill_operator(self) -> None:
        """Kill the operator where it stands; its Deployment starts another."""
        self.cluster.kubectl.run("delete", "pod", *_OPERATOR, "--force", "--grace-period=0")

    def scale(self, deployment: str, replicas: int) -> None:
        """Take a neighbour away, or bring it back."""
        self.cluster.kubectl.run("scale", "-n", _SYSTEM, f"deployment/{deployment}", f"--replicas={replicas}")
        if replicas:
            self.cluster.kubectl.run("rollout", "status", "-n", _SYSTEM, f"deployment/{deployment}", "--timeout=120s")

    def leader(self) -> str:
        """The operator that leads; waits while one that was killed by another test has let go."""

        def holder() -> str:
            lease = self.cluster.kubectl.get("lease", "tidegate-operator", "-n", _SYSTEM)
            return str(lease["spec"].get("holderIdentity") or "")

        self.cluster.wait(lambda: (bool(holder()), "nobody leads"), 60, "an operator leads")
        return holder()

    def pods(self, name: str) -> list[dict[str, Any]]:
        """The servers' pods, those that are going included."""
        found: list[dict[str, Any]] = self.cluster.get("pods", "-l", f"tidegate.dev/deployment={name}")["items"]
        return found

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and sentence of each Event about a resource."""
        items = self.cluster.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
        return [(item["reason"], item["message"]) for item in items]

    def owned(self, name: str) -> list[str]:
        """Whatever carries the deployment's label."""
        kinds = "deployments,services,hpa,httproutes,grpcroutes,pods"
        return self.cluster.kubectl.run(
            "get",
            kinds,
            "-n",
            self.namespace,
            "-l",
            f"tidegate.dev/deployment={name}",
            "-o",
            "name",
            "--ignore-not-found",
        ).split()


_KINDS = {kind.lower(): kind for kind in ("ModelDeployment", "FeatureView")}


@functools.cache
def _api_server(kubeconfig: str) -> ApiServer:
    settings = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=settings)
    return ApiServer(client.ApiClient(settings))


_SPEC: dict[str, Any] = {
    "runtime": {"gpus": 0, "backend": "onnxruntime", "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}},
    "scaling": {"minReplicas": 1, "maxReplicas": 2, "targets": [{"queueTime": "50ms"}]},
    "routing": {
        "gatewayRef": {"name": "public", "namespace": "gateways"},
        "protocols": ["HTTP", "GRPC"],
        "revisionHeader": REVISION_HEADER,
    },
    "strategy": {"canary": {"steps": [{"setWeight": w} for w in (1, 5, 20, 100)]}},
    "analysis": {
        "interval": "5s",
        "minSamples": 100,
        "metrics": [
            {"name": "errors", "role": "guard", "margin": 0.005, "errorRate": {}},
            {"name": "slow", "role": "guard", "margin": 0.1, "slowRequests": {"above": "1000ms"}},
        ],
    },
    "progressDeadline": "10m",
}


def registry(alias: str) -> dict[str, Any]:
    """spec.model that follows an alias."""
    return {"registry": {"name": MODEL, "alias": alias, "promotedAlias": f"{alias}-champion"}}


def package(version: Version, **changed: Any) -> dict[str, Any]:
    """spec.model that pins a package."""
    return {"package": {"uri": version.uri, "digest": version.digest, "name": MODEL} | changed}


def stable_is(version: Version) -> Callable[[ModelDeployment], bool]:
    """Whether a version serves."""
    return lambda found: found.status.stable is not None and found.status.stable.version == version.number


def packaged(run: dict[str, Any], into: Path, name: str, options: Options) -> str:
    """Package the model that a run of the DAG trained, as of a run of that name; returns the digest."""
    model, test_set, report = (artifact_of(run, a) for a in ("train/model", "split/test_set", "evaluate/report"))
    facts = Provenance(MODEL, name, "e2e", "sha256:" + "0" * 64, {"auc": 0.7})
    return package_model(model, test_set, report, into, facts, options=options)


def register_versions(live: Live, run: dict[str, Any], packages: Path) -> list[Version]:
    """Package the trained model, also as one that is broken and as copies alike in all but their run; register each."""
    made = {"e2e-1": Options(), "e2e-3": Options(unknown_ids="error")}
    digests = {name: packaged(run, packages / name, name, options) for name, options in made.items()}
    digests |= {name: _copied(packages / "e2e-1", packages / name) for name in ("e2e-2", "e2e-4")}
    return [_register(live, packages / name, digests[name]) for name in sorted(digests)]


def _copied(package: Path, into: Path) -> str:
    """The same package of another run; returns its digest."""
    shutil.copytree(package, into)
    return _reworded(into, package.name, into.name)


def renamed(package: Path, into: Path, name: str) -> str:
    """The same package of a model of another name; returns its digest."""
    shutil.copytree(package, into)
    (into / "repository" / MODEL).rename(into / "repository" / name)
    return _reworded(into, MODEL, name)


def _reworded(package: Path, word: str, other: str) -> str:
    """The package with another word in what it says of itself, listed anew; returns its digest."""
    from tidegate_components.packaging.layout import MANIFEST, write_sums

    for file in (package / MANIFEST, *package.rglob("config.pbtxt")):
        file.write_text(file.read_text().replace(f'"{word}"', f'"{other}"'))
    return write_sums(package)


def upload(live: Live, package: Path, place: str) -> str:
    """Put a package among the registry's artifacts; returns its address."""
    root = f"{live.addresses.mlflow}/api/2.0/mlflow-artifacts/artifacts/{place}"
    for file in (path for path in package.rglob("*") if path.is_file()):
        httpx.put(f"{root}/{file.relative_to(package)}", content=file.read_bytes()).raise_for_status()
    return f"mlflow-artifacts:/{place}"


def _register(live: Live, package: Path, digest: str) -> Version:
    from tidegate_components.registry.mlflow_registry import register

    done = register(live.addresses.mlflow, package, digest, "e2e", {}, {"auc": 0.7})
    live.name_views(done.version, {})
    return Version(done.version, done.digest, done.package_uri)


def training_run(live: Live) -> tuple[Path, dict[str, str]]:
    """Where the DAG runs, and with what: whoever runs it after the first finds its steps in the cache."""
    root = paths.state() / "e2e" / "pipeline"
    given = {"mlflow_uri": live.addresses.mlflow, "model_name": MODEL, "alias": "trained", "epochs": "2"}
    given |= {"views": str(REPOSITORY / "manifests" / "examples"), "gate_margin": "1", "deploy_to": f"{root}/gitops"}
    return root, given


def run_pipeline(root: Path, given: dict[str, str]) -> dict[str, Any]:
    """What `tidegate pipeline run` prints."""
    words = [word for name, value in given.items() for word in ("--param", f"{name}={value}")]
    command = [str(Path(sys.executable).with_name("tidegate")), "pipeline", "run", "ctr_training", "--json"]
    environment = os.environ | {"TIDEGATE_PVC_ROOT": str(paths.state() / "e2e" / "pvc")}
    done = subprocess.run(
        [*command, "--root", str(root), *words],
        check=False,
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def artifact_of(run: dict[str, Any], artifact: str) -> Path:
    """STEP/ARTIFACT of the newest run that has it: a cached step left its artifact in an earlier one."""
    runs = sorted((run["root"] / "runs").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    return next(each / artifact for each in runs if (each / artifact).exists())


def corrupted(package_folder: Path, into: Path) -> Path:
    """A copy of a package with one byte of its model changed."""
    shutil.copytree(package_folder, into)
    model = next(into.rglob("model.onnx"))
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    return into


def request_bodies(live: Live, trained: Trained, into: Path, new_users: float = 0.0) -> Path:
    """Requests as a shop would send them, one JSON body a line; a share of them from users that are new."""
    views = [FeatureView.load(file) for file in sorted((REPOSITORY / "manifests" / "examples").glob("*-*y.yaml"))]
    manifest = ModelManifest.model_validate_json((trained.package / "model.json").read_text())
    impressions = movielens_tables(fetch_movielens())["impressions"].slice(0, 5000).to_pylist()
    service = FeatureService(views, open_store(live.addresses.redis))
    write_bodies(into, manifest, service, impressions, Slates(new_users=new_users))
    return into


def in_namespace(live: Live, namespace: str) -> Live:
    """The same cluster, another namespace."""
    return replace(live, cluster=replace(live.cluster, namespace=namespace))


def whole_cluster() -> Live:
    """A cluster with everything installed from this checkout; what stands already is kept."""
    installed = everything(Progress(plain=True))
    return Live(installed.cluster, installed.addresses)


@contextmanager
def own_namespace(live: Live) -> Iterator[Live]:
    """A namespace of its own that admits restricted pods only; it goes at the end."""
    name = f"shop-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    live.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield in_namespace(live, name)
    finally:
        live.cluster.kubectl.run("delete", "namespace", name, "--wait=false")
