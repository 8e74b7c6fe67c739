"""Landing: the interaction log as feature views read it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tidegate_components.storage import content_digest, replacing

__all__ = ["land"]


def land(folder: Path, lake: Path) -> str:
    """Put the clean `interactions` of `folder` into `lake/interactions/` in one step; returns their content digest.

    Landing the same events again changes nothing, not even a file's time.
    """
    target = lake / "interactions"
    with tempfile.TemporaryDirectory() as scratch:
        landed = Path(scratch) / "interactions"
        landed.mkdir()
        shutil.copyfile(folder / "interactions.parquet", landed / "part-0.parquet")
        digest = content_digest(landed)
        if not (target.is_dir() and content_digest(target) == digest):
            with replacing(target) as beside:
                shutil.copytree(landed, beside)
    return digest
