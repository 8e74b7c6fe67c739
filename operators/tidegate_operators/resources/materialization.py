"""ConfigMap, CronJob and Job that materialize a FeatureView from the components image."""

from __future__ import annotations

from typing import Any

import yaml

from tidegate_api.feature_view import FeatureView
from tidegate_operators.resources.metadata import (
    DEFINITION_LABEL,
    FEATURE_VIEW_LABEL,
    claims,
    metadata,
    restricted_container,
    restricted_pod,
)
from tidegate_operators.resources.platform import Platform

__all__ = ["components_container", "definition", "definition_object", "job_name", "materialization_objects"]

_HASH_LENGTH = 8
_HISTORY = 2
_RETRIES = 3
_DEADLINE_SECONDS = 3600


def job_name(view: FeatureView) -> str:
    """The Job that materializes this definition for the first time."""
    return f"{view.metadata.name}-{definition(view)}"


def definition(view: FeatureView) -> str:
    """Names the computation: runs of another one say nothing about this one."""
    return view.transform_hash[:_HASH_LENGTH]


def materialization_objects(view: FeatureView, platform: Platform) -> list[dict[str, Any]]:
    """The definition as a file, a Job that materializes it now, and a CronJob that goes on doing so."""
    return [definition_object(view), _job(view, platform), _cron_job(view, platform)]


def _labels(view: FeatureView) -> dict[str, str]:
    return {"app.kubernetes.io/name": "materialization", FEATURE_VIEW_LABEL: view.metadata.name}


def definition_object(view: FeatureView) -> dict[str, Any]:
    """The view as a file that pods read, named by its computation."""
    document = {
        "apiVersion": view.api_version,
        "kind": view.kind,
        "metadata": {"name": view.metadata.name, "namespace": view.metadata.namespace},
        "spec": view.spec.to_dict(),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(view, job_name(view), _labels(view)),
        "data": {"view.yaml": yaml.safe_dump(document, sort_keys=False)},
    }


def _job(view: FeatureView, platform: Platform) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(view, job_name(view), _labels(view)),
        "spec": _job_spec(view, platform),
    }


def _cron_job(view: FeatureView, platform: Platform) -> dict[str, Any]:
    plan = view.spec.materialization
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(view, f"{view.metadata.name}-scheduled", _labels(view)),
        "spec": {
            "schedule": plan.schedule,
            "timeZone": plan.time_zone,
            "suspend": plan.suspend,
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": _HISTORY,
            "failedJobsHistoryLimit": _HISTORY,
            "jobTemplate": {"metadata": {"labels": _labels(view)}, "spec": _job_spec(view, platform)},
        },
    }


def _job_spec(view: FeatureView, platform: Platform) -> dict[str, Any]:
    """Exit code 2 is bad input: no retry mends it. Anything else is tried again."""
    bad_input = {
        "action": "FailJob",
        "onExitCodes": {"containerName": "materialize", "operator": "In", "values": [2]},
    }
    return {
        "backoffLimit": _RETRIES,
        "activeDeadlineSeconds": _DEADLINE_SECONDS,
        "podFailurePolicy": {"rules": [bad_input]},
        "template": {
            "metadata": {"labels": _labels(view) | {DEFINITION_LABEL: definition(view)}},
            "spec": _pod(view, platform),
        },
    }


def _pod(view: FeatureView, platform: Platform) -> dict[str, Any]:
    log = view.spec.feature_log
    addresses = [view.spec.source.parquet.uri, view.spec.offline.uri, *([log.parquet.uri] if log else [])]
    volumes, mounts = claims(*addresses)
    fixed = [{"name": "view", "configMap": {"name": job_name(view)}}, {"name": "tmp", "emptyDir": {}}]
    return restricted_pod() | {
        "restartPolicy": "Never",
        "containers": [_container(view, platform, mounts)],
        "volumes": [*fixed, *volumes],
    }


def _container(view: FeatureView, platform: Platform, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    command = ["tidegate", "features", "materialize", "/view/view.yaml", "--incremental", "--online", "$(REDIS_URL)"]
    return components_container(view, platform, mounts) | {
        "name": "materialize",
        "command": [*command, "--report", "/dev/termination-log"],
    }


def components_container(view: FeatureView, platform: Platform, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """A container of the components image with the view as a file and its online store's address; no command yet."""
    return {
        "image": platform.components_image,
        "imagePullPolicy": platform.image_pull_policy,
        "env": [_redis_url(view), {"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
        "securityContext": restricted_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "view", "mountPath": "/view", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            *mounts,
        ],
    }


def _redis_url(view: FeatureView) -> dict[str, Any]:
    """The variable REDIS_URL of a container: in the clear, or from the view's Secret."""
    redis = view.spec.online.redis
    if redis.url_from is None:
        return {"name": "REDIS_URL", "value": redis.url}
    return {"name": "REDIS_URL", "valueFrom": {"secretKeyRef": redis.url_from.secret_key_ref.to_dict()}}
