"""Make a model package of a trained model: manifest, Triton repository, golden answers, reference, checksums."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate_api.model_package import InputTensor, ModelManifest, OutputTensor, SignatureFeature
from tidegate_components.packaging.layout import MANIFEST, package_error, write_sums
from tidegate_components.packaging.onnx_export import ONE_FILE
from tidegate_components.packaging.triton import model_config
from tidegate_components.packaging.verify import verify
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    import numpy as np

    from tidegate_api.model_package import Quantization
    from tidegate_components.models.arrays import Arrays
    from tidegate_components.models.inputs import Bag, Inputs
    from tidegate_components.models.scoring import Scorer

    Array = np.ndarray[Any, Any]

__all__ = ["Options", "Provenance", "UnknownIds", "package_model", "parity_rows"]

UnknownIds = Literal["fold", "error"]

_TOLERANCE = {"absolute": 1e-4, "relative": 1e-4}
_GOLDEN_ROWS = (1, 3, 8)
_PARITY_ROWS = 10_000
_STRANGE_ROWS = 64
"""Rows of each kind of oddity that the parity rows begin with."""


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: its name, the run, the code, the digest of its training data, what it scored."""

    name: str
    run: str
    code_version: str
    data_digest: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Options:
    """How a model is packaged. Above `external_above` bytes weights lie in model.onnx.data, beside model.onnx."""

    unknown_ids: UnknownIds = "fold"
    quantize: Literal["", "int8"] = ""
    max_auc_loss: float = 0.001
    sign: Path | None = None
    external_above: int = ONE_FILE
    told: Callable[[str], None] = field(default=lambda _: None, repr=False)
    """Hears a sentence before each part that takes long."""


def package_model(
    model: Path, test_set: Path, report: Path, into: Path, provenance: Provenance, unknown_ids: UnknownIds = "fold",
    options: Options | None = None,
) -> str:  # fmt: skip
    """Package the model folder `model` (Scorer.save) into the folder `into`; returns the package's digest.

    Golden rows are real rows of the test set with known ids. `unknown_ids: error` leaves the folding of unknown ids out
    of the graph, so that such a row fails at run time. Raises PackageError where ONNX and torch differ, and where int8
    costs more AUC on the test set than `options` allow; KeyFileError where the key to sign with is none.
    """
    from tidegate_components.models.arrays import read_set
    from tidegate_components.models.scoring import Scorer

    chosen = options or Options(unknown_ids)
    folding = Scorer.load(model)
    rows, inputs = read_set(test_set, folding.inputs)
    scorer = folding if chosen.unknown_ids == "fold" else folding.without_fold()
    with replacing(into) as beside:
        beside.mkdir()
        onnx = beside / "repository" / provenance.name / "1" / "model.onnx"
        quantization = _write_model(scorer, onnx, rows, inputs, chosen)
        (onnx.parent.parent / "config.pbtxt").write_text(
            model_config(provenance.name, len(inputs.id_columns), len(inputs.numerics), _model_bytes(onnx))
        )
        chosen.told("Writing golden requests and reference distributions, then hashes")
        _write_golden(beside / "golden", onnx, known_rows(rows, inputs))
        _write_reference(beside / "reference", rows, inputs, folding.scores(rows.ids, rows.dense))
        shutil.copyfile(report, beside / "report.html")
        manifest = _manifest(inputs, provenance, quantization)
        (beside / MANIFEST).write_text(manifest.model_dump_json(by_alias=True, exclude_none=True, indent=1))
        return _seal(beside, chosen.sign)


def _seal(package: Path, key: Path | None) -> str:
    """List, verify and, with a key, sign; returns the digest."""
    from tidegate_components.packaging.signature import sign

    digest = write_sums(package)
    verify(package, digest)
    if key:
        sign(package, key)
    return digest


