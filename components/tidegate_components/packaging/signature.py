"""Ed25519 signatures of packages (RFC 8032): who made a package, where its digest says only that it is whole.

`SHA256SUMS.sig` is the base64 of the 64 bytes of the signature over the bytes of SHA256SUMS, and a newline; nothing
else is accepted, so that no other file is a signature too. OpenSSL agrees:

    base64 -d SHA256SUMS.sig > raw
    openssl pkeyutl -verify -rawin -pubin -inkey public-key.pem -in SHA256SUMS -sigfile raw
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.errors import TidegateError
from tidegate_components.packaging.layout import SIGNATURE, SUMS, package_error

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "MOST_SIGNATURE_BYTES",
    "PRIVATE",
    "PUBLIC",
    "KeyFileError",
    "check_signature",
    "check_signing_key",
    "key_id",
    "keygen",
    "sign",
]

PRIVATE, PUBLIC = "signing-key.pem", "public-key.pem"
MOST_SIGNATURE_BYTES = 1024
_MOST_KEY_BYTES = 64 << 10
_PUBLIC_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----")


class KeyFileError(TidegateError):
    """A key file that is missing, or holds no such key."""


def keygen(folder: Path) -> tuple[Path, Path]:
    """Make a new pair of keys in a folder, as PEM; returns (private, readable by its owner only; public).

    Raises KeyFileError where one lies there: a key that is overwritten is lost.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = folder / PRIVATE, folder / PUBLIC
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise _bad(path, "there already", "a folder without keys", "name another folder, or move the old keys away")
    key = Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    _write_secret(private, _private_pem(key))
    public.write_bytes(_public_pem(key))
    return private, public


def _write_secret(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(package: Path, key: Path) -> str:
    """Write SHA256SUMS.sig with the private key (PEM) at `key`; returns the key's id. The digest stays as it was.

    It signs what SHA256SUMS says: verify the package first. Raises KeyFileError for a file without such a key, and
    PackageError where there is no SHA256SUMS.
    """
    private = _read_private(key)
    if (package / SUMS).is_symlink() or not (package / SUMS).is_file():
        raise package_error(package, SUMS, "missing or no plain file", "a package to sign")
    sums = (package / SUMS).read_bytes()
    beside = package.with_name(f".{package.name}.{os.getpid()}.sig")
    beside.write_bytes(base64.b64encode(private.sign(sums)) + b"\n")
    os.replace(beside, package / SIGNATURE)
    return _id_of(private.public_key())


def check_signing_key(key: Path) -> str:
    """The id of the private key (PEM) in a file; raises KeyFileError where there is none, before work is wasted."""
    return _id_of(_read_private(key).public_key())


def key_id(key: Path) -> str:
    """Names the first public key (PEM) in a file: `ed25519:` and 16 hex digits of the SHA-256 of its 32 bytes."""
    return _id_of(_read_public(key)[0])


def check_signature(package: object, sums: bytes, signature: bytes | None, key: Path) -> str:
    """Raise PackageError unless `signature` is of `sums` by a public key in the PEM file `key`; returns that key's id.

    A file may hold several keys, so that an old and a new one are taken while keys change.
    """
    from cryptography.exceptions import InvalidSignature

    keys = _read_public(key)
    raw = _raw(package, signature)
    for public in keys:
        try:
            public.verify(raw, sums)
        except InvalidSignature:
            continue
        return _id_of(public)
    known = ", ".join(_id_of(public) for public in keys)
    raise package_error(
        package, SIGNATURE, "a signature of other content or by another key", f"one by {known} over {SUMS}",
        "take the package from whom you trust, or give the public key of whoever signed it",
    )  # fmt: skip


def _raw(package: object, signature: bytes | None) -> bytes:
    """The 64 bytes; only their canonical base64 is taken."""
    if signature is None:
        raise package_error(
            package, SIGNATURE, "missing", "a signature, since a public key was given",
            "sign it where it was made: `tidegate model sign PACKAGE --sign KEY`",
        )  # fmt: skip
    try:
        raw = base64.b64decode(signature.removesuffix(b"\n"), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 64 or base64.b64encode(raw) + b"\n" != signature:
        raise package_error(package, SIGNATURE, signature[:100], "base64 of 64 bytes and a newline")
    return raw


def _id_of(public: Ed25519PublicKey) -> str:
    return "ed25519:" + hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _read_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = _parsed(path, lambda data: load_pem_private_key(data, password=None))
    if not isinstance(found, Ed25519PrivateKey):
        raise _bad(path, "no private Ed25519 key", *_WANTED_PRIVATE)
    return found


def _read_public(path: Path) -> list[Ed25519PublicKey]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = _parsed(path, lambda data: [load_pem_public_key(block) for block in _PUBLIC_BLOCK.findall(data)])
    keys = [key for key in found if isinstance(key, Ed25519PublicKey)]
    if not keys or len(keys) != len(found):
        raise _bad(path, "no public Ed25519 key", *_WANTED_PUBLIC)
    return keys


_WANTED_PRIVATE = (
    "an unencrypted private Ed25519 key as PEM",
    "make keys with `tidegate model keygen --out DIR`, and give signing-key.pem",
)
_WANTED_PUBLIC = (
    "public Ed25519 keys as PEM",
    "give public-key.pem of `tidegate model keygen`, or what `openssl pkey -in KEY -pubout` prints",
)


def _parsed(path: Path, parse: Any) -> Any:
    """What a key file holds, or None where it does not parse. The content is never shown."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise _bad(path, f"unreadable: {error.strerror}", "a key file as PEM", "check the path") from error
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return []


def _bad(path: Path, value: str, expected: str, remedy: str) -> KeyFileError:
    return KeyFileError(resource=f"key {path}", field="file", value=value, expected=expected, remedy=remedy)
