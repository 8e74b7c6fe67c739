"""`tidegate model`: fetch, verify and probe model packages. Light: neither torch nor mlflow is imported.

Making packages, scoring with them and the registry have modules of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate_pipelines import cli_model_package, cli_model_registry, cli_model_score
from tidegate_pipelines.terminal import FAILED, Json, print_json, speaking

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)
app.add_typer(cli_model_package.app)
app.add_typer(cli_model_score.app)
app.add_typer(cli_model_registry.app)

Key = Annotated[Path | None, typer.Option(help="Public key (PEM); an unsigned or wrongly signed package is refused.")]


@app.command("fetch")
def fetch(  # noqa: PLR0913, PLR0917 - the options are the command's public form
    uri: Annotated[str, typer.Option(help="A path, file://, pvc://CLAIM/PATH, http(s):// or mlflow-artifacts:/PATH.")],
    digest: Annotated[str, typer.Option(help="sha256:HEX of the package's SHA256SUMS.")],
    into: Annotated[Path, typer.Option(help="Folder; gets package/, repository/ (for Triton) and golden_probe.py.")],
    instances: Annotated[int | None, typer.Option(min=1, help="Copies of the model in one server.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(min=1, help="Most rows that run together.")] = None,
    max_queue_delay_us: Annotated[int | None, typer.Option(min=0, help="Microseconds to wait for others.")] = None,
    rate_limited: Annotated[
        bool, typer.Option("--rate-limited", help="Runs take turns, as the server's --rate-limit has it.")
    ] = False,
    response_cache: Annotated[
        bool, typer.Option("--response-cache", help="Answers are kept, as the server's --cache-config has it.")
    ] = False,
    key: Key = None,
    name: Annotated[str, typer.Option(help="What the model must be called.")] = "",
    json_: Json = False,
) -> None:
    """Fetch a package and verify every byte; the target is whole or untouched.

    Settings change the served repository, never the package.

    mlflow-artifacts:/ is read through the server that MLFLOW_TRACKING_URI names.

    Example: tidegate model fetch --uri mlflow-artifacts:/1/RUN/artifacts/package --digest sha256:... --into /models

    Exit codes: 0 fetched, 2 refused.
    """
    from tidegate_components.packaging.fetch import fetch as fetch_package
    from tidegate_components.packaging.serving import ServingSettings, lay_repository

    with speaking():
        package = fetch_package(uri, digest, into, key, name)
        settings = ServingSettings(instances, max_batch_size, max_queue_delay_us, rate_limited, response_cache)
        lay_repository(package, into, settings)
        print_json({"package": str(package), "digest": digest}) if json_ else typer.echo(f"{package} is {digest}")


@app.command("verify")
def verify(
    package: Annotated[Path, typer.Argument(help="Package folder.")],
    key: Key = None,
    digest: Annotated[str | None, typer.Option(help="sha256:HEX that it must have.")] = None,
    json_: Json = False,
) -> None:
    """Check a package against its SHA256SUMS, and its signature by a public key.

    Example: tidegate model verify ./package --key public-key.pem

    Exit codes: 0 whole (and signed, with --key), 2 refused.
    """
    from tidegate_components.packaging.verify import verify_package

    with speaking():
        found = verify_package(package, digest, key)
        manifest = found.manifest
        if json_:
            print_json({"digest": found.digest, "signedBy": found.signed_by or None, "model": manifest.to_dict()})
            return
        unchecked = "its signature was not checked: give --key" if found.has_signature else "unsigned"
        said = f"signed by {found.signed_by}" if found.signed_by else unchecked
        typer.echo(f"{package}: model {manifest.name} ({manifest.version}) is whole, {found.digest}, {said}")


@app.command("probe")
def probe(
    package: Annotated[Path, typer.Option(help="Package folder.")],
    url: Annotated[str, typer.Option(help="HTTP address of the model server.")] = "http://127.0.0.1:8000",
    json_: Json = False,
) -> None:
    """Ask a model server the package's golden requests and compare its answers.

    Example: tidegate model probe --package /models/package --url http://127.0.0.1:8000
    """
    from tidegate_components.packaging.golden_probe import probe as ask

    with speaking():
        fault = ask(package, url)
        if json_:
            print_json({"agrees": not fault, "fault": fault})
        else:
            typer.echo(fault or f"golden answers of {package} agree")
        if fault:
            raise typer.Exit(FAILED)
