"""What is announced reaches people twice, as an Event and as a line of the log, in the same words."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from rollouts import START, deployment
from tidegate_operators.__main__ import JsonLines, settings_of
from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.rollout.observed import Announcement

SAID = Announcement("Normal", "StepStarted", "Version 2 starts with 1 % of the traffic.", "c9cf1234", 1)


class Api:
    """An API server's client that takes what is sent, or answers with an error."""

    def __init__(self, error: ApiException | None = None) -> None:
        self.error = error
        self.bodies: list[dict[str, Any]] = []

    def call_api(self, *_: Any, body: Any = None, **__: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.bodies.append(body)
        return (type("Answer", (), {"data": "{}"}),)


def _lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonLines().format(record)) for record in caplog.records]


def test_an_announcement_is_an_event_and_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    api = Api()
    with caplog.at_level(logging.INFO, "tidegate"):
        Cluster(api).announce(deployment(), SAID, START)
    (line,) = _lines(caplog)
    assert line["message"] == api.bodies[0]["message"] == SAID.message
    where = {"kind": "ModelDeployment", "namespace": "shop", "name": "ctr-ranker"}
    assert line.items() >= (where | {"reason": "StepStarted", "revision": "c9cf1234", "weight": 1}).items()
    assert line["level"] == "info"


def test_what_happens_again_is_another_event_and_a_look_taken_again_is_none() -> None:
    api, before = Api(), deployment()
    after = before.model_copy(update={"metadata": before.metadata.model_copy(update={"resource_version": "8"})})
    for looked_at in (before, before, after):
        Cluster(api).announce(looked_at, SAID, START)
    first, again, later = (body["metadata"]["name"] for body in api.bodies)
    assert first == again != later


def test_what_is_said_again_is_no_error_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tidegate"):
        Cluster(Api(ApiException(status=409))).announce(deployment(), SAID, START)
    assert len(_lines(caplog)) == 1


def test_the_start_line_holds_settings_and_no_password() -> None:
    environment = {"MLFLOW_TRACKING_URI": "http://me:secret@mlflow:5000", "AWS_SECRET_ACCESS_KEY": "secret"}
    found = settings_of(environment)
    assert found["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert found["version"]
    assert "secret" not in str(found)
