"""Score tables by a package: what Triton would answer, without a server, by the package's own ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.errors import TidegateError
from tidegate_api.model_package import InputTensor, ModelManifest, SignatureFeature
from tidegate_components.packaging.verify import verify_package

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

__all__ = ["PackagedModel", "ScoringError", "onnx_session", "open_package", "score_table"]

_ROWS = 4096
"""Scored at once: bounds what the graph holds of a long history."""


class ScoringError(TidegateError):
    """Rows that a package cannot score: a column is missing, or of another type, or an id is beyond its table."""


def score_table(package: Path, table: pa.Table, digest: str | None = None, key: Path | None = None) -> Array:
    """Probabilities Float32 [N] of a table's N rows by the package, which is verified first.

    Raises PackageError for a package that is not whole (or not signed by `key`, where given), ScoringError for a table
    that it cannot score. Whoever scores more than one table opens the package once: `open_package`.
    """
    return open_package(package, digest, key).score(table)


def open_package(package: Path, digest: str | None = None, key: Path | None = None, threads: int = 1) -> PackagedModel:
    """Verify a package and load its model; raises PackageError."""
    found = verify_package(package, digest, key)
    onnx = package / "repository" / found.manifest.name / "1" / "model.onnx"
    return PackagedModel(found.manifest, found.digest, onnx_session(onnx, threads))


def onnx_session(onnx: Path, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class PackagedModel:
    """A package's model, ready to score."""

    manifest: ModelManifest
    digest: str
    session: Any

    @property
    def columns(self) -> list[str]:
        """The columns that a table must have."""
        features = [feature for tensor in self.manifest.inputs for feature in tensor.features]
        return list(dict.fromkeys(feature.list_column or feature.name for feature in features))

    def score(self, table: pa.Table, before: int = 0) -> Array:
        """Probabilities Float32 [N] of N rows, in their order. Raises ScoringError.

        before: rows of the same file before these, so that an error names the file's row.
        """
        import numpy as np

        missing = [column for column in self.columns if column not in table.column_names]
        if missing:
            raise self._unfit("columns", table.column_names, f"a column {missing[0]}", _ADD)
        for feature in (f for tensor in self.manifest.inputs if tensor.datatype == "FP32" for f in tensor.features):
            self._check_finite(feature.name, table[feature.name], before)
        parts = [self._scored(table.slice(start, _ROWS)) for start in range(0, table.num_rows, _ROWS)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def _check_finite(self, name: str, column: pa.ChunkedArray, before: int) -> None:
        """Training takes no infinity, so the model says nothing of one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not pa.types.is_floating(column.type):
            return
        at = pc.index(pc.is_inf(column.cast(pa.float32(), safe=False)), True).as_py()
        if at >= 0:
            where = f"{name} in row {before + at + 1}"
            raise self._unfit(where, column[at].as_py(), "a number, or null where there is none", _FINITE)

    def _scored(self, table: pa.Table) -> Array:
        feeds = {tensor.name: self._tensor(tensor, table) for tensor in self.manifest.inputs}
        try:
            scores: Array = self.session.run(["score"], feeds)[0][:, 0]
        except Exception as error:  # onnxruntime's own exceptions share no public base
            reason = str(error).splitlines()[0][:300]
            raise self._unfit("rows", reason, "rows that the model can score", _STRICT) from error
        return scores

    def _tensor(self, tensor: InputTensor, table: pa.Table) -> Array:
        import numpy as np

        kind = np.int64 if tensor.datatype == "INT64" else np.float32
        found = list(self._columns_of(tensor, table))
        return np.stack(found, axis=1) if found else np.zeros((table.num_rows, 0), dtype=kind)

    def _columns_of(self, tensor: InputTensor, table: pa.Table) -> Iterator[Array]:
        """The tensor's columns [N] in order: the slots of one list column lie side by side."""
        for list_column, features in groupby(tensor.features, key=lambda feature: feature.list_column):
            slots = list(features)
            for part in [slots] if list_column else [[feature] for feature in slots]:
                yield from self._read(tensor, part, table)

    def _read(self, tensor: InputTensor, part: list[SignatureFeature], table: pa.Table) -> Iterator[Array]:
        import pyarrow as pa

        from tidegate_components.models.arrays import bag_ids, numbers_of
        from tidegate_components.models.inputs import Bag

        column = part[0].list_column or part[0].name
        try:
            if tensor.datatype == "FP32":
                yield numbers_of(table[column])
            else:
                names = tuple(feature.name for feature in part)
                yield from bag_ids(
                    table,
                    Bag(column, names, 0, 0, 0.0, list_column=part[0].list_column or "", texts=bool(part[0].texts)),
                )
        except (pa.ArrowException, AttributeError, TypeError) as error:
            kind = "numbers" if tensor.datatype == "FP32" else "ids: integers or texts, or lists of them"
            raise self._unfit(column, str(table[column].type), kind, _ADD) from error

    def _unfit(self, field: str, value: object, expected: str, remedy: str) -> ScoringError:
        model = f"model {self.manifest.name} ({self.manifest.version})"
        return ScoringError(resource=model, field=field, value=value, expected=expected, remedy=remedy)


_ADD = "give the columns that model.json names, as the training set had them (`tidegate features join` makes them)"
_FINITE = "mend the source of the feature, or write null, which the model reads as missing"
_STRICT = "leave out ids that training never saw, or package the model with --unknown-ids fold"
