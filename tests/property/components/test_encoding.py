"""Online values survive packing, whatever their types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate_components.features.encoding import Codec, Schema, StoredValue, from_micros, schema_of, to_micros
from unit.components.shop import parsed, view_body

BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "Int64": st.integers(-(2**63), 2**63 - 1),
    "Float64": st.floats(allow_nan=False),
    "String": st.text(),
    "Bool": st.booleans(),
    "Timestamp": st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)),
}
BY_TYPE |= {f"List<{kind}>": st.lists(st.none() | values, max_size=20) for kind, values in list(BY_TYPE.items())}


@st.composite
def rows(draw: st.DrawFn) -> tuple[Any, StoredValue]:
    kinds = draw(st.lists(st.sampled_from(sorted(BY_TYPE)), min_size=1, max_size=20))
    aggregate = {"function": "last", "column": "c", "window": "1d"}
    features = [{"name": f"f{i}", "type": kind, "aggregate": aggregate} for i, kind in enumerate(kinds)]
    values = tuple(draw(st.none() | BY_TYPE[kind]) for kind in kinds)
    return parsed(view_body("v", "user_id", features)), StoredValue(draw(st.integers(0, 2**60)), values)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows())
def test_what_is_packed_is_unpacked(row: tuple[Any, StoredValue]) -> None:
    view, value = row
    codec = Codec(Schema.of(view))
    data = codec.encode(value)
    assert codec.decode(data) == value
    assert schema_of(data) == bytes.fromhex(view.schema_hash)[:8]
    assert Schema.from_json(codec.schema.to_json()) == codec.schema


@given(BY_TYPE["Timestamp"])
def test_times_are_exact_to_the_microsecond(time: datetime) -> None:
    assert from_micros(to_micros(time)) == time
