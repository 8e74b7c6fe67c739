"""The API server as `kubectl` reaches it, for the plugin. The client is imported late: it takes seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.resource import GROUP, VERSION

__all__ = ["Connection", "choose"]

_PLURALS = {"ModelDeployment": "modeldeployments", "FeatureView": "featureviews"}
_NOT_FOUND = 404


@dataclass
class Choice:
    """Which kubeconfig and which context in it; none is KUBECONFIG's and the current one, as with kubectl."""

    kubeconfig: str | None = None
    context: str | None = None


_chosen = Choice()


def choose(kubeconfig: str | None, context: str | None) -> None:
    """What every connection of this process takes."""
    _chosen.kubeconfig, _chosen.context = kubeconfig, context


class Connection:
    """One namespace of the cluster that was chosen."""

    def __init__(self, namespace: str | None) -> None:
        from kubernetes import client, config

        try:
            config.load_kube_config(_chosen.kubeconfig, _chosen.context)
            known, current = config.list_kube_config_contexts(_chosen.kubeconfig)
        except config.ConfigException as error:
            raise _no_kubeconfig(error) from error
        named = next((each for each in known if each["name"] == _chosen.context), None)
        context: dict[str, Any] = named or current
        settings = client.Configuration.get_default_copy()
        settings.retries = False
        self.namespace = str(namespace or context["context"].get("namespace", "default"))
        self._api = client.CustomObjectsApi(client.ApiClient(settings))

    def read(self, kind: str, name: str | None, everywhere: bool = False) -> list[dict[str, Any]]:
        """All objects of a kind, here or in every namespace, or the one of that name."""
        where = (GROUP, VERSION, self.namespace, _PLURALS[kind])
        with self._in_sentences(kind, name):
            if name:
                return [self._api.get_namespaced_custom_object(*where, name)]
            listed = (
                self._api.list_cluster_custom_object(GROUP, VERSION, _PLURALS[kind])
                if everywhere
                else self._api.list_namespaced_custom_object(*where)
            )
            found: list[dict[str, Any]] = listed["items"]
            return found

    def servers(self, name: str) -> list[dict[str, Any]]:
        """The Deployments of a ModelDeployment's revisions."""
        from kubernetes import client

        apps = client.AppsV1Api(self._api.api_client)
        with self._in_sentences("Deployment", None):
            labels = f"tidegate.dev/deployment={name}"
            found = apps.list_namespaced_deployment(self.namespace, label_selector=labels)
            bodies: list[dict[str, Any]] = self._api.api_client.sanitize_for_serialization(found)["items"]
            return bodies

    def annotate(self, kind: str, name: str, annotations: dict[str, str | None]) -> None:
        """Set annotations; none removes one."""
        body = {"metadata": {"annotations": annotations}}
        with self._in_sentences(kind, name):
            self._api.patch_namespaced_custom_object(GROUP, VERSION, self.namespace, _PLURALS[kind], name, body)

    def wait_until_seen(self, name: str, holds: Callable[[dict[str, Any]], bool], seconds: int = 30) -> None:
        """Watch one ModelDeployment until it is so, or the time is up."""
        from kubernetes import watch

        stream = watch.Watch().stream(
            self._api.list_namespaced_custom_object, GROUP, VERSION, self.namespace, _PLURALS["ModelDeployment"],
            field_selector=f"metadata.name={name}", timeout_seconds=seconds,
        )  # fmt: skip
        with self._in_sentences("ModelDeployment", name):
            next((event for event in stream if holds(event["object"])), None)

    @contextmanager
    def _in_sentences(self, kind: str, name: str | None) -> Iterator[None]:
        """Whatever the API server answers, or that it does not, becomes one sentence."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            raise self._refused(kind, name, error.status, str(error.reason)) from error
        except HTTPError as error:
            where = self._api.api_client.configuration.host
            raise TidegateError(
                resource="kubectl tidegate",
                field="the API server",
                value=where,
                expected=f"one that answers ({type(error).__name__})",
                remedy="check that the cluster runs and that KUBECONFIG names it",
            ) from error

    def _refused(self, kind: str, name: str | None, status: int, reason: str) -> TidegateError:
        missing = status == _NOT_FOUND
        return TidegateError(
            resource=kind,
            field="name" if name else "kind",
            value=name or kind,
            expected=f"one that namespace {self.namespace} has"
            if missing
            else f"one that you may use (the API server says: {reason})",
            remedy="check the name and -n, and that Tidegate is installed" if missing else "ask who runs the cluster",
        )


def _no_kubeconfig(error: Exception) -> TidegateError:
    return TidegateError(
        resource="kubectl tidegate",
        field="KUBECONFIG",
        value=_chosen.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config",
        expected=f"a kubeconfig with {_chosen.context or 'a current context'} ({str(error).rstrip('.')})",
        remedy="set KUBECONFIG to one, or choose a context by `kubectl config use-context` or --context",
    )
