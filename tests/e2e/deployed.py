"""A deployment of a test's own, asked through the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from live import MODEL, Live, Trained, registry

from tidegate_demo.traffic import Running

__all__ = ["LONGEST", "PLAIN", "RATE", "SCALING", "all_answered", "answer", "ask", "deployed"]

RATE, LONGEST = 100.0, 600.0
"""Requests a second of a test's traffic, and the seconds after which it ends by itself."""
SCALING = {"minReplicas": 1, "maxReplicas": 2, "targets": [{"queueTime": "50ms"}], "scaleDownDelay": "10s"}
PLAIN: dict[str, Any] = {
    "gpus": 0,
    "backend": "onnxruntime",
    "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
}
_HTTP = httpx.Client(verify=False)  # plain HTTP: reading all certificates for each request cost more than the request


@contextmanager
def deployed(shop: Live, trained: Trained, name: str, **spec: Any) -> Iterator[None]:
    """The first version serves under a name of its own; it is deleted at the end."""
    shop.name_version(trained.first, name)
    shop.deploy(name, registry(name), **spec)
    try:
        shop.wait_for(name, lambda found: found.status.stable is not None, 180, "the first revision serves")
        yield
    finally:
        shop.cluster.kubectl.run("delete", "md", name, "-n", shop.namespace)


def all_answered(running: Running, shop: Live, at_least: int) -> None:
    """Wait for so many requests; none may have failed."""
    enough = lambda: (running.counts().sent >= at_least, str(running.counts()))  # noqa: E731
    shop.cluster.wait(enough, 120, f"{at_least} requests")
    assert running.counts().failed == 0, running.counts()


def ask(shop: Live, host: str, body: str, *, model: str = MODEL, **headers: str) -> int:
    """The status of one request."""
    return answer(shop, host, body, model=model, **headers).status_code


def answer(shop: Live, host: str, body: str, *, model: str = MODEL, **headers: str) -> httpx.Response:
    """The answer to one request, through the gateway."""
    url = f"{shop.addresses.gateway}/v2/models/{model}/infer"
    content = {"Host": host, "Content-Type": "application/json"} | headers
    return _HTTP.post(url, content=body, headers=content, timeout=10)
