"""Which series are asked for."""

from __future__ import annotations

import re

import pytest

from rollouts import deployment
from tidegate_api.model_deployment import Metric
from tidegate_operators.rollout.profiles import CONTOUR, TRITON, profile_of, question, track, unseen

TRACK = track("ctr-ranker", ["bbbb", "aaaa"], "shop")


def _metric(**kind: object) -> Metric:
    analysis = {"metrics": [{"name": "m", "role": "guard", "margin": 0.01, **kind}]}
    return deployment(analysis=analysis).spec.analysis.metrics[0]


def test_the_track_names_deployment_and_both_revisions_in_this_namespace_or_none() -> None:
    """Two deployments of one name and one revision, in two namespaces, are two; whoever counts may not say where."""
    assert TRACK == 'tidegate_namespace=~"shop|",tidegate_deployment="ctr-ranker",tidegate_revision=~"aaaa|bbbb"'


def test_errors_are_http_and_grpc_failures_at_contour() -> None:
    asked = question(_metric(errorRate={}), CONTOUR, TRACK)
    assert asked is not None
    assert len(asked.events) == 2
    assert all(TRACK in selector for selector in (*asked.events, *asked.trials))


@pytest.mark.parametrize(
    ("above", "edges"), [("100ms", ["100", "100.0"]), ("500us", ["0.5"]), ("1s", ["1000", "1000.0"])]
)
def test_a_bucket_edge_is_found_however_prometheus_writes_it(above: str, edges: list[str]) -> None:
    asked = question(_metric(slowRequests={"above": above}), CONTOUR, TRACK)
    assert asked is not None
    assert asked.complement
    pattern = re.search(r'le=~"([^"]*)"', asked.events[0])
    assert pattern is not None
    assert all(re.fullmatch(pattern[1], edge) for edge in edges)
    assert not re.fullmatch(pattern[1], "10")


def test_a_ratio_is_asked_in_the_user_s_own_words() -> None:
    ratio = {"events": "clicks_total{$track}", "trials": "impressions_total{$track}"}
    asked = question(_metric(ratio=ratio, higherIsBetter=True), TRITON, TRACK)
    assert asked is not None
    assert asked.events == (f"clicks_total{{{TRACK}}}",)


def test_an_unknown_gateway_falls_back_to_triton_and_says_what_it_cannot_see() -> None:
    metric = _metric(slowRequests={"above": "100ms"})
    assert profile_of("example.com/unknown") is TRITON
    assert question(metric, TRITON, TRACK) is None
    assert "100ms" in unseen(metric, TRITON)
