"""Schema changes of a FeatureView: additive ones pass, breaking ones wait for the models that read the old schema."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cluster_in_memory import VIEW, Memory, neighbours_of
from rollouts import GOOD, START, deployment
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment, ModelDeploymentStatus
from tidegate_operators.freshness.evolution import breaking_changes
from tidegate_operators.handlers import feature_view
from tidegate_operators.rollout.source import revision_of

CLICKS: dict[str, Any] = {"name": "clicks_7d", "type": "Int64", "aggregate": {"function": "count", "window": "7d"}}
SPEND: dict[str, Any] = {
    "name": "spend_7d",
    "type": "Float64",
    "aggregate": {"function": "sum", "column": "price", "window": "7d"},
}


def _view(*features: dict[str, Any], **spec: Any) -> FeatureView:
    changed = VIEW["spec"] | {"features": list(features)} | spec  # type: ignore[operator]
    return FeatureView.parse(VIEW | {"spec": changed})


def _serving(view: FeatureView) -> ModelDeployment:
    """A deployment whose stable model was trained on the view."""
    model = GOOD.model_copy(update={"feature_views": {view.metadata.name: view.schema_hash}})
    return deployment(ModelDeploymentStatus(stable=revision_of(deployment(), model)))


def _look(memory: Memory, view: FeatureView) -> dict[str, Any]:
    feature_view.reconcile(view, neighbours_of(memory), START)
    return next(item for item in memory.status["conditions"] if item["type"] == "SchemaCompatible")


def _materialized_by(memory: Memory) -> list[str]:
    """The features of the definition that the scheduled job reads."""
    name = memory.objects["CronJob", "user-activity-scheduled"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    config = memory.objects["ConfigMap", name["volumes"][0]["configMap"]["name"]]
    return [feature.name for feature in FeatureView.parse(yaml.safe_load(config["data"]["view.yaml"])).spec.features]


@pytest.fixture
def memory() -> Memory:
    """A cluster that has accepted a view of two features, with a model that reads it."""
    found = Memory()
    _look(found, _view(CLICKS, SPEND))
    body = _serving(_view(CLICKS, SPEND)).model_dump(mode="json", by_alias=True, exclude_none=True)
    found.objects["ModelDeployment", "ctr-ranker"] = body
    return found


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ([SPEND], "feature clicks_7d is gone"),
        ([CLICKS, SPEND | {"type": "Int64"}], "feature spend_7d is Int64 instead of Float64"),
        ([SPEND, CLICKS], None),
        ([CLICKS, SPEND, CLICKS | {"name": "clicks_again"}], None),
    ],
)
def test_only_what_a_reader_would_miss_breaks(new: list[dict[str, Any]], said: str | None) -> None:
    found = breaking_changes(_view(CLICKS, SPEND).spec, _view(*new).spec)
    assert found == ((said,) if said else ())


def test_other_join_keys_break() -> None:
    entity = {"name": "user", "joinKeys": [{"name": "user_id", "type": "String"}]}
    assert breaking_changes(_view(CLICKS).spec, _view(CLICKS, entity=entity).spec) == ("the join keys differ",)


def test_a_breaking_change_is_held_while_a_live_model_reads_the_old_schema(memory: Memory) -> None:
    found = _look(memory, _view(CLICKS))
    assert (found["status"], found["reason"]) == ("False", "BreakingChange")
    assert found["message"].startswith("Feature spend_7d is gone: ModelDeployment ctr-ranker (version 1")
    assert _materialized_by(memory) == ["clicks_7d", "spend_7d"]
    assert memory.status["schemaHash"] == _view(CLICKS, SPEND).schema_hash


def test_a_held_change_comes_into_force_when_the_model_is_gone(memory: Memory) -> None:
    _look(memory, _view(CLICKS))
    del memory.objects["ModelDeployment", "ctr-ranker"]
    assert _look(memory, _view(CLICKS))["status"] == "True"
    assert _materialized_by(memory) == ["clicks_7d"]


def test_nobody_asks_who_reads_a_view_that_breaks_nothing(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    listing = Memory.list
    monkeypatch.setattr(Memory, "list", lambda self, kind, *rest: listed.append(kind) or listing(self, kind, *rest))
    _look(memory, _view(CLICKS, SPEND))
    assert "ModelDeployment" not in listed
    _look(memory, _view(CLICKS))
    assert "ModelDeployment" in listed


def test_an_additive_change_passes_at_once(memory: Memory) -> None:
    more = _view(CLICKS, SPEND, CLICKS | {"name": "clicks_again"})
    assert _look(memory, more)["status"] == "True"
    assert _materialized_by(memory) == ["clicks_7d", "spend_7d", "clicks_again"]


def test_what_a_model_reads_stays_held_after_features_were_added(memory: Memory) -> None:
    _look(memory, _view(CLICKS, SPEND, CLICKS | {"name": "clicks_again"}))
    assert _look(memory, _view(CLICKS, CLICKS | {"name": "clicks_again"}))["reason"] == "BreakingChange"


def test_evolution_any_lets_a_breaking_change_pass(memory: Memory) -> None:
    assert _look(memory, _view(CLICKS, evolution="Any"))["status"] == "True"
    assert _materialized_by(memory) == ["clicks_7d"]


def test_going_back_to_an_earlier_definition_makes_it_the_newest_again(memory: Memory) -> None:
    more = _view(CLICKS, SPEND, CLICKS | {"name": "clicks_again"})
    del memory.objects["ModelDeployment", "ctr-ranker"]
    for view in (more, _view(CLICKS, SPEND), more, _view(CLICKS), _view(SPEND), _view(CLICKS)):
        _look(memory, view)
        assert _materialized_by(memory) == [feature.name for feature in view.spec.features]
    revisions = [body for (kind, _), body in memory.objects.items() if kind == "ControllerRevision"]
    assert len(revisions) <= 3
