"""One of several operators leads: a Lease that is renewed, and taken over when it was not.

The rules are those of client-go's leader election. https://pkg.go.dev/k8s.io/client-go/tools/leaderelection
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate_operators.adapters.cluster import Cluster
from tidegate_operators.adapters.errors import NeighbourError

__all__ = ["LEASE", "Leadership", "claim", "release"]

LEASE = "tidegate-operator"
_DURATION = timedelta(seconds=10)
_GIVE_UP = timedelta(seconds=7)
_PERIOD = timedelta(seconds=2)
# How far the clocks of two nodes may be apart.
_SKEW = timedelta(seconds=3)
_log = logging.getLogger("tidegate")

Body = dict[str, Any]


def claim(lease: Mapping[str, Any] | None, identity: str, namespace: str, now: datetime) -> Body | None:
    """The Lease to write so that `identity` leads from now on; none while another's still holds.

    lease: as the API server has it; none where there is none yet.
    """
    spec = lease.get("spec", {}) if lease else {}
    holder = spec.get("holderIdentity") or None
    if holder not in (None, identity) and not _has_expired(spec, now):
        return None
    stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    changes = int(spec.get("leaseTransitions", 0)) + (holder != identity)
    since = spec.get("acquireTime", stamp) if holder == identity else stamp
    return _body(lease, namespace) | {
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": int(_DURATION.total_seconds()),
            "acquireTime": since,
            "renewTime": stamp,
            "leaseTransitions": changes,
        }
    }


def release(lease: Mapping[str, Any], identity: str) -> Body | None:
    """The Lease to write so that another may lead at once; none where it is not ours."""
    spec = lease.get("spec", {})
    if spec.get("holderIdentity") != identity:
        return None
    return _body(lease, lease["metadata"]["namespace"]) | {
        "spec": spec | {"holderIdentity": "", "leaseDurationSeconds": 1}
    }


def _has_expired(spec: Mapping[str, Any], now: datetime) -> bool:
    renewed = spec.get("renewTime")
    if renewed is None:
        return True
    length = timedelta(seconds=int(spec.get("leaseDurationSeconds", 0)))
    return now - datetime.fromisoformat(renewed) > length + (_SKEW if spec.get("holderIdentity") else timedelta(0))


def _body(lease: Mapping[str, Any] | None, namespace: str) -> Body:
    metadata = {"name": LEASE, "namespace": namespace}
    version = lease["metadata"].get("resourceVersion") if lease else None
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata | ({"resourceVersion": version} if version else {}),
    }


@dataclass
class Leadership:
    """Keeps trying to lead, and tells when that begins and ends. Without a namespace there is nobody to agree with."""

    cluster: Cluster
    identity: str
    namespace: str
    changed: Callable[[bool], None]
    _renewed: datetime | None = None

    async def hold(self) -> None:
        """Renew or claim, again and again; on cancellation let the Lease go."""
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="lease") as alone:  # never behind looks
                while True:
                    await asyncio.get_running_loop().run_in_executor(alone, self._renew_now)
                    await asyncio.sleep(_PERIOD.total_seconds())
        finally:
            self.let_go()

    def _renew_now(self) -> None:
        self.renew(datetime.now(UTC))

    def renew(self, now: datetime) -> None:
        """One try. Whoever could not renew for a while no longer leads: another may."""
        if self._wrote(now):
            if self._renewed is None:
                _log.info("%s leads.", self.identity)
                self.changed(True)
            self._renewed = now
        elif self._renewed is not None and now - self._renewed > _GIVE_UP:
            self._lose()

    def let_go(self) -> None:
        """Let another lead at once."""
        if self._renewed is None:
            return
        self._lose()
        with suppress(NeighbourError):
            lease = self.cluster.get("Lease", self.namespace, LEASE)
            body = release(lease, self.identity) if lease else None
            if body is not None:
                self.cluster.write(body)

    def _wrote(self, now: datetime) -> bool:
        try:
            body = claim(self.cluster.get("Lease", self.namespace, LEASE), self.identity, self.namespace, now)
            return body is not None and self.cluster.write(body)
        except NeighbourError:
            return False
        except Exception:
            _log.exception("The Lease %s could not be renewed; it is tried again.", LEASE)
            return False

    def _lose(self) -> None:
        _log.warning("%s no longer leads.", self.identity)
        self._renewed = None
        self.changed(False)
