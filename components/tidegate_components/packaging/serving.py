"""The repository that Triton serves: the package's own files, with a deployment's settings in config.pbtxt.

The package itself stays as it was verified; the served copy lies beside it and shares its models by hard link.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tidegate_components.packaging.layout import package_error
from tidegate_components.storage import replacing

__all__ = ["ServingSettings", "lay_repository"]

_CONFIG = "config.pbtxt"
_RESPONSE_CACHE = "response_cache { enable: true }\n"
_RATE_LIMITER = ' rate_limiter { resources [ { name: "runs" count: 1 } ] }'


@dataclass(frozen=True)
class ServingSettings:
    """What a ModelDeployment's runtime says; none leaves the package's own value.

    Who states the most rows that run together has them joined up to there.
    """

    instances: int | None = None
    max_batch_size: int | None = None
    max_queue_delay_us: int | None = None
    rate_limited: bool = False
    """Each run takes one of the server's resource `runs`, whose number the server is started with."""
    response_cache: bool = False
    """Answers are kept; the server is started with the cache's size."""

    def substitutions(self) -> list[tuple[str, int | str, bool]]:
        """Patterns in Triton's text format (model_config.proto), one group before what is new, with what is new.

        The last says whether the pattern must be there: earlier packages state no size to join up to.
        """
        found: list[tuple[str, int | str | None, bool]] = [
            (r"(instance_group \[ \{ count: )\d+", self.instances, True),
            (r"(max_batch_size: )\d+", self.max_batch_size, True),
            (r"(preferred_batch_size: \[ )\d+", self.max_batch_size, False),
            (r"(max_queue_delay_microseconds: )\d+", self.max_queue_delay_us, True),
            (r"(instance_group \[ \{ count: \d+)", _RATE_LIMITER if self.rate_limited else None, True),
        ]
        return [(pattern, new, needed) for pattern, new, needed in found if new is not None]


def lay_repository(package: Path, into: Path, settings: ServingSettings) -> Path:
    """Lay `into/repository` for Triton; returns it. Raises PackageError where a configuration lacks a setting."""
    with replacing(into / "repository") as beside:
        shutil.copytree(package / "repository", beside, copy_function=os.link)
        for config in beside.glob(f"*/{_CONFIG}"):
            text = _configured(config.read_text(), settings, config)
            config.unlink()
            config.write_text(text)
    return into / "repository"


def _configured(text: str, settings: ServingSettings, config: Path) -> str:
    for pattern, new, needed in settings.substitutions():
        text, count = re.subn(pattern, rf"\g<1>{new}", text)
        if count > 1 or count < needed:
            raise package_error(config.parent.name, _CONFIG, f"{count} places like {pattern}", "exactly one")
    return text + (_RESPONSE_CACHE if settings.response_cache and "response_cache" not in text else "")
