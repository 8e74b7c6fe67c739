"""A real API server of its own for a test: etcd and kube-apiserver on free loopback ports, gone with their folder.

Nothing else runs beside it: no controller, no operator, no node. The programs are those of the development cluster.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, watch
from urllib3.exceptions import HTTPError

from processes import free_ports, running

__all__ = ["api_server", "establish"]

_TOKEN = "of-a-test"


@contextmanager
def api_server(folder: Path, programs: Path) -> Iterator[client.ApiClient]:
    """Start an API server with its data in `folder`, from the folder of its programs; yields an administrator's client.

    Both processes are killed, and the data removed, when the block ends.
    """
    data = folder / "api-server"
    data.mkdir(parents=True)
    store, peers, port = free_ports(3)
    server, api = _kube_apiserver(programs, data, store, port), _administrator(port)
    try:
        with (
            running(_etcd(programs, data, store, peers), lambda: True, data / "etcd.log"),
            running(server, lambda: _is_ready(api), data / "api-server.log"),
        ):
            yield api
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _etcd(programs: Path, data: Path, port: int, peers: int) -> list[str]:
    url = f"http://127.0.0.1:{port}"
    return [
        str(programs / "etcd"), "--unsafe-no-fsync", f"--data-dir={data / 'etcd'}", "--log-level=warn",
        f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls=http://127.0.0.1:{peers}",
    ]  # fmt: skip


def _kube_apiserver(programs: Path, data: Path, store: int, port: int) -> list[str]:
    tokens, key = data / "tokens.csv", data / "service-account.key"
    tokens.write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    return [
        str(programs / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{store}", f"--secure-port={port}",
        "--bind-address=127.0.0.1", f"--cert-dir={data}", f"--token-auth-file={tokens}", "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}", "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip


def _administrator(port: int) -> client.ApiClient:
    settings = client.Configuration(host=f"https://127.0.0.1:{port}", api_key={"authorization": f"Bearer {_TOKEN}"})
    settings.verify_ssl = False  # its certificate was made a moment ago, on this machine
    settings.retries = False
    return client.ApiClient(settings)


def _is_ready(api: client.ApiClient) -> bool:
    try:
        api.call_api("/readyz", "GET", auth_settings=["BearerToken"], _preload_content=False, _request_timeout=2)
    except (client.ApiException, HTTPError):
        return False
    return True


def establish(api: client.ApiClient, files: Iterable[Path]) -> None:
    """Apply the custom resource definitions in these files, and return once the API server serves their kinds."""
    for file in files:
        body = yaml.safe_load(file.read_text())
        _apply(api, body)
        _wait_until_established(api, body["metadata"]["name"])
        _wait_until_served(api, body["spec"])


def _apply(api: client.ApiClient, body: dict[str, Any]) -> None:
    api.call_api(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{body['metadata']['name']}",
        "PATCH",
        body=body,
        query_params=[("fieldManager", "tests"), ("force", "true")],
        header_params={"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"},
        auth_settings=["BearerToken"],
        _preload_content=False,
    )


def _wait_until_established(api: client.ApiClient, name: str) -> None:
    """Watch the definition until the API server serves its kind."""
    definitions = client.ApiextensionsV1Api(api)
    only = f"metadata.name={name}"
    for event in watch.Watch().stream(
        definitions.list_custom_resource_definition, field_selector=only, timeout_seconds=30
    ):
        conditions = event["object"].status.conditions or []
        if any(item.type == "Established" and item.status == "True" for item in conditions):
            return
    raise RuntimeError(f"{name} was not established within 30 s")


def _wait_until_served(api: client.ApiClient, spec: dict[str, Any], seconds: float = 30) -> None:
    """Ask for the objects of every version until none is answered with 429: their storage is made after the fact."""
    objects, deadline = client.CustomObjectsApi(api), time.monotonic() + seconds
    for version in spec["versions"]:
        while version["served"]:
            try:
                objects.list_cluster_custom_object(spec["group"], version["name"], spec["names"]["plural"])
                break
            except client.ApiException as error:
                if error.status not in (404, 429) or time.monotonic() > deadline:
                    raise
