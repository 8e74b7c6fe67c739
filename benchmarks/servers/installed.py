"""Programs that the serving benchmark needs, each in a folder of its own below ~/.cache/tidegate/serving.

Nothing is installed into the system: Triton and the peers come from PyPI by uv, h2load from Debian by apt-get download.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

IMAGE = Path(__file__).parents[2] / "images" / "triton"
CACHE = Path.home() / ".cache" / "tidegate" / "serving"
SYSTEM_PYTHON = "/usr/bin/python3.11"
"""The image's interpreter: the server's stub is linked to its library."""
FASTAPI = ("fastapi==0.121.2", "uvicorn[standard]==0.38.0")
FLAGGER = "flagger@v1.36.1"
MLSERVER = ("mlserver==1.7.1", "uvloop==0.21.0")


def triton() -> Path:
    """A folder with the server as images/triton/Dockerfile lays it, and our backend as it is in this checkout."""
    home = _once(f"triton-{'-'.join(_pins())}".replace("==", "-"), _lay_triton)
    backend = home / "pytriton" / "tritonserver" / "backends" / "onnxruntime"
    shutil.rmtree(backend, ignore_errors=True)
    shutil.copytree(IMAGE / "onnxruntime_backend", backend)
    return home


def peer(packages: tuple[str, ...]) -> Path:
    """The python of an environment with numpy, onnxruntime and these packages."""
    return _once(packages[0].replace("==", "-"), lambda into: _lay_peer(into, packages)) / "bin" / "python"


def h2load() -> tuple[str, dict[str, str]]:
    """The load generator of nghttp2, and what it needs in its environment."""
    if found := shutil.which("h2load"):
        return found, {}
    home = _once("h2load", _lay_h2load)
    return str(home / "usr" / "bin" / "h2load"), {"LD_LIBRARY_PATH": str(home / "usr" / "lib" / "x86_64-linux-gnu")}


def flagger() -> tuple[Path, Path]:
    """Flagger's controller, and its CustomResourceDefinitions; compiled once, some 400 CPU seconds."""
    home = _once(FLAGGER.replace("@", "-"), _lay_flagger)
    return home / "bin" / "flagger", home / "crd.yaml"


def _lay_flagger(into: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise SystemExit("Flagger is compiled from its Go module: install Go first, or leave it out")
    module = f"github.com/fluxcd/{FLAGGER}"
    environment = os.environ | {"GOBIN": str(into / "bin"), "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    package = module.replace("@", "/cmd/flagger@")
    subprocess.run([go, "install", "-ldflags=-s -w", package], env=environment, cwd=into, check=True)
    found = subprocess.run(
        [go, "mod", "download", "-json", module], env=environment, cwd=into, check=True, capture_output=True
    )
    shutil.copy(Path(json.loads(found.stdout)["Dir"]) / "artifacts" / "flagger" / "crd.yaml", into)


def _once(name: str, lay: Callable[[Path], None]) -> Path:
    """The folder of this name, laid where it is not there yet; it appears whole."""
    home = CACHE / name
    if not home.exists():
        print(f"installing {name} into {CACHE}", file=sys.stderr)
        beside = home.with_name(f".{name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        lay(beside)
        beside.rename(home)
    return home


def _pins() -> list[str]:
    """nvidia-pytriton, numpy and onnxruntime at the versions of the image."""
    return re.findall(r"(?:nvidia-pytriton|numpy|onnxruntime)==[\w.]+", (IMAGE / "Dockerfile").read_text())


def _lay_triton(into: Path) -> None:
    server, *libraries = _pins()
    _uv("pip", "install", "--no-deps", "--target", str(into), "--python", SYSTEM_PYTHON, server)
    backends = into / "pytriton" / "tritonserver" / "backends"
    shutil.copy(backends.parent / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backends / "python")
    # the stub's interpreter sees this folder, and no virtual environment
    _uv("pip", "install", "--target", str(backends / "python"), "--python", SYSTEM_PYTHON, *libraries)
    for program in (backends / "python" / "triton_python_backend_stub", *(backends.parent / "bin").iterdir()):
        program.chmod(0o755)


def _lay_peer(into: Path, packages: tuple[str, ...]) -> None:
    onnxruntime = next(pin for pin in _pins() if pin.startswith("onnxruntime"))
    _uv("venv", "--relocatable", "--python", SYSTEM_PYTHON, "--allow-existing", str(into))
    _uv("pip", "install", "--python", str(into / "bin" / "python"), *packages, "numpy", onnxruntime)


def _lay_h2load(into: Path) -> None:
    debs = into / "debs"
    debs.mkdir()
    names = ["nghttp2-client", "libev4", "libnghttp2-14", "libjemalloc2", "libc-ares2"]
    subprocess.run(["apt-get", "download", *names], cwd=debs, check=True, capture_output=True)
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(deb), str(into)], check=True)


def _uv(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("uv")), *arguments, "--quiet"], check=True)
