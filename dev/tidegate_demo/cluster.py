"""The cluster as the demo uses it: what `dev/cluster` gives, and kubectl in the namespace `default`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidegate_dev.kubectl import Kubectl

__all__ = ["Cluster", "TimedOutError"]

_POLL_SECONDS = 1.0


class TimedOutError(Exception):
    """What was waited for did not come about in time; says what was seen last."""


@dataclass(frozen=True)
class Cluster:
    """Objects of one namespace, as plain JSON."""

    kubectl: Kubectl
    namespace: str = "default"

    def get(self, *words: str) -> Any:
        """What `kubectl get` finds; raises CommandFailed where it finds nothing."""
        return self.kubectl.get("-n", self.namespace, *words)

    def exists(self, *words: str) -> bool:
        """Whether `kubectl get` finds it."""
        return self.kubectl.exists("-n", self.namespace, *words)

    def apply(self, body: dict[str, Any]) -> None:
        """Server-side apply."""
        self.kubectl.run("apply", "--server-side", "-n", self.namespace, "-f", "-", text=json.dumps(body))

    def wait(self, holds: Callable[[], tuple[bool, str]], seconds: float, what: str) -> None:
        """Look until `holds` says so; its sentence tells where it stands. Raises TimedOutError."""
        end = time.monotonic() + seconds
        done, sentence = holds()
        while not done:
            if time.monotonic() > end:
                raise TimedOutError(f"{what} did not happen within {seconds:.0f} s; last seen: {sentence}")
            time.sleep(_POLL_SECONDS)
            done, sentence = holds()
