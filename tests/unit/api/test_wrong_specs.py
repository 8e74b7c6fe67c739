"""The offline tools refuse what the API server refuses."""

from __future__ import annotations

import copy

import pytest

from rollouts import SPEC
from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from wrong_specs import SCHEDULES, VIEW, WRONG_DEPLOYMENTS, WRONG_VIEWS, Change

METADATA = {"name": "x"}


@pytest.mark.parametrize("change", [change for change, _ in WRONG_DEPLOYMENTS])
def test_a_wrong_model_deployment_is_refused(change: Change) -> None:
    spec = copy.deepcopy(SPEC)
    change(spec)
    with pytest.raises(TidegateError):
        ModelDeployment.parse({"kind": "ModelDeployment", "metadata": METADATA, "spec": spec})


@pytest.mark.parametrize("change", [change for change, _ in WRONG_VIEWS])
def test_a_wrong_feature_view_is_refused(change: Change) -> None:
    spec = copy.deepcopy(VIEW)
    change(spec)
    with pytest.raises(TidegateError):
        FeatureView.parse({"kind": "FeatureView", "metadata": METADATA, "spec": spec})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_right_schedule_is_taken(schedule: str) -> None:
    spec = VIEW | {"materialization": {"schedule": schedule}}
    found = FeatureView.parse({"kind": "FeatureView", "metadata": METADATA, "spec": spec})
    assert found.spec.materialization.schedule == schedule


def test_addresses_in_object_stores_are_taken() -> None:
    spec = VIEW | {"offline": {"uri": "s3://features/user"}}
    assert FeatureView.parse({"kind": "FeatureView", "metadata": METADATA, "spec": spec}).spec.offline.uri
