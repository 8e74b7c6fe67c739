"""The API server as `kubectl` reaches it, for the plugin. The client is imported late: it takes seconds."""

from __future__ import annotations

from typing import Any

from tidegate_api.errors import TidegateError
from tidegate_api.resource import GROUP, VERSION

__all__ = ["Connection"]

_PLURALS = {"ModelDeployment": "modeldeployments", "FeatureView": "featureviews"}


class Connection:
    """One namespace of the cluster that KUBECONFIG names."""

    def __init__(self, namespace: str | None) -> None:
        from kubernetes import client, config

        try:
            config.load_kube_config()
            context: dict[str, Any] = config.list_kube_config_contexts()[1]
        except config.ConfigException as error:
            raise _refused("KUBECONFIG", str(error), "a kubeconfig with a context", "set KUBECONFIG") from error
        self._namespace = namespace or context["context"].get("namespace", "default")
        self._api = client.CustomObjectsApi()

    def read(self, kind: str, name: str | None) -> list[dict[str, Any]]:
        """All objects of a kind, or the one of that name."""
        from kubernetes.client.exceptions import ApiException

        where = (GROUP, VERSION, self._namespace, _PLURALS[kind])
        try:
            if name:
                return [self._api.get_namespaced_custom_object(*where, name)]
            found: list[dict[str, Any]] = self._api.list_namespaced_custom_object(*where)["items"]
        except ApiException as error:
            raise self._missing(kind, name, error) from error
        return found

    def annotate(self, kind: str, name: str, annotations: dict[str, str | None]) -> None:
        """Set annotations; none removes one."""
        from kubernetes.client.exceptions import ApiException

        body = {"metadata": {"annotations": annotations}}
        try:
            self._api.patch_namespaced_custom_object(GROUP, VERSION, self._namespace, _PLURALS[kind], name, body)
        except ApiException as error:
            raise self._missing(kind, name, error) from error

    def _missing(self, kind: str, name: str | None, error: Exception) -> TidegateError:
        where = f"an object in namespace {self._namespace} (the API server says: {getattr(error, 'reason', error)})"
        return _refused("name", name, where, "check the name, -n and that the CRDs are installed", kind)


def _refused(
    field: str, value: object, expected: str, remedy: str, resource: str = "kubectl tidegate"
) -> TidegateError:
    return TidegateError(resource=resource, field=field, value=value, expected=expected, remedy=remedy)
