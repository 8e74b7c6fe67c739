"""The registry on a real MLflow server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tidegate_components.packaging.fetch import fetch
from tidegate_components.packaging.verify import verify
from tidegate_components.registry.mlflow_registry import (
    Champion,
    RegistryError,
    champion,
    readers,
    register,
    tracking_uri,
)
from unit.components.trained import Trained

pytestmark = pytest.mark.xdist_group("mlflow")  # one server for all


def test_a_package_is_registered_once_and_fetched_through_the_server(
    mlflow_url: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert champion(mlflow_url, "ctr-ranker") == Champion()
    args = (mlflow_url, trained.package, trained.digest)
    first = register(*args, "challenger", {"epochs": "2"}, {"auc": 0.71})
    again = register(*args, "champion", {"epochs": "2"}, {"auc": 0.71})
    assert first == again
    assert first.package_uri.startswith("mlflow-artifacts:/")
    assert champion(mlflow_url, "ctr-ranker") == Champion(first.version, {"auc": 0.71}, first.package_uri, first.digest)
    views = verify(trained.package, trained.digest).feature_views
    assert views
    for view, schema_hash in views.items():
        assert [(r.model, r.version, r.schema_hash) for r in readers(mlflow_url, view)] == [
            ("ctr-ranker", first.version, schema_hash)
        ]
    assert readers(mlflow_url, "nope") == []

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    assert verify(fetch(first.package_uri, first.digest, tmp_path), trained.digest).name == "ctr-ranker"


def test_a_server_that_does_not_answer_is_named_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"mlflow_uri is 'http://127.0.0.1:1'.*check the address"):
        champion("http://127.0.0.1:1", "ctr-ranker")
    assert time.monotonic() - start < 30


def test_no_address_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="pass mlflow_uri"):
        tracking_uri("")
