"""The version of the code: the tag of the images that hold it, and part of every cache key."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

__all__ = ["code_version", "image"]


@cache
def code_version() -> str:
    """`TIDEGATE_IMAGE_TAG` where it is set, else twelve hex digits of the content of Tidegate's training-side code."""
    given = os.environ.get("TIDEGATE_IMAGE_TAG")
    if given:
        return given
    import tidegate_api

    roots = [Path(__file__).parent, Path(tidegate_api.__file__).parent]
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{root.name}/{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def image(name: str) -> str:
    """The image `tidegate/NAME` that holds this code, in the registry that `TIDEGATE_IMAGE_REGISTRY` names, if any."""
    registry = os.environ.get("TIDEGATE_IMAGE_REGISTRY", "").rstrip("/")
    return f"{registry}/tidegate/{name}:{code_version()}".lstrip("/")
