"""The offline tools refuse what the API server refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rollouts import SPEC
from tidegate_api.admission import InvalidResourceError, admit
from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.resource import API_VERSION
from wrong_specs import REFUSED_DEPLOYMENTS, REFUSED_VIEWS, SCHEDULES, VIEW, WRONG_DEPLOYMENTS, WRONG_VIEWS, Change

METADATA = {"name": "x"}


@pytest.mark.parametrize("change", [change for change, _ in WRONG_DEPLOYMENTS])
def test_a_wrong_model_deployment_is_refused(change: Change) -> None:
    spec = copy.deepcopy(SPEC)
    change(spec)
    with pytest.raises(TidegateError):
        ModelDeployment.parse({"kind": "ModelDeployment", "metadata": METADATA, "spec": spec})


def _refusal(kind: str, spec: dict[str, Any], name: str = "ctr-ranker") -> str:
    """What admission says of a whole object; nothing where it takes it."""
    try:
        admit({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
    except InvalidResourceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("change", "sentence"), REFUSED_DEPLOYMENTS, ids=[said for _, said in REFUSED_DEPLOYMENTS])
def test_admission_says_of_a_wrong_model_deployment_what_the_api_server_says(change: Change, sentence: str) -> None:
    spec = copy.deepcopy(SPEC)
    change(spec)
    assert sentence in _refusal("ModelDeployment", spec)


@pytest.mark.parametrize(("change", "sentence"), REFUSED_VIEWS, ids=[said for _, said in REFUSED_VIEWS])
def test_admission_says_of_a_wrong_feature_view_what_the_api_server_says(change: Change, sentence: str) -> None:
    spec = copy.deepcopy(VIEW)
    change(spec)
    assert sentence in _refusal("FeatureView", spec)


def test_admission_takes_what_is_right() -> None:
    assert _refusal("ModelDeployment", SPEC) == _refusal("FeatureView", VIEW) == ""


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
