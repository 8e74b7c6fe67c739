"""The launcher `trainjob`: create the TrainJob of an order or find it again, watch it, delete it on Ctrl-C."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate_components.storage import parquet_files
from tidegate_components.training.launch import LaunchError, RunFailedError, Site
from tidegate_components.training.run import Order
from tidegate_components.training.trainjob import (
    GROUP,
    PLURAL,
    VERSION,
    ended,
    on_claims,
    progress_line,
    train_job,
)

if TYPE_CHECKING:
    from kubernetes.client import CustomObjectsApi

__all__ = ["run_train_job"]

_WATCH_S = 60.0
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Say = Callable[[str], None]


def run_train_job(order: Order, processes: int, say: Say, site: Site) -> None:
    """Create the job of this order, or find it again, and wait until it is complete.

    Ctrl-C and a passed deadline delete it. Raises LaunchError where it fails or cannot be.
    """
    claims, moved = on_claims(order)
    body = train_job(moved, claims, processes, site, _state_of(order))
    jobs = _Jobs(_client(), site.namespace or _namespace())
    deadline = time.monotonic() + site.deadline_s
    try:
        _attach(jobs, body, say, deadline)
        _wait(jobs, body["metadata"]["name"], say, deadline)
    except KeyboardInterrupt:
        jobs.delete(body["metadata"]["name"])
        say(f"TrainJob {body['metadata']['name']} is deleted; --resume goes on from its newest checkpoint")
        raise
    _require_figures(order)


def _state_of(order: Order) -> list[list[Any]]:
    """Names, sizes and times of the data's files: where they change, the same order is another job."""
    folders = [order.train, order.valid, *([order.start] if order.start else [])]
    files = [file for folder in folders for file in parquet_files(folder)]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _client() -> CustomObjectsApi:
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    try:
        config.load_config()
    except ConfigException as error:
        raise LaunchError(
            resource="tidegate train", field="launcher", value="trainjob", expected="a cluster to speak to",
            remedy=f"set KUBECONFIG, or run in a pod ({error})",
        ) from error  # fmt: skip
    return client.CustomObjectsApi()


def _namespace() -> str:
    from kubernetes import config

    if _SERVICE_ACCOUNT.is_file() and not os.environ.get("KUBECONFIG"):
        return _SERVICE_ACCOUNT.read_text().strip()
    _, active = config.list_kube_config_contexts()
    return str(active["context"].get("namespace", "default"))


