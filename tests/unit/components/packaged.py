"""A package that is made in milliseconds: one embedding table, one number, no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tidegate_components.packaging.layout import SUMS, write_sums
from tidegate_components.packaging.triton import model_config

NAME = "tiny-ranker"
ONNX = f"repository/{NAME}/1/model.onnx"
CONFIG = f"repository/{NAME}/config.pbtxt"
ROWS, WIDTH = 50, 8


def tiny_graph(table: np.ndarray[Any, Any] | None = None) -> Any:
    """ids [N, 2], dense [N, 1] -> sigmoid(sum of embeddings times weights + dense)."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(ROWS, WIDTH)).astype(np.float32) if table is None else table
    weights = rng.normal(size=(rows.shape[1], 1)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["gathered"], axis=0),
        helper.make_node("ReduceSum", ["gathered", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weights"], ["part"]),
        helper.make_node("Add", ["part", "dense"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    weights_of_it = [
        numpy_helper.from_array(rows, "table"),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 2]),
        helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", 1]),
    ]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "tiny", inputs, [output], weights_of_it)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def tiny_package(folder: Path) -> Path:
    """Lay the package in a folder that is not there yet; returns it."""
    onnx_file = folder / ONNX
    onnx_file.parent.mkdir(parents=True)
    onnx.save_model(tiny_graph(), str(onnx_file))
    (folder / CONFIG).write_text(model_config(NAME, 2, 1))
    (folder / "golden").mkdir()
    (folder / "reference").mkdir()
    (folder / "model.json").write_text(json.dumps(manifest()))
    (folder / "golden" / "request-1.json").write_text('{"id": "golden-1", "inputs": []}')
    (folder / "golden" / "response-1.json").write_text('{"outputs": []}')
    (folder / "golden" / "tolerance.json").write_text('{"absolute": 1e-4, "relative": 1e-4}')
    (folder / "reference" / "distributions.json").write_text('{"rows": 1}')
    (folder / "report.html").write_text("<!doctype html><p>A report</p>")
    write_sums(folder)
    return folder


def manifest(**changed: Any) -> dict[str, Any]:
    """model.json as packaging writes it."""
    ids = [{"name": "user_id"}, {"name": "item_id", "view": "items", "schemaHash": "f" * 64}]
    return {
        "name": NAME,
        "version": "run-tiny",
        "inputs": [
            {"name": "ids", "datatype": "INT64", "shape": [-1, 2], "features": ids},
            {"name": "dense", "datatype": "FP32", "shape": [-1, 1], "features": [{"name": "price"}]},
        ],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}],
        "metrics": {"auc": 0.7},
        "dataDigest": "sha256:" + "0" * 64,
        "codeVersion": "code-1",
        "run": "run-tiny",
    } | changed


def list_anew(package: Path) -> str:
    """SHA256SUMS over whatever lies there, allowed or not, as somebody would who wants it to pass."""
    import hashlib

    names = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file())
    lines = [
        f"{hashlib.sha256((package / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
        if not name.startswith(SUMS)
    ]
    (package / SUMS).unlink(missing_ok=True)
    (package / SUMS).write_text("".join(lines))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
