"""Files as the rooms share them: addresses, whole writes, content digests."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate_api.errors import TidegateError

__all__ = ["BadLocationError", "cache_folder", "content_digest", "file_digest", "parquet_files", "replacing", "resolve"]

_CHUNK = 1 << 20


class BadLocationError(TidegateError):
    """An address that leads nowhere, or that this machine cannot read."""


def resolve(uri: str, claims: dict[str, Path] | None = None) -> Path:
    """Turn an address into a path: a plain path, `file://PATH`, or `pvc://CLAIM/PATH`.

    A claim is looked up in `claims`, else it lies under `$TIDEGATE_PVC_ROOT` (`/mnt/pvc` where a pod mounts it).
    Raises BadLocationError for any other scheme and for a claim path that climbs out of its claim.
    """
    scheme, found, rest = uri.partition("://")
    if not found:
        return Path(uri)
    if scheme == "file":
        return Path("/" + rest.lstrip("/"))
    if scheme == "pvc":
        return _in_claim(uri, rest, claims or {})
    raise BadLocationError(
        resource="address",
        field="uri",
        value=uri,
        expected="a path, file://PATH or pvc://CLAIM/PATH",
        remedy="mount the data or copy it to one of these",
    )


def _in_claim(uri: str, rest: str, claims: dict[str, Path]) -> Path:
    claim, _, inside = rest.partition("/")
    if not claim or ".." in Path(inside).parts:
        raise BadLocationError(
            resource="address",
            field="uri",
            value=uri,
            expected="pvc://CLAIM/PATH without '..'",
            remedy="name the PersistentVolumeClaim and a path inside it",
        )
    root = claims.get(claim) or Path(os.environ.get("TIDEGATE_PVC_ROOT", "/mnt/pvc")) / claim
    return root / inside


def cache_folder() -> Path:
    """The user's cache of things that are addressed by content (XDG_CACHE_HOME)."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "tidegate"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a fresh path beside `target`; when the block ends well it becomes `target`, else it is removed.

    A reader sees the old content or the new, never a half. Files and folders alike. Raises BadLocationError, and leaves
    all as it was, where `target` holds what is not of the new one's kind: a folder where a file should be or the other
    way round, or in a folder anything that is neither named nor typed like what the new one holds.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    _remove(beside)
    try:
        yield beside
        _swap(beside, target)
    finally:
        _remove(beside)


def _check_replaceable(beside: Path, target: Path) -> None:
    if not target.exists() or (target.is_file() and beside.is_file()):
        return
    if target.is_dir() and beside.is_dir():
        new = list(beside.iterdir())
        names, kinds = {path.name for path in new}, {path.suffix for path in new if path.is_file()}
        strange = [
            p for p in target.iterdir() if not {p.name, p.stem} & names and not (p.is_file() and p.suffix in kinds)
        ]
    else:
        strange = [target] if target.is_file() or any(target.iterdir()) else []
    if strange:
        raise BadLocationError(
            resource=str(target), field="content", value=strange[0].name,
            expected="nothing there, or what an earlier run wrote", remedy="name another place, or remove it first",
        )  # fmt: skip


def _swap(beside: Path, target: Path) -> None:
    _check_replaceable(beside, target)
    if not target.is_dir():
        os.replace(beside, target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    _remove(old)
    os.replace(target, old)
    os.replace(beside, target)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files at a file, folder (searched deeply) or glob, sorted by name; empty if there are none."""
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))
    return sorted(p for p in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if p.is_file())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def content_digest(path: Path) -> str:
    """`sha256:` and a digest of a data set: of each file's name below `path` and its bytes, whatever their order.

    Of a glob: of the Parquet files that it names.
    """
    if path.is_dir():
        names = {file: str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    else:
        names = {file: file.name for file in parquet_files(path)}
    lines = [f"{file_digest(file)}  {names[file]}\n" for file in sorted(names)]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
