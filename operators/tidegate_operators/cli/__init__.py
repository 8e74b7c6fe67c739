"""`kubectl tidegate`: what goes on, why, and the few verbs that a person has over a rollout."""

from tidegate_operators.cli.main import main

__all__ = ["main"]
