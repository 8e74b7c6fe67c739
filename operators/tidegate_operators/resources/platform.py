"""What the operator was installed with: images and the addresses of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Platform"]


@dataclass(frozen=True)
class Platform:
    """Images and addresses that the builders put into pods."""

    components_image: str
    triton_image: str
    triton_gpu_image: str
    mlflow_uri: str
    image_pull_policy: str = "IfNotPresent"
