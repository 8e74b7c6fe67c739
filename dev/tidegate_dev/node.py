"""The node: containerd, kubelet and kube-proxy, with their configuration files. Pure, but for `write_configuration`."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from tidegate_dev import addresses, cgroups, credentials, packages, paths
from tidegate_dev.component import Component

_CONTAINERD_CONFIG = paths.RUN / "containerd.toml"
_CNI_CONFIG = paths.RUN / "cni"
_KUBELET_CONFIG = paths.RUN / "kubelet.json"
_PROXY_CONFIG = paths.RUN / "kube-proxy.json"
_NO_RESOLVER = paths.RUN / "resolv.conf"


def containerd() -> Component:
    """Return containerd."""
    return Component("containerd", (shutil.which("containerd") or "containerd", "--config", str(_CONTAINERD_CONFIG)))


def kubelet(binaries: Path) -> Component:
    """Return the kubelet."""
    return Component.of(
        binaries / "kubelet",
        config=_KUBELET_CONFIG,
        kubeconfig=credentials.kubeconfig(credentials.by_name("kubelet")),
        hostname_override=addresses.NODE_NAME,
        node_ip=addresses.NODE,
    )


def proxy(binaries: Path) -> Component:
    """Return kube-proxy."""
    return Component.of(binaries / "kube-proxy", config=_PROXY_CONFIG)


def hidden_folders() -> dict[Path, Path]:
    """Return folders at fixed places that programs write to, with what stands in for them in our mount namespace."""
    fixed = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/run/containerd")
    return {Path(place): paths.state() / place.strip("/").replace("/", "-") for place in fixed}


def links() -> list[list[str]]:
    """Return commands that put containerd's socket where the kubelet's own statistics look for it."""
    return [["ln", "-sf", str(paths.CONTAINERD_SOCKET), "/run/containerd/containerd.sock"]]


def write_configuration(pause_image: str) -> None:
    """Write every file that the three programs read; `pause_image` holds each pod's namespaces."""
    _CNI_CONFIG.mkdir(parents=True, exist_ok=True)
    _NO_RESOLVER.write_text("")
    _CONTAINERD_CONFIG.write_text(_containerd_config(pause_image, _snapshotter()))
    for file, document in {
        _CNI_CONFIG / "10-tidegate.conflist": cni_config(),
        _KUBELET_CONFIG: kubelet_config(),
        _PROXY_CONFIG: proxy_config(),
    }.items():
        file.write_text(json.dumps(document, indent=2))


def _snapshotter() -> str:
    """Return overlayfs, or the plain copies where the cache itself lies on an overlay, as inside a container."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [row for row in mounts if (paths.cache() / "x").is_relative_to(row[1])]
    return "native" if max(above, key=lambda row: len(row[1]))[2] == "overlay" else "overlayfs"


def _containerd_config(pause_image: str, snapshotter: str) -> str:
    """Return containerd's configuration; without restrict_oom_score_adj runc dies where CAP_SYS_RESOURCE is missing."""
    return f"""\
version = 2
root = "{paths.cache() / "containerd"}"
state = "{paths.CONTAINERD_SOCKET.parent}"
[grpc]
  address = "{paths.CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{paths.state() / "opt"}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    discard_unpacked_layers = false
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{packages.CNI_PLUGINS}"
    conf_dir = "{_CNI_CONFIG}"
"""


def cni_config() -> Mapping[str, object]:
    """Return the pod network: routed cables rather than a bridge, so that Services need no br_netfilter."""
    ranges = [[{"subnet": addresses.PODS}]]
    routed = {"type": "ptp", "ipMasq": False, "ipam": {"type": "host-local", "ranges": ranges, "routes": _everywhere()}}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "tidegate", "plugins": [routed, ports]}


def _everywhere() -> list[dict[str, str]]:
    return [{"dst": "0.0.0.0/0"}]


def kubelet_config() -> Mapping[str, object]:
    """Return the kubelet's configuration; it collects no images as garbage, since no registry could bring them back."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(paths.PKI / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.GROUP}",
        "containerRuntimeEndpoint": f"unix://{paths.CONTAINERD_SOCKET}",
        "clusterDNS": [addresses.DNS_SERVICE],
        "clusterDomain": addresses.DOMAIN,
        "resolvConf": str(_NO_RESOLVER),
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "serializeImagePulls": False,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "5s",
        "crashLoopBackOff": {"maxContainerRestartPeriod": "20s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def proxy_config() -> Mapping[str, object]:
    """Return kube-proxy's configuration: iptables, and hands off the machine's connection tracking limits."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(credentials.kubeconfig(credentials.by_name("proxy")))},
        "hostnameOverride": addresses.NODE_NAME,
        "clusterCIDR": addresses.PODS,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    }
