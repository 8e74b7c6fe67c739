"""A Triton backend that answers to the name `onnxruntime`, written in Python, for the server's CPU build.

It runs `model.onnx` of the version that Triton loads. Requests that Triton hands over together run together; when
such a run fails, each of them runs alone, so that one bad request does not fail its neighbours. As with NVIDIA's own
backend, the parameter `intra_op_thread_count` of config.pbtxt sets the threads of one run (here 1 if unset).
"""

import gc
import json
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

Tensors = dict[str, np.ndarray]
Signature = tuple[tuple[str, tuple[int, ...], str], ...]
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
        self._alike = _all_alike(config)
        try:
            self._session = ort.InferenceSession(str(path), _options(config), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own for every kind of broken file
            raise pb_utils.TritonModelException(f"{path} is not a model that ONNX Runtime can run: {error}") from error
        self._texts = {node.name for node in self._session.get_inputs() if node.type == "tensor(string)"}
        self._outputs = [node.name for node in self._session.get_outputs()]
        gc.freeze()  # what is loaded by now stays: searching it for garbage again and again costs requests their time

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
        for name in self._texts & given.keys():
            given[name] = _decoded(name, given[name])
        return given

    def _groups(self, readable: list[tuple[int, Tensors]]) -> Iterable[list[tuple[int, Tensors]]]:
        """Requests that can run as one: they name the same inputs with the same shapes after the batch."""
        if not self._batches or len(readable) < 2:
            return [[one] for one in readable]
        if self._alike:
            return [readable]
        groups: dict[Signature, list[tuple[int, Tensors]]] = {}
        for one in readable:
            groups.setdefault(_signature(one[1]), []).append(one)
        return groups.values()

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
        alone = len(batch) == 1
        joined = batch[0] if alone else {name: np.concatenate([one[name] for one in batch]) for name in batch[0]}
        found = map(np.ascontiguousarray, self._session.run(self._outputs, joined))
        outputs = dict(zip(self._outputs, found, strict=True))
        if alone:
            return [outputs]
        ends = list(accumulate((len(next(iter(tensors.values()))) for tensors in batch), initial=0))
        for name, output in outputs.items():
            if len(output) != ends[-1]:
                raise ValueError(f"output {name} has {len(output)} rows for {ends[-1]} rows of input")
        return [{name: output[start:end] for name, output in outputs.items()} for start, end in pairwise(ends)]


def _options(config: dict[str, Any]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    stated = config.get("parameters", {}).get(_THREADS, {}).get("string_value", "1")
    options.intra_op_num_threads = int(stated)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is said in the answer; a line in the log for each would drown it
    return options


def _all_alike(config: dict[str, Any]) -> bool:
    """Whether Triton itself sees to it that all requests name the same inputs with the same shapes after the batch."""
    inputs = config.get("input", [])
    return not any(one.get("optional") or any(int(size) < 0 for size in one["dims"]) for one in inputs)


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """Return the texts as ONNX Runtime wants them: str there and bytes in Triton."""
    try:
        return np.array([text.decode() for text in array.ravel()], dtype=object).reshape(array.shape)
    except UnicodeDecodeError as error:
        raise ValueError(f"input {name} holds bytes that are not UTF-8: {error}") from error


def _signature(tensors: Tensors) -> Signature:
    return tuple(sorted((name, array.shape[1:], array.dtype.char) for name, array in tensors.items()))


def _response(outputs: Tensors, wanted: Sequence[str]) -> Any:
    names = [name for name in outputs if name in wanted] if wanted else list(outputs)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, outputs[name]) for name in names])


def _refusal(error: Exception) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(f"the model cannot run this request: {error}"))
