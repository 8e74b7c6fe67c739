"""The registry or Prometheus is away for a while: it is said, what is known stays, nothing moves blindly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live import Live, Trained, registry

pytestmark = [pytest.mark.e2e, pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def steady(shop: Live) -> Iterator[Live]:
    """A namespace of which nothing is left."""
    yield shop
    shop.cluster.kubectl.run("delete", "-n", shop.namespace, "modeldeployments", "--all")


def test_an_unreachable_registry_is_said_and_what_is_known_stays(steady: Live, trained: Trained) -> None:
    steady.name_version(trained.first, "outage")
    steady.deploy("follower", registry("outage"))
    before = steady.wait_for("follower", lambda found: found.status.stable is not None, 120, "the version serves")
    steady.scale("mlflow", 0)
    try:
        found = steady.wait_for_reason("modeldeployment", "follower", "ModelResolved", "RegistryUnreachable")
    finally:
        steady.scale("mlflow", 1)
    assert "MLFLOW_TRACKING_URI" in found["message"]
    assert steady.deployment("follower").status.stable == before.status.stable
    steady.wait_for_reason("modeldeployment", "follower", "ModelResolved", "Resolved")


def test_an_unreachable_prometheus_holds_the_rollout(steady: Live, trained: Trained) -> None:
    steady.name_version(trained.first, "blind")
    steady.deploy("blind", registry("blind"))
    steady.wait_for("blind", lambda found: found.status.stable is not None, 120, "the version serves")
    steady.scale("prometheus", 0)
    try:
        steady.name_version(trained.second, "blind")
        found = steady.wait_for_reason("modeldeployment", "blind", "MetricsAvailable", "PrometheusUnreachable")
    finally:
        steady.scale("prometheus", 1)
    assert "PROMETHEUS_URL" in found["message"]
    status = steady.deployment("blind").status
    assert status.canary is not None
    assert status.weight == 1
