"""`tidegate model package | sign | keygen`: make and sign model packages."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate_pipelines.terminal import Json, print_json, progress, speaking

__all__ = ["app"]

app = typer.Typer()

SigningKey = typer.Option("--sign", help="Private Ed25519 key (PEM) of `tidegate model keygen`.")


class Quantize(StrEnum):
    """Ways to make a model smaller."""

    int8 = "int8"


class UnknownIdsChoice(StrEnum):
    """What an id that training never saw does."""

    fold = "fold"
    error = "error"


@app.command("package")
def package(  # noqa: PLR0913, PLR0917 - the options are the command's public form
    run: Annotated[Path, typer.Option(help="Folder that `tidegate train --out` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder that becomes the package.")],
    sign: Annotated[Path | None, SigningKey] = None,
    quantize: Annotated[Quantize | None, typer.Option(help="Weights as 8-bit integers.")] = None,
    max_auc_loss: Annotated[float, typer.Option(min=0, help="AUC that int8 may cost on the run's sample.")] = 0.001,
    name: Annotated[str, typer.Option(help="Model's name; default: as the run says.")] = "",
    unknown_ids: Annotated[
        UnknownIdsChoice, typer.Option(help="fold: a learned row of its own; error: such a row fails.")
    ] = UnknownIdsChoice.fold,
    json_: Json = False,
) -> None:
    """Make a model package of a training run: ONNX that agrees with torch, Triton repository, golden answers, hashes.

    The run's sample gives the rows for parity (up to 10,000), the golden requests and, with --quantize, both AUCs.

    Example: tidegate model package --run runs/1 --out package --quantize int8 --sign signing-key.pem

    Exit codes: 0 made, 1 failed, 2 refused: no run, ONNX that differs, int8 that costs too much, no such key.
    """
    with speaking():
        report = _made(run, out, name, sign, (quantize, max_auc_loss, unknown_ids))
        if json_:
            print_json(report)
            return
        if smaller := report["quantization"]:
            progress(_saved(smaller))
        typer.echo(f"{out} is model {report['model']} ({report['version']}), {report['digest']}, {_by(report)}")


def _made(run: Path, out: Path, name: str, sign: Path | None, how: tuple[Any, float, str]) -> dict[str, Any]:
    from tempfile import TemporaryDirectory

    from tidegate_components.packaging.layout import SIGNATURE
    from tidegate_components.packaging.package import Options, package_model
    from tidegate_components.packaging.run_folder import read_run, write_report
    from tidegate_components.packaging.signature import check_signing_key
    from tidegate_components.packaging.verify import verify_package

    if sign:
        check_signing_key(sign)
    elif (out / SIGNATURE).is_file():
        progress(f"{out} is signed; the package that replaces it is not, for --sign is not given")
    found = read_run(run, name)
    quantize, max_auc_loss, unknown_ids = how
    options = Options(
        "error" if unknown_ids == "error" else "fold", "int8" if quantize else "", max_auc_loss, sign, told=progress
    )
    progress(f"Packaging run {found.provenance.run} as {found.provenance.name}: loading torch")
    with TemporaryDirectory() as scratch:
        report = found.report or write_report(found, Path(scratch) / "report.html")
        digest = package_model(found.model, found.sample, report, out, found.provenance, options=options)
    manifest = verify_package(out, digest).manifest
    return {
        "package": str(out), "digest": digest, "model": manifest.name, "version": manifest.version,
        "signedBy": check_signing_key(sign) if sign else None,
        "quantization": manifest.quantization.to_dict() if manifest.quantization else None,
    }  # fmt: skip


def _saved(smaller: dict[str, Any]) -> str:
    return (
        f"int8: {smaller['bytesBefore']:,} to {smaller['bytesAfter']:,} bytes, "
        f"AUC {smaller['aucBefore']:.5f} to {smaller['aucAfter']:.5f} on {smaller['rows']:,} rows"
    )


def _by(report: dict[str, Any]) -> str:
    return f"signed by {report['signedBy']}" if report["signedBy"] else "unsigned (--sign KEY signs it)"


@app.command("sign")
def sign(
    package: Annotated[Path, typer.Argument(help="Package folder.")],
    sign: Annotated[Path, SigningKey],
    json_: Json = False,
) -> None:
    """Sign a package that is whole: writes SHA256SUMS.sig into it. Its digest stays.

    Example: tidegate model sign ./package --sign signing-key.pem

    Exit codes: 0 signed, 2 refused.
    """
    from tidegate_components.packaging.signature import sign as sign_package
    from tidegate_components.packaging.verify import verify_package

    with speaking():
        digest = verify_package(package).digest
        key = sign_package(package, sign)
        print_json({"digest": digest, "signedBy": key}) if json_ else typer.echo(f"{package} is signed by {key}")


@app.command("keygen")
def keygen(
    out: Annotated[Path, typer.Option(help="Folder; gets signing-key.pem (private) and public-key.pem.")],
    json_: Json = False,
) -> None:
    """Make a pair of Ed25519 keys. The private one signs and stays secret; the public one verifies.

    Example: tidegate model keygen --out keys

    Exit codes: 0 made, 2 there are keys already.
    """
    from tidegate_components.packaging.signature import key_id
    from tidegate_components.packaging.signature import keygen as make

    with speaking():
        private, public = make(out)
        if json_:
            print_json({"private": str(private), "public": str(public), "id": key_id(public)})
        else:
            typer.echo(f"{private} signs (keep it secret), {public} verifies: {key_id(public)}")
