"""Speaking to an API server, by kubectl."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate_dev import commands
from tidegate_dev.errors import CommandError


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the cluster that it speaks to."""

    program: str
    kubeconfig: str

    def run(self, *words: str, text: str | None = None) -> str:
        """Run kubectl and return what it printed; `text` is its standard input. Raises CommandError."""
        return commands.run([self.program, *words], env={"KUBECONFIG": self.kubeconfig}, text=text)

    def watch(self, *words: str) -> None:
        """Run kubectl to wait for something. Raises CommandError when it does not come true."""
        commands.run_long([self.program, *words], env={"KUBECONFIG": self.kubeconfig})

    def answers(self) -> bool:
        """Tell whether the API server is there and ready."""
        return self._succeeds("get", "--raw", "/readyz", "--request-timeout=5s")

    def exists(self, *words: str) -> bool:
        """Tell whether `kubectl get` finds what the words name."""
        return self._succeeds("get", *words)

    def get(self, *words: str) -> Any:
        """Return what `kubectl get -o json` answers."""
        return json.loads(self.run("get", *words, "-o", "json"))

    def apply(self, manifest: str) -> None:
        """Apply the text of a manifest server-side, and take over what another manager had set."""
        manager = ["--server-side", "--force-conflicts", "--field-manager=tidegate-dev"]
        words = [self.program, "apply", *manager, "-f", "-"]
        commands.run_long(words, env={"KUBECONFIG": self.kubeconfig}, text=manifest)

    def kustomize(self, folder: Path) -> str:
        """Return the manifest that the kustomization in the folder makes."""
        return self.run("kustomize", str(folder), "--load-restrictor=LoadRestrictionsNone")

    def wait(self, condition: str, *words: str, timeout: int = 180) -> None:
        """Wait until what the words name has the condition, as `kubectl wait --for` understands it."""
        self.watch("wait", f"--for={condition}", f"--timeout={timeout}s", *words)

    def _succeeds(self, *words: str) -> bool:
        try:
            self.run(*words)
        except CommandError:
            return False
        return True
