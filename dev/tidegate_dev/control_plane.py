"""The command lines of etcd, API server, controller manager and scheduler.

Pure, but for `write_audit_policy` and the one variable that `controller_manager` names.
"""

import json
import os
from pathlib import Path

from tidegate_dev import addresses, credentials, paths
from tidegate_dev.component import Component

_ETCD = "http://127.0.0.1:2379"
_AUDIT_POLICY = paths.RUN / "audit-policy.json"


def etcd(binaries: Path) -> Component:
    """Return etcd, which need not survive a power cut."""
    return Component.of(
        binaries / "etcd",
        unsafe_no_fsync=True,
        data_dir=paths.state() / "etcd",
        listen_client_urls=_ETCD,
        advertise_client_urls=_ETCD,
        listen_peer_urls="http://127.0.0.1:2380",
        log_level="warn",
    )


def api_server(binaries: Path) -> Component:
    """Return the API server, with the aggregation layer on and admission as upstream ships it."""
    pki = paths.PKI
    return Component.of(
        binaries / "kube-apiserver",
        etcd_servers=_ETCD,
        secure_port=addresses.API_PORT,
        advertise_address=addresses.NODE,
        service_cluster_ip_range=addresses.SERVICES,
        allow_privileged=True,
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        token_auth_file=pki / "tokens.csv",
        client_ca_file=pki / "ca.crt",
        tls_cert_file=pki / "api-server.crt",
        tls_private_key_file=pki / "api-server.key",
        service_account_issuer=f"https://kubernetes.default.svc.{addresses.DOMAIN}",
        service_account_key_file=pki / "service-account.pub",
        service_account_signing_key_file=pki / "service-account.key",
        audit_policy_file=_AUDIT_POLICY,
        audit_log_path=paths.logs() / "audit.log",
        audit_log_maxsize=50,
        audit_log_maxbackup=5,
        **_aggregation(pki),
        **_towards_kubelet(pki),
    )


def write_audit_policy() -> None:
    """Write the API server's audit policy: who in tidegate-system called what, to hold rights against use."""
    system = {"level": "Metadata", "userGroups": ["system:serviceaccounts:tidegate-system"]}
    rules = [{**system, "omitStages": ["RequestReceived"]}, {"level": "None"}]
    _AUDIT_POLICY.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))


def _aggregation(pki: Path) -> dict[str, object]:
    return {
        "requestheader_client_ca_file": pki / "ca.crt",
        "requestheader_allowed_names": "front-proxy-client",  # the authority also signs others
        "requestheader_extra_headers_prefix": "X-Remote-Extra-",
        "requestheader_group_headers": "X-Remote-Group",
        "requestheader_username_headers": "X-Remote-User",
        "proxy_client_cert_file": pki / "front-proxy.crt",
        "proxy_client_key_file": pki / "front-proxy.key",
        "enable_aggregator_routing": True,
    }


def _towards_kubelet(pki: Path) -> dict[str, object]:
    return {
        "kubelet_client_certificate": pki / "kubelet-client.crt",
        "kubelet_client_key": pki / "kubelet-client.key",
        "kubelet_preferred_address_types": "InternalIP",  # the node's name resolves nowhere
    }


def controller_manager(binaries: Path) -> Component:
    """Return the controller manager; its autoscaler looks every 2 s and trusts new pods early, as short tests need.

    TIDEGATE_AUTOSCALER_PERIOD is another period: two seconds are too short for a thousand autoscalers.
    """
    pki = paths.PKI
    return Component.of(
        binaries / "kube-controller-manager",
        kubeconfig=credentials.kubeconfig(credentials.by_name("controller-manager")),
        use_service_account_credentials=True,
        service_account_private_key_file=pki / "service-account.key",
        root_ca_file=pki / "ca.crt",
        cluster_signing_cert_file=pki / "ca.crt",
        cluster_signing_key_file=pki / "ca.key",
        leader_elect=False,
        horizontal_pod_autoscaler_sync_period=os.environ.get("TIDEGATE_AUTOSCALER_PERIOD", "2s"),
        horizontal_pod_autoscaler_cpu_initialization_period="10s",
        horizontal_pod_autoscaler_initial_readiness_delay="5s",
        terminated_pod_gc_threshold=100,
    )


def scheduler(binaries: Path) -> Component:
    """Return the scheduler."""
    user = credentials.by_name("scheduler")
    return Component.of(binaries / "kube-scheduler", kubeconfig=credentials.kubeconfig(user), leader_elect=False)
