"""model.json: what a model package says of itself. Spec: docs/model-package.md."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from tidegate_api.resource import Value

__all__ = [
    "DIGEST_PATTERN",
    "DIGEST_TAG",
    "FEATURE_VIEWS_TAG",
    "PACKAGE_TAG",
    "InputTensor",
    "ModelManifest",
    "OutputTensor",
    "Quantization",
    "SignatureFeature",
    "package_digest",
]

DIGEST_PATTERN = "^sha256:[0-9a-f]{64}$"
DIGEST_TAG = "tidegate.digest"
"""Tag of a registered version: its package's digest. The training side writes it, the serving side reads it."""
PACKAGE_TAG = "tidegate.package_uri"
"""Tag of a registered version: its package's address."""

FEATURE_VIEWS_TAG = "tidegate.feature_views"
"""Tag of a registered version: JSON of {feature view: schemaHash} that the model reads."""


class SignatureFeature(Value):
    """One column of an input tensor, and the view it comes from (none: it comes with the request).

    Features that share a `list_column` are, in order, the slots of that list: its last ids, short lists end in -1.
    """

    name: str
    view: str | None = None
    schema_hash: str | None = None
    list_column: str | None = None
    texts: bool | None = None
    """Whether the ids are XXH3-64 hashes of texts, without the highest bit."""


class InputTensor(Value):
    """An input of the model; `features` name its last axis in order. `-1` is the batch axis."""

    name: str
    datatype: Literal["FP32", "INT64"]
    shape: list[int]
    features: list[SignatureFeature]


class OutputTensor(Value):
    """An output of the model."""

    name: str
    datatype: Literal["FP32"]
    shape: list[int]


class Quantization(Value):
    """What was made smaller, and what it cost on rows that the model had not learned from."""

    method: Literal["int8"]
    """Weights of matrix products and embedding rows as 8-bit integers, each row of a table with a scale of its own."""
    tables: int
    """Embedding tables that were quantized."""
    products: int
    """Matrix products that were quantized."""
    bytes_before: int
    bytes_after: int
    auc_before: float
    auc_after: float
    rows: int
    """Rows that both AUCs are of."""


class ModelManifest(Value):
    """model.json. It never holds the registry's version number, which comes later."""

    name: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    version: Annotated[str, Field(description="The trainer's own name of this model, e.g. the run's id.")]
    inputs: list[InputTensor]
    outputs: list[OutputTensor]
    metrics: dict[str, float]
    data_digest: Annotated[str, Field(pattern=DIGEST_PATTERN)]
    code_version: str
    run: str
    quantization: Quantization | None = None

    @property
    def feature_views(self) -> dict[str, str]:
        """The schemaHash of each feature view that the model reads, by the view's name."""
        columns = [feature for tensor in self.inputs for feature in tensor.features]
        return {c.view: c.schema_hash for c in columns if c.view is not None and c.schema_hash is not None}


def package_digest(sha256sums: bytes) -> str:
    """The package's address: `sha256:` and the SHA-256 of the bytes of its SHA256SUMS file."""
    return "sha256:" + hashlib.sha256(sha256sums).hexdigest()
