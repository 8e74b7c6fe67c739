"""Verify a package on disk: every file is listed, allowed and unaltered, and the manifest parses."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tidegate_api.model_package import ModelManifest, package_digest
from tidegate_components.packaging.layout import MANIFEST, SUMS, PackageError, check_name, parse_sums
from tidegate_components.storage import file_digest

__all__ = ["check_digest", "verify"]


def verify(package: Path, digest: str | None = None) -> ModelManifest:
    """Check a package folder against its SHA256SUMS (and `digest`, `sha256:HEX`, where given); returns its manifest.

    Raises PackageError that names the first file that is missing, extra, altered, a link, or not allowed.
    """
    sums_file = package / SUMS
    if not sums_file.is_file() or sums_file.is_symlink():
        raise package_error(package, SUMS, "missing", "a SHA256SUMS file in the package folder")
    text = sums_file.read_bytes()
    check_digest(str(package), text, digest)
    sums = parse_sums(text, str(package))
    for path in sorted(package.rglob("*")):
        _check_entry(package, path, sums)
    for name, wanted in sums.items():
        _check_file(package, name, wanted)
    return _manifest(package)


def check_digest(package: str, sums: bytes, digest: str | None) -> None:
    """Raise PackageError where the digest of SHA256SUMS is not the one asked for."""
    found = package_digest(sums)
    if digest is not None and found != digest:
        raise package_error(package, "digest", found, digest, _WRONG_DIGEST)


def _check_entry(package: Path, path: Path, sums: dict[str, str]) -> None:
    name = path.relative_to(package).as_posix()
    if path.is_symlink():
        raise package_error(package, name, "a symbolic link", "plain files only")
    if path.is_file() and name != SUMS:
        check_name(name, str(package))
        if name not in sums:
            raise package_error(package, name, "a file that SHA256SUMS does not list", "listed files only")


def _check_file(package: Path, name: str, wanted: str) -> None:
    path = package / name
    if not path.is_file():
        raise package_error(package, name, "missing", f"a file with SHA-256 {wanted}")
    found = file_digest(path)
    if found != wanted:
        raise package_error(package, name, f"SHA-256 {found} ({path.stat().st_size} bytes)", f"SHA-256 {wanted}")


def _manifest(package: Path) -> ModelManifest:
    try:
        return ModelManifest.model_validate_json((package / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise package_error(package, MANIFEST, str(error).splitlines()[0], "a manifest as docs describe it") from error


_FAULTY = "fetch it again from where it was made, or package the model again"
_WRONG_DIGEST = "correct the digest (--digest, spec.model.package.digest), or give the address of the package it names"


def package_error(package: object, field: str, value: str, expected: str, remedy: str = _FAULTY) -> PackageError:
    """A fault of one file of a package."""
    return PackageError(
        resource=f"package {package}", field=field, value=value, expected=expected, remedy=remedy,
    )  # fmt: skip
