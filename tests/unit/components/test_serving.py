"""The served repository carries a deployment's settings; the package stays as it was verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate_components.packaging.layout import PackageError
from tidegate_components.packaging.serving import ServingSettings, lay_repository
from tidegate_components.packaging.triton import model_config


def _package(folder: Path, config: str) -> Path:
    model = folder / "package" / "repository" / "ctr-ranker"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(config)
    (model / "1" / "model.onnx").write_bytes(b"weights")
    return folder / "package"


def test_settings_change_the_served_copy_only(tmp_path: Path) -> None:
    whole = model_config("ctr-ranker", 3, 2)
    package = _package(tmp_path, whole)
    served = lay_repository(package, tmp_path, ServingSettings(2, 256, 2000)) / "ctr-ranker"
    text = (served / "config.pbtxt").read_text()
    assert "count: 2 " in text
    assert "max_batch_size: 256" in text
    assert "preferred_batch_size: [ 256 ]" in text
    assert "max_queue_delay_microseconds: 2000" in text
    assert (package / "repository" / "ctr-ranker" / "config.pbtxt").read_text() == whole


def test_without_settings_the_copy_is_the_package_s_own(tmp_path: Path) -> None:
    whole = model_config("ctr-ranker", 3, 2)
    served = lay_repository(_package(tmp_path, whole), tmp_path, ServingSettings()) / "ctr-ranker"
    assert (served / "config.pbtxt").read_text() == whole
    assert (served / "1" / "model.onnx").read_bytes() == b"weights"


def test_models_are_shared_and_not_copied(tmp_path: Path) -> None:
    served = lay_repository(_package(tmp_path, model_config("ctr-ranker", 3, 2)), tmp_path, ServingSettings(2))
    assert (served / "ctr-ranker" / "1" / "model.onnx").stat().st_nlink == 2


def test_a_setting_that_the_configuration_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"config\.pbtxt"):
        lay_repository(_package(tmp_path, 'name: "ctr-ranker"\n'), tmp_path, ServingSettings(instances=2))


def test_a_package_that_joins_up_to_no_size_takes_settings_too(tmp_path: Path) -> None:
    earlier = model_config("ctr-ranker", 3, 2).replace("preferred_batch_size: [ 128 ] ", "")
    assert "preferred" not in earlier
    served = lay_repository(_package(tmp_path, earlier), tmp_path, ServingSettings(max_batch_size=64)) / "ctr-ranker"
    text = (served / "config.pbtxt").read_text()
    assert "max_batch_size: 64" in text
    assert "preferred" not in text


@pytest.mark.parametrize(("weight_bytes", "instances"), [(0, 2), (256 << 20, 2), ((256 << 20) + 1, 1)])
def test_only_a_small_model_is_held_twice(weight_bytes: int, instances: int) -> None:
    assert f"instance_group [ {{ count: {instances} " in model_config("ctr-ranker", 3, 2, weight_bytes)


def test_a_rate_limit_is_written_into_the_served_copy(tmp_path: Path) -> None:
    package = _package(tmp_path, model_config("ctr-ranker", 3, 2))
    served = lay_repository(package, tmp_path, ServingSettings(instances=4, rate_limited=True)) / "ctr-ranker"
    text = (served / "config.pbtxt").read_text()
    assert 'count: 4 rate_limiter { resources [ { name: "runs" count: 1 } ] }' in text
    assert "response_cache" not in text


def test_a_response_cache_is_enabled_in_the_served_copy(tmp_path: Path) -> None:
    package = _package(tmp_path, model_config("ctr-ranker", 3, 2))
    served = lay_repository(package, tmp_path, ServingSettings(response_cache=True)) / "ctr-ranker"
    assert (served / "config.pbtxt").read_text().endswith("response_cache { enable: true }\n")
