"""config.pbtxt of a package's model, in Triton's text format (model_config.proto).

Its settings follow from what `benchmarks/serving.py` measures (docs/benchmarks.md) and from the size of the model, so
that one content has one digest wherever it is packaged.
"""

from __future__ import annotations

__all__ = ["MAX_BATCH_SIZE", "model_config"]

MAX_BATCH_SIZE = 1024
_JOINED_ROWS = 128
"""Requests are joined up to so many rows: a row costs no less in a larger run, and a larger request starts at once."""
_QUEUE_DELAY_US = 0
"""Requests that wait for an instance are joined anyway; a delay only adds itself where few ask."""
_INSTANCES = 2
"""One works while the other's answers are on their way, and each has a core."""
_TWICE_BYTES = 256 << 20
"""Weights above this are held once: every instance holds them for itself."""

_TEMPLATE = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [
  {{ name: "ids" data_type: TYPE_INT64 dims: [ {ids} ] }},
  {{ name: "dense" data_type: TYPE_FP32 dims: [ {dense} ] }}
]
output [
  {{ name: "score" data_type: TYPE_FP32 dims: [ 1 ] }}
]
instance_group [ {{ count: {instances} kind: KIND_AUTO }} ]
dynamic_batching {{ preferred_batch_size: [ {joined} ] max_queue_delay_microseconds: {queue_delay} }}
version_policy: {{ specific: {{ versions: [ 1 ] }} }}
model_warmup [
{warmups}
]
"""

_WARMUP = """\
  {{
    name: "rows_{rows}"
    batch_size: {rows}
    inputs: {{ key: "ids" value: {{ data_type: TYPE_INT64 dims: [ {ids} ] zero_data: true }} }}
    inputs: {{ key: "dense" value: {{ data_type: TYPE_FP32 dims: [ {dense} ] zero_data: true }} }}
  }}"""


def model_config(name: str, ids: int, dense: int, weight_bytes: int = 0) -> str:
    """Configuration of a model of `ids` id columns and `dense` numbers; it warms up with one row and with 64."""
    warmups = ",\n".join(_WARMUP.format(rows=rows, ids=ids, dense=dense) for rows in (1, 64))
    return _TEMPLATE.format(
        name=name, max_batch_size=MAX_BATCH_SIZE, ids=ids, dense=dense, joined=_JOINED_ROWS,
        queue_delay=_QUEUE_DELAY_US, instances=1 if weight_bytes > _TWICE_BYTES else _INSTANCES, warmups=warmups,
    )  # fmt: skip
