"""config.pbtxt of a package's model, in Triton's text format (model_config.proto)."""

from __future__ import annotations

__all__ = ["MAX_BATCH_SIZE", "model_config"]

MAX_BATCH_SIZE = 1024
_QUEUE_DELAY_US = 500

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
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]
dynamic_batching {{ max_queue_delay_microseconds: {queue_delay} }}
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


def model_config(name: str, ids: int, dense: int) -> str:
    """Configuration of a model of `ids` id columns and `dense` numbers; it warms up with one row and with 64."""
    warmups = ",\n".join(_WARMUP.format(rows=rows, ids=ids, dense=dense) for rows in (1, 64))
    return _TEMPLATE.format(
        name=name, max_batch_size=MAX_BATCH_SIZE, ids=ids, dense=dense, queue_delay=_QUEUE_DELAY_US, warmups=warmups
    )