def _write_model(scorer: Scorer, onnx: Path, rows: Arrays, inputs: Inputs, options: Options) -> Quantization | None:
    """The ONNX of the scorer, checked against torch, and then made smaller where that is asked for."""
    from tidegate_components.packaging.onnx_export import check_parity, export_onnx
    from tidegate_components.packaging.quantize import quantize

    known = known_rows(rows, inputs)
    options.told("Exporting ONNX")
    export_onnx(scorer, onnx, known, options.external_above)
    compared = parity_rows(rows, inputs) if scorer.fold else known
    options.told(f"Comparing ONNX with torch on {len(compared.labels):,} rows")
    check_parity(scorer, onnx, compared)
    if options.quantize:
        options.told(f"Making weights {options.quantize} and comparing AUC")
        return quantize(onnx, rows if scorer.fold else known, options.max_auc_loss, options.external_above)
    return None


def _model_bytes(onnx: Path) -> int:
    """What the model takes on the disk, with the weights that lie beside it."""
    return sum(path.stat().st_size for path in onnx.parent.iterdir())


def known_rows(rows: Arrays, inputs: Inputs) -> Arrays:
    """The rows whose every id has a row of its own and whose numbers are all there.

    Raises PackageError where there are fewer than the golden requests need.
    """
    import numpy as np

    whole = np.atleast_1d(np.isfinite(rows.dense).all(axis=1))
    for bag in inputs.bags:
        if bag.columns:
            table = inputs.bag(bag.shares) if bag.shares else bag
            whole &= _known(rows.ids[:, inputs.columns_of(bag.name)], bag, table).all(axis=1)
    found = np.flatnonzero(whole)
    if len(found) < sum(_GOLDEN_ROWS):
        raise package_error(
            "to be made", "golden", f"{len(found)} of {len(whole)} rows without an unknown id or a missing number",
            f"at least {sum(_GOLDEN_ROWS)}, for the golden requests", "give a larger sample of validation rows",
        )  # fmt: skip
    return _take(rows, found)


def _known(ids: Array, bag: Bag, table: Bag) -> Array:
    """Whether each id of a bag [N, columns] has a row in its table; an empty slot of several is no unknown id."""
    import numpy as np

    empty = ((ids < 0) | (ids == bag.none)) if len(bag.columns) > 1 else np.zeros(ids.shape, dtype=bool)
    if table.lookup == "identity":
        return empty | ((ids >= 0) & (ids < table.rows))
    return empty | (np.isin(ids, table.vocabulary) if table.lookup == "vocabulary" else ids >= 0)


def parity_rows(rows: Arrays, inputs: Inputs) -> Arrays:
    """Up to 10,000 real rows; the first of them with what serving meets and training may not have.

    64 rows each: with ids beyond the tables, with negative ids, with the greatest Int64, with no id in any bag (empty
    lists), with zeros for numbers, with missing numbers where the model reads such.
    """
    import numpy as np

    ids, dense = rows.ids[:_PARITY_ROWS].copy(), rows.dense[:_PARITY_ROWS].copy()
    limits = np.array([bag.rows for bag in inputs.bags for _ in bag.columns])
    nothing = np.array([bag.none if len(bag.columns) > 1 else -1 for bag in inputs.bags for _ in bag.columns])
    parts = [slice(start, start + _STRANGE_ROWS) for start in range(0, 6 * _STRANGE_ROWS, _STRANGE_ROWS)]
    ids[parts[0]] += limits * np.arange(1, _STRANGE_ROWS + 1)[: len(ids[parts[0]]), None]
    ids[parts[1]] = -1 - ids[parts[1]]
    ids[parts[2]] = np.iinfo(np.int64).max - np.arange(len(ids[parts[2]]))[:, None]
    ids[parts[3]] = nothing
    dense[parts[4]] = 0.0
    if not np.isfinite(rows.dense).all():
        dense[parts[5]] = np.nan
    return _arrays(ids, dense, rows.labels[:_PARITY_ROWS])


