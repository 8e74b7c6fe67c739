"""The real Prometheus answers for many moments at once what it answers for each of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from live import Live

from tidegate_operators.adapters.errors import NeighbourError
from tidegate_operators.adapters.prometheus import Prometheus

pytestmark = pytest.mark.e2e

STEP = timedelta(seconds=10)
TWO_SERIES = 'vector(1) or label_replace(vector(2), "side", "canary", "", "")'


@pytest.mark.parametrize("query", ["time()", "vector(3)", "sum(up)", "nosuch_metric", "1 / 0"])
def test_numbers_of_many_moments_are_those_of_each_one(live: Live, query: str) -> None:
    prometheus = Prometheus(live.addresses.prometheus)
    settled = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    moments = [settled + k * STEP for k in range(-6, 0)]
    assert prometheus.numbers(query, moments) == [prometheus.scalar(query, moment) for moment in moments]


@pytest.mark.parametrize("moments", [1, 3])
def test_a_query_that_yields_several_numbers_is_refused(live: Live, moments: int) -> None:
    settled = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    with pytest.raises(NeighbourError, match=r"series, not one number; .*max\(\)"):
        Prometheus(live.addresses.prometheus).numbers(TWO_SERIES, [settled + k * STEP for k in range(moments)])


def test_the_edges_of_the_gateways_histogram_are_known(live: Live) -> None:
    now = datetime.now(UTC)
    selector = 'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name!=""}'
    edges = Prometheus(live.addresses.prometheus).label_values("le", selector, now - timedelta(minutes=5), now)
    assert {100.0, float("inf")} <= {float(edge) for edge in edges}


def test_a_track_takes_series_that_do_not_tell_their_namespace(live: Live) -> None:
    now = datetime.now(UTC)
    labels = 'tidegate_namespace=~"nowhere|"'
    asked = (f"count(up{{{labels}}})", f"count(nv_inference_request_success{{{labels}}})")
    found = [Prometheus(live.addresses.prometheus).scalar(query, now) for query in asked]
    assert found[0], "most targets have no such label"
    assert found[1] is None, "Triton's have that of another namespace"


def test_a_query_that_is_none_is_refused_with_its_own_words(live: Live) -> None:
    with pytest.raises(NeighbourError, match="correct the metric"):
        Prometheus(live.addresses.prometheus).numbers("sum(", [datetime.now(UTC)])
