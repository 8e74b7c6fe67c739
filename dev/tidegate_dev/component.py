"""A long-running program of the cluster, as a value."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Component:
    """What to run: the name under which it logs and is listed, and the command line."""

    name: str
    command: tuple[str, ...]

    @classmethod
    def of(cls, program: Path, **flags: object) -> "Component":
        """Return the program with `flags` in the spelling of Kubernetes: a_b=True becomes --a-b=true."""
        words = (f"--{name.replace('_', '-')}={_spelled(value)}" for name, value in flags.items())
        return cls(program.name, (str(program), *words))


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
