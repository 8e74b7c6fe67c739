"""The machine-wide kernel settings that a kubelet changes, noted before and set back after."""

import json
from pathlib import Path

from tidegate_dev import paths

_SETTINGS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
_KEYS = ("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
_NOTE = paths.RUN / "kernel.json"


def note() -> None:
    """Write down the settings as they are, unless an earlier run already did and was killed."""
    if not _NOTE.exists():
        files = [Path("/proc/sys") / name for name in (*_SETTINGS, *_KEYS)]
        values = {str(file): file.read_text().strip() for file in files if file.exists()}
        scratch = _NOTE.with_suffix(".new")
        scratch.write_text(json.dumps(values))
        scratch.rename(_NOTE)


def restore() -> None:
    """Set back what was noted; fine if nothing was."""
    if _NOTE.exists():
        for file, value in json.loads(_NOTE.read_text()).items():
            Path(file).write_text(value)
        _NOTE.unlink()
