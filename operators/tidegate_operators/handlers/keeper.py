"""One task for each resource, which looks, acts, and waits until time has passed or something may have changed.

The tasks stand on kopf's plain events, not on its daemons: a daemon needs a finalizer, and a finalizer would hold up
`kubectl delete` while the operator is away. All that a task remembers is that it should look again.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from tidegate_api.errors import TidegateError
from tidegate_operators.adapters.errors import NeighbourError

__all__ = ["WORKERS", "Keeper", "Key", "retry_after", "spread"]

Key = tuple[str, str, str]
"""Kind, namespace and name."""

WORKERS = 16
"""Looks at a time. They mostly wait for neighbours; whatever else the operator does has threads of its own."""
_LONG = timedelta(minutes=1)
_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=5), timedelta(minutes=2)
_log = logging.getLogger("tidegate")


@dataclass
class _Kept:
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    failures: int = 0
    gone: bool = False


class Keeper:
    """Calls `look(key)` again and again for every kept key, each in a task of its own, in worker threads.

    look: one reconciliation; returns when to look again, or none when the object is gone.
    """

    def __init__(self, look: Callable[[Key], timedelta | None]) -> None:
        self._look = look
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="look")
        self._kept: dict[Key, _Kept] = {}
        self._leads = asyncio.Event()

    def lead(self, leads: bool) -> None:
        """Look, or let another operator do so; what is under way is finished."""
        if leads:
            self._leads.set()
        else:
            self._leads.clear()

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
        """The object was deleted: one last look sees that it is gone, and clears up what was remembered of it."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept.gone = True
            kept.woken.set()

    async def _run(self, key: Key, kept: _Kept) -> None:
        wait: timedelta | None = timedelta(0)
        while wait is not None:
            await self._leads.wait()
            last = kept.gone
            kept.woken.clear()
            wait = await asyncio.get_running_loop().run_in_executor(self._workers, self._safely, key, kept)
            if last:
                return
            if wait is not None:
                await _until(kept.woken, spread(key, wait))

    def _safely(self, key: Key, kept: _Kept) -> timedelta | None:
        """No fault of one object ends the operator: it is logged and tried again, each time after a longer wait."""
        try:
            wait = self._look(key)
        except Exception as error:
            _log_failure(key, error)
            kept.failures += 1
            return retry_after(kept.failures)
        kept.failures = 0
        return wait


def spread(key: Key, wait: timedelta) -> timedelta:
    """A long wait, up to a fifth shorter for some keys: what was made together is not looked at together for ever."""
    share = zlib.crc32("/".join(key).encode()) / 2**32
    return wait * (1 - share / 5) if wait >= _LONG else wait


def retry_after(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: 5 s, 10 s, 20 s, ... and 2 minutes at the most."""
    return min(_FIRST_RETRY * (1 << min(failures - 1, 10)), _LAST_RETRY)


def _log_failure(key: Key, error: Exception) -> None:
    """One line for what can be expected; the whole way to what cannot."""
    fields = dict(zip(("kind", "namespace", "name"), key, strict=True))
    if isinstance(error, (NeighbourError, TidegateError)):
        _log.warning("%s", error, extra={"fields": fields})
    else:
        _log.exception("Reconciliation failed and is tried again.", extra={"fields": fields})


async def _until(woken: asyncio.Event, wait: timedelta) -> None:
    try:
        await asyncio.wait_for(woken.wait(), wait.total_seconds())
    except TimeoutError:
        return
