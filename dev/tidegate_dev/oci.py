"""The folder of image layers between buildah and containerd, in the layout of the Open Container Initiative.

Every layer lies in it once, by digest and uncompressed. An image goes to containerd as an archive of only the layers
that are not there yet, so that a change of one line of source moves a few megabytes.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def label(reference: str) -> str:
    """Return the image's name inside the folder, where it must hold neither slash nor colon."""
    return reference.replace("/", "_").replace(":", "_")


def archive(folder: Path, reference: str, present: set[str], target: IO[bytes]) -> None:
    """Write the image named `reference` as an archive, without the blobs whose digests are in `present`."""
    entry = _entry(folder, reference)
    index = {"schemaVersion": 2, "manifests": [{**entry, "annotations": {_CONTAINERD_NAME: reference}}]}
    with tarfile.open(fileobj=target, mode="w|") as tar:
        _add(tar, "oci-layout", _LAYOUT)
        _add(tar, "index.json", json.dumps(index).encode())
        for digest in _blobs(folder, entry["digest"]):
            if digest not in present:
                tar.add(_path(folder, digest), f"blobs/{digest.replace(':', '/')}")


def _entry(folder: Path, reference: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = json.loads((folder / "index.json").read_text())["manifests"]
    return next(entry for entry in entries if entry.get("annotations", {}).get(_NAME) == label(reference))


def _blobs(folder: Path, manifest: str) -> Iterator[str]:
    """Yield the digests of the manifest, of its configuration and of its layers, each once."""
    document = json.loads(_path(folder, manifest).read_text())
    layers = [layer["digest"] for layer in document["layers"]]
    yield from dict.fromkeys([manifest, document["config"]["digest"], *layers])


def _path(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
