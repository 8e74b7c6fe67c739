"""One task for each resource, which looks, acts, and waits until time has passed or something may have changed.

The tasks stand on kopf's plain events, not on its daemons: a daemon needs a finalizer, and a finalizer would hold up
`kubectl delete` while the operator is away. All that a task remembers is that it should look again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

__all__ = ["Keeper", "Key"]

Key = tuple[str, str, str]
"""Kind, namespace and name."""

_RETRY = timedelta(seconds=5)
_log = logging.getLogger("tidegate")


@dataclass
class _Kept:
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Keeper:
    """Calls `look(key)` again and again for every kept key, each in a task of its own, in worker threads.

    look: one reconciliation; returns when to look again, or none when the object is gone.
    """

    def __init__(self, look: Callable[[Key], timedelta | None]) -> None:
        self._look = look
        self._kept: dict[Key, _Kept] = {}

    def keep(self, key: Key) -> None:
        """Look at the object now, and go on doing so."""
        kept = self._kept.setdefault(key, _Kept())
        kept.woken.set()
        if kept.task is None or kept.task.done():
            kept.task = asyncio.get_running_loop().create_task(self._run(key, kept))

    def wake(self, key: Key) -> None:
        """Look again at once, if the object is kept."""
        if key in self._kept:
            self._kept[key].woken.set()

    def forget(self, key: Key) -> None:
        """The object was deleted: its last look, if one is under way, ends by itself."""
        kept = self._kept.pop(key, None)
        if kept is not None and kept.task is not None:
            kept.task.cancel()

    async def _run(self, key: Key, kept: _Kept) -> None:
        wait: timedelta | None = timedelta(0)
        while wait is not None:
            kept.woken.clear()
            wait = await asyncio.to_thread(self._safely, key)
            if wait is not None:
                await _until(kept.woken, wait)

    def _safely(self, key: Key) -> timedelta | None:
        """No fault of one object ends the operator: it is logged and tried again."""
        try:
            return self._look(key)
        except Exception:
            _log.exception("Reconciliation of %s %s/%s failed and is tried again.", *key)
            return _RETRY


async def _until(woken: asyncio.Event, wait: timedelta) -> None:
    try:
        await asyncio.wait_for(woken.wait(), wait.total_seconds())
    except TimeoutError:
        return
