"""The Python of a contender that is not among this project's packages: uv installs it aside, with what it asks for."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["DEEPCTR", "FUXICTR", "python_with"]

_BESIDE = ("pyarrow", "scikit-learn", "torch==2.14.1", "setuptools<81")
FUXICTR = ("fuxictr==2.3.10", *_BESIDE)
DEEPCTR = ("deepctr-torch==0.3.0", *_BESIDE)


def python_with(*packages: str) -> list[str]:
    """The words that start this Python with these packages and none of ours."""
    uv = str(Path(sys.executable).with_name("uv"))
    wanted = [word for package in packages for word in ("--with", package)]
    return [uv, "run", "--quiet", "--no-project", "--python", sys.executable, *wanted, "python", "-W", "ignore"]
