"""The cluster of our own: Kubernetes in private namespaces of this machine."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tidegate_dev import (
    addresses,
    binaries,
    cable,
    catalogue,
    control_plane,
    credentials,
    ctr,
    images,
    names,
    namespaces,
    node,
    packages,
    paths,
    wait,
)
from tidegate_dev.component import Component
from tidegate_dev.delivery import BuildahToContainerd
from tidegate_dev.errors import DevError
from tidegate_dev.image import Image
from tidegate_dev.kubectl import Kubectl
from tidegate_dev.progress import Progress
from tidegate_dev.supervisor import Plan

_SERVICE_NAME = f"kubernetes.default.svc.{addresses.DOMAIN}"
_COREDNS = paths.DEV / "manifests" / "coredns.yaml"


class LocalCluster:
    """Kubernetes in network, mount and process namespaces of this machine."""

    name = "local"

    def up(self, progress: Progress) -> None:
        """Bring the cluster up, from whatever state it is in, and wait until pods can run and names resolve."""
        namespaces.check()
        if self._healthy():
            return
        packages.install(progress)
        if not self._started():
            self._start(progress)
        elif not cable.is_plugged_in():
            cable.plug_in(namespaces.supervisor() or 0)
        with progress.part("start Kubernetes"):
            self._wait_for_servers()
        self._install_names(progress)
        with progress.part("wait for node and cluster DNS"):
            self._wait_for_node()

    def prepare(self, wanted: Iterable[Image], progress: Progress) -> None:
        """Compile and build what is missing, before `up`; images that need no compiler are built meanwhile."""
        namespaces.check()
        packages.install(progress)
        images.prepare([*catalogue.CLUSTER, *wanted], BuildahToContainerd(), progress)

    def kubectl(self) -> Kubectl:
        """Return kubectl with the administrator's rights; raises DevError when the cluster is not up."""
        if not paths.RECORD.exists():
            raise DevError("the cluster is not up: run dev/cluster up")
        return Kubectl(str(Path(_record()["binaries"]) / "kubectl"), str(paths.KUBECONFIG))

    def builder(self) -> BuildahToContainerd:
        """Return who builds images for this cluster; raises DevError when the cluster is not up."""
        if not ctr.answers():
            raise DevError("the cluster is not up: run dev/cluster up")
        return BuildahToContainerd()

    def status(self) -> Mapping[str, object]:
        """Return what runs, with process ids, and where it is reached."""
        return {
            "components": namespaces.component_pids(),
            "supervisor": namespaces.supervisor(),
            "cable": cable.is_plugged_in(),
            "addresses": {"apiServer": addresses.api_server(addresses.GATE), "node": addresses.NODE}
            | {"services": addresses.SERVICES, "pods": addresses.PODS, "dns": addresses.DNS_SERVICE},
            "images": sorted(images.pretty(name) for name in ctr.images() if "@" not in name and "sha256:" not in name)
            if ctr.answers()
            else [],
            "logs": str(paths.logs()),
        }

    def down(self, progress: Progress) -> None:
        """Leave no process, mount, interface, route or control group behind, whatever state it was in."""
        if os.geteuid() != 0:
            namespaces.check()
        with progress.part("take the cluster down"):
            namespaces.end()

    def _started(self) -> bool:
        return paths.RECORD.exists() and namespaces.supervisor() is not None

    def _healthy(self) -> bool:
        reachable = self._started() and cable.is_plugged_in() and self.kubectl().answers()
        return reachable and _holds_pause() and self._node_ready() and _names()

    def _start(self, progress: Progress) -> None:
        programs = binaries.kubernetes(progress)
        namespaces.end()
        cable.check_addresses_free()
        for folder in (paths.RUN, paths.state(), paths.logs(), paths.lake()):
            folder.mkdir(parents=True, exist_ok=True)
        paths.RECORD.write_text(json.dumps({"state": str(paths.state()), "binaries": str(programs)}))
        credentials.create()
        control_plane.write_audit_policy()
        node.write_configuration("docker.io/" + catalogue.PAUSE.reference(images.bases_key()))
        namespaces.start(_plan(programs))

    def _wait_for_servers(self) -> None:
        hint = f"see the logs in {paths.logs()}"
        wait.until("containerd answering", ctr.answers, 60, hint)
        wait.until("the API server being ready", self.kubectl().answers, 120, hint)

    def _install_names(self, progress: Progress) -> None:
        references = images.ensure(catalogue.CLUSTER, self.builder(), progress)
        manifest = _COREDNS.read_text().replace("tidegate/coredns:dev", references[catalogue.COREDNS.name])
        self.kubectl().apply(manifest)

    def _wait_for_node(self) -> None:
        hint = f"see {paths.logs()}/kubelet.log"
        wait.until(f"node {addresses.NODE_NAME} being Ready", self._node_ready, 120, hint)
        wait.until(f"DNS answer for {_SERVICE_NAME}", _names, 120, "see dev/cluster kubectl get pods -n kube-system")

    def _node_ready(self) -> bool:
        path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
        return "True" in self.kubectl().run("get", "nodes", "-o", path)


def _record() -> dict[str, str]:
    return dict(json.loads(paths.RECORD.read_text()))


def _holds_pause() -> bool:
    """Whether every pod's first image is there: under disk pressure the kubelet removes what seems to be unused."""
    return any(catalogue.PAUSE.reference(images.bases_key()) in name for name in ctr.images())


def _names() -> bool:
    return names.answers(addresses.DNS_SERVICE, _SERVICE_NAME)


def _plan(programs: Path) -> Plan:
    components: tuple[Component, ...] = (
        control_plane.etcd(programs),
        control_plane.api_server(programs),
        control_plane.controller_manager(programs),
        control_plane.scheduler(programs),
        node.containerd(),
        node.kubelet(programs),
        node.proxy(programs),
    )
    return Plan(
        mounts=tuple((str(place), str(stand_in)) for place, stand_in in node.hidden_folders().items()),
        setup=tuple(tuple(command) for command in [*cable.inside_setup(), *node.links()]),
        components=components,
        logs=str(paths.logs()),
        pids=str(paths.PIDS),
    )
