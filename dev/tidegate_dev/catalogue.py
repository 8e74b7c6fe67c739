"""Every image that the project builds."""

from tidegate_dev import binaries
from tidegate_dev.image import Image

_PROJECT = ("pyproject.toml", "uv.lock", "README.md")

PAUSE = Image("tidegate/pause", "dev/images/pause", programs=binaries.NODE)
COREDNS = Image("tidegate/coredns", "dev/images/coredns", programs=binaries.NODE)

CLUSTER = (PAUSE, COREDNS)
"""What the cluster itself needs before anything else can run."""

PLATFORM = (
    Image("tidegate/redis", "dev/images/redis"),
    Image("tidegate/mlflow", "dev/images/mlflow"),
    Image("tidegate/gateway", "dev/images/gateway", programs=binaries.PLATFORM),
    Image("tidegate/prometheus", "dev/images/prometheus", programs=binaries.PLATFORM),
    Image("tidegate/prometheus-adapter", "dev/images/prometheus-adapter", programs=binaries.PLATFORM),
)
"""What stands beside Tidegate on one machine, and is a service of its own in production."""

PRODUCT = (
    Image("tidegate/operator", "images/operator", sources=(*_PROJECT, "operators")),
    Image(
        "tidegate/components",
        "images/components",
        sources=(*_PROJECT, "components", "pipelines", "operators/tidegate_api"),
        target="components",
    ),
    Image("tidegate/training", "images/components", same_as="tidegate/components"),
    Image("tidegate/triton", "images/triton"),
)
"""What Tidegate ships."""

EVERYTHING = (*PLATFORM, *PRODUCT)
"""What stands on the cluster in the demo and in end-to-end tests."""
