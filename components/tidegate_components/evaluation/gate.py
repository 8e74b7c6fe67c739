"""The champion gate: a challenger must not rank worse than the champion by more than a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tidegate_api.errors import TidegateError

__all__ = ["GateError", "Verdict", "judge", "require"]


class GateError(TidegateError):
    """A challenger that the gate does not let through."""


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may be registered, and why, in one sentence."""

    passed: bool
    sentence: str


def judge(challenger: dict[str, float], champion: dict[str, float], margin: float, champion_name: str = "") -> Verdict:
    """Compare AUC: it passes when challenger >= champion - margin. An empty `champion` means there is none: it passes.

    A challenger without a finite AUC never passes.
    """
    found = challenger.get("auc", math.nan)
    if not math.isfinite(found):
        return Verdict(False, f"The challenger's AUC is {found}: it cannot be judged.")
    if "auc" not in champion:
        return Verdict(True, f"There is no champion with an AUC yet: the challenger passes with {found:.4f}.")
    best, name = champion["auc"], champion_name or "the champion"
    limits = f"challenger AUC {found:.4f}, {name} {best:.4f}, tolerated margin {margin:g}"
    if found >= best - margin:
        return Verdict(True, f"The challenger passes: {limits}.")
    return Verdict(False, f"The challenger ranks worse than {name} by more than the margin: {limits}.")


def require(verdict: Verdict, model: str) -> None:
    """Raise GateError unless the verdict is passed."""
    if not verdict.passed:
        raise GateError(
            resource=f"model {model}", field="gate", value=verdict.sentence, expected="a challenger that passes",
            remedy="train with other settings or newer data, or raise gate_margin",
        )  # fmt: skip
