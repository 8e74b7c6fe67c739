"""What the operator would apply: restricted, owned, named by revision, routes in lockstep."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cluster_in_memory import PLATFORM, VIEW
from rollouts import GOOD, NEXT, deployment, revision
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeploymentStatus
from tidegate_operators.resources.materialization import materialization_objects
from tidegate_operators.resources.platform import Platform
from tidegate_operators.resources.routes import route_objects
from tidegate_operators.resources.server import server_objects
from tidegate_operators.resources.stream import stream_objects
from tidegate_operators.rollout.source import revision_of

NOBODY = ModelDeploymentStatus()
BOTH = {
    "gatewayRef": {"name": "public"},
    "protocols": ["HTTP", "GRPC"],
    "hostnames": ["ctr.example.com"],
    "grpcHostnames": ["grpc.ctr.example.com"],
}


def _server(**spec: Any) -> dict[str, dict[str, Any]]:
    owner = deployment(**spec)
    return {body["kind"]: body for body in server_objects(owner, revision_of(owner, GOOD), 2, PLATFORM)}


def _pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = _server(**spec)["Deployment"]["spec"]["template"]["spec"]
    return found


def test_server_objects_share_the_revision_s_name() -> None:
    assert {body["metadata"]["name"] for body in _server().values()} == {f"ctr-ranker-{revision(GOOD)}"}


def test_a_server_goes_when_its_deployment_goes() -> None:
    owners = [body["metadata"]["ownerReferences"][0] for body in _server().values()]
    assert all(owner["uid"] == "u-1" and owner["kind"] == "ModelDeployment" for owner in owners)


def test_replicas_are_left_to_the_hpa() -> None:
    found = _server()
    assert "replicas" not in found["Deployment"]["spec"]
    assert found["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2


def test_a_change_of_runtime_leaves_the_pods_of_a_standing_revision_alone() -> None:
    standing = revision_of(deployment(), GOOD)
    changed = deployment(runtime={"gpus": 0, "backend": "onnxruntime", "instances": 4, "responseCache": "64Mi"})
    assert server_objects(changed, standing, 2, PLATFORM)[1] == server_objects(deployment(), standing, 2, PLATFORM)[1]


def test_an_upgrade_of_the_operator_restarts_no_pod() -> None:
    owner = deployment()
    standing = revision_of(owner, GOOD, PLATFORM.images(owner.spec.runtime))
    upgraded = Platform("components:2", "triton:cpu2", "triton:gpu2", "http://mlflow:5000")
    assert server_objects(owner, standing, 2, upgraded)[1] == server_objects(owner, standing, 2, PLATFORM)[1]


def test_every_container_meets_the_restricted_standard() -> None:
    pod = _pod()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False


def test_the_package_is_fetched_by_digest_before_triton_starts() -> None:
    (fetch,) = _pod()["initContainers"]
    assert GOOD.digest in fetch["command"]
    assert fetch["image"] == "components:1"


_BY_ALIAS = {"registry": {"name": "ctr-ranker", "alias": "challenger"}}
_SECRET = {"publicKeyFrom": {"secretKeyRef": {"name": "model-keys", "key": "public.pem"}}}
_CONFIG_MAP = {"publicKeyFrom": {"configMapKeyRef": {"name": "model-keys", "key": "public.pem"}}}


@pytest.mark.parametrize(
    ("verify", "kind", "named"), [(_SECRET, "secret", "secretName"), (_CONFIG_MAP, "configMap", "name")]
)
def test_a_demanded_signature_reaches_the_fetch_as_a_read_only_file(
    verify: dict[str, Any], kind: str, named: str
) -> None:
    pod = _pod(model=_BY_ALIAS | {"verify": verify})
    volume = {"items": [{"key": "public.pem", "path": "public-key.pem"}], "optional": True, named: "model-keys"}
    assert {"name": "public-key", kind: volume} in pod["volumes"]
    (fetch,), (triton,) = pod["initContainers"], pod["containers"]
    assert fetch["command"][-2:] == ["--key", "/keys/public-key.pem"]
    assert {"name": "public-key", "mountPath": "/keys", "readOnly": True} in fetch["volumeMounts"]
    assert "public-key" not in {mount["name"] for mount in triton["volumeMounts"]}


def test_without_a_demand_nothing_is_mounted() -> None:
    pod = _pod()
    assert "--key" not in pod["initContainers"][0]["command"]
    assert "public-key" not in {volume["name"] for volume in pod["volumes"]}


def test_a_change_of_the_key_restarts_no_pod_of_a_standing_revision() -> None:
    standing = revision_of(deployment(), GOOD)
    demanding = deployment(model=_BY_ALIAS | {"verify": _SECRET})
    assert revision_of(demanding, GOOD).hash == standing.hash
    assert server_objects(demanding, standing, 2, PLATFORM)[1] == server_objects(deployment(), standing, 2, PLATFORM)[1]


def test_what_the_runtime_says_reaches_the_served_configuration() -> None:
    batching = {"maxBatchSize": 256, "maxQueueDelay": "2ms"}
    pod = _pod(runtime={"gpus": 0, "backend": "onnxruntime", "instances": 2, "batching": batching})
    command = pod["initContainers"][0]["command"]
    assert command[-3:] == ["--instances=2", "--max-batch-size=256", "--max-queue-delay-us=2000"]


def test_a_pod_is_started_by_golden_requests_and_ready_by_the_model_s_version() -> None:
    (triton,) = _pod()["containers"]
    assert "/models/golden_probe.py" in triton["startupProbe"]["exec"]["command"]
    assert triton["readinessProbe"]["httpGet"]["path"] == "/v2/models/ctr-ranker/versions/1/ready"
    assert triton["lifecycle"]["preStop"] == {"sleep": {"seconds": 10}}


@pytest.mark.parametrize(("gpus", "image"), [(0, "triton:cpu"), (1, "triton:gpu")])
def test_the_image_follows_the_gpus(gpus: int, image: str) -> None:
    (triton,) = _pod(runtime={"gpus": gpus, "backend": "onnxruntime"})["containers"]
    assert triton["image"] == image
    assert ("nvidia.com/gpu" in triton["resources"]["limits"]) is bool(gpus)


def test_a_claim_in_the_address_is_mounted_read_only() -> None:
    pod = _pod()
    assert {"name": "pvc-models", "persistentVolumeClaim": {"claimName": "models"}} in pod["volumes"]
    mounts = {mount["name"]: mount for mount in pod["initContainers"][0]["volumeMounts"]}
    assert mounts["pvc-models"] == {"name": "pvc-models", "mountPath": "/mnt/pvc/models", "readOnly": True}


def test_the_response_cache_is_given_in_bytes() -> None:
    (triton,) = _pod(runtime={"gpus": 0, "backend": "onnxruntime", "responseCache": "256Mi"})["containers"]
    assert "--cache-config=local,size=268435456" in triton["args"]


def test_scaling_targets_become_hpa_metrics() -> None:
    targets = [{"queueTime": "5ms"}, {"cpuUtilization": 70}, {"requestsPerSecond": 50}]
    hpa = _server(scaling={"minReplicas": 1, "maxReplicas": 3, "targets": targets})["HorizontalPodAutoscaler"]
    queue, cpu, rate = hpa["spec"]["metrics"]
    assert queue["pods"]["target"]["averageValue"] == "5000u"
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert rate["pods"]["metric"]["name"] == "tidegate_requests_per_second"


def test_both_routes_carry_the_same_weights() -> None:
    owner = deployment(routing=BOTH)
    http, grpc = route_objects(owner, NOBODY, {revision(GOOD): 95, revision(NEXT): 5})
    weights = [{b["name"]: b["weight"] for b in body["spec"]["rules"][0]["backendRefs"]} for body in (http, grpc)]
    assert weights[0] == weights[1] == {f"ctr-ranker-{revision(GOOD)}": 95, f"ctr-ranker-{revision(NEXT)}": 5}
    assert http["spec"]["hostnames"] != grpc["spec"]["hostnames"]


def test_answers_name_their_revision_where_a_header_is_given_for_it() -> None:
    owner = deployment(routing=BOTH | {"revisionHeader": "x-tidegate-revision"})
    for route in route_objects(owner, NOBODY, {revision(GOOD): 95, revision(NEXT): 5}):
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            (told,) = backend["filters"][0]["responseHeaderModifier"]["set"]
            assert told["name"] == "x-tidegate-revision"
            assert backend["name"].endswith(told["value"])


def test_triton_s_repository_and_trace_controls_are_not_routed() -> None:
    http, grpc = route_objects(deployment(routing=BOTH), NOBODY, {revision(GOOD): 100})
    paths = {match["path"]["value"] for match in http["spec"]["rules"][0]["matches"]}
    assert all(match["path"]["type"] == "Exact" for match in http["spec"]["rules"][0]["matches"])
    assert not any("repository" in path or "trace" in path for path in paths)
    methods = {match["method"]["method"] for match in grpc["spec"]["rules"][0]["matches"]}
    assert "RepositoryModelUnload" not in methods


def test_nobody_ready_means_no_route() -> None:
    assert route_objects(deployment(), NOBODY, {}) == []
    assert route_objects(deployment(), NOBODY, {revision(GOOD): 0}) == []


def test_a_view_is_materialized_now_and_by_schedule_from_the_same_definition() -> None:
    view = FeatureView.parse(VIEW)
    config, job, cron = materialization_objects(view, PLATFORM)
    assert FeatureView.parse(yaml.safe_load(config["data"]["view.yaml"])).schema_hash == view.schema_hash
    assert job["spec"] == cron["spec"]["jobTemplate"]["spec"]
    assert cron["spec"]["suspend"] is True
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_online_address_stays_in_its_secret() -> None:
    _, job, _ = materialization_objects(FeatureView.parse(VIEW), PLATFORM)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    address = next(item for item in container["env"] if item["name"] == "REDIS_URL")
    assert address["valueFrom"]["secretKeyRef"] == {"name": "redis", "key": "url"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/mnt/pvc/lake", "/mnt/pvc/features"}


def test_a_changed_computation_gets_a_job_of_its_own() -> None:
    view = FeatureView.parse(VIEW)
    changed = FeatureView.parse(VIEW | {"spec": VIEW["spec"] | {"ttl": "1d"}})  # type: ignore[operator]
    names = {materialization_objects(item, PLATFORM)[1]["metadata"]["name"] for item in (view, changed)}
    assert len(names) == 2


def test_the_claim_of_the_feature_log_is_mounted_too() -> None:
    log = {"featureLog": {"parquet": {"uri": "pvc://serving/log"}}}
    view = FeatureView.parse(VIEW | {"spec": VIEW["spec"] | log})  # type: ignore[operator]
    (container,) = materialization_objects(view, PLATFORM)[1]["spec"]["template"]["spec"]["containers"]
    assert "/mnt/pvc/serving" in {mount["mountPath"] for mount in container["volumeMounts"]}


def _topic_view(**spec: Any) -> FeatureView:
    source = {"kafka": {"bootstrapServers": "kafka:9092", "topic": "events"}, "eventTimestamp": "event_time"}
    return FeatureView.parse(VIEW | {"spec": VIEW["spec"] | {"source": source} | spec})  # type: ignore[operator]


def test_a_topic_is_streamed_by_one_restricted_pod_from_the_same_definition() -> None:
    config, deployment = stream_objects(_topic_view(materialization={"schedule": "*/15 * * * *"}), PLATFORM)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert config["metadata"]["name"] == deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    assert container["command"][:4] == ["tidegate", "features", "stream", "/view/view.yaml"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_a_suspended_stream_has_no_pod() -> None:
    assert stream_objects(_topic_view(), PLATFORM)[1]["spec"]["replicas"] == 0


def test_a_response_cache_is_given_to_the_server_and_enabled_for_the_model() -> None:
    pod = _pod(runtime={"gpus": 0, "backend": "onnxruntime", "responseCache": "16Mi"})
    assert "--response-cache" in pod["initContainers"][0]["command"]
    assert "--cache-config=local,size=16777216" in pod["containers"][0]["args"]


def test_a_rate_limit_reaches_the_server_and_its_configuration() -> None:
    pod = _pod(runtime={"gpus": 0, "backend": "onnxruntime", "rateLimit": {"maxConcurrency": 2}})
    assert "--rate-limited" in pod["initContainers"][0]["command"]
    assert {"--rate-limit=execution_count", "--rate-limit-resource=runs:2"} <= set(pod["containers"][0]["args"])


def test_a_revision_tolerates_the_drain_of_a_node_pod_by_pod() -> None:
    budget = _server()["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"]["tidegate.dev/revision"] == revision(GOOD)


def test_gpu_utilization_is_a_metric_of_the_pods() -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 2, "targets": [{"gpuUtilization": 70}], "scaleDownDelay": "1m"}
    runtime = {"gpus": 1, "backend": "onnxruntime"}
    spec = _server(scaling=scaling, runtime=runtime)["HorizontalPodAutoscaler"]["spec"]
    (metric,) = spec["metrics"]
    assert metric["pods"]["metric"]["name"] == "tidegate_gpu_utilization_ratio"
    assert metric["pods"]["target"]["averageValue"] == "700m"
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 60


_ALSO = {"name": "calibrator", "uri": "pvc://side/calibrator", "digest": NEXT.digest}


def test_further_models_are_fetched_loaded_and_asked_before_a_pod_is_ready() -> None:
    pod = _pod(
        model=_BY_ALIAS | {"verify": _SECRET}, runtime={"gpus": 0, "backend": "onnxruntime", "alsoServe": [_ALSO]}
    )
    (_, fetch), (triton,) = pod["initContainers"], pod["containers"]
    assert {_ALSO["uri"], _ALSO["digest"], "/models/also/calibrator", "calibrator"} <= set(fetch["command"])
    assert "--key" in fetch["command"], "whoever demands a signature demands it of every model"
    assert "pvc-side" in {volume["name"] for volume in pod["volumes"]}
    assert {"--model-repository=/models/also/calibrator/repository", "--load-model=calibrator"} <= set(triton["args"])
    assert "/models/also/calibrator/package" in triton["startupProbe"]["exec"]["command"]


def test_a_further_model_is_reached_as_long_as_anybody_serves_it() -> None:
    serving = revision_of(deployment(runtime={"gpus": 0, "backend": "onnxruntime", "alsoServe": [_ALSO]}), GOOD)
    (route,) = route_objects(deployment(), ModelDeploymentStatus(stable=serving), {serving.hash: 100})
    paths = {match["path"]["value"] for match in route["spec"]["rules"][0]["matches"]}
    assert {f"/v2/models/{name}/infer" for name in ("ctr-ranker", "calibrator")} <= paths
    assert not any("config" in path or "repository" in path for path in paths)


def test_a_further_model_makes_a_revision_of_its_own_and_none_changes_no_revision() -> None:
    runtime = {"gpus": 0, "backend": "onnxruntime"}
    plain, joined = (revision_of(deployment(runtime=r), GOOD) for r in (runtime, runtime | {"alsoServe": [_ALSO]}))
    assert plain.hash == revision_of(deployment(), GOOD).hash
    assert joined.hash != plain.hash
