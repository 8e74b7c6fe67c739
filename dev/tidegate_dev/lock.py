"""One at a time: verbs that change something wait for each other."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tidegate_dev.progress import Progress

_FILE = Path("/run/lock/tidegate-dev.lock")


@contextlib.contextmanager
def held(progress: Progress) -> Iterator[None]:
    """Hold the machine's lock while the body runs; it goes with the process, however that ends."""
    if os.geteuid() != 0:
        yield
        return
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    with _FILE.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("waiting for another dev/cluster to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
