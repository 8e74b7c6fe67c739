"""A trained scorer as ONNX, with its parity to torch checked on real rows."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.packaging.layout import package_error

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.models.arrays import Arrays
    from tidegate_components.models.scoring import Scorer

__all__ = ["MOST_DIFFERENCE", "ONE_FILE", "OPSET", "check_parity", "export_onnx", "onnx_scores", "weight_bytes"]

OPSET = 18
ONE_FILE = 1_900_000_000
"""Bytes of weights that one protobuf file surely holds: its limit is 2 GiB."""
MOST_DIFFERENCE = 1e-5
"""Greatest absolute difference of a probability between torch and onnxruntime."""


def export_onnx(scorer: Scorer, path: Path, example: Arrays, external_above: int = ONE_FILE) -> None:
    """Write the scorer as ONNX: `ids` Int64 [N, C], `dense` Float32 [N, D] -> `score` Float32 [N, 1].

    Weights of more than `external_above` bytes lie in `model.onnx.data` beside it: a protobuf file holds 2 GiB at most.
    """
    import torch

    _quiet()
    arguments = (torch.from_numpy(example.ids[:2]), torch.from_numpy(example.dense[:2]))
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
    _tidy(program.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path), include_initializers=True, external_data=weight_bytes(scorer) > external_above)


def _quiet() -> None:
    """The exporter warns of torchvision's operators, which no model here has."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


def _tidy(model: Any) -> None:
    """A table that is read in several places is kept once, and no stack traces of this machine go along."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, DeduplicateHashedInitializersPass

    DeduplicateHashedInitializersPass(size_limit=1 << 62)(model)
    ClearMetadataAndDocStringPass()(model)


def weight_bytes(scorer: Scorer) -> int:
    """What the parameters and buffers take."""
    return sum(value.numel() * value.element_size() for value in scorer.state_dict().values())


def onnx_scores(path: Path, ids: np.ndarray[Any, Any], dense: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Probabilities [N] by onnxruntime on one CPU thread."""
    from tidegate_components.packaging.score import onnx_session

    scores: np.ndarray[Any, Any] = onnx_session(path).run(["score"], {"ids": ids, "dense": dense})[0][:, 0]
    return scores


def check_parity(scorer: Scorer, path: Path, rows: Arrays) -> float:
    """The greatest difference between torch and onnxruntime on `rows`; raises PackageError above MOST_DIFFERENCE."""
    import numpy as np

    expected, found = scorer.scores(rows.ids, rows.dense), onnx_scores(path, rows.ids, rows.dense)
    worst = float(np.abs(expected - found).max())
    if not worst <= MOST_DIFFERENCE:
        raise package_error(path.name, "score", f"{worst} away from torch", f"at most {MOST_DIFFERENCE}")
    return worst
