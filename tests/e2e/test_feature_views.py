"""FeatureViews on the real cluster: materialized by pods into the real Redis, and honest about what is wrong."""

from __future__ import annotations

import copy
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live import Live, Trained, registry

from tidegate_api.feature_view import FeatureView
from tidegate_components.features.online import open_store
from tidegate_dev import paths

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NOW = datetime.now(UTC)
CLICKS = {"user_id": [1, 1, 2], "price": [1.0, 2.0, 4.0], "event_time": [NOW - timedelta(hours=h) for h in (1, 2, 3)]}


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder of the lake, which pods see as pvc://lake/NAME."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    (paths.lake() / name).mkdir(mode=0o777)
    (paths.lake() / name).chmod(0o777)
    yield name
    shutil.rmtree(paths.lake() / name)


@pytest.fixture
def view(live: Live, folder: str) -> Iterator[dict[str, Any]]:
    """A view over that folder, removed afterwards."""
    body = copy.deepcopy(_VIEW) | {"metadata": {"name": folder}}
    body["spec"]["source"]["parquet"]["uri"] = f"pvc://lake/{folder}/clicks"
    body["spec"]["offline"]["uri"] = f"pvc://lake/{folder}/features"
    yield body
    live.cluster.kubectl.run("delete", "-n", "default", "featureview", folder, "--ignore-not-found")


_VIEW: dict[str, Any] = {
    "apiVersion": "tidegate.dev/v1alpha1",
    "kind": "FeatureView",
    "spec": {
        "entity": {"name": "user", "joinKeys": [{"name": "user_id", "type": "Int64"}]},
        "source": {"parquet": {"uri": ""}, "eventTimestamp": "event_time"},
        "features": [
            {"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}},
            {
                "name": "spend_7d",
                "type": "Float64",
                "aggregate": {"function": "sum", "column": "price", "window": "7d"},
            },
        ],
        "ttl": "30d",
        "offline": {"uri": ""},
        "online": {"redis": {"url": "redis://redis.tidegate-system:6379/0"}},
        "materialization": {"schedule": "*/15 * * * *", "suspend": True},
        "freshness": {"target": "1d"},
    },
}


def _land(folder: str, columns: dict[str, list[Any]]) -> None:
    target = paths.lake() / folder / "clicks"
    target.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), target / "part-0.parquet")


def test_a_view_becomes_ready_and_its_values_are_in_redis(live: Live, view: dict[str, Any], folder: str) -> None:
    _land(folder, CLICKS)
    live.cluster.apply(view)
    live.wait_for_reason("featureview", folder, "Ready", "Serving")
    assert live.condition("featureview", folder, "Fresh")["status"] == "True"
    parsed = FeatureView.parse(live.cluster.get("featureview", folder))
    assert parsed.status.rows == 2
    ((first, second, nobody),) = open_store(live.addresses.redis).read([(parsed, [(1,), (2,), (3,)])])
    assert first is not None
    assert second is not None
    assert (first.values, second.values, nobody) == ((2, 3.0), (1, 4.0), None)


def test_a_missing_column_is_named(live: Live, view: dict[str, Any], folder: str) -> None:
    _land(folder, {key: CLICKS[key] for key in ("user_id", "event_time")})
    live.cluster.apply(view)
    found = live.wait_for_reason("featureview", folder, "Materialized", "MaterializationFailed")
    assert "price" in found["message"]
    assert live.condition("featureview", folder, "Ready")["status"] == "False"


def test_an_empty_data_set_is_said(live: Live, view: dict[str, Any], folder: str) -> None:
    _land(folder, {"user_id": [], "price": [], "event_time": []})
    live.cluster.apply(view)
    found = live.wait_for_reason("featureview", folder, "Materialized", "MaterializationFailed")
    assert folder in found["message"]


