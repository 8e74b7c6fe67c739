"""Verify a package on disk: signed where asked, every file listed, allowed, not too large, unaltered, and no code."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tidegate_api.model_package import ModelManifest, package_digest
from tidegate_components.packaging.contents import check_content
from tidegate_components.packaging.layout import (
    MANIFEST,
    MOST_BYTES,
    MOST_SUMS_BYTES,
    SIGNATURE,
    SUMS,
    check_name,
    most_bytes,
    package_error,
    parse_sums,
)
from tidegate_components.packaging.signature import MOST_SIGNATURE_BYTES, check_signature
from tidegate_components.storage import file_digest

__all__ = ["Verified", "check_digest", "verify", "verify_package"]


@dataclass(frozen=True)
class Verified:
    """A package that was found whole."""

    manifest: ModelManifest
    digest: str
    signed_by: str
    """Id of the public key whose signature it bears; "" where no key was given."""
    has_signature: bool
    """Whether there is a SHA256SUMS.sig, checked or not."""


def verify(package: Path, digest: str | None = None, key: Path | None = None) -> ModelManifest:
    """Check a package folder; returns its manifest. See `verify_package`."""
    return verify_package(package, digest, key).manifest


def verify_package(package: Path, digest: str | None = None, key: Path | None = None) -> Verified:
    """Check a package folder against its SHA256SUMS, `digest` (sha256:HEX) and the public `key` (PEM) where given.

    Raises PackageError that names the first file that is missing, extra, altered, too large, a link, not allowed, or
    not what its name says; and with a key, a package that is unsigned or wrongly signed. Nothing is written.
    """
    try:
        return _verified(package, digest, key)
    except OSError as error:
        field = str(error.filename or "folder")
        raise package_error(package, field, f"unreadable: {error.strerror}", "files that can be read") from error


def _verified(package: Path, digest: str | None, key: Path | None) -> Verified:
    text = _read(package, SUMS, MOST_SUMS_BYTES)
    if text is None:
        raise package_error(package, SUMS, "missing", "a SHA256SUMS file in the package folder")
    check_digest(str(package), text, digest)
    signature = _read(package, SIGNATURE, MOST_SIGNATURE_BYTES)
    signed_by = check_signature(package, text, signature, key) if key else ""
    sums = parse_sums(text, str(package))
    _check_tree(package, sums)
    _check_sizes(package, sums)
    for name, wanted in sums.items():
        _check_file(package, name, wanted)
    for name in sums:
        check_content(package, name, frozenset(sums))
    manifest = _manifest(package)
    _check_repository(package, manifest, sums)
    return Verified(manifest, package_digest(text), signed_by, signature is not None)


def check_digest(package: str, sums: bytes, digest: str | None) -> None:
    """Raise PackageError where the digest of SHA256SUMS is not the one asked for."""
    found = package_digest(sums)
    if digest is not None and found != digest:
        raise package_error(package, "digest", found, digest, _WRONG_DIGEST)


def _read(package: Path, name: str, most: int) -> bytes | None:
    """The bytes of a plain file of at most `most` bytes; None where there is none."""
    path = package / name
    if not path.is_symlink() and not path.exists():
        return None
    _check_plain(package, path)
    if path.stat().st_size > most:
        raise package_error(package, name, f"{path.stat().st_size} bytes", f"at most {most} bytes")
    return path.read_bytes()


def _check_plain(package: Path, path: Path) -> None:
    """Neither link nor folder nor pipe nor device."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "no plain file"
        raise package_error(package, path.relative_to(package).as_posix(), kind, "plain files only")


def _check_tree(package: Path, sums: dict[str, str]) -> None:
    """Every file that lies there is listed, every folder is on the way to a listed file."""
    folders = {parent.as_posix() for name in sums for parent in Path(name).parents}
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_dir() and not path.is_symlink():
            if name not in folders:
                raise package_error(package, name, "a folder", "folders of listed files only")
            continue
        _check_plain(package, path)
        if name in {SUMS, SIGNATURE}:
            continue
        check_name(name, str(package))
        if name not in sums:
            raise package_error(package, name, "a file that SHA256SUMS does not list", "listed files only")


def _check_sizes(package: Path, sums: dict[str, str]) -> None:
    """Before anything is read."""
    left = MOST_BYTES
    for name, wanted in sums.items():
        path = package / name
        if not path.is_file():
            raise package_error(package, name, "missing", f"a file with SHA-256 {wanted}")
        size, most = path.stat().st_size, most_bytes(name)
        left -= size
        if size > most or left < 0:
            expected = f"at most {most} bytes, and {MOST_BYTES} bytes in all"
            raise package_error(
                package, name, f"{size} bytes", expected, "make the model smaller, e.g. --quantize int8"
            )


def _check_file(package: Path, name: str, wanted: str) -> None:
    found = file_digest(package / name)
    if found != wanted:
        size = (package / name).stat().st_size
        raise package_error(package, name, f"SHA-256 {found} ({size} bytes)", f"SHA-256 {wanted}")


def _manifest(package: Path) -> ModelManifest:
    try:
        return ModelManifest.model_validate_json((package / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise package_error(package, MANIFEST, str(error).splitlines()[0], "a manifest as docs describe it") from error


def _check_repository(package: Path, manifest: ModelManifest, sums: dict[str, str]) -> None:
    """One model, of the manifest's name, that Triton can load."""
    home = f"repository/{manifest.name}"
    strange = [name for name in sums if name.startswith("repository/") and not name.startswith(f"{home}/")]
    if strange:
        raise package_error(package, strange[0], "of another model", f"{home}/ only, as {MANIFEST} names it")
    for name in (f"{home}/config.pbtxt", f"{home}/1/model.onnx"):
        if name not in sums:
            raise package_error(package, name, "missing", f"the model that {MANIFEST} names")


_WRONG_DIGEST = "correct the digest (--digest, spec.model.package.digest), or give the address of the package it names"
