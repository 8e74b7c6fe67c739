"""The learning rate over a run, as a factor of the one that the configuration names."""

from __future__ import annotations

import math

from tidegate_components.models.config import Schedule

__all__ = ["factor"]


def factor(said: Schedule, step: int, steps: int) -> float:
    """The factor at `step` (from 0) of `steps`: a linear rise, then constant, linear or cosine down to the floor."""
    if step < said.warmup_steps:
        return (step + 1) / said.warmup_steps
    if said.kind == "constant":
        return 1.0
    share = min((step - said.warmup_steps) / max(steps - said.warmup_steps, 1), 1.0)
    down = share if said.kind == "linear" else (1 - math.cos(math.pi * share)) / 2
    return 1.0 - (1.0 - said.floor) * down
