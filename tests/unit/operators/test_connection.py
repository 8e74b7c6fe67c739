"""Whom the plugin speaks to: what kubectl would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidegate_api.errors import TidegateError
from tidegate_operators.cli.connection import Connection, choose


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Contexts `staging`, which is the current one, and `prod`."""
    contexts = [
        {"name": n, "context": {"cluster": "c", "user": "u", "namespace": f"of-{n}"}} for n in ("staging", "prod")
    ]
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": "staging", "contexts": contexts}
    body |= {"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}]}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(body | {"users": [{"name": "u", "user": {"token": "t"}}]}))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    yield path
    choose(None, None)


def test_the_namespace_is_that_of_the_chosen_context_unless_one_is_named(kubeconfig: Path) -> None:
    choose(str(kubeconfig), None)
    assert (Connection(None).namespace, Connection("shop").namespace) == ("of-staging", "shop")
    choose(str(kubeconfig), "prod")
    assert Connection(None).namespace == "of-prod"


def test_a_context_that_is_not_there_is_named(kubeconfig: Path) -> None:
    choose(str(kubeconfig), "nope")
    with pytest.raises(TidegateError, match=r"expected a kubeconfig with nope .*--context"):
        Connection(None)
