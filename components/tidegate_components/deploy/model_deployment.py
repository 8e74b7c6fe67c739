"""The ModelDeployment of a registered model, as YAML in a file or GitOps folder, or applied to a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tidegate_api.errors import TidegateError
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.resource import API_VERSION
from tidegate_components.storage import replacing, resolve

__all__ = ["DeployError", "apply", "deployment_body", "write_deployment"]


class DeployError(TidegateError):
    """The cluster refuses the ModelDeployment or does not answer."""


def deployment_body(model: str, alias: str, namespace: str = "") -> dict[str, Any]:
    """A ModelDeployment that follows `alias` of `model` by canary, with the built-in guards; settings to start from.

    Without a namespace whoever applies it decides.
    """
    spec = {
        "model": {"registry": {"name": model, "alias": alias, "promotedAlias": "champion"}},
        "runtime": {"gpus": 0, "backend": "onnxruntime"},
        "scaling": {"minReplicas": 1, "maxReplicas": 4, "targets": [{"cpuUtilization": 70}]},
        "routing": {"gatewayRef": {"name": "public"}, "protocols": ["HTTP"], "hostnames": [f"{model}.example.com"]},
        "strategy": {
            "canary": {"steps": [_weight(1), _pause("1m"), _weight(5), _pause("1m"), _weight(20), _pause("1m")]}
        },
        "analysis": {
            "minSamples": 500,
            "metrics": [
                {"name": "errors", "role": "guard", "margin": 0.005, "errorRate": {}},
                {"name": "slow", "role": "guard", "margin": 0.01, "slowRequests": {"above": "100ms"}},
            ],
        },
    }
    metadata = {"name": model} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


def _weight(percent: int) -> dict[str, Any]:
    return {"setWeight": percent}


def _pause(duration: str) -> dict[str, Any]:
    return {"pause": {"duration": duration}}


def write_deployment(target: str, model: str, alias: str, namespace: str = "") -> Path:
    """Write the ModelDeployment to a file (*.yaml), or as MODEL.yaml into a folder such as a GitOps checkout.

    Where the file is there already, only `spec.model` changes: namespace, routing, scaling and strategy are people's
    own; and a file that says the same already is left untouched. Raises TidegateError where the result is no
    ModelDeployment.
    """
    path = resolve(target)
    file = path if path.suffix in {".yaml", ".yml"} else path / f"{model}.yaml"
    body = deployment_body(model, alias, namespace)
    if file.is_file():
        there = ModelDeployment.load(file)
        if there.spec.model.to_dict() == body["spec"]["model"]:
            return file
        kept = yaml.safe_load(file.read_text())
        body = {**kept, "spec": {**kept["spec"], "model": body["spec"]["model"]}}
    ModelDeployment.parse(body, origin=str(file))
    with replacing(file) as beside:
        beside.write_text(yaml.safe_dump(body, sort_keys=False, width=120))
    return file


def apply(file: Path) -> None:
    """Apply a written ModelDeployment by server-side apply under the field manager `tidegate-pipeline`.

    One that names no namespace goes to `default`.

    Uses the pod's service account or the kubeconfig. Raises DeployError with the API server's own sentence.
    """
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError

    body = yaml.safe_load(file.read_text())
    name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "default")
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/modeldeployments/{name}"
    try:
        config.load_config()
        client.ApiClient().call_api(
            path, "PATCH", query_params=[("fieldManager", "tidegate-pipeline"), ("force", "true")],
            header_params={"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"},
            body=body, auth_settings=["BearerToken"], response_type="object", _request_timeout=30,
        )  # fmt: skip
    except (ApiException, ConfigException, HTTPError) as error:
        raise DeployError(
            resource=f"ModelDeployment {name}", field="apply", value="refused",
            expected=f"an API server that accepts it ({_reason(error)})",
            remedy="check KUBECONFIG, or the rights of the pod's service account",
        ) from error  # fmt: skip


def _reason(error: Exception) -> str:
    """The API server's own sentence, whole."""
    try:
        return str(json.loads(getattr(error, "body", None) or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error)[:500]
