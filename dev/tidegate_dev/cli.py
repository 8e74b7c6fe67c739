"""The command line of dev/cluster."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from tidegate_dev import catalogue, choice, images, lock, paths
from tidegate_dev.choice import Cluster
from tidegate_dev.errors import DevError
from tidegate_dev.progress import Progress


def main(arguments: list[str] | None = None) -> int:
    """Carry out one verb and return the exit status: 0, 1 for a failure, 2 where the machine cannot do it."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["kubectl"]:
            _kubectl(words[1:])
        options = _parser().parse_args(words)
        return int(options.verb(options, Progress(plain=options.progress == "plain")) or 0)
    except DevError as error:
        print(f"dev/cluster: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `dev/cluster status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("dev/cluster: interrupted; run it again to go on, or dev/cluster down", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dev/cluster", description="A real Kubernetes on this machine.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, (verb, sentence) in _VERBS.items():
        one = verbs.add_parser(name, help=sentence, description=sentence)
        one.add_argument("--progress", choices=["auto", "plain"], default="auto", help="plain: no terminal control")
        one.set_defaults(verb=verb)
        if name in {"status", "images"}:
            one.add_argument("--json", action="store_true", help="print JSON")
        if name == "load":
            one.add_argument("archive", type=Path, help="an archive as docker save or buildah push makes it")
    return parser


def _prepare(options: argparse.Namespace, progress: Progress) -> None:
    with lock.held(progress):
        choice.choose().prepare(catalogue.EVERYTHING, progress)


def _up(options: argparse.Namespace, progress: Progress) -> None:
    cluster = choice.choose()
    with lock.held(progress):
        cluster.up(progress)
    print(f"export KUBECONFIG={cluster.kubectl().kubeconfig}")


def _status(options: argparse.Namespace, progress: Progress) -> int:
    cluster = choice.choose()
    facts = {"cluster": cluster.name, **_reachable(cluster), **cluster.status()}
    print(json.dumps(facts, indent=2) if options.json else _readable(facts))
    return 0 if facts["ready"] else 1


def _reachable(cluster: Cluster) -> dict[str, object]:
    try:
        kubectl = cluster.kubectl()
        nodes = {item["metadata"]["name"]: _ready(item) for item in kubectl.get("nodes")["items"]}
    except DevError:
        return {"ready": False, "kubeconfig": None, "nodes": {}}
    return {"ready": bool(nodes) and all(nodes.values()), "kubeconfig": kubectl.kubeconfig, "nodes": nodes}


def _ready(item: Mapping[str, Mapping[str, list[Mapping[str, str]]]]) -> bool:
    conditions = item["status"]["conditions"]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _readable(facts: Mapping[str, object]) -> str:
    lines = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += [f"{name}:", *(f"  {key:<26}{one}" for key, one in value.items())]
        elif isinstance(value, list):
            lines += [f"{name}:", *(f"  {one}" for one in value)]
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


def _images(options: argparse.Namespace, progress: Progress) -> None:
    cluster = choice.choose()
    with lock.held(progress):
        references = images.ensure(catalogue.EVERYTHING, cluster.builder(), progress)
    print(json.dumps(references, indent=2) if options.json else _readable(references))


def _platform(options: argparse.Namespace, progress: Progress) -> None:
    from tidegate_dev import install

    cluster = choice.choose()
    with lock.held(progress):
        urls = install.platform(cluster, progress)
    print(_readable(urls))


def _load(options: argparse.Namespace, progress: Progress) -> None:
    cluster = choice.choose()
    with progress.part(f"import {options.archive}"):
        cluster.builder().load(options.archive)


def _kubectl(words: list[str]) -> NoReturn:
    """Become kubectl, which reads all words after the verb itself; it finds `kubectl tidegate` in our .venv."""
    kubectl = choice.choose().kubectl()
    plugins = f"{paths.REPOSITORY / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "KUBECONFIG": kubectl.kubeconfig, "PATH": plugins}
    os.execve(kubectl.program, ["kubectl", *words], environment)  # noqa: S606


def _kubectl_help(options: argparse.Namespace, progress: Progress) -> None:
    """Stand for the verb in the list of verbs; `main` carries it out."""


def _binaries(options: argparse.Namespace, progress: Progress) -> None:
    from tidegate_dev import binaries

    if not binaries.stand(binaries.KUBERNETES):
        with lock.held(progress):
            binaries.kubernetes(progress)
    print(binaries.kubernetes(progress))


def _down(options: argparse.Namespace, progress: Progress) -> None:
    cluster = choice.choose()
    with lock.held(progress):
        cluster.down(progress)


_VERBS: dict[str, tuple[Callable[[argparse.Namespace, Progress], int | None], str]] = {
    "prepare": (_prepare, "compile programs and build images that lack; needs no cluster"),
    "up": (_up, "bring the cluster up and print the line that sets KUBECONFIG"),
    "status": (_status, "tell what runs; exit status 1 when the cluster is not ready"),
    "images": (_images, "build the images whose inputs changed and bring them to the cluster"),
    "platform": (_platform, "install Redis, MLflow, Prometheus and the gateway, and wait for them"),
    "load": (_load, "bring an image archive to the cluster"),
    "kubectl": (_kubectl_help, "run kubectl against the cluster"),
    "binaries": (_binaries, "build Kubernetes' programs if need be and print their folder (a KUBEBUILDER_ASSETS)"),
    "down": (_down, "take the cluster down and leave nothing behind"),
}
