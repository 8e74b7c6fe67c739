"""Whether a file of a package is inside what its name says: JSON, HTML, ONNX or a configuration, and never code."""

from __future__ import annotations

import json
from pathlib import Path

from tidegate_components.packaging.layout import package_error
from tidegate_components.packaging.onnx_form import DATA, OnnxFaultError, check_onnx
from tidegate_components.packaging.triton_form import ConfigFaultError, check_config

__all__ = ["check_content"]


def check_content(package: Path, name: str, listed: frozenset[str]) -> None:
    """Raise PackageError unless the file `name` holds what it must; `listed` are the names in SHA256SUMS."""
    try:
        _check(package / name, listed, package)
    except (ConfigFaultError, OnnxFaultError) as error:
        raise package_error(package, name, str(error), "a file that describes a model and nothing more") from error
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError and JSON's own are ValueErrors
        reason = str(error).splitlines()[0][:200]
        raise package_error(package, name, f"something else ({reason})", "what its name says, no pickle") from error


def _check(path: Path, listed: frozenset[str], package: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_text("utf-8"))
    elif path.suffix == ".html":
        _check_html(path.read_text("utf-8"))
    elif path.suffix == ".pbtxt":
        check_config(path.read_text("utf-8"), path.parent.name)
    elif path.suffix == ".onnx":
        data = path.with_name(DATA)
        check_onnx(path, data.stat().st_size if data.relative_to(package).as_posix() in listed else None)


def _check_html(text: str) -> None:
    if not text.lstrip().startswith("<") or "\0" in text:
        raise ValueError("no HTML")
