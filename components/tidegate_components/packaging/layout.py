"""What a model package holds, by name and size, and how it is addressed. Spec: docs/model-package.md."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from tidegate_api.errors import TidegateError
from tidegate_api.model_package import package_digest
from tidegate_components.storage import file_digest

__all__ = [
    "MANIFEST",
    "MOST_BYTES",
    "MOST_SUMS_BYTES",
    "SIGNATURE",
    "SUMS",
    "PackageError",
    "check_name",
    "most_bytes",
    "package_error",
    "parse_sums",
    "write_sums",
]

MANIFEST = "model.json"
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
"""The Ed25519 signature of the bytes of SHA256SUMS: base64 in one line. The one file that SHA256SUMS cannot list."""

MOST_BYTES = 8 << 30
"""A whole package."""
MOST_SUMS_BYTES = 1 << 20
_MOST_FILES = 1000

_KINDS = (
    # names, and the most bytes that such a file may have
    (r"model\.json", 16 << 20),
    (r"report\.html", 64 << 20),
    (r"golden/[\w.-]+\.json", 16 << 20),
    (r"reference/[\w.-]+\.json", 64 << 20),
    (r"repository/[\w.-]+/config\.pbtxt", 1 << 20),
    (r"repository/[\w.-]+/[0-9]+/model\.onnx", 2 << 30),
    (r"repository/[\w.-]+/[0-9]+/model\.onnx\.data", MOST_BYTES),
)
_FAULTY = "fetch it again from where it was made, or package the model again"


class PackageError(TidegateError):
    """A model package that is missing, altered, truncated, unsigned, or holds what a package must not hold."""


def package_error(package: object, field: str, value: object, expected: str, remedy: str = _FAULTY) -> PackageError:
    """A fault of one file of a package; a name that a terminal would obey is quoted."""
    shown = field if field.isprintable() else repr(field)
    return PackageError(resource=f"package {package}", field=shown, value=value, expected=expected, remedy=remedy)


def most_bytes(name: str) -> int:
    """The most bytes that the file of this name may have; 0 for a name that a package may not hold."""
    if ".." in PurePosixPath(name).parts:
        return 0
    return next((most for pattern, most in _KINDS if re.fullmatch(pattern, name, re.ASCII)), 0)


def check_name(name: str, package: str) -> None:
    """Raise PackageError unless `name` is a relative path of a kind that a package may hold."""
    if not most_bytes(name):
        raise package_error(
            package, SUMS, name,
            "only model.json, report.html, golden/*.json, reference/*.json, config.pbtxt, model.onnx, model.onnx.data",
            "package the model again with `tidegate model package`; a package holds no code and no pickle",
        )  # fmt: skip


def parse_sums(text: bytes, package: str) -> dict[str, str]:
    """File name -> SHA-256 in hex, from the lines `HEX  NAME` of SHA256SUMS; every name is checked.

    Raises PackageError for a line of another form, a name twice, or more than a thousand files.
    """
    sums: dict[str, str] = {}
    for line in text.decode("ascii", errors="replace").removesuffix("\n").split("\n"):
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not found or found[2] in sums or len(sums) >= _MOST_FILES:
            raise package_error(
                package, SUMS, line[:100],
                "lines of 64 hex digits, two spaces and a file name, each name once",
                "fetch the package again or package the model again",
            )  # fmt: skip
        check_name(found[2], package)
        sums[found[2]] = found[1]
    return sums


def write_sums(package: Path) -> str:
    """Write SHA256SUMS (sorted, as `sha256sum` prints it) over every other file; returns the package's digest."""
    unlisted = {SUMS, SIGNATURE}
    names = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    listed = [name for name in names if name not in unlisted]
    for name in listed:
        check_name(name, str(package))
    text = "".join(f"{file_digest(package / name)}  {name}\n" for name in listed).encode()
    (package / SUMS).write_bytes(text)
    return package_digest(text)
