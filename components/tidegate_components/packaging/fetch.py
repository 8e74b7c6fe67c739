"""Fetch a package by address and digest: nothing is used before its hash was checked.

SHA256SUMS comes first and must have the digest, and a signature where a public key is given; then each file that it
lists, checked by hash and size. All of it is written beside the target and renamed at the end, so a target is whole or
absent.
"""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tidegate_components.packaging.layout import (
    MANIFEST,
    MOST_BYTES,
    MOST_SUMS_BYTES,
    SIGNATURE,
    SUMS,
    PackageError,
    most_bytes,
    package_error,
    parse_sums,
)
from tidegate_components.packaging.signature import MOST_SIGNATURE_BYTES, check_signature
from tidegate_components.packaging.verify import check_digest, verify
from tidegate_components.storage import replacing, resolve

__all__ = ["fetch"]

_CHUNK = 1 << 20
_TIMEOUT_S = 20
_SCHEMES = {"http", "https", "mlflow-artifacts"}

Opener = Callable[[str], IO[bytes]]


def fetch(uri: str, digest: str, into: Path, key: Path | None = None, name: str = "") -> Path:
    """Bring the package at `uri` to `into/package` and the golden probe to `into/golden_probe.py`; returns the package.

    With the public `key` (PEM) an unsigned or wrongly signed package is refused before any of its files is fetched;
    with a `name` a package of a model that is called otherwise.

    `uri` is a path, file://, pvc://CLAIM/PATH, http(s)://, or mlflow-artifacts:/PATH (read through the tracking server
    that MLFLOW_TRACKING_URI names). Raises PackageError for whatever is wrong; the target then stays as it was.
    """
    opener = _opener(uri)
    with replacing(into / "package") as beside:
        beside.mkdir()
        sums = _read(opener, uri, SUMS, MOST_SUMS_BYTES)
        check_digest(uri, sums, digest)
        signature = _signature(opener, uri)
        if key:
            check_signature(uri, sums, signature, key)
        left = MOST_BYTES
        for file in parse_sums(sums, uri):
            left -= _copy(opener, uri, file, beside, min(left, most_bytes(file)))
        (beside / SUMS).write_bytes(sums)
        if signature is not None:
            (beside / SIGNATURE).write_bytes(signature)
        manifest = verify(beside, digest, key)
        if name and manifest.name != name:
            raise package_error(uri, f"name in {MANIFEST}", manifest.name, name, "ask for the model by its own name")
    shutil.copyfile(Path(__file__).with_name("golden_probe.py"), into / "golden_probe.py")
    return into / "package"


def _opener(uri: str) -> Opener:
    scheme = urllib.parse.urlsplit(uri).scheme
    if scheme not in _SCHEMES:
        root = resolve(uri)
        return lambda name: _open_plain(root, name)
    root_url = _artifact_url(uri) if scheme == "mlflow-artifacts" else uri.rstrip("/")
    return lambda name: urllib.request.urlopen(f"{root_url}/{urllib.parse.quote(name)}", timeout=_TIMEOUT_S)  # noqa: S310


def _artifact_url(uri: str) -> str:
    """mlflow-artifacts:/PATH at the tracking server's artifact proxy."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not server.startswith(("http://", "https://")):
        expected = "http(s)://HOST:PORT of the tracking server"
        raise package_error(
            uri, "MLFLOW_TRACKING_URI", server, expected, "set it: mlflow-artifacts:/ is read through it"
        )
    parts = urllib.parse.urlsplit(uri)
    return f"{server.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/{urllib.parse.quote(parts.path.strip('/'))}"


def _open_plain(root: Path, name: str) -> IO[bytes]:
    path = root / name
    folders = [path.parent, *path.parent.parents][: len(Path(name).parts) - 1]
    if path.is_symlink() or any(folder.is_symlink() for folder in folders):
        raise package_error(root, name, "a symbolic link", "plain files only")
    if path.exists() and not path.is_file():
        raise package_error(root, name, "no plain file", "plain files only")
    return path.open("rb")


def _read(opener: Opener, uri: str, name: str, most: int) -> bytes:
    try:
        with opener(name) as source:
            data = source.read(most + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(uri, name, error) from error
    if len(data) > most:
        raise package_error(uri, name, f"more than {most} bytes", f"at most {most} bytes")
    return data


def _signature(opener: Opener, uri: str) -> bytes | None:
    """The signature, or None where none can be read: whoever gave a key is then told that it is missing."""
    try:
        return _read(opener, uri, SIGNATURE, MOST_SIGNATURE_BYTES)
    except PackageError:
        return None


def _copy(opener: Opener, uri: str, name: str, into: Path, most: int) -> int:
    """Copy one listed file, at most `most` bytes; returns its size."""
    target, size = into / name, 0
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with opener(name) as source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > most:
                    expected = f"at most {most_bytes(name)} bytes, and {MOST_BYTES} bytes in all"
                    raise package_error(uri, name, "larger", expected)
                sink.write(chunk)
    except (OSError, ValueError) as error:
        raise _unreadable(uri, name, error) from error
    return size


def _unreadable(uri: str, name: str, error: Exception) -> PackageError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return package_error(
        uri, name, f"unreadable: {reason}", "a readable file; check the address and that the store is up"
    )
