"""Where a model comes from, and what its package must show."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tidegate_api.fields import MetricName, ModelName, Name, PackageDigest, PackageUri, SchemaHash
from tidegate_api.resource import Value
from tidegate_api.rules import rule

__all__ = ["KeyPlace", "KeyRef", "ModelSource", "PackageSource", "PublicKeyFrom", "RegistrySource", "Verification"]


class RegistrySource(Value):
    """A model in MLflow's registry, followed by alias."""

    rules: ClassVar = [
        rule(
            "!has(self.promotedAlias) || self.promotedAlias != self.alias",
            "promotedAlias must differ from alias: the one is moved by the operator, the other by whoever trains",
        )
    ]

    name: ModelName
    """The registered model."""
    alias: Annotated[MetricName, Field(description="Polled; where it points is rolled out.")]
    promoted_alias: Annotated[
        MetricName | None, Field(description="Moved by the operator, and only by it, after promotion.")
    ] = None

    @model_validator(mode="after")
    def _aliases_differ(self) -> RegistrySource:
        if self.promoted_alias == self.alias:
            raise ValueError("a promotedAlias that differs from alias")
        return self


class PackageSource(Value):
    """A model package pinned by digest."""

    uri: PackageUri
    """A folder: http(s)://, mlflow-artifacts:/PATH, pvc://CLAIM/PATH or file://PATH."""
    digest: PackageDigest
    """sha256: and the SHA-256 of its SHA256SUMS file."""
    name: Annotated[
        ModelName | None, Field(description="The name that the package gives its model; default: metadata.name.")
    ] = None
    feature_views: Annotated[
        dict[str, SchemaHash],
        Field(
            max_length=64, description="schemaHash of each view that the model reads (`tidegate model show --json`)."
        ),
    ] = {}
    """They gate the rollout and hold breaking changes of these views, as the registry's own record does."""


class KeyRef(Value):
    """One key of a Secret or ConfigMap in the deployment's namespace."""

    name: Name
    """Name of the Secret or ConfigMap."""
    key: Name
    """The key within it."""


class KeyPlace(Value):
    """The same as one value: which object of the deployment's namespace holds the key, and under what name."""

    kind: Literal["Secret", "ConfigMap"]
    name: str
    key: str


class PublicKeyFrom(Value):
    """Where a public key lies: it is no secret, so a ConfigMap will do."""

    rules: ClassVar = [
        rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "exactly one of secretKeyRef and configMapKeyRef must be set",
        )
    ]

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None

    @model_validator(mode="after")
    def _one_place(self) -> PublicKeyFrom:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            raise ValueError("exactly one of secretKeyRef and configMapKeyRef")
        return self

    @property
    def place(self) -> KeyPlace:
        """Where to look."""
        found = [("Secret", self.secret_key_ref), ("ConfigMap", self.config_map_key_ref)]
        return next(KeyPlace(kind=kind, name=ref.name, key=ref.key) for kind, ref in found if ref)


class Verification(Value):
    """What a package must show before it is served, beside its digest."""

    public_key_from: PublicKeyFrom
    """PEM of one or more public Ed25519 keys; the package must be signed by one of them."""


class ModelSource(Value):
    """Where the model comes from: the registry, or a pinned package."""

    rules: ClassVar = [
        rule("has(self.registry) != has(self.package)", "exactly one of registry and package must be set")
    ]

    registry: RegistrySource | None = None
    package: PackageSource | None = None
    verify: Annotated[
        Verification | None, Field(description="Demand a signature; revisions that start from now on are held to it.")
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSource:
        if (self.registry is None) == (self.package is None):
            raise ValueError("exactly one of registry and package")
        return self
