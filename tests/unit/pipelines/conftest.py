"""The shop as a folder of event tables and views, for pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.components.shop import write_shop, write_views


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder / "events")
    write_views(folder / "views")
    return folder
