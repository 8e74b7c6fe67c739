"""Whatever is wrong ends in a condition with a sentence, and stable traffic is untouched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import MODEL, Live, Trained, Version, corrupted, package, registry, upload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STEADY = "steady"


@pytest.fixture(scope="module")
def steady(shop: Live, trained: Trained) -> Iterator[Live]:
    """A deployment by pinned package that serves throughout."""
    shop.deploy(STEADY, package(trained.first))
    shop.wait_for(STEADY, lambda found: found.status.stable is not None, 180, "the pinned package serves")
    yield shop
    shop.cluster.kubectl.run("delete", "-n", shop.namespace, "modeldeployments", "--all")


@pytest.fixture(autouse=True)
def stable_is_untouched(steady: Live, trained: Trained) -> Iterator[None]:
    """Before and after each test, stable is the same revision and answers the golden request."""
    before = _answer(steady, trained)
    yield
    assert _answer(steady, trained) == before


def _answer(live: Live, trained: Trained) -> tuple[str, int]:
    stable = live.deployment(STEADY).status.stable
    assert stable is not None
    return stable.hash, live.golden_status(STEADY, trained.package)


def _rollout_stops(live: Live, model: dict[str, Any], *words: str) -> None:
    """A new revision of the steady deployment does not start, and says why."""
    live.deploy(STEADY, model)
    live.wait_for_refusal(STEADY, *words)


@pytest.fixture
def pinned(steady: Live, trained: Trained) -> Iterator[Live]:
    """The steady deployment, brought back to its good package afterwards."""
    yield steady
    steady.deploy(STEADY, package(trained.first))
    steady.wait_for(STEADY, lambda found: found.status.canary is None, 60, "the good package is asked for again")


def test_a_wrong_digest_is_refused(pinned: Live, trained: Trained) -> None:
    wrong = "sha256:" + "1" * 64
    _rollout_stops(pinned, package(trained.second, digest=wrong), "digest is", wrong)


def test_a_missing_package_is_said_to_be_missing(pinned: Live, trained: Trained) -> None:
    _rollout_stops(pinned, package(trained.second, uri="mlflow-artifacts:/nowhere"), "nowhere")


def test_a_corrupt_package_is_refused(pinned: Live, trained: Trained, tmp_path: Path) -> None:
    folder = corrupted(trained.package.with_name("e2e-2"), tmp_path / "corrupt")
    tampered = Version("", trained.second.digest, upload(pinned, folder, "e2e/corrupt"))
    _rollout_stops(pinned, package(tampered), "model.onnx")


def test_an_alias_that_names_nothing_is_said(steady: Live) -> None:
    steady.deploy("nameless", registry("nobody"))
    found = steady.wait_for_reason("modeldeployment", "nameless", "ModelResolved", "ModelNotFound")
    assert "nobody" in found["message"]
    assert "spec.model.registry" in found["message"]


def test_a_gateway_that_does_not_exist_is_said(steady: Live, trained: Trained) -> None:
    routing = {"gatewayRef": {"name": "nowhere", "namespace": "gateways"}, "protocols": ["HTTP"]}
    steady.deploy("stranded", package(trained.first), routing=routing)
    found = steady.wait_for_reason("modeldeployment", "stranded", "RoutesAccepted", "GatewayNotFound")
    assert "gateways/nowhere" in found["message"]
    assert "spec.routing.gatewayRef" in found["message"]
    assert steady.condition("modeldeployment", "stranded", "Progressing")["status"] == "False"
    assert "has 100 %" not in str(steady.deployment("stranded").status.message)


def test_the_registry_s_tags_decide_and_not_its_files(steady: Live, trained: Trained) -> None:
    """A version that Tidegate did not package is not rolled out."""
    root = f"{steady.addresses.mlflow}/api/2.0/mlflow"
    first = httpx.get(f"{root}/model-versions/get", params={"name": MODEL, "version": trained.first.number}).json()
    body = {"name": MODEL, "source": trained.first.uri, "run_id": first["model_version"]["run_id"]}
    made = httpx.post(f"{root}/model-versions/create", json=body)
    number = made.raise_for_status().json()["model_version"]["version"]
    steady.name_version(Version(number, "", ""), "foreign")
    steady.deploy("foreign", registry("foreign"))
    found = steady.wait_for_reason("modeldeployment", "foreign", "ModelResolved", "NotAPackage")
    assert "tidegate.digest" in found["message"], json.dumps(found)
