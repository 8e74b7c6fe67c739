"""Where a ModelDeployment is applied, and what a refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tidegate_components.deploy.model_deployment import DeployError, apply, write_deployment


def test_a_refusal_is_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = 'modeldeployments.tidegate.dev "m" is forbidden: ' + "x" * 250 + ' in the namespace "default"'

    def refuse(*_: Any, **__: Any) -> None:
        error = ApiException(status=403, reason="Forbidden")
        error.body = json.dumps({"kind": "Status", "message": sentence})
        raise error

    monkeypatch.setattr(config, "load_config", lambda: None)
    monkeypatch.setattr(client.ApiClient, "call_api", refuse)
    with pytest.raises(DeployError) as raised:
        apply(write_deployment(str(tmp_path / "m.yaml"), "m", "challenger"))
    assert sentence in str(raised.value)


@pytest.mark.parametrize(("given", "applied_in"), [("", "default"), ("shop", "shop")])
def test_it_is_applied_in_the_namespace_that_it_names(
    given: str, applied_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(config, "load_config", lambda: None)
    monkeypatch.setattr(client.ApiClient, "call_api", lambda _, path, *__, **___: asked.append(path))
    apply(write_deployment(str(tmp_path / "m.yaml"), "m", "challenger", given))
    assert asked == [f"/apis/tidegate.dev/v1alpha1/namespaces/{applied_in}/modeldeployments/m"]


def test_a_file_that_is_there_keeps_its_namespace(tmp_path: Path) -> None:
    file = write_deployment(str(tmp_path), "m", "challenger", "shop")
    write_deployment(str(tmp_path), "m", "candidate", "other")
    said = yaml.safe_load(file.read_text())
    assert said["metadata"] == {"name": "m", "namespace": "shop"}
    assert said["spec"]["model"]["registry"]["alias"] == "candidate"
