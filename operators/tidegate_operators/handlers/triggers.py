"""Every trigger of the operator, on one page."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
from prometheus_client import start_http_server

from tidegate_api.errors import TidegateError
from tidegate_api.feature_view import FeatureView
from tidegate_api.hashes import content_hash
from tidegate_api.model_deployment import ModelDeployment
from tidegate_api.resource import API_VERSION, Condition, Resource
from tidegate_operators.adapters.cluster import NamespaceGoneError
from tidegate_operators.adapters.errors import NeighbourError
from tidegate_operators.handlers import feature_view, model_deployment
from tidegate_operators.handlers.aliases import AliasWatch
from tidegate_operators.handlers.keeper import Keeper, Key
from tidegate_operators.handlers.leadership import Leadership
from tidegate_operators.handlers.metrics import forget_verdicts, observed_reconciliation, show_leadership
from tidegate_operators.handlers.neighbours import Neighbours, connect
from tidegate_operators.handlers.state_metrics import state_metrics
from tidegate_operators.resources.metadata import DEPLOYMENT_LABEL, FEATURE_VIEW_LABEL
from tidegate_operators.rollout.observed import Announcement

__all__ = ["reconcile"]

_METRICS_PORT = 9090
_POLL_SECONDS = 5
_log = logging.getLogger("tidegate")
_UNREADABLE = timedelta(minutes=2)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Connect once, bound every watch in time so that a silent one is noticed, and export metrics.

    In one namespace nothing is asked about namespaces and CRDs, which are the cluster's: kinds must be there already.
    """
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
    settings.watching.connect_timeout = 10
    settings.posting.enabled = False
    settings.scanning.disabled = "TIDEGATE_NAMESPACE" in os.environ
    neighbours = connect(os.environ)
    aliases = AliasWatch()
    memo.marks = {}
    memo.keeper = keeper = Keeper(lambda key: reconcile(key, neighbours, aliases))
    loop = asyncio.get_running_loop()
    memo.tasks = [loop.create_task(_follow_aliases(keeper, neighbours, aliases))]
    if os.environ.get("TIDEGATE_LEASE_NAMESPACE"):
        memo.tasks.append(loop.create_task(_leadership(keeper, neighbours, loop).hold()))
    else:
        keeper.lead(True)
    start_http_server(int(os.environ.get("TIDEGATE_METRICS_PORT", _METRICS_PORT)))


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Let the Lease go, so that another operator leads at once."""
    for task in memo.tasks:
        task.cancel()
    await asyncio.gather(*memo.tasks, return_exceptions=True)


def _leadership(keeper: Keeper, neighbours: Neighbours, loop: asyncio.AbstractEventLoop) -> Leadership:
    def changed(leads: bool) -> None:
        show_leadership(leads)
        if not leads:
            state_metrics.clear()
        loop.call_soon_threadsafe(keeper.lead, leads)

    identity = os.environ.get("HOSTNAME") or f"operator-{os.getpid()}"
    return Leadership(neighbours.cluster, identity, os.environ["TIDEGATE_LEASE_NAMESPACE"], changed)


async def _follow_aliases(keeper: Keeper, neighbours: Neighbours, aliases: AliasWatch) -> None:
    """Ask the registry where all aliases point, and look at the deployments whose alias has moved."""
    period = float(os.environ.get("TIDEGATE_REGISTRY_POLL_SECONDS", _POLL_SECONDS))
    while True:
        await asyncio.sleep(period)
        if aliases.is_needed:
            for key in aliases.moved(await asyncio.to_thread(_versions, neighbours)):
                keeper.wake(key)


def _versions(neighbours: Neighbours) -> dict[tuple[str, str], str] | None:
    """Where every alias points; none where the registry does not say, whatever keeps it from doing so."""
    try:
        return neighbours.registry.aliases()
    except NeighbourError:
        return None
    except Exception:
        _log.exception("The registry's aliases could not be read; they are asked for again.")
        return None


@kopf.on.event(API_VERSION, "modeldeployments")
@kopf.on.event(API_VERSION, "featureviews")
async def resource_changed(body: kopf.Body, type: str | None, memo: kopf.Memo, **_: Any) -> None:
    """A resource was listed, added or changed: look at it. It was deleted: its objects go with it, by their owner.

    A status that the operator wrote itself is no news.
    """
    key = (str(body["kind"]), str(body["metadata"]["namespace"]), str(body["metadata"]["name"]))
    if type == "DELETED":
        memo.marks.pop(key, None)
        memo.keeper.forget(key)
    elif type != "MODIFIED" or memo.marks.get(key) != _mark(body):
        memo.marks[key] = _mark(body)
        memo.keeper.keep(key)


def _mark(body: kopf.Body) -> tuple[Any, ...]:
    """What people and other programs say by a resource: everything but its status."""
    metadata = body["metadata"]
    parts = (metadata.get(name) for name in ("generation", "deletionTimestamp", "annotations", "labels"))
    return (metadata["uid"], *(dict(part) if isinstance(part, Mapping) else part for part in parts))


@kopf.on.event("apps/v1", "deployments", labels={DEPLOYMENT_LABEL: kopf.PRESENT})
async def server_changed(meta: kopf.Meta, memo: kopf.Memo, **_: Any) -> None:
    """Pods became ready, or stopped being so: look at the ModelDeployment."""
    memo.keeper.wake(("ModelDeployment", str(meta.namespace), meta.labels[DEPLOYMENT_LABEL]))


@kopf.on.event("v1", "services", labels={DEPLOYMENT_LABEL: kopf.PRESENT})
async def service_changed(meta: kopf.Meta, spec: kopf.Spec, type: str | None, memo: kopf.Memo, **_: Any) -> None:
    """Somebody edited or deleted a Service, which cuts off whoever is behind it: look at the ModelDeployment.

    HPAs and budgets are not watched: their status changes all day, and traffic does not hang on them.
    """
    key, mark = ("Service", str(meta.namespace), str(meta.name)), (content_hash(dict(spec)),)
    known = memo.marks.pop(key, None)
    if type != "DELETED":
        memo.marks[key] = mark
    if type == "DELETED" or known not in (None, mark):
        memo.keeper.wake(("ModelDeployment", str(meta.namespace), meta.labels[DEPLOYMENT_LABEL]))


@kopf.on.event("gateway.networking.k8s.io/v1", "httproutes", labels={DEPLOYMENT_LABEL: kopf.PRESENT})
@kopf.on.event("gateway.networking.k8s.io/v1", "grpcroutes", labels={DEPLOYMENT_LABEL: kopf.PRESENT})
async def route_changed(meta: kopf.Meta, memo: kopf.Memo, **_: Any) -> None:
    """The gateway took a route, or refused it, or somebody changed it: look at the ModelDeployment."""
    memo.keeper.wake(("ModelDeployment", str(meta.namespace), meta.labels[DEPLOYMENT_LABEL]))


@kopf.on.event("batch/v1", "jobs", labels={FEATURE_VIEW_LABEL: kopf.PRESENT})
async def job_changed(meta: kopf.Meta, memo: kopf.Memo, **_: Any) -> None:
    """A materialization began or ended: look at the FeatureView."""
    memo.keeper.wake(("FeatureView", str(meta.namespace), meta.labels[FEATURE_VIEW_LABEL]))


def reconcile(key: Key, neighbours: Neighbours, aliases: AliasWatch) -> timedelta | None:
    """One look at the newest state of a resource; none when it is gone or going."""
    kind, namespace, name = key
    with observed_reconciliation(kind):
        body = neighbours.cluster.get(kind, namespace, name)
        if body is not None and not body["metadata"].get("deletionTimestamp"):
            try:
                return _reconcile(key, body, neighbours, aliases)
            except NamespaceGoneError:
                pass
            except TidegateError as error:
                return _cannot_read(body, error, neighbours)
    aliases.forget(key)
    _forget_metrics(kind, namespace, name)
    return None


def _forget_metrics(kind: str, namespace: str, name: str) -> None:
    if kind == "ModelDeployment":
        state_metrics.forget_rollout(namespace, name)
        forget_verdicts(namespace, name)
    else:
        state_metrics.forget_view(namespace, name)


def _reconcile(key: Key, body: dict[str, Any], neighbours: Neighbours, aliases: AliasWatch) -> timedelta:
    now = datetime.now(UTC)
    if key[0] == "FeatureView":
        return feature_view.reconcile(FeatureView.parse(body), neighbours, now)
    deployment = ModelDeployment.parse(body)
    aliases.saw(key, deployment)
    return model_deployment.reconcile(deployment, neighbours, now)


def _cannot_read(body: dict[str, Any], error: TidegateError, neighbours: Neighbours) -> timedelta:
    """An object that the API server let in and this release refuses: said by Event, and by a status where it has none.

    A status that tells of what serves is left as it is.
    """
    resource, now = Resource.model_validate(body), datetime.now(UTC)
    neighbours.cluster.announce(resource, Announcement("Warning", "InvalidSpec", str(error)), now)
    known = body.get("status", {}).get("conditions", [])
    told = bool(known) and all(condition.get("message") == str(error) for condition in known)
    if not told and all(condition.get("reason") == "InvalidSpec" for condition in known):
        generation = resource.metadata.generation
        said = {"reason": "InvalidSpec", "message": str(error), "observed_generation": generation}
        ready = Condition(type="Ready", status="False", last_transition_time=now, **said)
        stalled = Condition(type="Stalled", status="True", last_transition_time=now, **said)
        conditions = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in (ready, stalled)]
        neighbours.cluster.apply_status(resource, {"conditions": conditions})
    return _UNREADABLE
