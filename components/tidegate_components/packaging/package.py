"""Make a model package of a trained model: manifest, Triton repository, golden answers, reference, checksums."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate_api.model_package import InputTensor, ModelManifest, OutputTensor, SignatureFeature
from tidegate_components.packaging.layout import MANIFEST, write_sums
from tidegate_components.packaging.triton import model_config
from tidegate_components.packaging.verify import verify
from tidegate_components.storage import replacing

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.models.inputs import Arrays, Inputs
    from tidegate_components.models.scoring import Scorer

__all__ = ["Provenance", "UnknownIds", "package_model"]

UnknownIds = Literal["fold", "error"]

_TOLERANCE = {"absolute": 1e-4, "relative": 1e-4}
_GOLDEN_ROWS = (1, 3, 8)


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: its name, the run, the code, the digest of its training data, what it scored."""

    name: str
    run: str
    code_version: str
    data_digest: str
    metrics: dict[str, float]


def package_model(
    model: Path, test_set: Path, report: Path, into: Path, provenance: Provenance, unknown_ids: UnknownIds = "fold"
) -> str:
    """Package the model folder `model` (Scorer.save) into the folder `into`; returns the package's digest.

    Golden rows are real rows of the test set with known ids. `unknown_ids: error` leaves the folding of unknown ids out
    of the graph, so that such a row fails at run time. Raises PackageError where ONNX and torch differ.
    """
    from tidegate_components.models.inputs import read_set
    from tidegate_components.models.scoring import Scorer

    folding = Scorer.load(model)
    rows, inputs = read_set(test_set, folding.inputs)
    scorer = folding if unknown_ids == "fold" else folding.without_fold()
    with replacing(into) as beside:
        beside.mkdir()
        onnx = beside / "repository" / provenance.name / "1" / "model.onnx"
        _write_model(scorer, onnx, rows, provenance.name, inputs)
        _write_golden(beside / "golden", onnx, _known(rows, inputs))
        _write_reference(beside / "reference", rows, inputs, folding.scores(rows.ids, rows.dense))
        shutil.copyfile(report, beside / "report.html")
        (beside / MANIFEST).write_text(_manifest(inputs, provenance).model_dump_json(by_alias=True, indent=1))
        digest = write_sums(beside)
        verify(beside, digest)
    return digest


def _write_model(scorer: Scorer, onnx: Path, rows: Arrays, name: str, inputs: Inputs) -> None:
    from tidegate_components.packaging.onnx_export import check_parity, export_onnx

    export_onnx(scorer, onnx, _known(rows, inputs))
    check_parity(scorer, onnx, _with_strangers(rows, inputs) if scorer.fold else _known(rows, inputs))
    config = model_config(name, len(inputs.id_columns), len(inputs.numerics))
    (onnx.parent.parent / "config.pbtxt").write_text(config)


def _known(rows: Arrays, inputs: Inputs) -> Arrays:
    """The rows whose every id has a row of its own."""
    import numpy as np

    limits = np.array([bag.rows for bag in inputs.bags for _ in bag.columns])
    return _take(rows, np.flatnonzero((rows.ids < limits).all(axis=1)))


def _with_strangers(rows: Arrays, inputs: Inputs) -> Arrays:
    """The rows, the first of them with ids that nobody has seen (beyond the tables, and negative)."""
    import numpy as np

    ids = rows.ids.copy()
    limits = np.array([bag.rows for bag in inputs.bags for _ in bag.columns])
    ids[:8] += limits * np.arange(1, 9)[: len(ids), None]
    ids[8:10] = -1 - ids[8:10]
    return _arrays(ids, rows.dense, rows.labels)


def _take(rows: Arrays, index: np.ndarray[Any, Any]) -> Arrays:
    return _arrays(rows.ids[index], rows.dense[index], rows.labels[index])


def _arrays(ids: Any, dense: Any, labels: Any) -> Arrays:
    from tidegate_components.models.inputs import Arrays

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


def _tensor(name: str, datatype: str, data: np.ndarray[Any, Any]) -> dict[str, Any]:
    """A tensor in the JSON of the KServe v2 inference protocol."""
    return {"name": name, "datatype": datatype, "shape": list(data.shape), "data": data.flatten().tolist()}


def _write_reference(folder: Path, rows: Arrays, inputs: Inputs, scores: np.ndarray[Any, Any]) -> None:
    """What the test set looked like: deciles of numbers and scores, most frequent ids with their share."""
    import numpy as np

    folder.mkdir()
    numbers = {name: rows.dense[:, i] for i, name in enumerate(inputs.numeric_columns)} | {"score": scores}
    deciles = {name: np.quantile(values, np.linspace(0, 1, 11)).tolist() for name, values in numbers.items()}
    frequent = {name: _shares(rows.ids[:, i]) for i, name in enumerate(inputs.id_columns)}
    (folder / "distributions.json").write_text(json.dumps({"rows": len(scores), "deciles": deciles, "ids": frequent}))


def _shares(ids: np.ndarray[Any, Any], most: int = 50) -> dict[str, float]:
    import numpy as np

    values, counts = np.unique(ids, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:most]
    return {str(values[i]): float(counts[i] / len(ids)) for i in top}


def _manifest(inputs: Inputs, provenance: Provenance) -> ModelManifest:
    dense = [SignatureFeature(name=n.column, view=n.view, schema_hash=n.schema_hash) for n in inputs.numerics]
    ids = [
        SignatureFeature(name=column, view=bag.view, schema_hash=bag.schema_hash)
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
    )
