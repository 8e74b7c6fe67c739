"""The compiled DAG is the same for the same code, and parameters are checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate_components.code_version import code_version
from tidegate_pipelines.catalogue import Compiled, PipelineError, compile_pipeline, parse_params

pytestmark = pytest.mark.xdist_group("pipelines")  # kfp compiles once for all: slow where torch is loaded too


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compile_pipeline("ctr_training", tmp_path_factory.mktemp("compiled") / "ctr.yaml")


def executors(compiled: Compiled) -> dict[str, Any]:
    spec = next(yaml.safe_load_all(compiled.file.read_text()))
    found: dict[str, Any] = spec["deploymentSpec"]["executors"]
    return found


def test_the_same_code_compiles_to_the_same_bytes(compiled: Compiled, tmp_path: Path) -> None:
    assert compile_pipeline("ctr-training", tmp_path / "x").file.read_bytes() == compiled.file.read_bytes()


def test_every_step_of_the_way_is_there_by_a_readable_name(compiled: Compiled) -> None:
    assert len(compiled.titles) == 15
    assert {
        "Ingest",
        "Clean",
        "Validate",
        "Join samples",
        "Point-in-time features",
        "Split by time",
        "Train",
    } <= {*compiled.titles.values()}


def test_images_carry_the_code_version_and_pods_their_resources(compiled: Compiled) -> None:
    containers = [executor["container"] for executor in executors(compiled).values()]
    images = {container["image"] for container in containers}
    assert images == {f"tidegate/components:{code_version()}", f"tidegate/training:{code_version()}"}
    assert all(container["resources"]["memoryRequest"] for container in map(_resources, containers))


def _resources(container: dict[str, Any]) -> dict[str, Any]:
    resources = container["resources"]
    return {"resources": {"memoryRequest": resources.get("memoryRequest") or resources.get("resourceMemoryRequest")}}


def test_no_step_installs_packages_at_run_time(compiled: Compiled) -> None:
    assert "pip install" not in compiled.file.read_text()


def test_steps_that_touch_the_outside_are_never_cached(compiled: Compiled) -> None:
    tasks = next(yaml.safe_load_all(compiled.file.read_text()))["root"]["dag"]["tasks"]
    fresh = {name for name, task in tasks.items() if not task.get("cachingOptions", {}).get("enableCache")}
    assert fresh == {"look", "land", "read-champion", "register", "deploy"}


def test_every_step_that_is_given_an_address_has_the_claim_lake(compiled: Compiled) -> None:
    spec, platform = yaml.safe_load_all(compiled.file.read_text())
    mounted = {
        n for n, e in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items() if "pvcMount" in e
    }
    addresses = {"data", "views", "lake", "expectations", "deploy_to"}
    tasks = spec["root"]["dag"]["tasks"].items()
    told = {f"exec-{name}" for name, task in tasks if addresses & task["inputs"].get("parameters", {}).keys()}
    assert mounted == told


def test_params_get_their_declared_types(compiled: Compiled) -> None:
    found = parse_params(["epochs=3", "gate_margin=0.1", "apply=true", "hidden=8,4"], compiled)
    assert found == {"epochs": 3, "gate_margin": 0.1, "apply": True, "hidden": "8,4"}


@pytest.mark.parametrize("text", ["epoch=3", "epochs", "epochs=three", "apply=maybe"])
def test_a_wrong_param_is_named(compiled: Compiled, text: str) -> None:
    with pytest.raises(PipelineError, match="correct --param"):
        parse_params([text], compiled)


def test_an_unknown_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="name is 'nope', expected one of ctr_training"):
        compile_pipeline("nope", tmp_path / "x.yaml")
