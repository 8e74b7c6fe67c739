"""Volumes that are folders of this machine: the data lake, and what the registry keeps."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate_dev import paths

POD_USER = 65532


@dataclass(frozen=True)
class Volume:
    """A folder of the machine as a volume for the one claim that may bind it."""

    name: str
    folder: Path
    claim: str
    namespace: str
    mode: str

    def prepare(self) -> None:
        """Make the folder, open to the user that our pods run as."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chown(self.folder, POD_USER, POD_USER)
        self.folder.chmod(0o2777)  # the machine's own user and the pods' write side by side

    def manifest(self) -> Mapping[str, object]:
        """Return the PersistentVolume."""
        spec = {
            "capacity": {"storage": "10Gi"},
            "accessModes": [self.mode],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"name": self.claim, "namespace": self.namespace},
            "hostPath": {"path": str(self.folder), "type": "DirectoryOrCreate"},
        }
        return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": self.name}, "spec": spec}

    def claim_manifest(self) -> Mapping[str, object]:
        """Return the claim that binds it."""
        spec = {
            "accessModes": [self.mode],
            "storageClassName": "",
            "volumeName": self.name,
            "resources": {"requests": {"storage": "10Gi"}},
        }
        metadata = {"name": self.claim, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def lake() -> Volume:
    """Return the volume that the machine and the pods of namespace `default` share."""
    return Volume("tidegate-lake", paths.lake(), "lake", "default", "ReadWriteMany")


def registry() -> Volume:
    """Return the volume under MLflow; it goes with the cluster."""
    return Volume("tidegate-mlflow", paths.state() / "volumes" / "mlflow", "mlflow", "tidegate-system", "ReadWriteOnce")
