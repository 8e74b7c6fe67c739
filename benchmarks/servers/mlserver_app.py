"""The same ONNX model as a runtime of MLServer's, as its documentation has custom runtimes."""

import os
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Ranker(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.environ["MODEL"]
        self.session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        kinds = {"ids": np.int64, "dense": np.float32}
        feeds = {one.name: NumpyCodec.decode_input(one).astype(kinds[one.name]) for one in payload.inputs}
        scores = self.session.run(["score"], feeds)[0]
        outputs = [NumpyCodec.encode_output("score", scores)]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)
