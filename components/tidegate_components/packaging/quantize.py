"""Embedding tables and matrices as 8-bit integers, where it pays, with what that costs in AUC.

A table [R, D] becomes Int8 [R, D] and one scale for each row, scale = max |row| / 127; what a lookup gathers is
multiplied out after it, so that only the rows of a request are. A matrix of a product becomes Int8 with one scale for
each output column (DequantizeLinear of the ONNX standard). Activations stay Float32: a dynamic scale would be that of
the batch, and a row's score would depend on the rows that it is batched with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_api.model_package import Quantization
from tidegate_components.packaging.layout import package_error
from tidegate_components.packaging.onnx_form import DATA

if TYPE_CHECKING:
    import numpy as np

    from tidegate_components.models.arrays import Arrays

    Array = np.ndarray[Any, Any]

__all__ = ["quantize"]

_LEAST_BYTES = 4096
"""Smaller weights are left as they are."""
_BLOCK_ROWS = 1 << 20
_LEAST_WIDTH = 3
"""A narrower row would take as much with its scale as without."""


def quantize(onnx: Path, rows: Arrays, max_auc_loss: float, external_above: int) -> Quantization:
    """Quantize the model file at `onnx` in place; says what it saved and cost, both AUCs on the same `rows`.

    Raises PackageError where AUC falls by more than `max_auc_loss`, and where nothing is worth it.
    """
    from tidegate_components.packaging.onnx_export import onnx_scores

    before, bytes_before = onnx_scores(onnx, rows.ids, rows.dense), _size(onnx)
    tables, products = _rewrite(onnx, external_above)
    after, bytes_after = onnx_scores(onnx, rows.ids, rows.dense), _size(onnx)
    found = Quantization(
        method="int8", tables=tables, products=products, bytes_before=bytes_before, bytes_after=bytes_after,
        auc_before=_auc(rows.labels, before), auc_after=_auc(rows.labels, after), rows=len(rows.labels),
    )  # fmt: skip
    _check(found, max_auc_loss)
    return found


def _size(onnx: Path) -> int:
    return sum(path.stat().st_size for path in (onnx, onnx.with_name(DATA)) if path.exists())


def _auc(labels: Array, scores: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def _check(found: Quantization, max_auc_loss: float) -> None:
    sizes = f"{found.bytes_before:,} to {found.bytes_after:,} bytes"
    if not found.tables and not found.products:
        raise package_error(
            "to be made",
            "quantize",
            "int8 of nothing",
            f"weights of {_LEAST_BYTES} bytes or more",
            "package it without",
        )
    if not found.auc_before - found.auc_after <= max_auc_loss:
        raise package_error(
            "to be made", "AUC", f"{found.auc_before:.5f} before and {found.auc_after:.5f} after int8 ({sizes})",
            f"a loss of at most {max_auc_loss} on {found.rows} rows",
            "package it without --quantize, or accept more by --max-auc-loss",
        )  # fmt: skip


def _rewrite(path: Path, external_above: int) -> tuple[int, int]:
    """Quantize the graph in the file; returns how many tables and products were."""
    import onnx

    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = _uses(model.graph, {name: list(tensor.dims) for name, tensor in weights.items()})
    wanted = {name: kind for name, kind in uses.items() if _pays(weights[name], kind)}
    for name, kind in wanted.items():
        _table(model.graph, weights[name]) if kind == "table" else _product(model.graph, weights[name])
    _save(model, path, external_above)
    kinds = list(wanted.values())
    return kinds.count("table"), kinds.count("product")


def _save(model: Any, path: Path, external_above: int) -> None:
    import onnx

    path.unlink()
    path.with_name(DATA).unlink(missing_ok=True)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > external_above:
        onnx.save_model(model, str(path), save_as_external_data=True, location=DATA, size_threshold=1024)
    else:
        onnx.save_model(model, str(path))


def _uses(graph: Any, weights: dict[str, list[int]]) -> dict[str, str]:
    """Weight -> table (only ever read by row) or product (only ever the right factor of products)."""
    widths = {value.name: _last_dim(value) for value in graph.value_info}
    found: dict[str, set[str]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in weights:
                whole_rows = weights[name][-1:] == [widths.get(node.output[0], 0)]
                found.setdefault(name, set()).add(_use(node, place, whole_rows))
    return {name: next(iter(uses)) for name, uses in found.items() if len(uses) == 1 and uses != {"other"}}


def _last_dim(value: Any) -> int:
    dims = value.type.tensor_type.shape.dim
    return int(dims[-1].dim_value) if dims else 0


def _use(node: Any, place: int, whole_rows: bool) -> str:
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Gather" and place == 0 and not attributes.get("axis"):
        return "table"
    if node.op_type == "GatherND" and place == 0 and not attributes.get("batch_dims") and whole_rows:
        return "table"
    return "product" if node.op_type in {"MatMul", "Gemm"} and place == 1 else "other"


def _pays(tensor: Any, kind: str) -> bool:
    width = tensor.dims[-1] if len(tensor.dims) == 2 and tensor.data_type == 1 else 0
    large = width and tensor.dims[0] * width * 4 >= _LEAST_BYTES
    return bool(large) and (kind == "product" or width >= _LEAST_WIDTH)


def _table(graph: Any, tensor: Any) -> None:
    """Every Gather(table, i) becomes Gather(int8 table, i) as Float32 times Gather(scales, i); GatherND likewise."""
    from onnx import TensorProto, helper, numpy_helper

    whole, scales = _by_row(numpy_helper.to_array(tensor))
    name = tensor.name
    _replace(graph, tensor, numpy_helper.from_array(whole, name), numpy_helper.from_array(scales, f"{name}_scale"))
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type in {"Gather", "GatherND"} and node.input[0] == name:
            out = node.output[0]
            scale = type(node)()
            scale.CopyFrom(node)
            node.output[0], scale.output[0], scale.input[0] = f"{out}_int8", f"{out}_scale", f"{name}_scale"
            scale.name = f"{node.name}_scale"
            more = [
                helper.make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=TensorProto.FLOAT),
                scale,
                helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [out]),
            ]
            for one in reversed(more):
                graph.node.insert(index + 1, one)


def _by_row(values: Array) -> tuple[Array, Array]:
    """Int8 [R, D] and scales Float32 [R, 1], a block of rows at a time: a large table is not held three times over."""
    import numpy as np

    whole, scales = np.empty(values.shape, np.int8), np.empty((len(values), 1), np.float32)
    for start in range(0, len(values), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        scales[block] = np.abs(values[block]).max(axis=1, keepdims=True) / 127
        whole[block] = _rounded(values[block], scales[block])
    return whole, scales


def _product(graph: Any, tensor: Any) -> None:
    """The weight becomes DequantizeLinear of Int8 with a scale for each output column."""
    import numpy as np
    from onnx import helper, numpy_helper

    name = tensor.name
    axis = 0 if any(node.op_type == "Gemm" and name in node.input and _transposed(node) for node in graph.node) else 1
    values = numpy_helper.to_array(tensor)
    scales = np.abs(values).max(axis=1 - axis, keepdims=True) / 127
    whole = numpy_helper.from_array(_rounded(values, scales), f"{name}_int8")
    _replace(graph, tensor, whole, numpy_helper.from_array(scales.ravel(), f"{name}_scale"))
    node = helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], axis=axis)
    graph.node.insert(0, node)


def _transposed(node: Any) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _rounded(values: Array, scales: Array) -> Array:
    """Int8 in [-127, 127]; a row of zeros has scale 0."""
    import numpy as np

    steps = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
    found: Array = np.rint(steps).astype(np.int8)
    return found


def _replace(graph: Any, old: Any, *new: Any) -> None:
    graph.initializer.remove(old)
    graph.initializer.extend(new)
