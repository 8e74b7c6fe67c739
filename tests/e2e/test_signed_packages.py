"""Signatures on the real cluster, by the pods themselves; and a package in its smallest form, as Triton serves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import Live, Trained, Version, package, packaged, upload

from tidegate_components.packaging.package import Options
from tidegate_components.packaging.signature import keygen, sign

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME, SECRET = "signed", "model-keys"


@pytest.fixture(scope="module")
def keys(shop: Live, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Private keys by owner; the public one of `us` is in the shop's Secret."""
    folders = {owner: tmp_path_factory.mktemp(owner) for owner in ("us", "somebody")}
    pairs = {owner: keygen(folder) for owner, folder in folders.items()}
    public = f"--from-file=public.pem={pairs['us'][1]}"
    shop.cluster.kubectl.run("create", "secret", "generic", SECRET, "-n", shop.namespace, public)
    return {owner: private for owner, (private, _) in pairs.items()}


@pytest.fixture(scope="module")
def small(
    shop: Live, pipeline_run: dict[str, Any], keys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Version:
    """The trained model in 8 bits, with its weights in a file beside it, signed by us."""
    into = tmp_path_factory.mktemp("small") / "package"
    options = Options(quantize="int8", max_auc_loss=0.01, sign=keys["us"], external_above=1000)
    digest = packaged(pipeline_run, into, "e2e-int8", options)
    assert list(into.rglob("model.onnx.data")), "the weights lie beside the model"
    return Version("", digest, upload(shop, into, "e2e/int8"))


def _signed(version: Version, key: str = SECRET) -> dict[str, Any]:
    return package(version) | {"verify": {"publicKeyFrom": {"secretKeyRef": {"name": key, "key": "public.pem"}}}}


@pytest.fixture(scope="module")
def signed(shop: Live, small: Version) -> Iterator[Live]:
    """A deployment that demands our signature, and serves the package that has it."""
    shop.deploy(NAME, _signed(small))
    shop.wait_for(NAME, lambda found: found.status.stable is not None, 180, "the signed package serves")
    yield shop
    shop.cluster.kubectl.run("delete", "-n", shop.namespace, "modeldeployments", "--all")


def test_eight_bits_and_weights_beside_the_model_are_served_as_any_other(signed: Live, trained: Trained) -> None:
    assert signed.golden_status(NAME, trained.package) == httpx.codes.OK


@pytest.mark.parametrize(
    "case",
    [
        ("", SECRET, ("signature",)),
        ("somebody", SECRET, ("signature", "key")),
        ("us", "nowhere", ("public-key.pem",)),
    ],
    ids=["unsigned", "signed by somebody else", "a key that is not there"],
)
def test_what_lacks_our_signature_is_refused_and_stable_goes_on(
    signed: Live, trained: Trained, small: Version, keys: dict[str, Path], tmp_path: Path,
    case: tuple[str, str, tuple[str, ...]],
) -> None:  # fmt: skip
    signer, key, words = case
    version = _copy(signed, trained, keys.get(signer), tmp_path / "package", f"e2e/{signer}-{key}")
    signed.deploy(NAME, _signed(version, key))
    signed.wait_for_refusal(NAME, *words)
    assert signed.golden_status(NAME, trained.package) == httpx.codes.OK
    signed.deploy(NAME, _signed(small))
    signed.wait_for(NAME, lambda found: found.status.canary is None, 60, "the signed package is asked for again")


def _copy(live: Live, trained: Trained, key: Path | None, into: Path, place: str) -> Version:
    """The second version's package once more, signed where there is a key."""
    shutil.copytree(trained.packages / "e2e-2", into)
    if key is not None:
        sign(into, key)
    return Version("", trained.second.digest, upload(live, into, place))
