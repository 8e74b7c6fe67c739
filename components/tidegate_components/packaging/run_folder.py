"""The output folder of `tidegate train`, as packaging reads it: model, sample, metrics, and where they come from."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.hashes import content_hash
from tidegate_components.packaging.package import Provenance
from tidegate_components.storage import content_digest, replacing

__all__ = ["RunFolder", "RunFolderError", "read_run", "read_settings", "write_report"]


class RunFolderError(TidegateError):
    """A folder that is no output of `tidegate train`."""


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie, and its provenance."""

    model: Path
    sample: Path
    report: Path | None
    provenance: Provenance
    settings: dict[str, Any]


def read_run(folder: Path, name: str = "") -> RunFolder:
    """Read `model/`, `sample.parquet`, `metrics.json` and, where they are there, `run.json` and `report.html`.

    What run.json lacks is derived: the run's name from the model's content, the digest of the training data from the
    sample (and says so by being that of sample.parquet), the code version from the source. Raises RunFolderError.
    """
    for part in ("model/config.json", "model/weights.npz", "sample.parquet", "metrics.json"):
        if not (folder / part).is_file():
            raise _bad(folder, part, "missing", "what `tidegate train --out DIR` writes")
    facts, report = _json(folder, "run.json"), folder / "report.html"
    provenance = Provenance(
        name or str(facts.get("name") or _model_name(folder)),
        str(facts.get("run") or _run_name(folder)),
        str(facts.get("code_version") or _code_version()),
        str(facts.get("data_digest") or content_digest(folder / "sample.parquet")),
        _numbers(_json(folder, "metrics.json")),
    )
    settings = facts.get("settings")
    return RunFolder(
        folder / "model", folder / "sample.parquet", report if report.is_file() else None, provenance,
        settings if isinstance(settings, dict) else {},
    )  # fmt: skip


def read_settings(folder: Path) -> dict[str, str]:
    """The settings in run.json by dotted path, as texts of at most 500 characters. Raises RunFolderError."""
    return dict(_flat("", _json(folder, "run.json").get("settings") or {}))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif prefix:
        yield prefix, (value if isinstance(value, str) else json.dumps(value))[:500]


def write_report(run: RunFolder, into: Path) -> Path:
    """A page with what is known of a run that wrote no report of its own; returns its path."""
    facts = {
        "Run": run.provenance.run, "Code version": run.provenance.code_version,
        "Digest of the training data": run.provenance.data_digest,
    }  # fmt: skip
    figures = {name: f"{value:.6g}" for name, value in run.provenance.metrics.items()}
    parts = [("Figures of the training run", figures), ("Where it comes from", facts), ("Settings", run.settings)]
    body = "".join(f"<h2>{title}</h2><table>{_rows(values)}</table>" for title, values in parts if values)
    page = _PAGE.format(name=html.escape(run.provenance.name), body=body)
    with replacing(into) as beside:
        beside.write_text(page)
    return into


def _rows(values: dict[str, Any]) -> str:
    cells = ((html.escape(str(name)), html.escape(str(value))) for name, value in values.items())
    return "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in cells)


def _json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    try:
        found = json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _bad(folder, name, str(error).splitlines()[0], "a JSON object") from error
    if not isinstance(found, dict):
        raise _bad(folder, name, type(found).__name__, "a JSON object")
    return found


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The top-level numbers; of {value, low, high} the value."""
    plain = {key: value.get("value") if isinstance(value, dict) else value for key, value in metrics.items()}
    numbers = {key: float(value) for key, value in plain.items() if isinstance(value, int | float)}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def _model_name(folder: Path) -> str:
    """config.yaml names the model; a folder without one gets the name of the demo's."""
    import yaml

    try:
        found = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return "ctr-ranker"
    return str(found["name"]) if isinstance(found, dict) and found.get("name") else "ctr-ranker"


def _run_name(folder: Path) -> str:
    return "run-" + content_hash(content_digest(folder / "model"))[:12]


def _code_version() -> str:
    from tidegate_components.code_version import code_version

    return code_version()


def _bad(folder: Path, field: str, value: str, expected: str) -> RunFolderError:
    return RunFolderError(
        resource=f"run {folder}", field=field, value=value, expected=expected,
        remedy="give the folder that `tidegate train --out DIR` wrote",
    )  # fmt: skip


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd }}
th {{ font-weight: 500 }} td {{ font-variant-numeric: tabular-nums }}
</style></head><body><h1>{name}</h1>
<p>No evaluation was given with this package. These are the figures that training wrote down;
<code>tidegate evaluate</code> judges a model with intervals and slices.</p>{body}</body></html>
"""
