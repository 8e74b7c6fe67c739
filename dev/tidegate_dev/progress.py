"""One line on standard error for every long part, with the seconds it has taken."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

_HEARTBEAT_PLAIN = 30.0
_HEARTBEAT_TERMINAL = 1.0


class Progress:
    """Prints what is going on: a line that counts the seconds on a terminal, plain lines elsewhere."""

    def __init__(self, plain: bool) -> None:
        """Print plain lines if asked to, or when nobody watches a terminal."""
        self.plain = plain or not sys.stderr.isatty()
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Show `title` with elapsed seconds while the body runs, then whether it ended well."""
        start, done = time.monotonic(), threading.Event()
        with self._lock:
            self._running[title] = start
        ticker = threading.Thread(target=self._tick, args=(title, done), daemon=True)
        ticker.start()
        mark = "failed"
        try:
            yield
            mark = "ok"
        finally:
            done.set()
            ticker.join()
            with self._lock:
                del self._running[title]
            self._write(f"{mark:>6}  {title}  {time.monotonic() - start:.1f} s", last=True)

    def note(self, sentence: str) -> None:
        """Print a sentence of its own."""
        self._write(f"        {sentence}", last=True)

    def _tick(self, title: str, done: threading.Event) -> None:
        if not self.plain:
            self._write(self._parts())
        while not done.wait(_HEARTBEAT_PLAIN if self.plain else _HEARTBEAT_TERMINAL):
            if next(iter(self._running), title) == title:  # one line for all, written by the oldest part
                self._write(self._parts(), last=self.plain)

    def _parts(self) -> str:
        """Return all parts that run side by side as one line."""
        with self._lock:
            running = list(self._running.items())
        now = time.monotonic()
        return "   ...  " + "  |  ".join(f"{title}  {now - start:.0f} s" for title, start in running)

    def _write(self, text: str, last: bool = False) -> None:
        start = "" if self.plain else "\r\x1b[2K"
        sys.stderr.write(start + text + ("\n" if last or self.plain else ""))
        sys.stderr.flush()
