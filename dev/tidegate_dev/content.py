"""Keys by content: equal inputs give an equal key, on any machine and in any checkout."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_IGNORED = {"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_LENGTH = 12


def key(*words: str, files: Iterable[Path] = (), root: Path | None = None) -> str:
    """Return 12 hex digits over the words and over name and content of every file, folders walked in order.

    Names are taken relative to `root` if given. A path that does not exist counts as such, so that making it later
    changes the key.
    """
    digest = hashlib.sha256()
    for word in words:
        _add(digest, word.encode())
    for path in files:
        for file in _walk(path):
            _add(digest, str(file.relative_to(root) if root else file.name).encode())
            _add(digest, file.read_bytes() if file.is_file() else b"absent")
    return digest.hexdigest()[:_LENGTH]


def _walk(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not _IGNORED.intersection(file.parts) and file.suffix != ".pyc":
            yield file


def _add(digest: "hashlib._Hash", part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "big") + part)
