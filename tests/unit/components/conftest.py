"""Real servers and a small trained model, once per test process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_broker import Broker, broker
from processes import free_port
from unit.components.servers import mlflow_server, redis_server, serve_all_slots
from unit.components.sharing import once, shared_folder
from unit.components.trained import Trained, load_shop, train_shop

os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
"""Spark and Kafka live for a minute: what the optimizing compiler takes on two cores it does not give back."""


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis Cluster of one node: it refuses commands across slots as a larger one does."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis_server(tmp_path_factory.mktemp("redis-cluster"), *options) as url:
        serve_all_slots(url)
        yield url


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once, whichever of the parallel test processes comes first."""
    folder = shared_folder(tmp_path_factory) / "trained"
    with once(folder) as first:
        if first:
            train_shop(folder)
    return load_shop(folder)


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIDEGATE_PVC_ROOT", str(tmp_path / "pvc"))
    return tmp_path / "pvc"
