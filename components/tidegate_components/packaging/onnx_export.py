"""A trained scorer as ONNX, with its parity to torch checked on real rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.packaging.verify import package_error

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.models.inputs import Arrays
    from tidegate_components.models.scoring import Scorer

__all__ = ["MOST_DIFFERENCE", "OPSET", "check_parity", "export_onnx", "onnx_scores"]

OPSET = 18
MOST_DIFFERENCE = 1e-5
"""Greatest absolute difference of a probability between torch and onnxruntime."""


def export_onnx(scorer: Scorer, path: Path, example: Arrays) -> None:
    """Write the scorer as one ONNX file: `ids` Int64 [N, C], `dense` Float32 [N, D] -> `score` Float32 [N, 1]."""
    import torch

    arguments = (torch.from_numpy(example.ids[:2]), torch.from_numpy(example.dense[:2]))
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        scorer.eval(),
        arguments,
        dynamo=True,
        input_names=["ids", "dense"],
        output_names=["score"],
        opset_version=OPSET,
        dynamic_shapes={"ids": {0: batch}, "dense": {0: batch}},
        verbose=False,
    )
    assert program is not None  # noqa: S101 - dynamo=True gives a program
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path), include_initializers=True, external_data=False)


def onnx_scores(path: Path, ids: np.ndarray[Any, Any], dense: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Probabilities [N] by onnxruntime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    scores: np.ndarray[Any, Any] = session.run(["score"], {"ids": ids, "dense": dense})[0][:, 0]
    return scores


def check_parity(scorer: Scorer, path: Path, rows: Arrays) -> float:
    """The greatest difference between torch and onnxruntime on `rows`; raises PackageError above MOST_DIFFERENCE."""
    import numpy as np

    expected, found = scorer.scores(rows.ids, rows.dense), onnx_scores(path, rows.ids, rows.dense)
    worst = float(np.abs(expected - found).max())
    if not worst <= MOST_DIFFERENCE:
        raise package_error(path.name, "score", f"{worst} away from torch", f"at most {MOST_DIFFERENCE}")
    return worst
