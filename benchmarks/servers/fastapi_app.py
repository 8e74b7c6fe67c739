"""What one writes by hand: FastAPI, JSON, the same ONNX model. `MODEL=model.onnx uvicorn fastapi_app:app`."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Rows(BaseModel):
    ids: list[list[int]]
    dense: list[list[float]]


class Scores(BaseModel):
    scores: list[float]


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.post("/score")
async def score(rows: Rows) -> Scores:
    feeds = {"ids": np.array(rows.ids, dtype=np.int64), "dense": np.array(rows.dense, dtype=np.float32)}
    return Scores(scores=session.run(["score"], feeds)[0][:, 0].tolist())
