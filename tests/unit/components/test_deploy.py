"""A ModelDeployment that the API server refuses: its sentence reaches the reader whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
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