class _Jobs:
    """The TrainJobs of a namespace, as this launcher touches them."""

    def __init__(self, api: CustomObjectsApi, namespace: str) -> None:
        self._api, self._where = api, (GROUP, VERSION, namespace, PLURAL)

    def create(self, body: dict[str, Any]) -> bool:
        """Whether it is made; False where one of its name is there. Raises LaunchError in the API server's words.

        Strictly: a Trainer older than 2.2 would drop `runtimePatches`, and the pods would see no data.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            self._api.create_namespaced_custom_object(
                *self._where, body, field_validation="Strict", field_manager="tidegate-train", _request_timeout=30
            )
        except ApiException as error:
            if error.status == 409 and _reason(error)[0] == "AlreadyExists":
                return False
            raise _refused(body["metadata"]["name"], error) from error
        return True

    def get(self, name: str) -> dict[str, Any] | None:
        """The job, if it is there."""
        from kubernetes.client.exceptions import ApiException

        try:
            found: dict[str, Any] = self._api.get_namespaced_custom_object(*self._where, name, _request_timeout=30)
        except ApiException as error:
            if error.status == 404:
                return None
            raise _refused(name, error) from error
        return found

    def delete(self, name: str) -> None:
        """Remove it and its pods."""
        from kubernetes.client.exceptions import ApiException

        try:
            self._api.delete_namespaced_custom_object(
                *self._where, name, propagation_policy="Background", _request_timeout=30
            )
        except ApiException as error:
            if error.status != 404:
                raise _refused(name, error) from error

    def changes(self, name: str, deadline: float) -> Iterator[dict[str, Any]]:
        """The job as it is and whenever it changes, {} once it is gone, until the deadline.

        A connection that is lost or silent is taken up again by a fresh list, from which the watch goes on.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        only = f"metadata.name={name}"
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self._api.list_namespaced_custom_object(*self._where, field_selector=only, _request_timeout=30)
                yield found["items"][0] if found["items"] else {}
                yield from self._watched(only, found["metadata"]["resourceVersion"], max(int(min(left, _WATCH_S)), 1))
            except ApiException as error:
                if error.status != 410:
                    raise _refused(name, error) from error
            except HTTPError:
                time.sleep(2)

    def _watched(self, only: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        from kubernetes import watch

        for event in watch.Watch().stream(
            self._api.list_namespaced_custom_object, *self._where, field_selector=only, resource_version=version,
            timeout_seconds=seconds, _request_timeout=(10, seconds + 15),
        ):  # fmt: skip
            yield {} if event["type"] == "DELETED" else event["object"]


def _attach(jobs: _Jobs, body: dict[str, Any], say: Say, deadline: float) -> None:
    """Make the job; one that is there is gone on with, and one that failed or is going is made anew."""
    name = body["metadata"]["name"]
    if jobs.create(body):
        say(f"TrainJob {name} is created")
        return
    there = jobs.get(name)
    outcome = ended(there) if there else None
    if there and not there["metadata"].get("deletionTimestamp") and (outcome is None or outcome.well):
        say(f"TrainJob {name} is there already: {'its result is taken' if outcome else 'waiting for it'}")
        return
    say(f"TrainJob {name} of an earlier try goes, and is made anew")
    jobs.delete(name)
    _await_gone(jobs, name, deadline)
    jobs.create(body)


def _await_gone(jobs: _Jobs, name: str, deadline: float) -> None:
    for job in jobs.changes(name, deadline):
        if not job:
            return


def _wait(jobs: _Jobs, name: str, say: Say, deadline: float) -> None:
    last = ""
    for job in jobs.changes(name, deadline):
        if not job:
            raise _failed(name, "deleted", "a job that is left alone", "find out who deleted it and run again")
        if (line := progress_line(job)) != last:
            say(line)
            last = line
        if outcome := ended(job):
            if not outcome.well:
                raise _failed(name, outcome.message, "Complete", _LOGS.format(name=name))
            return
    jobs.delete(name)
    raise _failed(name, "past its deadline and deleted", "Complete in time", "raise --deadline-s; --resume goes on")


_LOGS = "read kubectl logs -l jobset.sigs.k8s.io/jobset-name={name}; --resume goes on from the newest checkpoint"


def _failed(name: str, value: str, expected: str, remedy: str) -> RunFailedError:
    return RunFailedError(resource=f"TrainJob {name}", field="outcome", value=value, expected=expected, remedy=remedy)


def _reason(error: Any) -> tuple[str, str]:
    """The API server's reason and sentence; without JSON the address itself is unknown."""
    try:
        said = json.loads(error.body)
        return said.get("reason", ""), said.get("message", "")
    except (TypeError, ValueError):
        return "", str(error.body or error.reason).strip()


def _refused(name: str, error: Any) -> LaunchError:
    reason, message = _reason(error)
    missing = error.status == 404 and not reason
    return LaunchError(
        resource=f"TrainJob {name}", field="API server", value="no such kind" if missing else message,
        expected=f"Kubeflow Trainer 2.2 or newer ({GROUP}/{VERSION}), which accepts it",
        remedy="install it, or use --launcher torchrun" if missing else "mend what the sentence above names",
    )  # fmt: skip


def _require_figures(order: Order) -> None:
    if not (order.out / "metrics.json").is_file():
        raise LaunchError(
            resource="tidegate train --launcher trainjob", field="out", value=str(order.out),
            expected="metrics.json, which the complete job has left on the claim",
            remedy="see that the claim is mounted here and in the pods, then run the command again",
        )  # fmt: skip
