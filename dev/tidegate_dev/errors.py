"""What can go wrong, as types: each carries the sentence that a person reads and the exit code a script sees."""


class DevError(Exception):
    """Something failed that could have worked; the message says what, where and what to do."""

    exit_code = 1


class UnsupportedError(DevError):
    """This machine cannot run the cluster; the message says what is missing and what to do instead."""

    exit_code = 2


class CommandError(DevError):
    """A command ended with an exit status other than 0; the message ends with the last lines it printed."""

    def __init__(self, command: list[str], status: int, output: str) -> None:
        """Keep the command, its exit status (negative: the signal that ended it) and what it printed."""
        self.command, self.status, self.output = command, status, output
        tail = "\n".join(output.strip().splitlines()[-20:])
        super().__init__(f"`{' '.join(command)}` ended with status {status}:\n{tail}")
