"""Look at everything once: the source, the servers, the routes and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tidegate_api.annotations import UNDO_TO
from tidegate_api.model_deployment import ModelDeployment, ResolvedModel
from tidegate_operators.adapters.errors import NeighbourError, RefusedError
from tidegate_operators.handlers.apply import Body, Name
from tidegate_operators.handlers.evidence import read_evidence
from tidegate_operators.handlers.neighbours import Neighbours
from tidegate_operators.handlers.observe_routes import observe_routes
from tidegate_operators.handlers.observe_scaling import observe_scaling
from tidegate_operators.handlers.observe_servers import observe_servers
from tidegate_operators.handlers.observe_views import observe_views
from tidegate_operators.handlers.pods import free_gpus
from tidegate_operators.rollout.observed import Failure, Observed
from tidegate_operators.rollout.source import revision_of

__all__ = ["observe"]


def observe(
    deployment: ModelDeployment, present: Mapping[Name, Body], neighbours: Neighbours, now: datetime
) -> Observed:
    """Everything that `decide` needs, in one look. Neighbours that do not answer become failures, not exceptions.

    present: the deployment's own objects, as they stand.
    """
    model, model_failure = _model(deployment, neighbours)
    routes, profile = observe_routes(deployment, present, neighbours.cluster)
    images = neighbours.platform.images(deployment.spec.runtime)
    found, until, metrics_failure = read_evidence(deployment, neighbours.prometheus, profile, now)
    return Observed(
        model=model,
        model_failure=model_failure,
        servers=observe_servers(deployment, present, neighbours.cluster),
        routes=routes,
        windows=tuple(found),
        judged_until=until,
        images=images,
        views=observe_views(model, deployment.metadata.namespace, neighbours.cluster),
        free_gpus=_free_gpus(deployment, model, neighbours),
        metrics_failure=metrics_failure,
        scaling_failure=observe_scaling(deployment, present, now),
    )


def _model(deployment: ModelDeployment, neighbours: Neighbours) -> tuple[ResolvedModel | None, Failure | None]:
    """What the source names; while the registry is away, what it last named stays in force."""
    package, registry = deployment.spec.model.package, deployment.spec.model.registry
    if package is not None:
        facts = {"digest": package.digest, "uri": package.uri, "feature_views": package.feature_views}
        return ResolvedModel(name=deployment.model_name, **facts), None
    if registry is None:
        return None, None
    try:
        return _known_version(deployment, neighbours.registry.resolve(registry)), None
    except NeighbourError as error:
        return deployment.status.source, error.failure


def _known_version(deployment: ModelDeployment, found: ResolvedModel) -> ResolvedModel:
    """A version is resolved to a digest once: tags that change later change nothing."""
    known = deployment.status.source
    same = known is not None and (known.name, known.version) == (found.name, found.version)
    return known if known is not None and same else found


def _free_gpus(
    deployment: ModelDeployment, model: ResolvedModel | None, neighbours: Neighbours
) -> tuple[int, ...] | None:
    """GPUs that nobody has, where a rollout that needs some is about to start."""
    status = deployment.status
    if not deployment.spec.runtime.gpus or model is None or status.canary is not None:
        return None
    stable, rejected = status.stable, status.rejected
    target = revision_of(deployment, model).hash
    undo = deployment.metadata.annotations.get(UNDO_TO)
    stays = target in (stable.hash if stable else None, rejected.hash if rejected else None)
    if stays and undo in (None, status.undone_to):
        return None
    try:
        return free_gpus(neighbours.cluster.list("Node", "", {}), neighbours.cluster.list("Pod", "", {}))
    except RefusedError:
        return None
