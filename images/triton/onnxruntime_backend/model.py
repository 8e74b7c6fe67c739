"""A Triton backend that answers to the name `onnxruntime`, written in Python, for the server's CPU build.

It runs `model.onnx` of the version that Triton loads. Requests that Triton hands over together run together; when
such a run fails, each of them runs alone, so that one bad request does not fail its neighbours. As with NVIDIA's own
backend, the parameter `intra_op_thread_count` of config.pbtxt sets the threads of one run (here 1 if unset).
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

Tensors = dict[str, np.ndarray]
_MODEL_FILE = "model.onnx"
_THREADS = "intra_op_thread_count"


class TritonPythonModel:
    """One instance of a model: one ONNX Runtime session. Triton calls the four methods by these names."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Leave the configuration as the package states it."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session; raises TritonModelException that names the file."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / _MODEL_FILE
        self._batches = int(config.get("max_batch_size", 0)) > 0
        try:
            self._session = ort.InferenceSession(str(path), _options(config), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own for every kind of broken file
            raise pb_utils.TritonModelException(f"{path} is not a model that ONNX Runtime can run: {error}") from error
        self._inputs = {node.name: node.type for node in self._session.get_inputs()}
        self._outputs = [node.name for node in self._session.get_outputs()]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request, in their order."""
        responses: dict[int, Any] = {}
        readable: list[tuple[int, Tensors]] = []
        for index, request in enumerate(requests):
            try:
                readable.append((index, self._read(request)))
            except ValueError as error:
                responses[index] = _refusal(error)
        for together in self._groups(readable):
            responses.update(self._answer(together, requests))
        return [responses[index] for index in range(len(requests))]

    def finalize(self) -> None:
        """Let the session go."""
        del self._session

    def _read(self, request: Any) -> Tensors:
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        return {name: _as_onnx(name, array, self._inputs.get(name)) for name, array in given.items()}

    def _groups(self, readable: list[tuple[int, Tensors]]) -> Iterator[list[tuple[int, Tensors]]]:
        """Yield requests that can run as one: they name the same inputs with the same shapes after the batch."""
        if not self._batches:
            yield from ([one] for one in readable)
            return
        for _, group in groupby(sorted(readable, key=_signature), key=_signature):
            yield list(group)

    def _answer(self, together: list[tuple[int, Tensors]], requests: Sequence[Any]) -> dict[int, Any]:
        try:
            parts = self._run([tensors for _, tensors in together])
        except Exception as error:  # whatever ONNX Runtime says belongs into the answer, never into Triton's log alone
            if len(together) == 1:
                return {together[0][0]: _refusal(error)}
            alone = [self._answer([one], requests) for one in together]
            return {index: response for answers in alone for index, response in answers.items()}
        return {
            index: _response(part, requests[index].requested_output_names())
            for (index, _), part in zip(together, parts, strict=True)
        }

    def _run(self, batch: list[Tensors]) -> list[Tensors]:
        """Run all as one and cut the outputs apart again, along the first axis."""
        if len(batch) == 1:
            return [dict(zip(self._outputs, self._session.run(self._outputs, batch[0]), strict=True))]
        joined = {name: np.concatenate([tensors[name] for tensors in batch]) for name in batch[0]}
        sizes = [len(next(iter(tensors.values()))) for tensors in batch]
        outputs = self._session.run(self._outputs, joined)
        for name, output in zip(self._outputs, outputs, strict=True):
            if len(output) != sum(sizes):
                raise ValueError(f"output {name} has {len(output)} rows for {sum(sizes)} rows of input")
        cuts = np.cumsum(sizes)[:-1]
        columns = [np.split(output, cuts) for output in outputs]
        return [dict(zip(self._outputs, row, strict=True)) for row in zip(*columns, strict=True)]


def _options(config: dict[str, Any]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    stated = config.get("parameters", {}).get(_THREADS, {}).get("string_value", "1")
    options.intra_op_num_threads = int(stated)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is said in the answer; a line in the log for each would drown it
    return options


def _as_onnx(name: str, array: np.ndarray, kind: str | None) -> np.ndarray:
    """Return the array as ONNX Runtime wants it: texts are str there and bytes in Triton."""
    if kind != "tensor(string)":
        return array
    try:
        return np.array([text.decode() for text in array.ravel()], dtype=object).reshape(array.shape)
    except UnicodeDecodeError as error:
        raise ValueError(f"input {name} holds bytes that are not UTF-8: {error}") from error


def _signature(one: tuple[int, Tensors]) -> str:
    return repr(sorted((name, array.shape[1:], array.dtype.str) for name, array in one[1].items()))


def _response(outputs: Tensors, wanted: Sequence[str]) -> Any:
    names = [name for name in outputs if name in wanted] if wanted else list(outputs)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.ascontiguousarray(outputs[name])) for name in names])


def _refusal(error: Exception) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(f"the model cannot run this request: {error}"))