def _take(rows: Arrays, index: Array) -> Arrays:
    return _arrays(rows.ids[index], rows.dense[index], rows.labels[index])


def _arrays(ids: Any, dense: Any, labels: Any) -> Arrays:
    from tidegate_components.models.arrays import Arrays

    return Arrays(ids, dense, labels)


def _write_golden(folder: Path, onnx: Path, known: Arrays) -> None:
    from tidegate_components.packaging.onnx_export import onnx_scores

    folder.mkdir()
    start = 0
    for number, count in enumerate(_GOLDEN_ROWS, start=1):
        ids, dense = known.ids[start : start + count], known.dense[start : start + count]
        start += count
        answer = [_tensor("score", "FP32", onnx_scores(onnx, ids, dense)[:, None])]
        request = {"id": f"golden-{number}", "inputs": [_tensor("ids", "INT64", ids), _tensor("dense", "FP32", dense)]}
        (folder / f"request-{number}.json").write_text(json.dumps(request | {"outputs": [{"name": "score"}]}))
        (folder / f"response-{number}.json").write_text(json.dumps({"outputs": answer}))
    (folder / "tolerance.json").write_text(json.dumps(_TOLERANCE))


def _tensor(name: str, datatype: str, data: Array) -> dict[str, Any]:
    """A tensor in the JSON of the KServe v2 inference protocol."""
    return {"name": name, "datatype": datatype, "shape": list(data.shape), "data": data.flatten().tolist()}


def _write_reference(folder: Path, rows: Arrays, inputs: Inputs, scores: Array) -> None:
    """What the test set looked like: deciles of numbers and scores, share missing, most frequent ids with shares."""
    folder.mkdir()
    numbers = {name: rows.dense[:, i] for i, name in enumerate(inputs.numeric_columns)} | {"score": scores}
    frequent = {name: _shares(rows.ids[:, i]) for i, name in enumerate(inputs.id_columns)}
    found = {
        "rows": len(scores),
        "deciles": {name: _deciles(values) for name, values in numbers.items()},
        "missing": {name: _missing(values) for name, values in numbers.items()},
        "ids": frequent,
    }
    (folder / "distributions.json").write_text(json.dumps(found))


def _deciles(values: Array) -> list[float]:
    import numpy as np

    there = values[np.isfinite(values)]
    found: list[float] = np.quantile(there, np.linspace(0, 1, 11)).tolist() if len(there) else []
    return found


def _missing(values: Array) -> float:
    import numpy as np

    return float(1.0 - np.isfinite(values).mean())


def _shares(ids: Array, most: int = 50) -> dict[str, float]:
    import numpy as np

    values, counts = np.unique(ids, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:most]
    return {str(values[i]): float(counts[i] / len(ids)) for i in top}


def _manifest(inputs: Inputs, provenance: Provenance, quantization: Quantization | None) -> ModelManifest:
    dense = [
        SignatureFeature(name=n.column, view=n.view or None, schema_hash=n.schema_hash or None) for n in inputs.numerics
    ]
    ids = [
        SignatureFeature(
            name=column,
            view=bag.view,
            schema_hash=bag.schema_hash,
            list_column=bag.list_column or None,
            texts=bag.texts or None,
        )
        for bag in inputs.bags
        for column in bag.columns
    ]
    return ModelManifest(
        name=provenance.name,
        version=provenance.run,
        inputs=[
            InputTensor(name="ids", datatype="INT64", shape=[-1, len(ids)], features=ids),
            InputTensor(name="dense", datatype="FP32", shape=[-1, len(dense)], features=dense),
        ],
        outputs=[OutputTensor(name="score", datatype="FP32", shape=[-1, 1])],
        metrics=provenance.metrics,
        data_digest=provenance.data_digest,
        code_version=provenance.code_version,
        run=provenance.run,
        quantization=quantization,
    )
