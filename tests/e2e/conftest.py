"""The real thing: node, Triton, gateway, Prometheus, Redis, MLflow and the operator, all in pods.

Files of tests run side by side, each in a namespace of its own. What is expensive is made once for all of them, and
those marked `alone` take the neighbours away, or read what all the others did.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "dev"))

from live import (  # noqa: E402
    Live,
    Trained,
    Version,
    own_namespace,
    register_versions,
    request_bodies,
    run_pipeline,
    training_run,
    whole_cluster,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What most wait for comes first, what waits for it later, and what wants the cluster to itself last."""
    waiting = {item.path for item in items if "pipeline_run" in getattr(item, "fixturenames", ())}

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("alone"):
            return 3
        return 0 if item.path.stem == "test_pipeline_run" else 2 if item.path in waiting else 1

    items.sort(key=turn)


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


def _once(common: Path, name: str, make: Callable[[], Any]) -> Any:
    """What the first process to ask has made, as JSON; the others wait for it."""
    made = common / f"{name}.json"
    with (common / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(json.dumps(make()))
    return json.loads(made.read_text())


@pytest.fixture(scope="module", autouse=True)
def company(common: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """A file of tests shares the cluster with others, or waits until they are done and keeps them out."""
    alone = request.node.get_closest_marker("alone") is not None
    with (common / "company.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="session")
def live() -> Live:
    """A cluster with everything installed from this checkout; what stands already is kept."""
    return whole_cluster()


@pytest.fixture(scope="session")
def pipeline_run(live: Live, common: Path) -> dict[str, Any]:
    """One run of the compiled DAG on this machine, into the registry of the cluster; later runs come from the cache."""
    root, given = training_run(live)
    return {"root": root, "given": given} | _once(common, "pipeline", lambda: run_pipeline(root, given))


@pytest.fixture(scope="session")
def trained(live: Live, pipeline_run: dict[str, Any], common: Path) -> Trained:
    """Versions of one trained model in the registry: two good ones, and one that fails on users it has never seen."""
    packages = common / "packages"
    versions = _once(common, "trained", lambda: [asdict(v) for v in register_versions(live, pipeline_run, packages)])
    return Trained(*(Version(**version) for version in versions), packages=packages)


@pytest.fixture(scope="module")
def shop(live: Live) -> Iterator[Live]:
    """A namespace of its own that admits restricted pods only; it is empty again when its resources are deleted."""
    with own_namespace(live) as shop:
        yield shop


@pytest.fixture(scope="module")
def bodies(shop: Live, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requests as a shop would send them, one JSON body a line."""
    return request_bodies(shop, trained, tmp_path_factory.mktemp("bodies") / "requests.jsonl")