def test_an_unreachable_online_store_is_said(live: Live, view: dict[str, Any], folder: str) -> None:
    _land(folder, CLICKS)
    view["spec"]["online"]["redis"]["url"] = "redis://redis.tidegate-system:1/0"
    live.cluster.apply(view)
    found = live.wait_for_reason("featureview", folder, "Materialized", "MaterializationFailed")
    assert "Redis" in found["message"]


def test_a_changed_view_is_materialized_anew_and_leaves_nothing_of_the_old(
    live: Live, view: dict[str, Any], folder: str
) -> None:
    _land(folder, CLICKS)
    live.cluster.apply(view)
    live.wait_for_reason("featureview", folder, "Ready", "Serving")
    view["spec"]["features"][1]["aggregate"]["function"] = "max"
    live.cluster.apply(view)

    def changed() -> tuple[bool, str]:
        parsed = FeatureView.parse(live.cluster.get("featureview", folder))
        ((stored,),) = open_store(live.addresses.redis).read([(parsed, [(1,)])])
        return stored is not None and stored.values == (2, 2.0), str(stored)

    live.cluster.wait(changed, 90, "the new definition is online")
    label = f"tidegate.dev/feature-view={folder}"
    one = lambda: (len(live.cluster.get("jobs", "-l", label)["items"]) == 1, "jobs")  # noqa: E731
    live.cluster.wait(one, 60, "the old job is gone")
    assert len(live.cluster.get("configmaps", "-l", label)["items"]) == 1


def test_deleting_a_view_leaves_no_object_behind(live: Live, view: dict[str, Any], folder: str) -> None:
    _land(folder, CLICKS)
    live.cluster.apply(view)
    live.wait_for_reason("featureview", folder, "Ready", "Serving")
    live.cluster.kubectl.run("delete", "-n", "default", "featureview", folder)

    def gone() -> tuple[bool, str]:
        found = live.cluster.get("jobs,cronjobs,configmaps,pods", "-l", f"tidegate.dev/feature-view={folder}")["items"]
        return not found, str([item["metadata"]["name"] for item in found])

    live.cluster.wait(gone, 90, "everything of the view is gone")


def test_a_model_waits_for_its_view_and_then_holds_its_schema(
    live: Live, view: dict[str, Any], folder: str, trained: Trained
) -> None:
    schema = FeatureView.parse(view).schema_hash
    live.name_views(trained.reading.number, {folder: schema})
    live.name_version(trained.reading, folder)
    live.deploy(folder, registry(folder))
    try:
        live.wait_for_reason("modeldeployment", folder, "FeaturesReady", "FeatureViewMissing")
        assert live.deployment(folder).status.canary is None
        _land(folder, CLICKS)
        live.cluster.apply(view)
        live.wait_for(folder, lambda found: found.status.stable is not None, 180, "it serves once its view is Ready")
        features = view["spec"]["features"]
        for number in range(3):
            features.append(features[0] | {"name": f"added_{number}"})
            _apply_and_wait(live, view)
        assert live.condition("featureview", folder, "SchemaCompatible")["status"] == "True"
        gone = features.pop(0)
        live.cluster.apply(view)
        held = live.wait_for_reason("featureview", folder, "SchemaCompatible", "BreakingChange")
        assert held["message"].startswith(f"Feature {gone['name']} is gone: ModelDeployment {folder} (version ")
        view["spec"]["evolution"] = "Any"
        _apply_and_wait(live, view)
    finally:
        live.cluster.kubectl.run("delete", "md", folder, "-n", live.namespace)


def _apply_and_wait(live: Live, view: dict[str, Any]) -> None:
    """The definition comes into force: the status has its schema."""
    live.cluster.apply(view)
    wanted = FeatureView.parse(view).schema_hash

    def holds() -> tuple[bool, str]:
        found = live.cluster.get("featureview", view["metadata"]["name"]).get("status", {})
        return found.get("schemaHash") == wanted, str(found.get("schemaHash"))

    live.cluster.wait(holds, 90, "the definition came into force")
