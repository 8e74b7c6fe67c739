"""What a model package holds, by name, and how it is addressed. Spec: "Model package" in docs/architecture.md."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from tidegate_api.errors import TidegateError
from tidegate_api.model_package import package_digest
from tidegate_components.storage import file_digest

__all__ = ["MANIFEST", "SUMS", "PackageError", "check_name", "parse_sums", "write_sums"]

MANIFEST = "model.json"
SUMS = "SHA256SUMS"
_MOST_FILES = 1000

_ALLOWED = re.compile(
    r"""^(?:model\.json | report\.html | golden/[\w.-]+\.json | reference/[\w.-]+\.json
        | repository/[\w.-]+/config\.pbtxt | repository/[\w.-]+/[0-9]+/model\.onnx)$""",
    re.VERBOSE | re.ASCII,
)


class PackageError(TidegateError):
    """A model package that is missing, altered, truncated, or holds what a package must not hold."""


def check_name(name: str, package: str) -> None:
    """Raise PackageError unless `name` is a relative path of a kind that a package may hold."""
    if ".." in PurePosixPath(name).parts or not _ALLOWED.match(name):
        raise PackageError(
            resource=f"package {package}", field=SUMS, value=name,
            expected="only model.json, report.html, golden/*.json, reference/*.json, config.pbtxt and model.onnx",
            remedy="package the model again with `tidegate pipeline run`; a package holds no code and no pickle",
        )  # fmt: skip


def parse_sums(text: bytes, package: str) -> dict[str, str]:
    """File name -> SHA-256 in hex, from the lines `HEX  NAME` of SHA256SUMS; every name is checked.

    Raises PackageError for a line of another form, a name twice, or more than a thousand files.
    """
    sums: dict[str, str] = {}
    for line in text.decode("utf-8", errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not found or found[2] in sums or len(sums) >= _MOST_FILES:
            raise PackageError(
                resource=f"package {package}", field=SUMS, value=line[:100],
                expected="lines of 64 hex digits, two spaces and a file name, each name once",
                remedy="fetch the package again or package the model again",
            )  # fmt: skip
        check_name(found[2], package)
        sums[found[2]] = found[1]
    return sums


def write_sums(package: Path) -> str:
    """Write SHA256SUMS (sorted, as `sha256sum` prints it) over every other file; returns the package's digest."""
    names = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file() and p.name != SUMS)
    for name in names:
        check_name(name, str(package))
    text = "".join(f"{file_digest(package / name)}  {name}\n" for name in names).encode()
    (package / SUMS).write_bytes(text)
    return package_digest(text)
