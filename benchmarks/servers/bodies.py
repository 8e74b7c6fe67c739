"""One request's rows in the forms that the contenders read, and their answers as scores."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from servers.load import Call
from servers.ranker import NAME, Asked

_GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")


def json_call(url: str, asked: Asked) -> Call:
    body = json.dumps({"ids": asked.ids.tolist(), "dense": asked.dense.tolist()}).encode()
    return Call(f"{url}/score", body, ("content-type: application/json",))


def v2_call(url: str, asked: Asked) -> Call:
    """KServe v2 over HTTP with Triton's binary tensors."""
    from tritonclient import http

    inputs = [http.InferInput("ids", asked.ids.shape, "INT64"), http.InferInput("dense", asked.dense.shape, "FP32")]
    for one, rows in zip(inputs, (asked.ids, asked.dense), strict=True):
        one.set_data_from_numpy(rows)
    wanted = [http.InferRequestedOutput("score")]
    body, size = http.InferenceServerClient.generate_request_body(inputs, outputs=wanted)
    headers = ("content-type: application/octet-stream", f"inference-header-content-length: {size}")
    return Call(f"{url}/v2/models/{NAME}/infer", body, headers)


def grpc_call(url: str, asked: Asked) -> Call:
    """KServe v2 over gRPC with raw tensors."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    tensors = [("ids", "INT64", asked.ids), ("dense", "FP32", asked.dense)]
    inputs = [{"name": name, "datatype": kind, "shape": rows.shape} for name, kind, rows in tensors]
    message = ModelInferRequest(
        model_name=NAME, inputs=inputs, outputs=[{"name": "score"}],
        raw_input_contents=[rows.tobytes() for _, _, rows in tensors],
    ).SerializeToString()  # fmt: skip
    body = struct.pack(">BI", 0, len(message)) + message
    return Call(f"{url}/inference.GRPCInferenceService/ModelInfer", body, _GRPC_HEADERS, grpc=True)


def answered(call: Call) -> np.ndarray[Any, Any]:
    """Ask once, by an ordinary client; returns the scores."""
    return _answered_grpc(call) if call.grpc else _answered_http(call)


def _answered_http(call: Call) -> np.ndarray[Any, Any]:
    import httpx

    headers = dict(header.split(": ") for header in call.headers)
    found = httpx.post(call.url, content=call.body, headers=headers, timeout=30).raise_for_status()
    if "inference-header-content-length" in headers:
        return np.frombuffer(found.content[int(found.headers["inference-header-content-length"]) :], np.float32)
    return np.array(found.json()["scores"])


def _answered_grpc(call: Call) -> np.ndarray[Any, Any]:
    import grpc
    from tritonclient.grpc.service_pb2 import ModelInferResponse

    host, method = call.url.removeprefix("http://").split("/", 1)
    with grpc.insecure_channel(host) as channel:
        reply = channel.unary_unary(f"/{method}", response_deserializer=ModelInferResponse.FromString)(call.body[5:])
    raw = reply.raw_output_contents
    return np.frombuffer(raw[0], np.float32) if raw else np.array(reply.outputs[0].contents.fp32_contents)
