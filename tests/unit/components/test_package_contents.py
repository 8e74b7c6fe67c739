"""What a package may hold, and the sentences of what it may not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tidegate_components.packaging import layout
from tidegate_components.packaging.layout import PackageError
from tidegate_components.packaging.onnx_form import OnnxFaultError, check_onnx
from tidegate_components.packaging.triton import model_config
from tidegate_components.packaging.triton_form import ConfigFaultError, check_config
from tidegate_components.packaging.verify import verify
from unit.components.packaged import CONFIG, NAME, ONNX, list_anew, manifest, tiny_graph, tiny_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tiny_package(tmp_path / "package")


def external(package: Path, location: str, name: str = "model.onnx.data") -> None:
    """Move the weights to another file and let the model name it by `location`."""
    model = onnx.load(str(package / ONNX))
    onnx.save_model(
        model, str(package / ONNX), save_as_external_data=True, location=name, size_threshold=0, convert_attribute=True
    )
    model = onnx.load(str(package / ONNX), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (package / ONNX).write_bytes(model.SerializeToString())
    list_anew(package)


def test_weights_beside_the_model_are_allowed(package: Path) -> None:
    external(package, "model.onnx.data")
    assert verify(package).name == NAME


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../../../x", "../1/model.onnx.data", "./model.onnx.data", "other.data", "", "*/_ORT_MEM_ADDR_/*"],
)
def test_weights_anywhere_else_are_refused(package: Path, location: str) -> None:
    external(package, location)
    with pytest.raises(PackageError, match=r"model\.onnx is .with a tensor in"):
        verify(package)


def test_weights_that_the_package_lacks_are_refused(package: Path) -> None:
    external(package, "model.onnx.data")
    (package / ONNX).with_name("model.onnx.data").unlink()
    list_anew(package)
    with pytest.raises(PackageError, match=r"which is no model\.onnx\.data that SHA256SUMS lists"):
        verify(package)


def test_weights_beyond_the_end_of_their_file_are_refused(package: Path) -> None:
    external(package, "model.onnx.data")
    data = (package / ONNX).with_name("model.onnx.data")
    os.truncate(data, 100)
    list_anew(package)
    with pytest.raises(PackageError, match=r"with a tensor at (length|offset)"):
        verify(package)


def hide(package: Path, where: str) -> None:
    """A tensor in /etc/passwd, in each place that a model can hold one."""
    tensor = helper.make_tensor("hidden", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model = tiny_graph()
    inner = helper.make_graph([helper.make_node("Constant", [], ["x"], value=tensor)], "inner", [], [])
    if where == "attribute":
        model.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))
    elif where == "subgraph":
        model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))
    elif where == "function":
        nodes = [helper.make_node("Constant", [], ["x"], value=tensor)]
        model.functions.append(helper.make_function("own", "f", [], ["x"], nodes, [helper.make_opsetid("", 18)]))
    elif where == "sparse":
        indices = numpy_helper.from_array(np.array([0], dtype=np.int64), "i")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4]))
    elif where == "training":
        model.training_info.add().algorithm.CopyFrom(inner)
    (package / ONNX).write_bytes(model.SerializeToString())
    list_anew(package)


@pytest.mark.parametrize("where", ["attribute", "subgraph", "function", "sparse", "training"])
def test_weights_elsewhere_are_found_wherever_a_model_can_hide_them(package: Path, where: str) -> None:
    hide(package, where)
    with pytest.raises(PackageError, match="with a tensor in '/etc/passwd'"):
        verify(package)


@pytest.mark.parametrize(
    ("domain", "name"), [("com.microsoft", "EPContext"), ("ai.onnx.contrib", "PyOp"), ("x", "Own")]
)
def test_an_operator_that_could_call_out_is_refused(package: Path, domain: str, name: str) -> None:
    model = tiny_graph()
    model.graph.node.append(helper.make_node(name, [], ["x"], domain=domain))
    (package / ONNX).write_bytes(model.SerializeToString())
    list_anew(package)
    with pytest.raises(PackageError, match=f"with operator {domain}:{name}"):
        verify(package)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04\x95", b"import os\n", b"\x3a\xff\xff\xff\xff\x0f", b"\x0a" * 9, b"ORTM" * 9]
)
def test_what_is_no_onnx_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(OnnxFaultError):
        check_onnx(tmp_path / "model.onnx", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace('"onnxruntime"', '"python"'), 'backend "python", expected "onnxruntime"'),
        (lambda text: text.replace('backend: "onnxruntime"', ""), "backend missing"),
        (lambda text: text + 'backend: "onnxruntime"', 'backend "onnxruntime" and "onnxruntime"'),
        (lambda text: text.replace(f'name: "{NAME}"', 'name: "other"', 1), 'name "other", expected "tiny-ranker"'),
        (lambda text: text + 'parameters: { key: "EXECUTION_ENV_PATH" }', "parameters, which a package may not set"),
        (lambda text: text.replace("zero_data: true", 'input_data_file: "/etc/passwd"', 1), "input_data_file, which"),
        (lambda text: text + "}", "'}' after the end"),
        (lambda text: text + "input {", "'an end' where }"),
        (lambda text: text + "name: 'x'", "no plain text format"),
        (lambda text: text + 'name: "\\x70"', "no plain text format"),
    ],
)
def test_a_configuration_says_only_what_it_may(change: Callable[[str], str], words: str) -> None:
    check_config(model_config(NAME, 2, 1), NAME)
    with pytest.raises(ConfigFaultError) as caught:
        check_config(change(model_config(NAME, 2, 1)), NAME)
    assert words in str(caught.value)


def test_a_package_of_another_model_is_refused(package: Path) -> None:
    (package / "model.json").write_text(json.dumps(manifest(name="other")))
    list_anew(package)
    with pytest.raises(PackageError, match="of another model"):
        verify(package)


def test_an_oversized_package_is_refused_before_it_is_read(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(package / "golden" / "request-1.json", 17 << 20)
    list_anew(package)
    with pytest.raises(PackageError, match=r"golden/request-1\.json is '17825792 bytes', expected at most 16777216"):
        verify(package)
    os.truncate(package / "SHA256SUMS", layout.MOST_SUMS_BYTES + 1)
    with pytest.raises(PackageError, match=r"SHA256SUMS is '1048577 bytes', expected at most 1048576"):
        verify(package)


def test_a_name_that_a_terminal_would_obey_is_quoted(package: Path) -> None:
    (package / "golden" / "\x1b[2J.json").write_text("{}")
    with pytest.raises(PackageError) as caught:
        verify(package)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("file", [CONFIG, ONNX])
def test_a_package_without_a_model_is_refused(package: Path, file: str) -> None:
    (package / file).unlink()
    if not any((package / file).parent.iterdir()):
        (package / file).parent.rmdir()
    list_anew(package)
    with pytest.raises(PackageError, match=r"is 'missing', expected the model that model\.json names"):
        verify(package)
