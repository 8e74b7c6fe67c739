"""The annotations by which a person, or a commit, acts on a rollout. The value names the revision that it is about."""

__all__ = ["ABORT", "KNOWN", "OF_A_ROLLOUT", "PAUSE", "PREFIX", "PROMOTE", "RESTART", "RETRY", "UNDO_TO"]

PAUSE = "tidegate.dev/pause"
PROMOTE = "tidegate.dev/promote"
ABORT = "tidegate.dev/abort"
UNDO_TO = "tidegate.dev/undo-to"
"""Names a revision, or a version, of the history."""
RETRY = "tidegate.dev/retry"
"""Names the rejected revision, or its version; acts once."""
RESTART = "tidegate.dev/restart"
"""Any text; each new one acts once."""
OF_A_ROLLOUT = (PAUSE, PROMOTE, ABORT)
PREFIX = "tidegate.dev/"
KNOWN = (*OF_A_ROLLOUT, UNDO_TO, RETRY, RESTART)
