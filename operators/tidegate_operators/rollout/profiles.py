"""Which series of which gateway count requests, failures and slow answers of a revision.

Contour's Envoy names clusters by Service and counts gRPC status, so it shows everything; a gateway without a profile
falls back to Triton's own counters, which do not see latency or what never reached a server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate_api.durations import format_duration
from tidegate_api.model_deployment import Metric

__all__ = ["CONTOUR", "TRITON", "Profile", "Question", "profile_of", "question", "track", "unseen"]

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Profile:
    """Bare counter selectors with `$track`. `bucket` counts answers at or below `$edge` ms, one of those of `buckets`;
    empty where unseen.
    """

    name: str
    requests: str
    failures: tuple[str, ...]
    timed: str = ""
    bucket: str = ""
    buckets: str = ""


CONTOUR = Profile(
    name="Contour",
    requests="envoy_cluster_upstream_rq_xx{$track}",
    failures=(
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",$track}',
        "envoy_cluster_grpc_failure{$track}",
    ),
    timed="envoy_cluster_upstream_rq_time_count{$track}",
    bucket='envoy_cluster_upstream_rq_time_bucket{le=~"$edge",$track}',
    buckets="envoy_cluster_upstream_rq_time_bucket{$track}",
)
TRITON = Profile(
    name="Triton",
    requests="{__name__=~'nv_inference_request_(success|failure)',$track}",
    failures=("nv_inference_request_failure{$track}",),
)
_BY_CONTROLLER = {"projectcontour.io/gateway-controller": CONTOUR}


def profile_of(controller: str | None) -> Profile:
    """The profile of a GatewayClass's controllerName."""
    return _BY_CONTROLLER.get(controller or "", TRITON)


@dataclass(frozen=True)
class Question:
    """What to ask Prometheus for one metric. `complement`: what `events` counts are trials without an event.

    Of a mean, `events` sums up the number and `squares` its square. Of slow requests, `buckets` has all edges.
    """

    metric: str
    events: tuple[str, ...]
    trials: tuple[str, ...]
    complement: bool = False
    squares: tuple[str, ...] = ()
    buckets: str = ""


def track(deployment: str, revisions: Iterable[str], namespace: str) -> str:
    """The labels that `$track` stands for, of one side or of several.

    Series of another namespace, where a deployment may have the same name and revisions, are none of them; those that
    do not tell their namespace are.
    """
    sides = "|".join(sorted(revisions))
    return f'tidegate_namespace=~"{namespace}|",tidegate_deployment="{deployment}",tidegate_revision=~"{sides}"'


def question(metric: Metric, profile: Profile, labels: str) -> Question | None:
    """The question of a comparing metric; none where the gateway's profile cannot answer it."""
    if metric.ratio is not None:
        return _question(metric.name, (metric.ratio.events,), metric.ratio.trials, labels)
    if metric.mean is not None:
        asked = _question(metric.name, (metric.mean.sum,), metric.mean.count, labels)
        return replace(asked, squares=(metric.mean.sum_of_squares.replace("$track", labels),))
    if metric.error_rate is not None:
        return _question(metric.name, profile.failures, profile.requests, labels)
    if metric.slow_requests is not None and profile.bucket:
        bucket = profile.bucket.replace("$edge", _edge(metric.slow_requests.above))
        asked = _question(metric.name, (bucket,), profile.timed, labels, complement=True)
        return replace(asked, buckets=profile.buckets.replace("$track", labels))
    return None


def _question(name: str, events: tuple[str, ...], trials: str, labels: str, complement: bool = False) -> Question:
    expanded = tuple(text.replace("$track", labels) for text in events)
    return Question(name, expanded, (trials.replace("$track", labels),), complement)


def _edge(above: timedelta) -> str:
    """A bucket edge in ms as a regular expression: Prometheus 2 keeps Envoy's 100, Prometheus 3 makes it 100.0."""
    text = format(above / _MILLISECOND, "g")
    return text.replace(".", "[.]") if "." in text else f"{text}([.]0)?"


def unseen(metric: Metric, profile: Profile) -> str:
    """Why a question has no answer, in a sentence."""
    above = format_duration(metric.slow_requests.above) if metric.slow_requests else ""
    return (
        f"Metric {metric.name} asks for requests above {above}, but {profile.name}'s counters hold no latency; "
        "use a gateway with a profile or remove the metric"
    )
