"""An image on its way to containerd: an archive in the layout of the Open Container Initiative.

It holds only the layers that are not there yet, so that a change of one line of source moves a few megabytes.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def archive(folder: Path, reference: str, present: set[str], target: IO[bytes]) -> None:
    """Write the image that buildah put into `folder` as an archive, under the name `reference`.

    Layers whose digests are in `present` are left out.
    """
    manifest = (folder / "manifest.json").read_bytes()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    entry = {"mediaType": _MANIFEST, "digest": digest, "size": len(manifest), "annotations": {_NAME: reference}}
    with tarfile.open(fileobj=target, mode="w|") as tar:
        _add(tar, "oci-layout", _LAYOUT)
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        _add(tar, _place(digest), manifest)
        for blob in _blobs(manifest):
            if blob not in present:
                tar.add(folder / blob.removeprefix("sha256:"), _place(blob))


def _blobs(manifest: bytes) -> Iterator[str]:
    """Yield the digests of the configuration and of the layers, each once."""
    document = json.loads(manifest)
    yield from dict.fromkeys([document["config"]["digest"], *(layer["digest"] for layer in document["layers"])])


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
