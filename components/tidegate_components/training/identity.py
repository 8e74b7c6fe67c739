"""What a folder of kept work was made from: it is gone on with by the same configuration and data alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tidegate_components.models.config import ConfigError

__all__ = ["check_identity"]


def check_identity(
    resource: str, out: Path, before: Mapping[str, str] | None, now: Mapping[str, str], *, kept: bool
) -> None:
    """Raise ConfigError where `out` was made from other parts (name to hash) than `now`.

    before: what the folder says of itself; none where it says nothing, which is fine while it keeps no work.
    """
    if before == now or (before is None and not kept):
        return
    other = ", ".join(name for name, value in now.items() if (before or {}).get(name) != value)
    raise ConfigError(
        resource=resource, field="--out", value=str(out),
        expected=f"a new folder, or one of the same configuration and data (another {other} made this one)",
        remedy="name another folder, or remove this one",
    )  # fmt: skip
