"""The operator with rights in one namespace: it serves that one, and neither sees nor misses the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, Trained, own_namespace, package, registry, stable_is

from tidegate_dev.install import with_images

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600)]

OVERLAY = Path(__file__).parents[2] / "manifests" / "overlays" / "namespaced"
OPERATOR, SHARED = "tidegate-operator", "tidegate-operator-shared"


@pytest.fixture(scope="module")
def nobody(live: Live) -> Iterator[None]:
    """The operator of the whole cluster is away meanwhile."""
    live.scale(OPERATOR, 0)
    yield
    live.scale(OPERATOR, 1)


@pytest.fixture(scope="module")
def alone(nobody: None, shop: Live) -> Iterator[Live]:
    """The operator, installed into the shop's namespace by the overlay, with the images of the cluster's own."""
    kubectl = shop.cluster.kubectl
    text = kubectl.kustomize(OVERLAY).replace("namespace: shop", f"namespace: {shop.namespace}")
    kubectl.apply(with_images(text, _images(shop)))
    kubectl.run("rollout", "status", "-n", shop.namespace, f"deployment/{OPERATOR}", "--timeout=120s")
    yield shop
    kubectl.run("delete", "modeldeployments", "--all", "-n", shop.namespace)
    kubectl.run("delete", "clusterrole,clusterrolebinding", SHARED)


def _images(live: Live) -> dict[str, str]:
    """What the cluster's own operator runs on and gives to pods, by name."""
    where = ("-n", "tidegate-system")
    template = live.cluster.kubectl.get("deployment", OPERATOR, *where)["spec"]["template"]["spec"]
    config = live.cluster.kubectl.get("configmap", OPERATOR, *where)["data"]
    found = [template["containers"][0]["image"], *(value for name, value in config.items() if name.endswith("_IMAGE"))]
    return {image.partition(":")[0]: image for image in found}


def test_a_rollout_in_its_namespace_goes_as_anywhere(alone: Live, trained: Trained) -> None:
    alone.name_version(trained.first, "alone")
    alone.deploy("ranker", registry("alone"), analysis={"metrics": []})
    alone.wait_for("ranker", stable_is(trained.first), 180, "the first version serves")
    alone.name_version(trained.second, "alone")
    alone.wait_for("ranker", stable_is(trained.second), 180, "the second version is promoted")


def test_other_namespaces_are_left_alone(alone: Live, live: Live, trained: Trained) -> None:
    with own_namespace(live) as other:
        other.deploy("foreign", package(trained.first))
        alone.deploy("own", package(trained.first))
        alone.wait_for("own", lambda found: found.status.stable is not None, 180, "what was applied later serves")
        assert "status" not in other.cluster.get("modeldeployment", "foreign")


def test_it_tries_nothing_that_it_may_not(alone: Live) -> None:
    log = alone.cluster.kubectl.run("logs", "-n", alone.namespace, f"deployment/{OPERATOR}")
    assert "was promoted" in log, "it is this operator that did it"
    assert [line for line in log.splitlines() if "forbidden" in line.lower()] == []
