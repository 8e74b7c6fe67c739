"""What the operator was installed with: images and the addresses of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate_api.model_deployment import RevisionImages, Runtime

__all__ = ["Platform"]


@dataclass(frozen=True)
class Platform:
    """Images and addresses that the builders put into pods."""

    components_image: str
    triton_image: str
    triton_gpu_image: str
    mlflow_uri: str
    image_pull_policy: str = "IfNotPresent"

    def images(self, runtime: Runtime) -> RevisionImages:
        """What pods of a new revision on that runtime are made of."""
        usual = self.triton_gpu_image if runtime.gpus else self.triton_image
        return RevisionImages(fetch=self.components_image, server=runtime.image or usual)
