"""Signatures say who made a package."""

from __future__ import annotations

import base64
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate_components.packaging.fetch import fetch
from tidegate_components.packaging.layout import SIGNATURE, SUMS, PackageError
from tidegate_components.packaging.signature import PRIVATE, PUBLIC, KeyFileError, key_id, keygen, sign
from tidegate_components.packaging.verify import verify_package
from tidegate_pipelines.cli import app
from unit.components.packaged import tiny_package

runner = CliRunner()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tiny_package(tmp_path / "package")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    keygen(tmp_path / "keys")
    return tmp_path / "keys"


def test_a_signed_package_is_verified_by_the_public_key_and_keeps_its_digest(package: Path, keys: Path) -> None:
    before = verify_package(package)
    assert (before.signed_by, before.has_signature) == ("", False)
    assert sign(package, keys / PRIVATE) == key_id(keys / PUBLIC)
    after = verify_package(package, before.digest, keys / PUBLIC)
    assert (after.signed_by, after.digest) == (key_id(keys / PUBLIC), before.digest)


def test_openssl_agrees_with_the_signature(package: Path, keys: Path, tmp_path: Path) -> None:
    sign(package, keys / PRIVATE)
    (tmp_path / "raw").write_bytes(base64.b64decode((package / SIGNATURE).read_bytes()))
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-rawin",
        "-pubin",
        "-inkey",
        str(keys / PUBLIC),
        "-in",
        str(package / SUMS),
    ]
    done = subprocess.run([*command, "-sigfile", str(tmp_path / "raw")], capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done


def test_a_private_key_is_its_owner_s_alone_and_never_overwritten(keys: Path) -> None:
    assert stat.S_IMODE((keys / PRIVATE).stat().st_mode) == 0o600
    before = (keys / PRIVATE).read_bytes()
    with pytest.raises(KeyFileError, match="there already"):
        keygen(keys)
    assert (keys / PRIVATE).read_bytes() == before


def test_an_old_and_a_new_key_are_taken_while_keys_change(package: Path, keys: Path, tmp_path: Path) -> None:
    keygen(tmp_path / "new")
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "new" / PUBLIC).read_bytes() + (keys / PUBLIC).read_bytes())
    sign(package, keys / PRIVATE)
    assert verify_package(package, key=both).signed_by == key_id(keys / PUBLIC)
    with pytest.raises(PackageError, match=r"SHA256SUMS\.sig is 'a signature of other content or by another key'"):
        verify_package(package, key=tmp_path / "new" / PUBLIC)


def test_an_unsigned_package_is_refused_where_a_key_is_given(package: Path, keys: Path, tmp_path: Path) -> None:
    digest = verify_package(package).digest
    for check in (
        lambda: verify_package(package, key=keys / PUBLIC),
        lambda: fetch(str(package), digest, tmp_path / "into", keys / PUBLIC),
    ):
        with pytest.raises(PackageError, match=r"SHA256SUMS\.sig is 'missing'.*tidegate model sign"):
            check()
    assert not (tmp_path / "into" / "package").exists()


def test_a_signature_is_fetched_along(package: Path, keys: Path, tmp_path: Path) -> None:
    sign(package, keys / PRIVATE)
    digest = verify_package(package).digest
    assert verify_package(fetch(str(package), digest, tmp_path / "into"), digest, keys / PUBLIC).signed_by


@pytest.mark.parametrize("wrong", ["nothing", "text", "private", "rsa"])
def test_a_wrong_key_file_is_named_and_its_content_is_not_shown(
    package: Path, keys: Path, tmp_path: Path, wrong: str
) -> None:
    key = tmp_path / "key.pem"
    if wrong == "text":
        key.write_text("secret words")
    elif wrong == "private":
        shutil.copyfile(keys / PRIVATE, key)
    elif wrong == "rsa":
        made = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
        key.write_bytes(
            subprocess.run(["openssl", "rsa", "-pubout"], input=made, capture_output=True, check=True).stdout
        )
    sign(package, keys / PRIVATE)
    with pytest.raises(KeyFileError, match=r"key .*key\.pem: file is") as caught:
        verify_package(package, key=key)
    assert "secret" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_the_command_line_makes_keys_signs_and_verifies(package: Path, tmp_path: Path) -> None:
    keys = tmp_path / "made"
    assert runner.invoke(app, ["model", "keygen", "--out", str(keys)]).exit_code == 0
    public, private = str(keys / PUBLIC), str(keys / PRIVATE)
    unsigned = runner.invoke(app, ["model", "verify", str(package), "--key", public])
    assert (unsigned.exit_code, "SHA256SUMS.sig is 'missing'" in unsigned.output) == (2, True)
    assert "unsigned" in runner.invoke(app, ["model", "verify", str(package)]).output
    assert runner.invoke(app, ["model", "sign", str(package), "--sign", private]).exit_code == 0
    signed = runner.invoke(app, ["model", "verify", str(package), "--key", public])
    assert (signed.exit_code, f"signed by {key_id(keys / PUBLIC)}" in signed.output) == (0, True)
    assert "was not checked" in runner.invoke(app, ["model", "verify", str(package)]).output
    digest, into = verify_package(package).digest, tmp_path / "into"
    fetched = ["model", "fetch", "--uri", str(package), "--digest", digest, "--into", str(into)]
    assert runner.invoke(app, [*fetched, "--key", public]).exit_code == 0
    (package / SIGNATURE).unlink()
    refused = runner.invoke(app, [*fetched, "--key", public])
    assert (refused.exit_code, "SHA256SUMS.sig is 'missing'" in refused.output) == (2, True)
    assert (into / "package" / SIGNATURE).is_file(), "what was fetched before stays"


def test_a_package_that_is_not_whole_is_not_signed(package: Path, keys: Path) -> None:
    (package / "report.html").write_text("<p>another")
    done = runner.invoke(app, ["model", "sign", str(package), "--sign", str(keys / PRIVATE)])
    assert done.exit_code == 2
    assert not (package / SIGNATURE).exists()
