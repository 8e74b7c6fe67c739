"""The package step of the DAG signs where it is given a key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from tidegate_components.packaging.signature import PRIVATE, PUBLIC, KeyFileError, keygen
from tidegate_components.packaging.verify import verify_package
from tidegate_components.steps import kfp_components as steps
from unit.components.trained import Trained


def artifact(kind: Any, path: Path) -> Any:
    return kind(name=path.name, uri=str(path), metadata={})


def package(trained: Trained, packaged: Any, sign_key: str) -> str:
    train, _, test = (artifact(dsl.Dataset, path) for path in trained.sets)
    model, report = artifact(dsl.Model, trained.folder / "model"), artifact(dsl.HTML, trained.folder / "report.html")
    metrics = json.dumps({"wide_deep": {"auc": 0.7}})
    words = (model, train, test, report, metrics, "ctr-ranker", "code-1", "fold", sign_key, packaged)
    digest: str = steps.package.python_func(*words)
    return digest


def test_a_key_signs_the_package_and_a_wrong_one_ends_the_step_at_once(trained: Trained, tmp_path: Path) -> None:
    keygen(tmp_path / "keys")
    packaged = artifact(dsl.Model, tmp_path / "packaged")
    with pytest.raises(KeyFileError, match="no private Ed25519 key"):
        package(trained, packaged, str(tmp_path / "keys" / PUBLIC))
    digest = package(trained, packaged, str(tmp_path / "keys" / PRIVATE))
    assert packaged.metadata["signed"] == "true"
    assert verify_package(Path(packaged.path), digest, tmp_path / "keys" / PUBLIC).signed_by
